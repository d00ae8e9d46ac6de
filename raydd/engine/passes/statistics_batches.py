"""The batches of the statistics pass: views of the images of a unit, in order."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from raydd.data.preprocessing import Preprocessing
from raydd.data.rows import Tried
from raydd.data.sources import Source
from raydd.engine.passes.beside import decode_beside, read_stored
from raydd.models.preprocess import normalise, pad_batch
from raydd.ops.augment import ATTEMPTS, crop_and_resize, fitting_boxes, flip_where, pad_windows
from raydd.ops.configs import check_at_least_one, check_choices
from raydd.ops.seeds import uniforms

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
        decoders: tasks that decode for each worker; 0 has threads of the worker do it.
        stored: folder of the decoded images; None decodes them.
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
    decoders: int = 0
    stored: str | None = None


def read_batches(
    job: StatisticsJob, shards: Sequence[int], device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Views of the good images of a unit, normalised [batch, 3, R, R], and the labels.

    A last, short batch is padded: how an image is computed must not depend on where the unit ends.
    """
    size, preprocessing = job.config.batch, job.preprocessing
    good = _good_rows(job, shards)
    while group := list(islice(good, size)):
        pixels = torch.from_numpy(np.stack([row.pixels for row in group])).permute(0, 3, 1, 2)
        names = [row.id for row in group]
        views = draw_views(pixels.to(device), names, job.config, job.flip, job.seed)
        images = normalise(views, preprocessing.mean, preprocessing.std)
        yield pad_batch(images, size), torch.tensor([row.class_index for row in group])


def _good_rows(job: StatisticsJob, shards: Sequence[int]) -> Iterator[Tried]:
    if job.stored is not None:
        return read_stored(job.stored, shards, job.preprocessing.resolution)
    all_shards = job.source.shards()
    rows = (row for index in shards for row in job.source.read(all_shards[index]))
    tried = decode_beside(rows, job.preprocessing, job.max_pixels, job.decoders)
    # the score stage's table of rejected images says why one is broken
    return (row for row in tried if not row.reason)


def draw_views(
    pixels: Tensor, ids: Sequence[str], config: StatisticsConfig, flip: float, seed: int
) -> Tensor:
    """One view of each image, fixed by its id alone.

    Args:
        pixels: uint8 [B, 3, R, R].
        ids: B ids.
        config: which view.
        flip: probability of a mirrored view.
        seed: run seed.

    Returns:
        [B, 3, R, R] in [0, 255], float for resized crops and uint8 otherwise.
    """
    if config.view == "none":
        return pixels
    draws = np.stack([uniforms(4 * ATTEMPTS + 1, seed, "statistics", name) for name in ids])
    uniform = torch.from_numpy(draws)
    if config.view == "pad":
        offsets = (uniform[:, :2].T * (2 * config.padding + 1)).long()
        pixels = pad_windows(pixels, config.padding, offsets[..., None])
    else:
        low, high = config.crop_scale
        attempts = uniform[:, :-1].T.reshape(4, ATTEMPTS, -1).transpose(1, 2)
        boxes = fitting_boxes(attempts, (low, high), (3 / 4, 4 / 3))
        pixels = crop_and_resize(pixels.float(), boxes, pixels.shape[-1])
    return flip_where(pixels, uniform[:, -1] < flip)
