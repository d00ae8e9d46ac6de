"""What a tracker is sent of a run's journal."""

from collections import Counter

import pytest
from upath import UPath

from raydd.errors import Refused
from raydd.report.tracker import check_tracker, scalars, tracking
from raydd.store.journal import Journal


def test_numbers_of_an_event_are_named_by_stage_and_piece():
    events = [
        {"time": 5.0, "stage": "squeeze", "title": "teacher", "epoch": 3, "epochs": 9, "loss": 0.5},
        {"time": 6.0, "stage": "squeeze", "beat": True, "at": 3.5, "of": 9},
        {"time": 7.0, "stage": "synthesize", "curriculum": 1, "unit": "a", "last": {"total": 2.0}},
        {"time": 8.0, "stage": "synthesize", "curriculum": 1, "unit": "b", "last": {"total": 1.0}},
    ]
    found = scalars(events, Counter())
    assert [tuple(item) for item in found] == [
        ("squeeze/teacher/loss", 0.5, 3, 5.0),
        ("synthesize/1/last/total", 2.0, 0, 7.0),
        ("synthesize/1/last/total", 1.0, 1, 8.0),
    ]


def test_tensorboard_reads_what_was_sent(tmp_path):
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    _write(tmp_path)
    files = loader.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in files.Scalars("squeeze/teacher/loss")] == [
        (1, 0.5),
        (2, 0.25),
    ]
    assert files.Scalars("result/top1")[0].value == pytest.approx(0.9)


def test_tensorboard_files_hold_what_was_sent(tmp_path):
    _write(tmp_path)
    (path,) = (tmp_path / "tensorboard").glob("events.*")
    content = path.read_bytes()
    assert content.count(b"squeeze/teacher/loss") == 2
    assert b"result/top1" in content


def _write(folder):
    with tracking("tensorboard", UPath(folder), {"method": {"ipc": 2}}) as conclude:
        journal = Journal(str(folder / "metrics.jsonl"))
        journal.log("squeeze", title="teacher", epoch=1, loss=0.5)
        journal.log("squeeze", title="teacher", epoch=2, loss=0.25)
        conclude({"top1": 0.9})


def test_a_tracker_without_its_package_is_refused():
    with pytest.raises(Refused, match="tracker=mlflow needs the package mlflow"):
        check_tracker("mlflow")
