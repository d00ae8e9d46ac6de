"""Tables of images: encoded rows are decoded, decoded pixels are stored as fixed-size binary.

Imports neither torch nor ray, so that the processes that only decode start quickly.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raydd.data.images import BrokenImage, decode
from raydd.data.preprocessing import Preprocessing
from raydd.data.sources import Row, Source


def decode_rows(
    batch: pa.Table, preprocessing: Preprocessing, max_pixels: int
) -> tuple[np.ndarray, list[str]]:
    """Decode a batch of encoded rows.

    Returns:
        uint8 pixels [N, R, R, 3], zero where a row is broken, and the reason for every row
        (empty when the row is good).
    """
    side = preprocessing.resolution
    reasons = batch.column("reason").to_pylist()
    pixels = np.zeros((len(reasons), side, side, 3), np.uint8)
    for i, encoded in enumerate(batch.column("image")):
        if not reasons[i]:
            try:
                pixels[i] = decode(encoded.as_py(), preprocessing, max_pixels)
            except BrokenImage as error:
                reasons[i] = str(error)
    return pixels, reasons


class Tried(NamedTuple):
    """A row that a decoder has tried.

    Attributes:
        id: of the image.
        class_index: of it.
        images: that the row stands for, where it is broken.
        pixels: uint8 [R, R, 3]; empty where it is broken.
        reason: why; empty where it is good.
    """

    id: str
    class_index: int
    images: int
    pixels: np.ndarray
    reason: str


def try_rows(preprocessing: Preprocessing, max_pixels: int, rows: Sequence[Row]) -> list[Tried]:
    """Decode rows, or say why that cannot be done, in order."""
    return [_try_row(row, preprocessing, max_pixels) for row in rows]


def _try_row(row: Row, preprocessing: Preprocessing, max_pixels: int) -> Tried:
    pixels, reason = np.empty(0, np.uint8), row.reason or ""
    if not reason:
        try:
            pixels = decode(row.image, preprocessing, max_pixels)
        except BrokenImage as error:
            reason = str(error)
    return Tried(row.id, row.class_index, row.images, pixels, reason)


@dataclass(frozen=True)
class Reader:
    """Reads chosen images of a source; picklable.

    Attributes:
        source: where they lie.
        preprocessing: resolution and resizing.
        max_pixels: cap of the decoder, the one that the images were scored under.
    """

    source: Source
    preprocessing: Preprocessing
    max_pixels: int

    def fetch(self, ids: Sequence[str]) -> np.ndarray:
        """Decoded images, uint8 [N, R, R, 3], in the order of ``ids``."""
        encoded = self.source.fetch(ids)
        return np.stack([decode(encoded[n], self.preprocessing, self.max_pixels) for n in ids])


def image_table(
    pixels: np.ndarray,
    labels: Sequence[int],
    slots: Sequence[int],
    curriculum: int,
    source_ids: Sequence[str | None],
    origin: str,
) -> pa.Table:
    """Images as rows: pixels, class_index, slot, curriculum, origin, id (of the real image behind).

    Args:
        pixels: uint8 [N, R, R, 3].
        labels: N class indices.
        slots: N slots.
        curriculum: of all N images.
        source_ids: N ids of real images, or None.
        origin: ``synthetic`` or ``real``, of all N images.
    """
    count = len(pixels)
    return pa.table(
        {
            "id": pa.array(source_ids, pa.string()),
            "class_index": pa.array(labels, pa.int32()),
            "slot": pa.array(slots, pa.int32()),
            "curriculum": pa.array([curriculum] * count, pa.int32()),
            "origin": pa.array([origin] * count, pa.string()),
            "pixels": pixel_column(pixels),
        }
    )


def answered_rows(batch: pa.Table, reasons: Sequence[str], pixels: np.ndarray) -> pa.Table:
    """A batch without its encoded images: with the reasons of broken rows, and ``content``.

    ``content`` is a hash of the decoded pixels, int64: equal images of two splits are found by it.
    """
    hashes = b"".join(blake2b(image.data, digest_size=8).digest() for image in pixels)
    table = batch.drop_columns(["image", "reason"])
    table = table.append_column("reason", pa.array(reasons, pa.string()))
    return table.append_column("content", pa.array(np.frombuffer(hashes, np.int64)))


def pixel_row(content: bytes, resolution: int) -> np.ndarray:
    """One stored image, uint8 [R, R, 3]."""
    return np.frombuffer(content, np.uint8).reshape(resolution, resolution, 3)


def pixel_column(pixels: np.ndarray) -> pa.FixedSizeBinaryArray:
    """Pixels uint8 [N, R, R, 3] as one column."""
    return binary_column(pixels)


def pixel_array(column: pa.ChunkedArray, resolution: int) -> np.ndarray:
    """Inverse of :func:`pixel_column`, uint8 [N, R, R, 3]."""
    return binary_array(column, np.uint8, (resolution, resolution, 3))


def binary_column(values: np.ndarray) -> pa.FixedSizeBinaryArray:
    """An array [N, ...] of any dtype as one column of N rows of bytes."""
    width = int(np.prod(values.shape[1:])) * values.itemsize
    return pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(width), len(values), [None, pa.py_buffer(np.ascontiguousarray(values))]
    )


def binary_array(
    column: pa.ChunkedArray, dtype: npt.DTypeLike, shape: tuple[int, ...]
) -> np.ndarray:
    """Inverse of :func:`binary_column`, [N, *shape]."""
    width = int(np.prod(shape)) * np.dtype(dtype).itemsize
    chunks = [
        np.frombuffer(chunk.buffers()[1], np.uint8)[
            chunk.offset * width : (chunk.offset + len(chunk)) * width
        ]
        for chunk in column.chunks
    ]
    flat = np.concatenate(chunks) if chunks else np.empty(0, np.uint8)
    return flat.view(dtype).reshape(-1, *shape)
