"""Archives: nothing is lost without being counted, and every label is its own image's."""

import gzip
import io
import json
import os
import random
import tarfile
from collections.abc import Callable
from pathlib import Path

import fsspec
import numpy as np
import pytest
from PIL import Image

from raydd.data.sources import Row, Source, open_source
from raydd.data.sources.archives.source import WebDatasetSource
from raydd.data.sources.files import names_split
from raydd.data.sources.splits import shared_files
from small_sets import CLASSES, all_rows, png, write_imagefolder, write_parquet, write_tar

SAMPLES = 30


def members(
    count: int = SAMPLES,
    image: str = "{k}.png",
    label: str = "{k}.cls",
    text: Callable[[int], str] = str,
    start: int = 0,
) -> list[tuple[str, bytes]]:
    """Samples whose pixels are of seed n and whose class is n % 3; see ``assert_all_right``."""
    found = []
    for n in range(start, start + count):
        names = {"k": f"{n:06d}", "c": CLASSES[n % 3]}
        found.append((image.format(**names), png(n)))
        if label:
            found.append((label.format(**names), text(n % 3).encode()))
    return found


SEEDS = {png(n): n for n in range(6 * SAMPLES)}


def open_train(root: Path | str, **options: object) -> Source:
    return open_source("webdataset", str(root), "train", **{"class_names": CLASSES, **options})


def remote(folder: Path) -> str:
    """A copy where archives cannot be looked at before they are read."""
    name = f"/tars-{folder.name}-{folder.parent.name}"
    fsspec.filesystem("memory").put(f"{folder}/", f"{name}/", recursive=True)
    return f"memory:/{name}"


def assert_all_right(rows: list[Row], count: int) -> None:
    assert [row.reason for row in rows] == [None] * count
    assert all(row.class_index == SEEDS[row.image] % 3 for row in rows)
    assert len({row.image for row in rows}) == count


def rejected(rows: list[Row]) -> int:
    return sum(row.images for row in rows if row.reason is not None)


def used(rows: list[Row]) -> int:
    return sum(row.reason is None for row in rows)


def shards(root: Path, count: int = 4, **options: object) -> None:
    for shard in range(count):
        write_tar(root / f"train-{shard}.tar", members(start=SAMPLES * shard, **options))


# --- cut and damaged archives


def spoil(path: Path, how: str) -> None:
    content = path.read_bytes()
    header = content.index(b"000033.png")
    spoiled = {
        "in a member": content[: header + 700],
        "in a header": content[: header + 100],
        "between members": content[:header],
        "reserved only": content[: header + 700] + bytes(len(content) - header - 700),
        "empty": b"",
        "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        "only zeros": bytes(len(content)),
    }
    path.write_bytes(spoiled[how])


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ("in a member", "ends in the middle of a member, after 3 of about 30 samples; fetch it"),
        ("in a header", "ends in the middle of a member, after 3 of about 30 samples; fetch it"),
        ("between members", "no end mark, .* after 3 of about 30 samples; .* head -c 1024 /dev/ze"),
        ("reserved only", "bytes of zeros, after 3 of about 30 samples; fetch it"),
        ("empty", "is empty, after 0 of about 30 samples; .* or move it away to go on without it"),
        ("pointer", "is no tar archive .*version https://git-lfs"),
        ("only zeros", "bytes of zeros, after 0 of about 30 samples"),
    ],
)
def test_a_local_archive_that_is_cut_is_refused_before_any_work(
    tmp_path: Path, how: str, sentence: str
) -> None:
    shards(tmp_path)
    assert_all_right(all_rows(open_train(tmp_path)), 4 * SAMPLES)
    spoil(tmp_path / "train-1.tar", how)
    with pytest.raises(ValueError, match=rf"holds train-1\.tar, which .*{sentence}"):
        open_train(tmp_path)


