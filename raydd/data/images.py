"""Encoded image bytes to RGB pixels and back.

The file name never decides the format: the first bytes do, and only one decoder then runs.
ImageNet really contains a PNG called .JPEG and 22 CMYK files. EXIF orientation and colour profiles
are ignored, as torchvision's loaders do, so that published accuracies hold.

Eight decoders are allowed, those of formats in which people keep photographs: JPEG, PNG, WebP and
AVIF; GIF (its first frame), BMP, TIFF (its first page) and binary PNM. Each runs inside Pillow,
tells the size from its header and so meets the pixel cap before it decodes. Formats that need
another program (EPS), that hold a document rather than a picture (PSD, PDF, SVG) or that hardly
anyone keeps (JPEG 2000, TGA, ...) stay shut: every decoder is a door.
"""

import io
import re
from collections.abc import Callable

import numpy as np
from PIL import Image, UnidentifiedImageError

from raydd.data.preprocessing import Preprocessing

MAX_PIXELS = 50_000_000
BAND_PIXELS = 1 << 22  # converted at once: a conversion takes several copies of what it converts
_AREA = Image.Resampling.BOX
_MAGIC = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",  # over 4 GB
    b"MM\0+": "TIFF",
}
_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)  # bytes of its second header: "BM" alone is a word
_AVIF_BRANDS = {b"avif", b"avis"}
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}


class BrokenImage(ValueError):
    """An image that cannot be used; ``str(error)`` is the reason kept in the quarantine list."""


def decode(
    encoded: bytes, preprocessing: Preprocessing, max_pixels: int = MAX_PIXELS
) -> np.ndarray:
    """Decode, resize the shorter side, crop the centre.

    An image that already measures resolution x resolution is returned untouched, even where
    ``resize`` is larger: such images (CIFAR, a distilled set) are network input as they are.

    Args:
        encoded: a file of one of the formats above.
        preprocessing: ``resize`` and ``resolution`` in pixels; mean and std are not applied here.
        max_pixels: images with more pixels are refused from their header, before any decoding.
    Returns:
        uint8 [resolution, resolution, 3], RGB.
    Raises:
        BrokenImage: empty, another format, truncated, damaged, or over the pixel cap.
    """
    image = _open(encoded, max_pixels)
    crop = preprocessing.resolution
    if image.size == (crop, crop):
        return _pixels(image)
    target = _resized(image.size, preprocessing.resize)
    if target[0] * target[1] > max_pixels:
        raise BrokenImage(
            f"{image.width} x {image.height} pixels, resized to {target[0]} x {target[1]}, "
            f"is over the cap of {max_pixels} pixels"
        )
    # The JPEG decoder can leave out the finest frequencies: it then yields 1/2, 1/4 or 1/8 of the
    # side for a fraction of the time, never less than the target. Other formats ignore the call.
    rgb = _guarded(lambda: _to_rgb(_drafted(image, target)))
    rgb = rgb.resize(target, Image.Resampling.BILINEAR)
    left, top = round((target[0] - crop) / 2), round((target[1] - crop) / 2)
    return np.asarray(rgb.crop((left, top, left + crop, top + crop)))


