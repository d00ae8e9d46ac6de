"""ConvNet-D: D blocks of 3x3 convolution, norm, ReLU and average pooling, then one linear layer.

The standard small network of the distillation literature (arXiv 2006.05929).
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

NORMS: dict[str, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm2d,
    "instance": lambda channels: nn.GroupNorm(channels, channels),
    "group": lambda channels: nn.GroupNorm(min(8, channels), channels),
    "none": lambda channels: nn.Identity(),
}


class ConvNet(nn.Module):
    """Images float [B, 3, R, R] to logits [B, num_classes].

    Args:
        num_classes: number of outputs.
        resolution: side of the input, pixels; at least 2 ** depth.
        depth: number of blocks; each halves the side.
        width: channels of every block.
        norm: one of `NORMS`.
    """

    def __init__(self, num_classes: int, resolution: int, depth: int, width: int, norm: str):
        super().__init__()
        if depth < 1 or resolution < 2**depth:
            raise ValueError(
                f"convnet{depth} halves its input {depth} times, which a side of {resolution} "
                "pixels does not allow: choose a smaller depth of at least 1"
            )
        blocks: list[nn.Module] = []
        for index in range(depth):
            # a norm removes the mean, so a bias before it would do nothing
            bias = norm == "none"
            blocks += [
                nn.Conv2d(3 if index == 0 else width, width, 3, padding=1, bias=bias),
                NORMS[norm](width),
                nn.ReLU(inplace=True),
                nn.AvgPool2d(2),
            ]
        self.features = nn.Sequential(*blocks)
        self.classifier = nn.Linear(width * (resolution // 2**depth) ** 2, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits float [B, num_classes]."""
        return self.classifier(self.features(images).flatten(1))
