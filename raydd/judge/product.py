"""Judge a product beside random real images of the same size."""

from typing import Any

from raydd.engine.engine import Engine
from raydd.engine.product import Product
from raydd.engine.selection.fetch import judging_images, random_images
from raydd.judge.protocol import ProtocolConfig, ask_judges, train_judges


def judge(engine: Engine, product: Product, protocol: ProtocolConfig) -> list[dict[str, Any]]:
    """Train fresh networks on the product and on as many random real images of every class.

    Every seed gets another random subset, so that the interval of the baseline covers the draw.
    Epochs that follow the images per class are those of the product's counts, for both. What is
    measured on is the test split, or the images that were held out of every selection.

    Args:
        engine: of the run, seen by the product's teacher.
        product: what is judged.
        protocol: how.
    Returns:
        One dict per training, see :func:`raydd.judge.protocol.Judging`.
    """
    seeds, protocol = range(protocol.seeds), protocol.resolve(product.counts)
    sets = {
        "random": [[random_images(engine, product.scores, product.counts, s)] for s in seeds],
        "distilled": [product.images for _ in seeds],
    }
    test = judging_images(engine, product.scores)
    asked = [
        ask_judges(engine, sets[title], protocol, product.teacher, title, test=test)
        for title in ("distilled", "random")
    ]
    return [r for judged in train_judges(engine, asked) for r in judged.summary["results"]]
