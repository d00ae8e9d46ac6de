"""Parquet files in the Hugging Face layout: an image struct {bytes, path} and a label column.

An id is ``file.parquet#row``. Large files are cut into runs of row groups, so that one file still
keeps many workers busy; ``fetch`` reads only the row groups that hold the ids.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raydd.data.sources.base import Row, Shard, broken, resolve_label
from raydd.data.sources.files import SPLIT_NAMES, Root, digest, is_folder, missing_split
from raydd.data.sources.parquet_classes import class_names_of

SHARD_BYTES = 64 << 20
BATCH_ROWS = 64
NUM_READERS = 16  # threads for footers and label columns: mostly waiting


@dataclass(frozen=True)
class ParquetSource:
    """See the module; ``files`` are (path below the root, bytes); a shard is row groups."""

    root: Root
    files: tuple[tuple[str, int], ...]
    image_column: str
    label_column: str
    class_names: tuple[str, ...]
    fingerprint: str

    @classmethod
    def open(
        cls,
        root: Root,
        split: str,
        class_names: Sequence[str] | None,
        num_classes: int | None,
        image_column: str,
        label_column: str,
    ) -> "ParquetSource":
        """Find the files of the split and the class names.

        Args:
            root: the data set's folder.
            split: matches ``data/{split}-*.parquet``, else ``{split}-*.parquet``, else
                ``{split}/*.parquet``.
            class_names: expected names; must agree with those stored in the files, if any are.
            num_classes: expected number of classes; None accepts any.
            image_column: struct {bytes, path}, or plain binary.
            label_column: integers, or strings that are class names.
        Raises:
            ValueError: missing root, split or column, unknown or disagreeing classes.
        """
        root.require()
        files = _files_of_split(root, split)
        with root.explained(), _open_file(root, files[0][0]) as first:
            schema = first.schema_arrow
        missing = [name for name in (image_column, label_column) if name not in schema.names]
        if missing:
            raise ValueError(
                f"The parquet root {root.url} has no column {missing[0]!r} (it has "
                f"{', '.join(schema.names)}); set dataset.image_column and dataset.label_column."
            )
        unnamed = cls(root, files, image_column, label_column, (), "")
        names = class_names_of(
            root, schema, label_column, class_names, num_classes, unnamed._label_counts
        )
        content = digest("parquet", split, image_column, label_column, *files, *names)
        return cls(root, files, image_column, label_column, names, content)

    def shards(self) -> list[Shard]:
        """Whole files up to 64 MB, runs of row groups of about that size beyond."""
        with ThreadPoolExecutor(NUM_READERS) as pool:
            per_file = pool.map(self._shards_of_file, self.files)
            return [shard for shards in per_file for shard in shards]

    def read(self, shard: Shard) -> Iterator[Row]:
        """Stream the rows in file order."""
        path = shard.name.partition("#")[0]
        index = {name: position for position, name in enumerate(self.class_names)}
        with _open_file(self.root, path) as file:
            groups = range(shard.begin, shard.end or file.num_row_groups)
            row = sum(file.metadata.row_group(group).num_rows for group in range(shard.begin))
            columns = [self._bytes_column(file), self.label_column]
            for batch in file.iter_batches(BATCH_ROWS, row_groups=list(groups), columns=columns):
                images = _image_bytes(batch.column(self.image_column))
                labels = batch.column(self.label_column).to_pylist()
                for image, label in zip(images, labels, strict=True):
                    yield _row(f"{path}#{row}", image, *resolve_label(label, index))
                    row += 1

    def fetch(self, ids: Sequence[str]) -> dict[str, bytes]:
        """Read the row groups that hold the ids, one after the other."""
        wanted: dict[str, dict[int, str]] = {}
        known = {path for path, _ in self.files}
        for row_id in ids:
            path, _, row = row_id.rpartition("#")
            if path not in known or not row.isdecimal():
                raise ValueError(f"The parquet root {self.root.url} holds no image {row_id!r}.")
            wanted.setdefault(path, {})[int(row)] = row_id
        found: dict[str, bytes] = {}
        for path, rows in wanted.items():
            found.update(self._fetch_from_file(path, rows))
        absent = [row_id for row_id in ids if row_id not in found]
        if absent:
            raise ValueError(f"The parquet root {self.root.url} holds no image {absent[0]!r}.")
        return {row_id: found[row_id] for row_id in ids}

    def class_counts(self) -> np.ndarray:
        """Images per class from the label columns alone; labels out of range count nowhere."""
        counts = np.zeros(len(self.class_names), dtype=np.int64)
        index = {name: position for position, name in enumerate(self.class_names)}
        for label, count in self._label_counts().items():
            class_index, reason = resolve_label(label, index)
            if reason is None:
                counts[class_index] += count
        return counts

    def _label_counts(self) -> Counter[Any]:
        """Rows per distinct label over all files; None stands for a missing label."""
        with ThreadPoolExecutor(NUM_READERS) as pool:
            return sum(pool.map(self._label_counts_of_file, self.files), Counter[Any]())

    def _label_counts_of_file(self, file: tuple[str, int]) -> Counter[Any]:
        with _open_file(self.root, file[0]) as opened:
            counted = pc.value_counts(opened.read([self.label_column]).column(0).combine_chunks())
        return Counter({pair["values"]: pair["counts"] for pair in counted.to_pylist()})

    def _shards_of_file(self, file: tuple[str, int]) -> list[Shard]:
        path, size = file
        if size <= SHARD_BYTES:
            return [Shard(path)]
        with _open_file(self.root, path) as opened:
            groups = [opened.metadata.row_group(g) for g in range(opened.num_row_groups)]
        # total_byte_size is before compression; encoded images hardly compress, so it will do.
        runs = _runs([group.total_byte_size for group in groups], SHARD_BYTES)
        return [Shard(f"{path}#{begin}", begin, end) for begin, end in runs]

    def _fetch_from_file(self, path: str, rows: dict[int, str]) -> dict[str, bytes]:
        """Stream the row groups that hold the rows (row number -> id) and keep those rows."""
        found: dict[str, bytes] = {}
        with _open_file(self.root, path) as file:
            sizes = [file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)]
            ends = np.cumsum(sizes)
            groups = np.unique(np.searchsorted(ends, sorted(rows), side="right"))
            for group in groups[groups < len(sizes)].tolist():
                row = int(ends[group]) - sizes[group]
                columns = [self._bytes_column(file)]
                for batch in file.iter_batches(BATCH_ROWS, row_groups=[group], columns=columns):
                    images = batch.column(self.image_column)
                    chosen = [r for r in range(row, row + len(images)) if r in rows]
                    places = pa.array([r - row for r in chosen], pa.int64())  # often none
                    picked = _image_bytes(images.take(places))
                    found.update(
                        (rows[r], image)
                        for r, image in zip(chosen, picked, strict=True)
                        if image is not None
                    )
                    row += len(images)
        return found

    def _bytes_column(self, file: pq.ParquetFile) -> str:
        """Path of the leaf that holds the encoded images: the struct's ``path`` is never read."""
        is_struct = pa.types.is_struct(file.schema_arrow.field(self.image_column).type)
        return f"{self.image_column}.bytes" if is_struct else self.image_column


def _open_file(root: Root, path: str) -> pq.ParquetFile:
    with root.explained():
        try:
            return pq.ParquetFile(f"{root.path}/{path}", filesystem=root.fs)
        except pa.ArrowInvalid as error:
            raise ValueError(
                f"{root.url}/{path} is not a readable parquet file ({error}); fetch it again."
            ) from error


def _files_of_split(root: Root, split: str) -> tuple[tuple[str, int], ...]:
    """(path below the root, bytes) of the split's files, sorted."""
    top = root.listing()
    folders = {entry["name"] for entry in top if is_folder(entry)}
    data = root.listing("data") if "data" in folders else []
    inside = root.listing(split) if split in folders else []
    layouts = (
        [(f"data/{entry['name']}", entry) for entry in data if _is_part(entry, f"{split}-")],
        [(entry["name"], entry) for entry in top if _is_part(entry, f"{split}-")],
        [(f"{split}/{entry['name']}", entry) for entry in inside if _is_part(entry, "")],
    )
    for layout in layouts:
        if layout:
            return tuple((path, int(entry["size"])) for path, entry in layout)
    names = [entry["name"] for entry in top + data]
    present = sorted({name for name in SPLIT_NAMES for file in names if file.startswith(name)})
    raise missing_split(root, split, present)


def _is_part(entry: dict[str, Any], prefix: str) -> bool:
    name = entry["name"]
    return not is_folder(entry) and name.startswith(prefix) and name.endswith(".parquet")


def _runs(sizes: Sequence[int], limit: int) -> Iterator[tuple[int, int]]:
    """Cut positions into runs ``[begin, end)`` of at most ``limit`` in sum, one item at least."""
    begin, total = 0, 0
    for position, size in enumerate(sizes):
        if position > begin and total + size > limit:
            yield begin, position
            begin, total = position, 0
        total += size
    if sizes:
        yield begin, len(sizes)


def _image_bytes(column: pa.Array) -> list[bytes | None]:
    if pa.types.is_struct(column.type):
        column = pc.struct_field(column, "bytes")
    return list(column.to_pylist())


def _row(row_id: str, image: bytes | None, class_index: int, reason: str | None) -> Row:
    if reason is None and image is None:
        reason = "the image is null"
    if reason is not None:
        return broken(row_id, reason, class_index)
    return Row(row_id, class_index, image or b"")
