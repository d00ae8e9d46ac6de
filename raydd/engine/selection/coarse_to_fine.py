"""The coarse and the fine stage: which images are candidates, and which of them come first."""

from dataclasses import dataclass, field

import numpy as np

from raydd.engine.selection.difficulty import COLUMNS, DifficultyConfig
from raydd.engine.selection.ranking import Ranking
from raydd.ops.configs import check_choices, later
from raydd.ops.scores import Columns, coarse_rungs, teacher_correct

CHOICES = {
    "coarse": ("misclassified", "correct", "off"),
    "teacher_correct": ("on", "off", "top_k"),
    "fine": ("simple", "hard", "random", "stratified"),
    "shortfall": ("error", "rollover", "easiest"),
}


@dataclass(kw_only=True)
class SelectionConfig:
    """Which real images a curriculum adds.

    Attributes:
        coarse: candidates are the images that the filter gets "misclassified", "correct"
            (ablation), or all of them ("off": no filter is trained).
        teacher_correct: candidates must be right under the teacher: "on", "off", or "top_k".
        top_k: of "top_k".
        fine: order inside the candidates of a class: "simple" first, "hard" first, "random", or
            "stratified": uniformly out of strata of difficulty (CCS).
        strata: of "stratified", of equal width.
        hard_cutoff: of "stratified": share of the candidates that is left out as too hard, [0, 1).
        difficulty: what is simple.
        balanced: the same number of every class; else one list over all classes.
        shortfall: a class with too few candidates is an "error", has the rest asked for in the
            next curriculum ("rollover"), or is filled with the "easiest" images left, last with
            those that the teacher gets wrong.
    """

    coarse: str = "misclassified"
    teacher_correct: str = "on"
    top_k: int = 5
    fine: str = "simple"
    strata: int = later(50)
    hard_cutoff: float = later(0.0)
    difficulty: DifficultyConfig = field(default_factory=DifficultyConfig)
    balanced: bool = True
    shortfall: str = "error"

    def __post_init__(self) -> None:
        """Refuse what cannot run, before any work."""
        check_choices(self, CHOICES)
        if self.strata < 1 or not 0 <= self.hard_cutoff < 1:
            raise ValueError("strata must be at least 1, and hard_cutoff lie in [0, 1)")
        if self.hard_cutoff and self.fine != "stratified":
            raise ValueError("hard_cutoff needs fine=stratified")
        if self.fine == "stratified" and self.shortfall == "easiest":
            raise ValueError(
                "fine=stratified draws from its strata alone: set shortfall=error or rollover"
            )


def ranking(config: SelectionConfig, static: int) -> Ranking:
    """The coarse and the fine stage as one order; ``static`` tables are made by no filter."""

    def rung(tables: list[Columns]) -> np.ndarray:
        trusted = teacher_correct(tables[0], config.teacher_correct, config.top_k)
        asked = tables[static] if config.coarse != "off" else None
        return coarse_rungs(trusted, asked, config.coarse, config.shortfall == "easiest")

    chosen = {name: getattr(config, name) for name in ("coarse", "teacher_correct", "top_k")}
    return Ranking(
        ladder=("candidate", "easiest left") if config.shortfall == "easiest" else ("candidate",),
        spare="teacher wrong" if config.shortfall == "easiest" else None,
        rung=rung,
        columns=("prediction", "true_rank", COLUMNS[config.difficulty.by]),
        difficulty=config.difficulty.of_rows,
        order=config.fine,
        balanced=config.balanced,
        shortfall=config.shortfall,
        settings={"difficulty": config.difficulty.by} | chosen,
        strata=config.strata,
        hard_cutoff=config.hard_cutoff,
    )
