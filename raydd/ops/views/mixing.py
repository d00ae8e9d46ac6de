"""Images of a batch mixed with one another."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Mix:
    """How a batch was mixed: ``shares`` [2] of image i and of image ``permutation[i]``."""

    permutation: Tensor
    shares: Tensor


def draw_share(alpha: float, generator: torch.Generator) -> float:
    """The share of an image's own pixels, from Beta(alpha, alpha)."""
    # torch draws no Beta from a generator object; numpy, seeded by it, does
    seed = int(torch.randint(2**62, (1,), generator=generator))
    return float(np.random.default_rng(seed).beta(alpha, alpha))


def draw_window(share: float, side: int, generator: torch.Generator) -> tuple[Tensor, float]:
    """A rectangle to paste, as CutMix draws it; SRe2L uses the same.

    Args:
        share: of the image that shall stay its own; less of the rectangle lies inside at an edge.
        side: of the images, pixels.
        generator: CPU generator.

    Returns:
        int64 [4]: top, bottom, left, right; and the share that does stay.
    """
    length = int(math.sqrt(1.0 - share) * side)
    centre_y, centre_x = torch.rand(2, generator=generator).tolist()
    top, bottom = _clipped_span(int(centre_y * side), length, side)
    left, right = _clipped_span(int(centre_x * side), length, side)
    pasted = (bottom - top) * (right - left) / (side * side)
    return torch.tensor([top, bottom, left, right]), 1.0 - pasted


def _clipped_span(centre: int, length: int, limit: int) -> tuple[int, int]:
    return max(centre - length // 2, 0), min(centre + length // 2, limit)


def paste(images: Tensor, permutation: Tensor, window: Tensor) -> Tensor:
    """Paste one rectangle per batch from a permutation of the batch.

    The rectangle is a mask: where it lies is known to the device alone, and every batch takes the
    same kernels.

    Args:
        images: float [B, C, S, S].
        permutation: int64 [B].
        window: int64 [4], top, bottom, left and right.
    """
    pixels = torch.arange(images.shape[-1], device=images.device)
    rows = (pixels >= window[0]) & (pixels < window[1])
    columns = (pixels >= window[2]) & (pixels < window[3])
    return torch.where(rows[:, None] & columns, images[permutation], images)


def blend(images: Tensor, permutation: Tensor, shares: Tensor) -> Tensor:
    """Blend each image [B, C, H, W] with one of a permutation; shares [2] of both."""
    return images * shares[0] + images[permutation] * shares[1]
