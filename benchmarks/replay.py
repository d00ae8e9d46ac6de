"""What a stage of units costs on 16 to 1,000 workers, replayed with the engine's own queue.

Simulated workers take units from :class:`raydd.cluster.queue.UnitQueue`, the one that the engine
uses. Unit times spread around --unit seconds as recorded ones did: those of a run's journal
(--recorded), else quantiles of such a run that are kept here. Some workers are slow, and spot
machines are taken away and come back. Beside it the fixed shares of a group of workers (every n-th
unit, as with Ray Train). Efficiency is the work at nominal speed over workers times wall time. The
units are those of --curricula stages, one after another. The last line is the lowest efficiency of
the queue where each worker has at least 20 units of a stage (of all, where none has).

    python benchmarks/replay.py
    python benchmarks/replay.py --units 1045 2090 --curricula 4   # in21k, ipc 10, 20
    python benchmarks/replay.py --units 8360 --unit 15 --curricula 4   # ipc 20, batch 25
    python benchmarks/replay.py --recorded runs/mine            # its synthesize units
"""

import argparse
import heapq
import itertools
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from upath import UPath

from raydd.cluster.queue import UnitQueue
from raydd.store.journal import read_events

# of 100 unit times of `method=cda` on CIFAR-10, two workers on two cores: every fifth percentile
SPREAD = (
    0.941, 0.947, 0.958, 0.962, 0.966, 0.970, 0.974, 0.979, 0.982, 0.987,
    0.994, 1.002, 1.011, 1.015, 1.021, 1.025, 1.038, 1.054, 1.069, 1.102,
)  # fmt: skip
_TICK = 1.0  # s, how often an idle worker asks again, as the pool polls


@dataclass(frozen=True)
class World:
    """What happens to workers.

    Attributes:
        slow: fraction of the workers that are slow.
        slowness: how many times longer they take.
        life: mean time until a machine is taken away, s; 0 is never.
        absence: from then to the first unit of its replacement, s.
        spread: unit times, as multiples of their mean.
    """

    slow: float = 0.0
    slowness: float = 3.0
    life: float = 0.0
    absence: float = 180.0
    spread: Sequence[float] = SPREAD


WORLDS = {
    "calm": World(),
    "5 % of workers 3 x slow": World(slow=0.05),
    "spot: a machine lasts 2 h": World(life=7200.0),
    "both": World(slow=0.05, life=7200.0),
}


class Worker:
    """Draws what happens to one simulated machine."""

    def __init__(self, number: int, world: World, unit: float) -> None:
        self.draws = random.Random(number)
        self.world, self.unit = world, unit
        is_slow = world.slow > 0 and number % round(1 / world.slow) == 0
        self.factor = world.slowness if is_slow else 1.0
        self.end = self._life(0.0)

    def work(self, now: float) -> tuple[float, bool]:
        """When a unit that is begun now ends, and whether it is finished then."""
        done = now + self.unit * self.factor * self.draws.choice(self.world.spread)
        return (done, True) if done < self.end else (self.end, False)

    def replace(self, now: float) -> float:
        """When the machine is back."""
        back = now + self.world.absence
        self.end = self._life(back)
        return back

    def _life(self, now: float) -> float:
        mean = self.world.life
        return now + self.draws.expovariate(1 / mean) if mean else float("inf")


def replay_queue(units: int, workers: int, unit: float, world: World) -> float:
    """Wall seconds with the engine's queue, asked as the engine's pool asks it."""
    queue, order = UnitQueue(units), itertools.count()
    fleet = [Worker(number, world, unit) for number in range(workers)]
    idle, now = list(range(workers)), 0.0
    events: list[tuple[float, int, int, int | None, bool]] = []  # time, tie, worker, unit, finished
    while queue.unfinished:
        for number in idle.copy():
            if (taken := queue.take(number, now)) is None:
                break
            idle.remove(number)
            end, finished = fleet[number].work(now)
            heapq.heappush(events, (end, next(order), number, taken, finished))
        if idle and events[0][0] > now + _TICK:
            now += _TICK
            continue
        now, _, number, taken, finished = heapq.heappop(events)
        if finished and taken is not None:
            queue.finish(taken, number, now)
        elif taken is not None:
            queue.lose(taken, number)
            back = fleet[number].replace(now)
            heapq.heappush(events, (back, next(order), number, None, False))
            continue
        idle.append(number)
    return now


