"""Independent jobs as Ray tasks."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import ray
import torch

from raydd.cluster.connect import Resources

_POLL_SECONDS = 1.0  # how often machines that joined are seen

Job = TypeVar("Job")
Outcome = TypeVar("Outcome")


def run_many(
    work: Callable[[Job], Outcome],
    jobs: Iterable[Job],
    resources: Resources,
    on_cpu: bool = False,
) -> list[Outcome]:
    """Run independent jobs as Ray tasks, one device or ``threads_per_worker`` cores each.

    Args:
        work: does a job; sent once. It is called again after a failure and must then return what
            is there.
        jobs: picklable; taken one by one, as tasks end.
        resources: how many run at once, and where.
        on_cpu: whether the jobs have no use for a GPU.
    Returns:
        What each job came to, in their order.
    """
    retries, gpus = resources.max_failures, int(resources.use_gpu and not on_cpu)
    # as a decorator: `.options(num_gpus=1)` would keep the process, and its GPU memory, alive
    task: Any
    if gpus:
        task = ray.remote(max_retries=retries, num_gpus=gpus)(_task)
    else:
        task = ray.remote(max_retries=retries, num_cpus=1)(_task)
    shared, waiting = ray.put(work), enumerate(jobs)
    running: dict[Any, int] = {}
    outcomes: dict[int, Outcome] = {}
    while True:
        while len(running) < resources.count_parallel(on_cpu):
            if (taken := next(waiting, None)) is None:
                break
            number, job = taken
            running[task.remote(shared, job, resources.threads_per_worker)] = number
        if not running:
            return [outcomes[number] for number in sorted(outcomes)]
        answers, _ = ray.wait(list(running), timeout=_POLL_SECONDS)
        for answer in answers:
            outcomes[running.pop(answer)] = ray.get(answer)


def _task(work: Callable[[Job], Outcome], job: Job, threads: int) -> Outcome:
    torch.set_num_threads(threads)
    return work(job)
