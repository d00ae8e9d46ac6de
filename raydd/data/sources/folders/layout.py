"""Where a split and its classes lie in an image folder, and folders that are taken for classes.

A folder between the split and its classes (``train/images/CLASS``, ``animals/CLASS``) would become
a class, and every number after it would be wrong; so class folders that were found, not named by
the user, are looked at before they are believed.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from raydd.data.sources.files import (
    SPLIT_NAMES,
    Root,
    digest,
    is_folder,
    last_part,
    names_split,
    split_aliases,
)
from raydd.data.sources.folders.files import (
    FolderFile,
    is_hidden,
    kind_of_no_image,
    list_files,
)

SURVEYED_FILES = 100_000
COUNTED_FILES = 2_000_000
NUM_LISTERS = 16  # threads: an object store answers them side by side
OTHER_CLASSES = "folders of other classes"
LOOSE = "beside the class folders"
_NO_PICTURES = {"mask", "masks", "annotation", "annotations", "segmentation", "segmentations"}
_AS_CLASSES = "or name the folders that are classes with dataset.classes"


@dataclass
class Survey:
    """What the class folders hold, as far as ``SURVEYED_FILES`` files tell.

    Attributes:
        unused: files passed over, by kind.
        hashed: of names, sizes and stamps of the files, per class folder.
        num_files: that may be images.
        is_whole: no class folder is left out.
        direct: class folders that hold images themselves.
        below: class folder -> folders below it, past those that are the only one in their folder.
    """

    unused: Counter[str] = field(default_factory=Counter)
    hashed: list[str] = field(default_factory=list)
    num_files: int = 0
    is_whole: bool = True
    direct: set[str] = field(default_factory=set)
    below: dict[str, set[str]] = field(default_factory=dict)


def find_split(root: Root, split: str) -> tuple[str, bool]:
    """Find a split's folder below the root.

    Another name for the same split (``valid`` for ``val``) will do, and a folder that an archive
    has doubled (``seg_train/seg_train/CLASS``) is entered. A root without split folders is all
    training data: serving it as the test set too would test on the training images.

    Returns:
        The folder, "" for the root itself; and whether the root is without splits.
    Raises:
        ValueError: the split is missing.
    """
    if root.has_folder(split):
        return _undoubled(root, split), False
    top = _undoubled(root, "")
    folders = class_folders(root, top)
    present = {name.lower(): name for name in folders if name.lower() in SPLIT_NAMES}
    for name in split_aliases(split):
        if name.lower() in present:
            return _undoubled(root, _joined(top, present[name.lower()])), False
    there = sorted(present.values()) or _named_like_splits(folders)
    if not there and split == "train":
        return top, True
    has = f"it has {', '.join(there)}" if there else "it has no split folders or files"
    instead = ", or dataset.split_test=null to hold out a share of the training images"
    raise ValueError(
        f"The {root.kind} root {root.url} has no split {split!r} ({has}); set dataset.split_train "
        f"and dataset.split_test{'' if 'train' in split_aliases(split) else instead}."
    )


def class_folders(root: Root, folder: str) -> list[str]:
    """Names of the folders in ``folder``, sorted; hidden ones left out."""
    return [name for name in root.folders(folder) if not is_hidden(name)]


def _undoubled(root: Root, folder: str) -> str:
    """Enter folders that hold nothing but a folder of their own name."""
    name = last_part(folder) or last_part(root.path)
    while True:
        entries = [entry for entry in root.listing(folder) if kind_of_no_image(entry) is None]
        if [(e["name"], is_folder(e), e["islink"]) for e in entries] != [(name, True, False)]:
            return folder
        folder = _joined(folder, name)


def _named_like_splits(folders: Sequence[str]) -> list[str]:
    """Folders such as ``seg_train`` and ``seg_test``, where several splits are named."""
    named = {
        name: word for name in folders for word in SPLIT_NAMES if names_split(name.lower(), word)
    }
    return sorted(named) if len(set(named.values())) > 1 else []


def survey(root: Root, folder: str, names: Sequence[str]) -> Survey:
    """List class folders until ``SURVEYED_FILES`` files are met."""
    found = Survey()
    for name, files, unused in listed(root, folder, names):
        if found.num_files >= SURVEYED_FILES:
            found.is_whole = False
            break
        found.unused += unused
        found.num_files += len(files)
        found.hashed.append(digest(*((file.path, file.size, file.stamp) for file in files)))
        _note_shape(found, name, files)
    return found


def listed(
    root: Root, folder: str, names: Sequence[str]
) -> Iterator[tuple[str, list[FolderFile], Counter[str]]]:
    """Files of each class folder and what is passed over there, a few folders at a time."""

    def of_class(name: str) -> tuple[str, list[FolderFile], Counter[str]]:
        unused: Counter[str] = Counter()
        return name, list(list_files(root, folder, name, unused)), unused

    with ThreadPoolExecutor(NUM_LISTERS) as pool:
        for begin in range(0, len(names), NUM_LISTERS):
            yield from pool.map(of_class, names[begin : begin + NUM_LISTERS])


def _note_shape(found: Survey, name: str, files: Iterable[FolderFile]) -> None:
    """Note what a class folder holds behind the folders that stand alone in theirs."""
    folders = {tuple(file.path.split("/")[1:-1]) for file in files}
    depth = 0
    while folders and len({folder[: depth + 1] for folder in folders}) == 1:
        if any(len(folder) == depth for folder in folders):
            break
        depth += 1
    if any(len(folder) == depth for folder in folders):
        found.direct.add(name)
    found.below[name] = {folder[depth] for folder in folders if len(folder) > depth}


def count_beside(
    root: Root, folder: str, found: Sequence[str], names: Sequence[str]
) -> Counter[str]:
    """Count what lies beside the class folders: loose files by kind, folders of other classes."""
    beside: Counter[str] = Counter()
    for entry in root.listing(folder):
        if not is_folder(entry):
            beside[kind_of_no_image(entry) or LOOSE] += 1
    beside[OTHER_CLASSES] = len(set(found) - set(names))
    return +beside


def check_classes(root: Root, folder: str, what: str, found: Survey) -> None:
    """Refuse class folders that are no classes.

    Raises:
        ValueError: a class folder holds splits, masks, or folders that look like classes.
    """
    shared = Counter(name for below in found.below.values() for name in below)
    for name, below in found.below.items():
        lower = {inner.lower() for inner in below}
        place = _joined(folder, name)
        if len(lower & set(SPLIT_NAMES)) > 1:
            raise ValueError(
                f"The class folder {name!r} of the {what} holds the folders {_some(below)}, "
                f"which are splits: move {place}/SPLIT/* to SPLIT/{name}/*, {_AS_CLASSES}."
            )
        if lower & _NO_PICTURES and (len(lower) > 1 or name in found.direct):
            raise ValueError(
                f"The class folder {name!r} of the {what} holds the folders {_some(below)}, "
                f"of which one alone can be its images: move others out of {place}, {_AS_CLASSES}."
            )
        if name not in found.direct and sum(shared[inner] == 1 for inner in below) > 1:
            raise ValueError(
                f"The class folder {name!r} of the {what} holds no image but the folders "
                f"{_some(below)}, which look like classes: {advice(root, place)}, {_AS_CLASSES}."
            )


def only_class(root: Root, folder: str, what: str, name: str) -> ValueError:
    """Return the error for a set of one class, with what lies below it."""
    place = _joined(folder, name)
    inner = class_folders(root, place)
    if not inner:
        return ValueError(
            f"The only class of the {what} is the folder {name!r}, which holds no folders: "
            "a set needs two classes; correct dataset.root."
        )
    return ValueError(
        f"The only class of the {what} is {name!r}, which holds the folders {_some(inner)}: "
        f"{advice(root, place)}."
    )


def advice(root: Root, place: str) -> str:
    """Say how to make the folders in ``place`` the classes."""
    if place.split("/")[0].lower() in SPLIT_NAMES:
        return f"if these are the classes, name the split {place!r} (dataset.split_train, _test)"
    return f"if these are the classes, set dataset.root={root.url}/{place}"


def _some(names: Iterable[str]) -> str:
    names = sorted(names)
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _joined(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


@lru_cache(maxsize=8)
def count_files(
    root: Root, folder: str, class_names: tuple[str, ...], reading: str
) -> np.ndarray | None:
    """Files of each class; listed once for all who ask about one reading of the data."""
    counts = np.zeros(len(class_names), dtype=np.int64)
    for index, (_, files, _) in enumerate(listed(root, folder, class_names)):
        counts[index] = len(files)
        if counts.sum() > COUNTED_FILES:
            return None
    return counts
