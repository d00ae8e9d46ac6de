"""``plan=true`` walks the drivers: no pass, no file, and what nobody knows is said."""

import pytest
import ray

from raydd.config.tree import compose_config
from raydd.plan.planner import walk
from raydd.run import main
from raydd.store.progress import Progress
from small_sets import CLASSES, png, write_tar

SMALL = ["dataset.resolution=12", "dataset.resize=12", "evaluate=false", "cluster.plan_seconds=0"]


@pytest.fixture
def archives(tmp_path):
    """Two archives of six images for training, one for tests."""
    for name, first in (("train-0", 0), ("train-1", 6), ("test-0", 12)):
        members = []
        for number in range(first, first + 6):
            members += [(f"{number}.png", png(number)), (f"{number}.cls", b"%d" % (number % 3))]
        write_tar(tmp_path / f"{name}.tar", members)
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES))
    return tmp_path


def rows_of(*words):
    return walk(compose_config([*words]), Progress())[1]


@pytest.mark.parametrize(
    "method", [["method=rded"], ["method=edc", "method.synthesis.start=rded"]], ids=str
)
def test_a_plan_of_tiles_passes_over_nothing_and_writes_nothing(archives, tmp_path, method, capsys):
    storage = tmp_path / "runs"
    before = ray.is_initialized()
    words = ["dataset=webdataset", f"dataset.root={archives}", "dataset.split_test=test", *method]
    words.append(f"storage={storage}")
    assert main(["plan=true", "method.ipc=1", "method.crops.pool=4", *words, *SMALL]) == 0
    assert "count classes" in capsys.readouterr().out
    assert not storage.exists()
    assert ray.is_initialized() == before


def test_archives_are_counted_by_their_headers(archives, tmp_path):
    words = ["dataset=webdataset", f"dataset.root={archives}", f"storage={tmp_path}/runs"]
    words.append("dataset.split_test=test")
    rows = {row.stage: row for row in rows_of(*words, *SMALL, "method=rded", "method.ipc=1")}
    assert rows["decode train"].cost.decodes == 12
    assert rows["decode test"].cost.decodes == 6


def test_what_nobody_has_counted_is_unknown_and_the_keys_that_tell_it_are_named(
    archives, tmp_path, capsys
):
    # a held-out share of archives: only a pass could tell
    words = [f"dataset.root={archives}", f"storage={tmp_path}/runs", "method=rded", *SMALL]
    words += ["plan=true", "dataset=webdataset", "dataset.split_test=null", "method.ipc=1"]
    assert main([*words, "cluster.plan_for=8xh200"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (score,) = [line for line in lines if line.startswith("score teacher")]
    (total,) = [line for line in lines if line.startswith("all stages")]
    assert score.count("unknown") == 3  # read, written, hours
    assert total.endswith("unknown")
    assert any("dataset.train_images= and dataset.test_images=" in line for line in lines)
    sizes = ["dataset.train_images=9", "dataset.test_images=3"]
    assert main([*words, *sizes, "cluster.plan_for=8xh200"]) == 0
    assert "unknown" not in capsys.readouterr().out


def test_observers_beside_a_given_teacher_are_planned_as_trainings(tmp_path):
    observers = "method.observers=[{name: convnet2, width: 8}, {name: resnet10_thin, width: 8}]"
    words = ["method=edc", observers, f"teacher.checkpoint={tmp_path}/none.pt"]
    rows = rows_of(*words, f"storage={tmp_path}/runs", "evaluate=false")
    trained = [row for row in rows if row.stage.startswith("squeeze observer")]
    assert len(trained) == 2
    assert all(row.units > 1 and row.cost.work for row in trained)


def test_a_generator_that_is_trained_has_a_row_for_its_start(tmp_path):
    stages = [row.stage for row in rows_of("+experiment=acs_digits", f"storage={tmp_path}/runs")]
    at = stages.index("generator untrained")
    assert stages[at + 1 : at + 3] == ["decode train", "generator training"] or (
        stages[at + 1] == "generator training"
    )


def test_a_plan_marks_what_the_storage_has_finished(ray4, tmp_path, capsys):
    words = [f"storage={tmp_path}", "name=one", "method=random", "method.ipc=1", "evaluate=false"]
    words += ["teacher.recipe.epochs=1", "teacher.recipe.warmup_epochs=0", "teacher.model.width=8"]
    words += ["teacher.min_top1=0", "cluster.plan_seconds=0"]
    assert main(words) == 0
    capsys.readouterr()
    assert main([*words, "name=two", "method.ipc=2", "plan=true"]) == 0
    lines = capsys.readouterr().out.splitlines()
    finished = [line.split("  ")[0] for line in lines if line.endswith("finished")]
    assert finished == ["decode train", "decode test", "squeeze teacher", "score teacher"]
    assert any(line.startswith("select real") and "finished" not in line for line in lines)
