"""Every constant of the recover loop, with the checks that need no data."""

from __future__ import annotations

from dataclasses import dataclass

from raydd.ops.schedules import CROP_SCHEDULES

STARTS = ("real", "noise", "real_unnormalised")
PRECISIONS = ("auto", "bf16", "fp32")


@dataclass
class SynthesisConfig:
    """Constants of the recover loop; the defaults are those of CUDD on ImageNet-1K.

    Attributes:
        steps: N, optimisation steps per batch.
        batch_size: B, images per batch, one of each of B classes; part of the algorithm.
        learning_rate: lr0 of Adam, in units of normalised pixels per step; cosine to 0.
        adam_betas: decay of Adam's first and second moment.
        batch_norm_weight: lambda_bn. The loss is a sum over layers: retune it per architecture.
        first_layer_multiplier: weight of the stem's statistics inside the batch-norm loss.
        start_weight: lambda_2, pull towards the start image.
        adversarial_weight: lambda_adv, lowers the student's confidence; needs a student.
        adversarial_smoothing: epsilon of the adversarial target, in [0, 1).
        total_variation_weight: lambda_tv of the SRe2L prior.
        l2_weight: lambda_l2 of the SRe2L prior.
        start: "real" (normalised real image), "noise" (normal noise in normalised space), or
            "real_unnormalised" (defect A of the official code: [0, 1] pixels taken as normalised).
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

    steps: int = 4000
    batch_size: int = 100
    learning_rate: float = 0.25
    adam_betas: tuple[float, float] = (0.5, 0.9)
    batch_norm_weight: float = 0.01
    first_layer_multiplier: float = 10.0
    start_weight: float = 1.0
    adversarial_weight: float = 1.0
    adversarial_smoothing: float = 0.0
    total_variation_weight: float = 0.0
    l2_weight: float = 0.0
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
        for name, value, allowed in (
            ("start", self.start, STARTS),
            ("precision", self.precision, PRECISIONS),
            ("crop_schedule", self.crop_schedule, CROP_SCHEDULES),
        ):
            if value not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
        if self.steps < 1 or self.batch_size < 1:
            raise ValueError("steps and batch_size must be at least 1")
        if self.start == "noise" and self.start_weight > 0:
            raise ValueError("start=noise has no real image to stay near: set start_weight=0")
        if not 0 < self.crop_scale[0] <= self.crop_scale[1] <= 1:
            raise ValueError(f"crop_scale must rise within (0, 1], got {tuple(self.crop_scale)}")
        if self.roll[0] > self.roll[1]:
            raise ValueError(f"roll must be [smallest, largest] pixels, got {tuple(self.roll)}")
