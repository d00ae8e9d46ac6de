"""Write what the judge of any set leaves: ``report.json`` for machines, ``report.html`` for us."""

import json
from typing import Any

from upath import UPath

from raydd.data.rows import fetch_pixels
from raydd.engine.engine import Engine
from raydd.engine.evaluation_page import Pair, render_evaluation
from raydd.engine.grids import GRID_CLASSES, GRID_SLOTS
from raydd.engine.judge_set import Judgement
from raydd.engine.page import Grid
from raydd.engine.pixels import pick_stored
from raydd.engine.shown import read_grid
from raydd.engine.stages import write_atomic
from raydd.engine.tables import part_files


def write_evaluation(
    folder: UPath, report: dict[str, Any], found: Judgement, engine: Engine
) -> None:
    """Write both reports.

    Args:
        folder: where they go.
        report: of :func:`raydd.engine.evaluation_report.build_evaluation`.
        found: what was measured; its images are shown.
        engine: fetches the real images that are shown.
    """
    write_atomic(folder / "report.json", json.dumps(report, indent=1).encode())
    page = render_evaluation(report, _grid(found, engine), _pairs(found, engine))
    write_atomic(folder / "report.html", page.encode())


def _grid(found: Judgement, engine: Engine) -> Grid:
    """The first images of the first classes."""
    rows = min(len(engine.class_names), GRID_CLASSES)
    slots = range(min(found.images.summary["slots"][1], GRID_SLOTS))
    side = engine.preprocessing.resolution
    images = read_grid(found.images.folder, rows, slots, side)
    caption = f"the first {len(slots)} of each class" if len(slots) > 1 else "one of each class"
    return Grid("", caption, images, engine.class_names[:rows])


def _pairs(found: Judgement, engine: Engine) -> list[Pair]:
    """The distilled images that are nearest to a real one, with it."""
    nearest = found.leak.summary["nearest"] if found.leak else []
    if not nearest:
        return []
    distilled = pick_stored(
        part_files(found.images.folder),
        [pair["class_index"] for pair in nearest],
        [pair["slot"] for pair in nearest],
        engine.preprocessing.resolution,
    )
    ids = [pair["nearest_id"] for pair in nearest]
    real = fetch_pixels(engine.train_source, ids, engine.preprocessing, engine.data.max_pixels)
    return [
        Pair(
            ours.numpy(), theirs, engine.class_names[p["class_index"]], p["nearest_id"],
            p["distance"], p["distance"] < found.config.nearest.threshold,
        )
        for ours, theirs, p in zip(distilled.permute(0, 2, 3, 1), real, nearest, strict=True)
    ]  # fmt: skip
