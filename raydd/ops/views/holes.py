"""Cutout: a square of every view is blanked (DeVries and Taylor, arXiv 1708.04552)."""

from __future__ import annotations

import torch
from torch import Tensor


def draw_holes(count: int, size: int, side: int, generator: torch.Generator) -> Tensor:
    """Draw squares whose centre is anywhere in the view, so that some lie partly outside.

    Args:
        count: B, views.
        size: side of a square, pixels.
        side: of the views, pixels.
        generator: CPU generator.

    Returns:
        int64 [4, B]: top, bottom, left and right, which may lie beyond the edges.
    """
    first = torch.randint(side, (2, count), generator=generator) - size // 2
    return torch.stack([first[0], first[0] + size, first[1], first[1] + size])


def cut_out(images: Tensor, holes: Tensor) -> Tensor:
    """Blank a square of each normalised image, whose mean is 0.

    Args:
        images: float [B, C, S, S].
        holes: int64 [4, B] of :func:`draw_holes`, on the same device.
    """
    top, bottom, left, right = holes[:, :, None]
    pixels = torch.arange(images.shape[-1], device=images.device)
    rows, columns = (pixels >= top) & (pixels < bottom), (pixels >= left) & (pixels < right)
    return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0.0)
