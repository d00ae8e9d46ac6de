"""Many observers: match what their layers see on the real images, one observer in each step.

Source: arXiv 2404.13733 (EDC) and, with ``alpha=1``, arXiv 2311.17950 (G-VBSM).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from upath import UPath

from raydd.engine.passes.statistics import read_targets
from raydd.engine.synthesis.advance import Objective
from raydd.engine.synthesis.loop import LoopConfig
from raydd.models.layout import laid_out
from raydd.models.observer import ObserverTap
from raydd.models.precision import autocast, autocast_dtype, freeze
from raydd.models.statistics import statistic_gap
from raydd.ops import augment, losses
from raydd.ops.configs import check_choices
from raydd.store.checkpoint import load_checkpoint

MOMENTUM_STARTS = ("first", "zero")


@dataclass
class MatchConfig(LoopConfig):
    """Many observers whose statistics are matched; the defaults are those of EDC on ImageNet-1K.

    A batch holds all images of as many classes as fit. ``start`` is "real" (random real images of
    the class), "rded" (tiles of the crops that the observers know best) or "noise".

    Attributes:
        statistics_weight: lambda_r. The term is a sum over layers: retune it per observer set.
        alpha: share of the whole set's statistics in the statistics term, in [0, 1]; the rest is
            the mixture of the batch's classes ("soft category-aware"). 1 is G-VBSM.
        momentum: a_m of the running average of the batch statistics; 0 uses the batch's alone.
        momentum_start: "first" (the average starts as the first batch's statistics) or "zero" (the
            authors' code: biased towards 0 by the factor 1 - momentum ** n).
        flatness_weight: lambda_F of the term that keeps predictions near those for the running
            average of the images; 0 is off.
        flatness_temperature: tau of that term.
        flatness_decay: of the running average of the images, per step.
        densification_weight: of G-VBSM's term that spreads the images of a class; 0 is off.
    """

    STARTS: ClassVar[tuple[str, ...]] = ("real", "rded", "noise")

    steps: int = 2000
    batch_size: int = 80
    learning_rate: float = 0.05
    crop_scale: tuple[float, float] = (0.5, 1.0)
    roll: tuple[int, int] = (0, 0)
    statistics_weight: float = 0.1
    alpha: float = 0.5
    momentum: float = 0.8
    momentum_start: str = "first"
    flatness_weight: float = 0.25
    flatness_temperature: float = 4.0
    flatness_decay: float = 0.99
    densification_weight: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what cannot run, before any work."""
        super().__post_init__()
        check_choices(self, {"momentum_start": MOMENTUM_STARTS})
        for name in ("alpha", "momentum", "flatness_decay"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        if self.compile:
            raise ValueError("compile=true is not offered with many observers")


class ObserverObjective:
    """Loss terms of K observers in round-robin.

    Args:
        observers: frozen classifiers with one preprocessing; copied, not changed.
        targets: gives the targets of observer k for a batch's labels, float32 [2, 2, W]: of the
            whole set and of the batch's classes, each means and variances.
        config: weights of the terms.
        resolution: R, side of the images, pixels.
        patch: side of a tile, pixels; the one that the targets were measured with.
        device: where to optimise.
    """

    def __init__(
        self,
        observers: Sequence[nn.Module],
        targets: Callable[[int, Sequence[int]], Tensor],
        config: MatchConfig,
        resolution: int,
        patch: int,
        device: torch.device | str,
    ):
        self.config = config
        self.device = torch.device(device)
        self.dtype = autocast_dtype(config.precision, self.device)
        with autocast(self.device, self.dtype):  # a tap looks at its layers in a first pass
            self.taps = [
                ObserverTap(freeze(network, self.device, self.dtype), resolution, patch)
                for network in observers
            ]
        self.period = len(self.taps)
        self._read_targets = targets

    def begin(self, origin: Tensor, labels: Tensor) -> None:
        """Start a unit: read its targets, forget the running averages of the last one."""
        self._labels = labels
        self._targets = [
            self._read_targets(number, labels.tolist()).to(self.device)
            for number in range(len(self.taps))
        ]
        self._averages = [
            RunningStatistics(self.config.momentum, self.config.momentum_start == "zero")
            for _ in self.taps
        ]
        self._average_images = origin.clone() if self.config.flatness_weight > 0 else None

    def terms(self, images: Tensor, rows: Tensor, columns: Tensor, step: int) -> dict[str, Tensor]:
        """Cross-entropy, statistics and, where their weights are not 0, the other terms."""
        config, number = self.config, step % len(self.taps)
        tap = self.taps[number]
        seen = augment.apply_view(images, rows, columns)
        logits, statistics = self._forward(tap, seen, read=True)
        terms = {
            "cross_entropy": F.cross_entropy(logits, self._labels),
            "statistics": self._statistics_term(number, torch.stack(statistics)),
        }
        weights = {"cross_entropy": 1.0, "statistics": config.statistics_weight}
        if self._average_images is not None:
            with torch.no_grad():
                average = augment.apply_view(self._average_images, rows, columns)
                reference, _ = self._forward(tap, average, read=False)
            terms["flatness"] = losses.flatness_loss(logits, reference, config.flatness_temperature)
            weights["flatness"] = config.flatness_weight
        if config.densification_weight > 0:
            terms["densification"] = losses.densification_loss(images, self._labels)
            weights["densification"] = config.densification_weight
        total = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
        correct = logits.detach().argmax(dim=1) == self._labels
        return terms | {"total": total, "teacher_correct": correct.float().mean()}

    def stepped(self, images: Tensor) -> None:
        """Move the running average of the images."""
        if self._average_images is not None:
            self._average_images.lerp_(images, 1 - self.config.flatness_decay)

    def _forward(self, tap: ObserverTap, images: Tensor, read: bool) -> tuple[Tensor, Any]:
        with autocast(self.device, self.dtype):
            logits, statistics = tap(laid_out(images, tap.network), read)
        return logits.float(), statistics

    def _statistics_term(self, number: int, statistics: Tensor) -> Tensor:
        """The statistics loss of one observer; ``statistics`` [2, W] are the batch's."""
        used = self._averages[number](statistics)
        tap = self.taps[number]
        shares = (self.config.alpha, 1 - self.config.alpha)
        gaps = [
            share * statistic_gap(used, target, tap.groups, self.config.first_layer_multiplier)
            for share, target in zip(shares, self._targets[number], strict=True)
            if share > 0
        ]
        return torch.stack(gaps).sum()


class RunningStatistics:
    """A running average that passes the gradient of the newest value alone.

    The value is a_m * average + (1 - a_m) * s, its gradient that of s ("straight through").

    Args:
        momentum: a_m, in [0, 1]; 0 gives s itself.
        from_zero: start at 0, as the authors' code does, instead of the first value.
    """

    def __init__(self, momentum: float, from_zero: bool = False):
        self.momentum = momentum
        self.from_zero = from_zero
        self.average: Tensor | None = None

    def __call__(self, statistics: Tensor) -> Tensor:
        """Take in a new value and return the average with the new value's gradient."""
        new = statistics.detach()
        if self.average is None:
            self.average = torch.zeros_like(new) if self.from_zero else new.clone()
        # in place: a recorded step must find it where it was
        self.average.copy_(torch.lerp(new, self.average, self.momentum))
        return statistics + (self.average - new)


@dataclass(frozen=True)
class ObserverNetworks:
    """Many observers and the statistics that they are asked to see again.

    Attributes:
        observers: checkpoint folders.
        statistics: folder of the statistics stage.
        num_layers: layers of each observer that the statistics know.
        num_classes: C.
        patch: side of a tile, pixels.
        config: weights of the terms.
    """

    observers: tuple[str, ...]
    statistics: str
    num_layers: tuple[int, ...]
    num_classes: int
    patch: int
    config: MatchConfig

    def objective(self, device: str) -> Objective:
        """See :class:`.worker.NetworkNames`."""
        loaded = [load_checkpoint(UPath(folder)) for folder in self.observers]
        resolution = loaded[0][1].preprocessing.resolution
        networks = [network for network, _ in loaded]
        return ObserverObjective(
            networks, self._targets, self.config, resolution, self.patch, device
        )

    def _targets(self, observer: int, labels: Sequence[int]) -> torch.Tensor:
        layers = self.num_layers[observer]
        folder = UPath(self.statistics)
        return torch.from_numpy(read_targets(folder, observer, layers, self.num_classes, labels))
