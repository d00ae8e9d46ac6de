"""The recover loop: optimise the pixels of one work unit against frozen networks.

One call optimises one batch of images. It knows nothing of Ray; :mod:`.stage` spreads the
units. What is optimised is an objective: a teacher's and a student's
(:mod:`.teacher`) or many observers' (:mod:`.observers`).
The result depends only on (config, networks, start images, labels, seed parts), never on the
worker; like all of torch it is equal to the bit only for one device, precision and thread count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from raydd.engine.synthesis.advance import Objective, PixelSteps, Recording
from raydd.models.exact import deterministic_kernels
from raydd.models.precision import PRECISIONS, autocast_dtype
from raydd.ops import augment
from raydd.ops.augment import ViewParameters
from raydd.ops.configs import check_at_least_one, check_choices
from raydd.ops.schedules import CROP_SCHEDULES, crop_scale_minimum, smooth_factor
from raydd.ops.seeds import generator


@dataclass
class LoopConfig:
    """Constants of the loop itself, whatever is optimised.

    Attributes:
        steps: N, optimisation steps per batch.
        batch_size: B, images per batch; part of the algorithm.
        learning_rate: lr0 of Adam, in units of normalised pixels per step.
        zeta: the learning rate's cosine reaches 0 at zeta * steps; 1 is a plain cosine.
        adam_betas: decay of Adam's first and second moment.
        first_layer_multiplier: weight of the stem's statistics in the statistics term.
        start: what the images are optimised from; see the subclasses.
        crop: draw a random resized crop each step; the CIFAR recipe of SRe2L has none.
        crop_scale: smallest and largest crop area, fractions of the image.
        crop_ratio: smallest and largest width / height of the crop.
        crop_schedule: "constant" (SRe2L), "cosine", "linear" or "step" (CDA).
        crop_milestone: fraction of the steps at which the schedule reaches crop_scale[0].
        flip: mirror the view with probability 1/2, unless the data set says that it has no mirror
            images (dataset.flip=0).
        roll: smallest and largest cyclic shift of the view, pixels, both included.
        view_per_image: draw one view per image and step instead of one per batch and step.
        precision: "bf16", "fp16", "fp32", or "auto": bf16 where the device is fast at it,
            else fp16 where a GPU does.
        compile: run the objective through torch.compile; needs a C++ compiler on a CPU.
    """

    STARTS: ClassVar[tuple[str, ...]] = ("real", "noise")

    steps: int = 4000
    batch_size: int = 100
    learning_rate: float = 0.25
    zeta: float = 1.0
    adam_betas: tuple[float, float] = (0.5, 0.9)
    first_layer_multiplier: float = 10.0
    start: str = "real"
    crop: bool = True
    crop_scale: tuple[float, float] = (0.08, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    crop_schedule: str = "constant"
    crop_milestone: float = 1.0
    flip: bool = True
    roll: tuple[int, int] = (0, 32)
    view_per_image: bool = False
    precision: str = "auto"
    compile: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot run, before any work."""
        check_choices(
            self,
            {"start": self.STARTS, "precision": PRECISIONS, "crop_schedule": CROP_SCHEDULES},
        )
        check_at_least_one(self, "steps", "batch_size")
        if not 0 < self.crop_scale[0] <= self.crop_scale[1] <= 1:
            raise ValueError(f"crop_scale must rise within (0, 1], got {tuple(self.crop_scale)}")
        if self.roll[0] > self.roll[1]:
            raise ValueError(f"roll must be [smallest, largest] pixels, got {tuple(self.roll)}")
        if self.zeta < 1:
            raise ValueError(f"zeta must be at least 1, got {self.zeta}")


@dataclass(frozen=True)
class Recovered:
    """Result of one unit.

    Attributes:
        images: uint8 [B, 3, R, R] on the CPU, rounded.
        first: each loss term (unweighted), "total" and "teacher_correct" (fraction of the views
            that the teacher classifies correctly) at the first step.
        last: the same at the last step.
    """

    images: Tensor
    first: dict[str, float]
    last: dict[str, float]


