"""Data sets of good images with bad ones of every kind among them, and which is which.

Pure functions of their arguments: equal seeds give equal files. Ids are spelled independently of
the sources, from where the bytes were put.
"""

import os
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote_from_bytes

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hostile_images import IMAGE_KINDS, bad_image, decodes, good_image
from hostile_ledger import Ledger
from hostile_tars import write_webdataset

CLASSES = ("0", "1", "2")
FOLDER_KINDS = (*IMAGE_KINDS, "not a file", "link to a folder", "giant file", "non-UTF-8 name")
ROW_KINDS = (*IMAGE_KINDS, "missing image", "missing label", "bad label")
TOO_LARGE = (1 << 26) + 1
PER_FILE = 500


def write_imagefolder(root: Path, num_good: int, num_bad: int, seed: int = 0) -> Ledger:
    """Write ``train/<class>/`` folders, some of the files in subfolders."""
    rng, ledger = np.random.default_rng(seed), Ledger()
    for name in CLASSES:
        (root / "train" / name / "more").mkdir(parents=True)
    for number, kind in enumerate(_mixed(num_good, num_bad, FOLDER_KINDS, rng)):
        folder = f"{CLASSES[rng.integers(3)]}/" + ("more/" if rng.integers(4) == 0 else "")
        path = f"{folder}{number:06d}.{('jpg', 'PNG', 'webp', 'JPEG')[rng.integers(4)]}"
        _write_file(root / "train", path, kind, ledger, rng)
    return ledger


def _write_file(
    split: Path, path: str, kind: str, ledger: Ledger, rng: np.random.Generator
) -> None:
    place = split / path
    if kind == "good":
        place.write_bytes(good_image(rng))
        ledger.good.add(path)
    elif kind in IMAGE_KINDS:
        content = bad_image(kind, rng)
        place.write_bytes(content)
        ledger.add(path, kind, kind == "flipped" and decodes(content))
    elif kind == "non-UTF-8 name":
        spoiled = os.fsencode(path).replace(b"/", b"/\xff%\xfe", 1)
        for prefix, content in ((b"", good_image(rng)), (b"\xfd", b"GIF89a")):
            file = split / os.fsdecode(spoiled + prefix + b".png")
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(content)
        ledger.good.add("/" + quote_from_bytes(spoiled + b".png"))
        ledger.add("/" + quote_from_bytes(spoiled + b"\xfd.png"), kind)
    else:
        _write_no_image(place, kind, rng)
        ledger.add(path, kind)


def _write_no_image(place: Path, kind: str, rng: np.random.Generator) -> None:
    if kind == "link to a folder":
        place.symlink_to("..")
    elif kind == "giant file":
        place.touch()
        os.truncate(place, TOO_LARGE)  # a hole: no disk is used
    elif rng.integers(3) == 0:
        os.mkfifo(place)
    else:
        place.symlink_to(("nowhere", "/dev/zero")[rng.integers(2)])


def write_parquet(root: Path, num_good: int, num_bad: int, seed: int = 0) -> Ledger:
    """Write ``data/train-*.parquet``, old layout and new, then a file with a damaged page."""
    rng, ledger = np.random.default_rng(seed), Ledger()
    (root / "data").mkdir(parents=True)
    kinds = _mixed(num_good, num_bad, ROW_KINDS, rng)
    for begin in range(0, len(kinds), PER_FILE):
        name = f"data/train-{begin:06d}.parquet"
        rows = [_row(kind, rng) for kind in kinds[begin : begin + PER_FILE]]
        for row, (kind, (image, _)) in enumerate(zip(kinds[begin:], rows, strict=False)):
            if kind == "good":
                ledger.good.add(f"{name}#{row}")
            else:
                ledger.add(f"{name}#{row}", kind, kind == "flipped" and decodes(image or b""))
        _write_rows(root / name, rows, is_plain=bool(begin // PER_FILE % 2))
    _write_damaged_file(root, ledger, rng)
    return ledger


def _row(kind: str, rng: np.random.Generator) -> tuple[bytes | None, str | None]:
    """Image and label; labels are text, for text can be spoiled in more ways."""
    label = CLASSES[rng.integers(3)]
    if kind in IMAGE_KINDS:
        return bad_image(kind, rng), label
    if kind == "missing image":
        return None, label
    if kind == "missing label":
        return good_image(rng), None
    if kind == "bad label":
        return good_image(rng), ("3", "", "\udcff\udcfe", "x" * 10_000)[rng.integers(4)]
    return good_image(rng), label


def _write_rows(path: Path, rows: list[tuple[bytes | None, str | None]], *, is_plain: bool) -> None:
    images = [None if image is None else {"bytes": image, "path": None} for image, _ in rows]
    raw = [None if label is None else os.fsencode(label) for _, label in rows]
    options = pc.CastOptions(target_type=pa.string(), allow_invalid_utf8=True)
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    labels = pc.cast(pa.array(raw, pa.binary()), options=options)
    table = pa.table({"image": pa.array(images, struct), "label": labels})
    if is_plain:
        leaves = ("image.bytes", "image.path")
        pq.write_table(
            table, path, use_dictionary=["label"], write_page_index=True,
            compression=dict.fromkeys((*leaves, "label"), "none"),
            column_encoding=dict.fromkeys(leaves, "PLAIN"), use_content_defined_chunking=True,
        )  # fmt: skip
    else:
        pq.write_table(table, path, row_group_size=100)


def _write_damaged_file(root: Path, ledger: Ledger, rng: np.random.Generator) -> None:
    name = "data/train-zz-page.parquet"
    _write_rows(root / name, [_row("good", rng) for _ in range(300)], is_plain=False)
    chunk = pq.ParquetFile(root / name).metadata.row_group(1).column(0)
    with (root / name).open("r+b") as file:
        file.seek(chunk.dictionary_page_offset)
        file.write(b"\xff" * 64)
    for row in range(300):
        if 100 <= row < 200:
            ledger.add(f"{name}#{row}", "damaged row group")
        else:
            ledger.good.add(f"{name}#{row}")


def _mixed(
    num_good: int, num_bad: int, kinds: tuple[str, ...], rng: np.random.Generator
) -> list[str]:
    """As many of each bad kind, shuffled among the good."""
    mixed = ["good"] * num_good + [kinds[i % len(kinds)] for i in range(num_bad)]
    rng.shuffle(mixed)
    return mixed


WRITERS: dict[str, Callable[[Path, int, int, int], Ledger]] = {
    "imagefolder": write_imagefolder,
    "parquet": write_parquet,
    "webdataset": write_webdataset,
}
