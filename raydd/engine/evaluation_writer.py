"""Write what the judge of any set leaves: ``report.json`` for machines, ``report.html`` for people."""

import json
from typing import Any

import numpy as np
from upath import UPath

from raydd.data.rows import fetch_pixels
from raydd.engine.engine import Engine
from raydd.engine.evaluation_page import Pair, render_evaluation
from raydd.engine.judge_set import Judgement
from raydd.engine.page import Grid
from raydd.engine.pixels import iterate_slots
from raydd.engine.shown import GRID_CLASSES, GRID_SLOTS, read_grid
from raydd.engine.stages import write_atomic


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
