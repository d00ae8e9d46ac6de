"""A user's table of how difficult each real image is: what it holds, and whose rows they are.

A table with ids says itself which image a row is of. One without is in the order of whoever made
it: the published forgetting and consistency scores are in torchvision's, which is not that of every
source. It is taken only where its classes agree with the source's row by row, or on an explicit
``order="source"``.
"""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
from upath import UPath

KINDS = (".npy", ".npz", ".parquet", ".csv")
ORDERS = (None, "source")
ID_COLUMNS = ("id", "ids", "image_id")
CLASS_COLUMNS = ("label", "labels", "class_index", "class", "class_id", "target", "targets", "cls")


@dataclass(frozen=True)
class DifficultyTable:
    """A file of the user's; columns are read when they are asked for.

    Attributes:
        path: of the file.
        column: of the values; None where the file is one array (.npy).
        rows: how many it has.
        id_column: names the image of each row; None where nothing does.
        class_column: its class, as an index or a name; None where nothing does.
    """

    path: UPath
    column: str | None
    rows: int
    id_column: str | None = None
    class_column: str | None = None

    def values(self) -> np.ndarray:
        """The difficulties, float64 [rows].

        Raises:
            ValueError: they are not one finite number per row.
        """
        found = _read(self.path, self.column)
        if found.ndim != 1 or found.dtype.kind not in "iufb":
            raise ValueError(
                f"{self._where()} holds {found.dtype} {list(found.shape)}, not numbers."
            )
        values = found.astype(np.float64)
        if not np.isfinite(values).all():
            row = int(np.flatnonzero(~np.isfinite(values))[0])
            raise ValueError(f"{self._where()} has no number in row {row}.")
        return values

    def ids(self) -> pa.Array:
        """The id of each row, strings; only where there is an ``id_column``."""
        assert self.id_column is not None
        if self.path.suffix == ".parquet":  # millions of them: no Python objects
            with self.path.open("rb") as file:
                column = pq.read_table(file, columns=[self.id_column])[self.id_column]
            return column.cast(pa.string()).combine_chunks()
        return pa.array([str(name) for name in _read(self.path, self.id_column)], pa.string())

    def classes(self) -> np.ndarray:
        """The class of each row, int64 or str [rows]; only where there is a ``class_column``."""
        assert self.class_column is not None
        found = _read(self.path, self.class_column)
        return found.astype(np.int64 if found.dtype.kind in "iufb" else str)

    def _where(self) -> str:
        return f"{self.path}, column {self.column!r}," if self.column else str(self.path)


def read_table(path: UPath, column: str) -> DifficultyTable:
    """See what a file holds.

    Args:
        path: .npy (one array), .npz (arrays), .parquet or .csv (columns; the first line of a .csv
            names them).
        column: of the values; not used for .npy.
    Raises:
        ValueError: another kind of file, damaged, or without the column; one sentence.
    """
    if path.suffix not in KINDS or not path.is_file():
        raise ValueError(
            f"difficulty.table={path} is not an existing file of one of the kinds "
            f"{', '.join(KINDS)}."
        )
    try:
        names, rows = _describe(path)
    except (pa.ArrowException, zipfile.BadZipFile, ValueError, EOFError, OSError) as error:
        raise ValueError(f"difficulty.table={path} cannot be read: {_line(error)}.") from error
    if names is None:
        return DifficultyTable(path, None, rows)
    if column not in names:
        raise ValueError(
            f"difficulty.table={path} has no column {column!r} (it has {', '.join(names)}); set "
            "difficulty.column."
        )
    others = [name for name in names if name != column]
    return DifficultyTable(
        path, column, rows, _first(ID_COLUMNS, others), _first(CLASS_COLUMNS, others)
    )


def check_order(table: DifficultyTable, order: str | None, num_images: int) -> None:
    """Refuse a table whose rows could be any image's, before any work.

    Args:
        table: of :func:`read_table`.
        order: "source" says that the rows are in the source's order; None says nothing.
        num_images: of the source, broken ones included.
    Raises:
        ValueError: the order is not known, or there are not as many rows as images.
    """
    if order not in ORDERS:
        raise ValueError(f"difficulty.order must be null or source, got {order!r}.")
    if table.id_column is not None:
        return
    if table.rows != num_images:
        raise ValueError(
            f"difficulty.table={table.path} has {table.rows} rows for {num_images} training images."
        )
    if table.class_column is None and order is None:
        raise ValueError(
            f"difficulty.table={table.path} has neither ids nor classes, so that its rows could be "
            "in any order: add a column id (of the images, as in the score table) or label, or say "
            "difficulty.order=source if they are in the order of the data set's files and rows."
        )


def check_classes(
    theirs: np.ndarray, ours: np.ndarray, class_names: Sequence[str], what: str, first_row: int = 0
) -> None:
    """Compare the classes of a table's rows with those of the source's images, row by row.

    Args:
        theirs: [N] class indices or names, rows of :meth:`DifficultyTable.classes`.
        ours: int [N], of the images at the same places; negative where an image has none.
        class_names: in label order.
        what: the table in words; begins the message.
        first_row: number of the first of these rows.
    Raises:
        ValueError: they differ in a row; says how many do.
    """
    known = {name: index for index, name in enumerate(class_names)}
    given = theirs
    if theirs.dtype.kind not in "iu":
        given = np.array([known.get(name, -2) for name in theirs.tolist()], np.int64)
    other = np.flatnonzero((given != ours) & (ours >= 0))
    if len(other):
        row = int(other[0])
        raise ValueError(
            f"{what} is in another order than the data set: {len(other)} of {len(ours)} rows are "
            f"of another class (row {first_row + row} says {theirs[row]}, the image there is of "
            f"{class_names[int(ours[row])]!r}); give it a column id."
        )


def _describe(path: UPath) -> tuple[list[str] | None, int]:
    """Column names (None for a plain array) and rows."""
    if path.suffix == ".npy":
        return None, len(_read(path, None))
    if path.suffix == ".npz":
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            names = list(arrays.files)
            lengths = {len(arrays[name]) for name in names if arrays[name].ndim}
        if len(lengths) != 1:
            raise ValueError(f"its arrays have the lengths {sorted(lengths)}, not all the same")
        return names, lengths.pop()
    with path.open("rb") as file:
        if path.suffix == ".parquet":
            footer = pq.ParquetFile(file)
            return footer.schema_arrow.names, footer.metadata.num_rows
        table = pc.read_csv(file)
        return table.column_names, table.num_rows


def _read(path: UPath, name: str | None) -> np.ndarray:
    with path.open("rb") as file:
        if path.suffix in (".npy", ".npz"):
            content: Any = np.load(file, allow_pickle=False)
            return np.atleast_1d(content if name is None else content[name])
        if path.suffix == ".parquet":
            return pq.read_table(file, columns=[name])[name].to_numpy()
        included = pc.ConvertOptions(include_columns=[name])
        return pc.read_csv(file, convert_options=included)[name].to_numpy()


def _first(names: Sequence[str], present: Sequence[str]) -> str | None:
    return next((name for name in names if name in present), None)


def _line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
