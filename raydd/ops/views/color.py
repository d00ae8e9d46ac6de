"""Colour augmentations of a batch on its device, one draw per image."""

from __future__ import annotations

import torch
from torch import Tensor

from raydd.ops.device import constant

_LUMA = (0.299, 0.587, 0.114)  # grey of red, green and blue, ITU-R BT.601
# Principal components of ImageNet's RGB values in [0, 1], one column each, and their deviations.
_COMPONENTS = (
    (-0.5675, 0.7192, 0.4009),
    (-0.5808, -0.0045, -0.8140),
    (-0.5836, -0.6948, 0.4203),
)
_DEVIATIONS = (0.2175, 0.0188, 0.0045)


def jitter_factors(count: int, strength: float, generator: torch.Generator) -> Tensor:
    """Draw changes of brightness, contrast and saturation, float32 [3, count].

    Each factor is uniform in [1 - strength, 1 + strength]: 0 would be black, the mean grey of the
    image, or its grey version; 1 changes nothing.

    Args:
        count: images.
        strength: in [0, 1].
        generator: CPU generator.
    """
    return 1 + strength * (2 * torch.rand(3, count, generator=generator) - 1)


def jitter(images: Tensor, factors: Tensor) -> Tensor:
    """Change brightness, contrast and saturation of every image.

    Args:
        images: float [B, 3, H, W]; 0 is black, so before any normalisation.
        factors: float32 [3, B] of :func:`jitter_factors`, on the same device.

    Returns:
        [B, 3, H, W], not clamped to the range of pixels. Without clamping the order of the three
        does not matter, and torchvision's random order is not needed.
    """
    brightness, contrast, saturation = factors[:, :, None, None, None]
    luma = constant(_LUMA, images.device, images.dtype).view(1, 3, 1, 1)
    grey = (images * luma).sum(dim=1, keepdim=True)
    mean = grey.mean(dim=(2, 3), keepdim=True)
    rest = contrast * (1 - saturation) * grey + (1 - contrast) * mean
    return brightness * (contrast * saturation * images + rest)


def lighting_shifts(count: int, std: float, generator: torch.Generator) -> Tensor:
    """Draw shifts of the colours of images along the principal components of natural ones.

    Args:
        count: images.
        std: of the normal draw for each component, as a share of that component's deviation.
        generator: CPU generator.

    Returns:
        float32 [count, 3], in pixels of [0, 255].

    Source: Krizhevsky et al. 2012, section 4.1, with the values that recipes have used since.
    """
    draws = std * torch.randn(count, 3, generator=generator)
    return 255 * draws * torch.tensor(_DEVIATIONS) @ torch.tensor(_COMPONENTS).T


def shift_colors(images: Tensor, shifts: Tensor) -> Tensor:
    """Add shifts [B, 3] of :func:`lighting_shifts` to float images [B, 3, H, W]; not clamped."""
    return images + shifts.to(images.dtype)[:, :, None, None]
