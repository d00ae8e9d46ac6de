"""The one ``fit`` around Ray Train: same loop in this process, on 2 workers or on 16.

Progress that must survive a kill is written by the loops themselves (units, epoch checkpoints), so
a fit keeps nothing of its own: it only spreads a loop over workers and restarts dead ones.
"""

import signal
import threading
from collections.abc import Callable, Mapping
from typing import Any

import ray.data as rd
import ray.exceptions
import ray.train
from ray.train.torch import TorchTrainer
from upath import UPath

from raydd.engine.cluster import Resources
from raydd.engine.meeting import MeetingConfig
from raydd.engine.storage import storage_arguments
from raydd.engine.threads import torch_threads

# A group that finds no room within a minute tries again so often: a spot machine is replaced within
# minutes, and a fit that can never start must end.
_STARTS = 15
_RESIZE_SECONDS = 30.0  # how often an elastic training looks for machines that joined


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
        resources: worker count and devices; 0 workers runs the loop in this process.
        folder: stage folder; Ray Train keeps its own small state in ``train`` below it.
        datasets: given to ``ray.train.get_dataset_shard`` by name, split over the workers.
    Raises:
        RuntimeError: the workers died more often than ``cluster.max_failures`` allows.
    """
    # an elastic group takes all the CPUs that it finds: readers of a stream would wait for ever
    may_stretch = resources.use_gpu or not datasets
    workers = (resources.elastic if may_stretch else None) or resources.num_workers
    # the types are Ray Train's first version, what runs is the second
    scaling = ray.train.ScalingConfig(
        num_workers=workers,  # type: ignore[arg-type]
        elastic_resize_monitor_interval_s=_RESIZE_SECONDS,  # type: ignore[call-arg]
        use_gpu=resources.use_gpu and resources.num_workers > 0,
        resources_per_worker=resources.per_worker if resources.num_workers else None,
    )
    run = ray.train.RunConfig(
        name="train",
        **storage_arguments(folder),
        failure_config=ray.train.FailureConfig(
            max_failures=resources.max_failures,
            controller_failure_limit=_STARTS,  # type: ignore[call-arg]
        ),
    )
    trainer = TorchTrainer(
        loop,
        train_loop_config=arguments,
        torch_config=MeetingConfig(),
        scaling_config=scaling,
        run_config=run,
        datasets=dict(datasets or {}),
    )
    handler = signal.getsignal(signal.SIGINT)
    try:
        with torch_threads(resources.threads_per_worker):
            return trainer.fit().return_value  # type: ignore[attr-defined] # as above
    except ray.exceptions.ActorDiedError as error:
        raise RuntimeError(
            "the controller of Ray Train died; run the same command to continue"
        ) from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)  # fit replaces it and never puts it back


def rank_and_world() -> tuple[int, int]:
    """This worker's rank and the number of workers; (0, 1) in this process."""
    context = ray.train.get_context()
    return context.get_world_rank(), context.get_world_size()
