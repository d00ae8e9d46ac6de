"""What the recover loop asks of an objective, and how objectives prepare their networks."""

from __future__ import annotations

import copy
from typing import Protocol

import torch
from torch import Tensor, nn


class Objective(Protocol):
    """Loss terms of a batch of images; may keep state between the steps of one unit."""

    def begin(self, origin: Tensor, labels: Tensor) -> None:
        """Start a unit: nothing of an earlier one may be left.

        Args:
            origin: float32 [B, 3, R, R], start images in normalised space.
            labels: int64 [B].
        """

    def terms(self, images: Tensor, rows: Tensor, columns: Tensor, step: int) -> dict[str, Tensor]:
        """Every loss term whose weight is not 0, unweighted, and their weighted "total".

        Args:
            images: float32 [B, 3, R, R], normalised; requires grad.
            rows: row matrices of the step's view, see :func:`raydd.ops.augment.view_matrices`.
            columns: column matrices.
            step: number of the step in the unit.
        """

    def stepped(self, images: Tensor) -> None:
        """Take note of the images after the optimiser's step."""


def freeze(network: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """A frozen copy in eval mode on the device, weights of matrix products in the compute dtype."""
    network = copy.deepcopy(network).eval().requires_grad_(False)
    network = network.to(device).to(memory_format=torch.channels_last)
    for module in network.modules():
        # autocast would convert frozen weights again in every step
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.to(dtype)
    return network
