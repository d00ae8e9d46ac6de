"""Parquet files in the Hugging Face layout: an image struct {bytes, path} and a label column.

An id is ``file.parquet#row``, or ``file.parquet#row@offset+size`` where the image's bytes lie in
the file as they are: ``fetch`` is then one ranged read, else it reads the row groups that hold the
ids. Large files are cut into runs of row groups, so that one file keeps many workers busy.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raydd.data.sources.base import MAX_IMAGE_BYTES, Row, Shard, broken, resolve_label
from raydd.data.sources.files import Root, digest
from raydd.data.sources.parquet_classes import class_names_of
from raydd.data.sources.parquet_files import DamagedFile, files_of_split, open_file, require_columns
from raydd.data.sources.parquet_places import PREFIX, read_pages
from raydd.data.sources.parquet_rows import Cell, group_rows, read_cells, text_or_value

SHARD_BYTES = 64 << 20
READ_AHEAD = 64  # ranged reads per request
NUM_READERS = 16  # threads for footers and label columns: mostly waiting
_ID = re.compile(r"(?P<path>.+)#(?P<row>[0-9]{1,18})(@(?P<offset>[0-9]+)\+(?P<size>[0-9]+))?")


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
        files = files_of_split(root, split)
        with root.explained(), open_file(root, files[0][0]) as first:
            schema = first.schema_arrow
        require_columns(root, schema, image_column, label_column)
        unnamed = cls(root, files, image_column, label_column, (), "")
        names = class_names_of(
            root, schema, label_column, class_names, num_classes, unnamed._label_counts
        )
        content = digest("parquet", split, image_column, label_column, *files, *names)
        return cls(root, files, image_column, label_column, names, content)

    @property
    def unused(self) -> Mapping[str, int]:
        """No file is passed over."""
        return {}

    def shards(self) -> list[Shard]:
        """Whole files up to 64 MB, runs of row groups of about that size beyond."""
        with ThreadPoolExecutor(NUM_READERS) as pool:
            per_file = pool.map(self._shards_of_file, self.files)
            return [shard for shards in per_file for shard in shards]

    def read(self, shard: Shard) -> Iterator[Row]:
        """Stream the rows in file order; what is damaged gives broken rows."""
        path = shard.name.partition("#")[0]
        index = {name: position for position, name in enumerate(self.class_names)}
        try:
            file = open_file(self.root, path)
        except DamagedFile:
            yield broken(path, "the file is not a readable parquet file; fetch it again")
            return
        with file:
            absent = {self.image_column, self.label_column} - set(file.schema_arrow.names)
            if absent:
                yield broken(path, f"the file has no column {min(absent)!r}")
                return
            leaf = self._bytes_column(file)
            pages = read_pages(lambda: self.root.fs.open(f"{self.root.path}/{path}"), file, leaf)
            first_row = sum(group_rows(file)[: shard.begin])
            for group in range(shard.begin, shard.end or file.num_row_groups):
                columns = [leaf, self.label_column]
                for cell in read_cells(file, group, first_row, columns, pages.get(group, ())):
                    yield _row(path, cell, index)
                first_row += file.metadata.row_group(group).num_rows

    def fetch(self, ids: Sequence[str]) -> dict[str, bytes]:
        """Read the ids that name a place there, and the row groups that hold the others."""
        known = {path for path, _ in self.files}
        places = [self._place(row_id, known) for row_id in ids]
        found = self._fetch_places(ids, places)
        wanted: dict[str, dict[int, str]] = {}
        for row_id, place in zip(ids, places, strict=True):
            if row_id not in found:
                wanted.setdefault(place["path"], {})[int(place["row"])] = row_id
        for path, rows in wanted.items():
            found.update(self._fetch_rows(path, rows))
        absent = [row_id for row_id in ids if row_id not in found]
        if absent:
            raise self._absent(absent[0])
        return {row_id: found[row_id] for row_id in ids}

    def class_counts(self) -> np.ndarray:
        """Images per class from the label columns alone; labels out of range count nowhere.

        Raises:
            DamagedFile: one is no parquet file. A run hears of it here, before any work; a pass
                that meets it later reports it and goes on.
        """
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
        with open_file(self.root, file[0]) as opened:
            counted = pc.value_counts(opened.read([self.label_column]).column(0).combine_chunks())
        labels = text_or_value(counted.field("values"))
        return Counter(dict(zip(labels, counted.field("counts").to_pylist(), strict=True)))

    def _shards_of_file(self, file: tuple[str, int]) -> list[Shard]:
        path, size = file
        if size <= SHARD_BYTES:
            return [Shard(path)]
        try:
            opened_file = open_file(self.root, path)
        except DamagedFile:
            return [Shard(path)]
        with opened_file as opened:
            groups = [opened.metadata.row_group(g) for g in range(opened.num_row_groups)]
        # total_byte_size is before compression; encoded images hardly compress, so it will do.
        runs = _runs([group.total_byte_size for group in groups], SHARD_BYTES)
        return [Shard(f"{path}#{begin}", begin, end) for begin, end in runs]

    def _place(self, row_id: str, known: set[str]) -> re.Match[str]:
        """Parts of an id: path, row and, if it names them, offset and size."""
        match = _ID.fullmatch(row_id)
        if match is None or match["path"] not in known:
            raise self._absent(row_id)
        return match

    def _absent(self, row_id: str) -> ValueError:
        return ValueError(f"The parquet root {self.root.url} holds no image {row_id!r}.")

    def _fetch_places(
        self, ids: Sequence[str], places: Sequence[re.Match[str]]
    ) -> dict[str, bytes]:
        """Read byte ranges; a place that does not hold what its id says is left out."""
        found: dict[str, bytes] = {}
        placed = [
            (row_id, f"{self.root.path}/{place['path']}", int(place["offset"]), int(place["size"]))
            for row_id, place in zip(ids, places, strict=True)
            if place["offset"] is not None and int(place["size"]) <= MAX_IMAGE_BYTES
        ]
        for begin in range(0, len(placed), READ_AHEAD):
            block = placed[begin : begin + READ_AHEAD]
            contents = self.root.fs.cat_ranges(
                [path for _, path, _, _ in block],
                [max(0, offset - PREFIX) for _, _, offset, _ in block],
                [offset + size for _, _, offset, size in block],
                on_error="return",
            )
            for (row_id, _, _, size), content in zip(block, contents, strict=True):
                if not isinstance(content, bytes):
                    continue  # reading the row group tells what is wrong
                if content[:PREFIX] == size.to_bytes(PREFIX, "little"):
                    found[row_id] = content[PREFIX:]
        return found

    def _fetch_rows(self, path: str, rows: dict[int, str]) -> dict[str, bytes]:
        """Stream the row groups that hold the rows (row number -> id) up to the last of them."""
        found: dict[str, bytes] = {}
        with open_file(self.root, path) as file:
            columns = [self._bytes_column(file)]
            starts = np.cumsum([0, *group_rows(file)])
            groups = np.searchsorted(starts, sorted(rows), side="right") - 1
            for group, count in zip(*np.unique(groups, return_counts=True), strict=True):
                if group == file.num_row_groups:
                    break
                cells = read_cells(file, int(group), int(starts[group]), columns)
                chosen = islice((cell for cell in cells if cell.row in rows), int(count))
                found.update(
                    (rows[cell.row], cell.image) for cell in chosen if cell.image is not None
                )
        return found

    def _bytes_column(self, file: pq.ParquetFile) -> str:
        """Path of the leaf that holds the encoded images: the struct's ``path`` is never read."""
        is_struct = pa.types.is_struct(file.schema_arrow.field(self.image_column).type)
        return f"{self.image_column}.bytes" if is_struct else self.image_column


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


def _row(path: str, cell: Cell, index: Mapping[str, int]) -> Row:
    row_id = f"{path}#{cell.row}"
    if cell.damage is not None:
        return broken(row_id, cell.damage)
    class_index, reason = resolve_label(cell.label, index)
    if reason is None and cell.image is None:
        reason = "the image is null"
    if reason is None and len(cell.image or b"") > MAX_IMAGE_BYTES:
        reason = f"{len(cell.image or b'')} bytes is too large for an image"
    if reason is not None:
        return broken(row_id, reason, class_index)
    image = cell.image or b""
    if cell.offset is not None:
        row_id = f"{row_id}@{cell.offset}+{len(image)}"
    return Row(row_id, class_index, image)
