"""Pictures of the report: image grids as PNG, curves and intervals as SVG geometry.

Everything is computed here and only drawn by ``report.html.jinja``: no plotting library is needed.
"""

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from PIL import Image

Tick = tuple[float, str]
Curve = Sequence[tuple[float, float]]
Bar = tuple[float, float, float]  # left and width in percent of the axis, height in [0, 1]

_SMALL_TILE = 48  # pixels; smaller images are enlarged by whole factors, so that pixels stay square
_LARGE_TILE = 96  # pixels; larger images are reduced: the page must pass as a mail attachment
_GAP = 2  # pixels between tiles


def image_grid(images: np.ndarray) -> bytes:
    """Lay images out as they are indexed.

    Args:
        images: uint8 [rows, columns, R, R, 3], RGB.
    Returns:
        A PNG with transparent gaps. Tiles are 48 to 96 pixels wide where whole factors allow: small
        images are enlarged by nearest neighbour, large ones reduced.
    Raises:
        ValueError: no images, or another dtype or shape.
    """
    if images.dtype != np.uint8 or images.ndim != 5 or images.shape[4] != 3 or not images.size:
        raise ValueError(
            f"image_grid needs uint8 [rows, columns, R, R, 3], got {images.dtype} {images.shape}."
        )
    tiles = np.stack([np.stack([_tile(image) for image in row]) for row in images])
    rows, columns, height, width, _ = tiles.shape
    sheet = np.zeros((rows, height + _GAP, columns, width + _GAP, 4), np.uint8)
    sheet[:, :height, :, :width, :3] = tiles.transpose(0, 2, 1, 3, 4)
    sheet[:, :height, :, :width, 3] = 255
    flat = sheet.reshape(rows * (height + _GAP), columns * (width + _GAP), 4)
    buffer = io.BytesIO()
    Image.fromarray(flat[:-_GAP, :-_GAP]).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _tile(image: np.ndarray) -> np.ndarray:
    """uint8 [R, R, 3] to uint8 [T, T, 3] with T between the two tile sizes where possible."""
    side = image.shape[0]
    if side > _LARGE_TILE:
        size = (_LARGE_TILE, _LARGE_TILE)
        return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))
    factor = max(1, _SMALL_TILE // side)
    return image.repeat(factor, axis=0).repeat(factor, axis=1)


@dataclass(frozen=True)
class Line:
    """One polyline: SVG points, whose series it is, and whether it is the mean of its seeds."""

    series: str
    points: str
    is_mean: bool


@dataclass(frozen=True)
class Chart:
    """A line chart in SVG user units; the plot area is [0, width] x [0, height], y downwards."""

    title: str
    width: float
    height: float
    lines: list[Line]
    x_ticks: list[Tick]
    y_ticks: list[Tick]


def line_chart(
    title: str, series: Mapping[str, Sequence[Curve]], width: float = 400, height: float = 180
) -> Chart | None:
    """Geometry of a chart with one thin line per seed and one thick mean line per series.

    Args:
        title: what y is, with its unit.
        series: curves of (x, y) by name; a mean is taken where all curves of a series have a point.
        width: of the plot area.
        height: of the plot area.
    Returns:
        None where no curve has two points: there is nothing to draw.
    """
    if all(len(curve) < 2 for curves in series.values() for curve in curves):
        return None
    points = [point for curves in series.values() for curve in curves for point in curve]
    xs, ys = [x for x, _ in points], [y for _, y in points]
    y_values = ticks(min(ys), max(ys))
    x_low, x_high = min(xs), max(xs)
    y_low, y_high = min(y_values[0], *ys), max(y_values[-1], *ys)

    def place_x(x: float) -> float:
        return round(_place(x, x_low, x_high, width), 1)

    def place_y(y: float) -> float:
        return round(height - _place(y, y_low, y_high, height), 1)

    lines = []
    for name, curves in series.items():
        drawn = [(curve, False) for curve in curves if len(curves) > 1] + [(_mean(curves), True)]
        for curve, is_mean in drawn:
            path = " ".join(f"{place_x(x)},{place_y(y)}" for x, y in curve)
            lines.append(Line(name, path, is_mean))
    return Chart(
        title, width, height, lines,
        [(place_x(x), f"{x:g}") for x in ticks(x_low, x_high) if x_low <= x <= x_high],
        [(place_y(y), f"{y:g}") for y in y_values],
    )  # fmt: skip


@dataclass(frozen=True)
class StripRow:
    """One row of a strip: positions of the seeds, the mean and the ends of its interval."""

    series: str
    dots: list[float]
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Strip:
    """Values of several series on one axis, with means and intervals, in SVG user units."""

    width: float
    rows: list[StripRow]
    ticks: list[Tick]


def strip(series: Mapping[str, tuple[Sequence[float], float, float]], width: float = 560) -> Strip:
    """Geometry of a strip plot.

    Args:
        series: (values, mean, half-width of the interval) by name; a half-width of nan draws none.
        width: of the axis.
    """
    spans = {
        name: (mean, 0.0 if math.isnan(half) else half, values)
        for name, (values, mean, half) in series.items()
    }
    lows = [min(mean - half, *values) for mean, half, values in spans.values()]
    highs = [max(mean + half, *values) for mean, half, values in spans.values()]
    marks = ticks(min(lows), max(highs))
    low, high = min(marks[0], *lows), max(marks[-1], *highs)

    def place(value: float) -> float:
        return round(_place(value, low, high, width), 1)

    rows = [
        StripRow(
            name, [place(v) for v in values], place(mean), place(mean - half), place(mean + half)
        )
        for name, (mean, half, values) in spans.items()
    ]
    return Strip(width, rows, [(place(value), f"{value:g}") for value in marks])


@dataclass(frozen=True)
class Spread:
    """One distribution: its figures, where q10, q25, median, q75 and q90 lie, and two histograms.

    Positions are percentages of the axis: text beside them keeps its size on a narrow screen.
    """

    name: str
    figures: Mapping[str, float]
    marks: list[float]
    bars: list[Bar]
    ground: list[Bar]


@dataclass(frozen=True)
class Spreads:
    """Distributions one below the other, on one axis."""

    rows: list[Spread]
    ticks: list[Tick]


def spreads(series: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any] | None]]) -> Spreads:
    """Geometry of distributions that are to be compared.

    The axis ends where the far outliers of every distribution begin: one class that had to give its
    hardest images would squash all else.

    Args:
        series: by name, a distribution and the one it was taken from, or None; each with the keys
            min, q10, q25, median, q75, q90, max and histogram (edges, counts).
    """
    reaches = [_reach(own) for own, _ in series.values()]
    marks = ticks(min(low for low, _ in reaches), max(high for _, high in reaches))
    low, high = marks[0], marks[-1]

    def place(value: float) -> float:
        return round(_place(min(max(value, low), high), low, high, 100), 2)

    def bars(histogram: Mapping[str, Sequence[float]]) -> list[Bar]:
        bins = zip(pairwise(histogram["edges"]), histogram["counts"], strict=True)
        kept = [(a, b, n / (b - a)) for (a, b), n in bins if n and max(a, low) < min(b, high)]
        peak = max((density for *_, density in kept), default=1.0)
        return [(place(a), round(place(b) - place(a), 2), round(d / peak, 3)) for a, b, d in kept]

    rows = [
        Spread(
            name, own, [place(own[key]) for key in ("q10", "q25", "median", "q75", "q90")],
            bars(own["histogram"]), bars(ground["histogram"]) if ground else [],
        )
        for name, (own, ground) in series.items()
    ]  # fmt: skip
    return Spreads(rows, [(place(value), f"{value:g}") for value in marks])


def _reach(own: Mapping[str, Any]) -> tuple[float, float]:
    """The bulk of a distribution and once its width on either side, where there are values."""
    width = own["q90"] - own["q10"] or own["max"] - own["min"]
    return max(own["min"], own["q10"] - width), min(own["max"], own["q90"] + width)


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About ``count`` round numbers whose range covers [low, high]; at least two."""
    span, size = high - low, max(1.0, abs(low), abs(high))
    if span < 1e-6 * size:  # flat: any axis around it will do
        span = 0.1 * size
    raw = span / count
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(unit * m for m in (1, 2, 5, 10) if raw <= unit * m * (1 + 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, max(last, first + 1) + 1)]


def _place(value: float, low: float, high: float, size: float) -> float:
    return (value - low) / ((high - low) or 1.0) * size


def _mean(curves: Sequence[Curve]) -> Curve:
    tables = [dict(curve) for curve in curves]
    shared = sorted(set.intersection(*(set(table) for table in tables))) if tables else []
    return [(x, sum(table[x] for table in tables) / len(tables)) for x in shared]