class Recovery:
    """The loop over any number of units.

    Args:
        objective: what the images are optimised for.
        config: constants of the loop.
        mean: per channel, the networks' preprocessing; (0, 0, 0) for networks of raw pixels.
        std: per channel; (1, 1, 1) for networks of raw pixels.
        resolution: R, side of the images, pixels.
        device: where to optimise.
        recording: of the steps, on a GPU.
    """

    def __init__(
        self,
        objective: Objective,
        config: LoopConfig,
        mean: Sequence[float],
        std: Sequence[float],
        resolution: int,
        device: torch.device | str,
        recording: Recording | None = None,
    ):
        self.objective, self.recording = objective, recording or Recording()
        self.config = config
        self.resolution = resolution
        self.device = torch.device(device)
        self.dtype = autocast_dtype(config.precision, self.device)
        self.mean = torch.tensor(mean, dtype=torch.float32, device=self.device).view(1, -1, 1, 1)
        self.std = torch.tensor(std, dtype=torch.float32, device=self.device).view(1, -1, 1, 1)

    def run(
        self,
        start: Tensor | None,
        labels: Tensor,
        seed_parts: tuple[str | int, ...],
        beat: Callable[[int, Tensor], None] | None = None,
    ) -> Recovered:
        """Optimise one unit and return its last iterate.

        Args:
            start: uint8 [B, 3, R, R] real images; ignored (may be None) when the start is noise.
            labels: int64 [B], class of each image; any B, so a last partial block works.
            seed_parts: names of the unit, e.g. (run seed, stage, unit); they fix every draw.
            beat: told how many steps are done, and the loss.

        Raises:
            ValueError: no start images although the config starts from real ones, or wrong shape.
            FloatingPointError: the optimisation ended in values that are not finite.
        """
        config = self.config
        origin = self._start(start, len(labels), seed_parts).contiguous()
        images = origin.clone().requires_grad_(True)
        self.objective.begin(origin, labels.to(self.device))
        views = self._draw_views(len(labels), seed_parts)
        bounds = -self.mean / self.std, (1 - self.mean) / self.std
        rates = [
            config.learning_rate * smooth_factor(step, config.steps, config.zeta)
            for step in range(config.steps)
        ]
        betas, own = config.adam_betas, (self.dtype, self.recording)
        steps = PixelSteps(self.objective, images, bounds, betas, rates, *own)
        first: dict[str, Tensor] = {}
        terms: dict[str, Tensor] = {}
        with deterministic_kernels():
            for step, (rows, columns) in enumerate(augment.walk_views(views, self.resolution)):
                terms = steps(step, rows, columns)
                first = first or terms
                if beat:
                    beat(step + 1, terms["total"])
        return Recovered(self._to_uint8(images.detach()), _floats(first), _floats(terms))

    def _start(self, start: Tensor | None, count: int, seed_parts: tuple[str | int, ...]) -> Tensor:
        """Start images in normalised space, float32 [B, 3, R, R]."""
        shape = (count, 3, self.resolution, self.resolution)
        if self.config.start == "noise":
            return torch.randn(shape, generator=generator(*seed_parts, "noise")).to(self.device)
        if start is None or start.dtype != torch.uint8 or tuple(start.shape) != shape:
            got = "none" if start is None else f"{start.dtype} {tuple(start.shape)}"
            raise ValueError(f"start={self.config.start} needs uint8 images {shape}, got {got}")
        pixels = start.to(self.device).float() / 255
        if self.config.start == "real_unnormalised":
            return pixels
        return (pixels - self.mean) / self.std

    def _draw_views(self, count: int, seed_parts: tuple[str | int, ...]) -> ViewParameters:
        """All views of a unit at once: [steps, ...], or [steps, B, ...] with a view per image."""
        config = self.config
        shape = (config.steps, count) if config.view_per_image else (config.steps,)
        lowest = [
            crop_scale_minimum(
                step,
                config.steps,
                config.crop_schedule,
                config.crop_milestone,
                config.crop_scale[0],
            )
            for step in range(config.steps)
        ]
        per_step = count if config.view_per_image else 1
        scale = (torch.tensor(lowest).repeat_interleave(per_step), config.crop_scale[1])
        views = augment.draw_views(
            config.steps * per_step,
            generator(*seed_parts, "views"),
            crop_scale=scale if config.crop else None,
            crop_ratio=config.crop_ratio,
            flip=config.flip,
            roll=config.roll,
        )
        return ViewParameters(
            *(draws.reshape(shape + draws.shape[1:]).to(self.device) for draws in views)
        )

    def _to_uint8(self, images: Tensor) -> Tensor:
        if not images.isfinite().all():
            raise FloatingPointError("recover diverged: lower the learning rate or use fp32")
        pixels = (images * self.std + self.mean).clamp(0, 1)
        return (pixels * 255).round().to(torch.uint8).cpu()


def _floats(terms: dict[str, Tensor]) -> dict[str, float]:
    return {name: float(value) for name, value in terms.items()}
