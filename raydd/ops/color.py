"""Colour augmentations of a batch on its device, one draw per image."""

from __future__ import annotations

import torch
from torch import Tensor

_LUMA = (0.299, 0.587, 0.114)  # grey of red, green and blue, ITU-R BT.601
# Principal components of ImageNet's RGB values in [0, 1], one column each, and their deviations.
_COMPONENTS = (
    (-0.5675, 0.7192, 0.4009),
    (-0.5808, -0.0045, -0.8140),
    (-0.5836, -0.6948, 0.4203),
)
_DEVIATIONS = (0.2175, 0.0188, 0.0045)


def color_jitter(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Change brightness, contrast and saturation of every image.

    Each of the three factors is uniform in [1 - strength, 1 + strength]: 0 would be black, the mean
    grey of the image, or its grey version; 1 changes nothing.

    Args:
        images: float [B, 3, H, W]; 0 is black, so before any normalisation.
        strength: in [0, 1].
        generator: CPU generator.

    Returns:
        [B, 3, H, W], not clamped to the range of pixels. Without clamping the order of the three
        does not matter, and torchvision's random order is not needed.
    """
    factors = 1 + strength * (2 * torch.rand(3, len(images), generator=generator) - 1)
    brightness, contrast, saturation = factors.to(images.device)[:, :, None, None, None]
    luma = torch.tensor(_LUMA, device=images.device, dtype=images.dtype).view(1, 3, 1, 1)
    grey = (images * luma).sum(dim=1, keepdim=True)
    mean = grey.mean(dim=(2, 3), keepdim=True)
    rest = contrast * (1 - saturation) * grey + (1 - contrast) * mean
    return brightness * (contrast * saturation * images + rest)


def pca_lighting(images: Tensor, std: float, generator: torch.Generator) -> Tensor:
    """Shift the colour of every image along the principal components of natural images.

    Args:
        images: float [B, 3, H, W] in [0, 255].
        std: of the normal draw for each component, as a share of that component's deviation.
        generator: CPU generator.

    Returns:
        [B, 3, H, W], not clamped.

    Source: Krizhevsky et al. 2012, section 4.1, with the values that recipes have used since.
    """
    draws = std * torch.randn(len(images), 3, generator=generator)
    shifts = 255 * draws * torch.tensor(_DEVIATIONS) @ torch.tensor(_COMPONENTS).T
    return images + shifts.to(images.device, images.dtype)[:, :, None, None]
