"""Constants of diffusion sampling and of its guidance by a discriminator."""

from __future__ import annotations

from dataclasses import dataclass, field

from raydd.models.diffusion import TRAIN_STEPS
from raydd.models.precision import PRECISIONS
from raydd.ops.configs import check_at_least_one, check_choices

ENERGIES = ("plain", "bounded", "anchored")
GRADIENTS = ("full", "cheap")
INJECTIONS = ("shift", "epsilon")


@dataclass
class AdversaryConfig:
    """How sampling is steered towards images that a discriminator finds hard.

    With l the discriminator's cross-entropy on the estimate of the final image, the energy that is
    raised is "plain" (l), "bounded" (min(l, bound): an image that is hard enough is left alone) or
    "anchored" (l - anchor_weight * the cross-entropy of a reference network trained on real images:
    the image stays in its class).

    Attributes:
        scale: s, length of a step's push in units of the predicted noise times sqrt(1 - alpha bar);
            0 is off.
        energy: "plain", "bounded" or "anchored".
        bound: of the bounded energy, nats; null is log C, the discriminator's at a loss.
        anchor_weight: w of the anchored energy.
        gradient: "full" (through the transformer) or "cheap" (its prediction taken as constant: a
            third of the work, and none of its activations are kept).
        injection: "shift" (of the drawn sample) or "epsilon" (of the predicted noise: the same
            scale is 3 to 6 times weaker, see :func:`raydd.ops.diffusion.epsilon_share`).
        window: smallest and largest k / steps of the guided steps, k counted from the clean end.
        deviation: gamma, pushes each sample away from the most similar latent of its class in
            earlier curricula, in the same window; 0 is off, 50 to 120 in the papers.
    """

    scale: float = 0.015
    energy: str = "anchored"
    bound: float | None = None
    anchor_weight: float = 0.5
    gradient: str = "full"
    injection: str = "shift"
    window: tuple[float, float] = (0.3, 0.9)
    deviation: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what cannot run, before any work."""
        check_choices(self, {"energy": ENERGIES, "gradient": GRADIENTS, "injection": INJECTIONS})
        for name in ("scale", "anchor_weight", "deviation"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        if self.bound is not None and self.bound <= 0:
            raise ValueError(f"bound must be above 0 or null, got {self.bound}")
        if not 0 <= self.window[0] < self.window[1] <= 1:
            raise ValueError(f"window must rise within [0, 1], got {tuple(self.window)}")


@dataclass
class SampleConfig:
    """The sampler; the defaults are those of DiT-XL/2 at 256 pixels in Minimax's set-up.

    Attributes:
        steps: of the ancestral sampler.
        guidance_scale: of classifier-free guidance; 1 is off and asks the network half as often.
        guided_channels: how many channels of a latent it works on: 3 of 4 in DiT's own code; null
            or 0 is all.
        batch_size: images per batch.
        decode_batch: images that the VAE decodes at once; bounds memory.
        precision: "bf16", "fp16", "fp32", or "auto": bf16 where the device is fast at it,
            else fp16 where a GPU does.
        adversary: guidance by a discriminator; unused in the first curriculum.
    """

    steps: int = 50
    guidance_scale: float = 4.0
    guided_channels: int | None = 3
    batch_size: int = 64
    decode_batch: int = 16
    precision: str = "auto"
    adversary: AdversaryConfig = field(default_factory=AdversaryConfig)

    def __post_init__(self) -> None:
        """Refuse what cannot run, before any work."""
        check_choices(self, {"precision": PRECISIONS})
        check_at_least_one(self, "batch_size", "decode_batch")
        if not 2 <= self.steps <= TRAIN_STEPS:
            raise ValueError(f"steps must lie in [2, {TRAIN_STEPS}], got {self.steps}")
        if self.guidance_scale < 0:
            raise ValueError(f"guidance_scale must be at least 0, got {self.guidance_scale}")
        if self.guided_channels is not None and self.guided_channels < 0:
            raise ValueError(f"guided_channels must be at least 0, got {self.guided_channels}")
