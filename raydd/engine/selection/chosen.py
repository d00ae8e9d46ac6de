"""What a selection's file holds: ids and places, read here and nowhere else."""

import numpy as np

from raydd.store.artifacts import Artifact
from raydd.store.tables import encode_places, read_table


def selected_ids(selection: Artifact, num_classes: int) -> list[list[str]]:
    """Ids of a selection by class, in the order of choice."""
    table = read_table(selection.folder / "selection.parquet", ["class_index", "id"])
    ids: list[list[str]] = [[] for _ in range(num_classes)]
    for label, name in zip(table["class_index"].to_pylist(), table["id"].to_pylist(), strict=True):
        ids[label].append(name)
    return ids


def _places(selection: Artifact) -> np.ndarray:
    table = read_table(selection.folder / "selection.parquet", ["part", "row"])
    return encode_places(table["part"].to_numpy(), table["row"].to_numpy())
