"""A fast network for 32 pixels: few layers at full size, wide ones where images are small.

Source: the network of Jordan, arXiv 2404.00498 (94 % of CIFAR-10 in ten epochs). Differs: the stem
is learned like any layer instead of being set to whiten the data's patches, and ReLU stands for
GELU.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

_STEM, _SCALE = 24, 1 / 9  # channels; of the logits, as published


class AirNet(nn.Module):
    """Images float [B, 3, R, R] to logits [B, num_classes].

    Args:
        num_classes: number of outputs.
        width: channels of the first block; the other two have four times as many.
        norm_layer: builds a norm from its number of channels.
    """

    def __init__(
        self,
        num_classes: int,
        width: int = 64,
        norm_layer: Callable[[int], nn.Module] = nn.BatchNorm2d,
    ):
        super().__init__()
        widths = [_STEM, width, 4 * width, 4 * width]
        self.stem = nn.Sequential(nn.Conv2d(3, _STEM, 2), nn.ReLU(inplace=True))
        self.blocks = nn.Sequential(*(_block(*pair, norm_layer) for pair in pairwise(widths)))
        self.pool = nn.AdaptiveMaxPool2d(1)
        self.fc = nn.Linear(widths[-1], num_classes, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits float [B, num_classes]."""
        features = self.pool(self.blocks(self.stem(images)))
        return _SCALE * self.fc(torch.flatten(features, 1))


def _block(inputs: int, width: int, norm_layer: Callable[[int], nn.Module]) -> nn.Sequential:
    """Two convolutions; the first one's output is halved before its norm."""
    return nn.Sequential(
        nn.Conv2d(inputs, width, 3, padding=1, bias=False),
        nn.MaxPool2d(2),
        norm_layer(width),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, width, 3, padding=1, bias=False),
        norm_layer(width),
        nn.ReLU(inplace=True),
    )
