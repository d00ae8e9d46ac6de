"""Judge a product beside random real images and gather everything the report says."""

from typing import Any

from raydd.engine.engine import Engine
from raydd.engine.product import Product
from raydd.engine.protocol import ProtocolConfig


def judge(engine: Engine, product: Product, protocol: ProtocolConfig) -> list[dict[str, Any]]:
    """Train fresh networks on the product and on as many random real images of every class.

    Every seed gets another random subset, so that the interval of the baseline covers the draw.
    Epochs that follow the images per class are those of the product's counts, for both. What is
    measured on is the test split, or the images that were held out of every selection.

    Returns:
        One dict per training, see :func:`raydd.engine.protocol.evaluate_images`.
    """
    seeds, protocol = range(protocol.seeds), protocol.resolve(product.counts)
    random = [[engine.random_images(product.scores, product.counts, draw)] for draw in seeds]
    test, teacher = engine.judging_images(product.scores), product.teacher
    distilled = [product.images for _ in seeds]
    return [
        *engine.evaluate(distilled, protocol, teacher, test, "distilled"),
        *engine.evaluate(random, protocol, teacher, test, "random"),
    ]
