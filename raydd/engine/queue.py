"""Which unit a free worker takes next: decided here and nowhere else, without Ray or a clock.

The pool asks it for real workers, ``benchmarks/scaling.py`` for a thousand simulated ones.
"""

from collections import Counter, deque
from statistics import median

_SLOW = 2.0  # a unit that takes that many times the median is started a second time


class UnitQueue:
    """Hands out the numbers of units in order; a lost one comes first again.

    When none is left, a unit that takes much longer than the others did is handed out a second
    time: its worker may be slow or cut off. Units are functions of their number alone and appear
    whole, so whoever finishes first is right and the other does no harm.

    Args:
        count: of units.
    """

    def __init__(self, count: int) -> None:
        self.unfinished = set(range(count))
        self._waiting = deque(range(count))
        self._since: dict[int, float] = {}  # start of each unit in flight
        self._copies: Counter[int] = Counter()
        self._seconds: list[float] = []

    def take(self, now: float) -> int | None:
        """The next unit for a free worker, None while there is nothing for it to do.

        Args:
            now: s, of any clock that rises.
        """
        unit = self._waiting.popleft() if self._waiting else self._slowest(now)
        if unit is not None:
            self._since.setdefault(unit, now)
            self._copies[unit] += 1
        return unit

    def finish(self, unit: int, now: float) -> bool:
        """A worker has done a unit; returns whether it was the first to do so."""
        self._copies[unit] -= 1
        if unit not in self.unfinished:
            return False
        self.unfinished.remove(unit)
        self._seconds.append(now - self._since.pop(unit))
        return True

    def lose(self, unit: int) -> None:
        """A worker is gone with the unit that it had taken."""
        self._copies[unit] -= 1
        if unit in self.unfinished and not self._copies[unit]:
            del self._since[unit]
            self._waiting.appendleft(unit)

    def _slowest(self, now: float) -> int | None:
        """The oldest unit in flight, if it is late and has one worker only."""
        single = [unit for unit in self._since if self._copies[unit] == 1]
        if not single or not self._seconds:
            return None
        oldest = min(single, key=self._since.__getitem__)
        late = now - self._since[oldest] > _SLOW * median(self._seconds)
        return oldest if late else None
