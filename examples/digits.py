"""Real digits and a small network, for the examples beside this file."""

import numpy as np
import torch
from torch import Tensor, nn

from raydd.data.images import decode
from raydd.data.preprocessing import Preprocessing
from raydd.data.sources import open_source
from raydd.models.preprocess import normalise

Images = tuple[Tensor, Tensor]


def read_digits(split: str, seen: Preprocessing) -> Images:
    """Real images of a split as the networks of a set saw them: float [N, 3, R, R], labels."""
    source = open_source("digits", "", split)
    rows = [row for shard in source.shards() for row in source.read(shard)]
    pixels = np.stack([decode(row.image, seen) for row in rows]).transpose(0, 3, 1, 2)
    images = normalise(torch.from_numpy(pixels), seen.mean, seen.std)
    return images, torch.tensor([row.class_index for row in rows])


def small_network() -> nn.Module:
    """Two convolutions and a linear layer: 16 pixels in, ten classes out."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.AdaptiveAvgPool2d(4),
        nn.Flatten(), nn.Linear(512, 10),
    )  # fmt: skip


@torch.no_grad()
def accuracy(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of images that the network names right."""
    return (network.eval()(images).argmax(1) == labels).double().mean().item()
