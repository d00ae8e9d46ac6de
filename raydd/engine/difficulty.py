"""How difficult each real image is: forgetting events, a network's logit, or a file of the user's.

A file is brought into the shape of a score table once (stage ``difficulty``), row by row beside the
teacher's, so that a selection may walk through both.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
from upath import UPath

from raydd.data.distilled import hash_file
from raydd.engine.errors import Refused
from raydd.engine.shortlist import hash_ids
from raydd.engine.squeeze import TeacherConfig
from raydd.engine.stages import Artifact, Stages
from raydd.engine.stream import count_rows, part_files, read_table, write_table

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


def check_difficulty(config: DifficultyConfig, teacher: TeacherConfig) -> None:
    """Refuse, before any work, a difficulty that nobody will have measured."""
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


def import_table(stages: Stages, config: DifficultyConfig, scores: Artifact) -> Artifact:
    """Stage ``difficulty``: the file's values in the order of a score table.

    Args:
        stages: where the table goes.
        config: names the file.
        scores: the teacher's score table.
    Returns:
        Artifact with ``parts/*.parquet``: class_index, row, difficulty (low is simple).
    Raises:
        Refused: the file has another length or lacks an image.
    """
    path = UPath(str(config.table)).absolute()

    def work(folder: UPath) -> dict[str, Any]:
        # in a task: the values of all real images are not for the driver
        task = ray.remote(num_cpus=1, max_retries=3)(_import)
        rows, problem = ray.get(task.remote(folder, path, config, scores.folder))
        if problem:
            raise Refused(f"difficulty.table={path} {problem}.")
        return {"rows": rows}

    return stages.run(
        "difficulty",
        work,
        inputs=[scores, str(hash_file(path)["sha256"])],
        config={"column": config.column, "high_is_easy": config.high_is_easy},
        seed=0,
        title="table",
    )


def _import(
    folder: UPath, path: UPath, config: DifficultyConfig, scores: UPath
) -> tuple[int, str | None]:
    """Rows written, and what is wrong with the file if anything is."""
    (folder / "parts").mkdir(parents=True, exist_ok=True)
    find = _by_id(path, config.column) if path.suffix == ".parquet" else _by_order(path, config)
    sign = -1.0 if config.high_is_easy else 1.0
    rows = begin = 0
    for part in part_files(scores):
        table = read_table(part, ["id", "class_index", "row"])
        values, problem = find(table, begin)
        if problem:
            return rows, problem
        columns = {name: table[name] for name in ("class_index", "row")}
        out = pa.table({**columns, "difficulty": sign * values})
        write_table(folder / "parts" / part.name, out)
        rows += table.num_rows
        begin += table.num_rows + count_rows(scores / "rejected" / part.name)
    if path.suffix != ".parquet" and begin != len(_array(path, config.column)):
        return rows, f"has {len(_array(path, config.column))} values for {begin} training images"
    return rows, None


def _by_order(path: UPath, config: DifficultyConfig) -> Any:
    """Look values up by the number of the image in the source, broken ones included."""
    array = _array(path, config.column)

    def find(table: pa.Table, begin: int) -> tuple[np.ndarray, str | None]:
        at = begin + table["row"].to_numpy().astype(np.int64)
        if len(at) and at.max() >= len(array):
            return array, f"has only {len(array)} values, fewer than the training images"
        return array[at].astype(np.float64), None

    return find


def _by_id(path: UPath, column: str) -> Any:
    """Look values up by id; 16 bytes per image are held."""
    hashes, values = [], []
    with path.open("rb") as file:
        for batch in pq.ParquetFile(file).iter_batches(1 << 16, columns=["id", column]):
            hashes.append(hash_ids(batch["id"], 0))
            values.append(batch[column].to_numpy(zero_copy_only=False).astype(np.float64))
    keys, numbers = np.concatenate(hashes), np.concatenate(values)
    order = np.argsort(keys)
    keys, numbers = keys[order], numbers[order]

    def find(table: pa.Table, begin: int) -> tuple[np.ndarray, str | None]:
        wanted = hash_ids(table["id"].combine_chunks(), 0)
        at = np.searchsorted(keys, wanted).clip(max=max(len(keys) - 1, 0))
        missing = np.flatnonzero(keys[at] != wanted) if len(keys) else np.arange(len(wanted))
        if len(missing):
            return numbers, f"has no row for the image {table['id'][int(missing[0])].as_py()!r}"
        return numbers[at], None

    return find


def _array(path: UPath, column: str) -> np.ndarray:
    with path.open("rb") as file:
        content = np.load(file, allow_pickle=False)
        return content[column] if path.suffix == ".npz" else content
