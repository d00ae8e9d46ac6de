"""Join the Ray cluster that RAY_ADDRESS names, or start a small private one.

Every door calls :func:`connect` once; :mod:`raydd.cluster.resources` says what it finds.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import ray
from ray._private import ray_constants
from ray._private.node import Node

from raydd.cluster.config import ClusterConfig
from raydd.cluster.gpus import check_gpus, local_gpus, wait_for_gpus
from raydd.cluster.resources import MIN_LOGICAL_CPUS, Resources, resolve
from raydd.errors import stop_on_signals

_STORE_MB = 300
_STORE_MB_PER_CORE = 50  # two blocks of a pass in work, and chunks that wait for a unit


def _silent(text: str) -> None:
    """Say nothing."""


def connect(
    config: ClusterConfig, concurrent: int = 0, say: Callable[[str], None] = _silent
) -> Resources:
    """Attach to the running cluster of ``RAY_ADDRESS``, else start a private local one.

    A private one listens on the loopback only, has no dashboard and asks for the token that Ray
    keeps in ``~/.ray/auth_token``, unless RAY_AUTH_MODE says otherwise.

    Args:
        config: what is asked for.
        concurrent: trials of a sweep that run at once; a private cluster gets CPUs for all.
        say: is told what is waited for, and on which devices the run is.
    Returns:
        The worker count, device and parallelism to use.
    Raises:
        Refused: more workers or GPUs are asked for than the cluster can ever give, or GPUs that
            torch cannot use.
    """
    is_new = not ray.is_initialized()
    if is_new:
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if _joins():
            ray.init(address="auto", **quiet)
        else:
            with private_cluster():
                ray.init(
                    address="local",
                    num_cpus=_local_cpus(config, concurrent),
                    object_store_memory=_store_mb(config) << 20,
                    **quiet,
                )
        stop_on_signals()
    if is_new and _joins() and config.use_gpu:
        wait_for_gpus(say)
    found = replace(resolve(config, ray.cluster_resources()), grows=_joins())
    if is_new:  # a trial of a sweep finds them busy, and asked about
        say(found.describe())
    if is_new and found.use_gpu:
        check_gpus()
    return found


def connect_when_needed(
    config: ClusterConfig, say: Callable[[str], None] = _silent
) -> tuple[Resources, Callable[[], None]]:
    """What a run will have, and what must be called before its first work.

    A private cluster of CPUs is known without being started, which takes seconds that a run which
    is finished already need not wait. Everything else is joined here; see :func:`connect`.
    """
    if _joins() or ray.is_initialized() or config.use_gpu or local_gpus():
        return connect(config, say=say), lambda: None
    found = local_resources(config)
    say(found.describe())
    return found, lambda: _start(config)


def _start(config: ClusterConfig) -> None:
    if not ray.is_initialized():
        connect(config)


def _store_mb(config: ClusterConfig) -> int:
    if config.object_store_mb is not None:
        return config.object_store_mb
    return _STORE_MB + (_STORE_MB_PER_CORE * (os.cpu_count() or 1) if local_gpus() else 0)


def _joins() -> bool:
    """Whether a cluster is named, to which machines may be added."""
    return bool(os.environ.get("RAY_ADDRESS"))


def local_resources(config: ClusterConfig) -> Resources:
    """What a run would have on this machine alone; starts nothing."""
    found = resolve(config, {"CPU": _local_cpus(config), "GPU": local_gpus()})
    if found.use_gpu and found.unit_workers is None:
        return replace(found, unit_workers=found.num_workers)
    return found


# of Ray's node: autoscaler, collector of logs, dashboard. Without them a cluster is there sooner by
# seconds of three processes, and 170 MB smaller.
_SERVICES = ("start_monitor", "start_log_monitor", "start_api_server")


@contextmanager
def private_cluster() -> Iterator[None]:
    """Have a cluster that starts meanwhile listen at 127.0.0.1 only, and serve nobody else.

    So Ray listens on macOS and Windows; elsewhere it takes the machine's outer address, whatever
    ``_node_ip_address`` says, and its processes listen on every interface. What looks after more
    machines, and shows them to people, is not started.
    """
    listens, services = ray_constants.ENABLE_RAY_CLUSTER, [getattr(Node, s) for s in _SERVICES]
    ray_constants.ENABLE_RAY_CLUSTER = False
    for name in _SERVICES:
        setattr(Node, name, lambda *_, **__: None)
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = listens
        for name, start in zip(_SERVICES, services, strict=True):
            setattr(Node, name, start)


def _local_cpus(config: ClusterConfig, concurrent: int = 0) -> int:
    """Logical CPUs of a private cluster on this machine."""
    return max(os.cpu_count() or 1, _cpus_per_run(config), concurrent * cpus_per_trial(config))


def _cpus_per_run(config: ClusterConfig) -> int:
    """Logical CPUs with which the stages of one run never wait for each other."""
    workers = max(config.num_workers or 0, config.unit_workers or 0)
    return max(MIN_LOGICAL_CPUS, workers + 2)


def cpus_per_trial(config: ClusterConfig) -> int:
    """The same, and one for the process that drives the run."""
    return _cpus_per_run(config) + 1
