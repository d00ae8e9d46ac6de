"""ResNets for small images: 3x3 stem with stride 1, no max-pooling, else as in torchvision.

Parameter names equal torchvision's, so checkpoints of the usual CIFAR ResNet-18 load as they are.
The block is spelled out: importing torchvision brings torch's compiler along, which every worker
would pay for with 150 MB and more than a second at its start.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from raydd.models.networks.initial import initialise_convolutions


class SmallResNet(nn.Module):
    """Images float [B, 3, R, R] to logits [B, num_classes].

    Args:
        num_classes: number of outputs.
        blocks: basic blocks of each of the four stages; (2, 2, 2, 2) is ResNet-18.
        width: channels of the first stage, doubled by every later one; 64 is ResNet-18.
        norm_layer: builds a norm from its number of channels.
    """

    def __init__(
        self,
        num_classes: int,
        blocks: Sequence[int] = (2, 2, 2, 2),
        width: int = 64,
        norm_layer: Callable[[int], nn.Module] = nn.BatchNorm2d,
    ):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.bn1 = norm_layer(width)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = _stage(width, width, blocks[0], 1, norm_layer)
        self.layer2 = _stage(width, 2 * width, blocks[1], 2, norm_layer)
        self.layer3 = _stage(2 * width, 4 * width, blocks[2], 2, norm_layer)
        self.layer4 = _stage(4 * width, 8 * width, blocks[3], 2, norm_layer)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8 * width, num_classes)
        initialise_convolutions(self)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits float [B, num_classes]."""
        features = self.relu(self.bn1(self.conv1(images)))
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            features = stage(features)
        return self.fc(torch.flatten(self.avgpool(features), 1))


def _stage(
    inputs: int, width: int, count: int, stride: int, norm_layer: Callable[[int], nn.Module]
) -> nn.Sequential:
    shortcut = None
    if stride != 1 or inputs != width:
        shortcut = nn.Sequential(nn.Conv2d(inputs, width, 1, stride, bias=False), norm_layer(width))
    first = _BasicBlock(inputs, width, stride, shortcut, norm_layer)
    rest = [_BasicBlock(width, width, 1, None, norm_layer) for _ in range(count - 1)]
    return nn.Sequential(first, *rest)


class _BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut, with torchvision's names."""

    def __init__(
        self,
        inputs: int,
        width: int,
        stride: int,
        downsample: nn.Module | None,
        norm_layer: Callable[[int], nn.Module],
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
        self.bn1 = norm_layer(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = norm_layer(width)
        self.downsample = downsample

    def forward(self, features: Tensor) -> Tensor:
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(features)))))
        out += features if self.downsample is None else self.downsample(features)
        return self.relu(out)
