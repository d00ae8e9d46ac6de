"""Which archives a split has, and what lies beside them and is not used."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from raydd.data.sources.files import (
    SPLIT_NAMES,
    Root,
    is_folder,
    last_part,
    missing_split,
    names_split,
    shard_files,
    split_aliases,
)

CLASS_FILES = ("classes.txt", "class_names.json")
_PLACES = ("", "data")  # where archives and split folders lie; Hub data sets keep them in data/
# How an archive that is compressed is unpacked.
_UNPACK = {
    ".tar.gz": "gunzip", ".tgz": "gunzip -S .tgz", ".tar.bz2": "bunzip2", ".tbz2": "bunzip2",
    ".tar.xz": "unxz", ".txz": "unxz", ".tar.zst": "unzstd --rm", ".tzst": "unzstd --rm",
}  # fmt: skip
# Letters of split names: an archive that has them within a longer word may be of that split.
_HINT = re.compile("train|val|test|dev", re.IGNORECASE)
_LOOKED_INTO = 10  # folders, for a root that holds no archives
_Entries = list[tuple[str, dict[str, Any]]]  # path below the root, entry of ``Root.listing``


@dataclass(frozen=True)
class Archives:
    """Archives of a split.

    Attributes:
        files: (path below the root, bytes), sorted.
        stamps: what the file system says of the content of each.
        unused: files of the split that are no archives, by kind.
    """

    files: tuple[tuple[str, int], ...]
    stamps: tuple[str, ...]
    unused: tuple[tuple[str, int], ...]


def find_archives(root: Root, split: str, pattern: str) -> Archives:
    """Find the archives of a split.

    Args:
        root: the set's folder.
        split: a subfolder with archives, else those whose names carry it as a word; where there
            is neither, another name of one meaning counts. Where no name carries any split, all
            archives are training data.
        pattern: for file names; "*" for any.
    Raises:
        ValueError: the split is missing, cannot be told, or is compressed.
    """
    listings = {"": root.listing()}
    folders = {entry["name"] for entry in listings[""] if is_folder(entry)}
    listings |= {place: root.listing(place) for place in _PLACES if place in folders}
    for name in split_aliases(split):
        for place, entries in listings.items():
            found = _in_folder(root, place, entries, name, pattern)
            named = _by_name(place, entries, name, pattern)
            if found is not None and named is not None:
                found = (found[0], found[1] + named[0])  # beside the folder: passed over
            found = found or named
            if found is not None:
                return _archives(root, *found, pattern)
    for place, entries in listings.items():
        found = _unmarked(root, place, entries, split, pattern)
        if found is not None:
            return _archives(root, *found, pattern)
    raise _missing(root, split, listings)


def _in_folder(
    root: Root, place: str, entries: Sequence[dict[str, Any]], name: str, pattern: str
) -> tuple[_Entries, _Entries] | None:
    """Archives of a split's own folder, and the other files in it."""
    folders = [e["name"] for e in entries if is_folder(e) and e["name"].lower() == name.lower()]
    if not folders:
        return None
    below = _below(root, _join(place, name if name in folders else folders[0]))
    chosen = [pair for pair in below if _is_archive(pair[1], pattern)]
    return (chosen, _others(below, chosen)) if chosen else None


def _below(root: Root, folder: str) -> _Entries:
    """All visible files below a folder: archives are often spread over subfolders."""
    found: _Entries = []
    for entry in root.listing(folder):
        path = f"{folder}/{entry['name']}"
        if entry["name"].startswith("."):
            continue
        if is_folder(entry) and not entry["islink"]:
            found += _below(root, path)
        else:
            found.append((path, entry))
    return found


def _by_name(
    place: str, entries: Sequence[dict[str, Any]], name: str, pattern: str
) -> tuple[_Entries, _Entries] | None:
    """Archives whose names carry a split, and the files that carry no other."""
    files = [(_join(place, e["name"]), e) for e in entries if not is_folder(e)]
    chosen = [pair for pair in files if _is_archive(pair[1], pattern) and _carries(pair[1], name)]
    mine = [pair for pair in files if set(_splits(pair[1])) <= set(split_aliases(name))]
    return (chosen, _others(mine, chosen)) if chosen else None