@pytest.mark.parametrize("how", ["in a member", "between members", "reserved only", "empty"])
@pytest.mark.parametrize("number", [0, 2])
def test_an_archive_cut_on_a_store_counts_about_all_it_has_lost(
    tmp_path: Path, how: str, number: int
) -> None:
    shards(tmp_path / "set", 3)
    spoil(tmp_path / "set/train-1.tar", how)
    cut, other = (tmp_path / f"set/train-{name}.tar" for name in (1, number))
    other.rename(tmp_path / "set/train-3.tar")
    cut.rename(other)
    rows = all_rows(open_train(remote(tmp_path / "set")))
    lost = SAMPLES if how == "empty" else SAMPLES - 3
    assert used(rows) == 3 * SAMPLES - lost
    assert abs(rejected(rows) - lost) <= 10240 / 2048  # how an archive is padded is not known
    assert any("about" in str(row.reason) for row in rows)


@pytest.mark.parametrize("place", ["local", "store"])
def test_a_damaged_middle_counts_what_its_bytes_held_and_the_rest_is_read(
    tmp_path: Path, place: str
) -> None:
    shards(tmp_path / "set", 2)
    path = tmp_path / "set/train-0.tar"
    content = path.read_bytes()
    begin, end = content.index(b"000005.png"), content.index(b"000015.png")
    for spoiled in (b"\xff" * (end - begin), bytes(end - begin)):
        path.write_bytes(content[:begin] + spoiled + content[end:])
        root = tmp_path / "set" if place == "local" else remote(tmp_path / "set")
        rows = all_rows(open_train(root))
        assert used(rows) == 2 * SAMPLES - 10
        assert abs(rejected(rows) - 10) <= 1  # they are not equally large
        assert_all_right([row for row in rows if row.reason is None], 2 * SAMPLES - 10)


def test_a_small_hole_is_not_taken_for_the_padding_of_an_archive(tmp_path: Path) -> None:
    shards(tmp_path, 1)
    content = (tmp_path / "train-0.tar").read_bytes()
    begin, end = content.index(b"000005.png"), content.index(b"000007.png")
    (tmp_path / "train-0.tar").write_bytes(content[:begin] + bytes(end - begin) + content[end:])
    rows = all_rows(open_train(tmp_path))
    assert (used(rows), rejected(rows)) == (SAMPLES - 2, 2)


@pytest.mark.parametrize("spoiled", ["000005.png", "000005.cls"])
def test_the_remains_of_a_sample_are_not_counted_again(tmp_path: Path, spoiled: str) -> None:
    shards(tmp_path, 1)
    content = bytearray((tmp_path / "train-0.tar").read_bytes())
    begin = content.index(spoiled.encode())
    content[begin : begin + 9] = b"\xff" * 9
    (tmp_path / "train-0.tar").write_bytes(content)
    rows = all_rows(open_train(tmp_path))
    assert (used(rows), rejected(rows)) == (SAMPLES - 1, 1)


def test_archives_padded_to_large_records_and_joined_ones_are_whole(tmp_path: Path) -> None:
    for number, record in ((0, 512), (1, 10240), (2, 1 << 16), (3, 1 << 20)):
        write_tar(tmp_path / f"train-{number}.tar", members(start=SAMPLES * number))
        content = (tmp_path / f"train-{number}.tar").read_bytes().rstrip(b"\0")
        content += bytes(-len(content) % 512 + 1024)
        content += bytes(-len(content) % record)
        (tmp_path / f"train-{number}.tar").write_bytes(content)
    joined = b"".join((tmp_path / f"train-{n}.tar").read_bytes() for n in (1, 0))
    for number in (0, 1):
        (tmp_path / f"train-{number}.tar").unlink()
    (tmp_path / "train-4.tar").write_bytes(joined)
    assert_all_right(all_rows(open_train(tmp_path)), 4 * SAMPLES)


# --- keys


@pytest.mark.parametrize("image", ["img.{k}.png", "set/2019.05.{k}.png", "v1.0_{k}.png"])
@pytest.mark.parametrize("label", [".cls", ".json", ".cls.txt", ".txt"])
def test_names_that_hold_dots_are_samples_of_their_own(
    tmp_path: Path, image: str, label: str
) -> None:
    text = (lambda c: json.dumps({"label": c})) if label == ".json" else str
    shards(tmp_path, image=image, label=image.removesuffix(".png") + label, text=text)
    assert_all_right(all_rows(open_train(tmp_path)), 4 * SAMPLES)


