"""What a result means: differences, the numbers that runs are compared by, and one sentence.

Imports next to nothing: every trial of a sweep pays for a process that reads it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_BARELY = 0.05  # above guessing, or half as good again where that is less: nothing was taught
_FAR = 5.0  # points below random images, from which on a set is worse than useless


@dataclass(frozen=True)
class Verdict:
    """A sentence, and how it is meant.

    Attributes:
        kind: "won", "even", "lost", or "failed": at chance, or far below random images.
        text: the sentence.
    """

    kind: str
    text: str


def gap(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    """Difference of two means, in points, and whether their intervals overlap (None: one seed).

    Args:
        ours: mean and half_width, fractions; the latter is None where there is none.
        theirs: the same.
    """
    points = ours["mean"] - theirs["mean"]
    halves = [ours["half_width"], theirs["half_width"]]
    known = all(half is not None and math.isfinite(half) for half in halves)
    return {"points": 100 * points, "overlap": abs(points) <= sum(halves) if known else None}


def measured(report: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a report by which runs are compared; accuracies in [0, 1]."""
    found = {"images": report["num_images"], "bytes": sum(report["bytes"].values())}
    if best := report["headline"]:
        ours, random = best["distilled"]["mean"], best["random"]["mean"]
        found |= {
            "top1": ours,
            "half_width": best["distilled"]["half_width"] or 0.0,
            "random": random,
            "gain": ours - random,
        }
    return found


def verdict(
    ours: Mapping[str, Any], random: Mapping[str, Any], num_images: int, num_classes: int
) -> Verdict:
    """Compare networks trained on a set with those trained on random real images.

    Args:
        ours: mean, half_width (None for one seed) and values; accuracies in [0, 1].
        random: the same of as many random real images.
        num_images: of the set.
        num_classes: C.
    """
    found, seeds = gap(ours, random), len(ours["values"])
    reached = (
        f"{num_images:,} images teach a network {100 * ours['mean']:.1f} %, as many random real "
        f"ones {100 * random['mean']:.1f} %"
    )
    points = f"{abs(found['points']):.1f} points"
    chance = 1 / num_classes
    if ours["mean"] < chance + min(chance / 2, _BARELY):
        return Verdict("failed", f"{reached}: the set is at chance level, it teaches nothing.")
    if found["overlap"] is None:
        word = "more" if found["points"] >= 0 else "less"
        return Verdict("even", f"{reached}: {points} {word}, but one seed shows no difference.")
    if found["overlap"]:
        return Verdict("even", f"{reached}: no difference that {seeds} seeds can show.")
    if found["points"] > 0:
        apart = f"the intervals of {seeds} seeds are apart"
        return Verdict("won", f"{reached}: {points} won, and {apart}.")
    if found["points"] < -_FAR:
        return Verdict("failed", f"{reached}: {points} lost, take the random ones.")
    return Verdict("lost", f"{reached}: {points} lost.")
