"""A sweep through the door: what is refused before any work, and the whole of it (slow)."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from raydd.config.compose import ConfigError
from raydd.config.sweep import draw_trials, parse_space, spell, split_space
from raydd.config.tree import compose_config
from raydd.errors import Refused
from raydd.run import main
from raydd.store.progress import Progress
from raydd.sweep.sweep import sweep, trial_config

ALPHAS = "sweep.space.method.alpha=[0.1,0.2]"
TINY = [
    "teacher.model.width=8",
    "teacher.recipe.epochs=2",
    "protocol.architectures.0.width=8",
    "protocol.recipe.epochs=8",
    "protocol.seeds=2",
]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["sweep=grid"], "varies nothing"),
        (["sweep.space.method.ipc=interval(1,5)"], "a grid cannot walk"),
        (["sweep.space.method.ipc=[6,2000]"], "method.ipc=2000: .*more than class"),
        (["sweep.space.method.alpha=[0.1,0.2]"], "method.alpha=0.1: .*no key 'method.alpha'"),
        (["sweep.space.method.ipc=[5,10]", "evaluate=false"], "needs evaluate=true"),
        (["sweep.space.method.ipc=[5,10]", "sweep.early_stop=true"], "must not be the test split"),
        (["sweep=constants"], "must not be the test split"),
        (["sweep.space.storage=[a,b]"], "cannot vary storage"),
        (["sweep.space.seed=[1,2]", "sweep.seeds=2"], "vary the same key"),
        (["sweep.space.method.ipc=[5,10]", "tracker=mlflow"], "needs the package mlflow"),
    ],
)
def test_a_sweep_that_cannot_run_is_refused_before_any_work(tmp_path, words, reason):
    words = [*words, f"storage={tmp_path}"]
    with pytest.raises((Refused, ConfigError), match=reason):
        sweep(words, compose_config(words), Progress())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("teacher", ["small", "thin16", "airnet16"])
def test_every_trial_of_the_teachers_budget_composes(teacher):
    words = ["sweep=teacher_budget", f"teacher={teacher}"]
    sweep = compose_config(words).sweep
    trials = draw_trials(sweep, parse_space(sweep.space), 0)
    assert [trial_config(words, t).teacher.seed for t in trials] == [0] * 18


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("sweep.search=best", "search must be one of"),
        ("sweep.space.method.ipc=interval(5,5)", "must rise"),
        ("sweep.space.method.ipc=tag(log,interval(0,1))", "starts above 0"),
        ("sweep.space.method.ipc=[]", "has no values"),
        ("sweep.space.method.ipc=interval(", "takes a list or interval"),
        ("sweep.seed=3", "there is no key 'sweep.seed'"),
    ],
)
def test_a_wrong_space_is_one_sentence(word, reason):
    with pytest.raises(ConfigError, match=reason):
        compose_config(["sweep=grid", word])


def test_a_tracker_without_its_package_is_one_sentence(capsys):
    assert main(["tracker=mlflow"]) == 2
    assert "pip install mlflow" in capsys.readouterr().err


def test_spaces_follow_the_notation_of_hydra():
    words = ["a=1", ALPHAS, "sweep.space.method=choice(ccfs,random)", "sweep.space.seed=range(3)"]
    rest, space = split_space(words)
    domains = parse_space(space)
    assert rest == ["a=1"]
    assert domains["method.alpha"].values == (0.1, 0.2)
    assert domains["method"].values == ("ccfs", "random")
    assert domains["seed"].values == (0, 1, 2)


def test_a_trial_is_the_command_line_and_its_overrides():
    overrides = {"method": "ccfs", "method.alpha": 0.4, "dataset.licence": "it's mine"}
    config = trial_config(["seed=3"], overrides)
    assert (config.method.name, config.method.alpha, config.seed) == ("ccfs", 0.4, 3)
    assert config.dataset.licence == "it's mine"
    assert spell("x", [1, None, {"a": True}]) == "x=[1,null,{a:true}]"


@pytest.mark.slow
def test_images_held_out_judge_and_are_never_chosen(ray4, tmp_path):
    words = ["method=random", "method.ipc=3", "validation=20", f"storage={tmp_path}", *TINY]
    assert main([*words, "name=held"]) == 0
    chosen = {path.parent.name: ids(path) for path in tmp_path.glob("stages/*/selection.parquet")}
    report = json.loads((tmp_path / "held" / "report.json").read_text())
    (held_out,) = [name for name, found in chosen.items() if len(found) == 200]
    others = set().union(*(found for name, found in chosen.items() if name != held_out))
    assert len(others) > 30
    assert not others & chosen[held_out]
    tops = [round(200 * result["top1_last"], 3) for result in report["results"]]
    assert all(top == int(top) for top in tops)  # of 200 images


def ids(path: Path) -> set[str]:
    import pyarrow.parquet as pq

    return set(pq.read_table(path, columns=["id"])["id"].to_pylist())


@pytest.mark.slow
def test_a_killed_sweep_is_continued_and_builds_no_stage_twice(tmp_path):
    command = [
        sys.executable, "-m", "raydd.run", "method=random", f"storage={tmp_path}", "name=swept",
        "sweep.space.method.ipc=[2,3,4]", "sweep.seeds=2", *TINY,
    ]  # fmt: skip
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 400
    while not (done := list(tmp_path.glob("swept/trials/*/report.json"))):
        assert time.monotonic() < deadline
        assert first.poll() is None
        time.sleep(0.5)
    first.kill()
    first.wait()
    stamps = {path: path.stat().st_mtime_ns for path in done}
    time.sleep(8)  # orphaned processes of the killed cluster end
    subprocess.run(command, check=True, timeout=600)
    reports = list(tmp_path.glob("swept/trials/*/report.json"))
    assert len(reports) == 6
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())
    assert (tmp_path / "swept" / "results.csv").read_text().count("\n") == 7
    made = [
        stage["key"]
        for path in reports
        for stage in json.loads(path.read_text())["stages"]
        if not stage["cached"]
    ]
    assert len(made) == len(set(made))
    teachers = list(tmp_path.glob("stages/squeeze-*"))
    assert len(teachers) == 2  # one for each seed
    shutil.rmtree(tmp_path)
