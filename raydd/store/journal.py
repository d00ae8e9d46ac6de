"""The one sink of live metrics: ``metrics.jsonl`` of the run, a line per event.

Objects of a store cannot be appended to, and writers who read one and write it again lose each
other's lines. There every writer has objects of its own, ``metrics/*.jsonl`` in order of time.
"""

import json
import time
import uuid
from collections.abc import Iterator
from typing import Any

from upath import UPath

from raydd.store.files import is_local

_OBJECT_EVENTS = 100  # an object is written again with each event: bounds what is sent

_BEAT, _FAR_BEAT = 5.0, 30.0  # seconds from one sign of life to the next: locally, on a store


class Journal:
    """Appends one json line per event; many processes may write at once.

    Args:
        path: the file, or None to keep nothing; on an object store, its name without the ending
            is the folder of the writers' objects.
    """

    def __init__(self, path: str | None) -> None:
        self.path = UPath(path) if path else None
        self._lines: list[str] = []
        local = self.path is None or is_local(self.path)
        self._pause, self._beaten = (_BEAT if local else _FAR_BEAT), time.monotonic()

    def log(self, stage: str, **values: Any) -> None:
        """Append an event with its stage and the wall time in seconds since the epoch."""
        if self.path is None:
            return
        line = json.dumps({"time": round(time.time(), 3), "stage": stage, **values}) + "\n"
        if is_local(self.path):
            with self.path.open("a") as file:
                file.write(line)
        else:
            self._put(self.path.with_suffix(""), line)

    def beat(self, stage: str, at: float, of: float, **values: Any) -> None:
        """Say how far a training or a long unit is; may be called often, writes seldom.

        Args:
            stage: that it belongs to.
            at: what is done of it.
            of: what is to be done.
            values: its names, what is counted (``counts``), and results; tensors and functions of
                no argument are read only when the line is written.
        """
        if self.path is None or time.monotonic() - self._beaten < self._pause:
            return
        self._beaten = time.monotonic()
        told = {
            key: float(v() if callable(v) else v) if _lazy(v) else v for key, v in values.items()
        }
        self.log(stage, beat=True, at=at, of=of, **told)

    def _put(self, folder: UPath, line: str) -> None:
        """Write this writer's newest object again with one more line; a full one is left alone."""
        if len(self._lines) % _OBJECT_EVENTS == 0:
            self._lines = []
            self._object = folder / f"{time.time_ns()}-{uuid.uuid4().hex[:8]}.jsonl"
        self._lines.append(line)
        self._object.write_text("".join(self._lines))


def read_events(folder: UPath) -> Iterator[dict[str, Any]]:
    """Stream the events of a run that may still be writing; torn lines and beats are passed over.

    Args:
        folder: of the run; one without metrics has no events.
    """
    objects = sorted((folder / "metrics").glob("*.jsonl"), key=str)
    for path in [folder / "metrics.jsonl", *objects]:
        try:
            with path.open("rb") as lines:
                yield from filter(None, map(_event, lines))
        except FileNotFoundError:
            continue


def _event(line: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and not event.get("beat") else None


def _lazy(value: Any) -> bool:
    return callable(value) or hasattr(value, "item")
