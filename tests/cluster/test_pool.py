"""Units on workers that die, are late, are broken or join later."""

import os
import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import ray
from hypothesis import given
from hypothesis import strategies as st

from raydd.cluster.pool import run_units
from raydd.cluster.queue import UnitQueue
from tests.small_engine import resources


def test_units_go_out_in_order_and_a_lost_one_comes_first_again_then_last():
    queue = UnitQueue(4)
    assert [queue.take("a", 0.0), queue.take("b", 0.0)] == [0, 1]
    queue.lose(0, "a")
    assert queue.take("c", 1.0) == 0
    queue.lose(0, "c")
    assert queue.finish(1, "b", 1.0)
    assert [queue.take("b", 1.0), queue.take("d", 1.0), queue.take("e", 1.0)] == [2, 3, 0]


def test_a_unit_of_a_slow_worker_is_handed_out_again_to_one_that_finishes_it_earlier():
    queue = UnitQueue(4)
    assert [queue.take("slow", 0.0), queue.take("fast", 0.0)] == [0, 1]
    queue.finish(1, "fast", 10.0)
    assert queue.take("fast", 10.0) == 2
    queue.finish(2, "fast", 20.0)
    queue.finish(0, "slow", 30.0)
    assert queue.take("slow", 30.0) == 3  # until 60 s, as it looks
    assert queue.take("fast", 55.0) is None  # it would be later
    assert queue.take("fast", 40.0) == 3
    assert queue.take("new", 41.0) is None  # two have it
    assert queue.finish(3, "fast", 50.0)
    assert not queue.finish(3, "slow", 60.0)


def test_a_unit_that_takes_much_longer_than_usual_is_handed_out_again():
    queue = UnitQueue(2)
    assert [queue.take("a", 0.0), queue.take("b", 0.0)] == [0, 1]
    assert queue.take("c", 99.0) is None  # nobody knows yet how long a unit takes
    queue.finish(1, "b", 100.0)
    assert queue.take("b", 199.0) is None
    assert queue.take("b", 201.0) == 0
    queue.lose(0, "a")
    assert queue.unfinished == {0}
    assert queue.finish(0, "b", 301.0)


@given(st.integers(0, 12), st.integers(1, 5), st.randoms(use_true_random=False))
def test_every_unit_is_finished_once_whatever_happens(count, workers, random):
    queue, busy, first, now = UnitQueue(count), {}, [], 0.0
    while queue.unfinished:
        now += random.random()
        for worker in set(range(workers)) - set(busy):
            if (unit := queue.take(worker, now)) is not None:
                busy[worker] = unit
        worker = random.choice(sorted(busy))
        unit = busy.pop(worker)
        if random.random() < 0.3:
            queue.lose(unit, worker)
        elif queue.finish(unit, worker, now):
            first.append(unit)
    assert sorted(first) == list(range(count))


@dataclass(frozen=True)
class Job:
    """What :class:`Writer` does; ``kills`` and ``breaks`` name units."""

    folder: str
    seconds: float = 0.0
    kills: tuple[int, ...] = ()
    deaths: int = 1
    breaks: int = -1


class Writer:
    """Notes its process under the unit's name, or ends as it is told."""

    def __init__(self, job: Job) -> None:
        self.job, self.folder = job, Path(job.folder)

    def __call__(self, unit: int) -> None:
        if unit == self.job.breaks:
            raise ValueError(f"unit {unit} is broken")
        with (self.folder / f"{unit}.tries").open("a") as tries:
            tries.write(f"{os.getpid()}\n")
        tried = len((self.folder / f"{unit}.tries").read_text().split())
        if unit in self.job.kills and tried <= self.job.deaths:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self.job.seconds)
        (self.folder / f"{unit}.done").write_text(str(os.getpid()))


@pytest.fixture(autouse=True)
def by_value():
    """Workers do not import the tests."""
    import sys

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def done(folder: Path) -> dict[int, int]:
    return {int(path.stem): int(path.read_text()) for path in folder.glob("*.done")}


def test_in_this_process(tmp_path):
    run_units(Writer, Job(str(tmp_path)), [2, 0, 1], resources())
    assert done(tmp_path) == dict.fromkeys(range(3), os.getpid())


def test_short_work_on_cpus_starts_nobody(tmp_path):
    automatic = replace(resources(parallel=2), unit_workers=None)
    run_units(Writer, Job(str(tmp_path), 0.01), range(9), automatic)
    assert done(tmp_path) == dict.fromkeys(range(9), os.getpid())


def test_long_work_on_cpus_begins_here_and_goes_on_where_there_is_room(ray4, tmp_path):
    """Units of half a second, too many for one process, which works while others start."""
    automatic = replace(resources(parallel=2), unit_workers=None)
    run_units(Writer, Job(str(tmp_path), 0.5), range(70), automatic)
    assert sorted(done(tmp_path)) == list(range(70))
    processes = list(done(tmp_path).values())
    assert len(set(processes)) == 3
    assert 1 < processes.count(os.getpid()) < 68


def test_a_dead_worker_costs_the_unit_in_flight(ray4, tmp_path):
    run_units(Writer, Job(str(tmp_path), 0.1, kills=(1, 4)), range(8), resources(2))
    assert sorted(done(tmp_path)) == list(range(8))
    assert os.getpid() not in done(tmp_path).values()
    tries = {unit: len((tmp_path / f"{unit}.tries").read_text().split()) for unit in range(8)}
    assert tries == {unit: 2 if unit in (1, 4) else 1 for unit in range(8)}


@pytest.mark.slow
def test_a_unit_that_always_ends_its_worker_is_named_and_the_others_are_kept(ray4, tmp_path):
    few = replace(resources(2), max_failures=1)
    with pytest.raises(RuntimeError, match=r"died 3 times .* the last while doing 5; run the same"):
        run_units(Writer, Job(str(tmp_path), kills=(5,), deaths=9), range(8), few)
    assert sorted(done(tmp_path)) == [0, 1, 2, 3, 4, 6, 7]


def test_an_error_of_a_unit_ends_the_stage_as_it_is(ray4, tmp_path):
    with pytest.raises(ValueError, match=r"^unit 3 is broken$"):
        run_units(Writer, Job(str(tmp_path), breaks=3), range(8), resources(2))


@pytest.mark.slow
def test_a_worker_that_finds_no_room_does_not_hold_a_unit(ray4, tmp_path):
    """Six are asked for, the cluster has four CPUs: those that wait for a machine have no unit."""
    run_units(Writer, Job(str(tmp_path), 0.3), range(12), replace(resources(), unit_workers=6))
    assert sorted(done(tmp_path)) == list(range(12))
    assert 1 < len(set(done(tmp_path).values())) <= ray4.cluster_resources()["CPU"]
