"""What the statistics stage measures, and what its workers are told."""

from dataclasses import dataclass

from raydd.data.preprocessing import Preprocessing
from raydd.data.sources import Source
from raydd.ops.checks import check_at_least_one, check_choices

CHOICES = {
    "view": ("pad", "resized", "none"),
    "variance": ("total", "within"),
    "batch_norm_targets": ("running", "measured"),
    "dtype": ("float32", "float16"),
}


@dataclass
class StatisticsConfig:
    """What is measured on the real images, and how it is kept.

    Attributes:
        view: of each image, one draw fixed by its id: "pad" (random crop after padding, the CIFAR
            recipe), "resized" (random resized crop) or "none"; mirrored where the data allow it.
        padding: of "pad", pixels.
        crop_scale: area of "resized", fractions of the image.
        patch: side of a tile of a convolution's input, pixels; 16 at 224 pixels, 4 at 32 and 64.
        variance: "total" (within the images and between them) or "within" (the authors' code).
        batch_norm_targets: global targets of BatchNorm inputs: "running" (what the layers remember
            of their training) or "measured".
        dtype: of the stored arrays, "float32" or "float16".
        units: pieces of the pass; the grain of resume. Each holds classes x width x 3 doubles.
        batch: images per forward pass.
    """

    view: str = "pad"
    padding: int = 4
    crop_scale: tuple[float, float] = (0.08, 1.0)
    patch: int = 4
    variance: str = "total"
    batch_norm_targets: str = "running"
    dtype: str = "float32"
    units: int = 8
    batch: int = 128

    def __post_init__(self) -> None:
        """Refuse what cannot run, before any work."""
        check_choices(self, CHOICES)
        check_at_least_one(self, "patch", "units", "batch")


@dataclass(frozen=True)
class StatisticsJob:
    """Everything a worker needs; picklable.

    Attributes:
        folder: stage folder.
        units: numbers of the shards of each unit.
        observers: checkpoint folders.
        config: what is measured.
        source: the real images.
        preprocessing: of all observers.
        flip: probability of a mirrored view, a property of the data.
        max_pixels: cap of the decoder.
        seed: run seed.
        device: ``cpu`` or ``cuda``.
    """

    folder: str
    units: tuple[tuple[int, ...], ...]
    observers: tuple[str, ...]
    config: StatisticsConfig
    source: Source
    preprocessing: Preprocessing
    flip: float
    max_pixels: int
    seed: int
    device: str
