"""Which files a split of a parquet data set has, in the layouts that people have.

Below the root, or below its one configuration folder, in this order: ``data/SPLIT-*``, ``SPLIT-*``,
``SPLIT/**``, ``data/SPLIT/**``, then names that end with the split (``train.parquet``,
``mnist-train.parquet``, ``train_0.parquet``) in ``data`` or beside it. The files are parquet files,
or the Arrow files of ``save_to_disk`` where there is no parquet. A root whose names hold no word
for any split is training data as a whole.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from raydd.data.sources.files import SPLIT_NAMES, Root, is_folder, missing_split, shard_files

PARQUET, ARROW = ".parquet", ".arrow"
MAX_CONFIGS = 100  # folders that are looked into; more are the classes of an image folder
_ALIASES = (("train", "training"), ("val", "valid", "validation"), ("test", "testing"))
_NOTES = {"dataset_info.json", "state.json"}  # save_to_disk's own

_Entries = list[tuple[str, dict[str, Any]]]  # (path below the root, entry of Root.listing)


class SplitFile(NamedTuple):
    """One file of a split.

    Attributes:
        path: below the root.
        size: bytes.
        stamp: what the file system says of its content, see :mod:`raydd.data.sources.identity`.
    """

    path: str
    size: int
    stamp: str


class Split(NamedTuple):
    """What a split is made of.

    Attributes:
        files: in a stable order.
        unused: files that are passed over, by suffix: other kinds among those of the split, and
            tables beside them that are of no split.
    """

    files: tuple[SplitFile, ...]
    unused: Mapping[str, int]


def files_of_split(root: Root, split: str) -> tuple[SplitFile, ...]:
    """The files of :func:`find_split`."""
    return find_split(root, split).files


def find_split(root: Root, split: str) -> Split:
    """Find the files of a split.

    Args:
        root: the data set's folder.
        split: its name; where the root has none of it, ``val``, ``valid`` and ``validation`` mean
            the same, as do ``train`` and ``training``, ``test`` and ``testing``.
    Raises:
        ValueError: there is none, or several configurations have one.
    """
    base = _Base(root, "")
    if base.find(split) is None and not base.splits():
        base = _only_configuration(root, split) or base
    found = base.find(split) or (base.whole() if split == "train" else None)
    if found is None:
        raise missing_split(root, split, base.splits())
    return found


class _Base:
    """A folder that may hold splits; everything is listed once."""

    def __init__(self, root: Root, folder: str) -> None:
        self.root = root
        self.top = _listed(root, folder)
        self.data = self._inside("data")
        self._found: dict[str, list[_Entries]] = {}

    def splits(self) -> list[str]:
        """The usual names of splits that it has files of."""
        return [word for word in SPLIT_NAMES if self._layouts(word)]

    def find(self, split: str) -> Split | None:
        """The split by its name, else by another word for it."""
        same = next((words for words in _ALIASES if split in words), ())
        for word in (split, *same):
            if self._layouts(word):
                return self._split(word)
        return None

    def whole(self) -> Split | None:
        """All files as one split, where no name holds a word for one."""
        if self.splits():
            return None
        for entries in (_files(self.data), _files(self.top)):
            if _tables(entries):
                return self._of(entries, set())
        return None

    def _layouts(self, word: str) -> list[_Entries]:
        """Files of the split of exactly this name, by layout; layouts without tables left out."""
        if word not in self._found:
            data, top = _files(self.data), _files(self.top)
            found = (
                [item for item in data if _begins_with(_name(item), word)],
                [item for item in top if _begins_with(_name(item), word)],
                self._below(self.top, word),
                self._below(self.data, word),
                [item for item in data if _ends_with(_name(item), word)],
                [item for item in top if _ends_with(_name(item), word)],
            )
            self._found[word] = [entries for entries in found if _tables(entries)]
        return self._found[word]

    def _split(self, word: str) -> Split:
        """The first layout; what other layouts hold beside it, or no split, is not used."""
        by_word = {name: self._layouts(name) for name in {word, *SPLIT_NAMES}}
        claimed = {path for found in by_word.values() for part in found for path, _ in part}
        stray = {path for path, _ in _tables(_files(self.data + self.top)) if path not in claimed}
        others = {path for entries in by_word[word][1:] for path, _ in entries}
        return self._of(by_word[word][0], stray | others)

    def _of(self, entries: _Entries, beside: set[str]) -> Split:
        tables = _tables(entries)
        files = [
            SplitFile(*file, entry["stamp"])
            for file, (_, entry) in zip(shard_files(self.root, tables), tables, strict=True)
        ]
        unused = (beside | {path for path, _ in entries}) - {file.path for file in files}
        names = [path.rpartition("/")[2] for path in unused]
        kinds = Counter(_suffix(name) for name in names if name not in _NOTES)
        return Split(tuple(files), dict(sorted(kinds.items())))

    def _below(self, entries: _Entries, word: str) -> _Entries:
        """Everything in the folder of that name (Spark's folders end in .parquet)."""
        folders = [item for item in entries if is_folder(item[1])]
        names = (word.lower(), word.lower() + PARQUET)
        named = [path for path, entry in folders if entry["name"].lower() in names]
        return [item for path in named for item in _walk(self.root, path)]

    def _inside(self, name: str) -> _Entries:
        found = [path for path, entry in self.top if is_folder(entry) and entry["name"] == name]
        return _listed(self.root, found[0]) if found else []


def _only_configuration(root: Root, split: str) -> _Base | None:
    """The one folder below the root that holds splits; None where no folder does."""
    folders = [name for name in root.folders() if name != "data"]
    if len(folders) > MAX_CONFIGS:
        return None
    bases = {name: base for name in folders if (base := _Base(root, name)).splits()}
    if len(bases) > 1:
        raise ValueError(
            f"The parquet root {root.url} holds {len(bases)} configurations "
            f"({', '.join(list(bases)[:9])}), so which {split!r} is meant is unknown; set for "
            f"example dataset.root={root.url}/{min(bases)}."
        )
    return next(iter(bases.values()), None)


def _tables(entries: _Entries) -> _Entries:
    """Those that are parquet files; Arrow files where there is none, but not `datasets`' caches."""
    parquet = [item for item in entries if item[0].endswith(PARQUET)]
    arrow = [item for item in entries if item[0].endswith(ARROW)]
    return parquet or [item for item in arrow if not _name(item).startswith("cache-")]


def _begins_with(name: str, word: str) -> bool:
    return name.lower().startswith(f"{word.lower()}-")


def _ends_with(name: str, word: str) -> bool:
    """Tell whether a name's last word is the split: ``mnist-train.parquet``, ``train_0.parquet``.

    A name that begins with another split belongs to that one, so that no file is in two.
    """
    stem, word = (name.rpartition(".")[0] or name).lower(), word.lower()
    first = re.match(r"[a-z]+", stem)
    if first and first[0] in SPLIT_NAMES and first[0] != word:
        return False
    return re.fullmatch(rf"(.*[-_. ])?{re.escape(word)}([-_. ]?\d.*)?", stem) is not None


def _name(item: tuple[str, dict[str, Any]]) -> str:
    return str(item[1]["name"])


def _suffix(name: str) -> str:
    stem, dot, suffix = name.rpartition(".")
    return dot + suffix if stem else "no suffix"


def _files(entries: _Entries) -> _Entries:
    return [item for item in entries if item[1]["type"] == "file" and _name(item)[0] != "."]


def _listed(root: Root, folder: str) -> _Entries:
    prefix = f"{folder}/" if folder else ""
    return [(prefix + entry["name"], entry) for entry in root.listing(folder)]


def _walk(root: Root, folder: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Files below a folder, depth first; links to folders are not followed."""
    entries = _listed(root, folder)
    yield from _files(entries)
    for path, entry in entries:
        if is_folder(entry) and not entry["islink"] and not entry["name"].startswith("."):
            yield from _walk(root, path)
