"""The distilled set: exact, repeatable, readable by others, and honest about changes."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from upath import UPath

import raydd
from raydd.data import distilled_writer
from raydd.data.card import Card, render_card, write_card
from raydd.data.classes import check_class_order, class_order_digest, read_class_names
from raydd.data.distilled import DistilledInfo, DistilledRow, read_distilled
from raydd.data.distilled_writer import seal, write_images
from raydd.data.export import export_imagefolder
from raydd.data.preprocessing import Preprocessing
from small_sets import CLASSES, picture

PREPROCESSING = Preprocessing(12, 12, (0.5, 0.4, 0.3), (0.2, 0.2, 0.2))
CARD = Card(
    "demo-ipc4", "curricular", "tiny demo", "mit", {"ipc": 4, "steps": (1, 2)}, {"top1": 88}
)


def rows(per_class: int = 4) -> Iterator[DistilledRow]:
    for slot in range(per_class):
        for class_index in range(len(CLASSES)):
            is_real = slot == 0
            yield DistilledRow(
                picture(10 * class_index + slot),
                class_index,
                slot,
                slot // 2,
                "real" if is_real else "synthetic",
                f"cat/{slot}.jpg" if is_real else None,
            )


def write(folder: Path | UPath | str, per_class: int = 4) -> DistilledInfo:
    counts = write_images(
        folder, rows(per_class), num_rows=3 * per_class, class_names=CLASSES, resolution=12
    )
    write_card(folder, CARD, class_names=CLASSES, counts=counts, resolution=12)
    info = DistilledInfo(
        CLASSES, PREPROCESSING, counts, {"method": {"ipc": per_class}}, {"raydd": "0.1.0"},
        {"run": 0}, {"shortfall": []}, {},
    )  # fmt: skip
    return seal(folder, info)


@pytest.mark.parametrize("shard_bytes", [1, 3 * 12 * 12 * 5, 1 << 28])
@pytest.mark.parametrize("place", ["local", "memory"])
def test_what_was_written_is_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shard_bytes: int, place: str
) -> None:
    monkeypatch.setattr(distilled_writer, "SHARD_PIXEL_BYTES", shard_bytes)
    folder = str(tmp_path) if place == "local" else f"memory://distilled-{tmp_path.name}"
    info = write(folder)
    read = read_distilled(folder, verify=True)
    assert read.info == info
    assert info.counts == (4, 4, 4)
    for found, expected in zip(read.rows(), rows(), strict=True):
        np.testing.assert_array_equal(found.pixels, expected.pixels)
        assert found[1:] == expected[1:]
    images, labels, slots, curricula = read.arrays()
    assert images.shape == (12, 3, 12, 12)
    np.testing.assert_array_equal(images[1].transpose(1, 2, 0), picture(10))
    np.testing.assert_array_equal(labels, [0, 1, 2] * 4)
    np.testing.assert_array_equal(slots, np.repeat(np.arange(4), 3))
    np.testing.assert_array_equal(curricula, np.repeat([0, 0, 1, 1], 3))


@settings(max_examples=15, deadline=None)
@given(num_rows=st.integers(1, 250), per_shard=st.integers(1, 120))
def test_any_number_of_rows_fits_any_shard_size(
    tmp_path_factory: pytest.TempPathFactory, num_rows: int, per_shard: int
) -> None:
    folder = tmp_path_factory.mktemp("set")
    pixels = np.zeros((2, 2, 3), np.uint8)
    many = (DistilledRow(pixels, 0, slot) for slot in range(num_rows))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distilled_writer, "SHARD_PIXEL_BYTES", per_shard * 12)
        assert write_images(
            folder, many, num_rows=num_rows, class_names=["a"], resolution=2
        ) == (num_rows,)  # fmt: skip
    files = sorted((folder / "data").iterdir())
    assert len(files) == -(-num_rows // per_shard)
    assert files[0].name == f"train-00000-of-{len(files):05d}.parquet"
    slots = [slot for file in files for slot in pq.read_table(file)["slot"].to_pylist()]
    assert slots == list(range(num_rows))


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    assert write(tmp_path / "a").files == write(tmp_path / "b").files
    manifests = [(tmp_path / name / "raydd.json").read_bytes() for name in "ab"]
    assert manifests[0] == manifests[1]


def test_the_manifest_says_what_the_set_is(tmp_path: Path) -> None:
    write(tmp_path)
    record = json.loads((tmp_path / "raydd.json").read_text())
    assert record["class_names"] == list(CLASSES)
    assert record["class_order"] == class_order_digest(CLASSES)
    assert record["num_images"] == 12
    assert Preprocessing.from_json(record["preprocessing"]) == PREPROCESSING
    assert sorted(record["files"]) == ["README.md", "data/train-00000-of-00001.parquet"]


def test_hugging_face_reads_pil_images_and_class_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "set")
    datasets = pytest.importorskip("datasets")
    loaded = datasets.load_dataset(
        str(tmp_path / "set"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert loaded.num_rows == 12
    assert loaded.features["label"].names == list(CLASSES)
    assert isinstance(loaded[5]["image"], Image.Image)
    np.testing.assert_array_equal(np.asarray(loaded[5]["image"]), picture(21))
    assert (loaded[0]["origin"], loaded[0]["source_id"]) == ("real", "cat/0.jpg")
    assert loaded[5]["source_id"] is None


def test_a_shard_without_its_card_still_says_what_its_columns_are(tmp_path: Path) -> None:
    info = write(tmp_path)
    shard = next(path for path in info.files if path.endswith(".parquet"))
    metadata = json.loads(pq.read_schema(tmp_path / shard).metadata[b"huggingface"])
    features = metadata["info"]["features"]
    assert features["image"] == {"_type": "Image"}
    assert features["label"] == {"names": list(CLASSES), "_type": "ClassLabel"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "README.md").write_text("other"), "README.md has changed"),
        (lambda folder: (folder / "README.md").unlink(), "README.md is missing"),
        (lambda folder: (folder / "data/train-9.parquet").touch(), "train-9.parquet was added"),
    ],
)
def test_verification_names_the_file_that_changed(
    tmp_path: Path, change: object, message: str
) -> None:
    write(tmp_path)
    change(tmp_path)  # type: ignore[operator]
    read_distilled(tmp_path)
    with pytest.raises(ValueError, match=message):
        read_distilled(tmp_path, verify=True)


def test_an_unfinished_damaged_or_foreign_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no raydd\.json"):
        read_distilled(tmp_path / "nowhere")
    write_images(tmp_path, rows(), num_rows=12, class_names=CLASSES, resolution=12)
    with pytest.raises(ValueError, match=r"has no raydd\.json"):
        read_distilled(tmp_path)
    (tmp_path / "raydd.json").write_text('{"format": 99}')
    with pytest.raises(ValueError, match="format 99"):
        read_distilled(tmp_path)
    (tmp_path / "raydd.json").write_text('{"format": 1}')
    with pytest.raises(ValueError, match="lacks the field 'class_names'"):
        read_distilled(tmp_path)
    (tmp_path / "raydd.json").write_text("{")
    with pytest.raises(ValueError, match="damaged"):
        read_distilled(tmp_path)


def test_nothing_finished_or_foreign_is_written_over(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(ValueError, match="already holds a finished"):
        write(tmp_path)
    (tmp_path / "raydd.json").unlink()
    write(tmp_path)  # its own unfinished shards may be written again: that is how a run resumes
    (tmp_path / "raydd.json").unlink()
    (tmp_path / "data/train-00000-of-00009.parquet").touch()
    with pytest.raises(ValueError, match="name an empty folder"):
        write(tmp_path)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (DistilledRow(np.zeros((3, 12, 12), np.uint8), 0, 0), r"not uint8 \[12, 12, 3\]"),
        (DistilledRow(np.zeros((12, 12, 3), np.float32), 0, 0), "is float32"),
        (DistilledRow(picture(0), 3, 0), "class_index 3, not one of 0..2"),
        (DistilledRow(picture(0), 0, 0, 0, "fake"), "origin 'fake'"),
        (DistilledRow(picture(0), 1, 3), "slot 3 of class 1 a second time"),
    ],
)
def test_a_row_that_does_not_fit_is_refused(
    tmp_path: Path, row: DistilledRow, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        write_images(
            tmp_path, [*rows(), row], num_rows=13, class_names=CLASSES, resolution=12
        )  # fmt: skip


@pytest.mark.parametrize("num_rows", [11, 13])
def test_a_wrong_number_of_rows_is_refused(tmp_path: Path, num_rows: int) -> None:
    with pytest.raises(ValueError, match=f"announced with {num_rows} rows"):
        write_images(tmp_path, rows(), num_rows=num_rows, class_names=CLASSES, resolution=12)


def test_a_shard_with_another_class_order_is_refused(tmp_path: Path) -> None:
    write(tmp_path)
    manifest = tmp_path / "raydd.json"
    record = json.loads(manifest.read_text())
    record["class_names"] = ["ant", "cat", "bee"]
    manifest.write_text(json.dumps(record))
    with pytest.raises(ValueError, match="position 1: expected 'cat', found 'bee'"):
        read_distilled(tmp_path).arrays()


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (["a", "c", "b"], "the teacher differs at position 1: expected 'b', found 'c'"),
        (["a", "b"], r"position 2: expected 3 classes, found 2 \('c' is only in the expected"),
        (["a", "b", "c", "d"], r"position 3: .* \('d' is only in the found list\)"),
    ],
)
def test_class_order_errors_name_the_first_difference(found: list[str], message: str) -> None:
    check_class_order(["a", "b", "c"], ["a", "b", "c"], "the teacher")
    with pytest.raises(ValueError, match=message):
        check_class_order(["a", "b", "c"], found, "the teacher")


def test_class_lists_are_read_or_refused(tmp_path: Path) -> None:
    text, listed = tmp_path / "classes.txt", tmp_path / "class_names.json"
    text.write_text("tench\n\ngreat white shark\n")
    listed.write_text('["tench", "great white shark"]')
    assert read_class_names(text) == read_class_names(str(listed)) == ("tench", "great white shark")
    text.write_text("tench\ntench\n")
    with pytest.raises(ValueError, match="'tench' twice"):
        read_class_names(text)
    listed.write_text('{"0": "tench"}')
    assert read_class_names(listed) == ("tench",)
    listed.write_text('{"1": "tench"}')
    with pytest.raises(ValueError, match="must number its 1 names from 0 to 0, each once"):
        read_class_names(listed)
    listed.write_text('"tench"')
    with pytest.raises(ValueError, match="json list of names"):
        read_class_names(listed)
    with pytest.raises(ValueError, match="cannot be read"):
        read_class_names(tmp_path / "none.txt")


def test_export_copies_pixels_into_numbered_folders(tmp_path: Path) -> None:
    write(tmp_path / "set")
    assert export_imagefolder(tmp_path / "set", tmp_path / "out") == 12
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "00000", "00001", "00002", "class_names.json",
    ]  # fmt: skip
    with Image.open(tmp_path / "out/00002/00003.png") as image:
        np.testing.assert_array_equal(np.asarray(image), picture(23))
    with pytest.raises(ValueError, match="is not empty"):
        export_imagefolder(tmp_path / "set", tmp_path / "out")


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        ("CC-BY-4.0", {"license": "cc-by-4.0"}),
        (
            "ImageNet terms: non-commercial",
            {"license": "other", "license_name": "imagenet-terms-non-commercial"},
        ),
    ],
)
def test_the_card_is_valid_yaml_with_the_source_licence(licence: str, expected: dict) -> None:
    names = ["yes", "null", "a: b", "4", "\u00e9clair"]
    card = Card("x", "ccfs", "demo", licence)
    text = render_card(card, class_names=names, counts=[2] * 5, resolution=8)
    _, header, body = text.split("---\n", 2)
    parsed = yaml.safe_load(header)
    assert {key: parsed[key] for key in ("license", "license_name") if key in parsed} == expected
    labels = parsed["dataset_info"]["features"][1]["dtype"]["class_label"]["names"]
    assert labels == {str(index): name for index, name in enumerate(names)}
    assert parsed["size_categories"] == ["n<1K"]
    assert "Not measured yet" in body
    assert licence in body


def test_the_card_names_the_generator_and_its_licence() -> None:
    card = Card("x", "acs", "demo", "mit", generator="DiT-XL", generator_licence="cc-by-nc-4.0")
    text = render_card(card, class_names=CLASSES, counts=[1] * 3, resolution=8)
    _, header, body = text.split("---\n", 2)
    assert yaml.safe_load(header)["license_name"] == "mit-and-cc-by-nc-4-0"
    assert "Sampled from: DiT-XL. Its licence: cc-by-nc-4.0; they inherit its terms, too." in body


def test_torch_dataset_gives_images_and_labels(tmp_path: Path) -> None:
    write(tmp_path)
    for _ in range(2):  # twice: a submodule of the same name would hide the function
        dataset = raydd.load(tmp_path)
    assert len(dataset) == len(list(dataset)) == 12
    image, label = dataset[5]
    assert label == 2
    np.testing.assert_array_equal(np.asarray(image), picture(21))
    assert dataset.classes == list(CLASSES)
    arrays = raydd.load(str(tmp_path), transform=np.asarray, verify=True)
    np.testing.assert_array_equal(arrays[0][0], picture(0))


def test_importing_the_data_floor_loads_neither_torch_nor_ray() -> None:
    code = (
        "import sys, raydd, raydd.data.sources, raydd.data.export, raydd.data.card,"
        "raydd.data.distilled_writer; print(sorted({'torch', 'ray', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
