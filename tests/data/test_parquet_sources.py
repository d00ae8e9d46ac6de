"""Parquet sets as people have them: no image is lost or mislabelled in silence.

Every image is one colour, its class's, so that labels are checked by pixel.
"""

import io
import json
import os
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from upath import UPath

from raydd.data.images import decode_rgb, encode_png
from raydd.data.sources import Row, Source, open_source
from raydd.data.sources.parquet import rows as parquet_rows
from raydd.data.sources.parquet import scan as parquet_scan
from small_sets import CLASSES, all_rows, write_parquet

LABELS = [0, 1, 2] * 4
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def square(class_index: int) -> bytes:
    return encode_png(np.full((4, 4, 3), 100 * class_index, np.uint8))


def squares(labels: list[int]) -> list[bytes]:
    return [square(label) for label in labels]


def seen(row: Row) -> int:
    """The class that the pixels show."""
    return int(decode_rgb(row.image)[0, 0, 0]) // 100


def read(root: Path, split: str = "train", **options: Any) -> Source:
    return open_source("parquet", str(root), split, **options)


def check(source: Source, num_good: int) -> None:
    """So many good images, all rightly labelled, and all found again by their ids."""
    good = [row for row in all_rows(source) if row.reason is None]
    assert [row.class_index for row in good] == [seen(row) for row in good]
    assert source.fetch([row.id for row in good]) == {row.id: row.image for row in good}
    assert len(good) == num_good


def write(path: Path, labels: Any = LABELS, shown: list[int] = LABELS, **options: Any) -> Path:
    """Squares of the classes ``shown``, labelled as told."""
    write_parquet(path, labels, squares(shown), **{"names": CLASSES, **options})
    return path


