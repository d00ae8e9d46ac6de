"""Every kind of source: whole, in shards and by id it gives the same images."""

import io
import os
import pickle
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from upath import UPath

from raydd.data.images import decode_rgb
from raydd.data.sources import KINDS, Source, open_source
from raydd.data.sources.parquet import scan as parquet_scan
from small_sets import CLASSES, all_rows, png, write_imagefolder, write_parquet, write_tar


def digits(_: Path) -> Source:
    return open_source("digits", "", "test")


def imagefolder(folder: Path) -> Source:
    write_imagefolder(folder)
    return open_source("imagefolder", str(folder), "train")


def parquet_files(folder: Path) -> Source:
    for number in range(3):
        write_parquet(
            folder / "data" / f"train-{number:05d}-of-00003.parquet",
            [0, 1, 2] * 3,
            [png(10 * number + row) for row in range(9)],
            names=CLASSES,
        )
    return open_source("parquet", str(folder), "train")


def webdataset(folder: Path) -> Source:
    for number in range(2):
        members = []
        for row in range(5):
            members += [
                (f"{row:03d}.png", png(10 * number + row)),
                (f"{row:03d}.cls", str(row % 3).encode()),
            ]
        write_tar(folder / f"some-train-{number:04d}.tar", members)
    return open_source("webdataset", str(folder), "train", class_names=CLASSES)


BUILDERS = {
    "digits": digits,
    "imagefolder": imagefolder,
    "parquet": parquet_files,
    "webdataset": webdataset,
}


@pytest.fixture(params=sorted(BUILDERS))
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    return BUILDERS[request.param](tmp_path)


def test_every_kind_is_covered() -> None:
    assert sorted(BUILDERS) == sorted(KINDS)


def test_rows_are_good_unique_and_labelled(source: Source) -> None:
    rows = all_rows(source)
    assert all(row.reason is None and row.image for row in rows)
    assert len({row.id for row in rows}) == len(rows) > 0
    assert {row.class_index for row in rows} == set(range(len(source.class_names)))


def test_two_passes_agree(source: Source) -> None:
    assert all_rows(source) == all_rows(source)


def test_fetch_equals_read_and_keeps_the_order_asked_for(source: Source) -> None:
    rows = all_rows(source)
    wanted = [row.id for row in rows][::-2]
    fetched = source.fetch(wanted)
    assert list(fetched) == wanted
    images = {row.id: row.image for row in rows}
    assert all(fetched[row_id] == images[row_id] for row_id in wanted)
    assert source.fetch([]) == {}


def test_a_pickled_copy_reads_the_same_and_is_small(source: Source) -> None:
    pickled = pickle.dumps(source)
    assert len(pickled) < 2000
    copy = pickle.loads(pickled)
    assert all_rows(copy) == all_rows(source)
    assert copy.fingerprint == source.fingerprint


def test_counts_agree_with_the_rows(source: Source) -> None:
    counts = source.class_counts()
    if counts is not None:
        rows = np.bincount([row.class_index for row in all_rows(source)])
        np.testing.assert_array_equal(counts, rows)
        assert counts.dtype == np.int64


