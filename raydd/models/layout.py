"""In which order the tensors of a network lie in memory: what is fastest for it on a device."""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

_PIECE = 1024  # classes of a wide layer whose answers a cache holds


def lay_out(network: nn.Module, device: torch.device) -> nn.Module:
    """Move a network to a device, its weights in the order that suits both; changes it in place.

    Channels last, which convolutions like best, but not for group norms (an instance norm is one)
    on CPUs: there a thin ResNet's step takes 1.4 times as long with them in float32
    (``benchmarks/peers.py``), and up to 4 times in bfloat16. On CPUs, layers of many classes
    answer piece by piece.
    """
    if device.type == "cpu":
        for module in network.modules():
            if type(module) is nn.Linear and module.out_features > 4 * _PIECE:
                module.__class__ = WideLinear
    has_groups = any(isinstance(module, nn.GroupNorm) for module in network.modules())
    is_plain = device.type == "cpu" and has_groups
    order = torch.contiguous_format if is_plain else torch.channels_last
    return network.to(device).to(memory_format=order)


def laid_out(images: Tensor, network: nn.Module) -> Tensor:
    """Images float [B, 3, R, R] in the order of the network that is to see them."""
    kernels = (weight for weight in network.parameters() if weight.ndim == 4)
    first = next(kernels, None)
    if first is not None and not first.is_contiguous(memory_format=torch.channels_last):
        return images.contiguous()
    return images.contiguous(memory_format=torch.channels_last)


class WideLinear(nn.Linear):
    """A linear layer of many outputs, for CPUs: the same weights, a thousand outputs at a time.

    In one product of 256 images and 21,841 classes every answer leaves the cache and comes back
    while it is summed up: 1.5 times slower (``benchmarks/peers.py --only head``).
    """

    def forward(self, input: Tensor) -> Tensor:
        """Answers [B, out_features] to features [B, in_features]."""
        return _answer_in_pieces(input, self.weight, self.bias)


@fx.wrap  # one call to whoever traces a network
def _answer_in_pieces(images: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    weights = weight.split(_PIECE)
    biases = [None] * len(weights) if bias is None else bias.split(_PIECE)
    return torch.cat([F.linear(images, *pair) for pair in zip(weights, biases, strict=True)], -1)
