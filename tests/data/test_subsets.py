"""A part of a data set: some classes, or a share of the images that nobody trains on."""

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from raydd.config.dataset import DatasetConfig, open_sources
from raydd.data.classes import read_class_names
from raydd.data.sources import Source, all_class_names, hold_out_share, open_source
from raydd.data.sources.subset import choose_classes, pick_classes
from raydd.data.synsets import imagenet_synsets
from raydd.errors import Refused
from small_sets import CLASSES, all_rows, png, write_imagefolder, write_parquet, write_tar

CONFIGS = Path(__file__).parents[2] / "configs" / "dataset"


def digits(_: Path) -> Source:
    return open_source("digits", "", "train")


def folder(root: Path) -> Source:
    write_imagefolder(root, per_class=40)
    return open_source("imagefolder", str(root), "train")


def flat_list(root: Path) -> Source:
    (root / "train").mkdir(parents=True)
    lines = ["file_name,label"]
    for number in range(90):
        (root / f"train/{number}.png").write_bytes(png(number))
        lines.append(f"{number}.png,{CLASSES[number % 3]}")
    (root / "train/metadata.csv").write_text("\n".join(lines))
    return open_source("imagefolder", str(root), "train")


def parquet_file(root: Path) -> Source:
    write_parquet(root / "train-0.parquet", [0, 1, 2] * 30, names=CLASSES)
    return open_source("parquet", str(root), "train")


def tar(root: Path) -> Source:
    members = []
    for row in range(60):
        members += [(f"{row:03d}.png", png(row)), (f"{row:03d}.cls", str(row % 3).encode())]
    write_tar(root / "train-0.tar", members)
    return open_source("webdataset", str(root), "train", class_names=CLASSES)


BUILDERS = [digits, folder, flat_list, parquet_file, tar]


@pytest.fixture(params=BUILDERS, ids=lambda build: build.__name__)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    build: Callable[[Path], Source] = request.param
    return build(tmp_path)


def test_every_image_is_on_exactly_one_side_of_a_held_out_share(source: Source) -> None:
    whole = all_rows(source)
    train, test = hold_out_share(source, 0.25, 0)
    sides = all_rows(train), all_rows(test)
    assert sorted(row.id for side in sides for row in side) == sorted(row.id for row in whole)
    assert set(sides[0]) | set(sides[1]) == set(whole)
    assert 0.1 < len(sides[1]) / len(whole) < 0.4
    assert train.class_names == test.class_names == source.class_names
    for part, rows in zip((train, test), sides, strict=True):
        counts = part.class_counts()
        if counts is not None:
            labels = np.bincount([row.class_index for row in rows], minlength=len(counts))
            np.testing.assert_array_equal(counts, labels)
        assert part.fetch([row.id for row in rows]) == {row.id: row.image for row in rows}
    with pytest.raises(ValueError, match="holds no image"):
        test.fetch([sides[0][0].id])


def test_a_held_out_share_depends_on_the_seed_alone(source: Source) -> None:
    test = hold_out_share(source, 0.25, 0)[1]
    again, other = hold_out_share(source, 0.25, 0)[1], hold_out_share(source, 0.25, 1)[1]
    assert all_rows(pickle.loads(pickle.dumps(test))) == all_rows(again)
    assert {row.id for row in all_rows(other)} != {row.id for row in all_rows(test)}
    parts = [*hold_out_share(source, 0.25, 0), other, *hold_out_share(source, 0.3, 0), source]
    assert len({part.fingerprint for part in parts}) == len(parts)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, float("nan")])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match=r"dataset\.holdout is a share within \(0, 1\)"):
        hold_out_share(digits(Path()), share, 0)


