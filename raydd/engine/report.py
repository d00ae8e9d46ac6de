"""The page a person opens after a run: one HTML file, no network, readable from a mail attachment.

The numbers come from ``report.json`` as :func:`raydd.engine.judge.build_report` makes it; the
layout is ``report.html.jinja`` beside this file.
"""

import base64
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import yaml

from raydd.engine.figures import Chart, Strip, image_grid, line_chart, strip
from raydd.engine.report_curricula import rungs, selections
from raydd.engine.report_diagnosis import diagnosis
from raydd.ops.intervals import mean_and_interval

SERIES = {"distilled": "Distilled images", "random": "Random real images"}


@dataclass(frozen=True)
class Grid:
    """Some images of one curriculum.

    Attributes:
        title: heading.
        caption: what rows and columns are.
        images: uint8 [classes, slots, R, R, 3], RGB.
        class_names: one per row.
    """

    title: str
    caption: str
    images: np.ndarray
    class_names: Sequence[str]


def render_report(report: Mapping[str, Any], grids: Sequence[Grid]) -> str:
    """Render one self-contained HTML page.

    Args:
        report: as in ``report.json``; accuracies in [0, 1], bytes, seconds::

            {"name", "method", "dataset", "licence", "seed", "ipc", "num_classes", "num_images",
             "headline": None or {"architecture", "distilled": {"mean", "half_width", "values"},
                                  "random": {...}},
             "results": [{"architecture", "images": "distilled" | "random", "seed", "top1_last",
                          "top1_best", "curve": [{"epoch", "loss", "top1"}, ...], "seconds"}, ...],
             "protocol": {...}, "bytes": {"images", "labels", "teacher"},
             "teacher": {"name", "top1" (may be None), "top1_train"},
             "curricula": [{"curriculum", "slots": [...], "rungs": {"simple": [count per class]},
                            "origin": "synthetic" | "real", "images": count,
                            "selection": None or SELECTION}],  # all but the number may be missing
             "diagnosis": None or the summary of raydd.engine.diagnose,  # may be missing
             "stages": [{"name", "seconds", "cached"}],
             "rejected": {"count", "reasons": {reason: count}},
             "versions": {...}, "config": {...}}

            SELECTION = {  # DIFFICULTY and "filter" may be None
             "asked": count over all classes, "chosen": [count per class],
             "candidates": [count per class, before the cut],
             "difficulty_name": "forgetting" | "logit" | "table" | None,
             "difficulty": DIFFICULTY of the chosen (low is simple), "difficulty_candidates",
             "filter": {"name", "top1_train", "top1" (test split, may be None)}}
            DIFFICULTY = {"min", "q10", "q25", "median", "q75", "q90", "max", "mean",
                          "histogram": {"edges": [n + 1], "counts": [n]}}

        grids: one per curriculum, or none.
    Returns:
        The page; it holds every image and style, and its content policy forbids loading any other.
    """
    names = grids[0].class_names if grids else []
    starts = [item for item in report["curricula"] if item.get("origin") != "real"]
    return _template().render(
        report=report,
        series=SERIES,
        gain=_gain(report["headline"]),
        strip=_strip(report["headline"]),
        results=summarise(report["results"]),
        charts=learning_curves(report["results"]),
        grids=[_picture(grid) for grid in grids],
        selections=selections(report["curricula"], names),
        diagnosis=diagnosis(report.get("diagnosis")),
        rungs=[rungs(item, names) for item in starts if item.get("rungs")],
        holds_real=len(starts) < len(report["curricula"]),
        protocol=flatten(report["protocol"]),
        seconds=sum(stage["seconds"] for stage in report["stages"]),
        config=yaml.safe_dump(json.loads(json.dumps(report["config"])), sort_keys=False),
    )