def test_an_archive_of_other_names_than_the_first_counts_all_its_images(tmp_path: Path) -> None:
    write_tar(tmp_path / "train-0.tar", members())
    write_tar(
        tmp_path / "train-1.tar", members(start=SAMPLES, image="i.{k}.png", label="i.{k}.cls")
    )
    rows = all_rows(open_train(tmp_path))
    assert (used(rows), rejected(rows)) == (SAMPLES, SAMPLES)
    assert rows[-1].reason == f"the key 'i' has {SAMPLES} images"


@pytest.mark.parametrize("is_remote", [False, True])
def test_an_archive_that_is_not_sorted_is_refused_or_counted_once(
    tmp_path: Path, is_remote: bool
) -> None:
    images, labels = members()[::2], members()[1::2]
    mixed = members()
    random.Random(0).shuffle(mixed)
    for number, order in enumerate((images + labels, labels + images, mixed)):
        folder = tmp_path / f"set{number}"
        write_tar(folder / "train-0.tar", order)
        if is_remote:
            rows = all_rows(open_train(remote(folder)))
            assert used(rows) + rejected(rows) == SAMPLES
            assert rejected(rows) > SAMPLES / 2
            assert any("tar --sort=name" in str(row.reason) for row in rows)
        else:
            with pytest.raises(ValueError, match=r"train-0\.tar, where .* with tar --sort=name"):
                open_train(folder)


def test_an_archive_without_images_counts_its_keys(tmp_path: Path) -> None:
    write_tar(tmp_path / "train-0.tar", members())
    write_tar(tmp_path / "train-1.tar", [(f"{n}.npy", b"\x93NUMPY") for n in range(7)])
    write_tar(tmp_path / "train-2.tar", [])
    rows = all_rows(open_train(tmp_path))
    assert (used(rows), rejected(rows)) == (SAMPLES, 7)
    assert rows[-1].id == "train-1.tar#0"


# --- labels


@pytest.mark.parametrize(
    ("image", "label", "text"),
    [
        ("{k}.png", "{k}.cls", str),
        ("{k}.png", "{k}.cls", lambda c: f"\ufeff{c}.0\n"),
        ("{k}.png", "{k}.cls.txt", lambda c: f"{c}\n"),
        ("{k}.png", "{k}.label", lambda c: CLASSES[c]),
        ("{k}.png", "{k}.label.txt", str),
        ("{k}.png", "{k}.txt", lambda c: CLASSES[c]),
        ("./train/{k}.png", "./train/{k}.txt", str),
        ("{k}.input.png", "{k}.output.cls", str),
        ("{k}/input.png", "{k}/output.cls", str),
        ("{k}/image.png", "{k}/label.txt", lambda c: CLASSES[c]),
        ("{k}.png", "{k}.json", lambda c: json.dumps({"cls": c})),
        ("{k}.png", "{k}.json", lambda c: json.dumps({"class": CLASSES[c]})),
        ("{k}.png", "{k}.json", lambda c: json.dumps({"label": str(c)})),
        ("{k}.png", "{k}.json", lambda c: json.dumps({"class_index": float(c)})),
        ("{k}.png", "{k}.json", lambda c: json.dumps({"class_name": CLASSES[c], "label": c})),
        ("{k}.png", "{k}.json", lambda c: json.dumps({"class_name": "?", "class_index": c})),
    ],
)
def test_labels_are_read_as_people_write_them(
    tmp_path: Path, image: str, label: str, text: Callable[[int], str]
) -> None:
    shards(tmp_path, 2, image=image, label=label, text=text)
    (tmp_path / "classes.txt").write_text("ant\nbee\ncat\n")
    assert_all_right(all_rows(open_train(tmp_path)), 2 * SAMPLES)
    assert_all_right(all_rows(open_train(remote(tmp_path))), 2 * SAMPLES)


