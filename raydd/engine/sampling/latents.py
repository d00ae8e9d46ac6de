"""Latents of sampled images, kept beside them in ``latents/``: later curricula stay away from them.

They are kept of every curriculum, needed or not: 8 KB beside 192 KB of pixels, and the artifact of
an unguided curriculum is the same for every guidance that follows it.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from upath import UPath

from raydd.data.rows import binary_column
from raydd.store.tables import read_table, write_table
from raydd.store.units import Unit, covering

FOLDER = "latents"


def write_latents(folder: UPath, unit: Unit, latents: Tensor) -> None:
    """Write a unit's latents, float16 [B, C, h, w], on the CPU."""
    columns = {
        "class_index": pa.array(unit.labels, pa.int32()),
        "slot": pa.array(unit.slots, pa.int32()),
        "latent": binary_column(latents.numpy()),
    }
    write_table(folder / FOLDER / f"{unit.name}.parquet", pa.table(columns))


def read_memory(
    folders: Sequence[str], labels: Sequence[int], shape: tuple[int, int, int]
) -> Tensor:
    """All latents of each label's class in some stages.

    Args:
        folders: of ``sample`` stages, each with equally many images of every class.
        labels: B classes.
        shape: (C, h, w).
    Returns:
        float32 [B, M, C, h, w], M the images per class of all the stages.
    """
    kept: dict[int, list[tuple[int, np.ndarray]]] = defaultdict(list)
    for folder in folders:
        for path in covering((UPath(folder) / FOLDER).glob("*.parquet"), labels):
            table = read_table(path)
            rows = zip(*(table[name] for name in ("class_index", "slot", "latent")), strict=True)
            for label, slot, latent in rows:
                values = np.frombuffer(latent.as_buffer(), np.float16).reshape(shape)
                kept[label.as_py()].append((slot.as_py(), values))
    ordered = {
        label: np.stack([latent for _, latent in sorted(kept[label], key=lambda pair: pair[0])])
        for label in set(labels)
    }
    return torch.from_numpy(np.stack([ordered[label] for label in labels])).float()
