"""How real images are ordered when some of each class are chosen."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from raydd.ops.scores import Columns

START_ORDERS = ("random", "simple")  # of images that a synthesis starts from


@dataclass(frozen=True)
class Ranking:
    """How real images are ordered when some of each class are chosen.

    Attributes:
        ladder: names of the rungs, best first.
        rung: maps one part of every table (dicts of columns [N], ``columns`` and ``class_index``)
            to int8 rungs [N]; a negative rung is never chosen.
        columns: names of the columns that rung and difficulty read, as far as a table has them.
        difficulty: maps the same to floats [N]; None orders a rung at random.
        order: "simple" (lowest difficulty first), "hard", "random", or "stratified": uniformly out
            of strata of the first rung's difficulties, see :mod:`.strata`.
        balanced: choose the same number of every class; else the best over all classes.
        shortfall: what happens where a class has too few images: "error" refuses, "easiest" (which
            has rungs of its own to fill from) and "rollover" take what there is.
        spare: name of a last rung, of images that are taken where a selection was refused before:
            no finished one depends on it, and it is no part of the key.
        strata: of "stratified".
        hard_cutoff: share of the hardest images that "stratified" leaves out, [0, 1).
        settings: json values that rung and difficulty depend on; part of the stage's key.
    """

    ladder: tuple[str, ...]
    rung: Callable[[list[Columns]], np.ndarray]
    columns: tuple[str, ...] = ("prediction",)
    difficulty: Callable[[list[Columns]], np.ndarray] | None = None
    order: str = "random"
    balanced: bool = True
    shortfall: str = "error"
    settings: Mapping[str, Any] = field(default_factory=dict)
    spare: str | None = None
    strata: int = 50
    hard_cutoff: float = 0.0

    @property
    def is_ordered(self) -> bool:
        """Whether the difficulty decides anything."""
        return self.difficulty is not None and self.order != "random"

    def key(self) -> dict[str, Any]:
        """Everything about it that decides what is chosen."""
        names = ["ladder", "order", "balanced", "shortfall"]
        names += ["strata", "hard_cutoff"] if self.order == "stratified" else []
        return {name: getattr(self, name) for name in names} | dict(self.settings)


def _first_rung(tables: list[Columns]) -> np.ndarray:
    return np.zeros(len(tables[0]["row"]), np.int8)


ANY = Ranking(("random",), _first_rung, columns=())  # any image, uniformly
