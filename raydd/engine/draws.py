"""A seeded draw of stored images, read a part at a time."""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import torch
from upath import UPath

from raydd.engine.tables import count_rows, part_files, read_table
from raydd.ops.seeds import generator


def draw_rows(
    folders: Sequence[UPath], count: int, *seed_parts: str | int
) -> Iterator[tuple[np.ndarray, pa.Table]]:
    """Draw images without replacement from the ``parts`` of finished stages.

    Args:
        folders: of the stages; together they are one set.
        count: images to draw, 0 for all; a larger draw contains every smaller one.
        seed_parts: name of the draw.

    Yields:
        For each part that holds drawn images their positions in the set, rising, int64 [n], and
        their rows, in that order, with all columns.
    """
    paths = [path for folder in folders for path in part_files(folder)]
    sizes = [count_rows(path) for path in paths]
    drawn = np.arange(sum(sizes))
    if 0 < count < len(drawn):
        order = torch.randperm(len(drawn), generator=generator(*seed_parts)).numpy()
        drawn = np.sort(order[:count])
    begin = 0
    for path, size in zip(paths, sizes, strict=True):
        here = drawn[slice(*np.searchsorted(drawn, [begin, begin + size]))]
        if len(here):  # of other parts only the footer is read
            yield here, read_table(path).take(here - begin)
        begin += size
