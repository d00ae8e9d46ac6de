"""A data set that is not at hand: its numbers are known, so that it can be planned for."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from raydd.data.sources import Row, Shard

_SHARD_IMAGES = 600  # 64 MB of photographs


@dataclass(frozen=True)
class CountedSource:
    """See :class:`raydd.data.sources.Source`; classes are equally large and there are no images.

    Attributes:
        num_classes: C.
        num_images: of the split.
    """

    num_classes: int
    num_images: int

    @property
    def class_names(self) -> tuple[str, ...]:
        """The data's own names are not known."""
        return tuple(f"class {number}" for number in range(self.num_classes))

    @property
    def fingerprint(self) -> str:
        """Of nothing: no stage is ever made of this source."""
        return ""

    @property
    def unused(self) -> Mapping[str, int]:
        """No file is passed over."""
        return {}

    def shards(self) -> list[Shard]:
        """As many as photographs of this number would give."""
        count = -(-self.num_images // _SHARD_IMAGES)
        return [Shard(str(number)) for number in range(count)]

    def read(self, shard: Shard) -> Iterator[Row]:
        """There are no rows."""
        return iter(())

    def fetch(self, ids: Sequence[str]) -> dict[str, bytes]:
        """Refuses every id."""
        raise ValueError(f"the images are not at hand: {', '.join(ids[:1])}")

    def class_counts(self) -> np.ndarray:
        """Equal shares; the first classes have the remainder."""
        share, rest = divmod(self.num_images, self.num_classes)
        return np.full(self.num_classes, share) + (np.arange(self.num_classes) < rest)
