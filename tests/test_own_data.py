"""People's own data through the doors: nothing is lost, mislabelled or leaked in silence."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import ray
import torch
from PIL import Image
from upath import UPath

from doors import refuse_by
from raydd.config.describe import describe_sizes
from raydd.config.tree import compose_config
from raydd.data.preprocessing import Preprocessing
from raydd.data.sources import open_source
from raydd.engine.passes.accuracy import exchanged_classes
from raydd.engine.passes.decode import decode_test, list_images
from raydd.engine.passes.score import score_teacher
from raydd.engine.training.teacher import TeacherConfig, squeeze
from raydd.errors import Refused
from raydd.report.gather import real_images
from raydd.run import main
from raydd.store.checkpoint import load_checkpoint, save_checkpoint
from raydd.store.files import alone
from raydd.store.tables import read_table
from small_engine import make_engine
from small_sets import CLASSES, png, write_imagefolder, write_parquet, write_tar

refuse = partial(refuse_by, main)


@pytest.mark.parametrize(("side", "said"), [(224, True), (48, True), (40, False), (20, False)])
def test_images_that_are_enlarged_are_said_to_be(tmp_path, side, said):
    for label in ("cat", "dog"):
        (tmp_path / "train" / label).mkdir(parents=True)
        for number in range(2):
            image = Image.new("RGB", (24, 20), (number, 0, 0))
            image.save(tmp_path / "train" / label / f"{number}.png")
    (tmp_path / "train" / "cat" / "0.png").write_bytes(b"broken")
    source = open_source("imagefolder", str(tmp_path), "train")
    seen = Preprocessing(side, side, (0.5,) * 3, (0.5,) * 3)
    sentence = describe_sizes(source, seen)
    assert (sentence is not None) == said
    if sentence:
        assert f"24 x 20 pixels and is enlarged to {side}: dataset.resolution=20" in sentence


def engine_of(folder, source, test=None):
    engine = make_engine(folder, source=source)
    return replace(engine, test_source=test or source)


def test_a_file_that_breaks_after_it_was_opened_counts_as_all_its_images(ray4, tmp_path):
    for number in range(2):
        write_parquet(tmp_path / f"set/data/train-{number}.parquet", [0, 1, 2] * 4, names=CLASSES)
    source = open_source("parquet", str(tmp_path / "set"), "train")
    (tmp_path / "set/data/train-1.parquet").write_bytes(b"gone")
    engine = engine_of(tmp_path / "runs", source)
    engine = replace(engine, data=replace(engine.data, max_rejected=0.6))
    table = list_images(engine)
    assert (table.summary["rows"], table.summary["rejected"]) == (12, 12)
    assert sum(table.summary["reasons"].values()) == 12
    kept = read_table(table.folder / "rejected.parquet")
    assert kept["images"].to_pylist() == [12]
    strict = replace(engine, data=replace(engine.data, max_rejected=0.4, max_pixels=10_000))
    with pytest.raises(
        Refused, match=r"12 of 24 training images are broken.*\(for example .*train-1"
    ):
        list_images(strict)


def test_the_report_says_of_both_splits_what_was_seen_used_and_rejected(ray4, tmp_path):
    write_imagefolder(tmp_path / "set", per_class=3, split="train")
    write_imagefolder(tmp_path / "set", per_class=4, split="test")  # three of each are the same
    (tmp_path / "set/test/ant/broken.jpg").write_bytes(b"")
    (tmp_path / "set/train/ant/notes.txt").write_text("a cat")
    train, test = (open_source("imagefolder", str(tmp_path / "set"), s) for s in ("train", "test"))
    engine = engine_of(tmp_path / "runs", train, test)
    engine = replace(engine, data=replace(engine.data, max_rejected=0.5))
    real, _ = list_images(engine), decode_test(engine)
    found = real_images(engine, real)
    assert found["equal"] == 9
    shutil.rmtree(real.folder / "parts")  # what was compared once is not read again
    assert real_images(engine, real)["equal"] == 9
    training, tests = found["splits"]["training"], found["splits"]["test"]
    assert (training["seen"], training["used"], training["rejected"]) == (9, 9, 0)
    assert training["unused"] == {".txt": 1}
    assert (tests["seen"], tests["used"], tests["reasons"]) == (13, 12, {"zero bytes": 1})


def test_images_of_other_pixels_are_not_equal(ray4, tmp_path):
    write_imagefolder(tmp_path / "set")
    for number, name in enumerate(CLASSES):
        (tmp_path / "set/test" / name).mkdir(parents=True)
        (tmp_path / "set/test" / name / "0.png").write_bytes(png(5000 + number))
    train, test = (open_source("imagefolder", str(tmp_path / "set"), s) for s in ("train", "test"))
    engine = engine_of(tmp_path / "runs", train, test)
    decode_test(engine)
    assert real_images(engine, list_images(engine))["equal"] == 0


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({0: 1, 1: 0, 2: 2, 3: 3}, [(0, 1), (1, 0)]),
        ({0: 1, 1: 2, 2: 0, 3: 3}, [(0, 1), (1, 2), (2, 0)]),
        ({0: 1, 1: 1, 2: 2, 3: 3}, []),  # it cannot tell 0 from 1: a weak teacher, no other order
        ({0: 0, 1: 1, 2: 2, 3: 3}, []),
    ],
)
def test_classes_that_are_taken_for_one_another_are_found(answers, expected):
    wrong = [[label, answer, 9] for label, answer in answers.items() if label != answer]
    wrong += [[3, label, 1] for label in range(3)]
    found = exchanged_classes(np.array(wrong, np.int64), np.full(4, 10))
    assert sorted(found) == expected


def test_a_teacher_with_two_classes_exchanged_is_refused_unless_told_to_go_on(ray4, tmp_path):
    engine = make_engine(tmp_path)
    trained = squeeze(engine)
    network, card = load_checkpoint(trained.folder)
    head = [module for module in network.modules() if isinstance(module, torch.nn.Linear)][-1]
    order = torch.tensor([1, 0, *range(2, 10)])
    with torch.no_grad():
        head.weight.copy_(head.weight[order])
        head.bias.copy_(head.bias[order])
    (tmp_path / "swapped").mkdir()
    save_checkpoint(UPath(tmp_path / "swapped"), network, card)
    given = TeacherConfig(checkpoint=str(tmp_path / "swapped"), min_top1=0.0)
    engine = replace(engine, teacher=given)
    with pytest.raises(Refused, match=r"takes nearly all images of class '[01]' for '[01]'"):
        score_teacher(engine, squeeze(engine))
    told = replace(engine, teacher=replace(given, exchanged_classes=True))
    assert score_teacher(told, squeeze(told)).summary["top1"] > 0.3


def test_a_file_in_both_splits_is_refused(tmp_path, capsys):
    members = [("0.png", png(0)), ("0.cls", b"0"), ("1.png", png(1)), ("1.cls", b"1")]
    write_tar(tmp_path / "set/train-val-0.tar", members)
    words = ["dataset=webdataset", f"dataset.root={tmp_path}/set", "dataset.num_classes=2"]
    error = refuse(capsys, *words, "dataset.split_test=val", f"storage={tmp_path}/runs")
    assert "train-val-0.tar" in error
    assert "both splits" in error or "several splits" in error


@pytest.mark.parametrize(
    "place",
    ["a b", "a,b", "a=b", "[a]", "{a}", "a(b)", "a'b", 'a"b', "ä/ß", "a:b", "a;b", "a&b", "a#b",
     "$a", "${a}", "a%b", "a!b", "a@b", "a+b", "a*b", "~tilde", "a\\b", "日本", "null_", "-a"],
)  # fmt: skip
def test_paths_are_taken_literally(place):
    config = compose_config(
        ["dataset=cifar10", f"dataset.root=/data/{place}", f"storage=./{place}"]
    )
    assert config.dataset.root == f"/data/{place}"
    assert config.storage == f"./{place}"


def test_a_tilde_is_the_home():
    config = compose_config(["dataset=cifar10", "dataset.root=~/data", "teacher.checkpoint=~/t.pt"])
    assert config.dataset.root == os.path.expanduser("~/data")
    assert config.teacher.checkpoint == os.path.expanduser("~/t.pt")
    assert compose_config(["teacher.checkpoint=null"]).teacher.checkpoint is None


@pytest.mark.parametrize("name", ["../up", "a/b", "..", ".hidden", "a\\b", "", "/root"])
def test_a_name_stays_below_the_storage(name, capsys):
    assert "name=" in refuse(capsys, f"name={name!r}")


@pytest.mark.parametrize("storage", ["/proc/raydd", "FILE"])
def test_a_storage_that_cannot_be_written_is_refused_before_ray_starts(tmp_path, capsys, storage):
    if storage == "FILE":
        (tmp_path / "file").write_text("")
        storage = str(tmp_path / "file")
    before = ray.is_initialized()
    assert "cannot be written" in refuse(capsys, f"storage={storage}", "name=x")
    assert ray.is_initialized() == before


def test_another_configuration_under_a_name_is_refused_before_ray_starts(tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/config.json").write_text(json.dumps({"seed": 5}))
    before = ray.is_initialized()
    assert "another configuration" in refuse(capsys, f"storage={tmp_path}", "name=mine")
    assert ray.is_initialized() == before


def test_a_class_without_images_is_refused_before_any_work(tmp_path, capsys):
    write_parquet(tmp_path / "data/train-0.parquet", [0, 1, 1, 0])
    write_parquet(tmp_path / "data/test-0.parquet", [0, 1, 1, 0])
    words = ["dataset=parquet", f"dataset.root={tmp_path}", "dataset.num_classes=3"]
    words += ["dataset.resolution=12", "dataset.resize=12", "method.ipc=1"]
    assert "has no training images" in refuse(capsys, *words, f"storage={tmp_path}/runs")


@pytest.mark.parametrize(("ipc", "inner"), [(1, []), (2, [1]), (5, [2]), (10, [5])])
def test_the_default_method_takes_any_images_per_class(ipc, inner):
    assert compose_config([f"method.ipc={ipc}"]).method.inner() == inner


def test_only_methods_that_start_from_real_images_need_as_many_of_every_class():
    needs = {
        "method=curricular method.ipc=7": 7,
        "method=sre2l method.ipc=7": 0,
        "method=ccfs method.ipc=10 method.shortfall=error": 8,
        "method=ccfs method.ipc=10 method.shortfall=easiest": 0,
        "method=random method.ipc=7": 7,
        "method=random method.ipc=7 method.balanced=false": 0,
        "method=acs method.ipc=7": 0,
    }
    for words, real in needs.items():
        assert compose_config(words.split()).method.real_ipc() == real, words


def test_a_random_choice_asks_a_given_teacher_for_no_difficulty(tmp_path, capsys):
    torch.save({}, tmp_path / "t.pt")
    words = ["plan=true", "method=random", f"teacher.checkpoint={tmp_path}/t.pt", "method.ipc=2"]
    assert main([*words, f"storage={tmp_path}/runs", "cluster.plan_seconds=0"]) == 0


def test_a_set_without_a_test_split_holds_out_a_share_and_says_so(tmp_path, capsys, ray4):
    for number, name in enumerate(CLASSES):
        (tmp_path / "set" / name).mkdir(parents=True)
        for i in range(20):
            pixels = np.full((12, 12, 3), 80 * number + i, np.uint8)
            out = io.BytesIO()
            Image.fromarray(pixels).save(out, "PNG")
            (tmp_path / "set" / name / f"{i}.png").write_bytes(out.getvalue())
    # no folder of a split: nobody needs to say so
    words = ["dataset=imagefolder", f"dataset.root={tmp_path}/set"]
    words += ["dataset.resolution=12", "dataset.resize=12", "dataset.holdout=0.3", "method=random"]
    words += ["method.ipc=2", "teacher.recipe.epochs=2", "teacher.model.width=8", "name=held"]
    words += ["teacher.min_top1=0", "protocol.seeds=1", "protocol.recipe.epochs=2"]
    words += ["protocol.architectures=[{name: convnet2, width: 8}]", f"storage={tmp_path}/runs"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "30% of the images, held out by seed 0" in said
    report = json.loads((tmp_path / "runs/held/report.json").read_text())
    splits = report["data"]["splits"]
    assert splits["training"]["seen"] + splits["test"]["seen"] == 60
    assert "held out by seed 0" in (tmp_path / "runs/held/report.html").read_text()


def test_two_processes_never_make_one_stage_at_once(tmp_path):
    folder, order = UPath(tmp_path / "stage"), tmp_path / "order"
    code = (
        "import sys, time; from upath import UPath; from raydd.store.files import alone\n"
        f"with alone(UPath({str(folder)!r}), lambda: print('waits', flush=True)):\n"
        f"    open({str(order)!r}, 'a').write(sys.argv[1])"
    )
    with alone(folder, lambda: None):
        other = subprocess.Popen(
            [sys.executable, "-c", code, "b"], stdout=subprocess.PIPE, text=True
        )
        assert other.stdout is not None
        assert other.stdout.readline() == "waits\n"
        time.sleep(0.2)
        order.write_text("a")
    assert other.wait(30) == 0
    assert order.read_text() == "ab"


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)],
)
def test_a_run_that_is_stopped_says_in_a_sentence_how_to_go_on(tmp_path, number, code):
    words = [sys.executable, "-m", "raydd.run", f"storage={tmp_path}", "name=stopped"]
    words += ["teacher.recipe.epochs=2000", "verbose=true"]
    run = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )  # fmt: skip
    assert run.stdout is not None
    for line in run.stdout:
        if line.startswith("squeeze teacher"):
            break
    time.sleep(2)
    run.send_signal(number)
    _, error = run.communicate(timeout=60)
    assert run.returncode == code, error[-2000:]
    lines = [line for line in error.splitlines() if line.strip()]
    assert lines[-1] == (
        f"raydd: stopped by {number.name}. What is finished is kept; run the same command to "
        "continue."
    )
    assert len(lines) == 1, error[-2000:]
