"""The recover loop: optimise the pixels of one work unit against a frozen teacher.

One call optimises one batch of images. It knows nothing of Ray; engine/synthesize.py spreads the
units. The result depends only on (config, networks, start images, labels, seed parts), never on the
worker. Covers CUDD (arXiv 2405.09150) and, with both extra weights 0 and a noise start, SRe2L
(arXiv 2306.13092) and CDA (arXiv 2311.18838).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raydd.engine.recover_config import SynthesisConfig
from raydd.models.fold import fold_batch_norm
from raydd.models.statistics import StatisticsTap
from raydd.ops import augment, losses
from raydd.ops.schedules import cosine_factor, crop_scale_minimum
from raydd.ops.seeds import generator

__all__ = ["Recovered", "Recovery", "SynthesisConfig", "choose_dtype", "recover"]


@dataclass(frozen=True)
class Recovered:
    """Result of one unit.

    Attributes:
        images: uint8 [B, 3, R, R] on the CPU, rounded.
        first: each loss term (unweighted), "total" and "teacher_correct" (fraction of the views that
            the teacher classifies correctly) at the first step.
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
    """Optimise one batch of images; see `Recovery`, which serves many batches at less cost."""
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
        self.dtype = choose_dtype(config.precision, self.device)
        self.teacher = StatisticsTap(self._prepare(_frozen_copy(teacher)))
        if config.batch_norm_weight > 0 and not self.teacher.num_layers:
            raise ValueError("the teacher has no BatchNorm layer: set batch_norm_weight=0")
        adversary = student if config.adversarial_weight > 0 else None
        self.student = None if adversary is None else self._prepare(fold_batch_norm(adversary))
        self.mean = torch.tensor(mean, dtype=torch.float32, device=self.device).view(1, -1, 1, 1)
        self.std = torch.tensor(std, dtype=torch.float32, device=self.device).view(1, -1, 1, 1)
        self.objective = torch.compile(self._objective) if config.compile else self._objective

    def run(
        self, start: Tensor | None, labels: Tensor, seed_parts: tuple[str | int, ...]
    ) -> Recovered:
        """Optimise one unit.

        Args:
            start: uint8 [B, 3, R, R] real images; ignored (may be None) when the start is noise.
            labels: int64 [B], class of each image; any B, so a last partial block works.
            seed_parts: names of the unit, e.g. (run seed, stage, unit); they fix every draw.

        Raises:
            ValueError: no start images although the config starts from real ones, or a wrong shape.
        """
        config = self.config
        origin = self._start(start, len(labels), seed_parts)
        images = origin.clone().requires_grad_(True)
        labels = labels.to(self.device)
        lowest, highest = -self.mean / self.std, (1 - self.mean) / self.std
        views = self._draw_views(len(labels), seed_parts)
        optimizer = torch.optim.Adam(
            [images], lr=config.learning_rate, betas=tuple(config.adam_betas), fused=True
        )
        first: dict[str, Tensor] = {}
        for step in range(config.steps):
            factor = cosine_factor(step, config.steps)
            optimizer.param_groups[0]["lr"] = config.learning_rate * factor
            view = augment.ViewParameters(*(draws[step] for draws in views))
            terms = self.objective(images, origin, labels, view)
            images.grad = torch.autograd.grad(terms["total"], images)[0]
            optimizer.step()
            with torch.no_grad():
                images.clamp_(lowest, highest)
            terms = {name: value.detach() for name, value in terms.items()}
            first = first or terms
        return Recovered(self._to_uint8(images.detach()), _floats(first), _floats(terms))

    def _objective(
        self, images: Tensor, origin: Tensor, labels: Tensor, view: augment.ViewParameters
    ) -> dict[str, Tensor]:
        """Every loss term of one view, unweighted, and their weighted total."""
        config = self.config
        rows, columns = augment.view_matrices(view, self.resolution)
        seen = augment.apply_view(images, rows, columns)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            batch = seen.contiguous(memory_format=torch.channels_last)
            logits, statistics = self.teacher(batch)
            adversary_logits = None if self.student is None else self.student(batch)
        logits = logits.float()
        correct = logits.detach().argmax(dim=1) == labels
        terms = {"cross_entropy": F.cross_entropy(logits, labels)}
        total = terms["cross_entropy"]
        if config.batch_norm_weight > 0:
            terms["batch_norm"] = losses.batch_norm_loss(statistics, config.first_layer_multiplier)
            total = total + config.batch_norm_weight * terms["batch_norm"]
        if config.start_weight > 0:
            difference = augment.apply_view(images - origin, rows, columns)
            terms["start"] = losses.start_image_loss(difference)
            total = total + config.start_weight * terms["start"]
        if adversary_logits is not None:
            terms["adversarial"] = losses.adversarial_loss(
                adversary_logits, labels, correct, config.adversarial_smoothing
            )
            total = total + config.adversarial_weight * terms["adversarial"]
        if config.total_variation_weight > 0:
            terms["total_variation"] = losses.total_variation(seen)
            total = total + config.total_variation_weight * terms["total_variation"]
        if config.l2_weight > 0:
            terms["l2"] = losses.l2_prior(seen)
            total = total + config.l2_weight * terms["l2"]
        return terms | {"total": total, "teacher_correct": correct.float().mean()}

    def _prepare(self, network: nn.Module) -> nn.Module:
        """Move a frozen network to the device, weights of matrix products in the compute dtype."""
        network = network.to(self.device, memory_format=torch.channels_last)
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.to(self.dtype)
        return network

    def _start(
        self, start: Tensor | None, count: int, seed_parts: tuple[str | int, ...]
    ) -> Tensor:
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

    def _draw_views(self, count: int, seed_parts: tuple[str | int, ...]) -> augment.ViewParameters:
        """All views of a unit at once: [steps, ...], or [steps, B, ...] with one view per image."""
        config = self.config
        per_step = count if config.view_per_image else 1
        lowest = torch.tensor(
            [
                crop_scale_minimum(
                    step, config.steps, config.crop_schedule, config.crop_milestone,
                    config.crop_scale[0],
                )
                for step in range(config.steps)
            ]
        )
        scale = (lowest.repeat_interleave(per_step), config.crop_scale[1])
        views = augment.draw_views(
            config.steps * per_step,
            generator(*seed_parts, "views"),
            crop_scale=scale if config.crop else None,
            crop_ratio=config.crop_ratio,
            flip=config.flip,
            roll=config.roll,
        )
        shape = (config.steps, per_step) if config.view_per_image else (config.steps,)
        return augment.ViewParameters(
            *(draws.reshape(shape + draws.shape[1:]).to(self.device) for draws in views)
        )

    def _to_uint8(self, images: Tensor) -> Tensor:
        pixels = (images * self.std + self.mean).clamp(0, 1)
        return (pixels * 255).round().to(torch.uint8).cpu()


def choose_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Return the dtype of the matrix products: bfloat16 where wanted and fast, else float32."""
    if precision == "auto":
        if device.type == "cuda":
            fast = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            fast = torch.cpu._is_avx512_bf16_supported()
        return torch.bfloat16 if fast else torch.float32
    return torch.bfloat16 if precision == "bf16" else torch.float32


def _frozen_copy(network: nn.Module) -> nn.Module:
    return copy.deepcopy(network).eval().requires_grad_(False)


def _floats(terms: dict[str, Tensor]) -> dict[str, float]:
    return {name: float(value) for name, value in terms.items()}
