"""Label lists of image folders: the file that says which class each image of a flat folder has.

Known are ``metadata.csv`` and ``metadata.jsonl`` (file_name, label), Tiny-ImageNet's
``val_annotations.txt``, ImageNet's ``LOC_val_solution.csv`` and
``ILSVRC2012_validation_ground_truth.txt``, and ``val.txt`` or ``val.csv`` with a file and a label
per line; each for other splits too. They lie in the split's folder or at the root.
"""

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from raydd.data.sources.files import Root, split_aliases

METADATA = ("metadata.csv", "metadata.jsonl")
GROUND_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
_FILE_KEYS = ("file_name", "filename", "imageid", "image_id", "image", "file", "path", "id")
_LABEL_KEYS = ("label", "class", "class_name", "predictionstring")
_ORDERS = ("map_clsloc.txt", "meta.mat")  # of ImageNet's development kit


@dataclass(frozen=True)
class LabelList:
    """How to read one label list.

    Attributes:
        path: below the root.
        syntax: "csv", "jsonl", "words" (file, label, more) or "numbers" (a label per line).
        file_key: column or key that names the image.
        label_key: column or key of its label.
        columns: positions of the two in a csv line.
        codes: class name of each number from 1, in "numbers".
    """

    path: str
    syntax: str
    file_key: str = ""
    label_key: str = ""
    columns: tuple[int, int] = (0, 1)
    codes: tuple[str, ...] = ()

    @property
    def is_metadata(self) -> bool:
        """Whether the data set calls itself a list, whatever folders lie there."""
        return self.path.rpartition("/")[2] in METADATA

    def entries(
        self, root: Root, begin: int = 0, end: int | None = None
    ) -> Iterator[tuple[str, str]]:
        """(name of the image, label) of every line that begins within bytes [begin, end).

        A label that a line lacks is "".
        """
        with root.explained(), root.fs.open(f"{root.path}/{self.path}", "rb") as file:
            number = 0
            if begin and self.syntax == "numbers":
                number = file.read(begin).count(b"\n")
            if begin:
                file.seek(begin - 1)
                file.readline()  # the line that begins before
                number += self.syntax == "numbers" and file.tell() != begin
            while end is None or file.tell() < end:
                at, line = file.tell(), file.readline()
                if not line:
                    return
                number += 1
                text = line.decode("utf-8-sig", errors="surrogateescape").strip("\r\n")
                if text.strip() and not (self.syntax == "csv" and at == 0):
                    yield self._entry(text, number)

    def _entry(self, text: str, number: int) -> tuple[str, str]:
        if self.syntax == "jsonl":
            fields = _json_object(text)
            name, label = (fields.get(key) for key in (self.file_key, self.label_key))
            return str(name or ""), "" if label is None else str(label)
        if self.syntax == "numbers":
            return f"ILSVRC2012_val_{number:08d}", self._decoded(text.strip())
        if self.syntax == "csv":
            cells = _cells(text)
            name, label = (cells[at] if at < len(cells) else "" for at in self.columns)
            if self.label_key.lower() == "predictionstring":  # label and boxes
                label = label.partition(" ")[0]
            return name, label
        cells = text.split("\t") if "\t" in text else text.split()
        if self.columns == (0, -1) and "\t" not in text:
            cells = text.rsplit(None, 1)  # a file name may hold spaces
        return cells[0].strip(), cells[self.columns[1]].strip() if len(cells) > 1 else ""

    def _decoded(self, number: str) -> str:
        if number.isdecimal() and 0 < int(number) <= len(self.codes):
            return self.codes[int(number) - 1]
        return number


def find_list(root: Root, folder: str, split: str, label_column: str) -> LabelList | None:
    """Find the list of a split.

    Args:
        root: the data set's folder.
        folder: of the split, below it.
        split: its name.
        label_column: column of a csv or key of a jsonl that is preferred as the label.
    Returns:
        None where there is none, or none that tells labels.
    Raises:
        ValueError: a list of numbers whose order is nowhere.
    """
    words = split_aliases(split.rpartition("/")[2].lower())
    named = [
        name.format(word)
        for word in words
        for name in ("{}_annotations.txt", "LOC_{}_solution.csv", "{}.csv", "{}.txt")
    ]
    truth = [GROUND_TRUTH] if "val" in words else []
    for place, names in ((folder, [*METADATA, *named, *truth]), ("", [*named, *truth])):
        present = {entry["name"] for entry in root.listing(place) if entry["type"] == "file"}
        for name in names:
            if name in present:
                found = _described(root, place, name, label_column, present)
                if found is not None:
                    return found
    return None


def _described(
    root: Root, place: str, name: str, label_column: str, present: set[str]
) -> LabelList | None:
    path = f"{place}/{name}" if place else name
    if name == GROUND_TRUTH:
        return LabelList(path, "numbers", codes=_official_order(root, place, present))
    if name.endswith("_annotations.txt"):
        return LabelList(path, "words")
    if name.endswith(".txt"):
        return LabelList(path, "words", columns=(0, -1))
    first = _first_line(root, path)
    is_json = name.endswith(".jsonl")
    keys = list(_json_object(first)) if is_json else _cells(first)
    file_key = _first_of(_FILE_KEYS, keys)
    label_key = _first_of((label_column.lower(), *_LABEL_KEYS), keys)
    if file_key is None or label_key is None:
        return None
    columns = keys.index(file_key), keys.index(label_key)
    return LabelList(path, "jsonl" if is_json else "csv", file_key, label_key, columns)


def _first_of(wanted: Sequence[str], keys: Sequence[str]) -> str | None:
    lower = {key.lower(): key for key in keys}
    return next((lower[name] for name in wanted if name in lower), None)


def _first_line(root: Root, path: str) -> str:
    with root.explained(), root.fs.open(f"{root.path}/{path}", "rb") as file:
        line: bytes = file.readline()
    return line.decode("utf-8-sig", errors="surrogateescape").strip()


def _cells(text: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([text]), [])]
    except csv.Error:  # a cell of more than 128 KB
        return []


def _json_object(text: str) -> dict[str, Any]:
    try:
        fields = json.loads(text)
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}


def _official_order(root: Root, place: str, present: set[str]) -> tuple[str, ...]:
    """WordNet ids in the order of ImageNet's development kit, which is not that of the ids."""
    for name in _ORDERS:
        if name not in present:
            continue
        path = f"{root.path}/{place}/{name}" if place else f"{root.path}/{name}"
        with root.explained(), root.fs.open(path, "rb") as file:
            numbered = dict(_numbered_ids(file, name))
        order = [numbered.get(number, "") for number in range(1, len(numbered) + 1)]
        if order and all(order):
            return tuple(order[:1000])  # behind them stand groups of classes
    raise ValueError(
        f"The numbers in {GROUND_TRUTH} of the {root.kind} root {root.url} are in the order of "
        f"ImageNet's development kit: put its {' or '.join(_ORDERS)} beside it, or "
        "LOC_val_solution.csv, which holds the ids."
    )


def _numbered_ids(file: Any, name: str) -> Iterator[tuple[int, str]]:
    if name.endswith(".txt"):
        for line in file.read().decode("utf-8-sig").splitlines():
            words = line.split()
            yield int(words[1]), words[0]
        return
    from scipy.io import loadmat  # a third of a second: only for this file

    for synset in loadmat(file, squeeze_me=True)["synsets"]:
        yield int(synset["ILSVRC2012_ID"]), str(synset["WNID"])
