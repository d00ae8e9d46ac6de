"""How alike the images of a class are."""

from __future__ import annotations

import torch
from torch import Tensor


def mean_pairwise_cosine(sums: Tensor, counts: Tensor) -> float | None:
    """Mean cosine of two different images of a class, averaged over classes.

    Args:
        sums: [C, D], sums of the unit vectors of each class.
        counts: int64 [C], how many there are of each.

    Returns:
        In [-1, 1]; None where no class has two images. Linear in the number of images, for
        |sum|^2 = n + the sum of the cosines of all ordered pairs.
    """
    pairs = counts > 1
    if not pairs.any():
        return None
    squares, n = sums[pairs].square().sum(dim=1, dtype=torch.float64), counts[pairs]
    return float(((squares - n) / (n * (n - 1))).mean())
