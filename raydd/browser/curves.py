"""Trainings of the judge as the result browser draws them: of a report, or live of a journal."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Curve = list[tuple[int, float]]

CURVE_POINTS = 40  # a plot of the page is no wider; hundreds of trials must fit into one file


@dataclass(frozen=True)
class JudgeTraining:
    """One network of the judge.

    Attributes:
        architecture: its name.
        images: "distilled" or "random".
        seed: of the judge, from 0.
        top1: (epoch, accuracy in [0, 1]) of tested epochs, at most 40.
        loss: (epoch, training loss), at most 40.
        last: accuracy at the last epoch; None while it trains.
        seconds: of training; None while it trains.
    """

    architecture: str
    images: str
    seed: int
    top1: Curve
    loss: Curve
    last: float | None = None
    seconds: float | None = None


def report_trainings(report: Mapping[str, Any]) -> list[JudgeTraining]:
    """Trainings of a finished report."""
    return [
        _training(
            (item["architecture"], item["images"], item["seed"]), item["curve"],
            item["top1_last"], item["seconds"],
        )
        for item in report.get("results") or []
    ]  # fmt: skip


def journal_trainings(
    events: Iterable[Mapping[str, Any]],
) -> tuple[list[JudgeTraining], float | None]:
    """Trainings that a journal tells of; an epoch that was repeated after a kill counts once.

    Args:
        events: of :func:`raydd.store.journal.read_events`.
    Returns:
        The trainings, and the wall time of the latest event (None: there is none).
    """
    curves: dict[Any, dict[int, Mapping[str, Any]]] = {}
    heard = None
    for event in events:
        if _is_number(event.get("time")):
            heard = max(heard or 0.0, event["time"])
        if event.get("stage") == "evaluate" and isinstance(event.get("epoch"), int):
            name = (event.get("architecture"), event.get("images"), event.get("seed"))
            if None not in name:
                curves.setdefault(name, {})[event["epoch"]] = event
    parts = ((name, [points[epoch] for epoch in sorted(points)]) for name, points in curves.items())
    return [_training(name, points) for name, points in parts], heard


def _training(
    name: tuple[str, str, int],
    curve: Sequence[Mapping[str, Any]],
    last: float | None = None,
    seconds: float | None = None,
) -> JudgeTraining:
    def points(key: str) -> Curve:
        return thin([(p["epoch"], p[key]) for p in curve if _is_number(p.get(key))])

    return JudgeTraining(*name, points("top1"), points("loss"), last, seconds)


def thin(curve: Curve) -> Curve:
    """At most 40 points of a curve, evenly taken, with both ends."""
    if len(curve) <= CURVE_POINTS:
        return curve
    step = (len(curve) - 1) / (CURVE_POINTS - 1)
    return [curve[round(i * step)] for i in range(CURVE_POINTS)]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