def write_table(path: Path, columns: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def structs(contents: list[bytes | None], paths: list[str | None]) -> pa.Array:
    pairs = zip(contents, paths, strict=True)
    return pa.array([{"bytes": content, "path": path} for content, path in pairs], STRUCT)


def refusal(root: Path, split: str = "train", **options: Any) -> str:
    with pytest.raises(ValueError, match=r"^[^\n]*\.$") as caught:
        read(root, split, **options)
    return str(caught.value)


# Files that are not like the others


@pytest.mark.parametrize(
    ("columns", "word"),
    [
        (("img", "label"), "has no column 'image' (it has img, label)"),
        (("image", "y"), "has no column 'label' (it has image, y)"),
    ],
)
def test_a_shard_with_a_renamed_column_is_refused_by_name(
    tmp_path: Path, columns: tuple[str, str], word: str
) -> None:
    write(tmp_path / "data/train-0.parquet")
    write(tmp_path / "data/train-1.parquet", columns=columns)
    message = refusal(tmp_path)
    assert f"data/train-1.parquet {word}" in message
    assert "1 of the 2 files of the split 'train': rename its column" in message


def test_a_column_that_no_file_has_is_set_not_renamed(tmp_path: Path) -> None:
    for number in range(2):
        write(tmp_path / f"train-{number}.parquet", columns=("img", "label"))
    assert refusal(tmp_path).endswith(
        "so it is with 2 of the 2 files of the split 'train': set dataset.image_column."
    )


@pytest.mark.parametrize(
    ("image", "label", "words"),
    [
        ([1, 2], [0, 1], "'image' that holds int64, not encoded images"),
        ([b"a", b"b"], [[0, 2], [1]], "has several labels per image (its column 'label' holds"),
        ([b"a", b"b"], [{"fine": 0}, {"fine": 1}], "holds struct<fine: int64>, neither class"),
        ([b"a", b"b"], ["ant", "bee"], "train-1.parquet holds text in the column 'label', "),
        ([{"bytes": {"x": b"a"}}] * 2, [0, 1], "holds struct<bytes: struct<x: binary>>, not"),
    ],
)
def test_a_shard_with_other_types_is_refused_by_name(
    tmp_path: Path, image: list, label: list, words: str
) -> None:
    write(tmp_path / "train-0.parquet")
    write_table(tmp_path / "train-1.parquet", {"image": image, "label": label})
    message = refusal(tmp_path)
    assert words in message
    assert "train-1.parquet" in message


def test_unreadable_shards_are_counted_and_refused_by_name(tmp_path: Path) -> None:
    content = write(tmp_path / "train-0.parquet").read_bytes()
    (tmp_path / "train-1.parquet").write_bytes(content[: len(content) // 2])
    (tmp_path / "train-2.parquet").write_bytes(content[: len(content) // 2])
    message = refusal(tmp_path)
    assert "train-1.parquet is not a readable parquet file" in message
    assert "2 of the 3 files of the split 'train': fetch it again, or move it" in message


def test_damaged_labels_are_refused_by_name(tmp_path: Path) -> None:
    path = write(tmp_path / "train-0.parquet")
    chunk = pq.ParquetFile(path).metadata.row_group(1).column(2)
    content = bytearray(path.read_bytes())
    content[chunk.dictionary_page_offset : chunk.dictionary_page_offset + 8] = b"\xff" * 8
    path.write_bytes(content)
    assert "train-0.parquet has labels that cannot be read" in refusal(tmp_path)


@pytest.mark.parametrize("fate", ["gone", "cut", "shorter", "other columns"])
def test_a_file_lost_after_opening_counts_as_all_its_images(tmp_path: Path, fate: str) -> None:
    for number in range(2):
        write(tmp_path / f"train-{number}.parquet")
    source = read(tmp_path)
    lost = tmp_path / "train-1.parquet"
    if fate == "gone":
        lost.unlink()
    elif fate == "cut":
        lost.write_bytes(lost.read_bytes()[:300])
    elif fate == "shorter":
        write(lost, LABELS[:5], LABELS[:5])
    else:
        write(lost, columns=("img", "label"))
    rows = all_rows(source)
    assert [row.reason for row in rows if row.reason is not None] == [rows[-1].reason]
    assert (rows[-1].id, rows[-1].images) == ("train-1.parquet", 12)
    assert sum(row.images for row in rows) == 24


def damage_images(path: Path, group: int) -> None:
    chunk = pq.ParquetFile(path).metadata.row_group(group).column(0)
    with path.open("r+b") as file:
        file.seek(chunk.dictionary_page_offset)
        file.write(b"\xff" * 16)


@pytest.mark.parametrize("limit", [1 << 20, 3])
def test_a_damaged_row_group_counts_as_all_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    damage_images(write(tmp_path / "train-0.parquet", row_group=4), group=1)
    monkeypatch.setattr(parquet_rows, "MAX_LOST_ROWS", limit)
    rows = all_rows(read(tmp_path))
    lost = [row for row in rows if row.reason is not None]
    assert len(lost) == (4 if limit > 4 else 1)
    assert sum(row.images for row in lost) == 4
    assert sum(row.images for row in rows) == 12


# Class names


def test_shards_that_store_names_in_another_order_are_mapped_by_name(tmp_path: Path) -> None:
    write(tmp_path / "train-0.parquet")
    turned = [2 - label for label in LABELS]
    write(tmp_path / "train-1.parquet", LABELS, turned, names=CLASSES[::-1])
    write(tmp_path / "train-2.parquet", [0, 1], [1, 2], names=("bee", "cat"))
    source = read(tmp_path)
    assert source.class_names == CLASSES
    check(source, 26)
    np.testing.assert_array_equal(source.class_counts(), [8, 9, 9])


def test_a_split_that_stores_names_in_another_order_is_mapped_to_the_expected(
    tmp_path: Path,
) -> None:
    write(tmp_path / "train-0.parquet")
    write(tmp_path / "test-0.parquet", [0, 1, 2], [1, 2, 0], names=("bee", "cat", "ant"))
    check(read(tmp_path, "test", class_names=read(tmp_path).class_names), 3)


def test_images_of_a_class_that_is_not_expected_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "train-0.parquet")
    names = ("ant", "bee", "dog")
    write(tmp_path / "train-1.parquet", names=names)
    message = refusal(tmp_path)
    assert "train-1.parquet has images of the class 'dog', which is none of the 3" in message
    # A name without an image is no reason.
    write(tmp_path / "train-1.parquet", [0, 1, 1], [0, 1, 1], names=names)
    check(read(tmp_path), 15)
    four = (*CLASSES, "dog")
    write(tmp_path / "train-1.parquet", [2, 0], [0, 1], names=("bee", "dog", "ant"))
    np.testing.assert_array_equal(read(tmp_path, class_names=four).class_counts(), [5, 5, 4, 0])


def test_numbers_without_names_among_orders_that_differ_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "train-0.parquet")
    write(tmp_path / "train-1.parquet", names=None)
    check(read(tmp_path), 24)  # one order: the numbers mean the same everywhere
    write(tmp_path / "train-2.parquet", names=CLASSES[::-1])
    assert "train-1.parquet stores no class names, while other files" in refusal(tmp_path)


def test_text_labels_are_names_over_all_shards(tmp_path: Path) -> None:
    write(tmp_path / "train-0.parquet", ["ant", "cat"], [0, 2], names=None)
    write(tmp_path / "train-1.parquet", ["bee", None], [1, 1], names=None)
    for number, labels in enumerate((pa.nulls(1), pa.array([], pa.string()))):
        images = structs(squares([0] * len(labels)), [None] * len(labels))
        write_table(tmp_path / f"train-2{number}.parquet", {"image": images, "label": labels})
    source = read(tmp_path)
    assert source.class_names == CLASSES
    check(source, 3)


# Labels


@pytest.mark.parametrize(
    "labels",
    [
        pa.array([False, True, True]),
        pa.array([0.0, 1.0, 1.0]),
        pa.array(["ant", "bee", "bee"]).dictionary_encode(),
        pa.DictionaryArray.from_arrays(pa.array([1, 0, 0], pa.int8()), pa.array(["bee", "ant"])),
        pa.array([0, 1, 1], pa.uint8()).dictionary_encode(),
        pa.array([0, 1, 1], pa.int16()),
        pa.array(["ant", "bee", "bee"], pa.large_string()),
    ],
)
def test_labels_of_every_type_mean_their_class(tmp_path: Path, labels: pa.Array) -> None:
    images = structs(squares([0, 1, 1]), [None] * 3)
    write_table(tmp_path / "train-0.parquet", {"image": images, "label": labels})
    source = read(tmp_path)
    assert len(source.class_names) == 2
    np.testing.assert_array_equal(source.class_counts(), [1, 2])
    check(source, 3)


def test_rows_without_a_class_are_rejected_and_counted(tmp_path: Path) -> None:
    labels = [0.0, 1.0, -1.0, float("nan"), None, 0.5, 2.0]
    write(tmp_path / "train-0.parquet", labels, [0, 1, 0, 0, 0, 0, 0], names=("ant", "bee"))
    source = read(tmp_path)
    check(source, 2)
    assert [row.reason for row in all_rows(source) if row.reason] == [
        "the label is -1: the image has no class",
        "the label is missing",
        "the label is missing",
        "the label 0.5 is neither an integer nor a class name",
        "the label 2 is out of range 0..1",
    ]


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        (-1, "the label is -1: the image has no class"),
        (None, "the label is missing"),
        (0.5, "the label 0.5 is neither an integer nor a class name"),
    ],
)
def test_an_unlabelled_split_is_refused(tmp_path: Path, label: Any, reason: str) -> None:
    write(tmp_path / "test-0.parquet", [label] * 3, [0, 1, 2])
    message = refusal(tmp_path, "test")
    assert "No image of the split 'test' of the parquet root" in message
    assert f"has a class: of 3 of 3 images {reason}; choose a labelled split" in message


def test_texts_that_are_no_class_names_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "test-0.parquet", ["x", "x", "y"], [0, 1, 2], names=None)
    message = refusal(tmp_path, "test", class_names=CLASSES)
    assert "No image of the split 'test'" in message
    assert "of 2 of 3 images the label 'x' is not a class name" in message


