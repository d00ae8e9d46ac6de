"""Arrow streams as ``Dataset.save_to_disk`` of `datasets` writes them, read from a local disk.

A stream has no footer: its batches are found one behind the other. Mapped into memory that touches
only their headers; over a network it would read every image, so there the cure is one line.
"""

from collections.abc import Iterator
from itertools import islice

import pyarrow as pa
from fsspec.implementations.local import LocalFileSystem

from raydd.data.sources.files import Root
from raydd.data.sources.parquet.places import Page

# Of a stream: one that was cut between two batches would else look whole.
_END = b"\xff\xff\xff\xff\0\0\0\0"


class ArrowTable:
    """See :class:`raydd.data.sources.parquet.files.Table`; groups are record batches."""

    def __init__(self, root: Root, path: str) -> None:
        if not isinstance(root.fs, LocalFileSystem):
            raise ValueError(
                f"{root.url}/{path} was written by `save_to_disk` and can be read from a local "
                "disk only: copy the folder to one and set dataset.root, or convert it there with "
                "datasets.load_from_disk(FOLDER)['train'].to_parquet('train.parquet')."
            )
        with pa.memory_map(f"{root.path}/{path}") as mapped:
            self._content = mapped.read_buffer()
        if self._content.size < len(_END) or self._content[-len(_END) :].to_pybytes() != _END:
            raise pa.ArrowInvalid("it is cut short")
        self.schema_arrow: pa.Schema = self._stream().schema
        sizes = [(batch.num_rows, batch.nbytes) for batch in self._stream()]
        self.group_rows = [num_rows for num_rows, _ in sizes]
        self.group_bytes = [num_bytes for _, num_bytes in sizes]

    def num_nulls(self, group: int, leaf: str) -> int | None:
        """A batch does not say it without being read."""
        return None

    def batches(self, group: int, columns: list[str], num_rows: int) -> Iterator[pa.RecordBatch]:
        """Slices of one record batch; nothing is copied. Whole structs come with their leaves."""
        tops = list(dict.fromkeys(column.partition(".")[0] for column in columns))
        for batch in islice(self._stream(), group, group + 1):
            for begin in range(0, batch.num_rows, num_rows):
                yield batch.select(tops).slice(begin, num_rows)

    def column(self, name: str) -> pa.ChunkedArray:
        """One whole column."""
        parts = [batch.column(name) for batch in self._stream()]
        return pa.chunked_array(parts, self.schema_arrow.field(name).type)

    def pages(self, leaf: str) -> dict[int, list[Page]]:
        """Rows are fetched through their batch, which is as good as a place."""
        return {}

    def _stream(self) -> pa.RecordBatchReader:
        return pa.ipc.open_stream(self._content)

    def __enter__(self) -> "ArrowTable":
        return self

    def __exit__(self, *_: object) -> None:
        del self._content
