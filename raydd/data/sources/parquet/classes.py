"""Class names of a parquet split, and what each file's numbers mean among them.

Every file may store names of its own (the ClassLabel feature): its numbers are then positions in
*its* list, and are mapped by name. Files without names hold class indices.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from raydd.data.classes import unique_names
from raydd.data.sources.base import resolve_label

SHOWN = 5  # labels or names that a message lists


@dataclass
class LabelGroup:
    """The files of a split that store the same class names.

    Attributes:
        names: as stored; None for files without.
        path: address of the first of them, for messages.
        counts: rows per distinct label over all of them; None stands for a missing one.
    """

    names: tuple[str, ...] | None
    path: str
    counts: Counter[Any] = field(default_factory=Counter)

    def numbers(self) -> list[int]:
        """The whole numbers among the labels, -1 and below left out, sorted."""
        found = (label for label in self.counts if isinstance(label, int | float))
        return sorted(int(label) for label in found if label >= 0 and label == label // 1)


def class_names_of(
    what: str,
    groups: Sequence[LabelGroup],
    class_names: Sequence[str] | None,
    num_classes: int | None,
) -> tuple[str, ...]:
    """Return the names in label order: those expected, else those stored first, else the labels'.

    Args:
        what: the split in words; begins messages.
        groups: of all its files, in file order.
        class_names: expected names.
        num_classes: expected number of classes; without any names the classes are "0", "1", ...
    Raises:
        ValueError: no row has a label, the labels are no classes, or another number of classes.
    """
    _require_labels(what, groups)
    stored = next((group.names for group in groups if group.names is not None), None)
    labels = {label for group in groups for label in group.counts}
    texts = sorted(label for label in labels if isinstance(label, str))
    if class_names is not None:
        names = unique_names(class_names, f"The class list for {what}")
    elif stored is not None:
        names = unique_names(stored, f"{groups[0].path}")
    elif texts:
        names = tuple(texts)
    elif num_classes is not None:
        names = tuple(map(str, range(num_classes)))
    else:
        names = _names_of_numbers(what, groups[0])
    if num_classes is not None and num_classes != len(names):
        raise ValueError(
            f"{_sentence(what)} has {len(names)} classes, dataset.num_classes says {num_classes}; "
            "correct one of them."
        )
    return names


def numberings(
    what: str, groups: Sequence[LabelGroup], class_names: Sequence[str]
) -> tuple[Mapping[int, int] | None, ...]:
    """Return stored number -> class index for each group; None where they are equal.

    Raises:
        ValueError: rows of a class that is not expected, or numbers that cannot be understood.
    """
    index = {name: position for position, name in enumerate(class_names)}
    found = tuple(_numbering(what, group, index) for group in groups)
    pairs = {pair for mapping in found if mapping for pair in mapping.items()}
    moved = any(number != position for number, position in pairs)
    for group in groups:
        if group.names is None and group.numbers() and moved and len(groups) > 1:
            raise ValueError(
                f"{group.path} stores no class names, while other files of {what} store them in "
                "another order than the classes', so what its numbers mean is unknown; write the "
                "names into it, or move it out of the data set."
            )
    return found


def class_counts(
    what: str,
    groups: Sequence[LabelGroup],
    numbers: Sequence[Mapping[int, int] | None],
    class_names: Sequence[str],
) -> np.ndarray:
    """Rows per class, int64 [C].

    Raises:
        ValueError: not one row has a label that is a class.
    """
    counts = np.zeros(len(class_names), dtype=np.int64)
    index = {name: position for position, name in enumerate(class_names)}
    reasons: Counter[str] = Counter()
    for group, mapping in zip(groups, numbers, strict=True):
        for label, count in group.counts.items():
            class_index, reason = resolve_label(label, index, mapping)
            if reason is None:
                counts[class_index] += count
            else:
                reasons[reason] += count
    if not counts.any():
        reason, count = reasons.most_common(1)[0]
        raise ValueError(
            f"No image of {what} has a label that is one of the {len(index)} classes "
            f"({', '.join(list(index)[:SHOWN])}, ...): of {count} of {reasons.total()} images "
            f"{reason}; set dataset.label_column or dataset.classes_file."
        )
    return counts


def stored_names(schema: pa.Schema, label_column: str) -> tuple[str, ...] | None:
    """Names of the ClassLabel feature in the ``huggingface`` schema metadata, if it is there."""
    return _names_in((schema.metadata or {}).get(b"huggingface", b""), label_column)


@lru_cache(maxsize=16)  # thousands of files hold the same 21,000 names: parsed and kept once
def _names_in(metadata: bytes, label_column: str) -> tuple[str, ...] | None:
    try:
        names = json.loads(metadata)["info"]["features"][label_column]["names"]
    except (KeyError, TypeError, ValueError):
        return None
    return tuple(map(str, names)) if names else None


def _require_labels(what: str, groups: Sequence[LabelGroup]) -> None:
    counts = sum((group.counts for group in groups), Counter[Any]())
    if not counts:
        raise ValueError(f"{_sentence(what)} holds no image; set dataset.root.")
    if any(isinstance(label, str) for label in counts) or any(map(LabelGroup.numbers, groups)):
        return
    reasons: Counter[str] = Counter()
    for label, count in counts.items():
        reasons[str(resolve_label(label, {})[1])] += count
    reason, count = reasons.most_common(1)[0]
    raise ValueError(
        f"No image of {what} has a class: of {count} of {reasons.total()} images {reason}; choose "
        "a labelled split with dataset.split_train and dataset.split_test, or set "
        "dataset.label_column."
    )


def _names_of_numbers(what: str, group: LabelGroup) -> tuple[str, ...]:
    numbers = group.numbers()
    if numbers != list(range(len(numbers))):
        raise _not_indices(what, numbers)
    return tuple(map(str, numbers))


def _numbering(what: str, group: LabelGroup, index: Mapping[str, int]) -> Mapping[int, int] | None:
    numbers = group.numbers()
    if group.names is None and _are_other_numbers(index):
        return _by_name_or_index(what, numbers, index)
    size = len(index) if group.names is None else len(group.names)
    if size in numbers and 0 not in numbers:
        raise _not_indices(what, numbers)
    if group.names is None or group.names == tuple(index):
        return None
    unknown = [n for n in numbers if n < size and group.names[n] not in index]
    if unknown:
        raise ValueError(
            f"{group.path} has images of the class {group.names[unknown[0]]!r}, which is none of "
            f"the {len(index)} classes ({', '.join(list(index)[:SHOWN])}, ...); correct its names, "
            "or list the names of all classes in dataset.classes_file."
        )
    known = enumerate(group.names)
    return {number: index[name] for number, name in known if name in index}


def _are_other_numbers(names: Mapping[str, int]) -> bool:
    """Tell whether all class names are numbers, but not their own positions."""
    are_numbers = all(name.isdecimal() and str(int(name)) == name for name in names)
    return are_numbers and any(int(name) != position for name, position in names.items())


def _by_name_or_index(
    what: str, numbers: Sequence[int], index: Mapping[str, int]
) -> Mapping[int, int] | None:
    """Numbers without stored names, among classes called 1, 2, ...: they are names, or indices."""
    are_names = all(str(number) in index for number in numbers)
    are_indices = all(number < len(index) for number in numbers)
    if are_names and not are_indices:
        return {int(name): position for name, position in index.items()}
    if are_indices and not are_names:
        return None
    raise ValueError(
        f"The labels of {what} are {_listed(numbers)}, which fits the class list "
        f"{', '.join(list(index)[:SHOWN])}, ... neither only as names nor only as positions; write "
        "the names into the files, as text labels or as a ClassLabel feature."
    )


def _not_indices(what: str, numbers: Sequence[int]) -> ValueError:
    return ValueError(
        f"The labels of {what} are {_listed(numbers)}, not 0..C-1, so which class each means "
        "is unknown; store them as 0..C-1 or as text, or list just these numbers, one a line, in "
        "dataset.classes_file: they are then the names of the classes."
    )


def _listed(numbers: Sequence[int]) -> str:
    if len(numbers) > SHOWN and list(numbers) == list(range(numbers[0], numbers[-1] + 1)):
        return f"{numbers[0]}..{numbers[-1]}"
    shown = ", ".join(map(str, numbers[:SHOWN]))
    return f"{shown}, ... {numbers[-1]}" if len(numbers) > SHOWN else shown


def _sentence(what: str) -> str:
    return what[0].upper() + what[1:]
