"""From uint8 pixels to what a network expects."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from raydd.ops.device import constant


def normalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Normalise pixels on their device.

    Args:
        images: uint8 [B, 3, H, W], or float in [0, 255].
        mean: per channel, of pixels in [0, 1].
        std: per channel, of pixels in [0, 1].

    Returns:
        float32 [B, 3, H, W].
    """
    scale = constant(tuple(255 * s for s in std), images.device)
    shift = constant(tuple(m / s for m, s in zip(mean, std, strict=True)), images.device)
    return images.float() / scale.view(1, -1, 1, 1) - shift.view(1, -1, 1, 1)


def pad_batch(images: Tensor, size: int) -> Tensor:
    """Fill a batch [B, ...] of four dimensions with zeros to ``size`` images, B <= size.

    Kernels are chosen by a batch's size: what is computed of an image must not hang on it.
    """
    return F.pad(images, (0, 0, 0, 0, 0, 0, 0, size - len(images)))
