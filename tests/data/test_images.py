"""Decoding: every mode to RGB, the geometry of torchvision, a reason for every broken file."""

import contextlib
import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from raydd.data.images import BrokenImage, decode, decode_rgb, encode_png, shrink
from raydd.data.preprocessing import Preprocessing

HALF = (0.5, 0.5, 0.5)
SMALL = Preprocessing(8, 8, HALF, HALF)


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def gradient(width: int, height: int) -> Image.Image:
    """Smooth, so that two resizing methods can be compared."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, (x + y) / 2], -1).astype(np.uint8))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_png_round_trip_is_exact_and_deterministic(height: int, width: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    encoded = encode_png(pixels)
    assert encoded == encode_png(pixels.copy())
    np.testing.assert_array_equal(decode_rgb(encoded), pixels)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 16), st.integers(0, 8))
def test_any_size_becomes_the_resolution(height: int, width: int, side: int, more: int) -> None:
    encoded = encode_png(np.zeros((height, width, 3), np.uint8))
    decoded = decode(encoded, Preprocessing(side, side + more, HALF, HALF))
    assert decoded.shape == (side, side, 3)
    assert decoded.dtype == np.uint8


@pytest.mark.parametrize("size", [(90, 60), (60, 91), (300, 40), (64, 64)])
def test_geometry_equals_torchvision(size: tuple[int, int]) -> None:
    transforms = pytest.importorskip("torchvision.transforms")
    image = gradient(*size)
    ours = decode(encode(image, "PNG"), Preprocessing(32, 37, HALF, HALF))
    theirs = transforms.CenterCrop(32)(transforms.Resize(37)(image))
    np.testing.assert_array_equal(ours, np.asarray(theirs))


def test_exact_size_is_left_untouched_even_with_a_larger_resize() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    np.testing.assert_array_equal(
        decode(encode_png(pixels), Preprocessing(8, 10, HALF, HALF)), pixels
    )


def test_large_jpeg_is_shrunk_to_what_full_decoding_gives() -> None:
    image = gradient(1600, 1200)
    preprocessing = Preprocessing(64, 72, HALF, HALF)
    jpeg = decode(encode(image, "JPEG", quality=95), preprocessing)
    exact = decode(encode(image, "PNG"), preprocessing)
    assert np.abs(jpeg.astype(int) - exact.astype(int)).max() <= 4


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_three_formats_are_known_by_content(kind: str) -> None:
    decoded = decode_rgb(encode(Image.new("RGB", (9, 7), (200, 40, 90)), kind))
    assert np.abs(decoded.astype(int) - (200, 40, 90)).max() <= 6


def palette_with_alpha() -> bytes:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((0, 0), 0)
    return encode(image, "PNG", transparency=b"\x00\xff")  # colour 0 cannot be seen


@pytest.mark.parametrize(
    ("encoded", "at_corner", "elsewhere"),
    [
        (encode(Image.new("L", (8, 8), 77), "PNG"), (77,) * 3, (77,) * 3),
        (encode(Image.new("1", (8, 8), 1), "PNG"), (255,) * 3, (255,) * 3),
        (encode(Image.new("LA", (8, 8), (77, 255)), "PNG"), (77,) * 3, (77,) * 3),
        (encode(Image.new("RGBA", (8, 8), (9, 8, 7, 255)), "PNG"), (9, 8, 7), (9, 8, 7)),
        (encode(Image.new("RGBA", (8, 8), (9, 8, 7, 0)), "PNG"), (255,) * 3, (255,) * 3),
        (encode(Image.new("RGBA", (8, 8), (9, 8, 7, 0)), "WEBP", lossless=True), (255,) * 3,
         (255,) * 3),
        (encode(Image.new("RGB", (8, 8), (0, 0, 255)).quantize(4), "PNG"), (0, 0, 255),
         (0, 0, 255)),
        (palette_with_alpha(), (255,) * 3, (0, 0, 255)),
    ],
    ids=["L", "1", "LA", "opaque", "clear", "clear-webp", "palette", "palette-alpha"],
)  # fmt: skip
def test_modes_become_rgb_on_white(
    encoded: bytes, at_corner: tuple[int, ...], elsewhere: tuple[int, ...]
) -> None:
    decoded = decode(encoded, SMALL)
    assert tuple(decoded[0, 0]) == at_corner
    assert tuple(decoded[4, 4]) == elsewhere


def test_cmyk_jpeg_becomes_rgb() -> None:
    decoded = decode(encode(Image.new("CMYK", (40, 40), (0, 255, 255, 0)), "JPEG"), SMALL)
    assert np.abs(decoded.astype(int) - (255, 0, 0)).max() <= 8


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    deep = np.array([[0, 257 * 10], [257 * 128, 65535]], np.uint16)
    decoded = decode_rgb(encode(Image.fromarray(deep), "PNG"))
    np.testing.assert_array_equal(decoded[..., 0], [[0, 10], [128, 255]])


def png_header(width: int, height: int) -> bytes:
    """A PNG that announces a size and holds next to nothing."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + crc

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"0"))


