"""What is said of a stage where there is no terminal."""

import time

import pytest
from upath import UPath

from raydd.store.journal import Journal
from raydd.store.meter import advance
from raydd.store.progress import Progress


@pytest.fixture
def quick(monkeypatch):
    """A line several times a second, and signs of life as often."""
    monkeypatch.setattr("raydd.store.progress._PLAIN_SECONDS", 0.2)
    monkeypatch.setattr("raydd.store.journal._BEAT", 0.0)


def test_a_training_s_lines_are_those_of_its_own_stage(tmp_path, quick, capsys):
    progress, journal = Progress(), Journal(str(tmp_path / "metrics.jsonl"))
    progress.follow(UPath(tmp_path))
    progress.tail.seconds = 0.1
    journal.beat("train", 39, 40, title="student 1")  # of a stage that has ended
    time.sleep(0.01)
    with progress.stage("train student 2", 0):
        journal.beat("squeeze", 1, 2, title="teacher")
        journal.beat("train", 10, 40, title="student 2", loss=0.5)
        time.sleep(0.5)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{'train student 2':<34} 25 %, epoch 10 of 40, loss 0.5, ")
    assert not any("39" in line or "of 2," in line for line in lines)
    assert lines[-1].startswith(f"{'train student 2':<34} 0.")


def test_units_are_counted_where_they_end(quick, capsys):
    with Progress().stage("synthesize", 4, finished=1):
        advance(units=1)
        time.sleep(0.3)
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{'synthesize':<34} 2 of 4 units, ")
    assert last.startswith(f"{'synthesize':<34} 4 units, 0.")


def test_a_stage_of_which_nobody_tells_is_at_work(quick, capsys):
    with Progress().stage("herd", 0):
        time.sleep(0.3)
    assert capsys.readouterr().out.startswith(f"{'herd':<34} at work\n")


def test_what_somebody_counted_before_is_in_no_rate(quick, capsys):
    counts = iter([9, *[10] * 99])  # of 18 trials nine were found finished
    with Progress().stage("sweep", 18, finished=9, count=lambda: next(counts)):
        time.sleep(0.5)
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first.endswith("9 of 18 units")
    assert "10 of 18 units, " in second
    assert second.endswith(" left")
