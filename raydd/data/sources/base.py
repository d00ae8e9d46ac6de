"""What every source of real images offers: rows, shards and ids.

A source is cheap to pickle (it never holds a list of all images), because it travels to every
worker; the worker asks it for one shard at a time.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

# A larger "image" is refused before it is read into memory: 50 megapixels, the default cap, fit.
MAX_IMAGE_BYTES = 1 << 26
MAX_REASON = 300  # characters


@dataclass(frozen=True, slots=True)
class Row:
    """One image of a source.

    Attributes:
        id: stable string that says where the image lies; ``Source.fetch`` takes it.
        class_index: position in ``Source.class_names``; -1 where the label is unusable.
        image: the encoded file, not yet decoded; empty where ``reason`` is set.
        reason: why the row is broken, in plain words; None for a good row.
        images: that the row stands for: a file that cannot be read counts as all of its images, as
            far as footers, headers or names tell; 1 where nothing tells.
    """

    id: str
    class_index: int
    image: bytes
    reason: str | None = None
    images: int = 1


@dataclass(frozen=True, slots=True)
class Shard:
    """One piece of a source that a single worker reads.

    Attributes:
        name: stable and unique within the source.
        begin: first part of the piece; what a part is (class folder, row group, row) and whether
            it is used at all is the source's own business.
        end: one past the last part.
    """

    name: str
    begin: int = 0
    end: int = 0


class Source(Protocol):
    """A labelled set of real images, read in shards or by id."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names in label order."""

    @property
    def fingerprint(self) -> str:
        """Hex digest of everything that the rows are; ``identity.py`` has the rule."""

    @property
    def unused(self) -> Mapping[str, int]:
        """Files of the split that hold no image of it, by kind, e.g. ``{".txt": 3}``."""

    def shards(self) -> list[Shard]:
        """Independent pieces in a stable order; together they hold every row once."""

    def read(self, shard: Shard) -> Iterator[Row]:
        """Stream the rows of one shard in a stable order, with bounded memory.

        A bad row never ends the pass: it comes with ``reason`` set.
        """

    def fetch(self, ids: Sequence[str]) -> dict[str, bytes]:
        """Read chosen images by id, without another pass over the data.

        Returns:
            id -> encoded image, in the order of ``ids``.
        Raises:
            ValueError: an id that this source does not hold.
        """

    def class_counts(self) -> np.ndarray | None:
        """Images per class, int64 [C]; None when only a full pass could tell."""


@runtime_checkable
class Estimated(Protocol):
    """A source that only a pass can count, but that knows roughly how many images it has."""

    def estimate_count(self) -> int | None:
        """From headers, where looking at them is cheap; None elsewhere."""


def broken(row_id: str, reason: str, class_index: int = -1, images: int = 1) -> Row:
    """Return the row that stands for an image nobody can use, or for all ``images`` of a file.

    The reason may quote hostile names: it is cut, and made one line that any table can hold.
    """
    line = " ".join(reason[: 2 * MAX_REASON].split())
    text = line.encode("utf-8", errors="backslashreplace").decode()
    return Row(row_id, class_index, b"", text[:MAX_REASON], images)


def resolve_label(
    label: object, index: Mapping[str, int], numbers: Mapping[int, int] | None = None
) -> tuple[int, str | None]:
    """Turn a stored label into a class index.

    Args:
        label: a class name, a number (an integer, a bool or a whole float), or None.
        index: class name -> class index, all classes.
        numbers: stored number -> class index, where the numbers are not the class indices.
    Returns:
        (class_index, None), or (-1, reason) for a label that means no class.
    """
    if label is None or label != label:  # NaN is how pandas stores a missing number
        return -1, "the label is missing"
    if isinstance(label, str):
        if label in index:
            return index[label], None
        return -1, f"the label {label[:99]!r} is not a class name"
    if not isinstance(label, int | float) or label != label // 1:
        return -1, f"the label {repr(label)[:99]} is neither an integer nor a class name"
    number = int(label)
    if numbers is None and 0 <= number < len(index):
        return number, None
    if numbers is not None and number in numbers:
        return numbers[number], None
    if number == -1:
        return -1, "the label is -1: the image has no class"
    if numbers is None:
        return -1, f"the label {str(number)[:99]} is out of range 0..{len(index) - 1}"
    return -1, f"the label {str(number)[:99]} is none of the {len(numbers)} that stand for a class"