def test_labels_that_contradict_each_other_are_no_label(tmp_path: Path) -> None:
    record = json.dumps({"label": 0, "class_name": "bee"}).encode()
    write_tar(tmp_path / "0.tar", [("a.png", png(0)), ("a.json", record)])
    (row,) = all_rows(open_train(tmp_path))
    assert row.reason == "the .json member means the classes 0 and 1"


def test_captions_and_notes_are_no_labels(tmp_path: Path) -> None:
    found = [("README.txt", b"hello")]
    for name, content in members():
        found += [(name, content)] + ([(name[:-3] + "txt", b"2")] if name.endswith("png") else [])
    write_tar(tmp_path / "0.tar", found)
    assert_all_right(all_rows(open_train(tmp_path)), SAMPLES)


def test_images_without_any_label_are_refused(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", members(label=""))
    with pytest.raises(ValueError, match=r"0\.tar, where none of 30 images has a label"):
        open_train(tmp_path)
    write_tar(tmp_path / "0.tar", [("n01440764.tar", b"inner"), ("n01443537.tar", b"inner")])
    with pytest.raises(ValueError, match=r"has neither images nor labels .*n01440764"):
        open_train(tmp_path)


@pytest.mark.parametrize(
    "image", ["{c}/{k}.png", "train/{c}/{k}.png", "./{c}/images/{k}.png", "{c}/a.{k}.png"]
)
def test_folders_within_archives_are_classes(tmp_path: Path, image: str) -> None:
    ordered = sorted(members(3 * SAMPLES, image, ""), key=lambda member: member[0])
    for shard in range(3):  # a class each
        write_tar(tmp_path / f"train-{shard}.tar", ordered[SAMPLES * shard : SAMPLES * (shard + 1)])
    source = open_train(tmp_path, class_names=None)
    assert source.class_names == CLASSES
    assert_all_right(all_rows(source), 3 * SAMPLES)
    assert_all_right(all_rows(open_train(remote(tmp_path))), 3 * SAMPLES)
    turned = open_train(tmp_path, class_names=CLASSES[::-1])
    assert [row.class_index for row in all_rows(turned)] == [
        2 - row.class_index for row in all_rows(source)
    ]


@pytest.mark.parametrize(
    ("folders", "sentence"),
    [
        (("images",), r"in folders of one class \(images\)"),
        (("train/ant", "train/bee", "val/ant"), r"of the splits train, val \(train/ant"),
    ],
)
def test_folders_that_are_no_classes_are_refused(
    tmp_path: Path, folders: tuple[str, ...], sentence: str
) -> None:
    write_tar(tmp_path / "0.tar", [(f"{f}/{n}.png", png(n)) for f in folders for n in range(3)])
    with pytest.raises(ValueError, match=sentence):
        open_train(tmp_path, class_names=None)
    with pytest.raises(ValueError, match="none of which is one of the 2 classes"):
        open_train(tmp_path, class_names=["x", "y"])


def test_an_image_is_known_by_its_content(tmp_path: Path) -> None:
    jpeg = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(jpeg, "JPEG")
    write_tar(
        tmp_path / "0.tar",
        [
            ("a.picture", png(0)), ("a.cls", b"0"),
            ("b", jpeg.getvalue()), ("b.cls", b"1"),
            ("c.jfif", jpeg.getvalue()), ("c.cls", b"2"),
            ("d.npy", b"\x93NUMPY"), ("d.cls", b"2"),
            ("e.heic", b"\0\0\0\x18ftypheic"), ("e.cls", b"2"),
            ("f.png", png(3)), ("f.mask.png", png(4)), ("f.cls", b"0"),
        ],
    )  # fmt: skip
    rows = all_rows(open_train(tmp_path))
    assert [row.reason for row in rows] == [
        None,
        None,
        None,
        "the key 'd' has no image",
        None,
        None,
    ]
    assert [row.class_index for row in rows] == [0, 1, 2, 2, 2, 0]
    assert rows[-1].image == png(3)


def test_ids_name_the_key_and_can_be_fetched_without_it(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", [("a/ä\n1.png", png(0)), ("a/ä\n1.cls", b"7"),
                                   ("b.png", png(1)), ("b.cls", b"1")])  # fmt: skip
    source = open_train(tmp_path)
    bad, good = all_rows(source)
    assert bad.id.endswith(":a/ä?1")
    assert good.id.endswith(":b")
    place = good.id.rpartition(":")[0]
    assert source.fetch([good.id, place, bad.id]) == {
        good.id: png(1), place: png(1), bad.id: png(0),
    }  # fmt: skip


