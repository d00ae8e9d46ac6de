"""One parquet file as a stream of cells: row number, image, label, place; damage costs its rows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raydd.data.sources.parquet_places import PREFIX, Page, offsets

BATCH_ROWS = 64
BATCH_BYTES = 16 << 20
MAX_LOST_ROWS = 1 << 20  # more are reported as one: a hostile file may claim any number


@dataclass(frozen=True, slots=True)
class Cell:
    """One row of a file.

    Attributes:
        row: number within the file.
        image: the encoded file; None for a null.
        label: as stored; text that is not UTF-8 has replacement characters.
        offset: position of the image's bytes in the file, where they are stored as they are.
        damage: why the row cannot be read; None for one that can.
    """

    row: int
    image: bytes | None = None
    label: Any = None
    offset: int | None = None
    damage: str | None = None


def read_cells(
    file: pq.ParquetFile,
    group: int,
    first_row: int,
    columns: Sequence[str],
    pages: Sequence[Page] = (),
) -> Iterator[Cell]:
    """Stream the rows of one row group with bounded memory.

    Args:
        file: opened with a read buffer, so that a large group is not loaded as a whole.
        group: number of the row group.
        first_row: number of its first row within the file.
        columns: leaf column of encoded images, e.g. ``image.bytes``, and maybe that of labels.
        pages: of the image column, if its bytes can be read by their place.
    """
    cells = _cells(file, group, first_row, columns)
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


def group_rows(file: pq.ParquetFile) -> list[int]:
    """Rows of each row group."""
    return [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]


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


def _cells(file: pq.ParquetFile, group: int, row: int, columns: Sequence[str]) -> Iterator[Cell]:
    metadata = file.metadata.row_group(group)
    end = row + metadata.num_rows
    mean = max(1, metadata.total_byte_size // max(1, metadata.num_rows))
    batch_rows = max(1, min(BATCH_ROWS, BATCH_BYTES // mean))
    try:
        for batch in file.iter_batches(batch_rows, row_groups=[group], columns=list(columns)):
            images = batch.column(columns[0].partition(".")[0])
            if pa.types.is_struct(images.type):
                images = pc.struct_field(images, "bytes")
            labels: list[Any] = [None] * len(images)
            if len(columns) > 1:
                labels = text_or_value(batch.column(columns[1]))
            for content, value in zip(images, labels, strict=True):
                yield Cell(row, content.as_py(), value)
                row += 1
    except (pa.ArrowException, OSError) as error:
        # Arrow's own OSErrors have no number; those of the disk or the network are not damage.
        if isinstance(error, OSError) and (type(error) is not OSError or error.errno is not None):
            raise
        damage = f"the row group cannot be read: {error}"
        lost = range(row, end) if end - row <= MAX_LOST_ROWS else (row,)
        yield from (Cell(number, damage=damage) for number in lost)
