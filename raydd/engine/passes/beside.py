"""Rows of a unit: decoded on CPUs beside the device that looks at them, or from the disk."""

import functools
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from raydd.cluster.ahead import map_beside
from raydd.data.preprocessing import Preprocessing
from raydd.data.rows import Tried, pixel_array, try_rows
from raydd.data.sources import Row
from raydd.engine.passes.parts import shard_name
from raydd.store.tables import read_table
from raydd.store.units import PART

_CHUNK_ROWS = 32  # that are decoded together


def decode_beside(
    rows: Iterable[Row], preprocessing: Preprocessing, max_pixels: int, tasks: int
) -> Iterator[Tried]:
    """Every row in its order, decoded or with the reason why not.

    Args:
        rows: taken as they are needed.
        preprocessing: resolution and resizing.
        max_pixels: cap of the decoder.
        tasks: see :func:`raydd.cluster.ahead.map_beside`.
    """
    waiting = iter(rows)
    chunks = iter(lambda: list(islice(waiting, _CHUNK_ROWS)), [])
    work = functools.partial(try_rows, preprocessing, max_pixels)
    return (tried for chunk in map_beside(work, chunks, tasks) for tried in chunk)


def read_stored(folder: str, shards: Sequence[int], resolution: int) -> Iterator[Tried]:
    """Good rows of shards that a ``decode`` stage has kept, in their order.

    Args:
        folder: of the stage.
        shards: their numbers.
        resolution: of the stored images, pixels.
    """
    for shard in shards:
        table = read_table(PART.path(folder, shard_name(shard)), ["id", "class_index", "pixels"])
        images = pixel_array(table["pixels"], resolution)
        names, labels = (table[n].to_pylist() for n in ("id", "class_index"))
        for name, label, pixels in zip(names, labels, images, strict=True):
            yield Tried(name, label, 1, pixels, "")
