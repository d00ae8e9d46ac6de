"""Join the Ray cluster that RAY_ADDRESS names, or start a small private one.

Every door calls :func:`connect` once. Worker counts, threads and devices are derived here and
nowhere else, so that a plan which would deadlock is refused with its numbers instead of hanging.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

# Ray reads these when it is imported or when a fit starts; a user's own setting wins.
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # the default of 2 s is paid at every report
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # Ray Tune would draw tables over the progress line
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths mean the folder of the command
    "RAY_task_oom_retries": "4",  # a task that never fits into memory would be tried for ever
}
# An S3 store that is out of reach is asked again for about a minute; boto3 gives up after seconds.
_PATIENT = {"AWS_RETRY_MODE": "standard", "AWS_MAX_ATTEMPTS": "12"}
for _name, _value in (_QUIET | _PATIENT).items():
    os.environ.setdefault(_name, _value)

import ray  # noqa: E402
from ray._private import ray_constants  # noqa: E402

from raydd.cluster.config import ClusterConfig  # noqa: E402
from raydd.errors import Refused, stop_on_signals  # noqa: E402

_MIN_LOGICAL_CPUS = 4  # fewer starve Ray Data's readers beside actors: a silent hang


@dataclass(frozen=True)
class Resources:
    """What the connected cluster offers, resolved against the configuration.

    Attributes:
        num_workers: of a training; 0 trains in the driver's process. Of an elastic one those that
            the cluster has room for when it is joined.
        unit_workers: of a stage of independent units; 0 does them in the driver's process, None is
            one per GPU that the cluster has at the time.
        use_gpu: whether each of them gets one.
        threads_per_worker: CPU threads.
        parallel: actors of a pass and tasks at once, when the cluster was joined.
        parallel_cpu: tasks at once that have no use for a GPU.
        max_failures: deaths that a fit, a task or a worker of units survives.
        elastic: fewest and most workers of a training; None keeps ``num_workers``.
        grows: whether machines may join or leave, so that ``parallel`` is counted again.
        capture: whether a GPU's steps are recorded, see :class:`ClusterConfig`.
    """

    num_workers: int
    unit_workers: int | None
    use_gpu: bool
    threads_per_worker: int
    parallel: int
    max_failures: int
    parallel_cpu: int = 1
    elastic: tuple[int, int] | None = None
    grows: bool = False
    capture: str = "auto"

    def shared(self, runs: int) -> "Resources":
        """What each of several runs may use at once."""
        alone = runs == 1
        return replace(
            self,
            parallel=max(1, self.parallel // runs),
            parallel_cpu=max(1, self.parallel_cpu // runs),
            grows=self.grows and alone,
        )

    def count_parallel(self, on_cpu: bool = False) -> int:
        """How many actors of a pass or tasks run at once now; ``on_cpu``: without a GPU."""
        if not self.grows:
            return self.parallel_cpu if on_cpu else self.parallel
        use_gpu = self.use_gpu and not on_cpu
        return _count_parallel(ray.cluster_resources(), use_gpu, self.threads_per_worker)

    def count_unit_workers(self) -> int:
        """How many workers do units now; the cluster may have grown since it was joined."""
        if self.unit_workers is not None:
            return self.unit_workers
        return int(ray.cluster_resources().get("GPU", 0))

    @property
    def device(self) -> str:
        """Device string of a worker, ``cuda`` or ``cpu``."""
        return "cuda" if self.use_gpu else "cpu"

    @property
    def per_worker(self) -> dict[str, float]:
        """Logical resources of one Train worker."""
        return {"CPU": 1, "GPU": 1} if self.use_gpu else {"CPU": 1}


def connect(config: ClusterConfig, concurrent: int = 0) -> Resources:
    """Attach to the running cluster of ``RAY_ADDRESS``, else start a private local one.

    A private one listens on the loopback only, has no dashboard and asks for the token that Ray
    keeps in ``~/.ray/auth_token``, unless RAY_AUTH_MODE says otherwise.

    Args:
        config: what is asked for.
        concurrent: trials of a sweep that run at once; a private cluster gets CPUs for all.
    Returns:
        The worker count, device and parallelism to use.
    Raises:
        Refused: more workers or GPUs are asked for than the cluster can ever give.
    """
    if not ray.is_initialized():
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if _joins():
            ray.init(address="auto", **quiet)
        else:
            with _loopback():
                ray.init(
                    address="local",
                    num_cpus=_local_cpus(config, concurrent),
                    include_dashboard=False,
                    object_store_memory=config.object_store_mb << 20,
                    **quiet,
                )
        stop_on_signals()
    return replace(resolve(config, ray.cluster_resources()), grows=_joins())


def _joins() -> bool:
    """Whether a cluster is named, to which machines may be added."""
    return bool(os.environ.get("RAY_ADDRESS"))


def local_resources(config: ClusterConfig) -> Resources:
    """What a run would have on this machine alone; starts nothing."""
    found = resolve(config, {"CPU": _local_cpus(config), "GPU": local_gpus()})
    alone = found.num_workers if found.unit_workers is None else found.unit_workers
    return replace(found, unit_workers=alone)


@contextmanager
def _loopback() -> Iterator[None]:
    """Have a cluster that starts meanwhile listen at 127.0.0.1 only.

    So Ray does on macOS and Windows; elsewhere it takes the machine's outer address, whatever
    ``_node_ip_address`` says, and its processes listen on every interface.
    """
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


def _local_cpus(config: ClusterConfig, concurrent: int = 0) -> int:
    """Logical CPUs of a private cluster on this machine."""
    return max(os.cpu_count() or 1, _cpus_per_run(config), concurrent * cpus_per_trial(config))


def _cpus_per_run(config: ClusterConfig) -> int:
    """Logical CPUs with which the stages of one run never wait for each other."""
    workers = max(config.num_workers or 0, config.unit_workers or 0)
    return max(_MIN_LOGICAL_CPUS, workers + 2)


def cpus_per_trial(config: ClusterConfig) -> int:
    """The same, and one for the process that drives the run."""
    return _cpus_per_run(config) + 1


def resolve(config: ClusterConfig, totals: dict[str, float]) -> Resources:
    """Turn the configuration and the cluster's totals into worker counts; refuse deadlocks."""
    cpus, gpus = int(totals.get("CPU", 0)), int(totals.get("GPU", 0))
    use_gpu = gpus > 0 if config.use_gpu is None else config.use_gpu
    if use_gpu and gpus == 0:
        raise Refused(
            "cluster.use_gpu=true, but this cluster has no free GPU; use cluster.use_gpu=false."
        )
    if cpus < 2 and not use_gpu:
        raise Refused(
            f"this cluster has {cpus} CPUs, but one must read data while another computes; run the "
            "same command again when `ray status` shows that its workers have joined the head."
        )
    workers = config.num_workers if config.num_workers is not None else (gpus if use_gpu else 0)
    room = gpus if use_gpu else cpus - 1
    name, least = "num_workers", workers
    if config.min_workers is not None:
        name, least = "min_workers", config.min_workers
    if least > room:
        raise Refused(
            f"cluster.{name}={least} asks for more than this cluster can run at once: "
            f"{cpus} CPUs (one is kept for reading data) and {gpus} GPUs; use at most {room}."
        )
    return Resources(
        min(workers, room),
        _unit_workers(config, use_gpu),
        use_gpu,
        config.threads_per_worker,
        _count_parallel(totals, use_gpu, config.threads_per_worker),
        config.max_failures,
        _count_parallel(totals, False, config.threads_per_worker),
        elastic=None if config.min_workers is None else (config.min_workers, workers),
        capture=config.capture,
    )


def _count_parallel(totals: dict[str, float], use_gpu: bool, threads: int) -> int:
    """Actors of a pass, or tasks, that a cluster of these totals runs at once."""
    if use_gpu:
        return max(1, int(totals.get("GPU", 0)))  # they may all be gone for a while
    computing = int(totals.get("CPU", 0)) - 1  # one is the readers', who would wait for ever
    if _single_node(totals):
        computing = min(computing, os.cpu_count() or 1)
    return max(1, computing // max(1, threads))


def _unit_workers(config: ClusterConfig, use_gpu: bool) -> int | None:
    if config.unit_workers is not None:
        return config.unit_workers
    return (None if use_gpu else 0) if config.num_workers is None else config.num_workers


def _single_node(totals: dict[str, float]) -> bool:
    """Whether the cluster is one machine, whose logical CPUs may exceed its cores."""
    return sum(name.startswith("node:") and "__" not in name for name in totals) <= 1


def local_gpus() -> int:
    """GPUs of this machine."""
    import torch  # processes that only decode do not import it

    return torch.cuda.device_count()
