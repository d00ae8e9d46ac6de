"""Parquet files in the Hugging Face layout: an image struct {bytes, path} and a label column.

An id is ``file.parquet#row``, or ``file.parquet#row@offset+size`` where the image's bytes lie in
the file as they are: ``fetch`` is then one ranged read, else it reads the row groups that hold the
ids. Large files are cut into runs of row groups, so that one file keeps many workers busy. Images
that the column only names are read from the files beside it; Arrow files of ``save_to_disk`` are
read like parquet files.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from raydd.data.sources.base import MAX_IMAGE_BYTES, Row, Shard, broken, resolve_label
from raydd.data.sources.files import Root, digest
from raydd.data.sources.parquet.classes import class_counts, class_names_of, numberings
from raydd.data.sources.parquet.columns import bytes_leaf, column_problem, image_leaves
from raydd.data.sources.parquet.files import DamagedFile, Table, open_file
from raydd.data.sources.parquet.layouts import find_split
from raydd.data.sources.parquet.paths import with_images
from raydd.data.sources.parquet.places import PREFIX
from raydd.data.sources.parquet.rows import Cell, read_cells, within
from raydd.data.sources.parquet.scan import PartFile, scan_files

READ_AHEAD = 64  # ranged reads per request
_ID = re.compile(r"(?P<path>.+)#(?P<row>[0-9]{1,18})(@(?P<offset>[0-9]+)\+(?P<size>[0-9]+))?")


@dataclass(frozen=True)
class ParquetSource:
    """See the module; a shard is a run of rows of one file, cut between row groups.

    Attributes:
        root: the data set's folder.
        files: of the split, in order.
        image_column: encoded images, or paths of image files.
        label_column: class numbers or class names.
        class_names: in label order.
        numberings: stored number -> class index, by ``PartFile.group``; None where they are equal.
        counts: images per class.
        fingerprint: see :mod:`raydd.data.sources.identity`.
        unused: files that are passed over, by suffix.
    """

    root: Root
    files: tuple[PartFile, ...]
    image_column: str
    label_column: str
    class_names: tuple[str, ...]
    numberings: tuple[Mapping[int, int] | None, ...]
    counts: tuple[int, ...]
    fingerprint: str
    unused: Mapping[str, int]

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
        """Find the files of the split, look at each of them, and settle the classes.

        Args:
            root: the data set's folder.
            split: see :mod:`raydd.data.sources.parquet.layouts`.
            class_names: expected names; the numbers of files that store names are mapped to them
                by name.
            num_classes: expected number of classes; None accepts any.
            image_column: struct {bytes, path}, binary, or paths below the root as text.
            label_column: integers, bools or whole floats; or texts, which are class names.
        Raises:
            ValueError: missing root or split, a file that cannot be read or lacks a column,
                unknown or disagreeing classes.
        """
        root.require()
        files, unused = find_split(root, split)
        scan = scan_files(root, split, files, image_column, label_column)
        what = f"the split {split!r} of the parquet root {root.url}"
        names = class_names_of(what, scan.groups, class_names, num_classes)
        numbers = numberings(what, scan.groups, names)
        counts = tuple(class_counts(what, scan.groups, numbers, names).tolist())
        content = digest("parquet", split, image_column, label_column, scan.digest, *names)
        return cls(
            root, scan.files, image_column, label_column, names, numbers, counts, content, unused
        )

    def shards(self) -> list[Shard]:
        """Whole files up to 64 MB, runs of row groups of about that size beyond."""
        return [shard for file in self.files for shard in _shards(file)]

    def read(self, shard: Shard) -> Iterator[Row]:
        """Stream the rows in file order; what is damaged since the source was opened is broken."""
        path = re.sub("#[0-9]+$", "", shard.name)
        file = next(file for file in self.files if file.path == path)
        lost = shard.end - shard.begin
        try:
            table = open_file(self.root, file.path)
        except DamagedFile as error:
            yield broken(shard.name, f"the file {error.what}; {error.cure}", images=lost)
            return
        with table:
            problem = column_problem(table.schema_arrow, self.image_column, self.label_column)
            if problem is not None or sum(table.group_rows) != file.num_rows:
                reason = "the file was changed after the data set was opened; run again"
                yield broken(shard.name, reason, images=lost)
                return
            index = {name: position for position, name in enumerate(self.class_names)}
            for cell in self._cells(table, file, shard):
                yield _row(file.path, cell, index, self.numberings[file.group])

    def fetch(self, ids: Sequence[str]) -> dict[str, bytes]:
        """Read the ids that name a place there, and the row groups that hold the others."""
        known = {file.path for file in self.files}
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
        """Images per class, as counted when the source was opened; other labels count nowhere."""
        return np.array(self.counts, dtype=np.int64)

    def _cells(self, table: Table, file: PartFile, shard: Shard) -> Iterator[Cell]:
        """The rows of a shard."""
        pages = table.pages(bytes_leaf(table.schema_arrow, self.image_column))
        end = 0
        for group, num_rows in enumerate(table.group_rows):
            begin, end = end, end + num_rows
            if begin < shard.end and end > shard.begin:
                leaves = image_leaves(table, group, self.image_column)
                cells = read_cells(table, group, leaves, self.label_column, pages.get(group, ()))
                yield from with_images(self.root, file.path, within(cells, shard.begin, shard.end))

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
        with open_file(self.root, path) as table:
            starts = np.cumsum([0, *table.group_rows])
            numbers = sorted(rows)
            ends = np.searchsorted(numbers, starts).tolist()
            for group in np.flatnonzero(np.diff(ends)).tolist():
                wanted = numbers[ends[group] : ends[group + 1]]
                leaves = image_leaves(table, group, self.image_column)
                cells = islice(read_cells(table, group, leaves, wanted=wanted), len(wanted))
                found.update(
                    (rows[cell.row], cell.image)
                    for cell in with_images(self.root, path, cells)
                    if cell.image is not None
                )
        return found


def _shards(file: PartFile) -> list[Shard]:
    if len(file.cuts) == 1:
        return [Shard(file.path, 0, file.num_rows)]
    ends = [*file.cuts[1:], file.num_rows]
    return [
        Shard(f"{file.path}#{begin}", begin, end)
        for begin, end in zip(file.cuts, ends, strict=True)
    ]


def _row(path: str, cell: Cell, index: Mapping[str, int], numbers: Mapping[int, int] | None) -> Row:
    row_id = f"{path}#{cell.row}"
    image = cell.image or b""
    class_index, reason = resolve_label(cell.label, index, numbers)
    if cell.damage is not None:
        return broken(row_id, cell.damage, class_index, images=cell.rows)
    if reason is None and cell.image is None:
        reason = "the image is null"
    if reason is None and len(image) > MAX_IMAGE_BYTES:
        reason = f"{len(image)} bytes is too large for an image"
    if reason is not None:
        return broken(row_id, reason, class_index)
    if cell.offset is not None:
        row_id = f"{row_id}@{cell.offset}+{len(image)}"
    return Row(row_id, class_index, image)
