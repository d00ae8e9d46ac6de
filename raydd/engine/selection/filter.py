"""The network that tells which real images the current set does not teach yet."""

from dataclasses import dataclass, field, replace

from raydd.models.registry import ModelConfig
from raydd.ops.recipe import Recipe


@dataclass
class FilterConfig:
    """How a filter is made: from scratch, with the teacher's soft labels.

    Attributes:
        model: architecture.
        recipe: how it is trained.
        batch_by_ipc: least nominal images per class of the current set -> batch size; below the
            least of them, and where it is empty, the recipe's own holds.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    recipe: Recipe = field(default_factory=Recipe)
    batch_by_ipc: dict[int, int] = field(default_factory=dict)

    def recipe_for(self, ipc: int) -> Recipe:
        """The recipe for a set of nominally ``ipc`` images per class.

        Nominally: a class that is one image short must not halve the batch size.
        """
        reached = [least for least in self.batch_by_ipc if least <= ipc]
        if not reached:
            return self.recipe
        return replace(self.recipe, batch_size=self.batch_by_ipc[max(reached)])
