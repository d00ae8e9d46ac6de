"""Folders and files of other tools that name their class by a number.

``00000/``, SRe2L's and CUDD's ``new000/class000_id000.jpg``, and such files in one flat folder.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from upath import UPath

from raydd.data.sources.files import Root, digest, is_folder
from raydd.data.sources.folders.files import NOT_IMAGES, suffix_of

_NUMBERED = re.compile(r"(?:new|class)([0-9]+)")
_NAMED = re.compile(r"class([0-9]+)_id([0-9]+)\.[a-z]+", re.IGNORECASE)
_READ_AHEAD = 64  # files per request


def folder_classes(
    folders: Sequence[str], class_names: Sequence[str], what: str
) -> tuple[int, ...]:
    """Class index of each class folder: by its name, or by the number that its name is.

    Args:
        folders: names of the folders.
        class_names: of the data set, in label order.
        what: the set in words; begins the message.
    Raises:
        ValueError: a folder of no class, more folders than classes, or two of one class.
    """
    known = {name: index for index, name in enumerate(class_names)}
    unknown = [name for name in folders if name not in known]
    indices = [_number(name) for name in folders] if unknown else [known[n] for n in folders]
    if min(indices) < 0:
        raise ValueError(
            f"{what} has a folder {unknown[0]!r}, which is neither a class of the data set nor, "
            "as all of them would have to be, a number (00000 or new000)."
        )
    if max(indices) >= len(class_names):
        raise too_many_classes(what, max(indices) + 1, len(class_names))
    for position, index in enumerate(indices):
        if index in indices[:position]:
            twice = folders[indices.index(index)], folders[position]
            raise ValueError(f"{what} has two folders of one class: {' and '.join(twice)}.")
    return tuple(indices)


def misplaced(path: str, class_index: int) -> str | None:
    """Why a file ``class000_id000.jpg`` cannot be of the class that its folder names, if so."""
    match = _NAMED.fullmatch(path.rpartition("/")[2])
    if match is None or int(match[1]) == class_index:
        return None
    return f"its name says class {int(match[1])}, its folder class {class_index}"


def too_many_classes(what: Any, found: int, known: int) -> ValueError:
    """The error for a set of more classes than the data set has."""
    return ValueError(f"{what} has {found} classes, the data set has {known}.")


class _File(NamedTuple):
    class_index: int
    number: int
    name: str


@dataclass(frozen=True)
class FlatFiles:
    """Files that name their class, in one folder.

    Attributes:
        root: the folder.
        files: by class, then by number.
        fingerprint: of their names, sizes and stamps.
    """

    root: Root
    files: Sequence[_File]
    fingerprint: str

    @classmethod
    def find(cls, folder: UPath) -> "FlatFiles | None":
        """The files of a folder; None where it has folders, or no such file.

        Raises:
            ValueError: an image beside them whose name says no class.
        """
        root = Root.open("imagefolder", str(folder))
        entries = root.listing()
        named = [(e, match) for e in entries if (match := _NAMED.fullmatch(e["name"]))]
        if not named or any(is_folder(entry) for entry in entries):
            return None
        for entry in entries:
            name = entry["name"]
            if suffix_of(name) not in NOT_IMAGES and not _NAMED.fullmatch(name):
                raise ValueError(
                    f"{folder} holds {name!r} beside files like {named[0][0]['name']!r}: its name "
                    "says no class; rename it, or take it out."
                )
        files = sorted(_File(int(m[1]), int(m[2]), e["name"]) for e, m in named)
        return cls(root, files, digest(*((e["name"], e["size"], e["stamp"]) for e, _ in named)))

    @property
    def most(self) -> int:
        """The highest class index."""
        return self.files[-1].class_index

    def read(self) -> Iterator[tuple[str, int, bytes]]:
        """Name, class index and content of every file."""
        for begin in range(0, len(self.files), _READ_AHEAD):
            block = self.files[begin : begin + _READ_AHEAD]
            nothing = [None] * len(block)
            # not fs.cat(): it would take [ and * in file names for patterns
            contents = self.root.fs.cat_ranges(
                [f"{self.root.path}/{file.name}" for file in block], nothing, nothing,
                on_error="raise",
            )  # fmt: skip
            for file, content in zip(block, contents, strict=True):
                yield file.name, file.class_index, content


def _number(name: str) -> int:
    """The number that a folder's name is, or names as SRe2L does; -1 for any other name."""
    match = _NUMBERED.fullmatch(name)
    digits = match[1] if match else name
    return int(digits) if digits.isdecimal() else -1
