"""A folder of images without class folders, and a list that says the class of each.

A shard is a range of bytes of the list: a worker reads its lines and the images that they name. An
id is the image's path below the root, spelled as in :mod:`raydd.data.sources.folders.files`.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from raydd.data.sources.base import Row, Shard, broken, resolve_label
from raydd.data.sources.files import Root, digest
from raydd.data.sources.folders.files import (
    FolderFile,
    fetch_files,
    folder_file,
    id_of_path,
    list_files,
    read_rows,
)
from raydd.data.sources.folders.labels import (
    Census,
    class_names_of_list,
    find_place,
    is_number,
)
from raydd.data.sources.folders.layout import NUM_LISTERS, SURVEYED_FILES
from raydd.data.sources.folders.lists import LabelList

SHARD_ROWS = 600  # 64 MB of photographs
UNLISTED = "not in the list"


@dataclass(frozen=True)
class ListedFolderSource:
    """See the module.

    Attributes:
        root: the data set's folder.
        folder: of the split, below it.
        labels: the list.
        prefix: what stands before a name of the list in the path below the root.
        suffix: what stands behind it.
        are_numbers: labels are positions in ``class_names``.
        step: bytes of the list in a shard.
        size: bytes of the list.
        without_splits: the root has no split folders, so this is all there is.
    """

    root: Root
    folder: str
    labels: LabelList
    class_names: tuple[str, ...]
    prefix: str
    suffix: str
    are_numbers: bool
    step: int
    size: int
    without_splits: bool
    unused: Mapping[str, int]
    fingerprint: str

    @classmethod
    def open(
        cls,
        root: Root,
        folder: str,
        labels: LabelList,
        class_names: Sequence[str] | None,
        num_classes: int | None,
        without_splits: bool,
    ) -> "ListedFolderSource":
        """Read the list once, and list the folder.

        Args:
            root: the data set's folder.
            folder: of the split, below it.
            labels: its list.
            class_names: in label order; None takes the labels, sorted.
            num_classes: expected number of classes; None accepts any.
            without_splits: the root has no split folders.
        Raises:
            ValueError: the list names no image, one twice, or labels that are no classes.
        """
        found = Census.of(root, labels)
        names, are_numbers = class_names_of_list(f"{root.url}/{labels.path}", found, class_names)
        if num_classes is not None and num_classes != len(names):
            raise ValueError(
                f"{root.url}/{labels.path} lists {len(names)} classes, dataset.num_classes says "
                f"{num_classes}; correct one of them."
            )
        prefix, suffix = find_place(root, folder, labels, found.examples)
        size = int(root.fs.size(f"{root.path}/{labels.path}"))
        step = max(1, size * SHARD_ROWS // found.num_rows)
        unnamed = cls(
            root,
            folder,
            labels,
            names,
            prefix,
            suffix,
            are_numbers,
            step,
            size,
            without_splits,
            {},
            "",
        )
        unused, files = unnamed._compared(found.names)
        content = digest("listed", labels, *names, are_numbers, found.content, *files)
        return replace(unnamed, unused=unused, fingerprint=content)

    def shards(self) -> list[Shard]:
        """Ranges of about 600 lines."""
        begins = range(0, self.size, self.step)
        return [Shard(f"{self.labels.path}#{b}", b, min(b + self.step, self.size)) for b in begins]

    def read(self, shard: Shard) -> Iterator[Row]:
        """Stream the images in the list's order."""
        index = {name: position for position, name in enumerate(self.class_names)}
        good: list[tuple[str, int]] = []
        for name, label in self.labels.entries(self.root, shard.begin, shard.end):
            class_index, reason = self._class_of(label, index)
            if reason is None:
                good.append((self._path(name), class_index))
            else:
                yield broken(id_of_path(self._path(name)), reason)
        yield from read_rows(self.root, "", self._files(good))

    def fetch(self, ids: Sequence[str]) -> dict[str, bytes]:
        """Read files by their path below the root."""
        return fetch_files(self.root, "", ids)

    def class_counts(self) -> np.ndarray:
        """Lines per class, int64 [C]."""
        counts = np.zeros(len(self.class_names), dtype=np.int64)
        for _, class_index in self.labelled_ids():
            counts[class_index] += 1
        return counts

    def labelled_ids(self) -> Iterator[tuple[str, int]]:
        """See :class:`raydd.data.sources.heldout.KnowsIds`."""
        index = {name: position for position, name in enumerate(self.class_names)}
        for name, label in self.labels.entries(self.root):
            class_index, reason = self._class_of(label, index)
            if reason is None:
                yield id_of_path(self._path(name)), class_index

    def _class_of(self, label: str, index: Mapping[str, int]) -> tuple[int, str | None]:
        if not label:
            return resolve_label(None, index)
        return resolve_label(int(label) if self.are_numbers and is_number(label) else label, index)

    def _path(self, name: str) -> str:
        return f"{self.prefix}{name.removeprefix('./')}{self.suffix}"

    def _files(self, entries: Sequence[tuple[str, int]]) -> Iterator[tuple[FolderFile, int]]:
        """What the file system says of listed files, a few at a time."""
        with ThreadPoolExecutor(NUM_LISTERS) as pool:
            found = pool.map(self._file, [path for path, _ in entries])
            yield from zip(found, [class_index for _, class_index in entries], strict=True)

    def _file(self, path: str) -> FolderFile:
        if {"", ".", ".."} & set(path.split("/")):
            return FolderFile(path, 0, refusal="the list names a path outside the root")
        try:
            entry = self.root.fs.info(f"{self.root.path}/{path}")
        except FileNotFoundError:
            return FolderFile(path, 0, refusal="the list names it, but there is no such file")
        return folder_file(path, {"stamp": "", **entry})

    def _compared(
        self, names: set[str] | None
    ) -> tuple[dict[str, int], list[tuple[str, int, str]]]:
        """What the folder holds and the list does not name; and the first files' identity."""
        unused: Counter[str] = Counter()
        listed = None if names is None else {self._path(name) for name in names}
        files: list[tuple[str, int, str]] = []
        for file in list_files(self.root, "", self.folder, unused):
            if len(files) < SURVEYED_FILES:
                files.append((file.path, file.size, file.stamp))
            if listed is not None and file.path not in listed:
                unused[UNLISTED] += 1
        if not self.folder or self.labels.path.startswith(f"{self.folder}/"):  # the list is of use
            unused[f".{self.labels.path.rpartition('.')[2]}"] -= 1
        return dict(+unused), files
