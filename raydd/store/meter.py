"""How far the running stage is: what the driver counts, and what processes write of their work.

A unit that is finished is counted where the driver learns of it: nobody looks for files meanwhile.
Of a training, or of a long unit, its process leaves a line in the journal from time to time, see
:meth:`raydd.store.journal.Journal.beat`.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from raydd.ops.describe import duration

_POSITIONS = (("at", "epoch"), ("of", "epochs"))  # of a beat, and of an event
_NAMES = ("unit", "title", "architecture", "images", "seed", "observer", "round")


@dataclass(frozen=True)
class Piece:
    """A training, or a unit in work.

    Attributes:
        at: what is done of it.
        of: what is to be done.
        start: what was found done when its process began.
        noun: what is counted, e.g. "epoch".
        text: loss and accuracy, where they are known.
    """

    at: float
    of: float
    start: float
    noun: str
    text: str

    @property
    def share(self) -> float:
        """Done of it, [0, 1]."""
        return min(1.0, self.at / self.of)


@dataclass
class Meter:
    """Of one stage.

    Attributes:
        units: of the stage; 0 where it has none.
        finished: of them.
        rows: that came out of a pass since its start.
        pieces: what is in work, by name.
    """

    units: int = 0
    finished: int = 0
    rows: int = 0
    pieces: dict[str, Piece] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Note what was finished before."""
        self._found = self.finished

    def hear(self, event: Mapping[str, Any]) -> None:
        """Take an event of the journal into account."""
        name = " ".join(str(event[key]) for key in _NAMES if key in event)
        at, of = (event.get(key, event.get(other)) for key, other in _POSITIONS)
        if at is not None and of:
            known = self.pieces.get(name)
            start = event.get("start", known.start if known else 0.0)
            text = _results(event) or (known.text if known else "")
            noun = event.get("counts", known.noun if known else "epoch")
            self.pieces[name] = Piece(at, of, start, noun, text)
        elif "unit" in event:
            self.pieces.pop(name, None)

    def describe(self, seconds: float) -> str:
        """What a person wants to know after so many seconds of the stage; "" while nothing is."""
        share, first = self._shares()
        if self.units:
            rate = _rate(self.finished - self._found, seconds, "units")
            parts = [f"{self.finished:,} of {self.units:,} units", *self._inside()]
            parts += [f"{self.rows / seconds:,.0f} rows/s"] if self.rows else [rate]
        elif self.pieces:
            piece = list(self.pieces.values())[-1]
            parts = [f"{100 * share:.0f} %", _position(piece), piece.text]
            parts.append(_rate(piece.at - piece.start, seconds, f"{piece.noun}s"))
        else:
            return f"{self.rows / seconds:,.0f} rows/s" if self.rows else ""
        if first < share < 1:
            parts.append(f"{duration(seconds * (1 - share) / (share - first))} left")
        return ", ".join(part for part in parts if part)

    def position(self) -> str:
        """Where the piece that was heard of last is, without a rate; "" where there is none."""
        if not self.pieces:
            return ""
        piece = list(self.pieces.values())[-1]
        parts = f"{100 * piece.share:.0f} %", _position(piece), piece.text
        return ", ".join(part for part in parts if part)

    def _shares(self) -> tuple[float, float]:
        """Of the whole stage: what is done, and what was before this run, [0, 1]."""
        if self.units:
            inside = sum(piece.share for piece in self.pieces.values() if piece.share < 1)
            return min(1.0, (self.finished + inside) / self.units), self._found / self.units
        pieces = self.pieces.values()
        count = max(1, len(pieces))
        return sum(p.share for p in pieces) / count, sum(p.start / p.of for p in pieces) / count

    def _inside(self) -> list[str]:
        """The piece that was heard of last."""
        working = [piece for piece in self.pieces.values() if piece.share < 1]
        if not working:
            return []
        piece = working[-1]
        told = f"{_position(piece)}, {piece.text}" if piece.text else _position(piece)
        more = f" and {len(working) - 1} more" if len(working) > 1 else ""
        return [f"in work: {told}{more}"]


_current: ContextVar[Meter | None] = ContextVar("meter", default=None)


@contextmanager
def measuring(meter: Meter) -> Iterator[None]:
    """Have :func:`advance` count for a stage meanwhile."""
    token = _current.set(meter)
    try:
        yield
    finally:
        _current.reset(token)


def advance(units: int = 0, rows: int = 0) -> None:
    """Count finished units, or rows, of the stage that runs here, if one does."""
    if meter := _current.get():
        meter.finished = min(meter.finished + units, meter.units)  # found done twice is done
        meter.rows += rows


def _position(piece: Piece) -> str:
    at = f"{piece.at:,.1f}" if piece.of < 1000 and piece.at % 1 else f"{piece.at:,.0f}"
    return f"{piece.noun} {at} of {piece.of:,.0f}"


def _results(event: Mapping[str, Any]) -> str:
    loss, top1 = event.get("loss"), event.get("top1")
    parts = [f"loss {loss:.3g}"] if isinstance(loss, float) else []
    return ", ".join(parts + ([f"top-1 {100 * top1:.1f} %"] if isinstance(top1, float) else []))


def _rate(count: float, seconds: float, noun: str) -> str:
    if count <= 0 or seconds <= 0:
        return ""
    per = {"s": count / seconds, "min": 60 * count / seconds, "h": 3600 * count / seconds}
    unit = next((unit for unit, rate in per.items() if rate >= 1), "h")
    return f"{per[unit]:.1f} {noun}/{unit}"
