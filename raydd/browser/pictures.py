"""Image grids for the result browser: as many and as good ones as fit into one file by mail."""

import base64
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from upath import UPath

from raydd.data.distilled import MANIFEST, read_distilled
from raydd.data.samples import CurriculumSample, read_samples
from raydd.report.grids import GRID_CLASSES, GRID_SLOTS, grid_caption, grid_slots

BUDGET = 9_000_000  # bytes of all pictures; as text in the page they take a third more


class _Quality(NamedTuple):
    """Rows, columns and side in pixels at most; quality 100 keeps every bit."""

    classes: int
    slots: int
    side: int
    quality: int


# From the best to the least that still shows something; the first that fits is taken.
_LOOKS = (
    _Quality(GRID_CLASSES, GRID_SLOTS, 96, 100),
    _Quality(GRID_CLASSES, GRID_SLOTS, 96, 80),
    _Quality(GRID_CLASSES, GRID_SLOTS, 64, 72),
    _Quality(GRID_CLASSES, 5, 64, 66),
    _Quality(GRID_CLASSES, 5, 48, 55),
    _Quality(5, 5, 48, 50),
    _Quality(5, 3, 32, 45),
    _Quality(3, 3, 24, 40),
)
_LEAST_BYTES = {True: 1.0, False: 0.1}  # per pixel, lossless or not: with less none is tried


@dataclass(frozen=True)
class Sheet:
    """The picture of one curriculum: tiles without gaps, which the page draws apart.

    Attributes:
        title: which curriculum.
        caption: what rows and columns are.
        class_names: one per row.
        columns: images of each class.
        tile: side of an image in the picture, pixels.
        source: a ``data:`` address, WebP.
    """

    title: str
    caption: str
    class_names: Sequence[str]
    columns: int
    tile: int
    source: str


def draw_sheets(folders: Sequence[UPath], budget: int = BUDGET) -> list[list[dict[str, Any]]]:
    """Pictures of distilled sets, one per curriculum.

    Args:
        folders: of the sets; one that is not finished, or damaged, has no pictures.
        budget: bytes of all pictures together. Every set gets an equal share of what is left.
    Returns:
        For every folder the fields of its sheets.
    """
    drawn: list[list[dict[str, Any]]] = []
    for index, folder in enumerate(folders):
        try:
            sheets = _draw(folder, budget // (len(folders) - index))
        except (ValueError, OSError):  # a damaged set is a row without pictures, no lost page
            sheets = []
        budget -= sum(len(content) for _, content in sheets)
        drawn.append([asdict(sheet) for sheet, _ in sheets])
    return drawn


def _draw(folder: UPath, allowance: int) -> list[tuple[Sheet, bytes]]:
    if not (folder / MANIFEST).exists():
        return []
    distilled = read_distilled(folder)
    samples = read_samples(distilled, GRID_CLASSES, grid_slots)
    drawn = []
    for index, sample in enumerate(samples):
        found = _fit(sample, allowance // (len(samples) - index))
        if found is None:
            continue
        look, content = found
        rows, columns, tile = _extent(sample, look)
        caption = grid_caption(sample.slots, sample.is_real)
        source = f"data:image/webp;base64,{base64.b64encode(content).decode()}"
        names = list(distilled.info.class_names[:rows])
        title = f"Curriculum {sample.curriculum + 1}"
        drawn.append((Sheet(title, caption, names, columns, tile, source), content))
        allowance -= len(content)
    return drawn


def _fit(sample: CurriculumSample, allowance: int) -> tuple[_Quality, bytes] | None:
    """The best look whose picture is small enough; None where even the least is too large."""
    for look in _LOOKS:
        rows, columns, tile = _extent(sample, look)
        if rows * columns * tile * tile * _LEAST_BYTES[look.quality == 100] > allowance:
            continue
        content = _encode(sample, look)
        if len(content) <= allowance:
            return look, content
    return None


def _extent(sample: CurriculumSample, look: _Quality) -> tuple[int, int, int]:
    """Rows, columns and side of a tile."""
    rows, columns, side = sample.pixels.shape[:3]
    return min(rows, look.classes), min(columns, look.slots), min(side, look.side)


def _encode(sample: CurriculumSample, look: _Quality) -> bytes:
    rows, columns, tile = _extent(sample, look)
    shown = grid_slots(sample.shown, sample.is_real, columns)
    first = shown.start - sample.shown.start
    images = sample.pixels[:rows, first : first + columns]
    side = images.shape[2]
    sheet = images.transpose(0, 2, 1, 3, 4).reshape(rows * side, columns * side, 3)
    picture = Image.fromarray(np.ascontiguousarray(sheet))
    if tile < side:
        picture = picture.resize((columns * tile, rows * tile), Image.Resampling.BOX)
    buffer = io.BytesIO()
    if look.quality == 100:  # here quality is effort: all of it takes seconds to save a tenth
        picture.save(buffer, "WEBP", lossless=True, quality=20, method=2)
    else:
        picture.save(buffer, "WEBP", quality=look.quality, method=4)
    return buffer.getvalue()
