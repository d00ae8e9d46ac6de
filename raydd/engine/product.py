"""What a driver returns; :mod:`raydd.report.write` makes a distilled set on disk of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise

import numpy as np

from raydd.store.artifacts import Artifact


@dataclass(frozen=True)
class Curriculum:
    """One round of a method.

    Attributes:
        images: artifact with ``parts/*.parquet``, see :func:`raydd.data.rows.image_table`; its
            summary has ``slots`` [first, end) and ``counts`` of each class.
        start: selection of the real images that they are or started from, if any.
        difficulty: what orders the selection, for the report.
        network: checkpoint that the selection asked, beside the teacher.
        scores: score table of that network.
    """

    images: Artifact
    start: Artifact | None = None
    difficulty: str | None = None
    network: Artifact | None = None
    scores: Artifact | None = None

    @property
    def is_real(self) -> bool:
        """Whether the images are the selected real ones, not made from them."""
        return self.images.stage == "fetch"


@dataclass
class Product:
    """Everything a driver made.

    Attributes:
        teacher: checkpoint that gives the soft labels.
        scores: its score table over the real images.
        curricula: the rounds, in order.
        labels: soft labels that the set carries; None leaves them to its teacher.
        generator: diffusion model that the images were sampled from, if any.
        diagnosis: of the curricula, see :func:`raydd.judge.diagnose.diagnose`.
    """

    teacher: Artifact
    scores: Artifact
    curricula: list[Curriculum] = field(default_factory=list)
    labels: Artifact | None = None
    generator: Artifact | None = None
    diagnosis: Artifact | None = None

    @property
    def images(self) -> list[Artifact]:
        """Image artifacts of all curricula."""
        return [curriculum.images for curriculum in self.curricula]

    @property
    def counts(self) -> list[int]:
        """Images of each class, C ints."""
        return np.sum([item.summary["counts"] for item in self.images], axis=0).tolist()

    @property
    def starts(self) -> list[Artifact]:
        """Selections of all curricula that started from real images."""
        return [curriculum.start for curriculum in self.curricula if curriculum.start]


def slot_ranges(ipc: int, boundaries: Sequence[int]) -> list[range]:
    """Slots of each curriculum: [b_{j-1}, b_j), with b_0 = 0 and b_J = ipc."""
    return [range(low, high) for low, high in pairwise([0, *boundaries, ipc])]


def arrangement(ipc: int, alpha: float, curricula: int) -> tuple[int, list[int]]:
    """Images per class: distilled ones, ``alpha`` of them, and real ones of each curriculum (the
    first have more).
    """
    core = int(Fraction(str(alpha)) * ipc)  # exact where a float product is not: 0.29 of 100 is 29
    share, rest = divmod(ipc - core, curricula)
    return core, [share + (j < rest) for j in range(curricula)]
