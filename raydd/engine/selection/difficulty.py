"""How difficult each real image is: forgetting events, a network's logit, or a file of the user's.

A file is brought into the shape of a score table once (stage ``difficulty``), row by row beside the
teacher's, so that a selection may walk through both.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from upath import UPath

from raydd.cluster.tasks import run_many
from raydd.data.difficulty_table import ORDERS, DifficultyTable, check_classes, check_order
from raydd.data.difficulty_table import read_table as read_table_file
from raydd.data.distilled import hash_file
from raydd.engine.cost import Cost
from raydd.engine.engine import Engine
from raydd.engine.passes.score import ROW_BYTES, score
from raydd.engine.selection.shortlist import hash_ids
from raydd.engine.training.teacher import make_teacher
from raydd.errors import Refused
from raydd.ops.scores import Columns, forgetting_difficulty
from raydd.store.artifacts import Artifact
from raydd.store.tables import count_rows, part_files, read_table, write_table

KINDS = ("forgetting", "logit", "table")


@dataclass
class DifficultyConfig:
    """The score by which candidates are ordered.

    Attributes:
        by: "forgetting" (events counted while the teacher is squeezed), "logit" (true-class logit
            of the current filter, high is simple) or "table" (a file of the user's).
        runs: trainings that forgetting events are averaged over; the teacher's own is the first.
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

    def __post_init__(self) -> None:
        """Refuse what cannot run, before any work."""
        if self.by not in KINDS:
            raise ValueError(f"difficulty.by must be one of {', '.join(KINDS)}, got {self.by!r}")
        if (self.by == "table") != (self.table is not None):
            raise ValueError("difficulty.by=table and difficulty.table go together")
        if self.runs < 1:
            raise ValueError("difficulty.runs must be at least 1")
        if self.order not in ORDERS:
            raise ValueError(f"difficulty.order must be null or source, got {self.order!r}")

    def of_rows(self, tables: list[Columns]) -> np.ndarray:
        """Floats [N], low is simple, of the rows of aligned tables: the teacher's, those of
        :func:`difficulty`, then any others; the logit is the last one's.
        """
        if self.by == "forgetting":
            return forgetting_difficulty(tables[: self.runs])
        return tables[1]["difficulty"] if self.by == "table" else -tables[-1]["true_logit"]


def check_difficulty(engine: Engine, config: DifficultyConfig) -> None:
    """Refuse, before any work, a difficulty that nobody will have measured."""
    teacher = engine.teacher
    if config.by == "forgetting" and not (teacher.is_trained and teacher.recipe.mix == "none"):
        raise Refused(
            "difficulty.by=forgetting needs a teacher that is trained here with "
            "teacher.recipe.mix=none; use difficulty.by=logit or a table."
        )
    if config.table is not None:
        try:
            table = read_table_file(UPath(config.table), config.column)
            check_order(table, config.order, table.rows)  # a pass will tell how many images
        except ValueError as error:
            raise Refused(str(error)) from error


def difficulty(engine: Engine, config: DifficultyConfig, scores: Artifact) -> list[Artifact]:
    """Score tables beyond the teacher's that a difficulty is read from.

    The user's file, or further trainings of the teacher whose forgetting events count too.

    Args:
        engine: of the run.
        config: what is simple.
        scores: the teacher's score table.
    """
    if config.by == "table":
        return [_import_table(engine, config, scores)]
    runs = range(1, config.runs if config.by == "forgetting" else 1)
    titles = {run: f"teacher run {run}" for run in runs}
    trained = [make_teacher(engine, engine.teacher, title, run) for run, title in titles.items()]
    return [score(engine, *made) for made in zip(trained, titles.values(), strict=True)]


def _import_table(engine: Engine, config: DifficultyConfig, scores: Artifact) -> Artifact:
    """Stage ``difficulty``: the file's values in the order of a score table.

    Returns:
        Artifact with ``parts/*.parquet``: class_index, row, difficulty (low is simple).
    Raises:
        Refused: the file has another length or lacks an image.
    """
    path = UPath(str(config.table)).absolute()

    def work(folder: UPath) -> dict[str, Any]:
        # in a task: the values of all real images are not for the driver
        job = partial(_import, folder, path, config, engine.class_names)
        try:
            (rows,) = run_many(job, [scores.folder], engine.resources, on_cpu=True)
        except ValueError as error:
            raise Refused(str(error.args[0])) from error
        return {"rows": rows}

    def cost() -> Cost:
        size = engine.num_images * ROW_BYTES
        return Cost(size, size, size)

    return engine.stages.run(
        "difficulty",
        work,
        inputs=[scores, str(hash_file(path)["sha256"])],
        config={"column": config.column, "high_is_easy": config.high_is_easy},
        seed=0,
        cost=cost,
        expected=dict,
        title="table",
    )


def _import(
    folder: UPath,
    path: UPath,
    config: DifficultyConfig,
    class_names: tuple[str, ...],
    scores: UPath,
) -> int:
    """Write the parts and return their rows."""
    (folder / "parts").mkdir(parents=True, exist_ok=True)
    known = read_table_file(path, config.column)
    values = _ValuesById(known) if known.id_column else _ValuesByNumber(known, class_names)
    sign = -1.0 if config.high_is_easy else 1.0
    rows = begin = 0
    for part in part_files(scores):
        table = read_table(part, ["id", "class_index", "row"])
        columns = {name: table[name] for name in ("class_index", "row")}
        out = pa.table({**columns, "difficulty": sign * values.find(table, begin)})
        write_table(folder / "parts" / part.name, out)
        rows += table.num_rows
        begin += table.num_rows + count_rows(scores / "rejected" / part.name)
    values.check_length(begin)
    return rows


class _ValuesByNumber:
    """One value per image in the source's order, broken images included."""

    def __init__(self, table: DifficultyTable, class_names: tuple[str, ...]) -> None:
        self.array, self.class_names = table.values(), class_names
        self.what = f"difficulty.table={table.path}"
        self.classes = table.classes() if table.class_column else None

    def find(self, table: pa.Table, begin: int) -> np.ndarray:
        at = begin + table["row"].to_numpy().astype(np.int64)
        if len(at) and at.max() >= len(self.array):
            raise ValueError(
                f"{self.what} has only {len(self.array)} values, fewer than the training images."
            )
        if self.classes is not None and len(at):
            labels = table["class_index"].to_numpy()
            first = int(at[0])
            check_classes(self.classes[at], labels, self.class_names, self.what, first)
        return self.array[at]

    def check_length(self, count: int) -> None:
        if len(self.array) != count:
            raise ValueError(
                f"{self.what} has {len(self.array)} values for {count} training images."
            )


class _ValuesById:
    """Values of ids in any order; 16 bytes per image are held."""

    def __init__(self, table: DifficultyTable) -> None:
        keys = hash_ids(table.ids(), 0)
        order = np.argsort(keys)
        self.keys, self.values = keys[order], table.values()[order]
        self.what = f"difficulty.table={table.path}"

    def find(self, table: pa.Table, begin: int) -> np.ndarray:
        wanted = hash_ids(table["id"].combine_chunks(), 0)
        at = np.searchsorted(self.keys, wanted)
        known = at < len(self.keys)
        known[known] = self.keys[at[known]] == wanted[known]
        if not known.all():
            name = table["id"][int(np.flatnonzero(~known)[0])].as_py()
            raise ValueError(f"{self.what} has no row for the image {name!r}.")
        return self.values[at]

    def check_length(self, count: int) -> None:
        """A table may know more images than this source holds."""