def _unmarked(
    root: Root, place: str, entries: Sequence[dict[str, Any]], split: str, pattern: str
) -> tuple[_Entries, _Entries] | None:
    """Archives whose names carry no split are training data only: serving them as the test set
    too would test on the training images.
    """
    files = [(_join(place, e["name"]), e) for e in entries if not is_folder(e)]
    chosen = [pair for pair in files if _is_archive(pair[1], pattern)]
    marked = any(_splits(entry) for _, entry in chosen)
    if not chosen or marked or split not in split_aliases("train"):
        return None
    stems = sorted({re.sub(r"[\W\d_]+", "", _stem(entry["name"])) for _, entry in chosen})
    if len(stems) > 1 and any(_HINT.search(stem) for stem in stems):
        raise ValueError(
            f"The archives of the {root.kind} root {root.url} ({', '.join(stems[:3])}) may be of "
            "several splits, but none of their names has one as a word of its own; rename them "
            "(x-train-0.tar, x-val-0.tar) or put each split into a folder."
        )
    return chosen, _others(files, chosen)


def _others(files: _Entries, chosen: _Entries) -> _Entries:
    paths = {path for path, _ in chosen}
    return [pair for pair in files if pair[0] not in paths]


def _archives(root: Root, chosen: _Entries, others: _Entries, pattern: str) -> Archives:
    """Keep the archives that can be read by place, and count the rest."""
    plain = [pair for pair in chosen if pair[0].endswith(".tar")]
    stems = {_stem(path) for path, _ in plain}
    packed = [path for path, _ in chosen if not path.endswith(".tar") and _stem(path) not in stems]
    if packed:
        ending = _ending(packed[0])
        more = f" (and {len(packed) - 1} more)" if len(packed) > 1 else ""
        raise ValueError(
            f"The {root.kind} root {root.url} holds {packed[0]}{more}, which is compressed, so "
            "that none of its images can be read alone; unpack it first (images hardly compress): "
            f"{_UNPACK[ending]} {last_part(packed[0])}"
        )
    # Files that a given pattern leaves out were left out by the user.
    beside = [path for path, _ in others if pattern == "*" and last_part(path) not in CLASS_FILES]
    beside += [path for path, _ in chosen if not path.endswith(".tar")]
    kinds = Counter(_ending(path) for path in beside if not last_part(path).startswith("."))
    stamps = tuple(str(entry["stamp"]) for _, entry in plain)
    return Archives(shard_files(root, plain), stamps, tuple(sorted(kinds.items())))


def _missing(root: Root, split: str, listings: dict[str, list[dict[str, Any]]]) -> ValueError:
    entries = [entry for listing in listings.values() for entry in listing]
    folders = [entry["name"] for entry in listings[""] if is_folder(entry)]
    if split in {entry["name"] for entry in entries if is_folder(entry)}:
        return ValueError(
            f"The {root.kind} root {root.url} has a folder {split!r} without any .tar archive in "
            "it; set dataset.root and dataset.kind to what the data are."
        )
    present = {name for entry in entries if is_folder(entry) or _is_archive(entry, "*")
               for name in _splits(entry)}  # fmt: skip
    if not present and not any(_is_archive(entry, "*") for entry in entries):
        for folder in folders[:_LOOKED_INTO]:
            if any(_is_archive(entry, "*") for entry in root.listing(folder)):
                return ValueError(
                    f"The {root.kind} root {root.url} holds no .tar archive, its folder {folder!r} "
                    f"does; set dataset.root={root.url}/{folder}"
                )
    return missing_split(root, split, sorted(present))


def _splits(entry: dict[str, Any]) -> list[str]:
    """Splits that a name carries; of a folder, the one that it is."""
    if is_folder(entry):
        return [name for name in SPLIT_NAMES if name == entry["name"].lower()]
    return [name for name in SPLIT_NAMES if _carries(entry, name)]


def _carries(entry: dict[str, Any], split: str) -> bool:
    return names_split(_stem(entry["name"]), split)


def _is_archive(entry: dict[str, Any], pattern: str) -> bool:
    name = str(entry["name"])
    is_named = name.endswith((".tar", *_UNPACK)) and not name.startswith(".")
    return entry["type"] == "file" and is_named and fnmatchcase(name, pattern)


def _ending(path: str) -> str:
    """Kind of a file: ``.tar.gz``, else what follows the last dot, ``no suffix`` without one."""
    name = last_part(path).lower()
    packed = next((ending for ending in _UNPACK if name.endswith(ending)), None)
    _, dot, suffix = name.rpartition(".")
    return packed or (f".{suffix}" if dot else "no suffix")


def _stem(path: str) -> str:
    return path.removesuffix(next((e for e in (*_UNPACK, ".tar") if path.endswith(e)), ""))


def _join(place: str, name: str) -> str:
    return f"{place}/{name}" if place else name
