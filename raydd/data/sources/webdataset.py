"""WebDataset tar shards: members ``key.jpg`` and ``key.cls`` (or ``key.json``) side by side.

Archives are streamed, never unpacked. An id is ``shard.tar#offset+size``: the place of the image's
bytes, so that ``fetch`` is one ranged read, locally and on an object store.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from raydd.data.classes import check_class_order, read_class_names, unique_names
from raydd.data.sources.base import MAX_IMAGE_BYTES, Row, Shard
from raydd.data.sources.files import (
    SPLIT_NAMES,
    Root,
    digest,
    is_folder,
    last_part,
    missing_split,
    names_split,
    shard_files,
)
from raydd.data.sources.tar_rows import read_rows

CLASS_FILES = ("classes.txt", "class_names.json")
READ_AHEAD = 64  # ranged reads per request
_ID = re.compile(r"(?P<shard>.+)#(?P<offset>[0-9]+)\+(?P<size>[0-9]+)")


@dataclass(frozen=True)
class WebDatasetSource:
    """See the module; ``files`` are (path below the root, bytes)."""

    root: Root
    files: tuple[tuple[str, int], ...]
    class_names: tuple[str, ...]
    fingerprint: str

    @classmethod
    def open(
        cls, root: Root, split: str, class_names: Sequence[str] | None, num_classes: int | None
    ) -> "WebDatasetSource":
        """Find the shards of the split and the class names.

        Args:
            root: a folder, or a folder and a pattern for file names (``/data/*-of-8.tar``).
            split: a subfolder with shards, else the shards whose names carry it as a word. Where
                no name carries any split, all shards are the training split.
            class_names: names in label order; None reads ``classes.txt`` or ``class_names.json``
                beside the shards.
            num_classes: expected number; without any names the classes are "0", "1", ...
        Raises:
            ValueError: missing root or split, no way to tell the classes, or disagreeing ones.
        """
        pattern = "*.tar"
        if root.url.endswith(".tar") or "*" in last_part(root.url):
            pattern = last_part(root.url)
            root = Root(root.kind, root.url.rpartition("/")[0])
        root.require()
        files = _files_of_split(root, split, pattern)
        names = _class_names(root, class_names, num_classes)
        content = digest("webdataset", split, *files, *names)
        return cls(root, files, names, content)

    @property
    def unused(self) -> Mapping[str, int]:
        """No file is passed over."""
        return {}

    def shards(self) -> list[Shard]:
        """One per archive."""
        return [Shard(path) for path, _ in self.files]

    def read(self, shard: Shard) -> Iterator[Row]:
        """Stream the samples in archive order; a damaged archive ends with one broken row."""
        index = {name: position for position, name in enumerate(self.class_names)}
        with self.root.explained(), self.root.fs.open(f"{self.root.path}/{shard.name}") as stream:
            yield from read_rows(stream, shard.name, index)

    def fetch(self, ids: Sequence[str]) -> dict[str, bytes]:
        """Read the byte ranges that the ids name."""
        sizes = dict(self.files)
        found: dict[str, bytes] = {}
        for begin in range(0, len(ids), READ_AHEAD):
            block = list(ids[begin : begin + READ_AHEAD])
            places = [self._place(row_id, sizes) for row_id in block]
            paths, starts, ends = (list(column) for column in zip(*places, strict=True))
            contents = self.root.fs.cat_ranges(paths, starts, ends, on_error="raise")
            found.update(zip(block, contents, strict=True))
        return found

    def class_counts(self) -> None:
        """None: only a pass over all archives could tell."""

    def _place(self, row_id: str, sizes: dict[str, int]) -> tuple[str, int, int]:
        """(path, first byte, one past the last) of an id."""
        match = _ID.fullmatch(row_id)
        if match is not None:
            path, offset, size = match["shard"], int(match["offset"]), int(match["size"])
            if 0 < size <= MAX_IMAGE_BYTES and offset + size <= sizes.get(path, 0):
                return f"{self.root.path}/{path}", offset, offset + size
        raise ValueError(f"The webdataset root {self.root.url} holds no image {row_id!r}.")


def _files_of_split(root: Root, split: str, pattern: str) -> tuple[tuple[str, int], ...]:
    """(path below the root, bytes) of the split's archives, sorted."""
    top = root.listing()
    inside = []
    if any(is_folder(entry) and entry["name"] == split for entry in top):
        inside = [(f"{split}/{e['name']}", e) for e in root.listing(split) if _is_tar(e, pattern)]
    if inside:
        return shard_files(root, inside)
    tars = [(entry["name"], entry) for entry in top if _is_tar(entry, pattern)]
    chosen = [tar for tar in tars if names_split(tar[0].removesuffix(".tar"), split)]
    present = sorted({word for word in SPLIT_NAMES for name, _ in tars if names_split(name, word)})
    # Unmarked archives are training data only: see folder_layout.find_split.
    if not chosen and not present and split == "train":
        chosen = tars
    if not chosen:
        folders = [e["name"] for e in top if is_folder(e) and e["name"] in SPLIT_NAMES]
        raise missing_split(root, split, present + folders)
    return shard_files(root, chosen)


def _is_tar(entry: dict[str, object], pattern: str) -> bool:
    name = str(entry["name"])
    return entry["type"] == "file" and name.endswith(".tar") and fnmatchcase(name, pattern)


def _class_names(
    root: Root, class_names: Sequence[str] | None, num_classes: int | None
) -> tuple[str, ...]:
    present = {entry["name"] for entry in root.listing()}
    beside = [name for name in CLASS_FILES if name in present]
    names = read_class_names(f"{root.url}/{beside[0]}") if beside else None
    if class_names is not None and names is not None:
        check_class_order(class_names, names, f"{root.url}/{beside[0]}")
    if class_names is not None:
        names = unique_names(class_names, f"The class list for {root.url}")
    if names is None and num_classes is None:
        raise ValueError(
            f"The webdataset root {root.url} does not say its classes; set dataset.num_classes or "
            "dataset.classes_file, or put classes.txt beside the shards."
        )
    if names is None:
        return tuple(str(index) for index in range(num_classes or 0))
    if num_classes is not None and num_classes != len(names):
        raise ValueError(
            f"The webdataset root {root.url} lists {len(names)} classes, dataset.num_classes says "
            f"{num_classes}; correct one of them."
        )
    return names
