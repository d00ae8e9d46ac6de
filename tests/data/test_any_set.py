"""Sets of others: three layouts, and one sentence for each that cannot be one."""

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from upath import UPath

from raydd.data.any_set import AnySet, folder_classes, open_any_set
from raydd.data.distilled import DistilledInfo, DistilledRow
from raydd.data.distilled_writer import seal, write_images
from raydd.data.export import export_imagefolder
from raydd.data.preprocessing import Preprocessing
from small_sets import CLASSES, picture, png, write_parquet


def look(folder: Path, names=CLASSES, **columns) -> AnySet:
    named = {"image_column": "image", "label_column": "label", **columns}
    return open_any_set(str(folder), names, **named)


def labels(given: AnySet) -> list[int]:
    return [image.class_index for image in given.images()]


def write_folders(root: Path, names: list[str], per_class: int = 2) -> Path:
    for number, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for slot in range(per_class):
            (root / name / f"{slot:05d}.png").write_bytes(png(10 * number + slot))
    return root


def write_ours(folder: Path, names=CLASSES) -> Path:
    rows = [DistilledRow(picture(i), i % 3, i // 3, source_id=f"id{i}") for i in range(6)]
    counts = write_images(folder, iter(rows), num_rows=6, class_names=names, resolution=12)
    preprocessing = Preprocessing(12, 12, (0.5, 0.4, 0.3), (0.2, 0.2, 0.2))
    seal(folder, DistilledInfo(names, preprocessing, counts, {}, {}, {"run": 0}, {}, {}))
    return folder


def test_folders_named_by_index(tmp_path):
    given = look(write_folders(tmp_path, ["00000", "00002"]))
    assert given.layout == "imagefolder"
    assert labels(given) == [0, 0, 2, 2]
    assert next(given.images()).image == png(0)


def test_folders_named_by_class_whatever_their_order(tmp_path):
    given = look(write_folders(tmp_path, ["cat", "ant"]), ("cat", "bee", "ant"))
    assert labels(given) == [2, 2, 0, 0]  # ant comes first on disk


def test_names_that_are_numbers_are_names_where_the_data_set_has_them(tmp_path):
    assert folder_classes(["1", "2"], ("2", "1", "0"), "x") == (1, 0)
    assert folder_classes(["00001", "00002"], ("2", "1", "0"), "x") == (1, 2)


def test_an_exported_set_is_read_again(tmp_path):
    export_imagefolder(write_ours(tmp_path / "ours"), tmp_path / "folder")
    assert labels(look(tmp_path / "folder")) == [0, 0, 1, 1, 2, 2]
    with pytest.raises(ValueError, match=r"class order .* position 0"):
        look(tmp_path / "folder", CLASSES[::-1])


def test_our_own_set_keeps_slots_and_ids(tmp_path):
    given = look(write_ours(tmp_path / "ours"))
    assert given.layout == "raydd"
    assert [(i.class_index, i.slot, i.source_id) for i in given.images()] == [
        (n % 3, n // 3, f"id{n}") for n in range(6)
    ]
    with pytest.raises(ValueError, match=r"class order .* position 0: expected 'cat'"):
        look(tmp_path / "ours", CLASSES[::-1])


def test_parquet_with_labels_or_names(tmp_path):
    write_parquet(tmp_path / "a" / "data" / "train-00000-of-00001.parquet", [2, 0, 1])
    assert labels(look(tmp_path / "a")) == [2, 0, 1]
    for place in ("data/0000.parquet", "train/0000.parquet", "train-0.parquet"):
        folder = tmp_path / place.replace("/", "-")
        write_parquet(folder / place, ["cat", "ant"])
        given = look(folder)
        assert (given.layout, labels(given)) == ("parquet", [2, 0])


def test_parquet_classes_that_are_only_numbers_are_indices(tmp_path):
    path = tmp_path / "data" / "train-0.parquet"
    write_parquet(path, [1, 0])
    table = pq.read_table(path)
    features = '{"info": {"features": {"label": {"names": ["0", "1"]}}}}'
    pq.write_table(table.replace_schema_metadata({"huggingface": features}), path)
    assert labels(look(tmp_path)) == [1, 0]
    features = '{"info": {"features": {"label": {"names": ["bee", "ant", "cat"]}}}}'
    pq.write_table(table.replace_schema_metadata({"huggingface": features}), path)
    assert labels(look(tmp_path)) == [0, 1]  # names in another order: labels are mapped by name


def test_a_label_out_of_range_has_a_reason(tmp_path):
    write_parquet(tmp_path / "data" / "train-0.parquet", [0, 7])
    assert [image.reason for image in look(tmp_path).images()] == [
        None,
        "the label 7 is out of range 0..2",
    ]


def test_another_image_column(tmp_path):
    path = tmp_path / "data" / "train-0.parquet"
    path.parent.mkdir()
    pq.write_table(pa.table({"view": pa.array([png(0)], pa.binary()), "fine": [1]}), path)
    with pytest.raises(ValueError, match=r"no column 'image' .* set judge\.image_column"):
        look(tmp_path)
    assert labels(look(tmp_path, image_column="view", label_column="fine")) == [1]


@pytest.mark.parametrize("column", ["labels", "class_id", "class", "fine_label", "cls"])
def test_usual_names_of_the_label_column_are_found(tmp_path, column):
    path = tmp_path / "data" / "train-0.parquet"
    write_parquet(path, [2, 0], columns=("img", column))
    assert labels(look(tmp_path)) == [2, 0]
    with pytest.raises(ValueError, match=r"no column 'target'"):
        look(tmp_path, label_column="target")


def test_two_usual_label_columns_are_not_guessed_between(tmp_path):
    path = tmp_path / "data" / "train-0.parquet"
    write_parquet(path, [2, 0])
    table = pq.read_table(path).rename_columns(["image", "class_id"])
    pq.write_table(table.append_column("cls", pa.array([0, 1])), path)
    with pytest.raises(ValueError, match=r"no column 'label' .* set judge\.label_column"):
        look(tmp_path)
    assert labels(look(tmp_path, label_column="cls")) == [0, 1]


@pytest.mark.parametrize("width", [3, 5])
def test_folders_of_sre2l_and_cudd_are_classes_by_their_number(tmp_path, width):
    for number in (0, 2):
        folder = tmp_path / f"new{number:0{width}d}"
        folder.mkdir()
        for slot in range(2):
            name = f"class{number:0{width}d}_id{slot:0{width}d}.jpg"
            (folder / name).write_bytes(png(10 * number + slot))
    given = look(tmp_path)
    assert labels(given) == [0, 0, 2, 2]
    assert [image.image for image in given.images()] == [png(seed) for seed in (0, 1, 20, 21)]
    with pytest.raises(ValueError, match="has 3 classes, the data set has 2"):
        look(tmp_path, CLASSES[:2])


def test_a_file_of_another_class_than_its_folder_has_a_reason(tmp_path):
    (tmp_path / "new001").mkdir()
    (tmp_path / "new001" / "class001_id000.jpg").write_bytes(png(0))
    (tmp_path / "new001" / "class002_id000.jpg").write_bytes(png(1))
    assert [image.reason for image in look(tmp_path).images()] == [
        None,
        "its name says class 2, its folder class 1",
    ]


def test_files_that_name_their_class_need_no_folders(tmp_path):
    for number, slot in [(0, 10), (0, 9), (2, 0), (10, 0)]:
        (tmp_path / f"class{number}_id{slot}.png").write_bytes(png(100 * number + slot))
    names = tuple(map(str, range(11)))
    given = look(tmp_path, names)
    assert given.layout == "imagefolder"
    assert labels(given) == [0, 0, 2, 10]  # by number, not by text
    assert [image.image for image in given.images()][:2] == [png(9), png(10)]
    before = given.fingerprint
    (tmp_path / "class2_id0.png").write_bytes(png(7) + b" ")
    assert look(tmp_path, names).fingerprint != before
    with pytest.raises(ValueError, match="has 11 classes, the data set has 3"):
        look(tmp_path)
    (tmp_path / "other.png").write_bytes(png(0))
    with pytest.raises(ValueError, match=r"holds 'other\.png' beside files like .* says no class"):
        look(tmp_path, names)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["ant", "dog"], "has a folder 'dog', which is neither a class"),
        (["ant", "00001"], "has a folder '00001', which is neither a class"),
        (["0", "1", "2", "3"], "has 4 classes, the data set has 3"),
        (["1", "00001"], "has two folders of one class: 00001 and 1"),
    ],
)
def test_folders_of_no_class_are_refused(tmp_path, names, words):
    with pytest.raises(ValueError, match=words):
        look(write_folders(tmp_path, names))