# --- identity


def relabelled(path: Path) -> None:
    with tarfile.open(path) as archive:
        place = next(member for member in archive if member.name.endswith(".cls")).offset_data
    content = bytearray(path.read_bytes())
    content[place : place + 1] = b"2"
    path.write_bytes(content)


@pytest.mark.parametrize("keeps_time", [False, True])
def test_corrected_labels_are_another_set(tmp_path: Path, keeps_time: bool) -> None:
    shards(tmp_path, 2)
    path = tmp_path / "train-1.tar"
    before, times = open_train(tmp_path).fingerprint, os.stat(path)
    assert open_train(tmp_path).fingerprint == before
    relabelled(path)
    assert path.stat().st_size == times.st_size
    if keeps_time:
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert open_train(tmp_path).fingerprint != before


def test_a_large_set_is_known_by_its_stamps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raydd.data.sources.archives.survey.SMALL_BYTES", 0)
    shards(tmp_path, 2)
    before = open_train(tmp_path).fingerprint
    assert open_train(tmp_path).fingerprint == before
    relabelled(tmp_path / "train-1.tar")
    assert open_train(tmp_path).fingerprint != before


# --- splits


@pytest.mark.parametrize(
    ("name", "splits"),
    [
        ("train0000", {"train"}), ("val0000", {"val"}), ("imagenet-train-000000", {"train"}),
        ("Train_3", {"train"}), ("cifar10train01", {"train"}), ("x.validation.0", {"validation"}),
        ("trainval-0", {"trainval"}), ("latest-0", set()), ("trained0", set()),
        ("interval1", set()), ("train-of-test", {"train", "test"}),
    ],
)  # fmt: skip
def test_a_split_is_a_word_of_a_name(name: str, splits: set[str]) -> None:
    from raydd.data.sources.files import SPLIT_NAMES

    assert {split for split in SPLIT_NAMES if names_split(name, split)} == splits
    assert not names_split("val0000", "val0")


def files(source: Source) -> list[str]:
    assert isinstance(source, WebDatasetSource)
    return [path for path, _ in source.files]


def test_archives_named_without_separators_have_their_own_split(tmp_path: Path) -> None:
    for name in ("train0000", "train0001", "val0000"):
        write_tar(tmp_path / f"{name}.tar", members(3))
    assert files(open_train(tmp_path)) == ["train0000.tar", "train0001.tar"]
    for split in ("val", "validation", "val0000"):
        test = open_source("webdataset", str(tmp_path), split, class_names=CLASSES)
        assert files(test) == ["val0000.tar"]
    with pytest.raises(ValueError, match=r"no split 'test' \(it has train, val\)"):
        open_source("webdataset", str(tmp_path), "test", class_names=CLASSES)


