"""What a cluster offers to a run, from its totals and the configuration.

Worker counts, threads and devices are derived here and nowhere else, so that a plan which would
deadlock is refused with its numbers instead of hanging. Whoever holds a GPU holds no CPU: these are
for those that read and decode, and may be fewer than the GPUs.
"""

import os
from dataclasses import dataclass, replace

import ray

from raydd.cluster.config import ClusterConfig
from raydd.errors import Refused

MIN_LOGICAL_CPUS = 4  # fewer starve Ray Data's readers beside actors: a silent hang


@dataclass(frozen=True)
class Resources:
    """What the connected cluster offers, resolved against the configuration.

    Attributes:
        num_workers: of a training; 0 trains in the driver's process. Of an elastic one those that
            the cluster has room for when it is joined.
        unit_workers: of a stage of independent units; 0 does them in the driver's process, None is
            one per GPU that the cluster has at the time, without GPUs one per core where the
            driver alone would take long.
        use_gpu: whether each of them gets one.
        threads_per_worker: CPU threads.
        parallel: actors of a pass and tasks at once, when the cluster was joined.
        max_failures: deaths that a fit, a task or a worker of units survives.
        parallel_cpu: tasks at once that have no use for a GPU.
        elastic: fewest and most workers of a training; None keeps ``num_workers``.
        grows: whether machines may join or leave, so that ``parallel`` is counted again.
        device: that a worker computes on, ``cuda`` or ``cpu``; the latter with ``use_gpu`` where
            Ray is told of GPUs that are not there.
        decoders: CPU processes that may decode beside the actors of a pass, when the cluster was
            joined.
        tasks_per_gpu: tasks that share a GPU; None is as many as its memory holds.
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
    device: str = "cpu"
    decoders: int = 1
    tasks_per_gpu: int | None = None
    capture: str = "auto"

    def shared(self, runs: int) -> "Resources":
        """What each of several runs may use at once."""
        alone = runs == 1
        return replace(
            self,
            parallel=max(1, self.parallel // runs),
            parallel_cpu=max(1, self.parallel_cpu // runs),
            decoders=max(1, self.decoders // runs),
            grows=self.grows and alone,
        )

    def count_parallel(self, on_cpu: bool = False) -> int:
        """How many actors of a pass or tasks run at once now; ``on_cpu``: without a GPU."""
        if not self.grows:
            return self.parallel_cpu if on_cpu else self.parallel
        use_gpu = self.use_gpu and not on_cpu
        return _count_parallel(ray.cluster_resources(), use_gpu, self.threads_per_worker)

    def count_decoders(self) -> int:
        """CPU processes that may decode now beside the actors of a pass, readers included."""
        if not self.grows:
            return self.decoders
        return _count_decoders(ray.cluster_resources(), self.use_gpu, self.threads_per_worker)

    def count_decoders_each(self) -> int:
        """Of those, for each worker of units; 0 without GPUs: there a worker is a decoder."""
        if not self.use_gpu:
            return 0
        return max(1, self.count_decoders() // max(1, self.count_unit_workers()))

    @property
    def begins_here(self) -> bool:
        """Whether the driver's process does units: all, or those before others are started."""
        return not (self.use_gpu or self.unit_workers)

    def count_unit_workers(self) -> int:
        """How many workers do units now; the cluster may have grown since it was joined."""
        if self.unit_workers is not None:
            return self.unit_workers
        if not self.use_gpu:
            return self.count_parallel(on_cpu=True)
        return int(ray.cluster_resources().get("GPU", 0))

    def for_batch(self, size: int) -> "Resources":
        """The same for a training of so many images a step; see :func:`fitting_workers`."""
        if self.elastic is None:
            return replace(self, num_workers=fitting_workers(self.num_workers, size))
        least, most = (fitting_workers(workers, size) for workers in self.elastic)
        return replace(
            self,
            num_workers=fitting_workers(self.num_workers, size),
            elastic=(least, most) if most > 1 else None,
        )

    @property
    def per_worker(self) -> dict[str, int]:
        """Logical resources of one worker: of a training, of units, or of a task."""
        return {"GPU": 1} if self.use_gpu else {"CPU": 1}

    def describe(self) -> str:
        """The device of a run, for people."""
        if self.use_gpu:
            count = self.parallel
            return f"on {count} GPU{'s' if count > 1 else ''}"
        if self.grows:
            return "on CPUs: this cluster has no GPU now; cluster.use_gpu=true waits for one"
        cores = self.parallel_cpu * self.threads_per_worker
        used = max(1, self.num_workers) * self.threads_per_worker
        if used >= cores:
            return "on CPUs"
        return f"on {cores} CPUs, of which a training uses {used}: cluster.threads_per_worker"