@pytest.mark.parametrize(
    "options", [{}, {"num_classes": 3}, {"class_names": CLASSES}, {"names": CLASSES}]
)
def test_labels_from_one_are_never_guessed(tmp_path: Path, options: dict[str, Any]) -> None:
    given = dict(options)
    names = given.pop("names", None)
    write(tmp_path / "train-0.parquet", [1, 2, 3], [0, 1, 2], names=names)
    message = refusal(tmp_path, **given)
    assert "are 1, 2, 3, not 0..C-1" in message
    assert "list just these numbers, one a line, in dataset.classes_file" in message
    if names is None:  # the cure works
        check(read(tmp_path, class_names=["1", "2", "3"]), 3)


def test_numbers_that_fit_a_list_of_numbers_in_two_ways_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "train-0.parquet", [1, 2], [1, 2], names=None)
    assert "neither only as names nor only" in refusal(tmp_path, class_names=["1", "2", "3"])
    write(tmp_path / "train-0.parquet", [0, 1, 2], [0, 1, 2], names=None)
    check(read(tmp_path, class_names=["1", "2", "3"]), 3)  # 0 is no name: they are positions
    write(tmp_path / "train-0.parquet", [7, 40], [0, 1], names=None)
    check(read(tmp_path, class_names=["7", "40"]), 2)


