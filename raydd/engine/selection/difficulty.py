"""How difficult each real image is: forgetting events, a network's logit, or a file of the user's.

A file is brought into the shape of a score table once (stage ``difficulty``), row by row beside the
teacher's, so that a selection may walk through both.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

from raydd.cluster.tasks import run_many
from raydd.data.distilled import hash_file
from raydd.engine.cost import Cost
from raydd.engine.engine import Engine
from raydd.engine.passes.score import ROW_BYTES, score
from raydd.engine.selection.select import Columns
from raydd.engine.selection.shortlist import hash_ids
from raydd.engine.training.teacher import make_teacher
from raydd.errors import Refused
from raydd.ops.scores import forgetting_difficulty
from raydd.store.artifacts import Artifact
from raydd.store.tables import count_rows, part_files, read_table, write_table

KINDS = ("forgetting", "logit", "table")
_SUFFIXES = (".npy", ".npz", ".parquet")


@dataclass
class DifficultyConfig:
    """The score by which candidates are ordered.

    Attributes:
        by: "forgetting" (events counted while the teacher is squeezed), "logit" (true-class logit
            of the current filter, high is simple) or "table" (a file of the user's).
        runs: trainings that forgetting events are averaged over; the teacher's own is the first.
        table: .npy or .npz (one value per training image, in the source's order) or .parquet
            (columns ``id`` and ``column``).
        column: of a parquet table, array of an .npz.
        high_is_easy: of the table: consistency scores are high where forgetting is low.
    """

    by: str = "forgetting"
    runs: int = 1
    table: str | None = None
    column: str = "scores"
    high_is_easy: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot run, before any work."""
        if self.by not in KINDS:
            raise ValueError(f"difficulty.by must be one of {', '.join(KINDS)}, got {self.by!r}")
        if (self.by == "table") != (self.table is not None):
            raise ValueError("difficulty.by=table and difficulty.table go together")
        if self.runs < 1:
            raise ValueError("difficulty.runs must be at least 1")

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
        path = UPath(config.table)
        if path.suffix not in _SUFFIXES or not path.exists():
            raise Refused(
                f"difficulty.table={path} is not an existing .npy, .npz or .parquet file."
            )


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
        job = partial(_import, folder, path, config)
        try:
            (rows,) = run_many(job, [scores.folder], engine.resources, on_cpu=True)
        except _UnfitTable as error:
            raise Refused(f"difficulty.table={path} {error.args[0]}.") from error
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


class _UnfitTable(ValueError):
    """The file does not describe this source; the text goes behind the file's name."""


def _import(folder: UPath, path: UPath, config: DifficultyConfig, scores: UPath) -> int:
    """Write the parts and return their rows."""
    (folder / "parts").mkdir(parents=True, exist_ok=True)
    by_id = path.suffix == ".parquet"
    values = _ValuesById(path, config.column) if by_id else _ValuesByNumber(path, config.column)
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
    """An array with one value per image in the source's order, broken images included."""

    def __init__(self, path: UPath, column: str) -> None:
        with path.open("rb") as file:
            content = np.load(file, allow_pickle=False)
            if path.suffix == ".npz" and column not in content:
                raise _UnfitTable(f"has no array {column!r}; set difficulty.column")
            self.array = content[column] if path.suffix == ".npz" else content

    def find(self, table: pa.Table, begin: int) -> np.ndarray:
        at = begin + table["row"].to_numpy().astype(np.int64)
        if len(at) and at.max() >= len(self.array):
            raise _UnfitTable(f"has only {len(self.array)} values, fewer than the training images")
        return self.array[at].astype(np.float64)

    def check_length(self, count: int) -> None:
        if len(self.array) != count:
            raise _UnfitTable(f"has {len(self.array)} values for {count} training images")


class _ValuesById:
    """Rows of (id, value) in any order; 16 bytes per image are held."""

    def __init__(self, path: UPath, column: str) -> None:
        hashes, values = [np.empty(0, np.uint64)], [np.empty(0)]
        with path.open("rb") as file:
            opened = pq.ParquetFile(file)
            if missing := {"id", column} - set(opened.schema_arrow.names):
                raise _UnfitTable(f"has no column {min(missing)!r}; set difficulty.column")
            for batch in opened.iter_batches(1 << 16, columns=["id", column]):
                hashes.append(hash_ids(batch["id"], 0))
                values.append(batch[column].to_numpy(zero_copy_only=False).astype(np.float64))
        keys = np.concatenate(hashes)
        order = np.argsort(keys)
        self.keys, self.values = keys[order], np.concatenate(values)[order]

    def find(self, table: pa.Table, begin: int) -> np.ndarray:
        wanted = hash_ids(table["id"].combine_chunks(), 0)
        at = np.searchsorted(self.keys, wanted)
        known = at < len(self.keys)
        known[known] = self.keys[at[known]] == wanted[known]
        if not known.all():
            name = table["id"][int(np.flatnonzero(~known)[0])].as_py()
            raise _UnfitTable(f"has no row for the image {name!r}")
        return self.values[at]

    def check_length(self, count: int) -> None:
        """A table may know more images than this source holds."""
