"""The embedded data set: 1,797 handwritten digits of 8 x 8 pixels from scikit-learn.

It needs no download, so it is the default and the data of the end-to-end tests. Every fifth image
of a class is a test image: 1,442 for training, 355 for testing, all classes in both.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from raydd.data.classes import check_class_order
from raydd.data.images import encode_png
from raydd.data.sources.base import Row, Shard
from raydd.data.sources.files import digest

CLASS_NAMES = tuple(str(digit) for digit in range(10))
ROWS_PER_SHARD = 256


@dataclass(frozen=True)
class DigitsSource:
    """See the module; an id is ``digits#`` and the row number in scikit-learn's array."""

    split: str
    class_names: tuple[str, ...]
    fingerprint: str

    @classmethod
    def open(
        cls, split: str, class_names: Sequence[str] | None, num_classes: int | None
    ) -> "DigitsSource":
        """Open ``train`` or ``test``.

        Raises:
            ValueError: another split, or other classes than the ten digits are expected.
        """
        if split not in ("train", "test"):
            raise ValueError(f"The digits data set has the splits train and test, not {split!r}.")
        if class_names is not None:
            check_class_order(class_names, CLASS_NAMES, "the digits data set")
        if num_classes not in (None, len(CLASS_NAMES)):
            raise ValueError(f"The digits data set has 10 classes, not {num_classes}.")
        images, labels = _digits()
        content = digest("digits", split, images.tobytes().hex(), labels.tolist())
        return cls(split, CLASS_NAMES, content)

    @property
    def unused(self) -> Mapping[str, int]:
        """No file is passed over."""
        return {}

    def shards(self) -> list[Shard]:
        """Runs of 256 rows of the split."""
        total = len(_rows_of(self.split))
        return [
            Shard(f"digits-{begin:05d}", begin, min(begin + ROWS_PER_SHARD, total))
            for begin in range(0, total, ROWS_PER_SHARD)
        ]

    def read(self, shard: Shard) -> Iterator[Row]:
        """Stream the rows as PNG files."""
        images, labels = _digits()
        for row in _rows_of(self.split)[shard.begin : shard.end]:
            yield Row(f"digits#{row}", int(labels[row]), encode_png(images[row]))

    def fetch(self, ids: Sequence[str]) -> dict[str, bytes]:
        """Encode the named rows; an id of the other split is refused."""
        images, _ = _digits()
        rows = {f"digits#{row}": row for row in _rows_of(self.split)}
        unknown = [row_id for row_id in ids if row_id not in rows]
        if unknown:
            raise ValueError(f"The digits {self.split} split holds no image {unknown[0]!r}.")
        return {row_id: encode_png(images[rows[row_id]]) for row_id in ids}

    def class_counts(self) -> np.ndarray:
        """Images per digit, int64 [10]."""
        return np.bincount(_digits()[1][_rows_of(self.split)], minlength=10).astype(np.int64)


@lru_cache(maxsize=1)
def _digits() -> tuple[np.ndarray, np.ndarray]:
    """Return uint8 [1797, 8, 8, 3] images and int64 [1797] labels."""
    from sklearn.datasets import load_digits  # half a second: only where digits are used

    data = load_digits()
    grey = np.rint(data.images * (255 / 16)).astype(np.uint8)  # stored as 0..16
    return np.repeat(grey[..., None], 3, axis=-1), data.target.astype(np.int64)


@lru_cache(maxsize=2)
def _rows_of(split: str) -> np.ndarray:
    """Row numbers of a split, ascending."""
    labels = _digits()[1]
    is_test = np.zeros(len(labels), dtype=bool)
    for digit in range(10):
        is_test[np.flatnonzero(labels == digit)[4::5]] = True
    return np.flatnonzero(is_test == (split == "test"))
