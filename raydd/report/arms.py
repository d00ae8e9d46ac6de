"""What tells the trials of a sweep apart, in few words.

An arm sets keys that belong together (``sweep.arms``); people know it by its name.
"""

from collections.abc import Mapping
from typing import Any


def arm_of(overrides: Mapping[str, Any], arms: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Name of the arm that a trial belongs to; None without arms.

    Args:
        overrides: of the trial.
        arms: of its sweep. Of those whose values the overrides have, the one with the most keys.
    """
    fitting = [n for n, arm in arms.items() if all(overrides.get(k) == v for k, v in arm.items())]
    return max(fitting, key=lambda name: len(arms[name]), default=None)


def varied_by(
    overrides: Mapping[str, Any], arms: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """What tells a trial apart: ``arm``, where there are some, and the overrides beside its own."""
    name = arm_of(overrides, arms)
    if name is None:
        return dict(overrides)
    return {"arm": name} | {k: v for k, v in overrides.items() if k not in arms[name]}
