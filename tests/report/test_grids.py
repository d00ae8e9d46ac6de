"""Pictures of a page are read out of the few files that hold them."""

from pathlib import Path

import numpy as np
import torch
from upath import UPath

from raydd.data.rows import image_table
from raydd.report.grids import read_grid
from raydd.store.tables import write_table
from raydd.store.units import PART, plan_units, unit_table


def test_a_grid_opens_no_file_of_other_classes(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    for unit in plan_units(40, range(4), 20):
        images = torch.zeros(len(unit.labels), 3, 2, 2, dtype=torch.uint8)
        images += torch.tensor(unit.labels, dtype=torch.uint8)[:, None, None, None]
        write_table(PART.path(UPath(tmp_path), unit.name), unit_table(unit, images, 0))
    for path in (tmp_path / "parts").glob("*-class00020.parquet"):
        path.write_bytes(b"no parquet")
    grid = read_grid(UPath(tmp_path), 10, range(1, 4), 2)
    assert grid.shape == (10, 3, 2, 2, 3)
    assert (grid == np.arange(10)[:, None, None, None, None]).all()


def test_a_grid_of_real_images_finds_them_wherever_they_lie(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    for part, label in enumerate([3, 1, 0, 2]):
        pixels = np.full((2, 2, 2, 3), label, np.uint8)
        table = image_table(pixels, [label] * 2, [0, 1], 0, ["a", "b"], "real")
        write_table(PART.path(UPath(tmp_path), f"{part:05d}"), table)
    grid = read_grid(UPath(tmp_path), 4, range(2), 2)
    assert (grid == np.arange(4)[:, None, None, None, None]).all()
