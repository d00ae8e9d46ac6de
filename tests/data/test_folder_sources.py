"""Image folders as people have them: other split names, lists, wrappers, doubled folders."""

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from raydd.data.sources import Source, open_source
from raydd.data.sources.folders import listed as listedfolder
from small_sets import CLASSES, all_rows, png, write_imagefolder


def open_folder(root: Path, split: str = "train", **options: object) -> Source:
    return open_source("imagefolder", str(root), split, **options)


def labels_by_name(source: Source) -> dict[str, str]:
    """File name -> class name of every good row."""
    rows = all_rows(source)
    assert all(row.reason is None for row in rows), rows
    return {row.id.rpartition("/")[2]: source.class_names[row.class_index] for row in rows}


def write_flat(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        (folder / name).write_bytes(png(number))


# --- label lists ---------------------------------------------------------------------------------

FLAT = [f"{number}.JPEG" for number in range(6)]
TRUTH = {name: CLASSES[number % 3] for number, name in enumerate(FLAT)}


def tiny_imagenet(val: Path) -> None:
    write_flat(val / "images", FLAT)
    lines = [f"{name}\t{label}\t0\t0\t9\t9\n" for name, label in TRUTH.items()]
    (val / "val_annotations.txt").write_text("".join(lines))


def solution_at_the_root(val: Path) -> None:
    write_flat(val, FLAT)
    lines = [f"{name[:-5]},{label} 1 2 3 4 {label} 5 6 7 8 \n" for name, label in TRUTH.items()]
    (val.parent / "LOC_val_solution.csv").write_text("ImageId,PredictionString\n" + "".join(lines))


def pairs_of_names(val: Path) -> None:
    write_flat(val, FLAT)
    (val / "val.txt").write_text("".join(f"{n} {label}\r\n" for n, label in TRUTH.items()))


def pairs_of_numbers_at_the_root(val: Path) -> None:
    write_flat(val, FLAT)
    lines = [f"val/{name} {CLASSES.index(label)}" for name, label in TRUTH.items()]
    (val.parent / "val.txt").write_text("\n".join(lines))


def metadata_csv(val: Path) -> None:
    write_flat(val / "deep", FLAT)
    lines = [f'"deep/{name}",3,"{label}"\n' for name, label in TRUTH.items()]
    (val / "metadata.csv").write_text("\ufefffile_name,size,label\n" + "".join(lines), "utf-8")


def metadata_jsonl(val: Path) -> None:
    write_flat(val, FLAT)
    lines = [json.dumps({"file_name": n, "label": CLASSES.index(c)}) for n, c in TRUTH.items()]
    (val / "metadata.jsonl").write_text("\n".join(lines))


def ground_truth_with_text_order(val: Path) -> None:
    write_flat(val, [f"ILSVRC2012_val_{number:08d}.JPEG" for number in range(1, 7)])
    (val / "ILSVRC2012_validation_ground_truth.txt").write_text("3\n1\n2\n3\n1\n2\n")
    (val / "map_clsloc.txt").write_text("bee 1 Bee\ncat 2 Cat\nant 3 Ant\n")


def ground_truth_with_matlab_order(val: Path) -> None:
    ground_truth_with_text_order(val)
    (val / "map_clsloc.txt").unlink()
    kinds = [("ILSVRC2012_ID", "f8"), ("WNID", "O"), ("words", "O")]
    synsets = np.array([(1, "bee", "b"), (2, "cat", "c"), (3, "ant", "a")], dtype=kinds)
    savemat(val / "meta.mat", {"synsets": synsets[:, None]})


LISTS = [
    tiny_imagenet, solution_at_the_root, pairs_of_names, pairs_of_numbers_at_the_root,
    metadata_csv, metadata_jsonl, ground_truth_with_text_order, ground_truth_with_matlab_order,
]  # fmt: skip


@pytest.fixture(params=LISTS, ids=lambda write: write.__name__)
def listed(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    write_imagefolder(tmp_path)
    write: Callable[[Path], None] = request.param
    write(tmp_path / "val")
    return tmp_path


def test_a_list_says_the_class_of_every_flat_image(
    listed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_folder(listed, "val", class_names=CLASSES)
    found = list(labels_by_name(source).values())
    assert found == list(TRUTH.values())
    assert source.class_counts().tolist() == [2, 2, 2]
    monkeypatch.setattr(listedfolder, "SHARD_ROWS", 2)
    small = open_folder(listed, "val", class_names=CLASSES)
    assert len(small.shards()) > 2
    assert all_rows(small) == all_rows(source)
    ids = [row.id for row in all_rows(source)]
    assert source.fetch(ids) == {row.id: row.image for row in all_rows(source)}
    assert len(pickle.dumps(source)) < 2000


def test_a_changed_label_or_image_is_another_split(listed: Path) -> None:
    before = open_folder(listed, "val", class_names=CLASSES)
    assert open_folder(listed, "val", class_names=CLASSES).fingerprint == before.fingerprint
    image = next(path for path in (listed / "val").rglob("*.JPEG"))
    os.utime(image, (1, 1))
    touched = open_folder(listed, "val", class_names=CLASSES).fingerprint
    assert touched != before.fingerprint
    path = listed / before.labels.path
    text = path.read_text("utf-8")
    first, second = ("3", "2") if "ground" in path.name else ("ant", "cat")
    changed = text.replace(first, second, 1) if first in text else text.replace("0\n", "2\n", 1)
    path.write_text(changed if changed != text else text.replace('"label": 0', '"label": 2', 1))
    assert open_folder(listed, "val", class_names=CLASSES).fingerprint != touched


def test_classes_of_a_list_that_stands_alone_are_its_labels(tmp_path: Path) -> None:
    metadata_csv(tmp_path / "train")
    metadata_jsonl(tmp_path / "val")
    assert open_folder(tmp_path).class_names == CLASSES
    assert open_folder(tmp_path, "val").class_names == ("0", "1", "2")
    assert open_folder(tmp_path, "val", classes=["2", "0"]).class_counts().tolist() == [2, 2]


def test_another_label_column_of_a_metadata_file_can_be_named(tmp_path: Path) -> None:
    write_flat(tmp_path / "train", FLAT)
    lines = [f"{name},x,{label}\n" for name, label in TRUTH.items()]
    (tmp_path / "train/metadata.csv").write_text("file_name,label,dx\n" + "".join(lines))
    assert open_folder(tmp_path, label_column="dx").class_names == CLASSES


def test_lists_and_folders_that_disagree_are_told_apart(tmp_path: Path) -> None:
    write_imagefolder(tmp_path)
    write_flat(tmp_path / "val", [*FLAT, "stray.png"])
    lines = [f"{name} {label}\n" for name, label in TRUTH.items()]
    lines += ["gone.JPEG ant\n", "../train/ant/00.png ant\n", "5.JPEG.. dog\n", "nolabel\n"]
    (tmp_path / "val/val.txt").write_text("".join(lines))
    (tmp_path / "val/notes.md").write_text("-")
    source = open_folder(tmp_path, "val", class_names=CLASSES)
    rows = all_rows(source)
    assert sum(row.reason is None for row in rows) == 6
    assert {row.id: row.reason for row in rows if row.reason} == {
        "val/gone.JPEG": "the list names it, but there is no such file",
        "val/../train/ant/00.png": "the list names a path outside the root",
        "val/5.JPEG..": "the label 'dog' is not a class name",
        "val/nolabel": "the label is missing",
    }
    assert source.unused == {"not in the list": 1, ".md": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0.JPEG 1\n1.JPEG 2\n2.JPEG 3\n", "are 1 to 3, but the 3 classes are 0 to 2"),
        ("0.JPEG dog\n1.JPEG cow\n", "No label .* is a class name: it has 'dog', the classes are"),
        ("0.JPEG ant\n0.JPEG bee\n", "names '0.JPEG' twice"),
        ("0.JPEG\n1.JPEG\n", "holds no labels"),
        ("\n\n", "names no image"),
        ("x.JPEG ant\ny.JPEG bee\n", "names 'x.JPEG', which lies neither in val nor in its folder"),
    ],
)
def test_lists_that_cannot_be_right_are_refused(text: str, message: str, tmp_path: Path) -> None:
    write_imagefolder(tmp_path)
    write_flat(tmp_path / "val", FLAT)
    (tmp_path / "val/val.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        open_folder(tmp_path, "val", class_names=CLASSES)


def test_numbers_that_are_also_names_are_names_or_refused(tmp_path: Path) -> None:
    write_flat(tmp_path / "val", ["a.png", "b.png"])
    (tmp_path / "val/val.txt").write_text("a.png 2\nb.png 1\n")
    names = ["2", "1", "0"]
    assert labels_by_name(open_folder(tmp_path, "val", class_names=names)) == {
        "a.png": "2", "b.png": "1",
    }  # fmt: skip
    with pytest.raises(ValueError, match="named by numbers: nobody can tell which is which"):
        open_folder(tmp_path, "val", class_names=["1", "10", "3"])


def test_numbers_of_the_development_kit_need_its_order(tmp_path: Path) -> None:
    ground_truth_with_text_order(tmp_path / "val")
    (tmp_path / "val/map_clsloc.txt").unlink()
    with pytest.raises(ValueError, match=r"put its map_clsloc\.txt or meta\.mat beside it, or LOC"):
        open_folder(tmp_path, "val", class_names=CLASSES)


def test_a_flat_folder_without_a_list_says_which_is_needed(tmp_path: Path) -> None:
    write_flat(tmp_path / "val", FLAT)
    with pytest.raises(
        ValueError, match=r"no class folders but 6 files: put a list .* LOC_val_sol"
    ):
        open_folder(tmp_path, "val", class_names=CLASSES)


def test_class_folders_are_believed_before_a_list(tmp_path: Path) -> None:
    write_imagefolder(tmp_path, split="val")
    (tmp_path / "val/val_annotations.txt").write_text("00.png\tcat\t0\n")
    assert open_folder(tmp_path, "val", class_names=CLASSES).class_counts().tolist() == [3, 3, 3]


# --- splits and wrappers -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("there", "asked"),
    [("valid", "val"), ("validation", "val"), ("val", "validation"), ("Training", "train"),
     ("TEST", "test"), ("testing", "test"), ("my split", "my split"),
     ("train/images", "train/images")],
)  # fmt: skip
def test_another_name_of_the_same_split_will_do(there: str, asked: str, tmp_path: Path) -> None:
    write_imagefolder(tmp_path, split=there)
    assert open_folder(tmp_path, asked).class_counts().tolist() == [3, 3, 3]


@pytest.mark.parametrize(
    ("root", "split"),
    [("seg_train/seg_train", "seg_train"), ("set/set/train", "train"), ("train/train", "train")],
)
def test_doubled_folders_are_entered(root: str, split: str, tmp_path: Path) -> None:
    write_imagefolder(tmp_path / "set", split=root)
    (tmp_path / "set/__MACOSX").mkdir()
    source = open_folder(tmp_path / "set", split)
    assert source.class_names == CLASSES
    assert all_rows(source)[0].id == "ant/00.png"


@pytest.mark.parametrize(
    ("wrapper", "message"),
    [
        ("train/images", "only class .* is 'images', which holds the folders ant, bee, cat: if "
         "these are the classes, name the split 'train/images'"),
        ("images", r"only class .* set dataset\.root=.*/images"),
    ],
)  # fmt: skip
def test_a_folder_around_the_classes_is_refused_with_what_lies_below(
    wrapper: str, message: str, tmp_path: Path
) -> None:
    write_imagefolder(tmp_path, split=wrapper)
    with pytest.raises(ValueError, match=message):
        open_folder(tmp_path)
    if wrapper.startswith("train/"):
        with pytest.raises(ValueError, match="only the folder 'images', which holds the classes"):
            open_folder(tmp_path, class_names=CLASSES)


def put(root: Path, *folders: str) -> None:
    for number, folder in enumerate(folders):
        write_flat(root / folder, [f"{number}.png"])


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (["train/ant"], "only class .* is the folder 'ant', which holds no folders"),
        (["train/insects/ant", "train/insects/bee", "train/cat"],
         "class folder 'insects' .* holds no image but the folders ant, bee, which look like"),
        (["train/insects/ant", "train/insects/bee", "train/pets/cat", "train/pets/dog"],
         "name the split 'train/insects'"),
        (["train/images/ant", "train/images/bee", "train/masks/x"], "class folder 'images'"),
        (["train/ant/images", "train/ant/masks", "train/bee/images", "train/bee/masks"],
         "holds the folders images, masks, of which one alone"),
        (["ant/train", "ant/val", "bee/train", "bee/val"], "which are splits: move ant/SPLIT"),
        (["seg_train/ant", "seg_test/ant"], r"no split 'train' \(it has seg_test, seg_train\)"),
    ],
)  # fmt: skip
def test_folders_that_are_no_classes_are_refused(
    folders: list[str], message: str, tmp_path: Path
) -> None:
    put(tmp_path, *folders)
    with pytest.raises(ValueError, match=message):
        open_folder(tmp_path)


