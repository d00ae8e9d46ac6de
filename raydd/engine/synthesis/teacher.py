"""One teacher and one adversary: the objective of CUDD and of what it stands on.

Covers CUDD (arXiv 2405.09150) and, with both extra weights 0 and a noise start, SRe2L (arXiv
2306.13092) and CDA (arXiv 2311.18838).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from upath import UPath

from raydd.engine.synthesis.advance import Objective
from raydd.engine.synthesis.loop import LoopConfig
from raydd.models.fold import fold_batch_norm
from raydd.models.layout import laid_out
from raydd.models.precision import autocast, autocast_dtype, freeze
from raydd.models.statistics import StatisticsTap, statistic_gap
from raydd.ops import augment, losses
from raydd.ops.configs import later
from raydd.store.checkpoint import load_checkpoint

_LEAST_GAP = 1e-6  # images that already have the statistics


@dataclass
class SynthesisConfig(LoopConfig):
    """One teacher and one adversary; the defaults are those of CUDD on ImageNet-1K.

    A batch holds one image of each of B classes. ``start`` is "real" (normalised real image),
    "noise" (normal noise in normalised space), or "real_unnormalised" (defect A of the official
    code: [0, 1] pixels taken as normalised).

    Attributes:
        batch_norm_weight: lambda_bn. The loss is a sum over layers: retune it per architecture, or
            set ``scale_statistics``.
        start_weight: lambda_2, pull towards the start image.
        adversarial_weight: lambda_adv, lowers the student's confidence; needs a student.
        adversarial_smoothing: epsilon of the adversarial target, in [0, 1).
        total_variation_weight: lambda_tv of the SRe2L prior.
        l2_weight: lambda_l2 of the SRe2L prior.
        scale_statistics: lambda_bn is in units of the statistics term at step 0, on the start
            images as they are: at 1 that term weighs what a guess does in the cross-entropy, ln C.
            The weight then carries over from one network to another.
    """

    STARTS: ClassVar[tuple[str, ...]] = ("real", "noise", "real_unnormalised")

    batch_norm_weight: float = 0.01
    start_weight: float = 1.0
    adversarial_weight: float = 1.0
    adversarial_smoothing: float = 0.0
    total_variation_weight: float = 0.0
    l2_weight: float = 0.0
    scale_statistics: bool = later(False)

    def __post_init__(self) -> None:
        """Refuse what cannot run, before any work."""
        super().__post_init__()
        if self.start == "noise" and self.start_weight > 0:
            raise ValueError("start=noise has no real image to stay near: set start_weight=0")


@dataclass(frozen=True)
class TeacherNetworks:
    """A teacher and, maybe, an adversary.

    Attributes:
        teacher: checkpoint folder.
        student: checkpoint folder of the adversary, or None.
        config: weights of the terms.
    """

    teacher: str
    student: str | None
    config: SynthesisConfig

    def objective(self, device: str) -> Objective:
        """See :class:`.worker.NetworkNames`."""
        teacher, _ = load_checkpoint(UPath(self.teacher))
        student = load_checkpoint(UPath(self.student))[0] if self.student else None
        return TeacherObjective(teacher, student, self.config, device)


class TeacherObjective:
    """Loss terms of a teacher and a student.

    Args:
        teacher: frozen classifier; copied, not changed.
        student: adversary trained so far; None leaves the adversarial term out.
        config: weights of the terms.
        device: where to optimise.

    Raises:
        ValueError: the teacher has no BatchNorm layer but the batch-norm weight is above 0.
    """

    period = 1

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module | None,
        config: SynthesisConfig,
        device: torch.device | str,
    ):
        self.config = config
        self.device = torch.device(device)
        self.dtype = autocast_dtype(config.precision, self.device)
        self.weights: dict[str, float | Tensor] = {
            "cross_entropy": 1.0,
            "batch_norm": config.batch_norm_weight,
            "start": config.start_weight,
            "adversarial": 0.0 if student is None else config.adversarial_weight,
            "total_variation": config.total_variation_weight,
            "l2": config.l2_weight,
        }
        self.teacher = StatisticsTap(freeze(teacher, self.device, self.dtype))
        if self.weights["batch_norm"] > 0 and not self.teacher.num_layers:
            raise ValueError("the teacher has no BatchNorm layer: set batch_norm_weight=0")
        self.student: nn.Module | None = None
        if student is not None and self.weights["adversarial"] > 0:
            self.student = freeze(fold_batch_norm(student), self.device, self.dtype)
        self._compute: Callable[..., dict[str, Tensor]] = self._all_terms
        if config.compile:
            self._compute = torch.compile(self._all_terms, dynamic=False)

    def begin(self, origin: Tensor, labels: Tensor) -> None:
        """Start a unit."""
        self._origin, self._labels = origin, labels
        if self.config.scale_statistics and self.config.batch_norm_weight > 0:
            self.weights["batch_norm"] = self._scaled_weight(origin)

    def terms(self, images: Tensor, rows: Tensor, columns: Tensor, step: int) -> dict[str, Tensor]:
        """See :class:`raydd.engine.synthesis.advance.Objective`."""
        return self._compute(images, self._origin, self._labels, rows, columns)

    @torch.no_grad()
    def _scaled_weight(self, origin: Tensor) -> Tensor:
        """The weight that makes the term at step 0 ``batch_norm_weight`` times ln C."""
        with autocast(self.device, self.dtype):
            logits, found = self.teacher(origin.contiguous(memory_format=torch.channels_last))
        assert found is not None
        batch, running, groups = found
        gap = statistic_gap(batch, running, groups, self.config.first_layer_multiplier)
        return self.config.batch_norm_weight * math.log(logits.shape[1]) / gap.clamp(min=_LEAST_GAP)

    def stepped(self, images: Tensor) -> None:
        """Nothing is kept between steps."""

    def _all_terms(
        self, images: Tensor, origin: Tensor, labels: Tensor, rows: Tensor, columns: Tensor
    ) -> dict[str, Tensor]:
        """Every loss term whose weight is not 0, unweighted, and their weighted "total"."""
        seen = augment.apply_view(images, rows, columns)
        with autocast(self.device, self.dtype):
            batch = seen.contiguous(memory_format=torch.channels_last)
            logits, statistics = self.teacher(batch)
            student = self.student
            adversary_logits = None if student is None else student(laid_out(seen, student))
        logits = logits.float()
        correct = logits.detach().argmax(dim=1) == labels
        terms = {"cross_entropy": F.cross_entropy(logits, labels)}
        if self.weights["batch_norm"] > 0:
            assert statistics is not None
            batch, running, groups = statistics
            terms["batch_norm"] = statistic_gap(
                batch, running, groups, self.config.first_layer_multiplier
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
