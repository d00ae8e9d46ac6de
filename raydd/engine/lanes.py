"""How many trials of a sweep run at once: never so many that they wait for each other."""

import os

import ray

from raydd.engine.cluster import connect, cpus_per_trial, local_gpus, resolve
from raydd.engine.cluster_config import ClusterConfig
from raydd.engine.errors import Refused


def count_lanes(config: ClusterConfig, asked: int | None, trials: int) -> int:
    """How many trials of a sweep run at once without ever waiting for each other's CPUs.

    Args:
        config: of each trial.
        asked: by the user; None takes as many as fit.
        trials: how many there are.
    Raises:
        Refused: not one trial fits into the cluster that was joined.
    """
    if not os.environ.get("RAY_ADDRESS") and not ray.is_initialized():
        fitting = _lanes_here(config)
    else:
        connect(config)
        fitting = fitting_lanes(config, ray.cluster_resources())
    return min(trials, fitting if asked is None else min(asked, fitting))


def _lanes_here(config: ClusterConfig) -> int:
    """Trials that keep this machine busy; its private cluster gets logical CPUs for all of them."""
    gpus = 0 if config.use_gpu is False else local_gpus()
    if gpus:
        return max(1, gpus // max(1, gpus if config.num_workers is None else config.num_workers))
    return max(1, (os.cpu_count() or 1) // max(1, config.threads_per_worker))


def fitting_lanes(config: ClusterConfig, totals: dict[str, float]) -> int:
    """How many trials fit into a cluster's totals; refuses one that is too small for any."""
    cpus, each = int(totals.get("CPU", 0)), cpus_per_trial(config)
    if cpus < each:
        raise Refused(
            f"this cluster has {cpus} CPUs, but a trial needs {each} so that its stages never wait "
            "for each other; add nodes, or run without RAY_ADDRESS."
        )
    resources = resolve(config, totals)
    gpus = int(totals.get("GPU", 0)) // max(1, resources.num_workers)
    return max(1, min(cpus // each, gpus) if resources.use_gpu else cpus // each)
