"""Several classifiers as one."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Ensemble(nn.Module):
    """Mean of the members' logits (not of their probabilities).

    Args:
        members: classifiers of the same classes and the same input.

    Source: arXiv 2404.13733, labels of EDC; arXiv 2311.17950.
    """

    def __init__(self, members: Sequence[nn.Module]):
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, images: Tensor) -> Tensor:
        """Map images [B, 3, R, R] to logits [B, C]."""
        return torch.stack([member(images) for member in self.members]).mean(dim=0)
