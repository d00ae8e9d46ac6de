"""What the judge of any set found, as ``report.json``."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from raydd.engine.checkpoint import CARD, WEIGHTS
from raydd.engine.engine import Engine
from raydd.engine.judge import accuracy_of, package_versions
from raydd.engine.judge_set import Judgement

KIND = "evaluation"


def build_evaluation(engine: Engine, found: Judgement, about: Mapping[str, Any]) -> dict[str, Any]:
    """Gather the report.

    Args:
        engine: for stage times and the teacher.
        found: what was measured.
        about: name, dataset, licence, seed, folder of the set and the configuration.
    """
    summary, counts = found.images.summary, found.images.summary["counts"]
    table = accuracies(found.results)
    return {
        "kind": KIND,
        **about,
        "layout": found.given.layout,
        "num_classes": len(counts),
        "num_images": sum(counts),
        "counts": {"least": min(counts), "most": max(counts), "missing": counts.count(0)},
        "resized": summary["resized"],
        "sizes": summary["sizes"],
        "headline": table[0],
        "table": table,
        "results": found.results,
        "robustness": found.robustness,
        "scores": found.scores,
        "leak": found.leak.summary if found.leak else None,
        "bytes": _bytes(found),
        "teacher": _teacher(engine, found),
        "protocol": json.loads(json.dumps(found.protocol, default=vars)),
        "stages": [asdict(record) for record in engine.stages.records],
        "rejected": {
            "count": found.real.summary["rejected"],
            "reasons": found.real.summary["reasons"],
        },
        "versions": package_versions(),
    }


def accuracies(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Last-epoch accuracies by kind of labels and architecture, in the order of the results.

    Returns:
        One dict each: labels, architecture and, by name of the image set, ``sets``: mean,
        half_width (None for one seed) and values, [0, 1].
    """
    rows: dict[tuple[str, str], dict[str, list[float]]] = {}
    for result in results:
        sets = rows.setdefault((result["labels"], result["architecture"]), {})
        sets.setdefault(result["images"], []).append(result["top1_last"])
    return [
        {
            "labels": labels,
            "architecture": architecture,
            "sets": {name: accuracy_of(values) for name, values in sets.items()},
        }
        for (labels, architecture), sets in rows.items()
    ]


def _bytes(found: Judgement) -> dict[str, int]:
    """What a user of the set needs: images, labels, and the teacher that gives soft labels."""
    if found.given.distilled:
        return found.given.distilled.info.sizes
    sizes = {"images": found.images.summary["bytes"], "labels": 0, "teacher": 0}
    if found.teacher and found.label_source:
        files = [found.teacher.folder / name for name in (WEIGHTS, CARD)]
        sizes["teacher"] = sum(int(file.stat().st_size) for file in files)
    return sizes


def _teacher(engine: Engine, found: Judgement) -> dict[str, Any] | None:
    """Who was asked; ``labels`` says whose soft labels the set was trained with."""
    if found.teacher is None:
        return None
    card = engine.card(found.teacher)
    return {"name": card.name, "top1": card.top1, "labels": found.label_source}