def test_shard_names_are_unique(source: Source) -> None:
    names = [shard.name for shard in source.shards()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("row_id", ["nonsense", "train/../../x.png", "a.tar#0+9", "digits#99999"])
def test_an_unknown_id_is_refused(source: Source, row_id: str) -> None:
    with pytest.raises(ValueError, match="holds no image"):
        source.fetch([row_id])


@pytest.mark.parametrize("kind", ["imagefolder", "parquet", "webdataset"])
def test_a_moved_copy_keeps_ids_and_fingerprint_and_a_changed_one_does_not(
    kind: str, tmp_path: Path
) -> None:
    first = BUILDERS[kind](tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")  # keeps the times
    options = {"class_names": CLASSES if kind == "webdataset" else None}
    second = open_source(kind, str(tmp_path / "b"), "train", **options)
    assert first.fingerprint == second.fingerprint
    assert all_rows(first) == all_rows(second)
    changed = next(path for path in sorted((tmp_path / "b").rglob("*")) if path.is_file())
    changed.write_bytes(changed.read_bytes() + b"\0")
    names = CLASSES if kind == "webdataset" else None
    if kind == "parquet":  # a parquet file with a byte more cannot be opened
        changed.unlink()
    reopened = open_source(kind, str(tmp_path / "b"), "train", class_names=names)
    assert reopened.fingerprint != first.fingerprint


@pytest.mark.parametrize("kind", ["imagefolder", "parquet", "webdataset"])
def test_a_uri_reads_as_a_local_folder_does(kind: str, tmp_path: Path) -> None:
    local = BUILDERS[kind](tmp_path)
    root = f"memory://sources-{kind}-{tmp_path.name}"
    memory = fsspec.filesystem("memory")
    memory.put(f"{tmp_path}/", f"/sources-{kind}-{tmp_path.name}/", recursive=True)
    names = CLASSES if kind == "webdataset" else None
    remote = open_source(kind, root, "train", class_names=names)
    assert all_rows(remote) == all_rows(local)
    ids = [row.id for row in all_rows(local)]
    assert remote.fetch(ids) == local.fetch(ids)
    again = open_source(kind, root, "train", class_names=names)
    assert remote.fingerprint == again.fingerprint


def test_digits_split_is_stratified_and_disjoint() -> None:
    train, test = open_source("digits", "", "train"), open_source("digits", "", "test")
    ids = [{row.id for row in all_rows(part)} for part in (train, test)]
    assert len(ids[0]) + len(ids[1]) == 1797
    assert not ids[0] & ids[1]
    share = np.asarray(test.class_counts()) / np.asarray(train.class_counts())
    assert share.min() > 0.22
    assert share.max() < 0.27
    assert decode_rgb(all_rows(test)[0].image).shape == (8, 8, 3)


def test_a_flat_image_folder_is_training_data_only(tmp_path: Path) -> None:
    write_imagefolder(tmp_path, split=".")
    assert len(all_rows(open_source("imagefolder", str(tmp_path), "train"))) == 9
    with pytest.raises(ValueError, match=r"no split 'test' \(it has no split"):
        open_source("imagefolder", str(tmp_path), "test")


def test_image_folder_reads_subfolders_and_reports_other_formats(tmp_path: Path) -> None:
    write_imagefolder(tmp_path, per_class=1)
    (tmp_path / "train/ant/images").mkdir()
    (tmp_path / "train/ant/images/a[1]*.JPEG").write_bytes(png(7))
    (tmp_path / "train/ant/boxes.txt").write_text("1 2 3 4")
    (tmp_path / "train/ant/old.bmp").write_bytes(b"BM")
    (tmp_path / "train/.cache").mkdir()
    source = open_source("imagefolder", str(tmp_path), "train")
    ids = [row.id for row in all_rows(source)]
    assert ids == ["ant/00.png", "ant/images/a[1]*.JPEG", "ant/old.bmp", "bee/00.png", "cat/00.png"]
    assert source.fetch(ids[1:2]) == {ids[1]: png(7)}


def test_image_folder_follows_links_to_files_and_classes_only(tmp_path: Path) -> None:
    write_imagefolder(tmp_path, per_class=1)
    (tmp_path / "train/dog").symlink_to(tmp_path / "train/cat")
    (tmp_path / "train/ant/linked.png").symlink_to(tmp_path / "train/bee/00.png")
    (tmp_path / "train/ant/up").symlink_to("..")
    source = open_source("imagefolder", str(tmp_path), "train")
    assert source.class_names == (*CLASSES, "dog")
    assert [(row.id, row.reason) for row in all_rows(source)] == [
        ("ant/00.png", None),
        ("ant/linked.png", None),
        ("ant/up", "a link to a folder is not followed"),
        ("bee/00.png", None),
        ("cat/00.png", None),
        ("dog/00.png", None),
    ]
    assert source.fetch(["ant/linked.png"]) == {"ant/linked.png": png(100)}


def test_names_that_are_not_text_are_spelled_or_refused(tmp_path: Path) -> None:
    write_imagefolder(tmp_path, per_class=1)
    (tmp_path / "train/ant" / os.fsdecode(b"\xff%.png")).write_bytes(png(7))
    source = open_source("imagefolder", str(tmp_path), "train")
    assert [row.id for row in all_rows(source)][1] == "/ant/%FF%25.png"
    assert source.fetch(["/ant/%FF%25.png"]) == {"/ant/%FF%25.png": png(7)}
    for row_id in ("ant/../bee/00.png", "/ant/%2E%2E/bee/00.png", "//etc/passwd"):
        with pytest.raises(ValueError, match="holds no image"):
            source.fetch([row_id])
    (tmp_path / "train" / os.fsdecode(b"\xff")).mkdir()
    with pytest.raises(ValueError, match="is not UTF-8; rename it"):
        open_source("imagefolder", str(tmp_path), "train")
    write_tar(tmp_path / os.fsdecode(b"\xff.tar"), [])
    with pytest.raises(ValueError, match="is not UTF-8; rename this file"):
        open_source("webdataset", str(tmp_path), "train", num_classes=1)


def test_image_folder_takes_the_order_and_subset_of_a_class_list(tmp_path: Path) -> None:
    write_imagefolder(tmp_path, per_class=1)
    source = open_source("imagefolder", str(tmp_path), "train", class_names=["cat", "ant"])
    assert [(row.id, row.class_index) for row in all_rows(source)] == [
        ("cat/00.png", 0),
        ("ant/00.png", 1),
    ]
    with pytest.raises(ValueError, match="no folder 'dog'"):
        open_source("imagefolder", str(tmp_path), "train", class_names=["ant", "dog"])
    with pytest.raises(ValueError, match=r"has 3 class folders .* says 4"):
        open_source("imagefolder", str(tmp_path), "train", num_classes=4)


def test_image_folder_lists_nothing_but_class_folders_on_the_driver(tmp_path: Path) -> None:
    write_imagefolder(tmp_path, per_class=50)
    source = open_source("imagefolder", str(tmp_path), "train")
    assert len(pickle.dumps((source, source.shards()))) < 2000


@pytest.mark.parametrize(
    "place", ["data/{}-00000-of-00001.parquet", "{}-00000-of-00001.parquet", "{}/0000.parquet"]
)
def test_three_parquet_layouts_and_other_column_names(tmp_path: Path, place: str) -> None:
    for split, count in (("train", 4), ("test", 2)):
        labels = list(range(count))
        write_parquet(tmp_path / place.format(split), labels, columns=("img", "fine_label"))
    options = {"image_column": "img", "label_column": "fine_label"}
    train = open_source("parquet", str(tmp_path), "train", **options)
    assert train.class_names == ("0", "1", "2", "3")
    names = train.class_names
    test = open_source("parquet", str(tmp_path), "test", class_names=names, **options)
    assert [row.id for row in all_rows(test)] == [f"{place.format('test')}#{row}" for row in (0, 1)]
    with pytest.raises(ValueError, match=r"no column 'image' \(it has img, fine_label\)"):
        open_source("parquet", str(tmp_path), "train")


def test_a_large_parquet_file_is_cut_into_runs_of_row_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_parquet(tmp_path / "train-0.parquet", [0, 1] * 20, names="ab", row_group=4)
    whole = all_rows(open_source("parquet", str(tmp_path), "train"))
    monkeypatch.setattr(parquet_scan, "SHARD_BYTES", 8000)
    source = open_source("parquet", str(tmp_path), "train")
    assert 2 < len(source.shards()) < 10
    assert all_rows(source) == whole
    assert [row.id for row in whole] == [f"train-0.parquet#{row}" for row in range(40)]


def test_parquet_fetch_reads_few_row_groups(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train-0.parquet", [0] * 400, [b"x" * 5000] * 399 + [b"last"])
    source = open_source("parquet", str(tmp_path), "train")
    assert source.fetch(["train-0.parquet#399"]) == {"train-0.parquet#399": b"last"}
    file = pq.ParquetFile(tmp_path / "train-0.parquet")
    assert file.num_row_groups == 100


def test_parquet_fetch_passes_over_long_stretches_without_a_chosen_row(tmp_path: Path) -> None:
    rows = [{"bytes": bytes([i]), "path": None} for i in range(200)]
    table = pa.table({"image": rows, "label": [0] * 200})
    pq.write_table(table, tmp_path / "train-0.parquet")  # one row group, read in several batches
    source = open_source("parquet", str(tmp_path), "train", num_classes=1)
    assert source.fetch(["train-0.parquet#190"]) == {"train-0.parquet#190": bytes([190])}


def write_plain_parquet(path: Path, images: list[bytes | None]) -> None:
    """As `datasets` writes images: not compressed, not in a dictionary, with a page index."""
    structs = [None if image is None else {"bytes": image, "path": None} for image in images]
    leaves = ("image.bytes", "image.path")
    pq.write_table(
        pa.table({"image": structs, "label": [0] * len(images)}), path, row_group_size=700,
        compression=dict.fromkeys((*leaves, "label"), "none"), use_dictionary=["label"],
        column_encoding=dict.fromkeys(leaves, "PLAIN"), write_page_index=True,
        use_content_defined_chunking={"min_chunk_size": 2000, "max_chunk_size": 9000},
    )  # fmt: skip


def test_uncompressed_parquet_images_are_fetched_by_their_place(tmp_path: Path) -> None:
    images = [None if row % 50 == 7 else png(row)[: 30 + row] for row in range(1000)]
    write_plain_parquet(tmp_path / "train-0.parquet", images)
    source = open_source("parquet", str(tmp_path), "train", num_classes=1)
    rows = all_rows(source)
    assert [row.image or None for row in rows] == images
    content = (tmp_path / "train-0.parquet").read_bytes()
    good = [row for row in rows if row.reason is None]
    for row in good:
        offset, size = map(int, row.id.rpartition("@")[2].split("+"))
        assert content[offset : offset + size] == row.image
    assert source.fetch([row.id for row in good]) == {row.id: row.image for row in good}
    # A place that lies is not believed: the row is read from its row group.
    false = f"{good[3].id.partition('@')[0]}@40+9"
    assert source.fetch([false]) == {false: good[3].image}


def test_a_parquet_column_without_encoded_images_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [[1, 2]], "label": [0]}), tmp_path / "train-0.parquet")
    with pytest.raises(ValueError, match=r"holds list<element: int64>, not encoded images"):
        open_source("parquet", str(tmp_path), "train")