# What a stage depends on


def test_the_fingerprint_sees_corrected_labels_of_equal_size_and_time(tmp_path: Path) -> None:
    path = write(tmp_path / "train-0.parquet")
    first, status = read(tmp_path), path.stat()
    write(path, [2, 1, 0] * 4, LABELS)
    assert path.stat().st_size == status.st_size
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    second = read(tmp_path)
    assert second.class_counts().tolist() == first.class_counts().tolist()
    assert second.fingerprint != first.fingerprint
    write(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert read(tmp_path).fingerprint == first.fingerprint


def test_the_fingerprint_sees_corrected_names_and_other_images(tmp_path: Path) -> None:
    path = write(tmp_path / "train-0.parquet")
    first, status = read(tmp_path).fingerprint, path.stat()
    write(path, names=("ant", "cat", "bee"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert read(tmp_path, class_names=CLASSES).fingerprint != first
    write(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 10**6))
    assert read(tmp_path).fingerprint != first


# Layouts


@pytest.mark.parametrize(
    "place",
    [
        "{}.parquet",
        "data/{}.parquet",
        "{}_0.parquet",
        "mnist-{}.parquet",
        "cifar.{}-00000-of-00001.parquet",
        "{}0001.parquet",
        "data/{}/0000.parquet",
        "{}/part-0/0000.parquet",
        "{}.parquet/part-0.parquet",
        "plain_text/{}-00000-of-00001.parquet",
        "plain_text/{}/0000.parquet",
        "plain_text/data/{}-0.parquet",
    ],
)
def test_layouts_that_people_have_are_taken_as_they_are(tmp_path: Path, place: str) -> None:
    write(tmp_path / place.format("train"))
    write(tmp_path / place.format("test"), [0, 2], [0, 2])
    (tmp_path / "README.md").write_text("about")
    check(read(tmp_path), 12)
    check(read(tmp_path, "test"), 2)
    assert "no split 'val' (it has train, test)" in refusal(tmp_path, "val")


def test_files_without_a_split_word_are_training_data(tmp_path: Path) -> None:
    write(tmp_path / "data/0000.parquet")
    write(tmp_path / "data/0001.parquet")
    check(read(tmp_path), 24)
    assert "no split 'test' (it has no split folders or files)" in refusal(tmp_path, "test")


@pytest.mark.parametrize(
    ("asked", "stored"),
    [("val", "validation"), ("validation", "valid"), ("test", "testing"), ("train", "training")],
)
def test_another_word_for_a_split_is_taken_where_its_own_is_absent(
    tmp_path: Path, asked: str, stored: str
) -> None:
    write(tmp_path / f"data/{stored}-0.parquet")
    write(tmp_path / "data/other-0.parquet")
    check(read(tmp_path, asked), 12)
    write(tmp_path / f"data/{asked}-0.parquet", [0, 1], [0, 1])
    check(read(tmp_path, asked), 2)


def test_no_file_is_in_two_splits(tmp_path: Path) -> None:
    for name in ("train-0", "test-train-0", "mnist-test", "valid_train", "train_small-0"):
        write(tmp_path / f"data/{name}.parquet")
    used = [{shard.name for shard in read(tmp_path, s).shards()} for s in ("train", "test")]
    assert used == [{"data/train-0.parquet"}, {"data/test-train-0.parquet"}]


def test_of_several_configurations_one_is_asked_for(tmp_path: Path) -> None:
    for name in ("coarse", "fine"):
        write(tmp_path / name / "train-0.parquet")
    message = refusal(tmp_path)
    assert "holds 2 configurations (coarse, fine)" in message
    assert message.endswith(f"set for example dataset.root={tmp_path}/coarse.")
    check(read(tmp_path / "fine"), 12)


def test_a_root_that_is_a_file_is_refused(tmp_path: Path) -> None:
    message = refusal(write(tmp_path / "train.parquet"))
    assert "train.parquet is a file; set dataset.root to its folder" in message


def test_files_that_are_passed_over_are_counted(tmp_path: Path) -> None:
    write(tmp_path / "data/train-0.parquet")
    write(tmp_path / "data/trian-1.parquet")
    write(tmp_path / "train/0000.parquet")
    write(tmp_path / "data/test-0.parquet")
    for name in ("train-0.csv", "train-0.parquet.crc", ".train-0.swp"):
        (tmp_path / "data" / name).touch()
    assert read(tmp_path).unused == {".crc": 1, ".csv": 1, ".parquet": 2}
    assert read(tmp_path, "test").unused == {".parquet": 1}


def test_folders_of_save_to_disk_are_read(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))}
    )
    images = [Image.open(io.BytesIO(content)) for content in squares(LABELS)]
    rows = datasets.Dataset.from_dict({"image": images, "label": LABELS}, features=features)
    splits = datasets.DatasetDict({"train": rows, "test": rows.select(range(5))})
    splits.save_to_disk(tmp_path / "both")
    source = read(tmp_path / "both")
    assert source.class_names == CLASSES
    assert source.unused == {}
    check(source, 12)
    check(read(tmp_path / "both", "test"), 5)
    rows.save_to_disk(tmp_path / "one")
    check(read(tmp_path / "one"), 12)
    (stream,) = (tmp_path / "one").glob("*.arrow")
    stream.write_bytes(stream.read_bytes()[:-8])
    assert "is not a readable Arrow stream (it is cut short); fetch it" in refusal(tmp_path / "one")
    memory = fsspec.filesystem("memory")
    memory.put(f"{tmp_path}/both/", f"/{tmp_path.name}/", recursive=True)
    message = refusal(f"memory://{tmp_path.name}")
    assert "datasets.load_from_disk(FOLDER)['train'].to_parquet('train.parquet')" in message


