"""The examples run on a tiny distilled set of the digits."""

import sys
from pathlib import Path

import pytest

from raydd.data.export import export_imagefolder
from raydd.run import main

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))

SMALL = ["teacher.model.width=8", "teacher.recipe.epochs=2"]
SET = [
    "method=random",
    "method.ipc=3",
    "evaluate=false",
    "labels.form=seeded",
    "labels.epochs=2",
    "protocol.recipe.epochs=2",
]
JUDGE = [
    "protocol.architectures=[{name: convnet2, width: 8}]",
    "protocol.seeds=2",
    "protocol.recipe.epochs=2",
]


@pytest.fixture(scope="module")
def storage(ray4, tmp_path_factory) -> Path:
    """A storage with the run ``tiny``."""
    folder = tmp_path_factory.mktemp("examples")
    assert main([f"storage={folder}", "name=tiny", *SMALL, *SET]) == 0
    return folder


@pytest.fixture(scope="module")
def folder(storage) -> str:
    return str(storage / "tiny" / "distilled")


def test_a_loop_of_ones_own_trains_with_soft_labels_and_without(folder, capsys):
    import train_own_loop

    found = train_own_loop.main(folder, epochs=20)
    assert list(found) == ["the teacher's labels", "classes alone"]
    assert min(found.values()) > 0.2  # chance is 0.1
    assert "30 distilled images of 10 classes" in capsys.readouterr().out


def test_a_set_of_someone_else_is_judged_beside_real_images(storage, folder, capsys):
    import judge_someone_elses_set as judge

    theirs = storage / "theirs"
    assert export_imagefolder(folder, theirs) == 30
    report = judge.main(str(theirs), f"storage={storage}", *SMALL, *JUDGE)
    assert set(report["headline"]["sets"]) == {"distilled", "random", "herding"}
    assert report["num_images"] == 30
    assert "herding" in capsys.readouterr().out


def test_replay_keeps_the_first_task_better_than_no_memory(folder, capsys):
    import replay

    found = replay.main(folder, epochs=2)
    assert {name: len(values) for name, values in found.items()} == {
        "distilled": 3,
        "random real": 3,
        "no memory": 3,
    }
    mean = {name: sum(values) / 3 for name, values in found.items()}
    assert mean["no memory"] < 0.55  # five of ten digits are all that is left
    assert min(mean["distilled"], mean["random real"]) > mean["no memory"]
    assert "15 images of the first digits" in capsys.readouterr().out
