"""Rows of a unit, decoded on CPUs beside the device that looks at them."""

import functools
from collections.abc import Iterable, Iterator
from itertools import islice

from raydd.cluster.ahead import map_beside
from raydd.data.preprocessing import Preprocessing
from raydd.data.rows import Tried, try_rows
from raydd.data.sources import Row

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