@pytest.mark.parametrize("names", [("mytrain0", "mytest0"), ("trainset0", "valset0"), ("a", "dev")])
def test_archives_that_may_be_of_several_splits_are_refused(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    for name in names:
        write_tar(tmp_path / f"{name}.tar", members(3))
    with pytest.raises(ValueError, match="may be of several splits"):
        open_train(tmp_path)


def test_unmarked_archives_and_folders_of_the_hub_are_found(tmp_path: Path) -> None:
    for number in range(2):
        write_tar(tmp_path / f"a/latest-{number:03d}.tar", members(3))
        write_tar(tmp_path / f"b/data/x-train-{number}.tar", members(3))
        write_tar(tmp_path / f"c/training/part{number}/0.tar", members(3))
    assert len(files(open_train(tmp_path / "a"))) == 2
    assert len(files(open_train(tmp_path / "b"))) == 2
    assert files(open_train(tmp_path / "c")) == ["training/part0/0.tar", "training/part1/0.tar"]
    (tmp_path / "c/val").mkdir()
    with pytest.raises(ValueError, match=r"a folder 'val' without any \.tar archive in it"):
        open_source("webdataset", str(tmp_path / "c"), "val", class_names=CLASSES)
    with pytest.raises(ValueError, match=r"its folder 'a' does; set dataset\.root=.*/a"):
        open_train(tmp_path)


def test_what_is_passed_over_is_counted_by_kind(tmp_path: Path) -> None:
    shards(tmp_path, 2)
    for name in ("train-0.json", "train-1.json", "train-0.tar.gz", "README.md", "val-0.idx", ".x"):
        (tmp_path / name).write_text("{}")
    (tmp_path / "classes.txt").write_text("ant\nbee\ncat\n")
    assert open_train(tmp_path).unused == {".json": 2, ".md": 1, ".tar.gz": 1}
    write_tar(tmp_path / "train/0.tar", members(3))
    write_tar(tmp_path / "extra.tar", members(3))
    assert open_train(tmp_path).unused == {".tar": 2, ".tar.gz": 1}
    (tmp_path / "train/0.tar").unlink()
    assert open_train(tmp_path).unused == {".json": 2, ".md": 1, ".tar": 1, ".tar.gz": 1}


@pytest.mark.parametrize(("ending", "cure"), [(".tar.gz", "gunzip "), (".tgz", "gunzip -S .tgz ")])
def test_a_compressed_archive_is_refused_with_its_cure(
    tmp_path: Path, ending: str, cure: str
) -> None:
    shards(tmp_path, 2)
    (tmp_path / f"train-1{ending}").write_bytes(
        gzip.compress((tmp_path / "train-1.tar").read_bytes())
    )
    assert_all_right(all_rows(open_train(tmp_path)), 2 * SAMPLES)
    (tmp_path / "train-1.tar").unlink()
    for root in (tmp_path, f"{tmp_path}/*{ending}", remote(tmp_path)):
        with pytest.raises(
            ValueError, match=rf"compressed.*unpack it first.*{cure}train-1{ending}"
        ):
            open_train(root)


def test_files_of_two_splits_are_found_in_every_kind(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write_tar(tmp_path / f"w/{split}-0.tar", members(3))
        write_parquet(tmp_path / f"p/{split}-0.parquet", [0, 1, 2], names=CLASSES)
        write_imagefolder(tmp_path / "f", split=split)
    for kind, folder in (("webdataset", "w"), ("parquet", "p"), ("imagefolder", "f")):
        train, val = (
            open_source(kind, str(tmp_path / folder), split, class_names=CLASSES)
            for split in ("train", "val")
        )
        assert shared_files(train, val) == []
        assert len(shared_files(train, train)) == 1
    (tmp_path / "w/val-0.tar").unlink()
    (tmp_path / "w/val-0.tar").symlink_to("train-0.tar")
    test = open_source("webdataset", str(tmp_path / "w"), "val", class_names=CLASSES)
    assert shared_files(open_train(tmp_path / "w"), test) == [f"file://{tmp_path}/w/train-0.tar"]
    digits = [open_source("digits", "", split) for split in ("train", "test")]
    assert shared_files(*digits) == []


# --- plans


def test_images_are_counted_by_headers(tmp_path: Path) -> None:
    shards(tmp_path / "few", 3)
    few = open_train(tmp_path / "few")
    assert few.estimate_count() == 3 * SAMPLES
    shards(tmp_path / "many", 6)
    for number in range(6, 120):
        os.link(tmp_path / f"many/train-{number % 6}.tar", tmp_path / f"many/train-{number}.tar")
    many = open_train(tmp_path / "many")
    assert abs(many.estimate_count() / (120 * SAMPLES) - 1) < 0.05
    assert open_train(remote(tmp_path / "few")).estimate_count() is None
