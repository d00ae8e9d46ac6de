"""The one ``fit`` around Ray Train: same loop in this process, on 2 workers or on 16.

Progress that must survive a kill is written by the loops themselves (units, epoch checkpoints), so
a fit keeps nothing of its own: it only spreads a loop over workers and restarts dead ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from upath import UPath

from raydd.cluster.resources import Resources
from raydd.cluster.tasks import run_many
from raydd.cluster.threads import torch_threads

if TYPE_CHECKING:
    import ray.data as rd


def fit(
    loop: Callable[[dict[str, Any]], Any],
    arguments: dict[str, Any],
    resources: Resources,
    folder: UPath,
    datasets: Mapping[str, rd.Dataset] | None = None,
) -> Any:
    """Run ``loop(arguments)`` on every worker and return what rank 0 returned.

    Args:
        loop: called once per worker; must continue from its own files after a restart.
        arguments: picklable argument of the loop.
        resources: worker count and devices; 0 workers runs the loop in this process, one is a task
            without a group.
        folder: stage folder; Ray Train keeps its own small state in ``train`` below it.
        datasets: given to ``ray.train.get_dataset_shard`` by name, split over the workers.
    Raises:
        RuntimeError: the workers died more often than ``cluster.max_failures`` allows.
        Exception: what the loop raised, at once: only deaths are worth another try.
    """
    from raydd.cluster.trainer import Single, fit_group

    single = Single(loop, arguments, folder, datasets or {})
    if resources.num_workers == 0:
        with torch_threads(resources.threads_per_worker):
            return single(None)
    if resources.num_workers == 1 and resources.elastic is None:
        (outcome,) = run_many(single, [None], replace(resources, tasks_per_gpu=1))
        return outcome
    return fit_group(single, resources)


def rank_and_world() -> tuple[int, int]:
    """This worker's rank and the number of workers; (0, 1) in this process."""
    import ray.train

    context = ray.train.get_context()
    return context.get_world_rank(), context.get_world_size()
