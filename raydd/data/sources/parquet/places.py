"""Where a parquet file keeps the bytes of each image, where it keeps them as they are.

A row group of 100 MB holds its images compressed or not. Where they are not, and plainly encoded
(as `datasets` writes images), a chosen image is one ranged read, as it is from a tar shard. The
page index says where each page ends; the values fill a page's tail, each behind its length in four
bytes. pyarrow reads the page index, but does not show it: hence the few lines of Thrift here.
"""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq

PREFIX = 4  # bytes of the length before a value
MAX_PAGE_BYTES = 8 << 20  # the rows of a page are held until its last one is read
MAX_FOOTER_BYTES = 64 << 20
_PLAIN = {"PLAIN", "RLE", "BIT_PACKED"}  # the latter two are those of the nulls


@dataclass(frozen=True, slots=True)
class Page:
    """Rows of one page, and the position in the file where its last value ends."""

    num_rows: int
    end: int


def read_pages(
    open_stream: Callable[[], Any], file: pq.ParquetFile, leaf: str
) -> dict[int, list[Page]]:
    """Pages of the row groups whose images can be read by their place.

    Args:
        open_stream: opens the same file, seekable; called only where the images lie as they are.
        file: its metadata.
        leaf: dotted path of the column of encoded images.
    Returns:
        row group -> pages in row order; groups without plain values or page index are left out.
    """
    num_rows = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
    columns = {group: _plain_column(file, group, leaf) for group in range(file.num_row_groups)}
    if all(column is None for column in columns.values()):
        return {}
    try:
        with open_stream() as stream:
            groups = _footer(stream)[4]
            pages = {
                group: _pages(stream, groups[group][1][column], num_rows[group])
                for group, column in columns.items()
                if column is not None
            }
    except (LookupError, TypeError, ValueError, struct.error, RecursionError):
        return {}  # a footer that only pyarrow understands: whole row groups are read then
    return {group: found for group, found in pages.items() if found}


def offsets(end: int, sizes: Sequence[int | None]) -> list[int]:
    """Positions of a page's values from the sizes of all of them; a null (None) takes no room."""
    found = []
    for size in reversed(sizes):
        found.append(end - (size or 0))
        end -= 0 if size is None else size + PREFIX
    return found[::-1]


def _plain_column(file: pq.ParquetFile, group: int, leaf: str) -> int | None:
    metadata = file.metadata.row_group(group)
    for number in range(metadata.num_columns):
        column = metadata.column(number)
        if column.path_in_schema == leaf:
            is_plain = column.compression == "UNCOMPRESSED" and _PLAIN.issuperset(column.encodings)
            return number if is_plain and column.has_offset_index else None
    return None


def _pages(stream: Any, column: dict[int, Any], num_rows: int) -> list[Page]:
    """Pages of a ColumnChunk, from its OffsetIndex; none if one is too large to hold."""
    stream.seek(column[4])
    locations = _struct(stream.read(min(column[5], MAX_FOOTER_BYTES)), 0)[0][1]
    firsts = [location[3] for location in locations]
    pages = []
    for location, first, following in zip(locations, firsts, [*firsts[1:], num_rows], strict=True):
        if location[2] > MAX_PAGE_BYTES or following < first:
            return []
        pages.append(Page(following - first, location[1] + location[2]))
    return pages


def _footer(stream: Any) -> dict[int, Any]:
    """The FileMetaData of a parquet file."""
    length = stream.seek(0, 2)
    stream.seek(length - 8)
    size = int.from_bytes(stream.read(4), "little")
    if not 0 < size <= min(length - 8, MAX_FOOTER_BYTES):
        raise ValueError("no parquet footer")
    stream.seek(length - 8 - size)
    return _struct(stream.read(size), 0)[0]


def _struct(data: bytes, position: int) -> tuple[dict[int, Any], int]:
    """A struct of Thrift's compact protocol as {field number: value}, and the position behind."""
    fields: dict[int, Any] = {}
    number = 0
    while data[position] != 0:
        delta, kind = data[position] >> 4, data[position] & 15
        position += 1
        if delta:
            number += delta
        else:
            number, position = _integer(data, position)
        if kind in (1, 2):  # booleans need no bytes of their own
            fields[number] = kind == 1
        else:
            fields[number], position = _value(data, position, kind)
    return fields, position + 1


def _value(data: bytes, position: int, kind: int) -> tuple[Any, int]:
    if kind in (1, 2, 3):
        return data[position], position + 1
    if kind in (4, 5, 6):
        return _integer(data, position)
    if kind == 7:
        return struct.unpack_from("<d", data, position)[0], position + 8
    if kind == 8:
        size, position = _unsigned(data, position)
        return data[position : position + size], position + size
    if kind in (9, 10):
        return _list(data, position)
    if kind == 12:
        return _struct(data, position)
    raise ValueError(f"a Thrift value of kind {kind}")


def _list(data: bytes, position: int) -> tuple[list[Any], int]:
    size, kind = data[position] >> 4, data[position] & 15
    position += 1
    if size == 15:
        size, position = _unsigned(data, position)
    values = []
    for _ in range(size):
        value, position = _value(data, position, kind)
        values.append(value)
    return values, position


def _integer(data: bytes, position: int) -> tuple[int, int]:
    value, position = _unsigned(data, position)
    return (value >> 1) ^ -(value & 1), position


def _unsigned(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, position
