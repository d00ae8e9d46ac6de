"""Folders of image files: ``root/split/class/**.jpg``, or ``root/class/**.jpg`` for training only.

The driver only ever lists class folders; files are listed in the worker that reads the class, so
that fourteen million files need no list anywhere.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from raydd.data.classes import unique_names
from raydd.data.sources.base import MAX_IMAGE_BYTES, Row, Shard, broken
from raydd.data.sources.files import Root, digest, is_folder, split_folder

# Wider than what decode() reads: a .bmp must turn up as a broken row, not vanish silently.
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
MAX_SHARDS = 4096
READ_AHEAD = 32  # files per request: object stores serve them side by side
FINGERPRINT_FILES = 100_000
COUNTED_FILES = 2_000_000


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
            block: list[tuple[str, int]] = []
            for entry in self._files(self.class_names[class_index]):
                block.append(entry)
                if len(block) == READ_AHEAD:
                    yield from self._rows(block, class_index)
                    block = []
            yield from self._rows(block, class_index)

    def fetch(self, ids: Sequence[str]) -> dict[str, bytes]:
        """Read files by their path below the split folder."""
        found: dict[str, bytes] = {}
        for begin in range(0, len(ids), READ_AHEAD):
            block = list(ids[begin : begin + READ_AHEAD])
            for row_id, content in zip(block, self._contents(block), strict=True):
                if isinstance(content, Exception):
                    raise ValueError(
                        f"The imagefolder root {self.root.url} holds no image {row_id!r}."
                    ) from content
                found[row_id] = content
        return found

    def class_counts(self) -> np.ndarray | None:
        """Count files per class; None above two million files, where listing takes minutes."""
        counts = np.zeros(len(self.class_names), dtype=np.int64)
        for class_index, name in enumerate(self.class_names):
            counts[class_index] = sum(1 for _ in self._files(name))
            if counts.sum() > COUNTED_FILES:
                return None
        return counts

    def _files(self, relative: str) -> Iterator[tuple[str, int]]:
        """(id, bytes) of the image files below a folder, depth first, sorted by name."""
        for entry in self.root.listing(f"{self.folder}/{relative}" if self.folder else relative):
            path = f"{relative}/{entry['name']}"
            if entry["name"].startswith("."):
                continue
            if is_folder(entry):
                yield from self._files(path)
            elif entry["name"].lower().endswith(IMAGE_SUFFIXES):
                yield path, int(entry["size"])

    def _rows(self, block: list[tuple[str, int]], class_index: int) -> Iterator[Row]:
        too_large = {row_id for row_id, size in block if size > MAX_IMAGE_BYTES}
        wanted = [row_id for row_id, _ in block if row_id not in too_large]
        contents = dict(zip(wanted, self._contents(wanted), strict=True))
        for row_id, size in block:
            content = contents.get(row_id)
            if row_id in too_large:
                yield broken(row_id, f"{size} bytes is too large for an image", class_index)
            elif isinstance(content, bytes):
                yield Row(row_id, class_index, content)
            else:
                yield broken(row_id, f"the file cannot be read: {content}", class_index)

    def _contents(self, ids: Sequence[str]) -> list[Any]:
        """Bytes of each file, or the exception that reading it raised."""
        base = f"{self.root.path}/{self.folder}" if self.folder else self.root.path
        paths = [f"{base}/{row_id}" for row_id in ids]
        # Not fs.cat(): that would take [ and * in file names for patterns.
        nothing = [None] * len(paths)
        return list(self.root.fs.cat_ranges(paths, nothing, nothing, on_error="return"))

    def _fingerprint(self, split: str) -> str:
        """Names and sizes of the files, up to a cap; folder names and times beyond it."""
        hashed = [digest("imagefolder", split, *self.class_names)]
        num_files = 0
        for name in self.class_names:
            if num_files < FINGERPRINT_FILES:
                files = list(self._files(name))
                num_files += len(files)
                hashed.append(digest(*files))
        if num_files >= FINGERPRINT_FILES:
            entries = self.root.listing(self.folder)
            hashed += [f"{e['name']} {e.get('mtime', '')}" for e in entries if is_folder(e)]
        return digest(*hashed)
