"""A test set out of a data set that has none: a share of its images, fixed by a seed."""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from raydd.data.sources.base import Row, Shard, Source
from raydd.data.sources.files import digest

COUNTED_IMAGES = 2_000_000
_PLACE = re.compile(r"@[0-9]+\+[0-9]+$")  # where a parquet image's bytes lie: not who it is


@runtime_checkable
class KnowsIds(Protocol):
    """A source that tells its images without reading them."""

    def labelled_ids(self) -> Iterator[tuple[str, int]] | None:
        """(id, class index) of every row with a known class; None where only a pass tells."""


@dataclass(frozen=True)
class HeldOut:
    """One side of :func:`hold_out_share`."""

    source: Source
    share: float
    seed: int
    is_test: bool

    @property
    def class_names(self) -> tuple[str, ...]:
        """Those of the whole set."""
        return self.source.class_names

    @property
    def fingerprint(self) -> str:
        """Of the whole set, the share, the seed and the side."""
        side = "test" if self.is_test else "train"
        return digest("held out", self.source.fingerprint, self.share, self.seed, side)

    @property
    def unused(self) -> Mapping[str, int]:
        """Of the whole set, said once: on the training side."""
        return {} if self.is_test else self.source.unused

    def shards(self) -> list[Shard]:
        """Those of the whole set."""
        return self.source.shards()

    def read(self, shard: Shard) -> Iterator[Row]:
        """Stream the rows of this side; the bytes of the others are read and left."""
        return (row for row in self.source.read(shard) if self._has(row.id))

    def fetch(self, ids: Sequence[str]) -> dict[str, bytes]:
        """Refuses an id of the other side."""
        for row_id in ids:
            if not self._has(row_id):
                raise ValueError(f"This side of the held-out share holds no image {row_id!r}.")
        return self.source.fetch(ids)

    def class_counts(self) -> np.ndarray | None:
        """Counted by ids; None where the source does not know them, or has millions."""
        known = labelled_ids(self.source)
        if known is None:
            return None
        counts = np.zeros(len(self.class_names), dtype=np.int64)
        for number, (row_id, class_index) in enumerate(known):
            if number == COUNTED_IMAGES:
                return None
            counts[class_index] += self._has(row_id)
        return counts

    def labelled_ids(self) -> Iterator[tuple[str, int]] | None:
        """See :class:`KnowsIds`."""
        known = labelled_ids(self.source)
        return None if known is None else (pair for pair in known if self._has(pair[0]))

    def _has(self, row_id: str) -> bool:
        name = _PLACE.sub("", row_id).encode("utf-8", errors="surrogateescape")
        drawn = hashlib.sha256(f"{self.seed}\0".encode() + name).digest()
        return (int.from_bytes(drawn[:8], "big") < self.share * 2**64) == self.is_test


def hold_out_share(source: Source, share: float, seed: int) -> tuple[Source, Source]:
    """Part a data set's images into training and test images.

    Each image belongs to one side by a hash of its id and the seed: no list is kept, every worker
    answers alike, and an image stays where it is when others come or go.

    Args:
        source: the whole set.
        share: of the images that become test images, in expectation, within (0, 1).
        seed: of the draw.
    Returns:
        The training and the test side.
    Raises:
        ValueError: the share is not within (0, 1).
    """
    if not 0.0 < share < 1.0:
        raise ValueError(f"dataset.holdout is a share within (0, 1), not {share}.")
    return HeldOut(source, share, seed, False), HeldOut(source, share, seed, True)


def labelled_ids(source: Source) -> Iterator[tuple[str, int]] | None:
    """(id, class index) of every row with a known class, where the source tells them."""
    return source.labelled_ids() if isinstance(source, KnowsIds) else None
