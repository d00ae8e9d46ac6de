"""Which unit a free worker takes next: decided here and nowhere else, without Ray or a clock.

The pool asks it for real workers, ``benchmarks/replay.py`` for a thousand simulated ones.
"""

from collections import deque
from collections.abc import Hashable
from statistics import median

_LATE = 2.0  # a unit that has taken that many times the usual is expected to take as long again


class UnitQueue:
    """Hands out the numbers of units in order; a lost one comes first again, then last.

    When none is left, a free worker gets a unit that it would finish before the worker that has it:
    that one may be slow or cut off. Units are functions of their number alone and appear whole, so
    whoever finishes first is right and the other does no harm.

    Args:
        count: of units.
    """

    def __init__(self, count: int) -> None:
        self.unfinished = set(range(count))
        self._waiting = deque(range(count))
        self._taken: dict[int, dict[Hashable, float]] = {}  # unit: since when each worker has it
        self._lost: set[int] = set()
        self._pace: dict[Hashable, float] = {}  # what the newest unit of each worker took, s

    def take(self, worker: Hashable, now: float) -> int | None:
        """The next unit for a free worker, None while there is nothing for it to do.

        Args:
            worker: who asks.
            now: s, of any clock that rises.
        """
        unit = self._waiting.popleft() if self._waiting else self._late(worker, now)
        if unit is not None:
            self._taken.setdefault(unit, {})[worker] = now
        return unit

    def finish(self, unit: int, worker: Hashable, now: float) -> bool:
        """A worker has done a unit; returns whether it was the first to do so."""
        self._pace[worker] = now - self._taken[unit].pop(worker)
        is_first = unit in self.unfinished
        self.unfinished.discard(unit)
        return is_first

    def lose(self, unit: int, worker: Hashable) -> None:
        """A worker is gone with the unit that it had taken."""
        del self._taken[unit][worker]
        self._pace.pop(worker, None)
        if unit not in self.unfinished or self._taken[unit]:
            return
        if unit in self._lost:  # it may be what ends its workers: the others first
            self._waiting.append(unit)
        else:
            self._waiting.appendleft(unit)
        self._lost.add(unit)

    def _late(self, worker: Hashable, now: float) -> int | None:
        """The last unit to be finished as it looks, if the worker would finish it earlier."""
        single = [unit for unit in self.unfinished if len(self._taken[unit]) == 1]
        if not single or not self._pace:
            return None
        usual = median(self._pace.values())
        ends = {unit: self._end(unit, usual, now) for unit in single}
        last = max(single, key=lambda unit: (ends[unit], -unit))
        return last if now + self._pace.get(worker, usual) < ends[last] else None

    def _end(self, unit: int, usual: float, now: float) -> float:
        """When a unit in flight is expected to be finished."""
        ((worker, since),) = self._taken[unit].items()
        if now - since > _LATE * usual and now - since > self._pace.get(worker, usual):
            return now + (now - since)
        return max(now, since + self._pace.get(worker, usual))
