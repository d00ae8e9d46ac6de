"""Wide residual networks for small images: norm and activation come before each convolution.

Source: Zagoruyko and Komodakis, arXiv 1605.07146, without dropout. WRN-16-2 is among EDC's and
G-VBSM's observers of CIFAR.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raydd.models.networks.initial import initialise_convolutions

_STEM, _GROUPS, _BLOCKS = 16, 3, 2  # two blocks in each of three groups are 16 layers


class WideResNet16(nn.Module):
    """Images float [B, 3, R, R] to logits [B, num_classes].

    Args:
        num_classes: number of outputs.
        width: channels of the first group, doubled by every later one; 32 is WRN-16-2.
        norm_layer: builds a norm from its number of channels.
    """

    def __init__(
        self,
        num_classes: int,
        width: int = 32,
        norm_layer: Callable[[int], nn.Module] = nn.BatchNorm2d,
    ):
        super().__init__()
        self.conv1 = nn.Conv2d(3, _STEM, 3, padding=1, bias=False)
        blocks, inputs = [], _STEM
        for group in range(_GROUPS):
            for block in range(_BLOCKS):
                stride = 2 if group and not block else 1
                blocks.append(_Block(inputs, width << group, stride, norm_layer))
                inputs = width << group
        self.blocks = nn.Sequential(*blocks)
        self.norm = norm_layer(inputs)
        self.fc = nn.Linear(inputs, num_classes)
        initialise_convolutions(self)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits float [B, num_classes]."""
        features = F.relu(self.norm(self.blocks(self.conv1(images))))
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(features, 1), 1))


class _Block(nn.Module):
    def __init__(
        self, inputs: int, width: int, stride: int, norm_layer: Callable[[int], nn.Module]
    ) -> None:
        super().__init__()
        self.norm1 = norm_layer(inputs)
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
        self.norm2 = norm_layer(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.shortcut = None
        if stride != 1 or inputs != width:
            self.shortcut = nn.Conv2d(inputs, width, 1, stride, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        active = F.relu(self.norm1(features))
        beside = features if self.shortcut is None else self.shortcut(active)
        return beside + self.conv2(F.relu(self.norm2(self.conv1(active))))
