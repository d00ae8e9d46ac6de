"""What the judge of any set found, as ``report.json``."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from raydd.engine.engine import Engine
from raydd.engine.passes.compare import compare_splits
from raydd.engine.passes.decode import find_test
from raydd.engine.product import Curriculum, Product
from raydd.judge.any_set import Judgement
from raydd.judge.protocol import ProtocolConfig
from raydd.ops.intervals import mean_and_interval
from raydd.store.artifacts import Artifact
from raydd.store.checkpoint import CARD, WEIGHTS
from raydd.store.files import package_versions

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
        "data": real_images(engine, found.real),
        "versions": package_versions(),
    }


def real_images(engine: Engine, real: Artifact) -> dict[str, Any]:
    """What became of the real images.

    Args:
        engine: of the run.
        real: a table of the training images.
    Returns:
        ``splits``, for "training" and, where it was read, "test": images ``seen``, ``used`` and
        ``rejected`` with ``reasons``, and ``unused`` files by kind; ``equal``: test images that are
        training images, too, None where nobody compared.
    """
    test = find_test(engine)
    found = {"training": real, **({"test": test} if test else {})}
    splits = {
        name: {
            "seen": item.summary["rows"] + item.summary["rejected"],
            "used": item.summary["rows"],
            "rejected": item.summary["rejected"],
            "reasons": item.summary["reasons"],
            "unused": item.summary.get("unused", {}),
        }
        for name, item in found.items()
    }
    compared = compare_splits(engine, real, test).summary if test else {}
    return {"splits": splits, "equal": compared.get("equal")}


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


def build_report(
    engine: Engine,
    product: Product,
    results: Sequence[dict[str, Any]],
    protocol: ProtocolConfig,
    sizes: dict[str, int],
    run: dict[str, Any],
) -> dict[str, Any]:
    """Gather the report.

    Args:
        engine: for stage times and the teacher.
        product: the curricula.
        results: of :func:`judge`; may be empty.
        protocol: printed with the result, and with the epochs that it came to.
        sizes: bytes of images, labels and teacher in the product.
        run: name, method, dataset, licence, seed, ipc and the configuration.
    """
    score, card = product.scores.summary, engine.card(product.teacher)
    return {
        **run,
        "num_classes": len(engine.class_names),
        "num_images": sum(product.counts),
        "headline": headline(results),
        "results": list(results),
        "protocol": json.loads(json.dumps(protocol.resolve(product.counts), default=vars)),
        "bytes": sizes,
        "teacher": {
            "name": card.name,
            "top1": card.top1,
            "top1_train": score["top1"],
        },
        "curricula": [_curriculum(i, item, engine) for i, item in enumerate(product.curricula)],
        "diagnosis": product.diagnosis.summary if product.diagnosis else None,
        "stages": [asdict(record) for record in engine.stages.records],
        "rejected": {
            "count": score["rejected"],
            "reasons": score["reasons"],
            "ids": f"stages/{product.scores.folder.name}/rejected.parquet",
        },
        "data": real_images(engine, product.scores),
        "versions": package_versions(),
    }


def headline(results: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Last-epoch accuracy of the first architecture: mean and 95 % interval over seeds, [0, 1].

    Returns:
        The architecture and, for ``distilled`` and ``random``: mean, half_width (None for one seed,
        for json knows no nan) and values; None without results.
    """
    if not results:
        return None
    architecture = results[0]["architecture"]
    summary: dict[str, Any] = {"architecture": architecture}
    for images in ("distilled", "random"):
        values = [
            r["top1_last"]
            for r in results
            if (r["images"], r["architecture"]) == (images, architecture)
        ]
        summary[images] = accuracy_of(values)
    return summary


def accuracy_of(values: Sequence[float]) -> dict[str, Any]:
    """Mean, half_width of the 95 % interval (None for one seed: json knows no nan) and values."""
    mean, half_width = mean_and_interval(values)
    half = half_width if len(values) > 1 else None
    return {"mean": mean, "half_width": half, "values": list(values)}


def _curriculum(number: int, item: Curriculum, engine: Engine) -> dict[str, Any]:
    images = item.images.summary
    return {
        "curriculum": number,
        "origin": "real" if item.is_real else "synthetic",
        "images": sum(images["counts"]),
        "slots": images["slots"],
        "rungs": item.start.summary["rungs"] if item.start else {},
        "selection": _selection(item, item.start, engine) if item.start and item.is_real else None,
    }


def _selection(item: Curriculum, selection: Artifact, engine: Engine) -> dict[str, Any]:
    network = None
    if item.network and item.scores:
        card = engine.card(item.network)
        top1_train = item.scores.summary["top1"]
        network = {"name": card.model.name, "top1_train": top1_train, "top1": card.top1}
    names = ("asked", "chosen", "candidates", "difficulty")
    return {
        **{name: selection.summary[name] for name in names},
        "difficulty_name": item.difficulty,
        "filter": network,
    }
