"""Units of a stage: pieces of work that are a file when they are finished and never redone."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

from upath import UPath


class Named(Protocol):
    """A unit; its name is that of its file and unique within the stage."""

    @property
    def name(self) -> str:
        """Name without ending."""


NamedUnit = TypeVar("NamedUnit", bound=Named)


def unit_path(folder: str, unit: Named) -> UPath:
    """The part file of a finished unit."""
    return UPath(folder) / "parts" / f"{unit.name}.parquet"


def unfinished(folder: str, units: Sequence[NamedUnit], rank: int, world: int) -> list[NamedUnit]:
    """The units that a worker still has to do.

    Args:
        folder: stage folder.
        units: all units of the stage, in an order that every worker agrees on.
        rank: of the worker.
        world: number of workers.
    """
    return [unit for unit in units[rank::world] if not unit_path(folder, unit).exists()]
