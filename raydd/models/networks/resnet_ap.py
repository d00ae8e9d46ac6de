"""ResNetAP: residual networks whose strides are average pools, a judge of hard-label evaluations.

Strided convolutions give gradients to a quarter of the pixels only; with pooling all of them count.
Source: arXiv 2205.14959 (IDC); ResNetAP-10 has one block per stage.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from raydd.models.networks.initial import initialise_convolutions

_LEAST_RESOLUTION = 16  # the last stage sees 2 pixels a side: an instance norm of one pixel is 0


class ResNetAP(nn.Module):
    """Images float [B, 3, R, R] to logits [B, num_classes].

    The stem follows the resolution: 3x3 up to 64 pixels, 3x3 and a pool of 2 up to 128, 7x7 and a
    pool of 4 above.

    Args:
        num_classes: number of outputs.
        resolution: R, side of the input, pixels; at least 16.
        blocks: of each of the four stages; (1, 1, 1, 1) is ResNetAP-10.
        width: channels of the first stage, doubled by every later one; 64 is ResNetAP-10.
        norm_layer: builds a norm from its number of channels.
    """

    def __init__(
        self,
        num_classes: int,
        resolution: int,
        blocks: Sequence[int] = (1, 1, 1, 1),
        width: int = 64,
        norm_layer: Callable[[int], nn.Module] = nn.BatchNorm2d,
    ):
        super().__init__()
        if resolution < _LEAST_RESOLUTION:
            raise ValueError(
                f"resnet_ap10 needs images of at least {_LEAST_RESOLUTION} pixels, got {resolution}"
            )
        self.stem = _stem(resolution, width, norm_layer)
        layers: list[nn.Module] = []
        channels = width
        for stage, count in enumerate(blocks):
            for index in range(count):
                pool = 2 if stage and not index else 1
                layers.append(_Block(channels, width * 2**stage, pool, norm_layer))
                channels = width * 2**stage
        self.layers = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)
        initialise_convolutions(self)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits float [B, num_classes]."""
        return self.fc(self.avgpool(self.layers(self.stem(images))).flatten(1))


class _Block(nn.Module):
    """A basic block that pools after its first convolution."""

    def __init__(
        self, inputs: int, width: int, pool: int, norm_layer: Callable[[int], nn.Module]
    ) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, width, 3, padding=1, bias=False),
            norm_layer(width),
            nn.ReLU(inplace=True),
            nn.AvgPool2d(pool),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            norm_layer(width),
        )
        self.shortcut: nn.Module = nn.Identity()
        if inputs != width:  # pooling first costs a quarter: the two commute
            self.shortcut = nn.Sequential(
                nn.AvgPool2d(pool), nn.Conv2d(inputs, width, 1, bias=False), norm_layer(width)
            )
        self.relu = nn.ReLU(inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        return self.relu(self.body(features) + self.shortcut(features))


def _stem(resolution: int, width: int, norm_layer: Callable[[int], nn.Module]) -> nn.Sequential:
    kernel = 7 if resolution > 128 else 3
    pool = 4 if resolution > 128 else 2 if resolution > 64 else 1
    return nn.Sequential(
        nn.Conv2d(3, width, kernel, padding=kernel // 2, bias=False),
        norm_layer(width),
        nn.ReLU(inplace=True),
        nn.AvgPool2d(pool),
    )