_IMAGES_PER_WORKER = 64


def fitting_workers(asked: int, batch_size: int) -> int:
    """Workers of a training: each of them sees at least 64 images a step, or there is but one.

    With fewer, sharing the gradients takes longer than making them, and BatchNorm, which every
    worker computes on its own images, becomes noise.

    Args:
        asked: by the configuration; 0 stays 0.
        batch_size: images of a step over all workers.
    """
    return min(asked, max(1, batch_size // _IMAGES_PER_WORKER))


def resolve(config: ClusterConfig, totals: dict[str, float]) -> Resources:
    """Turn the configuration and the cluster's totals into worker counts; refuse deadlocks."""
    cpus, gpus = int(totals.get("CPU", 0)), int(totals.get("GPU", 0))
    use_gpu = gpus > 0 if config.use_gpu is None else config.use_gpu
    if use_gpu and gpus == 0:
        raise Refused(
            "cluster.use_gpu=true, but this cluster has no free GPU; use cluster.use_gpu=false."
        )
    _check_cpus(cpus, gpus, use_gpu)
    workers = config.num_workers if config.num_workers is not None else (gpus if use_gpu else 0)
    if use_gpu:  # who computes on a GPU holds it: a process of its own, not the driver
        workers = max(1, workers)
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
        device="cuda" if use_gpu else "cpu",
        decoders=_count_decoders(totals, use_gpu, config.threads_per_worker),
        tasks_per_gpu=config.tasks_per_gpu,
        capture=config.capture,
    )


def _check_cpus(cpus: int, gpus: int, use_gpu: bool) -> None:
    """Refuse a cluster where nobody could read the images."""
    if use_gpu and cpus == 0:
        raise Refused(
            f"this cluster has {gpus} GPUs, but 0 CPUs, and reading and decoding images takes at "
            "least one: start a node with --num-cpus=1 or more."
        )
    if cpus < 2 and not use_gpu:
        raise Refused(
            f"this cluster has {cpus} CPUs, but one must read data while another computes; run the "
            "same command again when `ray status` shows that its workers have joined the head."
        )


def _count_parallel(totals: dict[str, float], use_gpu: bool, threads: int) -> int:
    """Actors of a pass, or tasks, that a cluster of these totals runs at once."""
    if use_gpu:
        return max(1, int(totals.get("GPU", 0)))  # they may all be gone for a while
    computing = int(totals.get("CPU", 0)) - 1  # one is the readers', who would wait for ever
    if _single_node(totals):
        computing = min(computing, os.cpu_count() or 1)
    return max(1, computing // max(1, threads))


def _count_decoders(totals: dict[str, float], use_gpu: bool, threads: int) -> int:
    """Processes for the CPUs that the actors of a pass leave; each of those holds one, or a GPU."""
    cpus = int(totals.get("CPU", 0))
    if _single_node(totals):
        cpus = min(cpus, os.cpu_count() or 1)
    held = 0 if use_gpu else _count_parallel(totals, False, threads)
    return max(1, cpus - held)


def _unit_workers(config: ClusterConfig, use_gpu: bool) -> int | None:
    workers = config.num_workers if config.unit_workers is None else config.unit_workers
    if workers is None or not use_gpu:
        return workers
    return max(1, workers)  # as above, none in the driver


def _single_node(totals: dict[str, float]) -> bool:
    """Whether the cluster is one machine, whose logical CPUs may exceed its cores."""
    return sum(name.startswith("node:") and "__" not in name for name in totals) <= 1
