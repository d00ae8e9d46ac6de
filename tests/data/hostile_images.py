"""Good images of every sort that decodes, and bytes that look like images and are not."""

import io
import struct
import zlib
from functools import lru_cache

import numpy as np
from PIL import Image

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "PPM")
MAX_PIXELS = 50_000_000
# What happens to an image's bytes; of these only "flipped" may leave an image that still decodes.
IMAGE_KINDS = (
    "truncated",
    "flipped",
    "wrong magic",
    "huge dimensions",
    "text bomb",
    "zero length",
)


def good_image(rng: np.random.Generator) -> bytes:
    """A small smooth picture in any of the modes that files of these formats have."""
    side = tuple(rng.integers(24, 65, 2))
    coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
    picture = coarse.resize(side, Image.Resampling.BICUBIC)
    variants = (
        ("JPEG", {"quality": 90}, "RGB"),
        ("JPEG", {"progressive": True}, "RGB"),
        ("JPEG", {}, "L"),
        ("JPEG", {}, "CMYK"),
        ("PNG", {}, "RGB"),
        ("PNG", {}, "RGBA"),
        ("PNG", {"transparency": 3}, "P"),
        ("PNG", {}, "I;16"),
        ("PNG", {}, "1"),
        ("WEBP", {"quality": 80}, "RGB"),
        ("WEBP", {"lossless": True}, "RGBA"),
        ("AVIF", {"quality": 80}, "RGB"),
        ("GIF", {}, "P"),
        ("BMP", {}, "RGB"),
        ("TIFF", {"compression": "tiff_lzw"}, "RGB"),
        ("TIFF", {}, "I;16"),
        ("PPM", {}, "L"),
    )
    name, options, mode = variants[rng.integers(len(variants))]
    if mode == "I;16":
        picture = Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)
    else:
        picture = picture.convert(mode)
    return _encoded(picture, name, **options)


def bad_image(kind: str, rng: np.random.Generator) -> bytes:
    """Bytes of one of ``IMAGE_KINDS``."""
    if kind == "truncated":
        content = good_image(rng)
        return content[: int(len(content) * rng.uniform(0.05, 0.8))]
    if kind == "flipped":
        return _flipped(good_image(rng), rng)
    if kind == "wrong magic":
        return _wrong_magic(rng)
    if kind == "huge dimensions":
        return _huge(rng)
    if kind == "text bomb":
        return _text_bomb((b"zTXt", b"iTXt", b"iCCP")[rng.integers(3)])
    return b""


def decodes(content: bytes) -> bool:
    """Whether Pillow alone, under the pixel cap, finds nothing wrong."""
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
        if image.width * image.height > MAX_PIXELS:
            return False
        image.convert("RGB")
    except Exception:
        return False
    return True


@lru_cache(maxsize=1)
def image_at_the_cap() -> bytes:
    """A good image of 49 megapixels with transparency: 200 MB decoded, under 1 MB as a file."""
    return _png(7000, 7000, 6, 4)


def _encoded(picture: Image.Image, name: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, name, **options)
    return buffer.getvalue()


def _flipped(content: bytes, rng: np.random.Generator) -> bytes:
    mutated = np.frombuffer(content, np.uint8).copy()
    places = rng.integers(0, len(mutated), rng.integers(1, 21))
    mutated[places] ^= np.uint8(1) << rng.integers(0, 8, len(places)).astype(np.uint8)
    return mutated.tobytes()


def _wrong_magic(rng: np.random.Generator) -> bytes:
    content = good_image(rng)
    other = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8))
    choices = (
        lambda: rng.bytes(4) + content[4:],
        lambda: content[4:],
        lambda: _encoded(other, ("JPEG2000", "TGA", "PCX", "ICO")[rng.integers(4)]),
        lambda: b"<html><body>404 Not Found</body></html>",
        lambda: b"%PDF-1.7\n" + rng.bytes(300),
        lambda: b"RIFF\x40\0\0\0WAVEfmt " + rng.bytes(60),
        lambda: (
            (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\x40\0\0\0WEBP")[rng.integers(3)]
            + rng.bytes(200)
        ),
    )
    return choices[rng.integers(len(choices))]()


def _huge(rng: np.random.Generator) -> bytes:
    small = Image.new("RGB", (32, 32), tuple(rng.integers(0, 256, 3).tolist()))
    jpeg, png = _encoded(small, "JPEG"), _encoded(small, "PNG")
    frame = jpeg.index(b"\xff\xc0") + 5
    choices = (
        lambda: jpeg[:frame] + struct.pack(">HH", 65000, 65000) + jpeg[frame + 4 :],
        lambda: _resized_png(png, 60_000, 60_000),
        lambda: _resized_png(png, 2**31 - 1, 2**31 - 1),
        lambda: _resized_png(png, 1, 49_000_000),
        lambda: _resized_png(png, 49_000_000, 1),
        lambda: _png(8000, 8000, 0, 1),
    )
    return choices[rng.integers(len(choices))]()


def _resized_png(png: bytes, width: int, height: int) -> bytes:
    """The same file with other dimensions in its header, and the right checksum."""
    header = struct.pack(">II", width, height) + png[24:29]
    return png[:8] + _chunk(b"IHDR", header) + png[33:]


@lru_cache(maxsize=4)
def _png(width: int, height: int, colour: int, bytes_per_pixel: int) -> bytes:
    """A real PNG of zeros, a thousand times smaller than its pixels."""
    packer = zlib.compressobj(1)
    row = bytes(width * bytes_per_pixel + 1)
    body = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    return _signed_png(_chunk(b"IHDR", header) + _chunk(b"IDAT", body))


@lru_cache(maxsize=3)
def _text_bomb(name: bytes) -> bytes:
    """A tiny image with a text that unpacks to 32 MB."""
    packer = zlib.compressobj(1)
    text = b"".join(packer.compress(bytes(1 << 20)) for _ in range(32)) + packer.flush()
    prefix = b"k\0\1\0\0\0" if name == b"iTXt" else b"k\0\0"
    header = struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0)
    body = zlib.compress(bytes(9 * 8))
    return _signed_png(
        _chunk(b"IHDR", header) + _chunk(name, prefix + text) + _chunk(b"IDAT", body)
    )


def _signed_png(chunks: bytes) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + chunks + _chunk(b"IEND", b"")


def _chunk(name: bytes, content: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(name + content))
    return struct.pack(">I", len(content)) + name + content + checksum
