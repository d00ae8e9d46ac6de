"""Encoded image bytes to RGB pixels and back.

The file name never decides the format: the first bytes do, and only the JPEG, PNG and WebP
decoders ever run. ImageNet really contains a PNG called .JPEG and 22 CMYK files. EXIF orientation
and colour profiles are ignored, as torchvision's loaders do, so that published accuracies hold.
"""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, UnidentifiedImageError

from raydd.data.preprocessing import Preprocessing

MAX_PIXELS = 50_000_000
BAND_PIXELS = 1 << 22  # converted at once: a conversion takes several copies of what it converts
_AREA = Image.Resampling.BOX


class BrokenImage(ValueError):
    """An image that cannot be used; ``str(error)`` is the reason kept in the quarantine list."""


def decode(
    encoded: bytes, preprocessing: Preprocessing, max_pixels: int = MAX_PIXELS
) -> np.ndarray:
    """Decode, resize the shorter side, crop the centre.

    An image that already measures resolution x resolution is returned untouched, even where
    ``resize`` is larger: such images (CIFAR, a distilled set) are network input as they are.

    Args:
        encoded: a JPEG, PNG or WebP file.
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
    """Return ``JPEG``, ``PNG`` or ``WEBP`` by the first bytes, or None for anything else."""
    if encoded.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if encoded.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if encoded.startswith(b"RIFF") and encoded[8:12] == b"WEBP":
        return "WEBP"
    return None


def _open(encoded: bytes, max_pixels: int) -> Image.Image:
    """Read the header only; the pixels are decoded when first touched."""
    if not encoded:
        raise BrokenImage("zero bytes")
    name = image_format(encoded)
    if name is None:
        raise BrokenImage("not a JPEG, PNG or WebP image")
    image = _guarded(lambda: Image.open(io.BytesIO(encoded), formats=[name]))
    if image.width * image.height > max_pixels:
        raise BrokenImage(
            f"{image.width} x {image.height} pixels is over the cap of {max_pixels} pixels"
        )
    return image


def _guarded(work: Callable[[], Image.Image]) -> Image.Image:
    # Decoders meet hostile bytes here and answer with almost any exception type (OSError,
    # SyntaxError, struct.error, zlib.error, ...): each means that this one image is broken.
    try:
        return work()
    except UnidentifiedImageError as error:  # its message holds a memory address
        raise BrokenImage("cannot be decoded: its header is damaged") from error
    except Exception as error:
        raise BrokenImage(f"cannot be decoded: {str(error) or type(error).__name__}") from error


def _pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(_guarded(lambda: _to_rgb(image)))


def _drafted(image: Image.Image, target: tuple[int, int]) -> Image.Image:
    image.draft(None, target)
    return image


def _to_rgb(image: Image.Image) -> Image.Image:
    """Any mode the three decoders yield to 8-bit RGB, a band of rows at a time if it is large."""
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
