"""A few images of every curriculum of a distilled set, whatever its size: for pages and looks.

The small columns are read first; images are read only from the row groups that hold a chosen one.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from upath import UPath

from raydd.data.distilled import DistilledSet
from raydd.data.images import decode_rgb


class CurriculumSample(NamedTuple):
    """Some images of one curriculum.

    Attributes:
        curriculum: its number, from 0.
        is_real: whether they are images of the source.
        slots: all slots that the first classes have of it.
        shown: those of the pictures.
        pixels: uint8 [classes, shown slots, R, R, 3], RGB; black where a class has no such slot.
    """

    curriculum: int
    is_real: bool
    slots: range
    shown: range
    pixels: np.ndarray


class _Place(NamedTuple):
    shard: str
    group: int
    row: int
    label: int
    slot: int
    curriculum: int
    is_real: bool


def read_samples(
    distilled: DistilledSet, classes: int, choose: Callable[[range, bool], range]
) -> list[CurriculumSample]:
    """Read images of the first classes.

    Args:
        distilled: a finished set, local or in an object store.
        classes: how many classes at most.
        choose: from the slots of a curriculum and whether it is real to the slots to read.
    Returns:
        One sample per curriculum, in order.
    """
    classes = min(classes, len(distilled.info.class_names))
    places = [p for path in distilled.shards for p in _places(distilled.folder, path, classes)]
    samples = {number: _empty(distilled, number, places, classes, choose) for number in
               sorted({place.curriculum for place in places})}  # fmt: skip
    wanted: dict[str, dict[int, list[_Place]]] = {}
    for place in places:
        if place.slot in samples[place.curriculum].shown:
            wanted.setdefault(place.shard, {}).setdefault(place.group, []).append(place)
    for path, groups in wanted.items():
        with (distilled.folder / path).open("rb") as file:
            opened = pq.ParquetFile(file)
            for group, chosen in groups.items():
                images = opened.read_row_group(group, ["image"])["image"]
                for place in chosen:
                    sample = samples[place.curriculum]
                    column = sample.shown.index(place.slot)
                    encoded = images[place.row].as_py()["bytes"]
                    sample.pixels[place.label, column] = decode_rgb(encoded)
    return list(samples.values())


def _places(folder: UPath, path: str, classes: int) -> Iterator[_Place]:
    """Where the images of the first classes lie in a shard."""
    with (folder / path).open("rb") as file:
        opened = pq.ParquetFile(file)
        for group in range(opened.num_row_groups):
            table = opened.read_row_group(group, ["label", "slot", "curriculum", "origin"])
            rows = pc.indices_nonzero(pc.less(table["label"], classes))
            for index, row in zip(rows.to_pylist(), table.take(rows).to_pylist(), strict=True):
                is_real = row["origin"] == "real"
                yield _Place(
                    path, group, index, row["label"], row["slot"], row["curriculum"], is_real
                )


def _empty(
    distilled: DistilledSet,
    number: int,
    places: list[_Place],
    classes: int,
    choose: Callable[[range, bool], range],
) -> CurriculumSample:
    own = [place for place in places if place.curriculum == number]
    found = [place.slot for place in own]
    slots, is_real = range(min(found), max(found) + 1), own[0].is_real
    shown, side = choose(slots, is_real), distilled.info.preprocessing.resolution
    pixels = np.zeros((classes, len(shown), side, side, 3), np.uint8)
    return CurriculumSample(number, is_real, slots, shown, pixels)
