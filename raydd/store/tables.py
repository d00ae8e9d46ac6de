"""Parquet files of a stage: written whole or not at all, read from a disk or an object store.

Every worker needs them: Ray Data, which only passes over the real images need, is not imported.
"""

import io
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

from raydd.store.files import write_atomic


def encode_places(shards: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """One int64 for each place (shard, row in shard) of the real set."""
    return (shards.astype(np.int64) << 32) | rows.astype(np.int64)


def part_files(folder: UPath) -> list[UPath]:
    """The part files of a finished pass, in shard order."""
    return sorted((folder / "parts").glob("*.parquet"), key=lambda path: path.name)


def read_table(path: UPath, columns: list[str] | None = None) -> pa.Table:
    """Read one parquet file, local or on an object store; columns that it lacks are left out."""
    with path.open("rb") as file:
        opened = pq.ParquetFile(file)
        present = opened.schema_arrow.names
        return opened.read(None if columns is None else [n for n in columns if n in present])


def column_names(path: UPath) -> list[str]:
    """Columns of one parquet file, from its footer."""
    with path.open("rb") as file:
        return list(pq.ParquetFile(file).schema_arrow.names)


def count_rows(path: UPath) -> int:
    """Rows of one parquet file, from its footer."""
    with path.open("rb") as file:
        return int(pq.ParquetFile(file).metadata.num_rows)


def write_table(path: UPath, table: pa.Table, **encoding: Any) -> None:
    """Write one parquet file; it is there whole or not at all. ``encoding`` is pyarrow's."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", **encoding)
    write_atomic(path, sink.getvalue())
