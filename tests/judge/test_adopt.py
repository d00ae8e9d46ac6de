"""Adopted sets: order, slots and counts are kept; broken images are named; parts are not redone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from raydd.data.any_set import open_any_set
from raydd.data.images import encode_png
from raydd.data.preprocessing import Preprocessing
from raydd.data.sources.counted import CountedSource
from raydd.engine.passes.stream import DataConfig
from raydd.errors import Refused
from raydd.judge import adopt as adopt_module
from raydd.judge.adopt import adopt
from raydd.store.images import load_pixels
from raydd.store.tables import part_files, read_table
from small_engine import make_engine
from small_sets import CLASSES, picture

PREPROCESSING = Preprocessing(12, 14, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))


def write_folders(root: Path, counts: list[int]) -> Path:
    for number, count in enumerate(counts):
        (root / f"{number:05d}").mkdir(parents=True)
        for slot in range(count):
            content = encode_png(picture(10 * number + slot))
            (root / f"{number:05d}" / f"{slot:05d}.png").write_bytes(content)
    return root


def take(folder: Path, storage: Path):
    given = open_any_set(str(folder), CLASSES, "image", "label")
    real, data = CountedSource(len(CLASSES), 9), DataConfig(max_pixels=10_000)
    engine = replace(make_engine(storage, source=real, data=data), preprocessing=PREPROCESSING)
    return adopt(engine, given)


def test_order_slots_and_unequal_counts_are_kept(tmp_path):
    found = take(write_folders(tmp_path / "set", [2, 0, 3]), tmp_path)
    assert found.summary["counts"] == [2, 0, 3]
    assert found.summary["slots"] == [0, 3]
    assert (found.summary["resized"], found.summary["sizes"]) == (0, {"12 x 12": 5})
    images = load_pixels(found.folder, 12)
    assert images.labels.tolist() == [0, 0, 2, 2, 2]
    assert np.array_equal(images.images[3].permute(1, 2, 0).numpy(), picture(21))
    slots = [s for path in part_files(found.folder) for s in read_table(path)["slot"].to_pylist()]
    assert slots == [0, 1, 0, 1, 2]
    files = (tmp_path / "set").glob("*/*.png")
    assert found.summary["bytes"] == sum(file.stat().st_size for file in files)


def test_images_of_another_size_are_resized_and_counted(tmp_path):
    folder = write_folders(tmp_path / "set", [2, 1, 1])
    (folder / "00001" / "large.png").write_bytes(encode_png(picture(3, 20, 30)))
    found = take(folder, tmp_path)
    assert found.summary["resized"] == 1
    assert found.summary["sizes"] == {"12 x 12": 4, "30 x 20": 1}
    assert load_pixels(found.folder, 12).images.shape == (5, 3, 12, 12)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "zero bytes"),
        (b"8BPS", "not an image"),
        (encode_png(picture(0))[:200], "cannot be decoded"),
    ],
)
def test_a_broken_image_is_refused_by_name(tmp_path, content, words):
    folder = write_folders(tmp_path / "set", [1, 1, 1])
    (folder / "00002" / "bad.png").write_bytes(content)
    with pytest.raises(Refused, match=rf"set: 00002/bad\.png cannot be used: .*{words}"):
        take(folder, tmp_path)


def test_a_set_of_empty_folders_is_refused(tmp_path):
    with pytest.raises(Refused, match="holds no image"):
        take(write_folders(tmp_path / "set", [0, 0, 0]), tmp_path)


def test_a_killed_adoption_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(adopt_module, "_PART_ROWS", 2)
    folder = write_folders(tmp_path / "set", [2, 2, 1])
    first = take(folder, tmp_path)
    whole = load_pixels(first.folder, 12).images
    parts = part_files(first.folder)
    assert len(parts) == 3
    parts[1].unlink()
    (first.folder / "manifest.json").unlink()
    kept = parts[0].stat().st_mtime_ns
    again = take(folder, tmp_path)
    assert again.summary == first.summary
    assert parts[0].stat().st_mtime_ns == kept
    assert load_pixels(again.folder, 12).images.equal(whole)
