"""Stored images: draws are fixed by their name, nested, equal for any partition; few are held."""

import shutil

import numpy as np
import pyarrow as pa
import pytest
import torch
from upath import UPath

from raydd.store.images import HeldImages, draw_rows, load_pixels
from raydd.store.tables import write_table
from small_engine import write_images


@pytest.fixture
def write(tmp_path):
    def write_parts(name, *edges):
        (tmp_path / name / "parts").mkdir(parents=True)
        for i in range(len(edges) - 1):
            table = pa.table({"id": [f"image{n}" for n in range(edges[i], edges[i + 1])]})
            write_table(UPath(tmp_path / name / "parts" / f"{i:05d}.parquet"), table)
        return UPath(tmp_path / name)

    return write_parts


def drawn(folders, count, *parts):
    found = list(draw_rows(folders, count, *parts))
    positions = np.concatenate([positions for positions, _ in found]).tolist()
    ids = [name for _, table in found for name in table["id"].to_pylist()]
    assert ids == [f"image{position}" for position in positions]
    return positions


def test_a_draw_is_the_same_however_the_set_is_cut(write):
    cuts = [
        [write("a", 0, 90)],
        [write("b", 0, 1, 40, 90)],
        [write("c", 0, 50), write("d", 50, 90)],
    ]
    draws = [drawn(folders, 20, 3, "x") for folders in cuts]
    assert draws[0] == draws[1] == draws[2] == sorted(set(draws[0]))
    assert len(draws[0]) == 20
    assert drawn(cuts[0], 20, 4, "x") != draws[0]


def test_a_larger_draw_contains_a_smaller_one(write):
    folder = write("a", 0, 30, 90)
    assert set(drawn([folder], 10, "x")) < set(drawn([folder], 40, "x"))
    assert drawn([folder], 0, "x") == drawn([folder], 90, "x") == list(range(90))


@pytest.mark.parametrize("room", [1 << 20, 1000])
def test_few_images_are_read_once_and_many_at_every_walk(tmp_path, monkeypatch, room):
    folder = UPath(write_images(tmp_path / "images", 30))  # 768 bytes each
    monkeypatch.setattr("raydd.store.images._HELD_BYTES", room)
    held = HeldImages(folder, 16, torch.device("cpu"))
    first = list(held.batches(8))
    assert [len(labels) for _, labels in first] == [8, 8, 8, 6]
    whole = load_pixels(folder, 16)
    assert torch.equal(torch.cat([pixels for pixels, _ in first]), whole.images)
    assert torch.equal(torch.cat([labels for _, labels in first]), whole.labels)
    shutil.rmtree(folder)
    assert len(list(held.batches(8))) == (4 if room > 30 * 768 else 0)
