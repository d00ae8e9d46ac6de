"""Folders become trials: every run of a storage or sweep, with the status it has at this moment."""

import json
from pathlib import Path

import pytest
from upath import UPath

from raydd.browser.curves import CURVE_POINTS, journal_trainings, report_trainings, thin
from raydd.browser.trials import read_trials
from raydd.errors import Refused
from raydd.store.journal import Journal
from small_trials import config, report, write_journal, write_json, write_run, write_trial


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    """A run, shared stages, and a sweep with a trial of every status."""
    root = tmp_path / "runs"
    write_run(root / "single", config("edc"), 0.6)
    write_json(root / "stages" / "squeeze-1" / "config.json", {})
    (root / "browse.html").write_text("an earlier page")
    sweep = root / "alphas"
    write_json(sweep / "sweep.json", {"name": "alphas", "search": "asha", "trials": 6, "space": {}})
    (sweep / "tune").mkdir()
    write_trial(sweep, "a", {"method.alpha": 0.1}, 0.5)
    failed = write_trial(sweep, "b", {"method.alpha": 0.2})
    (failed / "error.txt").write_text("Traceback\n  line\nValueError: the loss is not finite\n")
    write_journal(write_trial(sweep, "c", {"method.alpha": 0.3}, stopped=True), 2)
    write_journal(write_trial(sweep, "d", {"method.alpha": 0.4}), 3)
    return root


def read(*roots: Path):
    trials, sweeps = read_trials([str(root) for root in roots])
    return {trial.name: trial for trial in trials}, sweeps


def test_a_storage_holds_its_runs_and_the_trials_of_its_sweeps(storage: Path) -> None:
    trials, sweeps = read(storage)
    assert {name: (t.status, t.sweep) for name, t in trials.items()} == {
        "single": ("finished", None), "a": ("finished", "alphas"), "b": ("failed", "alphas"),
        "c": ("stopped", "alphas"), "d": ("unfinished", "alphas"),
    }  # fmt: skip
    assert [(s.name, s.search, s.planned) for s in sweeps] == [("alphas", "asha", 6)]
    assert trials["a"].path == "runs/alphas/trials/a"


def test_a_sweep_or_a_run_may_be_named_alone(storage: Path) -> None:
    assert set(read(storage / "alphas")[0]) == set("abcd")
    assert set(read(storage / "single", storage / "alphas" / "trials" / "b")[0]) == {"single", "b"}


def test_a_folder_that_is_named_twice_counts_once(storage: Path) -> None:
    trials, sweeps = read_trials([str(storage), str(storage / "alphas"), str(storage / "single")])
    assert sorted(trial.name for trial in trials) == ["a", "b", "c", "d", "single"]
    assert len(sweeps) == 1


def test_a_failed_trial_says_why(storage: Path) -> None:
    assert read(storage)[0]["b"].error.splitlines()[-1] == "ValueError: the loss is not finite"


def test_a_retried_trial_that_finished_is_finished(storage: Path) -> None:
    folder = storage / "alphas" / "trials" / "b"
    write_json(folder / "report.json", report(config(alpha=0.2), 0.5))
    trial = read(storage)[0]["b"]
    assert (trial.status, trial.error) == ("finished", None)


def test_an_unfinished_trial_has_the_curves_of_its_journal(storage: Path) -> None:
    trial = read(storage)[0]["d"]
    assert [(t.images, t.architecture, t.seed) for t in trial.trainings] == [
        ("distilled", "convnet3-w8", 0), ("distilled", "convnet3-w8", 1),
    ]  # fmt: skip
    assert dict(trial.trainings[1].top1) == pytest.approx({1: 0.11, 2: 0.21, 3: 0.31})
    assert trial.trainings[0].last is None
    assert trial.heard == 1003.0


def test_an_evaluation_is_no_trial(storage: Path) -> None:
    write_json(storage / "judged" / "config.json", {})
    write_json(storage / "judged" / "report.json", {"kind": "evaluation"})
    assert "judged" not in read(storage)[0]


@pytest.mark.parametrize("content", ["{", "[]", "\xff"])
@pytest.mark.parametrize("name", ["report.json", "config.json", "trial.json"])
def test_a_damaged_file_is_a_failed_row_and_no_lost_page(storage: Path, name, content) -> None:
    (storage / "alphas" / "trials" / "a" / name).write_text(content, "latin-1")
    trials, _ = read(storage)
    assert trials["a"].status == "failed"
    assert trials["a"].error.startswith(f"{name} is damaged")
    assert trials["single"].status == "finished"


def test_what_is_no_folder_of_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="is no folder"):
        read(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(Refused, match="neither a run"):
        read(tmp_path / "empty")


def test_a_file_between_the_trials_is_passed_over(storage: Path) -> None:
    (storage / "alphas" / "trials" / "notes.txt").write_text("mine")
    assert len(read(storage)[0]) == 5


def test_a_sweep_that_has_not_begun_has_no_trials(tmp_path: Path) -> None:
    write_json(tmp_path / "s" / "sweep.json", {"name": "s", "search": "grid", "trials": 9})
    trials, sweeps = read(tmp_path / "s")
    assert (trials, sweeps[0].planned) == ({}, 9)


def test_a_storage_in_an_object_store_is_read() -> None:
    root = UPath("memory://browse/runs")
    for name in ("one", "two"):
        (root / name / "config.json").write_text(json.dumps(config()))
    (root / "one" / "report.json").write_text(json.dumps(report(config(), 0.5)))
    journal = Journal(str(root / "two" / "metrics.jsonl"))
    for epoch in (1, 2):
        judge = {"architecture": "convnet3", "images": "random", "seed": 0}
        journal.log("evaluate", **judge, epoch=epoch, loss=1.0, top1=0.5)
    trials, _ = read_trials([str(root)])
    assert [(t.name, t.status) for t in trials] == [("one", "finished"), ("two", "unfinished")]
    assert trials[1].trainings[0].top1 == [(1, 0.5), (2, 0.5)]


def test_an_epoch_that_was_repeated_counts_once_and_the_later_one() -> None:
    judge = {"stage": "evaluate", "architecture": "a-b", "images": "distilled", "seed": 12}
    events = [{"time": t, **judge, "epoch": e, "loss": x} for t, e, x in
              [(1, 1, 0.9), (2, 2, 0.8), (3, 2, 0.7)]]  # fmt: skip
    (training,), heard = journal_trainings(events)
    assert (training.architecture, training.seed, training.top1) == ("a-b", 12, [])
    assert training.loss == [(1, 0.9), (2, 0.7)]
    assert heard == 3


def test_long_curves_are_thinned_and_keep_their_ends() -> None:
    curve = [(epoch, 1 / epoch) for epoch in range(1, 1001)]
    thinned = thin(curve)
    assert len(thinned) == CURVE_POINTS
    assert (thinned[0], thinned[-1]) == (curve[0], curve[-1])
    assert set(thinned) <= set(curve)
    assert thin(curve[:CURVE_POINTS]) == curve[:CURVE_POINTS]


def test_a_report_without_trainings_has_none() -> None:
    assert report_trainings({"results": []}) == []
