"""Many numbers in a few: quantiles, mean and a histogram."""

from typing import Any

import numpy as np

_BINS = 20


def describe(values: np.ndarray) -> dict[str, Any] | None:
    """Describe the finite ones of some values.

    Args:
        values: float [N].
    Returns:
        ``min``, ``q10``, ``q25``, ``median``, ``q75``, ``q90``, ``max``, ``mean`` and
        ``histogram`` (``edges`` and ``counts``) as json values; None where no value is finite.
    """
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    names = ("min", "q10", "q25", "median", "q75", "q90", "max")
    quantiles = np.quantile(values, (0, 0.1, 0.25, 0.5, 0.75, 0.9, 1)).tolist()
    counts, edges = np.histogram(values, _BINS)
    histogram = {"edges": edges.tolist(), "counts": counts.tolist()}
    return {
        **dict(zip(names, quantiles, strict=True)),
        "mean": float(values.mean()),
        "histogram": histogram,
    }
