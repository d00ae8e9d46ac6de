"""Bytes and operations of a network, counted without memory where it lies on the meta device."""

from typing import Any

import torch
from torch import nn

_FLOAT = 4


def weight_bytes(network: nn.Module) -> int:
    """Bytes of all parameters in float32."""
    return _FLOAT * sum(parameter.numel() for parameter in network.parameters())


def output_bytes(network: nn.Module, *inputs: Any) -> int:
    """Bytes of every layer's output in float32, for these inputs."""
    total = 0

    def count(module: nn.Module, inputs: Any, output: Any) -> None:
        nonlocal total
        total += output.numel() if isinstance(output, torch.Tensor) else 0

    for module in network.modules():
        if not list(module.children()):
            module.register_forward_hook(count)
    network.eval()(*inputs)
    return total * _FLOAT


def forward_flops(network: nn.Module, *inputs: Any) -> int:
    """Floating point operations of matrix products and convolutions; a multiply-add is two."""
    from torch.utils.flop_counter import FlopCounterMode  # imports a compiler of GPU kernels

    with FlopCounterMode(display=False) as counter:
        network.eval()(*inputs)
    return int(counter.get_total_flops())
