"""What a selection's file holds: ids and places, written and read here and nowhere else."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from upath import UPath

from raydd.store.tables import encode_places, read_table, write_table

_FILE = "selection.parquet"
ROW_BYTES = 64  # of the file, for plans


def write_selection(folder: UPath, table: pa.Table) -> None:
    """Keep chosen images: class_index, rung, difficulty, part, row and id, by class and within a
    class in the order of choice.
    """
    write_table(folder / _FILE, table)


class SelectedIds:
    """Ids of a selection by class; lists are made when they are asked for: a pool may be millions.

    Args:
        folder: of the selection.
        num_classes: C.
    """

    def __init__(self, folder: UPath, num_classes: int) -> None:
        table = read_table(folder / _FILE, ["class_index", "id"])
        labels = table["class_index"].to_numpy()  # ascending
        self._ids, self._ends = table["id"], np.searchsorted(labels, np.arange(num_classes + 1))

    def __getitem__(self, label: int) -> list[str]:
        """The ids of a class, in the order of choice."""
        begin, end = self._ends[label : label + 2].tolist()
        return self._ids[begin:end].to_pylist()


def places(folder: UPath) -> np.ndarray:
    """Where the chosen images lie, int64 [N]; see :func:`raydd.store.tables.encode_places`."""
    table = read_table(folder / _FILE, ["part", "row"])
    return encode_places(table["part"].to_numpy(), table["row"].to_numpy())


def by_place(folder: UPath, first_slots: Sequence[int]) -> pa.Table:
    """The chosen images (id, class_index, slot) in the order in which they lie in their source.

    Args:
        folder: of the selection.
        first_slots: slot of the first image of each class; they count up in the order of choice.
    """
    table = read_table(folder / _FILE, ["class_index", "part", "row", "id"])
    labels = table["class_index"].to_numpy()
    within = np.arange(len(labels)) - np.searchsorted(labels, labels)
    slots = pa.array(np.asarray(first_slots, np.int64)[labels] + within)
    placed = table.append_column("slot", slots).sort_by(
        [("part", "ascending"), ("row", "ascending")]
    )
    return placed.select(["id", "class_index", "slot"])
