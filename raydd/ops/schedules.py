"""Schedules as plain functions of the step: learning-rate factors and the crop scale of CDA."""

from __future__ import annotations

import math
from collections.abc import Sequence

CROP_SCHEDULES = ("constant", "cosine", "linear", "step")


def warmup_factor(step: float, warmup: float, warmup_start: float = 0.01) -> float:
    """Learning-rate factor of a linear rise from `warmup_start` at step 0 to 1 at `warmup`.

    Source: torch's LinearLR.
    """
    return warmup_start + (1.0 - warmup_start) * step / warmup if step < warmup else 1.0


def cosine_factor(
    step: float, total: float, warmup: float = 0.0, warmup_start: float = 0.01
) -> float:
    """Learning-rate factor of a cosine decay to 0, after an optional linear warm-up.

    Args:
        step: position in [0, total], in steps or epochs; fractions of an epoch are allowed.
        total: length of the whole schedule, same unit, above 0.
        warmup: length of the linear rise from `warmup_start` to 1, same unit, below `total`.
        warmup_start: factor at step 0 when there is a warm-up, in [0, 1].

    Returns:
        Factor in [0, 1]: 1 at the end of the warm-up, 0 at `total`.

    Raises:
        ValueError: the warm-up leaves no room for the decay.

    Source: arXiv 2306.13092 (recover and Tiny-ImageNet squeeze); warm-up as torch's LinearLR.
    """
    if not 0 <= warmup < total:
        raise ValueError(f"warm-up ({warmup}) must be shorter than the schedule ({total})")
    if step < warmup:
        return warmup_factor(step, warmup, warmup_start)
    progress = min((step - warmup) / (total - warmup), 1.0)
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def smooth_factor(
    step: float,
    total: float,
    zeta: float = 1.0,
    late_steep: bool = False,
    warmup: float = 0.0,
) -> float:
    """Learning-rate factor that decays more slowly than a cosine over the schedule's length.

    Args:
        step: position in [0, total], in steps or epochs.
        total: length of the whole schedule, same unit, above 0.
        zeta: the cosine reaches 0 at zeta * total: 1 is a plain cosine, 2 ends at 1/2.
        late_steep: "early-smooth late-steep": after 5/6 of the schedule the factor falls to 0
            linearly, from a sixth of what it was there.
        warmup: length of a linear rise as in :func:`cosine_factor`.

    Returns:
        Factor in [0, 1].

    Source: arXiv 2404.13733, smoothing learning rate and SSRS, with the drop that its formula has
    where the two pieces meet.
    """
    turn = 5 * total / 6
    if late_steep and step > turn:
        peak = cosine_factor(turn - warmup, zeta * (total - warmup))
        return peak * max(total - step, 0.0) / total
    if step < warmup:
        return cosine_factor(step, total, warmup)
    return cosine_factor(step - warmup, zeta * (total - warmup))


def step_factor(
    step: float,
    total: float,
    factor: float,
    milestones: Sequence[float],
    warmup: float = 0.0,
) -> float:
    """Learning-rate factor that is multiplied by ``factor`` at every milestone.

    Args:
        step: position in [0, total], in steps.
        total: length of the whole schedule, in steps.
        factor: of each drop, in (0, 1].
        milestones: fractions of ``total``; each drop comes at the nearest step.
        warmup: length of a linear rise as in :func:`cosine_factor`.

    Returns:
        Factor in [0, 1].
    """
    if step < warmup:
        return cosine_factor(step, total, warmup)
    return factor ** sum(step >= round(milestone * total) for milestone in milestones)


def crop_scale_minimum(
    step: int, total: int, schedule: str = "constant", milestone: float = 1.0, low: float = 0.08
) -> float:
    """Lower bound of the random-crop area at one recover step.

    Args:
        step: recover step in [0, total).
        total: number of recover steps.
        schedule: "constant" (SRe2L), or the decay from 1 of CDA: "cosine", "linear", "step".
        milestone: fraction of `total` at which the decay ends, in [0, 1]; 1 in CDA, 0 equals SRe2L.
        low: final lower bound, fraction of the image area.

    Returns:
        Fraction of the image area in [low, 1].

    Raises:
        ValueError: unknown schedule name.

    Source: arXiv 2311.18838, section 3b of its official code.
    """
    if schedule not in CROP_SCHEDULES:
        raise ValueError(f"crop schedule must be one of {', '.join(CROP_SCHEDULES)}: {schedule!r}")
    end = milestone * total
    if schedule == "constant" or step >= end:
        return low
    if schedule == "cosine":
        return low + (1.0 - low) * 0.5 * (1.0 + math.cos(math.pi * step / end))
    if schedule == "linear":
        return low + (1.0 - low) * (1.0 - step / end)
    return 1.0
