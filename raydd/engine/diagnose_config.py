"""How the curricula of a product are compared with each other."""

from dataclasses import dataclass, field

from raydd.models.registry import ModelConfig
from raydd.ops.checks import check_at_least_one
from raydd.ops.recipe import Recipe


@dataclass
class DiagnoseConfig:
    """The networks that tell whether curricula repeat each other.

    Attributes:
        model: trained from scratch on each curriculum and tried on the others.
        recipe: of these trainings, with hard labels.
        batch: images per forward pass of a network that is tried.
        listed_classes: how many of the classes that the reference recognises least are named.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    recipe: Recipe = field(default_factory=Recipe)
    batch: int = 100
    listed_classes: int = 10

    def __post_init__(self) -> None:
        """Refuse what cannot run, before any work."""
        check_at_least_one(self, "batch", "listed_classes")
