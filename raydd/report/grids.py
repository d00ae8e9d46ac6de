"""Pixels of the few images of a stage that a page shows."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from upath import UPath

from raydd.data.rows import pixel_row
from raydd.store.tables import part_files, read_table
from raydd.store.units import covering

GRID_CLASSES, GRID_SLOTS = 10, 10


def grid_slots(slots: range, is_real: bool, most: int = GRID_SLOTS) -> range:
    """The first slots; of selected real images, which lie in order of difficulty, the middle."""
    columns = min(len(slots), most)
    start = slots.start + ((len(slots) - columns) // 2 if is_real else 0)
    return range(start, start + columns)


def grid_caption(slots: range, is_real: bool) -> str:
    """What rows and columns are.

    Args:
        slots: all of the curriculum.
        is_real: whether they are images of the source.
    """
    caption = f"slots {slots.start} to {slots.stop - 1}, one row per class"
    return f"real images of median difficulty, the middle of {caption}" if is_real else caption


def read_grid(folder: UPath, classes: int, slots: range, resolution: int) -> np.ndarray:
    """Images of the first classes, by class and slot; black where a class has no such slot.

    Args:
        folder: of a stage of images.
        classes: how many.
        slots: of each.
        resolution: R, side of the images, pixels.
    Returns:
        uint8 [classes, slots, R, R, 3].
    """
    images = np.zeros((classes, len(slots), resolution, resolution, 3), np.uint8)
    for path in covering(part_files(folder), range(classes)):
        for row in _shown(path, classes, slots):
            images[row["class_index"], row["slot"] - slots.start] = pixel_row(
                row["pixels"], resolution
            )
    return images


def _shown(path: UPath, classes: int, slots: range) -> list[dict[str, Any]]:
    """Rows of a part that a grid shows; pixels are read only where there are any."""

    def pick(table: pa.Table) -> pa.Table:
        slot = table["slot"]
        inside = pc.and_(pc.greater_equal(slot, slots.start), pc.less(slot, slots.stop))
        return table.filter(pc.and_(pc.less(table["class_index"], classes), inside))

    if not pick(read_table(path, ["class_index", "slot"])).num_rows:
        return []
    return pick(read_table(path, ["class_index", "slot", "pixels"])).to_pylist()
