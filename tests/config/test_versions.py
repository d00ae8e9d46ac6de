"""Copies of one data set: the same to the storage under a version, and told where they are not."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from upath import UPath

from raydd.config.dataset import DatasetConfig, open_sources
from raydd.config.describe import remember_data
from raydd.data.sources import hold_out_share
from raydd.data.sources.folders.layout import count_files
from small_sets import CLASSES, png, write_imagefolder, write_parquet, write_tar


def folders(root: Path) -> str:
    for split in ("train", "test"):
        write_imagefolder(root, per_class=4, split=split)
    return "imagefolder"


def listed(root: Path) -> str:
    for split in ("train", "test"):
        (root / split).mkdir(parents=True)
        for number in range(6):
            (root / split / f"{number}.png").write_bytes(png(number + len(split)))
        lines = [f"{number}.png,{CLASSES[number % 3]}" for number in range(6)]
        (root / split / "metadata.csv").write_text("\n".join(["file_name,label", *lines]))
    return "imagefolder"


def tables(root: Path) -> str:
    for split in ("train", "test"):
        write_parquet(root / f"{split}-0.parquet", [0, 1, 2] * 3, names=CLASSES)
    return "parquet"


def archives(root: Path) -> str:
    for split in ("train", "test"):
        members = []
        for row in range(6):
            members += [
                (f"{row}.png", png(row + len(split))),
                (f"{row}.cls", str(row % 3).encode()),
            ]
        write_tar(root / f"{split}-0.tar", members)
    (root / "classes.txt").write_text("\n".join(CLASSES))
    return "webdataset"


def prints(data: DatasetConfig) -> list[str]:
    return [source.fingerprint for source in open_sources(data)]


@pytest.fixture(params=[folders, listed, tables, archives], ids=lambda build: build.__name__)
def copies(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[DatasetConfig, DatasetConfig]:
    """One data set twice, the second time elsewhere and with files of another time."""
    build: Callable[[Path], str] = request.param
    kind = build(tmp_path / "first")
    shutil.copytree(tmp_path / "first", tmp_path / "second")
    for path in (tmp_path / "second").rglob("*"):
        os.utime(path, (1e9, 1e9))
    first = DatasetConfig(name="x", kind=kind, root=str(tmp_path / "first"))
    return first, replace(first, root=str(tmp_path / "second"))


def test_copies_under_one_version_are_the_same_data(
    copies: tuple[DatasetConfig, DatasetConfig],
) -> None:
    first, second = (prints(replace(data, version="2024-05")) for data in copies)
    assert first == second
    assert first[0] != first[1]
    for change in ({"version": "2024-06"}, {"name": "y"}, {"classes": list(CLASSES[:2])}):
        other = prints(replace(copies[1], **({"version": "2024-05"} | change)))
        assert set(other).isdisjoint(first)


def test_without_a_version_the_files_decide(copies: tuple[DatasetConfig, DatasetConfig]) -> None:
    plain, touched = map(prints, copies)
    named = prints(replace(copies[0], version="2024-05"))
    assert plain == prints(copies[0])
    assert set(plain).isdisjoint(named)
    assert set(plain).isdisjoint(touched)


def test_a_version_does_not_hide_that_images_are_missing(tmp_path: Path) -> None:
    data = DatasetConfig(name="x", kind=folders(tmp_path), root=str(tmp_path), version="1")
    before = prints(data)
    next((tmp_path / "train").rglob("*.png")).unlink()
    after = prints(data)
    assert after[0] != before[0]
    assert after[1] == before[1]


def test_a_version_has_a_folder_listed_no_more_often(tmp_path: Path) -> None:
    data = DatasetConfig(name="x", kind=folders(tmp_path), root=str(tmp_path), version="1")
    listed_before = count_files.cache_info().misses
    for source in open_sources(data):
        assert source.class_counts().tolist() == [4, 4, 4]
    assert count_files.cache_info().misses - listed_before == 2  # once for each split


def test_a_version_holds_for_one_layout_of_the_files(tmp_path: Path) -> None:
    data = DatasetConfig(name="x", kind=tables(tmp_path), root=str(tmp_path), version="1")
    before = prints(data)
    os.rename(tmp_path / "train-0.parquet", tmp_path / "train-1.parquet")
    after = prints(data)
    assert after[0] != before[0]
    assert after[1] == before[1]


def test_a_held_out_share_follows_the_version(
    copies: tuple[DatasetConfig, DatasetConfig],
) -> None:
    versions = [replace(data, version="1", split_test=None, holdout=0.5) for data in copies]
    assert prints(versions[0]) == prints(versions[1])
    whole = open_sources(replace(versions[0], split_test="test"))[0]
    assert prints(versions[0])[0] == hold_out_share(whole, 0.5, 0)[0].fingerprint


def test_a_run_remembers_its_data_and_says_when_they_are_others(tmp_path: Path) -> None:
    data = DatasetConfig(name="x", kind=tables(tmp_path / "data"), root=str(tmp_path / "data"))
    folder = UPath(tmp_path / "run")
    folder.mkdir()
    assert remember_data(folder, open_sources(data)) is None
    assert remember_data(folder, open_sources(data)) is None
    os.utime(tmp_path / "data" / "test-0.parquet", (1e9, 1e9))
    assert "dataset.version" in (remember_data(folder, open_sources(data)) or "")
    assert remember_data(folder, open_sources(data)) is None  # the new ones are its own now
