"""Every constant of the recover loop, with the checks that need no data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from raydd.models.precision import PRECISIONS
from raydd.ops.checks import check_at_least_one, check_choices
from raydd.ops.schedules import CROP_SCHEDULES

MOMENTUM_STARTS = ("first", "zero")


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
        precision: "bf16", "fp32", or "auto": bf16 where the device computes it in hardware.
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


@dataclass
class SynthesisConfig(LoopConfig):
    """One teacher and one adversary; the defaults are those of CUDD on ImageNet-1K.

    A batch holds one image of each of B classes. ``start`` is "real" (normalised real image),
    "noise" (normal noise in normalised space), or "real_unnormalised" (defect A of the official
    code: [0, 1] pixels taken as normalised).

    Attributes:
        batch_norm_weight: lambda_bn. The loss is a sum over layers: retune it per architecture.
        start_weight: lambda_2, pull towards the start image.
        adversarial_weight: lambda_adv, lowers the student's confidence; needs a student.
        adversarial_smoothing: epsilon of the adversarial target, in [0, 1).
        total_variation_weight: lambda_tv of the SRe2L prior.
        l2_weight: lambda_l2 of the SRe2L prior.
    """

    STARTS: ClassVar[tuple[str, ...]] = ("real", "noise", "real_unnormalised")

    batch_norm_weight: float = 0.01
    start_weight: float = 1.0
    adversarial_weight: float = 1.0
    adversarial_smoothing: float = 0.0
    total_variation_weight: float = 0.0
    l2_weight: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what cannot run, before any work."""
        super().__post_init__()
        if self.start == "noise" and self.start_weight > 0:
            raise ValueError("start=noise has no real image to stay near: set start_weight=0")


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