@pytest.mark.parametrize(
    ("encoded", "reason"),
    [
        (b"", "zero bytes"),
        (b"just text, though the file was called .jpg", "not an image"),
        (encode(Image.new("RGB", (9, 9)), "JPEG2000"), "not an image"),
        (encode(Image.new("RGB", (9, 9)), "TGA"), "not an image"),
        (encode(gradient(300, 200), "JPEG")[:1500], "truncated"),
        (encode(gradient(300, 200), "PNG")[:600], "cannot be decoded"),
        (encode(gradient(300, 200), "WEBP")[:600], "cannot be decoded"),
        (b"\xff\xd8\xff", "cannot be decoded"),
        (png_header(8000, 8000), "over the cap of 50000000 pixels"),
        (png_header(100_000, 100_000), "cannot be decoded"),
        (png_header(10, 10), "cannot be decoded"),
        (encode(Image.new("L", (1, 60_000)), "PNG"), "over the cap"),
    ],
    ids=["empty", "text", "jpeg2000", "tga", "cut-jpeg", "cut-png", "cut-webp", "stub", "large",
         "bomb", "hollow", "needle"],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_hostile_bytes_are_broken_with_a_plain_reason(encoded: bytes, reason: str) -> None:
    with pytest.raises(BrokenImage, match=reason):
        decode(encoded, Preprocessing(224, 256, HALF, HALF))


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["JPEG", "PNG", "WEBP"]), st.data())
def test_damage_never_raises_anything_else(kind: str, data: st.DataObject) -> None:
    encoded = bytearray(encode(gradient(24, 16), kind))
    for _ in range(data.draw(st.integers(1, 6))):
        encoded[data.draw(st.integers(12, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(BrokenImage):
        assert decode(bytes(encoded), SMALL, max_pixels=10**6).shape == (8, 8, 3)


def test_preprocessing_survives_json_and_refuses_nonsense() -> None:
    preprocessing = Preprocessing(224, 256, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert Preprocessing.from_json(preprocessing.to_json()) == preprocessing
    with pytest.raises(ValueError, match="resize"):
        Preprocessing(224, 200, HALF, HALF)
    with pytest.raises(ValueError, match="above 0"):
        Preprocessing(8, 8, HALF, (0.5, 0.5, 0.0))
    with pytest.raises(ValueError, match="fields"):
        Preprocessing.from_json({"resolution": 8, "crop": 9})


def test_shrinking_averages_and_leaves_small_images_alone() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    small = shrink(pixels, 4)
    blocks = pixels.reshape(2, 4, 2, 4, 2, 3).mean(axis=(2, 4))
    assert small.shape == (2, 4, 4, 3)
    assert np.abs(small - blocks).max() <= 1  # rounded along each axis
    assert shrink(pixels, 8) is pixels
    assert shrink(pixels, 32) is pixels
    assert shrink(pixels[:0], 4).shape == (0, 4, 4, 3)