# Images in files of their own


def write_images(root: Path) -> list[str]:
    """Twelve squares of LABELS below the root; returns their paths."""
    paths = [f"images/{number}.png" for number in range(len(LABELS))]
    (root / "images").mkdir(parents=True)
    for path, content in zip(paths, squares(LABELS), strict=True):
        (root / path).write_bytes(content)
    return paths


@pytest.mark.parametrize("as_text", [True, False])
@pytest.mark.parametrize("place", ["train.parquet", "data/train-0.parquet"])
def test_images_that_are_only_named_are_read_from_the_root(
    tmp_path: Path, as_text: bool, place: str
) -> None:
    paths = write_images(tmp_path)
    paths[1] = f"{tmp_path}/{paths[1]}"  # absolute, but below the root
    image = pa.array(paths) if as_text else structs([None] * 12, paths)
    write_table(tmp_path / place, {"image": image, "label": LABELS})
    source = read(tmp_path)
    assert next(iter(all_rows(source))).id == f"{place}#0"
    check(source, 12)


def test_embedded_and_named_images_may_stand_in_one_file(tmp_path: Path) -> None:
    paths = write_images(tmp_path)
    contents = [square(label) if n % 3 else None for n, label in enumerate(LABELS)]
    write_table(tmp_path / "train.parquet", {"image": structs(contents, paths), "label": LABELS})
    check(read(tmp_path), 12)


