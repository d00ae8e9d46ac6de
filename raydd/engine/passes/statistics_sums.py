"""The pass of the statistics stage: workers walk through their units and leave exact sums."""

import json
import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack

import torch
import torch.nn.functional as F
from torch import Tensor
from upath import UPath

from raydd.engine.cost import Networks, TimedStep
from raydd.engine.passes.statistics_batches import StatisticsJob, read_batches
from raydd.models.layout import laid_out
from raydd.models.observer import ObserverTap
from raydd.models.registry import ModelConfig
from raydd.store.arrays import new_array
from raydd.store.checkpoint import load_frozen
from raydd.store.files import write_atomic
from raydd.store.units import Marker

SUMS = Marker("sums/{}/done.json")
_KINDS = 3  # of sums: of means, of squared means, of variances
_ON_DEVICE = 4 << 30  # bytes of sums; more of them are added up on the host


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
            add_statistics(total, labels, tap, networks.normalised(pixels, tap.network))

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
    shapes = [(num_classes, _KINDS, sum(tap.sizes)) for tap in taps]
    on_device = device.type != "cpu" and 8 * sum(map(math.prod, shapes)) <= _ON_DEVICE
    counts = torch.zeros(num_classes, dtype=torch.int64)
    with ExitStack() as stack:
        arrays = [
            stack.enter_context(
                new_array(marker.parent / f"observer{observer:02d}.npy", shape, "float64")
            )
            for observer, shape in enumerate(shapes)
        ]
        sums = [torch.from_numpy(array) for array in arrays]  # mapped files
        if on_device:
            sums = [torch.zeros(shape, dtype=torch.float64, device=device) for shape in shapes]
        for images, labels in read_batches(job, job.units[number], device):
            counts += torch.bincount(labels, minlength=num_classes)
            for tap, total in zip(taps, sums, strict=True):
                add_statistics(total, labels, tap, images)
        if on_device:
            for array, total in zip(arrays, sums, strict=True):
                array[...] = total.cpu().numpy()
        del sums, arrays
    write_atomic(marker, json.dumps({"counts": counts.tolist()}).encode())


@torch.inference_mode()
def add_statistics(total: Tensor, labels: Tensor, tap: ObserverTap, images: Tensor) -> None:
    """Add a batch to the sums of one observer.

    Args:
        total: float64 [C, 3, W] on the CPU or on the images' device, changed in place.
        labels: int64 [n] on the CPU, n at most the size of the batch.
        tap: of images.
        images: float [B, 3, R, R]; those after the first n are padding.
    """
    _, (mean, var) = tap(laid_out(images, tap.network))
    mean, var = (value[: len(labels)].to(total.device).double() for value in (mean, var))
    values = torch.stack([mean, mean.square(), var], dim=1)
    if total.device.type == "cpu":  # in the order of the images: the same bits on every machine
        total.index_add_(0, labels, values)
        return
    # a row of the sums is added to once: threads of a GPU that met there would take turns at random
    classes, at = labels.unique(return_inverse=True)
    members = F.one_hot(at).T.double().to(total.device)
    added = (members @ values.flatten(1)).view(-1, *values.shape[1:])
    total.index_add_(0, classes.to(total.device), added)
