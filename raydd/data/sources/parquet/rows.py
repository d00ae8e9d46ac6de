"""One parquet file as a stream of cells: row number, image, label, place; damage costs its rows."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from raydd.data.sources.parquet.files import Table, is_damage, one_line
from raydd.data.sources.parquet.places import PREFIX, Page, offsets

BATCH_ROWS = 64
BATCH_BYTES = 16 << 20
MAX_LOST_ROWS = 1 << 20  # more are reported as one: a hostile file may claim any number


@dataclass(frozen=True, slots=True)
class Cell:
    """One row of a file.

    Attributes:
        row: number within the file.
        image: the encoded file; None for a null.
        path: of the image file, where the column names one.
        label: as stored; text that is not UTF-8 has replacement characters.
        offset: position of the image's bytes in the file, where they are stored as they are.
        damage: why the row cannot be read; None for one that can.
        rows: that the cell stands for; more than 1 only with damage.
    """

    row: int
    image: bytes | None = None
    path: str | None = None
    label: Any = None
    offset: int | None = None
    damage: str | None = None
    rows: int = 1


def read_cells(
    table: Table,
    group: int,
    leaves: Sequence[str],
    label_column: str | None = None,
    pages: Sequence[Page] = (),
    wanted: Sequence[int] | None = None,
) -> Iterator[Cell]:
    """Stream the rows of one group with bounded memory.

    Args:
        table: opened with a read buffer, so that a large group is not loaded as a whole.
        group: its number.
        leaves: of the image column, see :func:`.columns.image_leaves`.
        label_column: None where labels are not asked for.
        pages: of the encoded images, if these can be read by their place.
        wanted: numbers of the only rows that are asked for, ascending, without pages; None is all.
    """
    cells = _cells(table, group, list(leaves), label_column, wanted)
    for page in pages:
        held = list(islice(cells, page.num_rows))
        places = offsets(
            page.end, [None if cell.image is None else len(cell.image) for cell in held]
        )
        if any(cell.damage for cell in held) or min(places, default=0) < PREFIX:
            yield from held
        else:
            yield from map(_placed, held, places)
    yield from cells


def within(cells: Iterable[Cell], begin: int, end: int) -> Iterator[Cell]:
    """The cells of rows ``[begin, end)``; one that stands for many rows is cut to them."""
    for cell in cells:
        if cell.row >= end:
            return
        first, last = max(cell.row, begin), min(cell.row + cell.rows, end)
        if first < last:
            yield cell if cell.rows == 1 else replace(cell, row=first, rows=last - first)


def text_or_value(column: pa.Array) -> list[Any]:
    """Values of a label column; text that is not UTF-8 is mended, not refused as a whole batch."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        raw = column.cast(pa.large_binary()).to_pylist()
        return [None if value is None else value.decode("utf-8", errors="replace") for value in raw]
    return list(column.to_pylist())


def _placed(cell: Cell, offset: int) -> Cell:
    return replace(cell, offset=offset)


def _cells(
    table: Table,
    group: int,
    leaves: list[str],
    label_column: str | None,
    wanted: Sequence[int] | None,
) -> Iterator[Cell]:
    row = read = sum(table.group_rows[:group])
    end = row + table.group_rows[group]
    mean = max(1, table.group_bytes[group] // max(1, table.group_rows[group]))
    batch_rows = max(1, min(BATCH_ROWS, BATCH_BYTES // mean))
    columns = leaves if label_column is None else [*leaves, label_column]
    try:
        for batch in table.batches(group, columns, batch_rows):
            begin, read = read, read + len(batch)
            numbers = _among(wanted, begin, read)
            if not numbers:
                row = read
                continue
            if len(numbers) < len(batch):  # what is passed over becomes no Python object
                batch = batch.take(pa.array([number - begin for number in numbers], pa.int64()))
            images, paths = _images_and_paths(batch, leaves)
            labels: list[Any] = [None] * len(batch)
            if label_column is not None:
                labels = text_or_value(batch.column(label_column))
            for number, content, path, value in zip(numbers, images, paths, labels, strict=True):
                yield Cell(number, content.as_py(), path, value)
                row = number + 1
            row = read
    except (pa.ArrowException, OSError) as error:
        if not is_damage(error):
            raise
        damage = f"the row group cannot be read: {one_line(error)}"
        if wanted is None and end - row > MAX_LOST_ROWS:
            yield Cell(row, damage=damage, rows=end - row)
        else:
            yield from (Cell(number, damage=damage) for number in _among(wanted, row, end))


def _among(wanted: Sequence[int] | None, begin: int, end: int) -> Sequence[int]:
    """The wanted rows of ``[begin, end)``."""
    if wanted is None:
        return range(begin, end)
    return wanted[bisect_left(wanted, begin) : bisect_left(wanted, end)]


def _images_and_paths(
    batch: pa.RecordBatch, leaves: Sequence[str]
) -> tuple[pa.Array, Sequence[str | None]]:
    """Encoded images and paths of image files, a null or None where there is none."""
    top = leaves[0]
    if top not in batch.schema.names:
        top = top.rpartition(".")[0]
    column = batch.column(top)
    nothing = pa.nulls(len(batch), pa.binary())
    if not pa.types.is_struct(column.type):
        is_path = not (pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type))
        return (nothing, text_or_value(column)) if is_path else (column, [None] * len(batch))
    images, paths = nothing, [None] * len(batch)
    if f"{top}.bytes" in leaves:
        images = pc.struct_field(column, "bytes")
    if f"{top}.path" in leaves:
        paths = text_or_value(pc.struct_field(column, "path"))
    return images, paths