def test_named_images_that_are_not_below_the_root_are_rejected(tmp_path: Path) -> None:
    root = tmp_path / "root"
    paths: list[str | None] = [*write_images(root)]
    (tmp_path / "outside.png").write_bytes(square(0))
    os.mkfifo(root / "pipe")
    paths[:5] = ["../outside.png", str(tmp_path / "outside.png"), "pipe", "none.png", None]
    write_table(root / "train.parquet", {"image": paths, "label": LABELS})
    rows = all_rows(read(root))
    assert [row.reason for row in rows[:5]] == [
        "there is no image file '../outside.png' below the root",
        f"there is no image file {str(tmp_path / 'outside.png')!r} below the root",
        "'pipe' is not a plain file",
        "there is no image file 'none.png' below the root",
        "the image is null",
    ]
    assert [row.class_index for row in rows] == LABELS
    check(read(root), 7)


def test_names_that_all_lead_nowhere_are_refused(tmp_path: Path) -> None:
    write_table(tmp_path / "train.parquet", {"image": ["a.png", "b.png"], "label": [0, 1]})
    message = refusal(tmp_path)
    assert "none of the first 2 ('a.png', ...) leads to a file below the root" in message


def test_files_of_named_images_are_cut_into_shards_of_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_table(tmp_path / "train.parquet", {"image": write_images(tmp_path), "label": LABELS})
    whole = all_rows(read(tmp_path))
    monkeypatch.setattr(parquet_scan, "SHARD_PATHS", 5)
    source = read(tmp_path)
    assert [(shard.begin, shard.end) for shard in source.shards()] == [(0, 5), (5, 10), (10, 12)]
    assert all_rows(source) == whole
    (tmp_path / "train.parquet").unlink()
    assert [row.images for row in all_rows(source)] == [5, 5, 2]


def test_the_fingerprint_sees_a_named_image_that_was_replaced(tmp_path: Path) -> None:
    paths = write_images(tmp_path)
    write_table(tmp_path / "train.parquet", {"image": paths, "label": LABELS})
    first = read(tmp_path).fingerprint
    assert read(tmp_path).fingerprint == first
    (tmp_path / paths[3]).write_bytes(square(0) + b"\0")
    assert read(tmp_path).fingerprint != first


def test_opening_reads_footers_and_labels_but_no_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [np.random.default_rng(seed).bytes(100_000) for seed in range(40)]
    write_parquet(tmp_path / "train-0.parquet", [0, 1] * 20, images, names="ab", row_group=4)
    served: list[int] = []
    opener = fsspec.implementations.memory.MemoryFile
    whole = opener.read

    def counted(self: Any, *size: int) -> bytes:
        content = whole(self, *size)
        served.append(len(content))
        return content

    store = UPath("memory://footers")
    store.mkdir()
    (store / "train-0.parquet").write_bytes((tmp_path / "train-0.parquet").read_bytes())
    monkeypatch.setattr(opener, "read", counted)
    source = open_source("parquet", str(store), "train")
    assert source.class_counts().tolist() == [20, 20]
    assert 0 < sum(served) < 200_000  # of 4 MB


def test_opening_reads_little_of_a_local_disk_too(tmp_path: Path) -> None:
    images = [np.random.default_rng(seed).bytes(100_000) for seed in range(40)]
    write_parquet(tmp_path / "train-0.parquet", [0, 1] * 20, images, names="ab", row_group=4)
    read(tmp_path)  # what is imported by the first is read as well
    before = bytes_read()
    assert read(tmp_path).class_counts().tolist() == [20, 20]
    assert 0 < bytes_read() - before < 200_000  # of 4 MB


def bytes_read() -> int:
    """What this process has read so far, of any file."""
    return int(Path("/proc/self/io").read_text().split()[1])


def test_stored_names_survive_metadata_of_other_tools(tmp_path: Path) -> None:
    path = write(tmp_path / "train-0.parquet", names=None)
    for metadata in (b"not json", json.dumps({"info": []}).encode(), b"[]"):
        table = pq.read_table(path).replace_schema_metadata({b"huggingface": metadata})
        pq.write_table(table, path)
        assert read(tmp_path).class_names == ("0", "1", "2")
