"""What a sweep says while it runs."""

import json

import pytest
from upath import UPath

from raydd.store.journal import Journal
from raydd.store.progress import Progress
from raydd.sweep.watch import Watch, describe_best, describe_trial


@pytest.fixture
def begin(tmp_path, monkeypatch):
    monkeypatch.setattr("raydd.store.journal._BEAT", 0.0)

    def begin(name, **overrides):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "trial.json").write_text(json.dumps({"overrides": overrides}))
        return folder, Journal(str(folder / "metrics.jsonl"))

    return begin


def test_trials_in_work_tell_their_stage_and_epoch(tmp_path, begin):
    watch = Watch(UPath(tmp_path), Progress(), {})
    assert watch.count() == 0
    assert watch.doing() == ""
    _, first = begin("a", seed=0)
    _, second = begin("b", seed=1)
    watch.look()
    first.beat("train", 39, 40, title="student 1")
    first.beat("evaluate", 30, 120, images="distilled", seed=0, loss=0.5)
    second.log("squeeze", epoch=3, epochs=12, title="teacher", loss=1.5, top1=0.25)
    watch.look()
    told = watch.doing()
    assert told == (
        "evaluate 25 %, epoch 30 of 120, loss 0.5; "
        "squeeze 25 %, epoch 3 of 12, loss 1.5, top-1 25.0 %"
    )


def test_a_finished_trial_is_called_by_its_arm(tmp_path, begin):
    arms = {"whole": {}, "wide": {"method.observers": [{"name": "convnet3", "width": 512}]}}
    part = {"mean": 0.5, "half_width": None}
    said = {}
    for name, arm in arms.items():
        folder, _ = begin(name, **arm, **{"method.ipc": 5, "seed": 1})
        (folder / "report.json").write_text(
            json.dumps({"headline": {"distilled": part, "random": part}})
        )
        said[name] = describe_trial(UPath(folder), arms).split()[:3]
    assert said == {name: [f"arm={name}", "method.ipc=5", "seed=1"] for name in arms}


def test_a_finished_trial_is_said_once_and_no_longer_in_work(tmp_path, begin, capsys):
    watch = Watch(UPath(tmp_path), Progress(), {})
    folder, journal = begin("a", **{"method.ipc": 5})
    watch.look()
    journal.beat("evaluate", 30, 120)
    part = {"mean": 0.5, "half_width": 0.02}
    report = {"headline": {"distilled": part, "random": {"mean": 0.25, "half_width": None}}}
    (folder / "report.json").write_text(json.dumps(report))
    begin("failed")[0].joinpath("error.txt").write_text("no")
    for _ in range(2):
        watch.look()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("  method.ipc=5 ")
    assert lines[0].endswith("distilled 50.0 +- 2.0, random 25.0 % top-1")
    assert watch.count() == 1
    assert watch.doing() == ""


def test_the_best_combination_is_that_of_the_best_mean_over_its_seeds(tmp_path, begin):
    assert describe_best(UPath(tmp_path)) is None
    tried = {(0.1, 0): 0.5, (0.1, 1): 0.25, (0.2, 0): 0.4, (0.2, 1): 0.42}
    for (rate, seed), mean in tried.items():
        folder, _ = begin(f"r{rate}s{seed}", **{"method.rate": rate, "seed": seed})
        report = {"headline": {"distilled": {"mean": mean, "half_width": None}}}
        (folder / "report.json").write_text(json.dumps(report))
    assert describe_best(UPath(tmp_path)) == "method.rate=0.2 (41.0 % top-1)"
