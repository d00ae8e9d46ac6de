"""What the report page says of curricula together: redundancy and validity."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

_CROSSED = 12  # curricula whose whole matrix is shown; report.json has any


def diagnosis(found: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The table of a diagnosis.

    Args:
        found: summary of :func:`raydd.engine.diagnose.diagnose_images`, if there is one.
    Returns:
        ``rows`` (one per curriculum; ``taught`` is the mean accuracy of its network on the other
        curricula, ``known`` that of the others' networks on it), the ``cross`` matrix where it is
        small, and what the notes say.
    """
    if not found:
        return None
    cross = found["cross"]
    others = [[row[j] for row in cross] for j in range(len(cross))]
    rows = [
        {
            "number": i + 1,
            **item,
            "taught": _mean(cross[i]) if cross else None,
            "known": _mean(others[i]) if cross else None,
        }
        for i, item in enumerate(found["curricula"])
    ]
    return {
        "rows": rows,
        "cross": cross if len(cross) <= _CROSSED else [],
        **{name: found[name] for name in ("cross_mean", "union", "classes", "model")},
        "judged": any(item["discriminator"] is not None for item in found["curricula"]),
    }


def _mean(values: Sequence[float | None]) -> float:
    return fmean(value for value in values if value is not None)
