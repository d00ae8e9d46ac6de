"""The page of a judged set: one HTML file, no network; the layout is ``set_page.html.jinja``."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from raydd.report.figures import Chart, Spreads, image_grid, line_chart, spreads
from raydd.report.page import Grid, accuracy_strip, config_text, flatten, picture, template
from raydd.report.run_page import learning_curves, summarise
from raydd.report.verdict import gap, verdict

SERIES = {
    "distilled": "This set",
    "random": "Random real images",
    "herding": "Herded real images",
}


@dataclass(frozen=True)
class Pair:
    """A distilled image and the real image that is nearest to it.

    Attributes:
        distilled: uint8 [R, R, 3].
        real: uint8 [R, R, 3].
        class_name: of both.
        real_id: of the real one.
        distance: root mean square of their differences, pixels in [0, 1].
        is_copy: whether that is below the threshold.
    """

    distilled: np.ndarray
    real: np.ndarray
    class_name: str
    real_id: str
    distance: float
    is_copy: bool


def render_evaluation(report: Mapping[str, Any], grid: Grid, pairs: Sequence[Pair]) -> str:
    """Render one self-contained HTML page.

    Args:
        report: as in ``report.json``, see :func:`raydd.report.gather.build_evaluation`.
        grid: some images of the set.
        pairs: the nearest real images, nearest first; empty where nobody looked.
    """
    sets = report["headline"]["sets"]
    kinds = dict.fromkeys(row["labels"] for row in report["table"])
    by_kind = {kind: [r for r in report["results"] if r["labels"] == kind] for kind in kinds}
    return template("set_page.html.jinja").render(
        report=report,
        series={name: label for name, label in SERIES.items() if name in sets},
        gap=gap(sets["distilled"], sets["random"]),
        verdict=verdict(
            sets["distilled"], sets["random"], report["num_images"], report["num_classes"]
        ),
        strip=accuracy_strip(sets),
        rows=[_row(row) for row in report["table"]],
        details={kind: summarise(results) for kind, results in by_kind.items()},
        curves={kind: learning_curves(results) for kind, results in by_kind.items()},
        grid=picture(grid),
        disturbed=robustness_charts(report["robustness"]),
        nearness=_nearness(report["leak"]),
        pairs=[_pair(pair) for pair in pairs],
        protocol=flatten(report["protocol"]),
        provenance={"licence of the source": report["licence"], **report["versions"]},
        config=config_text(report["config"]),
    )


def robustness_charts(robustness: Mapping[str, Any] | None) -> list[Chart]:
    """Accuracy over the strength of each kind of disturbance, from undisturbed images on.

    Args:
        robustness: of the report: ``networks`` with images, clean, and noise and pgd by level.
    """
    if robustness is None:
        return []
    charts = []
    for kind, title in (
        ("noise", "top-1, %, over the deviation of Gaussian noise"),
        ("pgd", "top-1, %, over the largest change by PGD, 255ths"),
    ):
        curves: dict[str, list[list[tuple[float, float]]]] = {}
        for network in robustness["networks"]:
            levels = {0.0: network["clean"]} | {float(k): v for k, v in network[kind].items()}
            curve = [(level, 100 * levels[level]) for level in sorted(levels)]
            curves.setdefault(network["images"], []).append(curve)
        if chart := line_chart(title, curves):
            charts.append(chart)
    return charts


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    """One row of the table of architectures, with the lead over random images."""
    lead = gap(row["sets"]["distilled"], row["sets"]["random"])
    return {**row, "lead": lead["points"], "is_clear": lead["overlap"] is False}


def _nearness(leak: Mapping[str, Any] | None) -> Spreads | None:
    """Distances to the nearest real training image: of the set, and of real test images."""
    if leak is None:
        return None
    series = {"this set": leak["distances"], "real test images": leak["test"]["distances"]}
    return spreads({name: (values, None) for name, values in series.items() if values})


def _pair(pair: Pair) -> dict[str, Any]:
    sheet = image_grid(np.stack([pair.distilled, pair.real])[None])
    return {
        "png": base64.b64encode(sheet).decode(),
        "class_name": pair.class_name,
        "real_id": pair.real_id,
        "distance": pair.distance,
        "is_copy": pair.is_copy,
    }