def summarise(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row per (architecture, images): every seed's last epoch, mean, interval, best epoch.

    Returns:
        In the order of the results: architecture, images, seeds, values (last epoch), mean,
        half_width (nan for one seed), best (mean of best epochs), seconds (mean per training).
    """
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for result in results:
        groups.setdefault((result["architecture"], result["images"]), []).append(result)
    rows = []
    for (architecture, images), runs in groups.items():
        values = [run["top1_last"] for run in runs]
        mean, half_width = mean_and_interval(values)
        rows.append({
            "architecture": architecture, "images": images, "seeds": [run["seed"] for run in runs],
            "values": values, "mean": mean, "half_width": half_width,
            "best": statistics.fmean(run["top1_best"] for run in runs),
            "seconds": statistics.fmean(run["seconds"] for run in runs),
        })  # fmt: skip
    return sorted(
        rows, key=lambda row: [r["architecture"] for r in results].index(row["architecture"])
    )


def learning_curves(results: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[Chart]]]:
    """For each architecture, charts of test accuracy and training loss over epochs."""
    figures = []
    for architecture in dict.fromkeys(result["architecture"] for result in results):
        runs = [result for result in results if result["architecture"] == architecture]
        charts = [
            line_chart("test top-1, %", _curves(runs, "top1", 100.0)),
            line_chart("training loss", _curves(runs, "loss", 1.0)),
        ]
        figures.append((architecture, [chart for chart in charts if chart]))
    return [figure for figure in figures if figure[1]]


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries and lists of them as one, with dotted keys."""
    if isinstance(tree, Mapping):
        items: Any = tree.items()
    elif isinstance(tree, list) and any(isinstance(item, Mapping) for item in tree):
        items = enumerate(tree)
    else:
        return {prefix.removesuffix("."): tree}
    return {k: v for key, value in items for k, v in flatten(value, f"{prefix}{key}.").items()}


def _curves(
    runs: Sequence[Mapping[str, Any]], key: str, scale: float
) -> dict[str, list[list[tuple[float, float]]]]:
    curves: dict[str, list[list[tuple[float, float]]]] = {}
    for run in runs:  # an epoch that was not tested has no top1
        curve = [(p["epoch"], scale * p[key]) for p in run["curve"] if _is_number(p.get(key))]
        curves.setdefault(run["images"], []).append(curve)
    return curves


def _gain(headline: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Difference of the means, in points; whether the intervals overlap (None: one seed)."""
    if headline is None:
        return None
    ours, theirs = headline["distilled"], headline["random"]
    gap = ours["mean"] - theirs["mean"]
    halves = [ours["half_width"], theirs["half_width"]]
    known = all(_is_number(half) for half in halves)
    return {"points": 100 * gap, "overlap": abs(gap) <= sum(halves) if known else None}


def _strip(headline: Mapping[str, Any] | None) -> Strip | None:
    if headline is None:
        return None
    rows = {}
    for name in SERIES:
        part = headline[name]
        half = part["half_width"] if _is_number(part["half_width"]) else math.nan
        rows[name] = ([100 * v for v in part["values"]], 100 * part["mean"], 100 * half)
    return strip(rows)


def _picture(grid: Grid) -> dict[str, Any]:
    return {
        "title": grid.title,
        "caption": grid.caption,
        "png": base64.b64encode(image_grid(grid.images)).decode(),
        "rows": grid.class_names,
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,  # class names and reasons come from files of strangers
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "size": _size,
        "duration": _duration,
        "percent": _percent,
        "half": _half,
        "number": _number,
        "short": _short,
    }
    return environment.get_template("report.html.jinja")


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f}" if _is_number(fraction) else "-"


def _number(count: float) -> str:
    """A number of images, or the median of some."""
    return f"{count:,.1f}".removesuffix(".0")


def _short(value: float) -> str:
    return f"{value:.3g}"


def _half(fraction: float | None) -> str:
    return f"± {100 * fraction:.1f}" if fraction is not None and _is_number(fraction) else ""


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            break
        count /= 1024
    return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
