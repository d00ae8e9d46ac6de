"""Units of a stage: pieces of work that are a file when they are finished and never redone."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

import pyarrow as pa
from upath import UPath

from raydd.data.rows import image_table

if TYPE_CHECKING:  # processes that only decode do not import torch
    from torch import Tensor


class Named(Protocol):
    """A unit; its name is that of its file and unique within the stage."""

    @property
    def name(self) -> str:
        """Name without ending."""


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


NamedUnit = TypeVar("NamedUnit", bound=Named)


def unit_path(folder: str, unit: Named) -> UPath:
    """The part file of a finished unit."""
    return UPath(folder) / "parts" / f"{unit.name}.parquet"


def unfinished(folder: UPath, units: Sequence[NamedUnit]) -> list[NamedUnit]:
    """The units of a stage that have no part file yet, in their order."""
    done = {path.stem for path in (folder / "parts").glob("*.parquet")}  # one listing for all
    return [unit for unit in units if unit.name not in done]


def plan_units(
    num_classes: int,
    slots: range,
    batch_size: int,
    start_ids: Sequence[Sequence[str]] | None,
    by_class: bool = False,
) -> tuple[Unit, ...]:
    """Cut a curriculum into batches.

    Args:
        num_classes: C.
        slots: the curriculum's slots.
        batch_size: B; a batch holds as many classes as fit, and as many slots as then still fit.
        start_ids: per class, one id per slot of the curriculum; None where there are none.
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
            slots.start,
            start_ids,
        )
        for first_slot in range(slots.start, slots.stop, depth)
        for first_class in range(0, num_classes, block)
    )


def _unit(
    slots: range, classes: range, first_slot: int, start_ids: Sequence[Sequence[str]] | None
) -> Unit:
    pairs = [(slot, label) for slot in slots for label in classes]
    ids = [start_ids[label][slot - first_slot] for slot, label in pairs] if start_ids else []
    return Unit(
        f"slot{slots.start:05d}-class{classes.start:05d}",
        tuple(slot for slot, _ in pairs),
        tuple(label for _, label in pairs),
        tuple(ids),
    )


def covering(files: Iterable[UPath], labels: Iterable[int]) -> list[UPath]:
    """The files of units that hold some classes: of all others, not even the footer is read.

    Args:
        files: of all units of a stage; the name of each ends with its first class.
        labels: classes asked for.
    """
    paths = sorted(files, key=lambda path: path.name)
    first = {path: int(path.stem.rpartition("class")[2]) for path in paths}
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
