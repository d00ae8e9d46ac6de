"""What a result means, in one sentence: for the last lines of a run and the top of its page."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from raydd.report.page import gap

_CHANCE = 1.5  # times the accuracy of guessing; below, nothing was taught
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
    if ours["mean"] < _CHANCE / num_classes:
        return Verdict("failed", f"{reached}: the set is at chance level, it teaches nothing.")
    if found["overlap"] is None:
        word = "more" if found["points"] >= 0 else "less"
        return Verdict("even", f"{reached}: {points} {word}, but one seed shows no difference.")
    if found["overlap"]:
        return Verdict("even", f"{reached}: no difference that {seeds} seeds can show.")
    if found["points"] > 0:
        return Verdict("won", f"{reached}: {points} won, far beyond what {seeds} seeds vary.")
    if found["points"] < -_FAR:
        return Verdict("failed", f"{reached}: {points} lost, take the random ones.")
    return Verdict("lost", f"{reached}: {points} lost.")
