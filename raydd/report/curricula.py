"""What the report page says of single curricula: where images started, which real ones were chosen.

Every list over classes is bounded, for ImageNet-21K's would be longer than the rest of the page.
"""

import heapq
import statistics
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from raydd.report.figures import Spreads, spreads

_LISTED_CLASSES = 50
_DIFFICULTY = {  # low is simple in all of them
    "forgetting": "forgetting events, how often a network in training lost the image again",
    "aum": "minus the mean margin of the true class in a network's training (AUM)",
    "el2n": "EL2N, the length of the error of young networks, from 0 to the root of 2",
    "logit": "minus the true-class logit of each curriculum's own filter",
    "table": "the scores of the table that was given, turned round if high is easy in it",
}


def rungs(item: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Counts per rung of one curriculum: one column per class where all of them have a name.

    Args:
        item: entry of ``report["curricula"]`` with ``rungs``.
        names: of the first classes, or of all.
    Returns:
        The counts; without names, totals and ``classes``: a row of counts for each of the first.
    """
    num_classes = max(len(counts) for counts in item["rungs"].values())
    return {
        "number": item["curriculum"] + 1,
        "rows": {
            name: {"counts": counts, **_over_classes(counts)}
            for name, counts in item["rungs"].items()
        },
        "num_classes": num_classes,
        "classes": list(zip(*item["rungs"].values(), strict=True))[:_LISTED_CLASSES],
        "names": names if len(names) == num_classes else None,
    }


def selections(
    curricula: Sequence[Mapping[str, Any]], names: Sequence[str]
) -> dict[str, Any] | None:
    """What each curriculum added, for methods that select real images.

    Args:
        curricula: ``report["curricula"]``.
        names: of the first classes, or of all.
    Returns:
        ``rows`` (one per curriculum), the ``chart`` of difficulties, ``classes`` (a bounded list)
        and what the notes say; None where no curriculum selected images.
    """
    picked = {item["curriculum"] + 1: item["selection"] for item in curricula if _selects(item)}
    if not picked:
        return None
    rows = [_row(item) for item in curricula]
    filters = [row["filter"] for row in rows if row["filter"]]
    kinds = dict.fromkeys(part["difficulty_name"] for part in picked.values() if part["difficulty"])
    return {
        "rows": rows,
        "numbers": list(picked),
        "filters": list(dict.fromkeys(network["name"] for network in filters)),
        "tested": any(network["top1"] is not None for network in filters),
        "difficulty": " / ".join(_DIFFICULTY.get(kind, str(kind)) for kind in kinds),
        "with_candidates": any(part.get("difficulty_candidates") for part in picked.values()),
        "chart": _chart(picked),
        "classes": _classes(list(picked.values()), names),
        "num_classes": len(next(iter(picked.values()))["chosen"]),
    }


def _selects(item: Mapping[str, Any]) -> bool:
    return bool(item.get("selection"))


def _row(item: Mapping[str, Any]) -> dict[str, Any]:
    """One curriculum; what it did not measure is None."""
    row = {"number": item["curriculum"] + 1, "origin": item.get("origin")}
    row |= {"images": item.get("images"), "missing": 0, "filled": 0}
    if not _selects(item):
        return row | dict.fromkeys(("filter", "candidates", "chosen", "difficulty"))
    part = item["selection"]
    pairs = list(zip(part["chosen"], part["candidates"], strict=True))
    return row | {
        "filter": part.get("filter"),
        "candidates": _over_classes(part["candidates"]),
        "chosen": _over_classes(part["chosen"]),
        "difficulty": part["difficulty"],
        "asked": part["asked"],
        "missing": max(0, part["asked"] - sum(part["chosen"])),
        "exhausted": sum(count >= left for count, left in pairs),
        "filled": sum(max(0, count - left) for count, left in pairs),
    }


def _chart(picked: Mapping[int, Mapping[str, Any]]) -> Spreads | None:
    known = {
        f"Curriculum {number}": (part["difficulty"], part.get("difficulty_candidates"))
        for number, part in picked.items()
        if part["difficulty"]
    }
    return spreads(known) if known else None


def _classes(
    picked: Sequence[Mapping[str, Any]], names: Sequence[str]
) -> list[tuple[str, list[tuple[int, int]]]]:
    """(class, (chosen, candidates) of every curriculum); of too many classes, the neediest."""
    chosen = list(zip(*(part["chosen"] for part in picked), strict=True))
    candidates = list(zip(*(part["candidates"] for part in picked), strict=True))
    listed: Sequence[int] = range(len(chosen))
    if len(chosen) > _LISTED_CLASSES:
        listed = heapq.nsmallest(
            _LISTED_CLASSES, listed, key=lambda c: (sum(chosen[c]), candidates[c][-1])
        )
    known = names if len(names) == len(chosen) else range(len(chosen))
    return [(str(known[c]), list(zip(chosen[c], candidates[c], strict=True))) for c in listed]


def _over_classes(counts: Sequence[int]) -> dict[str, Any]:
    return {
        "total": sum(counts),
        "least": min(counts),
        "median": statistics.median(counts),
        "most": max(counts),
    }


_CROSSED = 12  # curricula whose whole matrix is shown; report.json has any


def diagnosis(found: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The table of a diagnosis.

    Args:
        found: summary of :func:`raydd.judge.diagnose.diagnose`, if there is one.
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
