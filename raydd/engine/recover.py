"""The recover loop: optimise the pixels of one work unit against a frozen teacher.

One call optimises one batch of images. It knows nothing of Ray; engine/synthesize.py spreads the
units. The result depends only on (config, networks, start images, labels, seed parts), never on the
worker; like all of torch it is equal to the bit only for one device, precision and thread count.
Covers CUDD (arXiv 2405.09150) and, with both extra weights 0 and a noise start, SRe2L (arXiv
2306.13092) and CDA (arXiv 2311.18838).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raydd.engine.recover_config import SynthesisConfig
from raydd.models.fold import fold_batch_norm
from raydd.models.precision import autocast_dtype
from raydd.models.statistics import StatisticsTap
from raydd.ops import augment, losses
from raydd.ops.augment import ViewParameters
from raydd.ops.schedules import cosine_factor, crop_scale_minimum
from raydd.ops.seeds import generator

__all__ = ["Recovered", "Recovery", "SynthesisConfig", "recover"]


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


def recover(
    start: Tensor | None,
    labels: Tensor,
    teacher: nn.Module,
    student: nn.Module | None,
    config: SynthesisConfig,
    mean: Sequence[float],
    std: Sequence[float],
    resolution: int,
    seed_parts: tuple[str | int, ...],
    device: torch.device | str,
) -> Recovered:
    """Optimise one batch; see `Recovery`, which prepares the networks once for many batches."""
    recovery = Recovery(teacher, student, config, mean, std, resolution, device)
    return recovery.run(start, labels, seed_parts)


class Recovery:
    """Networks prepared for the recover loop, for any number of units.

    Args:
        teacher: frozen classifier; copied, not changed.
        student: adversary trained so far; None leaves the adversarial term out.
        config: constants of the loop.
        mean: per channel, the teacher's preprocessing; (0, 0, 0) for teachers of raw pixels.
        std: per channel; (1, 1, 1) for teachers of raw pixels.
        resolution: R, side of the images, pixels.
        device: where to optimise.

    Raises:
        ValueError: the teacher has no BatchNorm layer but the batch-norm weight is above 0.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module | None,
        config: SynthesisConfig,
        mean: Sequence[float],
        std: Sequence[float],
        resolution: int,
        device: torch.device | str,
    ):
        self.config = config
        self.resolution = resolution
        self.device = torch.device(device)
        self.dtype = autocast_dtype(config.precision, self.device)
        self.weights = {
            "cross_entropy": 1.0,
            "batch_norm": config.batch_norm_weight,
            "start": config.start_weight,
            "adversarial": 0.0 if student is None else config.adversarial_weight,
            "total_variation": config.total_variation_weight,
            "l2": config.l2_weight,
        }
        frozen = copy.deepcopy(teacher).eval().requires_grad_(False)
        self.teacher = StatisticsTap(self._prepare(frozen))
        if self.weights["batch_norm"] > 0 and not self.teacher.num_layers:
            raise ValueError("the teacher has no BatchNorm layer: set batch_norm_weight=0")
        self.student: nn.Module | None = None
        if student is not None and self.weights["adversarial"] > 0:
            self.student = self._prepare(fold_batch_norm(student))
        self.mean = torch.tensor(mean, dtype=torch.float32, device=self.device).view(1, -1, 1, 1)
        self.std = torch.tensor(std, dtype=torch.float32, device=self.device).view(1, -1, 1, 1)
        self._objective: Callable[..., dict[str, Tensor]] = self._all_terms
        if config.compile:
            self._objective = torch.compile(self._all_terms, dynamic=False)

    def run(
        self, start: Tensor | None, labels: Tensor, seed_parts: tuple[str | int, ...]
    ) -> Recovered:
        """Optimise one unit and return its last iterate.

        Args:
            start: uint8 [B, 3, R, R] real images; ignored (may be None) when the start is noise.
            labels: int64 [B], class of each image; any B, so a last partial block works.
            seed_parts: names of the unit, e.g. (run seed, stage, unit); they fix every draw.

        Raises:
            ValueError: no start images although the config starts from real ones, or wrong shape.
            FloatingPointError: the optimisation ended in values that are not finite.
        """
        config = self.config
        origin = self._start(start, len(labels), seed_parts).contiguous()
        images = origin.clone().requires_grad_(True)
        labels = labels.to(self.device)
        lowest, highest = -self.mean / self.std, (1 - self.mean) / self.std
        views = self._draw_views(len(labels), seed_parts)
        adam = torch.optim.Adam(
            [images], betas=(config.adam_betas[0], config.adam_betas[1]), fused=True
        )
        first: dict[str, Tensor] = {}
        terms: dict[str, Tensor] = {}
        with torch.backends.cudnn.flags(benchmark=False, deterministic=True):
            for step in range(config.steps):
                adam.param_groups[0]["lr"] = config.learning_rate * cosine_factor(
                    step, config.steps
                )
                view = ViewParameters(*(draws[step] for draws in views))
                terms = self._objective(images, origin, labels, view)
                (gradient,) = torch.autograd.grad(terms["total"], images)
                # the fused step walks through memory: both need one layout, or pixels are mixed up
                images.grad = gradient.contiguous()
                adam.step()
                with torch.no_grad():
                    images.clamp_(lowest, highest)
                terms = {name: value.detach() for name, value in terms.items()}
                first = first or terms
        return Recovered(self._to_uint8(images.detach()), _floats(first), _floats(terms))

    def _all_terms(
        self, images: Tensor, origin: Tensor, labels: Tensor, view: ViewParameters
    ) -> dict[str, Tensor]:
        """Every loss term whose weight is not 0, unweighted, and their weighted "total"."""
        rows, columns = augment.view_matrices(view, self.resolution)
        seen = augment.apply_view(images, rows, columns)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            batch = seen.contiguous(memory_format=torch.channels_last)
            logits, statistics = self.teacher(batch)
            adversary_logits = None if self.student is None else self.student(batch)
        logits = logits.float()
        correct = logits.detach().argmax(dim=1) == labels
        terms = {"cross_entropy": F.cross_entropy(logits, labels)}
        if self.weights["batch_norm"] > 0:
            terms["batch_norm"] = losses.batch_norm_loss(
                statistics, self.config.first_layer_multiplier
            )
        if self.weights["start"] > 0:
            # resizing is linear: the view of the difference is the difference of the views
            difference = augment.apply_view(images - origin, rows, columns)
            terms["start"] = losses.start_image_loss(difference)
        if adversary_logits is not None:
            terms["adversarial"] = losses.adversarial_loss(
                adversary_logits, labels, correct, self.config.adversarial_smoothing
            )
        if self.weights["total_variation"] > 0:
            terms["total_variation"] = losses.total_variation(seen)
        if self.weights["l2"] > 0:
            terms["l2"] = losses.l2_prior(seen)
        total = torch.stack([self.weights[name] * term for name, term in terms.items()]).sum()
        return terms | {"total": total, "teacher_correct": correct.float().mean()}

    def _prepare(self, network: nn.Module) -> nn.Module:
        """Move a frozen network to the device, weights of matrix products in the compute dtype."""
        network = network.to(self.device).to(memory_format=torch.channels_last)
        for module in network.modules():
            # autocast would convert frozen weights again in every step
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.to(self.dtype)
        return network

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
