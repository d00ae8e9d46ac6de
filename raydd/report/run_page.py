"""The page a person opens after a run: one HTML file, no network, readable from a mail attachment.

The numbers come from ``report.json`` as :func:`raydd.report.gather.build_report` makes it; the
layout is ``run_page.html.jinja`` beside this file.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from raydd.ops.intervals import mean_and_interval
from raydd.report.curricula import diagnosis, rungs, selections
from raydd.report.figures import Chart, line_chart
from raydd.report.page import (
    Grid,
    accuracy_strip,
    config_text,
    flatten,
    is_number,
    picture,
    template,
)
from raydd.report.verdict import gap, verdict

SERIES = {"distilled": "Distilled images", "random": "Random real images"}


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
             "diagnosis": None or the summary of raydd.judge.diagnose,  # may be missing
             "stages": [{"name", "seconds", "cached"}],
             "rejected": {"count", "reasons": {reason: count},  # of the training images
                          "ids"},  # a file below the storage
             "judged_on": words, "data": see raydd.report.gather.real_images,  # may be missing
             "versions": {...}, "config": {...}}

            SELECTION = {  # DIFFICULTY and "filter" may be None
             "asked": count over all classes, "chosen": [count per class],
             "candidates": [count per class, before the cut],
             "difficulty_name": "forgetting" | "aum" | "el2n" | "logit" | "table" | None,
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
    headline = report["headline"]
    parts = {name: headline[name] for name in SERIES} if headline else {}
    sizes = report["num_images"], report["num_classes"]
    return template("run_page.html.jinja").render(
        report=report,
        series=SERIES,
        gain=gap(*parts.values()) if parts else None,
        verdict=verdict(parts["distilled"], parts["random"], *sizes) if parts else None,
        strip=accuracy_strip(parts) if parts else None,
        results=summarise(report["results"]),
        charts=learning_curves(report["results"]),
        grids=[picture(grid) for grid in grids],
        selections=selections(report["curricula"], names),
        diagnosis=diagnosis(report.get("diagnosis")),
        rungs=[rungs(item, names) for item in starts if item.get("rungs")],
        holds_real=len(starts) < len(report["curricula"]),
        protocol=flatten(report["protocol"]),
        config=config_text(report["config"]),
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


def _curves(
    runs: Sequence[Mapping[str, Any]], key: str, scale: float
) -> dict[str, list[list[tuple[float, float]]]]:
    curves: dict[str, list[list[tuple[float, float]]]] = {}
    for run in runs:  # an epoch that was not tested has no top1
        curve = [(p["epoch"], scale * p[key]) for p in run["curve"] if is_number(p.get(key))]
        curves.setdefault(run["images"], []).append(curve)
    return curves
