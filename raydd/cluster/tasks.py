"""Independent jobs as Ray tasks."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, TypeVar

import ray
import torch
from ray.exceptions import RayTaskError

from raydd.cluster.resources import Resources
from raydd.cluster.threads import set_threads
from raydd.errors import out_of_device_memory
from raydd.store.memory import release_memory
from raydd.store.meter import advance

_POLL_SECONDS = 1.0  # how often machines that joined are seen
_MOST_PER_GPU = 8  # more take turns at its launches
_MARGIN = 0.9  # of a GPU's memory

Job = TypeVar("Job")
Outcome = TypeVar("Outcome")


def run_many(
    work: Callable[[Job], Outcome],
    jobs: Iterable[Job],
    resources: Resources,
    on_cpu: bool = False,
) -> list[Outcome]:
    """Run independent jobs as Ray tasks, one device or ``threads_per_worker`` cores each.

    Small jobs share a GPU: as many as its memory holds, once one of them has told what it takes.
    One that finds the memory full all the same is done again, with a GPU of its own.

    Args:
        work: does a job; sent once. It is called again after a failure and must then return what
            is there.
        jobs: picklable; taken one by one, as tasks end.
        resources: how many run at once, and where.
        on_cpu: whether the jobs have no use for a GPU.
    Returns:
        What each job came to, in their order.
    Raises:
        Exception: what a job raised; a process or node that dies is replaced.
    """
    queue = _Queue(work, resources, on_cpu)
    waiting = enumerate(jobs)
    while True:
        while queue.has_room() and (taken := next(waiting, None)) is not None:
            queue.start(*taken)
        if not queue.running:
            return [queue.outcomes[number] for number in sorted(queue.outcomes)]
        answers, _ = ray.wait(list(queue.running), timeout=_POLL_SECONDS)
        for answer in answers:
            queue.receive(answer)


def fitting_tasks(peak: int, memory: int, cores: int) -> int:
    """How many tasks share a GPU.

    Args:
        peak: bytes that the largest of them took, with what its process takes.
        memory: bytes of the GPU.
        cores: CPUs for each GPU: small tasks wait for the one that launches their kernels.
    """
    return max(1, min(_MOST_PER_GPU, int(_MARGIN * memory) // max(1, peak), cores))


@dataclass(frozen=True)
class _Running(Generic[Job]):
    number: int
    job: Job
    each: int  # tasks that share its GPU


class _Queue(Generic[Job, Outcome]):
    """Tasks that run, and what came of those that ended."""

    def __init__(self, work: Callable[[Job], Outcome], resources: Resources, on_cpu: bool) -> None:
        self.resources, self.on_cpu, self.work = resources, on_cpu, ray.put(work)
        self.on_gpu = resources.use_gpu and not on_cpu
        self.each = (resources.tasks_per_gpu or 1) if self.on_gpu else 1
        self.is_measured = self.on_gpu and resources.tasks_per_gpu is None
        self.peak = 0
        self.running: dict[Any, _Running[Job]] = {}
        self.outcomes: dict[int, Outcome] = {}

    def has_room(self) -> bool:
        """Whether another task would find a device now."""
        held = sum(1 / task.each for task in self.running.values())
        return held + 1 / self.each <= self.resources.count_parallel(self.on_cpu) + 1e-6

    def start(self, number: int, job: Job, alone: bool = False) -> None:
        """Start a task."""
        each = 1 if alone else self.each
        gpus = int(1e4 / each) / 1e4 if self.on_gpu else 0  # Ray counts ten-thousandths
        task = _remote(self.resources.max_failures, gpus)
        answer = task.remote(self.work, job, self.resources.threads_per_worker)
        self.running[answer] = _Running(number, job, each)

    def receive(self, answer: Any) -> None:
        """Take what a task came to, or start it again with more room."""
        task = self.running.pop(answer)
        try:
            outcome, memory = ray.get(answer)
        except RayTaskError as error:
            if task.each > 1 and out_of_device_memory(error):
                self.each, self.is_measured = 1, False
                self.start(task.number, task.job, alone=True)
                return
            raise error.cause from error
        self.outcomes[task.number] = outcome
        advance(units=1)
        if memory and self.is_measured and task.each == 1:
            self.peak, total = max(self.peak, memory[0]), memory[1]
            self.each = fitting_tasks(self.peak, total, self._cores())

    def _cores(self) -> int:
        return self.resources.count_parallel(on_cpu=True) // self.resources.count_parallel()


@cache
def _remote(retries: int, gpus: float) -> Any:
    # as a decorator: `.options(num_gpus=1)` would keep the process, and its GPU memory, alive
    return ray.remote(max_retries=retries, num_cpus=0 if gpus else 1, num_gpus=gpus)(_task)


def _task(
    work: Callable[[Job], Outcome], job: Job, threads: int
) -> tuple[Outcome, tuple[int, int] | None]:
    """What a job comes to, and, where it had a GPU for itself, what it took of which memory."""
    set_threads(threads)
    outcome = work(job)
    release_memory()  # the process may be idle for long
    return outcome, _device_memory()


def _device_memory() -> tuple[int, int] | None:
    """Bytes that this process took of its GPU at most, and those of the GPU."""
    if not (torch.cuda.is_available() and torch.cuda.is_initialized()):
        return None
    free, total = torch.cuda.mem_get_info()
    beside = total - free - torch.cuda.memory_reserved()  # CUDA's own, and other programs'
    return torch.cuda.max_memory_reserved() + beside, total
