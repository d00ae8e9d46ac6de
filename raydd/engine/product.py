"""What a driver returns; writer.py makes a distilled set on disk of it."""

from dataclasses import dataclass, field

from raydd.engine.stages import Artifact


@dataclass(frozen=True)
class Curriculum:
    """One round of a method.

    Attributes:
        images: artifact with ``parts/*.parquet``: pixels, class_index, slot, curriculum, id.
        start: selection of the real images they started from, if any.
    """

    images: Artifact
    start: Artifact | None = None


@dataclass
class Product:
    """Everything a driver made.

    Attributes:
        teacher: checkpoint that gives the soft labels.
        scores: its score table over the real images.
        curricula: the rounds, in order.
    """

    teacher: Artifact
    scores: Artifact
    curricula: list[Curriculum] = field(default_factory=list)

    @property
    def images(self) -> list[Artifact]:
        """Image artifacts of all curricula."""
        return [curriculum.images for curriculum in self.curricula]

    @property
    def starts(self) -> list[Artifact]:
        """Selections of all curricula that started from real images."""
        return [curriculum.start for curriculum in self.curricula if curriculum.start]
