"""Units of a stage: independent pieces of work, and the one rule of which of them are done.

A unit leaves files; one of them, its marker, is written last and whole. A unit is done when its
marker is there, and is then never redone: not by this run, nor by the next one after a kill.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import pyarrow as pa
from upath import UPath

from raydd.data.rows import image_table

if TYPE_CHECKING:  # processes that only decode do not import torch
    from torch import Tensor


AnyUnit = TypeVar("AnyUnit")


def _own_name(unit: Any) -> str:
    return str(unit.name)


@dataclass(frozen=True)
class Marker:
    """Where the markers of a stage's units lie.

    Attributes:
        pattern: path below the stage's folder; ``{}`` stands for the unit's name.
    """

    pattern: str

    def path(self, folder: UPath | str, name: str) -> UPath:
        """The marker of a unit."""
        return UPath(folder) / self.pattern.format(name)

    def found(self, folder: UPath) -> set[str]:
        """Names of the units that are done; one listing for all."""
        after = self.pattern.partition("{}")[2]
        paths = (str(path) for path in folder.glob(self.pattern.format("*")))
        return {path[: len(path) - len(after)].rpartition("/")[2] for path in paths}

    def left(
        self, folder: UPath, units: Iterable[AnyUnit], name: Callable[[AnyUnit], str] = _own_name
    ) -> list[AnyUnit]:
        """The units that are not done, in their order."""
        done = self.found(folder)
        return [unit for unit in units if name(unit) not in done]


PART = Marker("parts/{}.parquet")


@dataclass(frozen=True)
class Unit:
    """One batch of images that are made together.

    Attributes:
        name: names the file, and the draws that a batch makes together.
        slots: slot of each image.
        labels: class of each image.
        start_ids: id of the real image that each image starts from; empty where there is none.
    """

    name: str
    slots: tuple[int, ...]
    labels: tuple[int, ...]
    start_ids: tuple[str, ...] = ()


def plan_units(
    num_classes: int,
    slots: range,
    batch_size: int,
    by_class: bool = False,
) -> tuple[Unit, ...]:
    """Cut a curriculum into batches.

    Args:
        num_classes: C.
        slots: the curriculum's slots.
        batch_size: B; a batch holds as many classes as fit, and as many slots as then still fit.
        by_class: the other way round: as many slots as fit, then as many classes.
    """
    if by_class:
        depth = min(batch_size, len(slots))
        block = max(1, min(batch_size // depth, num_classes))
    else:
        block = min(batch_size, num_classes)
        depth = max(1, batch_size // block)
    return tuple(
        _unit(
            range(first_slot, min(first_slot + depth, slots.stop)),
            range(first_class, min(first_class + block, num_classes)),
        )
        for first_slot in range(slots.start, slots.stop, depth)
        for first_class in range(0, num_classes, block)
    )


_NAME = re.compile("slot[0-9]+-class(?P<class>[0-9]+)")


def _unit(slots: range, classes: range) -> Unit:
    pairs = [(slot, label) for slot in slots for label in classes]
    return Unit(
        f"slot{slots.start:05d}-class{classes.start:05d}",
        tuple(slot for slot, _ in pairs),
        tuple(label for _, label in pairs),
    )


class ByClass(Protocol):
    """Strings of each class."""

    def __getitem__(self, label: int, /) -> Sequence[str]:
        """Those of one class."""


def name_starts(units: Iterable[Unit], ids: ByClass, first_slot: int) -> list[Unit]:
    """The units of a curriculum with the real images that they start from.

    Args:
        units: of :func:`plan_units`.
        ids: by class, one for each slot of the curriculum.
        first_slot: of the curriculum.
    """
    return [
        replace(
            unit,
            start_ids=tuple(
                ids[label][slot - first_slot]
                for slot, label in zip(unit.slots, unit.labels, strict=True)
            ),
        )
        for unit in units
    ]


def covering(files: Iterable[UPath], labels: Iterable[int]) -> list[UPath]:
    """The files of units that hold some classes: of all others, not even the footer is read.

    Args:
        files: of all units of a stage; the name of each ends with its first class. Files of real
            images, whose names say nothing, are all kept.
        labels: classes asked for.
    """
    paths = sorted(files, key=lambda path: path.name)
    names = {path: _NAME.fullmatch(path.stem) for path in paths}
    first = {path: int(name["class"]) for path, name in names.items() if name}
    if len(first) < len(paths):
        return paths
    starts = sorted(set(first.values()))
    wanted = {starts[bisect_right(starts, label) - 1] for label in labels}
    return [path for path in paths if first[path] in wanted]


def unit_table(unit: Unit, images: Tensor, curriculum: int) -> pa.Table:
    """Rows of a unit's synthetic images, uint8 [B, 3, R, R]."""
    return image_table(
        images.permute(0, 2, 3, 1).numpy(),
        unit.labels,
        unit.slots,
        curriculum,
        unit.start_ids or [None] * len(unit.labels),
        "synthetic",
    )
