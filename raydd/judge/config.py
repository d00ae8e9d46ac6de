"""What the judge of any set measures beside the protocol's accuracy."""

from dataclasses import dataclass, field

from raydd.judge.herding import HerdingConfig
from raydd.judge.leak import LeakConfig
from raydd.judge.robustness import RobustnessConfig
from raydd.models.registry import ModelConfig
from raydd.ops.configs import check_choices
from raydd.store.tensor_pixels import PIXELS

LABELS = ("soft", "hard")


@dataclass
class JudgeConfig:
    """What is measured, and how.

    Attributes:
        name: of the preset.
        labels: kinds of labels, "soft" and "hard", each of which everything is trained with; the
            first is the headline. Empty takes the protocol's.
        architectures: networks beyond the protocol's, for the cross-architecture table.
        herding: judge as many real images chosen by herding, beside the random ones.
        leak: look for the nearest real image of the distilled ones.
        robustness: try the headline's networks on noisy and attacked test images.
        scores: LRS and ARS; trains one network on the whole real set, and the headline's networks
            with hard labels and without augmentation.
        herd: candidates of herding.
        nearest: how copies of real images are looked for.
        attack: how test images are disturbed.
        lrs_weight: of the lead over random images in LRS, [0, 1].
        ars_gamma: of the lead with augmentation in ARS, [0, 1].
        image_column: of a parquet set that is not ours.
        label_column: of the same; integers or class names.
        pixels: what the numbers of a set of tensors are, see
            :func:`raydd.store.tensor_pixels.to_bytes`.
    """

    name: str = "quick"
    labels: list[str] = field(default_factory=list)
    architectures: list[ModelConfig] = field(default_factory=list)
    herding: bool = True
    leak: bool = True
    robustness: bool = False
    scores: bool = False
    herd: HerdingConfig = field(default_factory=HerdingConfig)
    nearest: LeakConfig = field(default_factory=LeakConfig)
    attack: RobustnessConfig = field(default_factory=RobustnessConfig)
    lrs_weight: float = 0.5
    ars_gamma: float = 0.5
    image_column: str = "image"
    label_column: str = "label"
    pixels: str = "auto"

    def __post_init__(self) -> None:
        """Refuse what cannot run, before any work."""
        check_choices(self, {"pixels": PIXELS})
        unknown = [kind for kind in self.labels if kind not in LABELS]
        if unknown or len(set(self.labels)) < len(self.labels):
            raise ValueError(f"judge.labels takes soft and hard, each once, got {self.labels}")
        if not (0 <= self.lrs_weight <= 1 and 0 <= self.ars_gamma <= 1):
            raise ValueError("judge.lrs_weight and judge.ars_gamma must lie in [0, 1]")
