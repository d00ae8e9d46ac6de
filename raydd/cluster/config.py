"""What is asked of a cluster; :mod:`raydd.cluster.connect` finds out what there is."""

from dataclasses import dataclass

from raydd.ops.configs import check_choices


@dataclass
class ClusterConfig:
    """Machines and processes; no value here changes a synthesised byte."""

    num_workers: int | None = None
    """Train workers, at most: each sees at least 64 images a step. 0 runs in this process, or, with
    GPUs, as one worker beside it; null is one per GPU, or 0 without GPUs."""
    min_workers: int | None = None
    """With how few workers a training goes on while machines are missing; num_workers is then the
    most, and may be more than the cluster has yet. null keeps the number: a training is repeatable
    for one number only."""
    use_gpu: bool | None = None
    """null uses GPUs when the cluster has them; true waits for them where one was joined."""
    unit_workers: int | None = None
    """Workers of the stages whose units are independent: synthesize, sample, crop, statistics,
    relabel. null is num_workers; else every GPU, those of machines that join later too, and without
    GPUs the driver, which takes every core where the work is long. More than the cluster has may be
    asked for: those wait for machines, and an autoscaler sees them."""
    threads_per_worker: int = 1
    """CPU threads of a worker. Sums depend on it: compare runs of equal value only."""
    tasks_per_gpu: int | None = None
    """Trainings and trials of networks that share a GPU. null is one, and as many as the memory
    holds as soon as the first of them has told what it takes."""
    object_store_mb: int | None = None
    """Shared memory of a private local cluster, MiB; null is 300, and on a machine with GPUs 50
    more for each of its cores, which decode for them."""
    max_failures: int = 8
    """Worker-group restarts that one fit survives."""
    capture: str = "auto"
    """Whether the steps of synthesis are recorded and launched at once (CUDA graphs) on GPUs: auto
    goes on without where that fails and says so in metrics.jsonl, on stops, off never does."""
    plan_for: str | None = None
    """A machine that ``plan=true`` also counts hours for, e.g. 8xh200; a wrong name lists all."""
    plan_small_images: bool = False
    """Count hours of ``plan_for`` with images that were resized beforehand to a shorter side of 256
    pixels: 40 kB instead of 110, of which a core decodes 600 per second instead of 200."""
    plan_seconds: float = 20.0
    """How long ``plan=true`` may try the networks on this machine, s; 0 counts no hours here."""

    def __post_init__(self) -> None:
        """Refuse what cannot run, before any work."""
        if self.min_workers is not None and not 1 <= self.min_workers <= (self.num_workers or 0):
            raise ValueError(
                f"cluster.min_workers={self.min_workers} must be at least 1 and at most "
                f"cluster.num_workers={self.num_workers}, which must be set"
            )
        check_choices(self, {"capture": ("auto", "on", "off")})
        if self.unit_workers is not None and self.unit_workers < 0:
            raise ValueError(f"unit_workers must be at least 0, got {self.unit_workers}")
        if self.tasks_per_gpu is not None and self.tasks_per_gpu < 1:
            raise ValueError(f"tasks_per_gpu must be at least 1, got {self.tasks_per_gpu}")
        if self.plan_seconds < 0:
            raise ValueError(f"plan_seconds must be at least 0, got {self.plan_seconds}")