def replay_shares(units: int, workers: int, unit: float, world: World) -> float | None:
    """Wall seconds of fixed shares in one group, which starts again when it loses a member.

    None where the group is lost again and again before it gets anywhere.
    """
    fleet = [Worker(number, world, unit) for number in range(workers)]
    left = [len(range(number, units, workers)) for number in range(workers)]
    now, most = 0.0, 20 * unit * units / workers
    while now < most:
        loss = min(worker.end for worker in fleet)
        clocks = []
        for number, worker in enumerate(fleet):
            clock = now
            while left[number] and (end := worker.work(clock)[0]) < loss:
                clock, left[number] = end, left[number] - 1
            clocks.append(clock)
        if not any(left):
            return max(clocks)
        now = max(worker.replace(loss) for worker in fleet if worker.end <= loss)
    return None


def recorded_spread(folder: str, stage: str) -> list[float]:
    """Unit times of a run as multiples of their mean."""
    events = (event for event in read_events(UPath(folder)) if event.get("stage") == stage)
    seconds = sorted(event["seconds"] for event in events if "unit" in event)
    if not seconds:
        raise SystemExit(f"{folder} is no run that has recorded units of {stage}")
    mean = sum(seconds) / len(seconds)
    print(f"{len(seconds)} units of {stage}, mean {mean:.2f} s, {seconds[0]:.2f} to "
          f"{seconds[-1]:.2f} s")  # fmt: skip
    return [one / mean for one in seconds]


def efficiency(seconds: float, units: int, workers: int, unit: float) -> float:
    """Work at nominal speed over what the workers were there for."""
    return units * unit / (workers * seconds)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--unit", type=float, default=60.0, help="mean seconds of a unit")
    parser.add_argument("--units", type=int, nargs="+", default=[1_045, 2_090, 20_000])
    parser.add_argument("--workers", type=int, nargs="+", default=[16, 64, 256, 1_000])
    parser.add_argument("--curricula", type=int, default=1, help="stages that share the units")
    parser.add_argument("--recorded", help="folder of a run whose unit times set the spread")
    parser.add_argument("--stage", default="synthesize", help="of the recorded run")
    parser.add_argument("--quick", action="store_true", help="accepted, it takes seconds anyway")
    chosen = parser.parse_args()
    spread = recorded_spread(chosen.recorded, chosen.stage) if chosen.recorded else SPREAD
    found: dict[bool, list[float]] = {True: [], False: []}
    for units, (name, world) in itertools.product(chosen.units, WORLDS.items()):
        world = replace(world, spread=spread)
        print(f"{units} units of {chosen.unit:g} s, {name}")
        for workers in chosen.workers:
            each = math.ceil(units / chosen.curricula)
            queue = replay_queue(each, workers, chosen.unit, world)
            shares = replay_shares(each, workers, chosen.unit, world)
            ours = efficiency(queue, each, workers, chosen.unit)
            theirs = f"{efficiency(shares, each, workers, chosen.unit):.1%}" if shares else "no end"
            print(f"  {workers:5} workers: queue {ours:6.1%}, {queue * chosen.curricula / 60:6.1f} "
                  f"min; fixed shares {theirs}")  # fmt: skip
            found[each >= 20 * workers].append(ours)
    print(f"value: {min(found[True] or found[False]):.3f} lowest efficiency, "
          f"{'20 units or more' if found[True] else 'fewer than 20 units'} per worker")  # fmt: skip


if __name__ == "__main__":
    main()
