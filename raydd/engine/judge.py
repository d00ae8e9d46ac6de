"""Judge a product beside random real images and gather everything the report says."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import raydd
from raydd.engine.engine import Engine
from raydd.engine.evaluate import ProtocolConfig
from raydd.engine.product import Curriculum, Product
from raydd.engine.stages import Artifact
from raydd.ops.intervals import mean_and_interval

_PACKAGES = ("ray", "torch", "torchvision", "timm", "pyarrow", "numpy")


def judge(engine: Engine, product: Product, protocol: ProtocolConfig) -> list[dict[str, Any]]:
    """Train fresh networks on the product and on as many random real images of every class.

    Every seed gets another random subset, so that the interval of the baseline covers the draw.
    Epochs that follow the images per class are those of the product's counts, for both. What is
    measured on is the test split, or the images that were held out of every selection.

    Returns:
        One dict per training, see :func:`raydd.engine.evaluate.evaluate_images`.
    """
    seeds, protocol = range(protocol.seeds), protocol.resolve(product.counts)
    random = [[engine.random_images(product.scores, product.counts, draw)] for draw in seeds]
    test, teacher = engine.judging_images(product.scores), product.teacher
    distilled = [product.images for _ in seeds]
    return [
        *engine.evaluate(distilled, protocol, teacher, test, "distilled"),
        *engine.evaluate(random, protocol, teacher, test, "random"),
    ]


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
        "rejected": {"count": score["rejected"], "reasons": score["reasons"]},
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


def package_versions() -> dict[str, str]:
    """Versions of what decides numbers."""
    return {"raydd": raydd.__version__, **{name: version(name) for name in _PACKAGES}}


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
