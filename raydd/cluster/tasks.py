"""Independent jobs as Ray tasks."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import ray
import torch

from raydd.cluster.connect import Resources

_POLL_SECONDS = 1.0  # how often machines that joined are seen


Job = TypeVar("Job")


def run_many(
    work: Callable[[Job], dict[str, Any]], jobs: Sequence[Job], resources: Resources
) -> list[dict[str, Any]]:
    """Run independent jobs as Ray tasks, one device or ``threads_per_worker`` cores each.

    Args:
        work: does a job; it is called again after a failure and must then return what is there.
        jobs: picklable.
        resources: how many run at once, and where.
    Returns:
        What each job came to, in their order.
    """
    retries = resources.max_failures
    task: Any
    # as a decorator: `.options(num_gpus=1)` would keep the process, and its GPU memory, alive
    if resources.use_gpu:
        task = ray.remote(max_retries=retries, num_gpus=1)(_task)
    else:
        task = ray.remote(max_retries=retries, num_cpus=1)(_task)
    running: dict[Any, int] = {}
    outcomes: list[dict[str, Any]] = [{}] * len(jobs)
    waiting = list(enumerate(jobs))
    while waiting or running:
        while waiting and len(running) < resources.count_parallel():
            index, job = waiting.pop(0)
            running[task.remote(work, job, resources.threads_per_worker)] = index
        answers, _ = ray.wait(list(running), timeout=_POLL_SECONDS)
        for answer in answers:
            outcomes[running.pop(answer)] = ray.get(answer)
    return outcomes


def _task(work: Callable[[Job], dict[str, Any]], job: Job, threads: int) -> dict[str, Any]:
    torch.set_num_threads(threads)
    return work(job)
