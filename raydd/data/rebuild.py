"""A set of distilled and real images from what is small about it: the core and a list of ids.

Real images are never changed by a method that selects them, so that their ids are enough: whoever
has the source and the core gets the same set, bit for bit, without downloading a pixel of it.
"""

from collections.abc import Iterator

import pyarrow as pa

from raydd.data.distilled import DistilledRow, DistilledSet
from raydd.data.images import MAX_PIXELS
from raydd.data.preprocessing import Preprocessing
from raydd.data.rows import Reader
from raydd.data.sources import Source

IDS = "ids.parquet"
_COLUMNS = ("label", "slot", "curriculum", "origin", "source_id")
_BLOCK_ROWS = 1000  # images in memory at once


def read_ids(distilled: DistilledSet) -> pa.Table:
    """Every column of a set but the images, in stored order."""
    batches = [batch.select(_COLUMNS) for batch in distilled.tables()]
    return pa.Table.from_batches(batches).replace_schema_metadata(None)


def rebuild_rows(
    ids: pa.Table,
    core: DistilledSet | None,
    source: Source,
    preprocessing: Preprocessing,
    max_pixels: int = MAX_PIXELS,
) -> Iterator[DistilledRow]:
    """The rows of a set, in order; ``write_images`` makes shards of them.

    Args:
        ids: of :func:`read_ids`.
        core: a set that holds the synthetic images at their slots; None if there are none.
        source: the real images.
        preprocessing: of the set.
        max_pixels: cap of the decoder.
    Yields:
        A row per id, pixels as in the set that the ids were read from.
    Raises:
        ValueError: the core lacks a synthetic image, or the source a real one.
    """
    distilled = {}
    if core is not None:
        distilled = {(row.class_index, row.slot): row.pixels for row in core.rows()}
    for begin in range(0, ids.num_rows, _BLOCK_ROWS):
        rows = ids.slice(begin, _BLOCK_ROWS).to_pylist()
        names = [row["source_id"] for row in rows if row["origin"] == "real"]
        pixels = {}
        if names:
            real = Reader(source, preprocessing, max_pixels).fetch(names)
            pixels = dict(zip(names, real, strict=True))
        for row in rows:
            place = row["label"], row["slot"]
            if row["origin"] == "synthetic" and place not in distilled:
                raise ValueError(f"The core has no image for class {place[0]}, slot {place[1]}.")
            image = pixels[row["source_id"]] if row["origin"] == "real" else distilled[place]
            yield DistilledRow(image, *(row[name] for name in _COLUMNS))
