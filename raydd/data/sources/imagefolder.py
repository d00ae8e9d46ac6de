"""Folders of image files: ``root/split/class/**.jpg``, or ``root/class/**.jpg`` for training only.

The driver only ever lists class folders; files are listed in the worker that reads the class, so
that fourteen million files need no list anywhere. An id is the path below the split folder. Where
the path is not UTF-8, it is percent-encoded behind a slash: tables hold text only.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_from_bytes, unquote_to_bytes

import numpy as np

from raydd.data.classes import unique_names
from raydd.data.sources.base import MAX_IMAGE_BYTES, Row, Shard, broken
from raydd.data.sources.files import Root, digest, is_folder, is_text, split_folder

# Wider than what decode() reads: a .bmp must turn up as a broken row, not vanish silently.
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
MAX_SHARDS = 4096
READ_AHEAD = 32  # files per request: object stores serve them side by side
READ_AHEAD_BYTES = 16 << 20  # and no more of them than this, unless one file alone is larger
FINGERPRINT_FILES = 100_000
COUNTED_FILES = 2_000_000


@dataclass(frozen=True, slots=True)
class _File:
    """Path below the split folder, bytes, and why it cannot be an image (None for a good one)."""

    path: str
    size: int
    refusal: str | None = None


@dataclass(frozen=True)
class ImageFolderSource:
    """See the module; a shard is a run of class folders ``[begin, end)``."""

    root: Root
    folder: str
    class_names: tuple[str, ...]
    fingerprint: str

    @classmethod
    def open(
        cls, root: Root, split: str, class_names: Sequence[str] | None, num_classes: int | None
    ) -> "ImageFolderSource":
        """Find the split and its classes.

        Args:
            root: the data set's folder.
            split: name of the split folder.
            class_names: the class folders to use, in label order; None takes all, sorted by name.
            num_classes: expected number of classes; None accepts any.
        Raises:
            ValueError: missing root, split or class folder, or another number of classes.
        """
        root.require()
        folder = split_folder(root, split)
        found = root.folders(folder)
        if class_names is not None:
            missing = sorted(set(class_names) - set(found))
            if missing:
                raise ValueError(
                    f"The imagefolder root {root.url} has no folder {missing[0]!r} in split "
                    f"{split!r} ({len(missing)} of the {len(class_names)} listed classes are "
                    "missing); correct dataset.classes_file or dataset.root."
                )
        names = unique_names(
            class_names if class_names is not None else found,
            f"The imagefolder root {root.url}, split {split!r},",
        )
        if num_classes is not None and num_classes != len(names):
            raise ValueError(
                f"The imagefolder root {root.url} has {len(names)} class folders in split "
                f"{split!r}, dataset.num_classes says {num_classes}; correct one of them."
            )
        source = cls(root, folder, names, "")
        return cls(root, folder, names, source._fingerprint(split))

    @property
    def unused(self) -> Mapping[str, int]:
        """No file is passed over."""
        return {}

    def shards(self) -> list[Shard]:
        """One class folder each; runs of them where there are thousands."""
        step = -(-len(self.class_names) // MAX_SHARDS)
        begins = range(0, len(self.class_names), step)
        return [
            Shard(self.class_names[begin], begin, min(begin + step, len(self.class_names)))
            for begin in begins
        ]

    def read(self, shard: Shard) -> Iterator[Row]:
        """Stream the files of the shard's class folders, sorted by path."""
        for class_index in range(shard.begin, shard.end):
            block: list[_File] = []
            pending = 0
            for file in self._files(self.class_names[class_index]):
                if len(block) == READ_AHEAD or (block and pending + file.size > READ_AHEAD_BYTES):
                    yield from self._rows(block, class_index)
                    block, pending = [], 0
                block.append(file)
                pending += file.size
            yield from self._rows(block, class_index)

    def fetch(self, ids: Sequence[str]) -> dict[str, bytes]:
        """Read files by their path below the split folder."""
        found: dict[str, bytes] = {}
        for begin in range(0, len(ids), READ_AHEAD):
            block = list(ids[begin : begin + READ_AHEAD])
            nothing = [None] * len(block)
            paths = [self._path(row_id) for row_id in block]
            for row_id, content in zip(block, self._contents(paths, nothing), strict=True):
                if isinstance(content, Exception):
                    raise self._absent(row_id) from content
                found[row_id] = content
        return found

    def class_counts(self) -> np.ndarray | None:
        """Count files per class; None above two million files, where listing takes minutes."""
        counts = np.zeros(len(self.class_names), dtype=np.int64)
        for class_index, name in enumerate(self.class_names):
            counts[class_index] = sum(file.refusal is None for file in self._files(name))
            if counts.sum() > COUNTED_FILES:
                return None
        return counts

    def _files(self, relative: str) -> Iterator[_File]:
        """What has an image's name below a folder, depth first, sorted by name."""
        for entry in self.root.listing(f"{self.folder}/{relative}" if self.folder else relative):
            path = f"{relative}/{entry['name']}"
            if entry["name"].startswith("."):
                continue
            if is_folder(entry) and entry["islink"]:
                # It may lead to a folder above: the same images again and again.
                yield _File(path, 0, "a link to a folder is not followed")
            elif is_folder(entry):
                yield from self._files(path)
            elif entry["name"].lower().endswith(IMAGE_SUFFIXES):
                yield _file(path, entry)

    def _rows(self, block: Sequence[_File], class_index: int) -> Iterator[Row]:
        wanted = [file for file in block if file.refusal is None]
        # No more than was listed: what is no common file may have no end.
        read = self._contents([file.path for file in wanted], [file.size for file in wanted])
        contents = {file.path: content for file, content in zip(wanted, read, strict=True)}
        for file in block:
            content = contents.get(file.path)
            if isinstance(content, bytes):
                yield Row(_id(file.path), class_index, content)
            else:
                # Only the error's name: its text would hold the root's path.
                reason = file.refusal or f"the file cannot be read: {type(content).__name__}"
                yield broken(_id(file.path), reason, class_index)

    def _contents(self, paths: Sequence[str], sizes: Sequence[int | None]) -> list[Any]:
        """First bytes of each file, all where the size is None, or the exception of reading it."""
        base = f"{self.root.path}/{self.folder}" if self.folder else self.root.path
        # Not fs.cat(): that would take [ and * in file names for patterns.
        return list(
            self.root.fs.cat_ranges(
                [f"{base}/{path}" for path in paths], [None] * len(paths), list(sizes),
                on_error="return",
            )
        )  # fmt: skip

    def _path(self, row_id: str) -> str:
        """Inverse of :func:`_id`; a path that leaves the split folder is refused."""
        path = row_id
        if row_id.startswith("/"):
            path = unquote_to_bytes(row_id[1:]).decode("utf-8", errors="surrogateescape")
        if {"", ".", ".."} & set(path.split("/")):
            raise self._absent(row_id)
        return path

    def _absent(self, row_id: str) -> ValueError:
        return ValueError(f"The imagefolder root {self.root.url} holds no image {row_id!r}.")

    def _fingerprint(self, split: str) -> str:
        """Names and sizes of the files, up to a cap; folder names and times beyond it."""
        hashed = [digest("imagefolder", split, *self.class_names)]
        num_files = 0
        for name in self.class_names:
            if num_files < FINGERPRINT_FILES:
                files = list(self._files(name))
                num_files += len(files)
                hashed.append(digest(*((file.path, file.size) for file in files)))
        if num_files >= FINGERPRINT_FILES:
            entries = self.root.listing(self.folder)
            hashed += [f"{e['name']} {e.get('mtime', '')}" for e in entries if is_folder(e)]
        return digest(*hashed)


def _id(path: str) -> str:
    """Spell a path as text; no path begins with a slash, so the two spellings never meet."""
    if is_text(path):
        return path
    return "/" + quote_from_bytes(path.encode("utf-8", errors="surrogateescape"))


def _file(path: str, entry: dict[str, Any]) -> _File:
    if entry["type"] != "file":  # opening a pipe would wait for ever
        return _File(path, 0, "not a plain file, or a link that leads nowhere")
    size = int(entry["size"])
    if size > MAX_IMAGE_BYTES:
        return _File(path, 0, f"{size} bytes is too large for an image")
    return _File(path, size)