def test_chosen_classes_are_those_rows_in_the_new_order(source: Source) -> None:
    names = [source.class_names[2], source.class_names[0]]
    chosen = choose_classes(source, names)
    whole = {row.id: row for row in all_rows(source)}
    rows = all_rows(chosen)
    assert chosen.class_names == tuple(names)
    assert all(chosen.class_names[r.class_index] == source.class_names[whole[r.id].class_index]
               for r in rows)  # fmt: skip
    assert len(rows) == sum(row.class_index in (0, 2) for row in whole.values())
    counts = chosen.class_counts()
    if counts is not None:
        assert counts.tolist() == np.bincount([row.class_index for row in rows]).tolist()
    assert chosen.fetch([rows[0].id]) == {rows[0].id: rows[0].image}
    assert chosen.fingerprint != choose_classes(source, names[::-1]).fingerprint


def test_a_share_of_chosen_classes_is_counted(tmp_path: Path) -> None:
    train, test = hold_out_share(choose_classes(folder(tmp_path), ["cat", "ant"]), 0.3, 0)
    assert (train.class_counts() + test.class_counts()).tolist() == [40, 40]


def test_broken_rows_of_nobody_knows_which_class_stay_visible(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train-0.parquet", [0, 1, 2, 7], names=CLASSES)
    source = open_source("parquet", str(tmp_path), "train", classes=["bee", "cat"])
    assert [(row.class_index, row.reason is None) for row in all_rows(source)] == [
        (0, True), (1, True), (-1, False),
    ]  # fmt: skip


def test_chosen_folders_are_the_only_ones_that_are_listed(tmp_path: Path) -> None:
    write_imagefolder(tmp_path)
    (tmp_path / "train/bee/00.png").unlink()
    (tmp_path / "train/bee").chmod(0o755)
    source = open_source("imagefolder", str(tmp_path), "train", classes=["cat", "ant"])
    assert source.class_names == ("cat", "ant")
    assert all_class_names(source) == CLASSES
    assert {row.id.partition("/")[0] for row in all_rows(source)} == {"cat", "ant"}
    assert source.unused == {"folders of other classes": 1}
    before = source.fingerprint
    (tmp_path / "train/bee/01.png").unlink()
    again = open_source("imagefolder", str(tmp_path), "train", classes=["cat", "ant"])
    assert again.fingerprint == before


NAMES = ("tench, Tinca tinca", "great white shark, white shark", "crane", "Crane, machine")


@pytest.mark.parametrize(
    ("names", "positions"),
    [
        (["crane", "tench, Tinca tinca"], (2, 0)),
        (["great_white_shark", "Tench"], (1, 0)),
        (["Tinca tinca", "n01484850"], (0, 1)),
    ],
)
def test_classes_are_found_by_any_of_their_names(names: list, positions: tuple) -> None:
    shark = imagenet_synsets()["n01484850"]
    assert pick_classes((NAMES[0], shark, *NAMES[2:]), names) == positions


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["trench", "crane"], "names 'trench', which is none of the 4 classes; did you mean"),
        (["CRANE", "tench"], "'CRANE', which may be any of crane; Crane, machine: give the full"),
        (["tench", "Tinca tinca"], "names the class 'tench, Tinca tinca' twice"),
        (["tench"], "names only 'tench, Tinca tinca': a set needs two classes"),
        ([], "holds no class name"),
    ],
)
def test_names_that_mean_no_class_or_several_are_refused(names: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pick_classes(NAMES, names)


def test_wordnet_ids_find_all_of_imagenet_by_folder_and_by_words() -> None:
    synsets = imagenet_synsets()
    assert len(synsets) == 1000
    ids = list(synsets)
    assert ids == sorted(ids)
    words = list(synsets.values())
    words[ids.index("n03126707")] = "crane2"  # as the Hub's copy has it: two cranes
    assert pick_classes(words, ids) == tuple(range(1000)) == pick_classes(ids, ids)
    assert pick_classes(ids, ["tench", "goldfish"]) == (0, 1)


@pytest.mark.parametrize(
    ("preset", "count"),
    [("in1k_imagenette", 10), ("in1k_imagewoof", 10), ("in1k_imagenet100", 100)],
)
def test_published_subsets_are_classes_of_imagenet_in_label_order(preset: str, count: int) -> None:
    config = yaml.safe_load((CONFIGS / f"{preset}.yaml").read_text("utf-8"))
    assert config["classes"] == sorted(set(config["classes"]))
    assert len(config["classes"]) == config["num_classes"] == count
    assert config["test_images"] == 50 * count
    pick_classes(list(imagenet_synsets().values()), config["classes"])


def config(root: Path, **changes: object) -> DatasetConfig:
    plain = DatasetConfig(name="x", kind="imagefolder", root=str(root), split_test="val")
    return replace(plain, **changes)


def test_a_folder_without_splits_holds_out_a_share(tmp_path: Path) -> None:
    write_imagefolder(tmp_path, per_class=40, split=".")
    train, test = open_sources(config(tmp_path))
    assert (train.class_counts() + test.class_counts()).tolist() == [40, 40, 40]
    assert 0 < test.class_counts().sum() < 30
    assert open_sources(config(tmp_path, holdout=0.5))[1].class_counts().sum() > 40


def test_no_test_split_holds_out_of_the_training_split(tmp_path: Path) -> None:
    write_imagefolder(tmp_path, per_class=40)
    with pytest.raises(Refused, match=r"no split 'val' .* or dataset\.split_test=null to hold out"):
        open_sources(config(tmp_path))
    train, test = open_sources(config(tmp_path, split_test=None, classes=["cat", "bee"]))
    assert train.class_names == test.class_names == ("cat", "bee")
    assert (train.class_counts() + test.class_counts()).tolist() == [40, 40]


def test_both_splits_have_the_chosen_classes_of_any_kind(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write_imagefolder(tmp_path / "folder", split=split)
        write_parquet(tmp_path / f"parquet/{split}-0.parquet", [0, 1, 2] * 3, names=CLASSES)
    (tmp_path / "chosen.txt").write_text("cat\nant\n")
    for kind in ("folder", "parquet"):
        whole = config(tmp_path / kind, kind=kind.replace("folder", "imagefolder"))
        for classes in (["cat", "ant"], str(tmp_path / "chosen.txt")):
            for num_classes in (None, 2, 3):
                given = replace(whole, classes=classes, num_classes=num_classes)
                for source in open_sources(given):
                    assert source.class_names == ("cat", "ant")
                    assert np.bincount([r.class_index for r in all_rows(source)]).tolist() == [3, 3]
    with pytest.raises(Refused, match="a list of names or a file, not 3"):
        open_sources(config(tmp_path / "folder", classes=3))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "\ufefftench\r\ngreat white shark\r\n"),
        ("class_to_idx.json", '{"great white shark": 1, "tench": 0}'),
        ("id2label.json", '\ufeff{"1": "great white shark", "0": "tench"}'),
        ("names", '["tench", "great white shark"]'),
    ],
)
def test_class_lists_are_known_by_content(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    expected = ("tench", "great white shark")
    assert read_class_names(tmp_path / name) == expected
    (tmp_path / "wide.txt").write_text("tench\ngreat white shark", encoding="utf-16")
    assert read_class_names(tmp_path / "wide.txt") == expected


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("synset_words.txt", "n01440764 tench, Tinca tinca\nn01484850 great white shark\n"),
        (
            "imagenet_class_index.json",
            '{"0": ["n01440764", "tench"], "1": ["n01484850", "great_white_shark"]}',
        ),
        ("wnids.txt", "n01440764\nn01484850\n"),
    ],
)
def test_lists_of_imagenet_name_classes_by_id(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    assert read_class_names(tmp_path / name) == ("n01440764", "n01484850")


@pytest.mark.parametrize("text", ['{"a": 0, "b": 2}', '{"a": 0, "b": 0}', '{"0": 1, "x": []}'])
def test_numbered_lists_with_gaps_are_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text(text)
    with pytest.raises(ValueError, match="must number its"):
        read_class_names(tmp_path / "list.json")
