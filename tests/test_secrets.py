"""What a run writes and says holds no secret of its environment or of its command line."""

from pathlib import Path

import pytest

from raydd import evaluate
from raydd.config.tree import compose_config
from raydd.run import main

SMALL = [
    "method.ipc=1", "method.boundaries=[]", "method.synthesis.steps=2", "teacher.model.width=8", 
    "teacher.recipe.epochs=2",
    "evaluate=false", "verbose=true",
]  # fmt: skip
SECRETS = {
    "AWS_ACCESS_KEY_ID": "id-that-nobody-shall-see",
    "AWS_SECRET_ACCESS_KEY": "key-that-nobody-shall-see",
    "HF_TOKEN": "hub-token-that-nobody-shall-see",
    "RAY_AUTH_TOKEN": "ray-token-that-nobody-shall-see",
    "WANDB_API_KEY": "tracker-key-that-nobody-shall-see",
}


def test_files_and_output_hold_no_secret_of_the_environment(ray4, monkeypatch, capfd, tmp_path):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    assert main([*SMALL, f"storage={tmp_path}", "name=mine"]) == 0
    said = capfd.readouterr()
    texts = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    names = {path.name for path in texts}
    assert {"config.json", "report.json", "report.html", "metrics.jsonl"} <= names
    texts |= {Path("stdout"): said.out.encode(), Path("stderr"): said.err.encode()}
    leaks = [path for path, text in texts.items() if b"that-nobody-shall-see" in text]
    assert leaks == []


@pytest.mark.parametrize(
    "word",
    [
        "storage='s3://AKIA:se/cr+et@bucket/runs'",
        "dataset.root='ftp://me:secret@host/images'",
        "dataset.root='https://:secret@host:8080/images'",
        "teacher.checkpoint='sftp://me:secret@host/teacher'",
        "sweep.space.dataset.root=['/data','ftp://me:secret@host/images']",
    ],
)
def test_a_password_in_a_uri_is_refused_and_not_repeated(capsys, word):
    capsys.readouterr()
    assert main([word]) == 2
    said = capsys.readouterr()
    assert "holds a password before the '@'" in said.err
    assert word.split("=")[0] in said.err
    assert "cret" not in said.err + said.out


def test_so_is_the_set_to_be_judged(capsys):
    assert evaluate.main(["s3://AKIA:secret@bucket/set"]) == 2
    said = capsys.readouterr()
    assert "folder holds a password" in said.err
    assert "secret" not in said.err + said.out


@pytest.mark.parametrize(
    "root",
    [
        "hf://datasets/someone/set@main", "http://host:8080/set@2", "s3://bucket/a:b/c",
        "sftp://me@host:22/images", "/data/a:b@c", "memory://images",
    ],
)  # fmt: skip
def test_a_uri_without_one_is_not(root):
    assert compose_config([f"dataset.root='{root}'"]).dataset.root == root
