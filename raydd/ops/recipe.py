"""A training recipe and its pure pieces: loss, optimiser, schedule; its views are in :mod:`.views`.

The same type describes how a teacher is squeezed, a student is trained and a distilled set is
judged.
"""

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raydd.ops.configs import check_at_least_one, check_choices, later
from raydd.ops.losses import distillation_loss, logit_loss
from raydd.ops.optimizers import SGD, AdamW
from raydd.ops.schedules import smooth_factor, step_factor
from raydd.ops.views.mixing import Mix

CHOICES = {
    "crop": ("resized", "pad", "none"),
    "mix": ("cutmix", "mixup", "none"),
    "optimizer": ("adamw", "sgd"),
    "schedule": ("cosine", "step"),
    "loss": ("kl", "mse"),
}
_ROUNDING = 1e-6  # epochs: 0.1 * 30 is not 3
# Fields of a recipe that decide its views: labels made ahead hold for these values only.
VIEW_FIELDS = (
    "batch_size",
    "crop",
    "crop_scale",
    "padding",
    "color_jitter",
    "lighting",
    "mix",
    "mix_alpha",
    "cutout",
)


@dataclass
class Recipe:
    """How one network is trained.

    Attributes:
        epochs: passes over the images.
        batch_size: images per step over all workers.
        optimizer: "adamw" or "sgd".
        learning_rate: peak; decays over all steps.
        schedule: "cosine", or "step": multiplied by ``step_factor`` at every milestone.
        step_factor: in (0, 1].
        step_milestones: rising fractions of the training.
        zeta: the cosine reaches 0 at zeta times the length of the training: 1 is the plain one, 2
            ends at half the peak ("smoothing learning rate" of EDC).
        late_steep: fall linearly to 0 in the last sixth of the training (with zeta above 1,
            "early-smooth late-steep" of EDC).
        weight_decay: decoupled for adamw.
        decay_all: also decay biases and normalisation weights (tensors of one dimension).
        momentum: of sgd.
        nesterov: of sgd.
        warmup_epochs: linear rise from 1 % of the peak.
        crop: "resized" (random resized crop), "pad" (random crop after padding) or "none".
        crop_scale: area of a resized crop, fractions of the image.
        padding: of "pad", pixels.
        color_jitter: strength of random brightness, contrast and saturation, in [0, 1]; 0 is off.
        lighting: deviation of random shifts along the principal components of ImageNet's colours;
            0 is off.
        cutout: side of a square that is blanked in every view, pixels; 0 is off.
        mix: "cutmix", "mixup" or "none"; one draw per batch.
        mix_alpha: both parameters of the Beta distribution of the mixing share.
        loss: of soft labels: "kl" (softened distributions) or "mse" (logits).
        hard_weight: of the cross-entropy of the unmixed hard labels beside "mse"; 0.025 in EDC.
        temperature: of the soft labels, for "kl".
        scale_by_temperature: multiply the soft loss by the temperature squared.
        label_smoothing: of hard labels.
        average_decay: the network that is judged and kept is a running average of the weights (and
            of the BatchNorm statistics) with this decay per step; 0 is off.
        precision: "bf16", "fp16", "fp32" or "auto" (bf16, or on a GPU fp16, where the device
            is fast at it).
        stop_epoch: end after so many of the epochs that the schedule is for; 0 trains all.
        hard_span: [from, to] in fractions of the epochs: a training with soft labels uses hard
            ones, mixed and smoothed, on fresh views in the epochs that lie wholly in between (HALD,
            arXiv 2512.15647); [0, 0] is off.
        test_points: how often the test accuracy is looked at, the last epoch included.
    """

    epochs: int = 300
    batch_size: int = 128
    optimizer: str = "adamw"
    learning_rate: float = 0.001
    schedule: str = "cosine"
    step_factor: float = 0.2
    step_milestones: list[float] = field(default_factory=lambda: [2 / 3, 5 / 6])
    zeta: float = 1.0
    late_steep: bool = False
    weight_decay: float = 0.01
    decay_all: bool = False
    momentum: float = 0.9
    nesterov: bool = False
    warmup_epochs: float = 0.0
    crop: str = "resized"
    crop_scale: tuple[float, float] = (0.08, 1.0)
    padding: int = 4
    color_jitter: float = 0.0
    lighting: float = 0.0
    mix: str = "cutmix"
    mix_alpha: float = 1.0
    loss: str = "kl"
    hard_weight: float = 0.0
    temperature: float = 20.0
    scale_by_temperature: bool = False
    label_smoothing: float = 0.0
    average_decay: float = 0.0
    precision: str = "auto"
    test_points: int = 4
    cutout: int = later(0)
    stop_epoch: int = later(0)
    hard_span: tuple[float, float] = later((0.0, 0.0))

    def __post_init__(self) -> None:
        """Refuse what cannot run, before any work."""
        check_choices(self, CHOICES)
        check_at_least_one(self, "epochs", "batch_size", "test_points")
        if self.zeta < 1 or not 0 <= self.average_decay < 1:
            raise ValueError("zeta must be at least 1 and average_decay lie in [0, 1)")
        if self.warmup_epochs and self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"warmup_epochs={self.warmup_epochs:g} must be below epochs={self.epochs}"
            )
        if not 0 < self.step_factor <= 1:
            raise ValueError(f"step_factor must lie in (0, 1], got {self.step_factor}")
        if self.step_milestones != sorted(self.step_milestones):
            raise ValueError(f"step_milestones must rise, got {self.step_milestones}")
        if not 0 <= self.color_jitter <= 1 or self.lighting < 0:
            raise ValueError("color_jitter must lie in [0, 1] and lighting be at least 0")
        if self.cutout < 0 or not 0 <= self.stop_epoch <= self.epochs:
            raise ValueError("cutout must be at least 0, and stop_epoch lie in [0, epochs]")
        if not 0 <= self.hard_span[0] <= self.hard_span[1] <= 1:
            raise ValueError(f"hard_span must rise within [0, 1], got {list(self.hard_span)}")
        if not self.soft_epochs:
            raise ValueError(
                f"hard_span={list(self.hard_span)} leaves no epoch for soft labels: use labels=hard"
            )

    @property
    def last_epoch(self) -> int:
        """Epochs that are trained."""
        return self.stop_epoch or self.epochs

    @property
    def hard_epochs(self) -> range:
        """Epochs of the hard span, from 0 on; none where it is off."""
        first, last = (share * self.epochs for share in self.hard_span)
        return range(math.ceil(first - _ROUNDING), math.floor(last + _ROUNDING))

    @property
    def soft_epochs(self) -> int:
        """Epochs that are trained on soft labels, where there are such."""
        return self.soft_before(self.last_epoch)

    def soft_before(self, epoch: int) -> int:
        """How many of the first epochs lie outside the hard span."""
        hard = self.hard_epochs
        return epoch - len(range(hard.start, min(hard.stop, epoch)))


