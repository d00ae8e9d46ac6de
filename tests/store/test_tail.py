"""New events of a journal, each read once."""

import fsspec
import pytest
from upath import UPath

from raydd.store.journal import Journal, read_events
from raydd.store.tail import JournalTail


@pytest.fixture(params=["local", "memory"])
def folder(request, tmp_path):
    if request.param == "local":
        yield UPath(tmp_path)
    else:
        yield UPath("memory://tail/run")
        fsspec.filesystem("memory").rm("/tail", recursive=True)


def test_each_event_is_read_once(folder):
    journal = Journal(str(folder / "metrics.jsonl"))
    journal.log("squeeze", epoch=1)
    tail = JournalTail(folder)
    assert list(tail.events()) == []
    journal.log("squeeze", epoch=2)
    Journal(str(folder / "metrics.jsonl")).log("score", rows=7)
    found = list(tail.events())
    assert sorted(event["stage"] for event in found) == ["score", "squeeze"]
    assert list(tail.events()) == []


def test_a_line_that_is_being_written_waits(tmp_path):
    tail = JournalTail(UPath(tmp_path))
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"stage": "a"}\n{"stage": ')
    assert [event["stage"] for event in tail.events()] == ["a"]
    path.write_text('{"stage": "a"}\n{"stage": "b"}\n')
    assert [event["stage"] for event in tail.events()] == ["b"]


def test_beats_are_seldom_and_no_events_of_a_run(tmp_path, monkeypatch):
    journal = Journal(str(tmp_path / "metrics.jsonl"))
    tail, read = JournalTail(UPath(tmp_path)), []
    for step in range(100):
        journal.beat("squeeze", step, 100, loss=lambda: read.append(1) or 0.5)
    assert not list(tail.events())  # no pause has passed
    monkeypatch.setattr("raydd.store.journal._BEAT", 0.0)
    journal = Journal(str(tmp_path / "metrics.jsonl"))
    journal.beat("squeeze", 7, 100, loss=lambda: read.append(1) or 0.5)
    (event,) = tail.events()
    assert (event["at"], event["of"], event["loss"]) == (7, 100, 0.5)
    assert len(read) == 1
    assert not list(read_events(UPath(tmp_path)))
