"""Independent units on every worker: each takes the next one as soon as it is free.

Ray Train binds its workers into one group: a death restarts all of them, and a machine that joins
is not used before that. Units need no group. Here a death costs the unit in flight, a machine that
joins gets a worker, and a slow worker does fewer units; which units are done where changes no byte.
On CPUs this process begins, and others join where they are worth their start.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError, RayTaskError

from raydd.cluster.queue import UnitQueue
from raydd.cluster.resources import Resources
from raydd.cluster.threads import set_threads, torch_threads
from raydd.store.meter import advance

WORTH_SECONDS = 15.0  # of this process, for which others are started
_POLL_SECONDS = 1.0

Job = TypeVar("Job")
Unit = TypeVar("Unit")
_Load = Callable[[Any], Callable[[Any], None]]


def run_units(
    load: Callable[[Job], Callable[[Unit], None]],
    job: Job,
    units: Sequence[Unit],
    resources: Resources,
) -> None:
    """Do every unit once, or more often where workers die or are late.

    Args:
        load: called once by each worker; loads the networks and returns what does a unit, whose
            result must appear whole or not at all and depend on job and unit alone.
        job: its picklable argument.
        units: picklable, in the order in which they are started.
        resources: how many workers; 0 does all in this process, None on CPUs does what this
            process finishes soon, and has a worker on every core for the rest.
    Raises:
        RuntimeError: workers died again and again and no unit was finished in between.
    """
    if not units:
        return
    if not resources.begins_here:
        _share_out(_Pool(load, job, units, resources))
        return
    with torch_threads(resources.threads_per_worker):
        work = load(job)
        if left := _begin(work, units, resources.count_unit_workers()):
            _share_out(_Pool(load, job, left, resources, work))


def _begin(work: Callable[[Unit], None], units: Sequence[Unit], others: int) -> Sequence[Unit]:
    """Do units here until none is left, or ``others`` are worth their start for those that are."""
    begin = time.monotonic()
    for done, unit in enumerate(units, 1):
        work(unit)
        advance(units=1)
        left = len(units) - done
        seconds = (time.monotonic() - begin) / done * left
        if min(others, left) > 1 and seconds > WORTH_SECONDS:
            return units[done:]
    return []


def _share_out(pool: "_Pool") -> None:
    try:
        pool.run()
    finally:
        pool.close()


class _Worker:
    """The actor; its networks are loaded when it is asked whether it is ready."""

    def __init__(self, load: _Load, job: Any, threads: int) -> None:
        self.load, self.job, self.threads = load, job, threads

    def ready(self) -> None:
        set_threads(self.threads)
        self.work = self.load(self.job)

    def do(self, unit: Any) -> None:
        self.work(unit)


class _Pool:
    """Workers, and what each of them is doing.

    Args:
        load: see :func:`run_units`.
        job: of it.
        units: to be done.
        resources: how many workers.
        here: does a unit in this process while the workers load what they need.
    """

    def __init__(
        self,
        load: _Load,
        job: Any,
        units: Sequence[Any],
        resources: Resources,
        here: Callable[[Any], None] | None = None,
    ) -> None:
        self.resources, self.units, self.here = resources, units, here
        self.queue = UnitQueue(len(units))
        self.arguments = (load, ray.put(job), resources.threads_per_worker)
        holds = resources.per_worker
        cpus, gpus = holds.get("CPU", 0), holds.get("GPU", 0)
        self.actor: Any = ray.remote(num_cpus=cpus, num_gpus=gpus, max_restarts=0)(_Worker)
        self.busy: dict[Any, tuple[Any, int | None]] = {}  # answer: worker, number of its unit
        self.idle: list[Any] = []
        self.losses = 0

    def run(self) -> None:
        while self.queue.unfinished:
            self._grow()
            self._hand_out()
            was_busy = self._do_here()
            answers, _ = ray.wait(list(self.busy), timeout=0 if was_busy else _POLL_SECONDS)
            for answer in answers:
                self._receive(answer)

    def close(self) -> None:
        for worker in [*self.idle, *(worker for worker, _ in self.busy.values())]:
            ray.kill(worker)

    def _grow(self) -> None:
        """Ask for the workers that are missing; those without room wait for a machine."""
        wanted = min(self._most(), len(self.queue.unfinished))
        for _ in range(wanted - len(self.busy) - len(self.idle)):
            worker = self.actor.remote(*self.arguments)
            self.busy[worker.ready.remote()] = (worker, None)

    def _most(self) -> int:
        return max(1, self.resources.count_unit_workers())  # GPUs may all be gone for a while

    def _hand_out(self) -> None:
        for worker in self.idle.copy():
            if (unit := self.queue.take(worker, time.monotonic())) is None:
                continue
            self.idle.remove(worker)
            self.busy[worker.do.remote(self.units[unit])] = (worker, unit)

    def _do_here(self) -> bool:
        """Do a unit in this process, if it can and no worker is ready; returns whether it did."""
        if self.here is None or any(unit is not None for _, unit in self.busy.values()):
            return False
        if (unit := self.queue.take(self, time.monotonic())) is None:
            return False
        self.here(self.units[unit])
        advance(units=self.queue.finish(unit, self, time.monotonic()))
        return True

    def _receive(self, answer: Any) -> None:
        worker, unit = self.busy.pop(answer)
        try:
            ray.get(answer)
        except RayTaskError as error:
            raise error.cause from error
        except RayError as error:  # a death: see raydd.cluster.deaths
            self._lose(worker, unit, error)
            return
        self.idle.append(worker)
        if unit is not None:
            advance(units=self.queue.finish(unit, worker, time.monotonic()))
            self.losses = 0

    def _lose(self, worker: Any, unit: int | None, error: Exception) -> None:
        ray.kill(worker)  # it may only be out of reach
        if unit is not None:
            self.queue.lose(unit, worker)
        self.losses += 1
        if self.losses > self.resources.max_failures * self._most():
            doing = "loading its networks" if unit is None else f"doing {_name(self.units[unit])}"
            raise RuntimeError(
                f"workers died {self.losses} times and finished nothing in between, the last while "
                f"{doing}; run the same command to continue"
            ) from error


def _name(unit: Any) -> str:
    return str(getattr(unit, "name", unit))
