"""Pixels of the few images of a stage that a page shows."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from upath import UPath

from raydd.data.rows import pixel_row
from raydd.engine.tables import part_files, read_table


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
    for path in part_files(folder):
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