def test_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match="does not exist; the first word"):
        look(tmp_path / "none")
    with pytest.raises(ValueError, match=r"no raydd\.json, no parquet files, no tensors"):
        look(tmp_path)


def test_a_set_in_an_object_store():
    root = UPath("memory://any/set")
    for name in ("00000", "00001"):
        (root / name).mkdir(parents=True)
        (root / name / "0.png").write_bytes(png(int(name)))
    given = open_any_set(str(root), CLASSES, "image", "label")
    assert [(i.class_index, i.image) for i in given.images()] == [(0, png(0)), (1, png(1))]


def test_some_classes_of_one_of_ours_in_another_order(tmp_path):
    folder = write_ours(tmp_path / "ours")
    chosen = (CLASSES[2], CLASSES[0])
    given = look(folder, chosen, all_names=CLASSES)
    assert given.layout == "raydd, 2 of 3 classes"
    assert given.distilled is None
    found = [(i.class_index, i.slot, i.source_id) for i in given.images()]
    assert sorted(found) == [(0, 0, "id2"), (0, 1, "id5"), (1, 0, "id0"), (1, 1, "id3")]
    assert given.fingerprint != look(folder, chosen[::-1], all_names=CLASSES).fingerprint
    assert look(folder, all_names=CLASSES).distilled
    with pytest.raises(ValueError, match="class order"):  # another data set's classes
        look(folder, chosen, all_names=("dog", *CLASSES))
    with pytest.raises(ValueError, match="class order"):  # nobody chose them
        look(folder, chosen)


def test_another_content_is_another_set(tmp_path):
    first = look(write_folders(tmp_path / "a", ["0", "1"])).fingerprint
    shutil.copytree(tmp_path / "a", tmp_path / "b")  # keeps the times
    assert look(tmp_path / "b").fingerprint == first
    assert look(write_folders(tmp_path / "c", ["0", "2"])).fingerprint != first
