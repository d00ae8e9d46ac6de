"""Input that cannot run gets one sentence, with its key, before any work: of a plan, too."""

import json
import urllib.error
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image
from torchvision.models import ResNet18_Weights
from upath import UPath

from doors import refuse_by
from raydd.browser.trials import read_trials
from raydd.engine.passes.parts import conclude, make_folders, shard_name, write_part
from raydd.errors import Refused
from raydd.models.registry import ModelConfig, create_model
from raydd.run import main
from raydd.store.failure import ERROR, kept_error
from raydd.store.files import check_claim, claim_folder, open_storage

refuse = partial(refuse_by, main)


def write_folder(root: Path, classes=("cat", "dog"), count: int = 4) -> Path:
    for label in classes:
        (root / label).mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", (20, 20), (number, 9, 9)).save(root / label / f"{number}.png")
    return root


def own(root: Path) -> list[str]:
    small = ["dataset.resolution=16", "dataset.resize=16", f"storage={root.parent}/runs"]
    return ["dataset=imagefolder", f"dataset.root={root}", *small]


@pytest.mark.parametrize("more", [[], ["plan=true"]])
def test_a_held_out_share_without_an_image_is_refused(capsys, tmp_path, more):
    words = [*own(write_folder(tmp_path / "set")), "dataset.holdout=0.0001", *more]
    text = refuse(capsys, *words)
    assert "dataset.holdout=0.0001, a chance of each image by itself, holds none" in text
    assert not (tmp_path / "runs").exists()


def test_a_root_that_is_a_file_is_said_to_be_one(capsys, tmp_path):
    image = write_folder(tmp_path / "set") / "cat" / "0.png"
    assert "is a file; set dataset.root to its folder" in refuse(capsys, *own(image))


def test_a_class_of_another_name_is_named_beside_the_missing_one(capsys, tmp_path):
    write_folder(tmp_path / "set" / "train", ("blue", "green"))
    write_folder(tmp_path / "set" / "val", ("blue", "grn"))
    text = refuse(capsys, *own(tmp_path / "set"))
    assert "no folder 'green'" in text
    assert "of no class is its folder 'grn'" in text


@pytest.mark.parametrize("more", [[], ["plan=true"]])
def test_a_storage_below_a_file_is_refused(capsys, tmp_path, more):
    (tmp_path / "file").write_text("mine")
    for place in ("file", "file/runs"):
        text = refuse(capsys, f"storage={tmp_path / place}", *more)
        assert f"{tmp_path / 'file'} is a file, not a folder" in text
    assert (tmp_path / "file").read_text() == "mine"
    assert open_storage(str(tmp_path / "new")) == UPath(tmp_path / "new")


def test_a_plan_refuses_the_name_of_another_run(capsys, tmp_path):
    claim_folder(UPath(tmp_path / "mine"), {"seed": 7})
    text = refuse(capsys, "name=mine", f"storage={tmp_path}", "plan=true")
    assert "the run 'mine' exists with another configuration" in text


@pytest.mark.parametrize("method", ["curricular", "ccfs", "edc", "acs", "rded", "random"])
def test_no_image_per_class_is_refused_as_that(capsys, method):
    text = refuse(capsys, f"method={method}", "method.ipc=0")
    assert "method" in text
    assert "ipc" in text
    assert "must be at least 1" in text


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("protocol.recipe.epochs=0", "protocol.recipe.epochs must be at least 1, got 0."),
        ("teacher.recipe.epochs=0", "teacher.recipe.epochs must be at least 1, got 0."),
        ("method.student.recipe.optimizer=lion", "method.student.recipe.optimizer must be one of"),
        ("data.max_rejected=5", "data.max_rejected must lie in [0, 1], got 5.0"),
        ("protocol.seeds=0", "protocol.seeds must be at least 1"),
        ("method.ipc=[1,2", "a value does not end: "),
    ],
)
def test_a_value_that_cannot_run_is_named_by_its_whole_key(capsys, word, said):
    assert said.rstrip(".") in refuse(capsys, word)


def test_broken_images_say_how_to_go_on_and_the_same_name_goes_on(capsys, ray4, tmp_path):
    root = write_folder(tmp_path / "set", count=12)
    (root / "cat" / "5.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    words = [*own(root), "dataset.holdout=0.2", "name=mine", "method.ipc=1"]
    text = refuse(capsys, *words)
    assert "training images are broken, more than data.max_rejected=0.01 allows" in text
    share = text.partition("To go on: data.max_rejected=")[2].strip(".\n")
    assert 0 < float(share) <= 0.1
    folder = tmp_path / "runs" / "mine"
    (trial,) = read_trials([str(tmp_path / "runs")])[0]
    assert (trial.status, trial.error) == ("failed", text.strip())
    config = json.loads((folder / "config.json").read_text())
    config["data"]["max_rejected"] = float(share)
    check_claim(UPath(folder), config)
    with pytest.raises(Refused, match=r"differ: seed\."):
        check_claim(UPath(folder), {**config, "seed": 5})


def test_a_split_without_a_good_image_ends_in_a_sentence(tmp_path):
    folder = UPath(tmp_path)
    make_folders(folder)
    none = pa.table({"id": pa.array([], pa.string()), "reason": pa.array([], pa.string())})
    write_part(folder, 0, none, none)
    with pytest.raises(Refused, match=r"there are no test images\."):
        conclude(folder, [shard_name(0)], 1.0, "test")
    write_part(folder, 0, none, pa.table({"id": ["a.png"], "reason": ["cut short"]}))
    with pytest.raises(Refused, match="1 of 1 test images are broken; 1 of them: cut short"):
        conclude(folder, [shard_name(0)], 1.0, "test")


def test_a_run_that_failed_says_so_until_it_is_begun_again(tmp_path):
    folder = UPath(tmp_path / "run")
    with pytest.raises(KeyError), kept_error(folder):
        raise KeyError("what broke")
    assert (folder / ERROR).read_text().strip().endswith("KeyError: 'what broke'")
    with pytest.raises(RuntimeError), kept_error(folder):
        raise RuntimeError("a worker") from Refused("one sentence.")
    assert (folder / ERROR).read_text() == "raydd: one sentence."
    with pytest.raises(KeyboardInterrupt), kept_error(folder):
        raise KeyboardInterrupt
    assert not (folder / ERROR).exists()


def test_public_weights_out_of_reach_are_a_sentence(monkeypatch):
    def offline(*_, **__):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(ResNet18_Weights, "get_state_dict", offline)
    config = ModelConfig("torchvision/resnet18", pretrained=True)
    with pytest.raises(Refused, match=r"weights of torchvision/resnet18 cannot .*not kn"):
        create_model(config, 1000, 224)
