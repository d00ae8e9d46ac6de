"""Herding: pick images one by one so that the mean of those picked stays near the mean of all."""

import numpy as np


def herd(features: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Greedy picks without replacement; pick k minimises |mean - (sum of earlier + x) / k|.

    Args:
        features: [N, D], one row per candidate; of equal ones the first is picked.
        count: how many to pick; all where there are fewer.
    Returns:
        Picked rows in the order of choice, int64 [K], and after each pick the distance of the
        picks' mean to the mean of all, float64 [K].
    Source: Welling, "Herding dynamical weights to learn", ICML 2009, as iCaRL (arXiv 1611.07725)
        uses it for exemplars and arXiv 2006.05929 as a baseline of distillation.
    """
    points = features.astype(np.float64)
    mean = points.sum(axis=0) / max(1, len(points))
    squares = np.einsum("nd,nd->n", points, points)
    picked: list[int] = []
    distances: list[float] = []
    total = np.zeros_like(mean)
    for k in range(1, min(count, len(points)) + 1):
        wanted = k * mean - total  # what the next one should be
        # einsum, not a BLAS product: equal rows must give equal bits, wherever they stand
        cost = squares - 2 * np.einsum("nd,d->n", points, wanted)
        cost[picked] = np.inf
        picked.append(int(cost.argmin()))
        total += points[picked[-1]]
        distances.append(float(np.linalg.norm(mean - total / k)))
    return np.array(picked, np.int64), np.array(distances)
