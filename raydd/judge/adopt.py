"""Stage ``adopt``: a distilled set of anyone, as the image parts that every training reads.

A unit is a block of images in stored order; their order is kept, for soft labels know their images
by it.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
from upath import UPath

from raydd.cluster.threads import map_ahead
from raydd.data.any_set import AnySet, SetImage
from raydd.data.images import BrokenImage, decode, image_size
from raydd.data.preprocessing import Preprocessing
from raydd.data.rows import image_table
from raydd.engine.cost import Cost
from raydd.engine.engine import Engine
from raydd.errors import Refused
from raydd.store.artifacts import Artifact
from raydd.store.tables import write_table
from raydd.store.units import PART

_PART_ROWS = 500  # images of a unit
_THREADS = 4  # decoders leave Python's lock
_LISTED_SIZES = 10

_Block = tuple[int, list[SetImage], list[int]]


def adopt(engine: Engine, given: AnySet) -> Artifact:
    """Decode a set as network input.

    Args:
        engine: of the real data set: images of other sizes are resized and cropped as its are, one
            with more pixels than ``data.max_pixels`` is refused.
        given: the set.
    Returns:
        Artifact with ``parts/*.parquet`` as ``fetch`` leaves them; its summary has ``slots``
        [0, end), ``counts`` of each class, ``bytes`` of the encoded images, how many were
        ``resized`` and the ``sizes`` that they had ({"64 x 48": count}, the ten most frequent).
    Raises:
        Refused: a broken image, or none at all.
    """
    preprocessing, max_pixels = engine.preprocessing, engine.data.max_pixels

    def work(folder: UPath) -> dict[str, Any]:
        (folder / "parts").mkdir(parents=True, exist_ok=True)
        tally = _Tally(given, engine.num_classes, max_pixels)

        def write(block: _Block) -> None:
            path = PART.path(folder, f"{block[0]:05d}")
            if not path.exists():
                write_table(path, _table(given, block, preprocessing, max_pixels))

        for _ in map_ahead(write, tally.blocks(), _THREADS, _THREADS):
            pass
        return tally.summary(preprocessing.resolution)

    return engine.stages.run(
        "adopt",
        work,
        inputs=[given.fingerprint],
        config={
            "size": [preprocessing.resolution, preprocessing.resize],
            "max_pixels": max_pixels,
            "num_classes": engine.num_classes,
        },
        seed=0,
        cost=Cost,  # as large as the set: it is walked through once
        expected=dict,
        title=given.layout,
    )


class _Tally:
    """Walks through a set and counts: classes, bytes, sizes."""

    def __init__(self, given: AnySet, num_classes: int, max_pixels: int) -> None:
        self.given, self.max_pixels = given, max_pixels
        self.counts, self.last_slot, self.bytes = [0] * num_classes, -1, 0
        self.sizes: Counter[tuple[int, int]] = Counter()

    def blocks(self) -> Iterator[_Block]:
        """Number, images and slots of each unit."""
        images, number = self.given.images(), 0
        while block := list(islice(images, _PART_ROWS)):
            yield number, block, [self._count(image) for image in block]
            number += 1

    def _count(self, image: SetImage) -> int:
        """Note an image; returns its slot."""
        if image.reason is not None:
            raise _broken(self.given, image, image.reason)
        try:
            self.sizes[image_size(image.image, self.max_pixels)] += 1
        except BrokenImage as error:
            raise _broken(self.given, image, str(error)) from error
        slot = self.counts[image.class_index] if image.slot is None else image.slot
        self.counts[image.class_index] += 1
        self.bytes += len(image.image)
        self.last_slot = max(self.last_slot, slot)
        return slot

    def summary(self, resolution: int) -> dict[str, Any]:
        if not sum(self.counts):
            raise Refused(f"{self.given.folder} holds no image.")
        listed = self.sizes.most_common(_LISTED_SIZES)
        return {
            "slots": [0, self.last_slot + 1],
            "counts": self.counts,
            "bytes": self.bytes,
            "resized": self.sizes.total() - self.sizes[resolution, resolution],
            "sizes": {f"{width} x {height}": count for (width, height), count in listed},
        }


def _table(given: AnySet, block: _Block, preprocessing: Preprocessing, max_pixels: int) -> pa.Table:
    _, images, slots = block
    pixels = np.stack([_pixels(given, image, preprocessing, max_pixels) for image in images])
    labels: Sequence[int] = [image.class_index for image in images]
    return image_table(pixels, labels, slots, 0, [i.source_id for i in images], "synthetic")


def _pixels(
    given: AnySet, image: SetImage, preprocessing: Preprocessing, max_pixels: int
) -> np.ndarray:
    try:
        return decode(image.image, preprocessing, max_pixels)
    except BrokenImage as error:
        raise _broken(given, image, str(error)) from error


def _broken(given: AnySet, image: SetImage, reason: str) -> Refused:
    return Refused(f"{given.folder}: {image.name} cannot be used: {reason}.")
