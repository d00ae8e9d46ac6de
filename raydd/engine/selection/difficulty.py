"""How difficult each real image is: by a training, a network, or a file of the user's.

Each is a column of a score table: the teacher's, or one that stands row by row beside it.
"""

from dataclasses import dataclass, replace

import numpy as np
from upath import UPath

from raydd.data.difficulty_table import ORDERS, check_order
from raydd.data.difficulty_table import read_table as read_table_file
from raydd.engine.engine import Engine
from raydd.engine.passes.score import score
from raydd.engine.selection.ranking import Ranking
from raydd.engine.selection.table import import_table
from raydd.engine.training.teacher import TeacherConfig, make_teacher
from raydd.errors import Refused
from raydd.ops.configs import later
from raydd.ops.scores import (
    Columns,
    error_difficulty,
    forgetting_difficulty,
    margin_difficulty,
)
from raydd.store.artifacts import Artifact
from raydd.store.tables import column_names, part_files

COLUMNS = {  # of score tables, that each kind of difficulty is read from
    "forgetting": "forgetting",
    "aum": "aum",
    "el2n": "error_norm",
    "logit": "true_logit",
    "table": "difficulty",
}
NOTED = ("forgetting", "aum")  # while the teacher is trained


@dataclass
class DifficultyConfig:
    """The score by which candidates are ordered.

    Attributes:
        by: "forgetting" (events counted while the teacher is squeezed), "aum" (the mean margin of
            the true class meanwhile, high is simple; arXiv 2001.10528), "el2n" (length of the error
            vector early in training; arXiv 2107.07075), "logit" (true-class logit of the current
            filter, high is simple) or "table" (a file of the user's).
        runs: trainings that "forgetting" and "aum" are averaged over, the teacher's own is the
            first; networks that "el2n" is averaged over.
        epochs: after which the networks of "el2n", trained as the teacher is, are stopped; null is
            a tenth of the teacher's.
        table: .npy, .npz, .parquet or .csv file with a value for every training image; its rows are
            known by ids, or checked by their classes, see :mod:`raydd.data.difficulty_table`.
        column: of the values; not used for .npy.
        order: "source" says that the rows are in the data set's order where nothing else tells.
        high_is_easy: of the table: consistency scores are high where forgetting is low.
    """

    by: str = "forgetting"
    runs: int = 1
    table: str | None = None
    column: str = "scores"
    order: str | None = None
    high_is_easy: bool = False
    epochs: int | None = later(None)

    def __post_init__(self) -> None:
        """Refuse what cannot run, before any work."""
        if self.by not in COLUMNS:
            raise ValueError(f"difficulty.by must be one of {', '.join(COLUMNS)}, got {self.by!r}")
        if (self.by == "table") != (self.table is not None):
            raise ValueError("difficulty.by=table and difficulty.table go together")
        if self.runs < 1:
            raise ValueError("difficulty.runs must be at least 1")
        if self.epochs is not None and (self.by != "el2n" or self.epochs < 1):
            raise ValueError("difficulty.epochs goes with difficulty.by=el2n and is at least 1")
        if self.order not in ORDERS:
            raise ValueError(f"difficulty.order must be null or source, got {self.order!r}")

    def of_rows(self, tables: list[Columns]) -> np.ndarray:
        """Floats [N], low is simple, of the rows of aligned tables: the teacher's, those of
        :func:`difficulty`, then any others; the logit is the last one's.
        """
        if self.by == "forgetting":
            return forgetting_difficulty(tables[: self.runs])
        if self.by == "aum":
            return margin_difficulty(tables[: self.runs])
        if self.by == "el2n":
            return error_difficulty(tables[1 : 1 + self.runs])
        return tables[1]["difficulty"] if self.by == "table" else -tables[-1]["true_logit"]


def check_difficulty(engine: Engine, config: DifficultyConfig) -> None:
    """Refuse, before any work, a difficulty that nobody will have measured."""
    teacher = engine.teacher
    if config.by in NOTED and not (teacher.is_trained and teacher.recipe.mix == "none"):
        raise Refused(
            f"difficulty.by={config.by} needs a teacher that is trained here with "
            "teacher.recipe.mix=none; use difficulty.by=logit or a table."
        )
    if config.by == "el2n":
        _young(teacher, config)
    if config.table is not None:
        try:
            table = read_table_file(UPath(config.table), config.column)
            check_order(table, config.order, table.rows)  # a pass will tell how many images
        except ValueError as error:
            raise Refused(str(error)) from error


def easiest_first(ranking: Ranking, config: DifficultyConfig, static: int) -> Ranking:
    """A ranking whose rungs are ordered by difficulty; ``static`` tables are made by no network of
    a curriculum's own: the teacher's, and those of :func:`difficulty`.
    """
    return replace(
        ranking,
        columns=(*ranking.columns, COLUMNS[config.by]),
        difficulty=lambda tables: config.of_rows(tables[:static]),
        order="simple",
        settings={"difficulty": config.by},
    )


def difficulty(engine: Engine, config: DifficultyConfig, scores: Artifact) -> list[Artifact]:
    """Score tables beyond the teacher's that a difficulty is read from.

    The user's file, further trainings of the teacher that count too, or networks like it that are
    stopped early.

    Args:
        engine: of the run.
        config: what is simple.
        scores: the teacher's score table.
    Raises:
        Refused: the teacher's training was not asked for its margins.
    """
    if config.table is not None:
        return [import_table(engine, config.table, config.column, config.high_is_easy, scores)]
    teacher, runs, what = engine.teacher, range(1, 1), "teacher run"
    if config.by in NOTED:
        runs = range(1, config.runs)
    if config.by == "el2n":
        teacher, runs, what = _young(teacher, config), range(1, 1 + config.runs), "young network"
    titles = {run: f"{what} {run}" for run in runs}
    trained = [make_teacher(engine, teacher, title, run) for run, title in titles.items()]
    tables = [
        score(engine, network, title, error_norm=config.by == "el2n")
        for network, title in zip(trained, titles.values(), strict=True)
    ]
    if config.by == "aum":
        for table in (scores, *tables):
            _check_margins(table)
    return tables


def _young(teacher: TeacherConfig, config: DifficultyConfig) -> TeacherConfig:
    """The teacher's training, stopped early; refuses where that has no meaning."""
    recipe = teacher.recipe
    epochs = config.epochs or max(1, recipe.epochs // 10)
    if not teacher.is_trained:
        raise Refused(
            "difficulty.by=el2n needs a teacher that is trained here: its networks are trained as "
            "the teacher is; use difficulty.by=logit or a table."
        )
    if epochs > recipe.last_epoch:
        raise Refused(
            f"difficulty.epochs={epochs} is more than the {recipe.last_epoch} that the teacher is "
            "trained for; EL2N asks networks early in training."
        )
    return replace(teacher, recipe=replace(recipe, stop_epoch=epochs))


def _check_margins(scores: Artifact) -> None:
    """Refuse a score table without margins: every part has the same columns."""
    first = next(iter(part_files(scores.folder)), None)  # None: a plan
    if first and COLUMNS["aum"] not in column_names(first):
        raise Refused(
            f"the score table {scores.folder} has no margins, for its network was trained by an "
            "older version of raydd: use difficulty.by=forgetting, or train it again with another "
            "teacher.seed or storage."
        )