def decode_rgb(encoded: bytes, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decode at the stored size; uint8 [H, W, 3]. Raises ``BrokenImage`` as ``decode`` does."""
    return _pixels(_open(encoded, max_pixels))


def image_size(encoded: bytes, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Width and height of an encoded image, pixels, from its header; raises ``BrokenImage``."""
    return _open(encoded, max_pixels).size


def shrink(pixels: np.ndarray, side: int) -> np.ndarray:
    """Reduce images by averaging, without aliasing; smaller ones are returned as they are.

    Args:
        pixels: uint8 [N, R, R, 3].
        side: pixels.
    Returns:
        uint8 [N, S, S, 3], S = min(side, R).
    """
    if pixels.shape[1] <= side:
        return pixels
    small = np.empty((len(pixels), side, side, 3), np.uint8)
    for i, image in enumerate(pixels):
        small[i] = np.asarray(Image.fromarray(image).resize((side, side), _AREA))
    return small


def encode_png(pixels: np.ndarray) -> bytes:
    """Encode uint8 [H, W, 3] RGB losslessly; equal pixels give equal bytes.

    Raises:
        ValueError: another dtype or shape.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(
            f"encode_png needs uint8 [H, W, 3], got {pixels.dtype} {list(pixels.shape)}."
        )
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


def image_format(encoded: bytes) -> str | None:
    """Name the format by the first bytes.

    Returns:
        ``JPEG``, ``PNG``, ``WEBP``, ``AVIF``, ``GIF``, ``BMP``, ``TIFF`` or ``PPM`` (binary PNM),
        which are decoded; ``HEIC``, which is known but not decoded; None for anything else.
    """
    for magic, name in _MAGIC.items():
        if encoded.startswith(magic):
            return name
    if encoded.startswith(b"RIFF") and encoded[8:12] == b"WEBP":
        return "WEBP"
    if encoded.startswith(b"BM") and int.from_bytes(encoded[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    if re.match(rb"P[4-6]\s", encoded):
        return "PPM"
    return _boxed_format(encoded)


def _boxed_format(encoded: bytes) -> str | None:
    """AVIF and HEIC are the same container: its brands say which."""
    if encoded[4:8] != b"ftyp":
        return None
    end = min(int.from_bytes(encoded[:4], "big"), 256)
    brands = {encoded[8:12], *(encoded[at : at + 4] for at in range(16, end, 4))}
    if brands & _AVIF_BRANDS:
        return "AVIF"
    return "HEIC" if brands & _HEIC_BRANDS else None


def _open(encoded: bytes, max_pixels: int) -> Image.Image:
    """Read the header only; the pixels are decoded when first touched."""
    if not encoded:
        raise BrokenImage("zero bytes")
    name = image_format(encoded)
    if name is None:
        raise BrokenImage("not an image (JPEG, PNG, WebP, AVIF, GIF, BMP, TIFF or binary PNM)")
    if name == "HEIC":  # Pillow has no decoder for it
        raise BrokenImage("HEIC image: convert to JPEG")
    image = _guarded(lambda: Image.open(io.BytesIO(encoded), formats=[name]))
    if image.width * image.height > max_pixels:
        raise BrokenImage(
            f"{image.width} x {image.height} pixels is over the cap of {max_pixels} pixels"
        )
    if image.mode == "F" or (name == "TIFF" and image.mode == "I"):
        raise BrokenImage("32-bit grey pixels have no known range: convert to 8 or 16 bits")
    return image


def _guarded(work: Callable[[], Image.Image]) -> Image.Image:
    # Decoders meet hostile bytes here and answer with almost any exception type (OSError,
    # SyntaxError, struct.error, zlib.error, ...): each means that this one image is broken.
    try:
        return work()
    except UnidentifiedImageError as error:  # its message holds a memory address
        raise BrokenImage("cannot be decoded: its header is damaged or of a rare kind") from error
    except Exception as error:
        raise BrokenImage(f"cannot be decoded: {str(error) or type(error).__name__}") from error


def _pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(_guarded(lambda: _to_rgb(image)))


def _drafted(image: Image.Image, target: tuple[int, int]) -> Image.Image:
    image.draft(None, target)
    return image


def _to_rgb(image: Image.Image) -> Image.Image:
    """Any mode the decoders yield to 8-bit RGB, a band of rows at a time if it is large."""
    if image.mode == "RGB" and not image.has_transparency_data:
        image.load()
        return image
    if image.width * image.height <= BAND_PIXELS:
        return _band_to_rgb(image)
    rgb = Image.new("RGB", image.size)
    rows = max(1, BAND_PIXELS // image.width)
    for top in range(0, image.height, rows):
        band = image.crop((0, top, image.width, min(top + rows, image.height)))
        rgb.paste(_band_to_rgb(band), (0, top))
    return rgb


def _band_to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image of a few megapixels; transparency is laid on white."""
    if image.mode.startswith("I"):  # 16-bit grey: scaled, since a plain convert would clip at 255
        deep = np.asarray(image).astype(np.uint32).clip(0, 65535)
        return Image.fromarray(((deep * 255 + 32767) // 65535).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _resized(size: tuple[int, int], shorter: int) -> tuple[int, int]:
    """(width, height), the shorter side at ``shorter``; the longer rounds down (torchvision)."""
    width, height = size
    if width <= height:
        return shorter, max(shorter, shorter * height // width)
    return max(shorter, shorter * width // height), shorter
