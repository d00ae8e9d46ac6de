"""A running average of a network's weights.

``torch.optim.swa_utils.AveragedModel`` does the same, but sends its count of steps to the device
twice in every step.
"""

from __future__ import annotations

import copy
from itertools import chain

import torch
from torch import Tensor, nn


def running_average(network: nn.Module, decay: float) -> RunningAverage | None:
    """Average of the weights and buffers with this decay per step; None for a decay of 0."""
    return RunningAverage(network, decay) if decay else None


class RunningAverage(nn.Module):
    """Average of the weights and buffers, which begins as their first values.

    Buffers too: old BatchNorm statistics do not fit averaged weights. Integers (counts of batches,
    which nobody asks) stay as they began.

    Args:
        network: copied, not changed.
        decay: per step, in (0, 1).

    Attributes:
        module: the network that has the averages.
        n_averaged: steps so far, int64 scalar on the CPU.
    """

    n_averaged: Tensor

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__()
        self.module = copy.deepcopy(network)
        self.decay = decay
        self.register_buffer("n_averaged", torch.tensor(0))

    @torch.no_grad()
    def update_parameters(self, network: nn.Module) -> None:
        """Take in the weights after a step."""
        averages, values = _tensors(self.module), _tensors(network)
        if self.n_averaged == 0:
            torch._foreach_copy_(averages, values)
        else:
            torch._foreach_lerp_(_floats(averages), _floats(values), 1 - self.decay)
        self.n_averaged += 1


def _floats(values: list[Tensor]) -> list[Tensor]:
    return [value for value in values if value.is_floating_point()]


def _tensors(network: nn.Module) -> list[Tensor]:
    return [value.detach() for value in chain(network.parameters(), network.buffers())]