@pytest.mark.parametrize(
    "folders",
    [
        ["train/ant/images", "train/bee/images"],
        ["train/ant/a/b", "train/bee/c"],
        ["train/ant/day", "train/ant/night", "train/bee/day", "train/bee/night"],
        ["train/ant", "train/ant/more", "train/ant/rest", "train/bee"],
    ],
)
def test_folders_within_a_class_are_part_of_it(folders: list[str], tmp_path: Path) -> None:
    put(tmp_path, *folders)
    source = open_folder(tmp_path)
    assert source.class_names == ("ant", "bee")
    assert source.class_counts().sum() == len(folders) == len(all_rows(source))


def test_folders_that_are_named_as_classes_are_taken_with_all_below(tmp_path: Path) -> None:
    put(tmp_path, "train/insects/ant", "train/insects/bee", "train/pets/cat", "train/pets/dog")
    source = open_folder(tmp_path, classes=["pets", "insects"])
    assert source.class_counts().tolist() == [2, 2]


def test_an_image_that_changed_or_moved_is_another_set(tmp_path: Path) -> None:
    write_imagefolder(tmp_path)
    prints = [open_folder(tmp_path).fingerprint]
    os.utime(tmp_path / "train/ant/00.png", (1, 1))
    prints.append(open_folder(tmp_path).fingerprint)
    (tmp_path / "train/ant/02.png").rename(tmp_path / "train/bee/03.png")
    prints.append(open_folder(tmp_path).fingerprint)
    assert len(set(prints)) == 3
    assert open_folder(tmp_path).fingerprint == prints[-1]


def test_what_lies_beyond_the_survey_is_not_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from raydd.data.sources.folders import layout as folder_layout

    write_imagefolder(tmp_path)
    monkeypatch.setattr(folder_layout, "SURVEYED_FILES", 3)
    source = open_folder(tmp_path)
    before = source.fingerprint
    os.utime(tmp_path / "train/cat/00.png", (1, 1))
    assert open_folder(tmp_path).fingerprint == before
    (tmp_path / "train/cat/00.png").unlink()
    assert open_folder(tmp_path).fingerprint != before
