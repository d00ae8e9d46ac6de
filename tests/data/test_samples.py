"""Samples of a distilled set are the right images, and of large sets few row groups are read."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from upath import UPath

from raydd.data.distilled import read_distilled
from raydd.data.samples import read_samples
from small_trials import write_distilled


def first_two(slots: range, is_real: bool) -> range:
    return slots[:2]


def test_every_sample_is_its_class_slot_and_curriculum(tmp_path: Path) -> None:
    write_distilled(tmp_path / "set", ipc=6)
    samples = read_samples(read_distilled(UPath(tmp_path / "set")), 2, first_two)
    assert [(s.curriculum, s.slots, s.shown) for s in samples] == [
        (0, range(3), range(2)), (1, range(3, 6), range(3, 5)),
    ]  # fmt: skip
    for sample in samples:
        assert sample.pixels.shape == (2, 2, 8, 8, 3)
        for label in range(2):
            for column, slot in enumerate(sample.shown):
                assert (sample.pixels[label, column] == (label, slot, sample.curriculum)).all()


def test_real_curricula_are_known(tmp_path: Path) -> None:
    write_distilled(tmp_path / "set", ipc=4, real=2)
    samples = read_samples(read_distilled(UPath(tmp_path / "set")), 3, lambda slots, real: slots)
    assert [sample.is_real for sample in samples] == [False, True]


def test_images_are_read_only_from_groups_that_hold_a_chosen_one(
    tmp_path: Path, monkeypatch
) -> None:
    classes = tuple(f"class {i}" for i in range(250))  # five row groups of 100 in two slots
    write_distilled(tmp_path / "set", ipc=2, classes=classes)
    read = []
    whole = pq.ParquetFile.read_row_group

    def spy(self, group, columns):
        read.append((group, tuple(columns)))
        return whole(self, group, columns)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", spy)
    samples = read_samples(read_distilled(UPath(tmp_path / "set")), 5, lambda slots, real: slots)
    assert [group for group, columns in read if columns == ("image",)] == [0, 2]
    assert (samples[1].pixels[4, 0] == (4, 1, 1)).all()
    assert samples[0].pixels.dtype == np.uint8
