"""Which dtype matrix products run in, and which one weights are kept in."""

from __future__ import annotations

import copy

import torch
from torch import nn


def freeze(network: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """A frozen copy in eval mode on the device, weights of matrix products in the compute dtype."""
    network = copy.deepcopy(network).eval().requires_grad_(False)
    network = network.to(device).to(memory_format=torch.channels_last)
    for module in network.modules():
        # autocast would convert frozen weights again in every step
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.to(dtype)
    return network


PRECISIONS = ("auto", "bf16", "fp32")


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype:
    """bfloat16 where asked for, or where ``auto`` finds hardware for it; else float32.

    Args:
        precision: "bf16", "fp32" or "auto".
        device: where the products run.
    """
    if precision == "auto":
        if device.type == "cuda":
            fast = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            fast = torch.cpu._is_avx512_bf16_supported()
        return torch.bfloat16 if fast else torch.float32
    return torch.bfloat16 if precision == "bf16" else torch.float32


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """Context in which matrix products run in ``dtype``; nothing changes for float32."""
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


def round_weights(network: nn.Module) -> None:
    """Turn matrices and kernels into float16, in place.

    Vectors stay as they are: they are few, and a running variance may leave float16's range.

    Raises:
        OverflowError: a weight is beyond float16's range.
    """
    for name, weight in network.named_parameters():
        if weight.ndim > 1:
            weight.data = weight.data.half()
            if not weight.data.isfinite().all():
                raise OverflowError(f"{name} has weights beyond 65504")
