"""Stage ``difficulty``: a file of the user's, in the shape of a score table, row by row beside it.

A selection may walk through both then.
"""

from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from upath import UPath

from raydd.cluster.tasks import run_many
from raydd.data.difficulty_table import DifficultyTable, check_classes
from raydd.data.difficulty_table import read_table as read_table_file
from raydd.data.distilled import hash_file
from raydd.engine.cost import Cost
from raydd.engine.engine import Engine
from raydd.engine.passes.score import ROW_BYTES
from raydd.engine.selection.shortlist import hash_ids
from raydd.errors import Refused
from raydd.store.artifacts import Artifact
from raydd.store.tables import count_rows, part_files, read_table, write_table


def import_table(
    engine: Engine, file: str, column: str, high_is_easy: bool, scores: Artifact
) -> Artifact:
    """Stage ``difficulty``: the file's values in the order of a score table.

    Args:
        engine: of the run.
        file: of the user's, see :mod:`raydd.data.difficulty_table`.
        column: of the values.
        high_is_easy: turn them round.
        scores: the score table.
    Returns:
        Artifact with ``parts/*.parquet``: class_index, row, difficulty (low is simple).
    Raises:
        Refused: the file has another length or lacks an image.
    """
    path = UPath(file).absolute()

    def work(folder: UPath) -> dict[str, Any]:
        # in a task: the values of all real images are not for the driver
        job = partial(_import, folder, path, column, high_is_easy, engine.class_names)
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
        config={"column": column, "high_is_easy": high_is_easy},
        seed=0,
        cost=cost,
        expected=dict,
        title="table",
    )


def _import(
    folder: UPath,
    path: UPath,
    column: str,
    high_is_easy: bool,
    class_names: tuple[str, ...],
    scores: UPath,
) -> int:
    """Write the parts and return their rows."""
    (folder / "parts").mkdir(parents=True, exist_ok=True)
    known = read_table_file(path, column)
    values = _ValuesById(known) if known.id_column else _ValuesByNumber(known, class_names)
    sign = -1.0 if high_is_easy else 1.0
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