def training_loss(
    logits: Tensor, labels: Tensor, teacher_logits: Tensor | None, mix: Mix | None, recipe: Recipe
) -> Tensor:
    """Distillation loss where a teacher speaks, else cross-entropy of the (mixed) hard labels.

    Args:
        logits: [B, C].
        labels: int64 [B], of the unmixed images.
        teacher_logits: [B, C] of the same, mixed, views; or None.
        mix: how the batch was mixed.
        recipe: temperature and smoothing.

    Returns:
        float32 scalar.
    """
    logits = logits.float()
    if teacher_logits is not None and recipe.loss == "mse":
        return logit_loss(logits, teacher_logits, labels, recipe.hard_weight)
    if teacher_logits is not None:
        return distillation_loss(
            logits, teacher_logits.float(), recipe.temperature, recipe.scale_by_temperature
        )
    loss = F.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
    if mix is None:
        return loss
    other = F.cross_entropy(logits, labels[mix.permutation], label_smoothing=recipe.label_smoothing)
    return mix.shares[0] * loss + mix.shares[1] * other


def build_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimiser; without ``decay_all`` only matrices and kernels decay."""
    weights = [p for p in network.parameters() if p.requires_grad]
    decayed = [p for p in weights if recipe.decay_all or p.ndim > 1]
    others = [p for p in weights if not (recipe.decay_all or p.ndim > 1)]
    groups = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    if recipe.optimizer == "adamw":
        return AdamW(groups, lr=recipe.learning_rate, fused=True)
    return SGD(
        groups,
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        fused=True,
    )


def learning_rate_factor(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """Factor of the peak learning rate at a step counted over the whole training."""
    total, warmup = recipe.epochs * steps_per_epoch, recipe.warmup_epochs * steps_per_epoch
    if recipe.schedule == "step":
        return step_factor(step, total, recipe.step_factor, recipe.step_milestones, warmup)
    return smooth_factor(step, total, recipe.zeta, recipe.late_steep, warmup)
