"""The card and the manifest: read by others without a word, and without a place on this machine."""

import json
import logging
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from raydd.data.card import Card, render_card, write_card
from raydd.data.distilled import DistilledInfo, DistilledRow, read_distilled
from raydd.data.distilled_writer import seal, write_images
from raydd.data.local_paths import without_local_paths
from raydd.data.preprocessing import Preprocessing
from small_sets import CLASSES, picture

CONFIG = {
    "dataset": {"root": "/data/me/my cifar", "classes_file": "C:\\Users\\me\\names.txt"},
    "teacher": {"checkpoint": Path("/home/me/r18.pth"), "recipe": {"epochs": 3, "lr": 0.1}},
    "core": ["~/runs/core/distilled", None],
    "storage": "s3://bucket/me",
}
CUT = {
    "dataset": {"root": "my cifar", "classes_file": "names.txt"},
    "teacher": {"checkpoint": "r18.pth", "recipe": {"epochs": 3, "lr": 0.1}},
    "core": ["distilled", None],
    "storage": "s3://bucket/me",
}


def write(folder: Path, licence: str = "mit") -> DistilledInfo:
    rows = [DistilledRow(picture(i), i % 3, i // 3, source_id=f"cat/{i}.jpg") for i in range(6)]
    counts = write_images(folder, iter(rows), num_rows=6, class_names=CLASSES, resolution=12)
    card = Card("demo", "ccfs", "tiny demo", licence, CONFIG)
    write_card(folder, card, class_names=CLASSES, counts=counts, resolution=12)
    preprocessing = Preprocessing(12, 12, (0.5, 0.4, 0.3), (0.2, 0.2, 0.2))
    info = DistilledInfo(CLASSES, preprocessing, counts, CONFIG, {}, {"run": 0}, {}, {})
    return seal(folder, info)


def header(text: str) -> dict[str, Any]:
    return yaml.safe_load(text.split("---\n", 2)[1])


def test_the_card_loads_without_a_warning(tmp_path: Path, caplog: Any, recwarn: Any) -> None:
    datasets = pytest.importorskip("datasets")
    write(tmp_path / "set")
    datasets.logging.enable_propagation()
    with caplog.at_level(logging.WARNING):
        loaded = datasets.load_dataset(str(tmp_path / "set"), cache_dir=str(tmp_path / "cache"))
    assert loaded["train"].num_rows == 6
    assert caplog.records == []
    assert [str(w.message) for w in recwarn if "datasets" in str(w.filename)] == []


def test_the_header_knows_the_size_of_the_data(tmp_path: Path) -> None:
    write(tmp_path)
    info = header((tmp_path / "README.md").read_text())["dataset_info"]
    files = list((tmp_path / "data").iterdir())
    assert info["download_size"] == sum(file.stat().st_size for file in files)
    (split,) = info["splits"]
    assert split["num_examples"] == 6
    assert split["num_bytes"] == info["dataset_size"]
    assert split["num_bytes"] == pytest.approx(pq.read_table(files[0]).nbytes, rel=0.2)


def test_the_hub_finds_nothing_to_object_to(tmp_path: Path) -> None:
    """What its validation asks of the header, without the network."""
    hub = pytest.importorskip("huggingface_hub")
    write(tmp_path, "ImageNet terms: research only")
    data = hub.DatasetCard.load(tmp_path / "README.md").data.to_dict()
    assert data["license"] == "other"
    assert data["license_name"] == "imagenet-terms-research-only"
    assert data["task_categories"] == ["image-classification"]
    assert data["size_categories"] == ["n<1K"]
    assert data["pretty_name"] == "demo"
    assert all(isinstance(tag, str) for tag in data["tags"])


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        ("CC BY-NC 4.0", {"license": "cc-by-nc-4.0"}),
        ("MIT License", {"license": "mit"}),
        ("Apache 2.0", {"license": "apache-2.0"}),
        ("unknown", {"license": "unknown"}),
        ("", {"license": "unknown"}),
        ("my own terms", {"license": "other", "license_name": "my-own-terms"}),
    ],
)
def test_a_licence_is_one_that_the_hub_knows_or_other(licence: str, expected: dict) -> None:
    text = render_card(
        Card("x", "ccfs", "demo", licence), class_names=["a"], counts=[1], resolution=8
    )
    found = header(text)
    assert {key: found[key] for key in ("license", "license_name") if key in found} == expected


@pytest.mark.parametrize(
    ("count", "word"),
    [(999, "n<1K"), (1000, "1K<n<10K"), (2_000_000, "1M<n<10M"), (20_000_000, "10M<n<100M")],
)
def test_the_size_category_is_that_of_the_images(count: int, word: str) -> None:
    text = render_card(Card("x", "m", "d", "mit"), class_names=["a"], counts=[count], resolution=8)
    assert header(text)["size_categories"] == [word]


def test_no_place_on_this_machine_leaves_with_the_product(tmp_path: Path) -> None:
    info = write(tmp_path)
    for name in ("README.md", "raydd.json"):
        text = (tmp_path / name).read_text()
        assert "/data/me" not in text
        assert "/home" not in text
        assert "Users" not in text
        assert "~" not in text
        assert str(tmp_path) not in text
        assert "s3://bucket/me" in text
    assert json.loads((tmp_path / "raydd.json").read_text())["config"] == CUT
    assert info == read_distilled(tmp_path, verify=True).info


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("/data/cifar10/", "cifar10"),
        ("/", "(local)"),
        ("~", "(local)"),
        ("~me", "(local)"),
        ("~/data", "data"),
        ("file:///data/x", "x"),
        ("zip://a.png::/home/me/b.zip", "zip://a.png::b.zip"),
        ("\\\\host\\share\\set", "set"),
        ("hf://datasets/uoft-cs/cifar10", "hf://datasets/uoft-cs/cifar10"),
        ("memory://x/y", "memory://x/y"),
        ("runs/mine", "runs/mine"),
        ("../up", "../up"),
        ("", ""),
        (0.5, 0.5),
        (None, None),
    ],
)
def test_absolute_local_paths_are_cut_to_their_last_part(value: Any, expected: Any) -> None:
    before = {"a": value, "b": [{"c": value}]}
    assert without_local_paths(before) == {"a": expected, "b": [{"c": expected}]}
    assert before == {"a": value, "b": [{"c": value}]}
