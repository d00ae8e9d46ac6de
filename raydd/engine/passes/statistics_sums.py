"""The pass of the statistics stage: workers walk through their units and leave exact sums."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor
from upath import UPath

from raydd.cluster.threads import map_ahead
from raydd.data.images import BrokenImage, decode
from raydd.data.preprocessing import Preprocessing
from raydd.data.sources import Row, Source
from raydd.engine.cost import Networks, TimedStep
from raydd.models.observer import ObserverTap
from raydd.models.preprocess import normalise, pad_batch
from raydd.models.registry import ModelConfig
from raydd.ops.augment import ATTEMPTS, crop_and_resize, fitting_boxes, flip_where, pad_windows
from raydd.ops.checks import check_at_least_one, check_choices
from raydd.ops.seeds import uniforms
from raydd.store.arrays import new_array
from raydd.store.checkpoint import load_frozen
from raydd.store.files import write_atomic
from raydd.store.units import Marker

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


SUMS = Marker("sums/{}/done.json")
_KINDS = 3  # of sums: of means, of squared means, of variances
_DECODERS = 8


def unit_name(number: int) -> str:
    """Names the folder of a unit's sums."""
    return f"{number:03d}"


def statistics_step(networks: Networks, model: ModelConfig, patch: int, flops: int) -> TimedStep:
    """A batch of the pass through one observer, and the sums of one class."""

    def begin(count: int, device: torch.device) -> Callable[[], None]:
        side = networks.preprocessing.resolution
        tap = ObserverTap(networks.create(model, device).eval(), side, patch, per_image=True)
        total = torch.zeros(1, _KINDS, sum(tap.sizes), dtype=torch.float64)
        pixels, labels = networks.pixels(count, device), torch.zeros(count, dtype=torch.int64)

        def step() -> None:
            add_statistics(total, labels, tap, networks.normalised(pixels))

        return step

    return TimedStep(f"statistics {model} {patch} {networks}", flops, "float32", begin)


class Measurer:
    """The observers of a worker; adds up the statistics of a unit's images."""

    def __init__(self, job: StatisticsJob) -> None:
        self.job, self.device = job, torch.device(job.device)
        self.taps = [
            ObserverTap(
                load_frozen(UPath(folder), self.device)[0],
                job.preprocessing.resolution,
                job.config.patch,
                per_image=True,
            )
            for folder in job.observers
        ]

    def __call__(self, number: int) -> None:
        """See :func:`raydd.cluster.pool.run_units`."""
        _measure_unit(self.job, self.taps, self.device, number)


def _measure_unit(
    job: StatisticsJob, taps: Sequence[ObserverTap], device: torch.device, number: int
) -> None:
    """Add up the statistics of a unit's images; the sums appear when they are whole."""
    marker, num_classes = SUMS.path(job.folder, unit_name(number)), len(job.source.class_names)
    marker.parent.mkdir(parents=True, exist_ok=True)
    counts = torch.zeros(num_classes, dtype=torch.int64)
    with ExitStack() as stack:
        sums = []
        for observer, tap in enumerate(taps):
            shape = (num_classes, _KINDS, sum(tap.sizes))
            array = new_array(marker.parent / f"observer{observer:02d}.npy", shape, "float64")
            sums.append(torch.from_numpy(stack.enter_context(array)))
        for images, labels in _batches(job, job.units[number], device):
            counts += torch.bincount(labels, minlength=num_classes)
            for tap, total in zip(taps, sums, strict=True):
                add_statistics(total, labels, tap, images)
        del sums
    write_atomic(marker, json.dumps({"counts": counts.tolist()}).encode())


@torch.inference_mode()
def add_statistics(total: Tensor, labels: Tensor, tap: ObserverTap, images: Tensor) -> None:
    """Add a batch to the sums of one observer.

    Args:
        total: float64 [C, 3, W] on the CPU, changed in place.
        labels: int64 [n] on the CPU, n at most the size of the batch.
        tap: of images.
        images: float [B, 3, R, R]; those after the first n are padding.
    """
    _, (mean, var) = tap(images.contiguous(memory_format=torch.channels_last))
    mean, var = (value[: len(labels)].cpu().double() for value in (mean, var))
    # in the order of the images, on the CPU: the same bits on every machine
    total.index_add_(0, labels, torch.stack([mean, mean.square(), var], dim=1))


def _batches(
    job: StatisticsJob, shards: Sequence[int], device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Views of the good images of a unit, normalised [batch, 3, R, R], and the labels.

    A last, short batch is padded: how an image is computed must not depend on where the unit ends.
    """
    all_shards = job.source.shards()
    rows = (row for index in shards for row in job.source.read(all_shards[index]))
    size, preprocessing = job.config.batch, job.preprocessing
    decoded = _decoded(rows, preprocessing, job.max_pixels, size)
    while group := list(islice(decoded, size)):
        pixels = torch.from_numpy(np.stack([p for _, p in group])).permute(0, 3, 1, 2)
        names = [row.id for row, _ in group]
        views = draw_views(pixels.to(device), names, job.config, job.flip, job.seed)
        images = normalise(views, preprocessing.mean, preprocessing.std)
        yield pad_batch(images, size), torch.tensor([row.class_index for row, _ in group])


def _decoded(
    rows: Iterator[Row], preprocessing: Preprocessing, max_pixels: int, ahead: int
) -> Iterator[tuple[Row, np.ndarray]]:
    """Good rows with their pixels, in order; other threads decode while the network computes."""

    def attempt(row: Row) -> tuple[Row, np.ndarray] | None:
        try:
            return None if row.reason else (row, decode(row.image, preprocessing, max_pixels))
        except BrokenImage:  # the score stage's table of rejected images says why
            return None

    return (found for found in map_ahead(attempt, rows, _DECODERS, ahead) if found)


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
