"""What a label list says, checked once when it is opened: its labels, and where its images lie."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from raydd.data.classes import unique_names
from raydd.data.sources.files import Root
from raydd.data.sources.folders.lists import LabelList

COMPARED_ROWS = 2_000_000  # a list of more is not compared with its folder
EXAMPLES = 10  # names that tell where the images lie
_SUFFIXES = ("", ".JPEG", ".jpg", ".jpeg", ".png")


@dataclass
class Census:
    """One pass over a list: lines, labels, the first names, all unless too many, content."""

    num_rows: int
    labels: Counter[str]
    examples: list[str]
    names: set[str] | None
    content: str

    @classmethod
    def of(cls, root: Root, labels: LabelList) -> "Census":
        """Read the list; ValueError where it names no image, or one twice."""
        content = hashlib.sha256()
        counts: Counter[str] = Counter()
        names: set[str] | None = set()
        num_rows = 0
        examples: list[str] = []
        for name, label in labels.entries(root):
            content.update(f"{name}\0{label}\0".encode("utf-8", errors="surrogateescape"))
            counts[label] += 1
            num_rows += 1
            examples += [name] if len(examples) < EXAMPLES else []
            names = None if num_rows > COMPARED_ROWS else names
            if names is not None and name in names:
                raise ValueError(
                    f"{root.url}/{labels.path} names {name!r} twice; every image needs one line."
                )
            if names is not None:
                names.add(name)
        if not examples:
            raise ValueError(f"{root.url}/{labels.path} names no image; write a file and a label.")
        return cls(num_rows, counts, examples, names, content.hexdigest())


def class_names_of_list(
    what: str, found: Census, class_names: Sequence[str] | None
) -> tuple[tuple[str, ...], bool]:
    """The names in label order, and whether the labels are positions among them."""
    labels = [label for label in found.labels if label]
    numbers = sorted(int(label) for label in labels if is_number(label))
    if not labels:
        raise ValueError(f"{what} holds no labels: every line needs a file and a label.")
    if class_names is not None:
        names = unique_names(class_names, f"The class list for {what}")
        return names, _are_positions(what, labels, numbers, names)
    if len(numbers) < len(labels):
        return unique_names(sorted(labels), what), False
    if numbers != list(range(len(numbers))):
        raise ValueError(
            f"The labels of {what} are numbers, but not 0..C-1 ({numbers[0]} to {numbers[-1]}); "
            "set dataset.classes_file, or write names."
        )
    return tuple(map(str, numbers)), True


def _are_positions(
    what: str, labels: Sequence[str], numbers: Sequence[int], names: tuple[str, ...]
) -> bool:
    """Whether labels are positions among known names, or names.

    Raises:
        ValueError: they are neither, or might be both.
    """
    are_numbers = len(numbers) == len(labels)
    is_name = set(labels) & set(names)
    if is_name and not (are_numbers and is_name < set(labels)):
        return False
    if not are_numbers:
        raise ValueError(
            f"No label of {what} is a class name: it has {labels[0]!r}, the classes are "
            f"{', '.join(names[:3])}, ...; correct dataset.classes_file or the list."
        )
    if is_name or numbers[0] < 0 or numbers[-1] >= len(names):
        known = "named by numbers" if is_name else f"0 to {len(names) - 1}"
        raise ValueError(
            f"The labels of {what} are {numbers[0]} to {numbers[-1]}, but the {len(names)} classes "
            f"are {known}: nobody can tell which is which; write names into the list."
        )
    return True


def is_number(label: str) -> bool:
    """Tell whether a label is a whole number."""
    return label.removeprefix("-").isdecimal()


def find_place(root: Root, folder: str, labels: LabelList, names: Sequence[str]) -> tuple[str, str]:
    """Where the list's images lie: what stands before and behind their names.

    Raises:
        ValueError: nowhere.
    """
    beside = labels.path.rpartition("/")[0]
    places = dict.fromkeys((folder, f"{folder}/images".lstrip("/"), beside, ""))
    for name in names:
        for prefix in (f"{place}/" if place else "" for place in places):
            for suffix in _SUFFIXES:
                if root.fs.exists(f"{root.path}/{prefix}{name.removeprefix('./')}{suffix}"):
                    return prefix, suffix
    raise ValueError(
        f"{root.url}/{labels.path} names {names[0]!r}, which lies neither in "
        f"{folder or 'the root'} nor in its folder images; correct the list or dataset.root."
    )
