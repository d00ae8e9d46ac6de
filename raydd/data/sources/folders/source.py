"""Folders of image files: ``root/split/class/**``, or ``root/class/**`` for training only.

The driver lists class folders, and files until a hundred thousand are met; the rest is listed in
the worker that reads the class, so that fourteen million files need no list anywhere. An id is the
path below the split folder, spelled as in :mod:`raydd.data.sources.folders.files`. A split without
class folders needs a list (:mod:`raydd.data.sources.folders.listed`).
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from raydd.data.classes import unique_names
from raydd.data.sources.base import Row, Shard, Source
from raydd.data.sources.files import Root, digest, is_folder
from raydd.data.sources.folders.files import (
    fetch_files,
    id_of_path,
    kind_of_no_image,
    list_files,
    read_rows,
)
from raydd.data.sources.folders.layout import (
    Survey,
    advice,
    check_classes,
    class_folders,
    count_beside,
    count_files,
    find_split,
    listed,
    only_class,
    survey,
)
from raydd.data.sources.folders.listed import ListedFolderSource
from raydd.data.sources.folders.lists import LabelList, find_list
from raydd.data.sources.subset import choose_classes, pick_classes

MAX_SHARDS = 4096


@dataclass(frozen=True)
class ImageFolderSource:
    """See the module; a shard is a run of class folders ``[begin, end)``.

    Attributes:
        root: the data set's folder.
        folder: of the split, below it.
        class_names: names of class folders, in label order.
        all_names: those of the whole set, where ``class_names`` are chosen from it.
        without_splits: the root has no split folders, so this is all there is.
        unused: files that are passed over, by suffix.
        reading: digest of the files as they were found: what is counted of them is kept under it.
        fingerprint: the same, or what the user calls them; see ``identity``.
    """

    root: Root
    folder: str
    class_names: tuple[str, ...]
    all_names: tuple[str, ...]
    without_splits: bool
    unused: Mapping[str, int]
    reading: str
    fingerprint: str

    @classmethod
    def open(
        cls,
        root: Root,
        split: str,
        class_names: Sequence[str] | None,
        num_classes: int | None,
        classes: Sequence[str] | None = None,
        label_column: str = "label",
    ) -> Source:
        """Find the split and its classes.

        A split without class folders is opened as a :class:`ListedFolderSource`.

        Args:
            root: the data set's folder.
            split: name of the split folder, or of one that means the same; see ``find_split``.
            class_names: the class folders to use, in label order; None takes all, sorted by name.
            num_classes: expected number of classes of the whole set; None accepts any.
            classes: some of them, as ``pick_classes`` takes them; other folders are never listed.
            label_column: of a ``metadata.csv``.
        Raises:
            ValueError: missing root, split or class folder, folders that are no classes, or
                another number of classes.
        """
        root.require()
        place = _Place(root, split, *find_split(root, split))
        found = class_folders(root, place.folder)
        # One folder is no set of classes: where there is a list as well, it holds the images.
        has_classes = bool(set(found) & set(class_names)) if class_names else len(found) > 1
        labels = find_list(root, place.folder, split, label_column)
        if labels is not None and (labels.is_metadata or not has_classes):
            return _open_listed(place, labels, class_names, num_classes, classes)
        if not has_classes:
            raise _no_classes(place, found, class_names)
        all_names = unique_names(class_names or found, f"The {place.words}")
        names = all_names
        if classes is not None:
            names = tuple(all_names[position] for position in pick_classes(all_names, classes))
        _check_names(place, found, names, len(all_names), num_classes)
        if len(names) < 2 and class_names is None:  # named ones may be a part of a set
            raise only_class(root, place.folder, place.words, names[0])
        surveyed = survey(root, place.folder, names)
        if class_names is None and classes is None:
            check_classes(root, place.folder, place.words, surveyed)
        return _source(place, found, names, all_names, surveyed)

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
            files = list_files(self.root, self.folder, self.class_names[class_index], Counter())
            yield from read_rows(self.root, self.folder, ((file, class_index) for file in files))

    def fetch(self, ids: Sequence[str]) -> dict[str, bytes]:
        """Read files by their path below the split folder."""
        return fetch_files(self.root, self.folder, ids)

    def class_counts(self) -> np.ndarray | None:
        """Files that ``read`` yields, per class; None above two million, which take minutes."""
        return count_files(self.root, self.folder, self.class_names, self.reading)

    def labelled_ids(self) -> Iterator[tuple[str, int]]:
        """See :class:`raydd.data.sources.heldout.KnowsIds`."""
        for index, (_, files, _) in enumerate(listed(self.root, self.folder, self.class_names)):
            yield from ((id_of_path(file.path), index) for file in files)


@dataclass(frozen=True)
class _Place:
    """A split that is being opened."""

    root: Root
    split: str
    folder: str
    without_splits: bool

    @property
    def words(self) -> str:
        return f"imagefolder root {self.root.url}, split {self.split!r},"


def _open_listed(
    place: _Place,
    labels: LabelList,
    class_names: Sequence[str] | None,
    num_classes: int | None,
    classes: Sequence[str] | None,
) -> Source:
    source = ListedFolderSource.open(
        place.root, place.folder, labels, class_names, num_classes, place.without_splits
    )
    if len(source.class_names) < 2:
        raise ValueError(
            f"The only class of {place.root.url}/{labels.path} is {source.class_names[0]!r}: a set "
            "needs two classes; correct the list."
        )
    return source if classes is None else choose_classes(source, classes)


def _check_names(
    place: _Place,
    found: Sequence[str],
    names: tuple[str, ...],
    num_all: int,
    num_classes: int | None,
) -> None:
    missing = sorted(set(names) - set(found))
    if missing:
        others = sorted(set(found) - set(names)) if len(names) == num_all else []
        beside = f"; of no class is its folder {others[0]!r}" if others else ""
        raise ValueError(
            f"The imagefolder root {place.root.url} has no folder {missing[0]!r} in split "
            f"{place.split!r} ({len(missing)} of the {len(names)} classes are missing{beside}); "
            "correct its folders, dataset.classes_file or dataset.root."
        )
    if num_classes is not None and num_classes != num_all:
        raise ValueError(
            f"The imagefolder root {place.root.url} has {num_all} class folders in split "
            f"{place.split!r}, dataset.num_classes says {num_classes}; correct one of them."
        )


def _no_classes(
    place: _Place, found: Sequence[str], class_names: Sequence[str] | None
) -> ValueError:
    """The error for a split without class folders: say what is there, and what would be right."""
    root, folder = place.root, place.folder
    loose = [
        entry
        for entry in root.listing(folder)
        if not is_folder(entry) and kind_of_no_image(entry) is None
    ]
    if loose or not found:
        return ValueError(
            f"The {place.words} has no class folders but {len(loose)} files: put a list "
            f"of their labels beside them, metadata.csv (file_name,label) or {place.split}.txt (a "
            "file and a label per line), for ImageNet LOC_val_solution.csv, for Tiny-ImageNet "
            "val_annotations.txt."
        )
    if class_names is None:
        return only_class(root, folder, place.words, found[0])
    within = f"{folder}/{found[0]}" if folder else found[0]
    if len(found) == 1 and set(class_folders(root, within)) & set(class_names):
        return ValueError(
            f"The {place.words} has only the folder {found[0]!r}, which holds the "
            f"classes: {advice(root, within)}."
        )
    return ValueError(
        f"The imagefolder root {root.url} has no folder {class_names[0]!r} in split "
        f"{place.split!r} ({len(class_names)} of the {len(class_names)} classes are missing, it "
        f"has {', '.join(found[:3])}); correct dataset.classes_file or dataset.root."
    )


def _source(
    place: _Place,
    found: Sequence[str],
    names: tuple[str, ...],
    all_names: tuple[str, ...],
    surveyed: Survey,
) -> ImageFolderSource:
    root, folder = place.root, place.folder
    unused = surveyed.unused + count_beside(root, folder, found, names)
    hashed = [digest("imagefolder", place.split, *names), *surveyed.hashed]
    if not surveyed.is_whole:  # beyond the cap: when files came to a class folder, or left it
        entries = root.listing(folder)
        hashed += [f"{e['name']} {e['stamp']}" for e in entries if e["name"] in set(names)]
    reading, alone = digest(*hashed), place.without_splits
    return ImageFolderSource(root, folder, names, all_names, alone, dict(unused), reading, reading)