def test_parquet_classes_come_from_names_in_text_labels(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train-0.parquet", ["cat", "ant", "cat"])
    source = open_source("parquet", str(tmp_path), "train")
    assert source.class_names == ("ant", "cat")
    assert [row.class_index for row in all_rows(source)] == [1, 0, 1]
    np.testing.assert_array_equal(source.class_counts(), [1, 2])


@pytest.mark.parametrize(
    ("options", "labels", "names", "message"),
    [
        ({"class_names": ["b", "c"]}, [0, 1], "ab", "images of the class 'a', which is none of"),
        ({"num_classes": 3}, [0, 1], "ab", "has 2 classes, dataset.num_classes says 3"),
        ({}, [0, 5], None, r"are 0, 5, not 0\.\.C-1"),
    ],
)
def test_parquet_classes_that_disagree_are_refused(
    tmp_path: Path, options: dict, labels: list, names: str | None, message: str
) -> None:
    write_parquet(tmp_path / "train-0.parquet", labels, names=names)
    with pytest.raises(ValueError, match=message):
        open_source("parquet", str(tmp_path), "train", **options)


def test_bad_parquet_rows_are_reported_and_the_pass_goes_on(tmp_path: Path) -> None:
    labels = [0, 7, -1, None, 1, 1]
    images = [png(0), png(1), png(2), png(3), None, png(5)]
    write_parquet(tmp_path / "train-0.parquet", labels, images, names="ab")
    source = open_source("parquet", str(tmp_path), "train")
    reasons = [row.reason for row in all_rows(source)]
    assert reasons == [
        None,
        "the label 7 is out of range 0..1",
        "the label is -1: the image has no class",
        "the label is missing",
        "the image is null",
        None,
    ]
    np.testing.assert_array_equal(source.class_counts(), [1, 2])


def test_bad_tar_members_are_reported_and_the_pass_goes_on(tmp_path: Path) -> None:
    write_tar(
        tmp_path / "x.tar",
        [
            ("a.jpg", png(0)), ("a.cls", b"bee\n"),
            ("dir/b.png", png(1)), ("dir/b.json", b'{"label": 2}'), ("dir/b.txt", b"caption"),
            ("../c.png", png(2)),
            ("/etc/d.png", png(3)),
            ("e.png", png(4)),
            ("f.png", png(5)), ("f.cls", b"9"),
            ("g.cls", b"0"),
            ("h.png", png(6)), ("h.json", b"{not json"),
            ("a.jpg", png(7)), ("a.cls", b"0"),
            ("i.png", png(8)), ("i.jpg", png(8)), ("i.cls", b"0"),
            ("j.png", png(9)), ("j.cls", b"wolf"),
            ("k.png", b""), ("k.cls", b"0"),
        ],
    )  # fmt: skip
    source = open_source("webdataset", str(tmp_path), "train", class_names=CLASSES)
    rows = all_rows(source)
    assert [(row.class_index, row.reason) for row in rows] == [
        (1, None),
        (-1, "the member name '../c.png' leaves the archive's root"),
        (-1, "the member name '/etc/d.png' leaves the archive's root"),
        (2, None),
        (-1, "there is no label beside it (.cls, .label, .txt or .json)"),
        (-1, "the label 9 is out of range 0..2"),
        (0, "the key 'g' has no image"),
        (-1, "the .json member is not valid json"),
        (0, "the key 'a' occurs twice in its archive"),
        (0, "the key 'i' has 2 images"),
        (-1, "the label 'wolf' is not a class name"),
        (0, None),
    ]
    assert len({row.id for row in rows}) == len(rows)
    assert [row.id.rpartition(":")[2] for row in rows] == [
        "a", "../c", "/etc/d", "dir/b", "e", "f", "g", "h", "a", "i", "j", "k",
    ]  # fmt: skip
    good = [row.id for row in rows if row.reason is None][:2]
    assert source.fetch(good) == {good[0]: png(0), good[1]: png(1)}


def test_a_link_in_an_archive_is_not_followed(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        link = tarfile.TarInfo("a.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        label = tarfile.TarInfo("a.cls")
        label.size = 1
        archive.addfile(label, io.BytesIO(b"0"))
    source = open_source("webdataset", str(tmp_path), "train", num_classes=1)
    assert [row.reason for row in all_rows(source)] == [
        "the member 'a.png' is not a plain file",
        "the key 'a' has no image",
    ]


def test_a_damaged_header_costs_its_own_sample_only(tmp_path: Path) -> None:
    members = [(f"{n}.{end}", content) for n in range(5)
               for end, content in (("png", png(n)), ("cls", b"0"))]  # fmt: skip
    write_tar(tmp_path / "x.tar", members)
    with tarfile.open(tmp_path / "x.tar") as archive:
        header = archive.getmember("2.png").offset
    content = bytearray((tmp_path / "x.tar").read_bytes())
    content[header : header + 9] = b"\xff" * 9
    (tmp_path / "x.tar").write_bytes(content)
    rows = all_rows(open_source("webdataset", str(tmp_path), "train", num_classes=1))
    assert [row.reason for row in rows] == [
        None,
        None,
        "the archive is damaged or cut short: bad checksum",
        "the key '2' has no image",
        None,
        None,
    ]


def test_an_archive_without_its_end_is_reported_and_two_in_one_file_are_read(
    tmp_path: Path,
) -> None:
    write_tar(tmp_path / "x.tar", [("a.png", png(0)), ("a.cls", b"0")])
    whole = (tmp_path / "x.tar").read_bytes()
    write_tar(tmp_path / "x.tar", [("b.png", png(1)), ("b.cls", b"0"), ("._b.png", b"macOS")])
    (tmp_path / "x.tar").write_bytes(whole + (tmp_path / "x.tar").read_bytes())
    source = open_source("webdataset", str(tmp_path), "train", num_classes=1)
    assert [row.image for row in all_rows(source)] == [png(0), png(1)]
    (tmp_path / "x.tar").write_bytes(whole.rstrip(b"\0") + bytes(-len(whole.rstrip(b"\0")) % 512))
    reasons = [row.reason for row in all_rows(source)]
    assert reasons == [None, "the archive is damaged or cut short: it has no end mark"]


@pytest.mark.parametrize("kept", [100, 700, 1600, 3000])
def test_an_archive_cut_while_it_is_read_ends_with_a_broken_row(tmp_path: Path, kept: int) -> None:
    members = [(f"{n}.{end}", content) for n in range(4)
               for end, content in (("png", png(n)), ("cls", b"0"))]  # fmt: skip
    write_tar(tmp_path / "x.tar", members)
    source = open_source("webdataset", str(tmp_path), "train", num_classes=1)
    (tmp_path / "x.tar").write_bytes((tmp_path / "x.tar").read_bytes()[:kept])
    rows = all_rows(source)
    assert "damaged or cut short" in str(rows[-1].reason)
    assert all(row.reason is None for row in rows[:-1])


def test_webdataset_finds_splits_patterns_and_class_lists(tmp_path: Path) -> None:
    for name in ("x-train-0.tar", "x-train-1.tar", "x-validation-0.tar"):
        write_tar(tmp_path / name, [("a.png", png(0)), ("a.cls", b"bee")])
    (tmp_path / "classes.txt").write_text("ant\nbee\ncat\n")
    train = open_source("webdataset", str(tmp_path), "train")
    assert train.class_names == CLASSES
    assert [shard.name for shard in train.shards()] == ["x-train-0.tar", "x-train-1.tar"]
    assert len(open_source("webdataset", f"{tmp_path}/*-0.tar", "train").shards()) == 1
    assert len(open_source("webdataset", f"{tmp_path}/*.tar", "validation").shards()) == 1
    with pytest.raises(ValueError, match=r"no split 'test' \(it has train, validation\)"):
        open_source("webdataset", str(tmp_path), "test")
    (tmp_path / "classes.txt").unlink()
    with pytest.raises(ValueError, match="does not say its classes"):
        open_source("webdataset", str(tmp_path), "train")


@pytest.mark.parametrize("kind", ["imagefolder", "parquet", "webdataset"])
def test_a_wrong_root_or_split_is_one_sentence(kind: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"The {kind} root .*nowhere does not exist; set"):
        open_source(kind, str(tmp_path / "nowhere"), "train", num_classes=3)
    with pytest.raises(ValueError, match=f"The {kind} data set needs dataset.root"):
        open_source(kind, "", "train")
    BUILDERS[kind](tmp_path)
    with pytest.raises(ValueError, match=r"no split 'test' \(it has train\)"):
        open_source(kind, str(tmp_path), "test", num_classes=3)


def test_unknown_kind_and_digit_splits_are_refused() -> None:
    with pytest.raises(ValueError, match="choose one of digits, imagefolder"):
        open_source("tfrecord", "x", "train")
    with pytest.raises(ValueError, match="splits train and test"):
        open_source("digits", "", "val")
    with pytest.raises(ValueError, match="10 classes"):
        open_source("digits", "", "train", num_classes=4)


def test_a_damaged_parquet_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "train-0.parquet").write_bytes(b"not parquet at all")
    with pytest.raises(ValueError, match=r"train-0.parquet is not a readable parquet file"):
        open_source("parquet", str(tmp_path), "train")


def gated() -> Exception:
    errors = pytest.importorskip("huggingface_hub.errors")
    return errors.GatedRepoError.__new__(errors.GatedRepoError)  # a real one needs a response


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (gated, "accept its terms"),
        (lambda: PermissionError("no"), "accept its terms"),
        (lambda: ConnectionError("no route"), "out of reach"),
    ],
)
def test_address_errors_become_sentences(
    error: Callable[[], Exception], sentence: str, tmp_path: Path
) -> None:
    from raydd.data.sources.files import Root

    root = Root.open("parquet", str(UPath(tmp_path)))
    with pytest.raises(ValueError, match=sentence), root.explained():
        raise error()
