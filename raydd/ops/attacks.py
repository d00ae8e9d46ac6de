"""Disturbed images: Gaussian noise, and the worst that a network can be shown within a small box.

Images lie in [0, 1]. Every image has draws of its own, fixed by its position in its set and by the
seed, so that a result does not depend on how the set is cut into batches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from raydd.ops.seeds import generator


def add_noise(
    images: Tensor, sigma: float, positions: Sequence[int], *seed_parts: str | int
) -> Tensor:
    """Add independent Gaussian noise to every value.

    Args:
        images: float32 [B, 3, H, W] in [0, 1].
        sigma: standard deviation, in the unit of the pixels; levels share one draw, scaled.
        positions: B numbers of the images in their set.
        seed_parts: name of the draw.
    Returns:
        float32 [B, 3, H, W], clipped to [0, 1].
    """
    noise = _draw(torch.randn, images, positions, seed_parts)
    return (images + sigma * noise).clamp(0, 1)


def attack_pgd(
    logits: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    epsilon: float,
    steps: int,
    step_size: float,
    positions: Sequence[int],
    *seed_parts: str | int,
) -> Tensor:
    """Projected gradient descent in the L-infinity ball: climb the cross-entropy by signs.

    Args:
        logits: maps images [B, 3, H, W] in [0, 1] to logits [B, C], each from its image alone; it
            normalises them itself.
        images: float32 [B, 3, H, W] in [0, 1].
        labels: int64 [B].
        epsilon: largest change of a value, in the unit of the pixels.
        steps: gradient steps.
        step_size: of each step, in the unit of the pixels.
        positions: B numbers of the images in their set; they fix the random start.
        seed_parts: name of the draw.
    Returns:
        float32 [B, 3, H, W] in [0, 1], within epsilon of the images.
    Source: arXiv 1706.06083.
    """
    low, high = (images - epsilon).clamp(min=0), (images + epsilon).clamp(max=1)
    start = _draw(torch.rand, images, positions, seed_parts) * 2 - 1
    disturbed = (images + epsilon * start).clamp(low, high)
    for _ in range(steps):
        disturbed.requires_grad_(True)
        with torch.enable_grad():
            # the sum, not the mean: an image's gradient must not depend on the batch
            loss = F.cross_entropy(logits(disturbed).float(), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, disturbed)
        disturbed = (disturbed.detach() + step_size * gradient.sign()).clamp(low, high)
    return disturbed


def _draw(
    kind: Callable[..., Tensor],
    images: Tensor,
    positions: Sequence[int],
    seed_parts: tuple[str | int, ...],
) -> Tensor:
    """One draw per image on the CPU, where generators are the same everywhere, then moved."""
    shape: tuple[Any, ...] = tuple(images.shape[1:])
    draws = [kind(shape, generator=generator(*seed_parts, position)) for position in positions]
    return torch.stack(draws).to(images.device)
