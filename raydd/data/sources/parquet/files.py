"""Opening one file of a parquet source, and the sentence for one that cannot be."""

from typing import Any, Protocol

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from raydd.data.sources.files import Root
from raydd.data.sources.parquet.arrow import ArrowTable
from raydd.data.sources.parquet.layouts import ARROW, files_of_split
from raydd.data.sources.parquet.places import Page, read_pages

__all__ = ["DamagedFile", "Table", "files_of_split", "is_damage", "one_line", "open_file"]

REFETCH = "fetch it again, or move it out of the data set"
BUFFER_BYTES = 8 << 20  # read at once; without it pyarrow loads whole row groups, often 100 MB


class DamagedFile(ValueError):
    """A file that cannot be read as what its name says.

    Attributes:
        what: is wrong; begins with a verb.
        cure: what to do.
    """

    def __init__(self, address: str, what: str, cure: str) -> None:
        super().__init__(address, what, cure)
        self.what, self.cure = what, cure

    def __str__(self) -> str:
        return "{} {}; {}.".format(*self.args)


def is_damage(error: Exception) -> bool:
    """Tell damage of a file from an error of the disk or the network: those have a number."""
    return not isinstance(error, OSError) or (type(error) is OSError and error.errno is None)


def one_line(error: Exception) -> str:
    """Arrow's words on damage, which may quote the damaged bytes."""
    text = "".join(character if character.isprintable() else " " for character in str(error))
    return " ".join(text.split())[:200].rstrip(".")


class Table(Protocol):
    """One open file, whatever its format; a context manager."""

    @property
    def schema_arrow(self) -> pa.Schema:
        """Names and types of the columns."""

    @property
    def group_rows(self) -> list[int]:
        """Rows of each group; a group is what the format reads at once."""

    @property
    def group_bytes(self) -> list[int]:
        """Bytes of each group, before compression; encoded images hardly compress."""

    def num_nulls(self, group: int, leaf: str) -> int | None:
        """Nulls of a leaf column in a group; None where the file does not say."""

    def batches(self, group: int, columns: list[str], num_rows: int) -> Any:
        """Iterate over a group's rows, at most ``num_rows`` at a time."""

    def column(self, name: str) -> pa.ChunkedArray:
        """One whole column."""

    def pages(self, leaf: str) -> dict[int, list[Page]]:
        """Group -> pages of a leaf, for the groups whose values can be read by their place."""

    def __enter__(self) -> "Table":
        """Return itself."""

    def __exit__(self, *_: object) -> None:
        """Close the file."""


class ParquetTable:
    """See :class:`Table`; groups are row groups."""

    def __init__(self, root: Root, path: str, *, only_labels: bool) -> None:
        self._root, self._full = root, f"{root.path}/{path}"
        self._stream = None
        if only_labels and isinstance(root.fs, LocalFileSystem):
            # without Python's lock, which sixteen readers would take from one another
            disk = pafs.LocalFileSystem()
            self._file = pq.ParquetFile(self._full, filesystem=disk, pre_buffer=True)
        elif only_labels:
            # Exact ranges, all row groups' at once: fsspec's read-ahead would fetch the images too.
            self._stream = root.fs.open(self._full, "rb", cache_type="none")
            self._file = pq.ParquetFile(self._stream, pre_buffer=True)
        else:
            self._file = pq.ParquetFile(
                self._full, filesystem=root.fs, pre_buffer=False, buffer_size=BUFFER_BYTES
            )
        groups = [self._file.metadata.row_group(g) for g in range(self._file.num_row_groups)]
        self.schema_arrow: pa.Schema = self._file.schema_arrow
        self.group_rows = [group.num_rows for group in groups]
        self.group_bytes = [group.total_byte_size for group in groups]

    def num_nulls(self, group: int, leaf: str) -> int | None:
        """See the protocol."""
        metadata = self._file.metadata.row_group(group)
        for number in range(metadata.num_columns):
            column = metadata.column(number)
            if column.path_in_schema == leaf:
                statistics = column.statistics
                known = statistics is not None and statistics.has_null_count
                return int(statistics.null_count) if known else None
        return None

    def batches(self, group: int, columns: list[str], num_rows: int) -> Any:
        """See the protocol."""
        return self._file.iter_batches(num_rows, row_groups=[group], columns=columns)

    def column(self, name: str) -> pa.ChunkedArray:
        """See the protocol."""
        return self._file.read([name]).column(0)

    def pages(self, leaf: str) -> dict[int, list[Page]]:
        """See the protocol."""
        return read_pages(lambda: self._root.fs.open(self._full), self._file, leaf)

    def __enter__(self) -> "ParquetTable":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        if self._stream is not None:
            self._stream.close()


def open_file(root: Root, path: str, *, only_labels: bool = False) -> Table:
    """Open one file by its path below the root.

    Args:
        root: the data set's folder.
        path: of a parquet file, or of an Arrow stream as ``save_to_disk`` of `datasets` writes it.
        only_labels: the footer and a small column are all that will be asked for.
    Raises:
        DamagedFile: it is gone, or no such file.
        ValueError: an Arrow stream that is not on a local disk.
    """
    address = f"{root.url}/{path}"
    with root.explained():
        try:
            if path.endswith(ARROW):
                return ArrowTable(root, path)
            return ParquetTable(root, path, only_labels=only_labels)
        except FileNotFoundError as error:
            raise DamagedFile(address, "is no longer there", "bring it back") from error
        except (pa.ArrowException, OSError) as error:
            if not is_damage(error):
                raise
            kind = "Arrow stream" if path.endswith(ARROW) else "parquet file"
            what = f"is not a readable {kind} ({one_line(error)})"
            raise DamagedFile(address, what, REFETCH) from error
