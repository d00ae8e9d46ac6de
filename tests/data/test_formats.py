"""The bytes decide what an image is, and every format that people keep photographs in is read."""

import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raydd.data.images import BrokenImage, decode_rgb, image_format
from raydd.data.sources import open_source
from small_sets import CLASSES, all_rows, picture, png, write_imagefolder

ORANGE = (240, 140, 20)


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def box(*brands: bytes) -> bytes:
    """The first box of an AVIF or HEIC file: major brand, version, compatible brands."""
    content = b"ftyp" + brands[0] + b"\0\0\0\0" + b"".join(brands[1:])
    return struct.pack(">I", len(content) + 4) + content


@pytest.mark.parametrize(
    ("kind", "name", "options"),
    [
        ("BMP", "BMP", {}),
        ("GIF", "GIF", {}),
        ("PPM", "PPM", {}),
        ("TIFF", "TIFF", {}),
        ("TIFF", "TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", "TIFF", {"compression": "tiff_deflate"}),
        ("TIFF", "TIFF", {"compression": "jpeg"}),
        ("AVIF", "AVIF", {}),
        ("WEBP", "WEBP", {}),
    ],
)
def test_every_format_is_read_to_its_colour(kind: str, name: str, options: dict) -> None:
    encoded = encode(Image.new("RGB", (20, 14), ORANGE), kind, **options)
    assert image_format(encoded) == name
    pixels = decode_rgb(encoded)
    assert pixels.shape == (14, 20, 3)
    assert np.abs(pixels.astype(int) - ORANGE).max() <= 8


def test_the_first_frame_of_an_animation_is_the_image() -> None:
    first, second = Image.new("RGB", (9, 9), ORANGE), Image.new("RGB", (9, 9), (0, 0, 255))
    for kind in ("GIF", "TIFF", "WEBP", "AVIF"):
        encoded = encode(first, kind, save_all=True, append_images=[second])
        assert np.abs(decode_rgb(encoded)[4, 4].astype(int) - ORANGE).max() <= 8, kind


def test_grey_files_of_sixteen_bits_are_scaled_in_tiff_and_pgm() -> None:
    deep = Image.fromarray(np.full((4, 4), 257 * 9, np.uint16))
    assert decode_rgb(encode(deep, "TIFF"))[0, 0].tolist() == [9, 9, 9]
    assert decode_rgb(encode(deep, "PPM"))[0, 0].tolist() == [9, 9, 9]


@pytest.mark.parametrize(
    ("encoded", "reason"),
    [
        (box(b"heic", b"mif1", b"heic") + bytes(50), "HEIC image: convert to JPEG"),
        (box(b"mif1", b"mif1", b"heix"), "HEIC image: convert to JPEG"),
        (box(b"isom", b"mp42"), "not an image"),
        (b"BMW is a car, not a bitmap at all", "not an image"),
        (b"P2\n1 1\n255\n7\n", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
        (b"8BPS\0\1" + bytes(40), "not an image"),
        (encode(Image.new("F", (4, 4), 0.5), "TIFF"), "no known range"),
        (encode(Image.new("I", (4, 4), 70_000), "TIFF"), "no known range"),
    ],
)
def test_what_is_not_decoded_has_a_plain_reason(encoded: bytes, reason: str) -> None:
    with pytest.raises(BrokenImage, match=reason):
        decode_rgb(encoded)


def large_gif() -> bytes:
    small = encode(Image.new("P", (5, 5)), "GIF")
    return small[:6] + struct.pack("<HH", 9000, 9000) + small[10:]


def large_bmp() -> bytes:
    small = encode(Image.new("RGB", (5, 5)), "BMP")
    return small[:18] + struct.pack("<ii", 9000, 9000) + small[26:]


@pytest.mark.parametrize(
    "make",
    [
        large_gif,
        large_bmp,
        lambda: b"P5\n9000 9000\n255\n" + bytes(9),
        lambda: encode(Image.new("1", (9000, 9000)), "TIFF", compression="group4"),
    ],
    ids=["gif", "bmp", "pnm", "tiff"],
)
def test_the_pixel_cap_is_met_before_anything_is_decoded(make: Callable[[], bytes]) -> None:
    with pytest.raises(BrokenImage, match="9000 x 9000 pixels is over the cap of 50000000"):
        decode_rgb(make())


def test_every_file_of_a_class_is_used_or_rejected_or_counted(tmp_path: Path) -> None:
    write_imagefolder(tmp_path, per_class=1)
    ant = tmp_path / "train/ant"
    shown = Image.fromarray(picture(5))
    for name in ("a.jfif", "b.jpe", "c.pjpeg", "no_suffix", "d.dat", "e.JPG~"):
        (ant / name).write_bytes(encode(shown, "JPEG"))
    for name, kind in (("f.bmp", "BMP"), ("g.gif", "GIF"), ("h.tif", "TIFF"), ("i.avif", "AVIF")):
        (ant / name).write_bytes(encode(shown, kind))
    (ant / "j.heic").write_bytes(box(b"heic", b"heic"))
    (ant / "Makefile").write_text("all:")
    for name in ("boxes.txt", "more.TXT", "labels.csv", "Thumbs.db", ".DS_Store", "._a.jfif"):
        (ant / name).write_bytes(png(1))
    (tmp_path / "train/loose.png").write_bytes(png(1))
    (tmp_path / "train/readme.md").write_text("read me")
    source = open_source("imagefolder", str(tmp_path), "train")
    rows = all_rows(source)
    reasons = {}
    for row in rows:
        try:
            decode_rgb(row.image)
        except BrokenImage as error:
            reasons[row.id] = str(error)
    assert len(rows) == 15
    assert reasons == {
        "ant/Makefile": "not an image (JPEG, PNG, WebP, AVIF, GIF, BMP, TIFF or binary PNM)",
        "ant/j.heic": "HEIC image: convert to JPEG",
    }
    assert source.class_counts().tolist() == [13, 1, 1]
    assert source.unused == {
        ".txt": 2, ".csv": 1, ".db": 1, "hidden": 2, ".md": 1, "beside the class folders": 1,
    }  # fmt: skip
    ids = [row.id for row in rows]
    assert source.fetch(ids) == {row.id: row.image for row in rows}


def test_what_a_mac_leaves_in_archives_is_no_class(tmp_path: Path) -> None:
    write_imagefolder(tmp_path)
    for place in ("train/__MACOSX/ant", "train/ant/__MACOSX"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "._0.png").write_bytes(b"\0\5\x16\7")
    source = open_source("imagefolder", str(tmp_path), "train")
    assert source.class_names == CLASSES
    assert source.class_counts().tolist() == [3, 3, 3]
