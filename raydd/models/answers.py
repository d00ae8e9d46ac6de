"""What a network says about images when nobody asks for gradients."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from raydd.models.layout import WideLinear, laid_out
from raydd.models.preprocess import pad_batch

_PIECE = 64  # images of a forward pass on a CPU, at most


def answer(network: nn.Module, images: Tensor) -> Any:
    """``network(images)``, on a CPU for a few images at a time.

    What a layer of a small network leaves behind then lies in a cache when the next one asks for
    it, and a worker takes a quarter of the memory (``benchmarks/peers.py --only answers``). A layer
    of very many classes is the exception: its weights are what does not fit.

    Args:
        network: in evaluation mode.
        images: float [B, 3, R, R]. Above 64 on a CPU all pieces have one size, the last filled up:
            kernels are chosen by it.
    Returns:
        A tensor, or a tuple of tensors, of B rows.
    """
    images, count = laid_out(images, network), len(images)
    if images.device.type != "cpu" or count <= _PIECE or _is_wide(network):
        return network(images)
    pieces = math.ceil(count / _PIECE)
    size = math.ceil(count / pieces)
    answers = [network(piece) for piece in pad_batch(images, pieces * size).split(size)]
    if isinstance(answers[0], Tensor):
        return torch.cat(answers)[:count]
    return tuple(torch.cat(parts)[:count] for parts in zip(*answers, strict=True))


def _is_wide(network: nn.Module) -> bool:
    return any(isinstance(module, WideLinear) for module in network.modules())
