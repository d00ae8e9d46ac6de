"""Which dtype matrix products run in, and which one weights are kept in."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from raydd.models.layout import lay_out

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
PRECISIONS = ("auto", *_DTYPES)
_TENSOR_CORES = (7, 0)  # compute capability of a V100; older GPUs have no fast float16
_START_SCALE = 2.0**16  # of a loss: its gradient by a pixel of a batch is about 1e-9
_ENERGY_SCALE = 2.0**8  # of a sum over images, whose gradients are larger


def freeze(network: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """A frozen copy in eval mode on the device, weights of matrix products in the compute dtype.

    Raises:
        ValueError: a weight is beyond float16's range.
    """
    network = lay_out(copy.deepcopy(network).eval().requires_grad_(False), device)
    for name, module in network.named_modules():
        # autocast would convert frozen weights again in every step
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.to(dtype)
            if dtype == torch.float16:
                try:
                    _check_range(f"{name}.weight", module.weight)
                except OverflowError as error:
                    raise ValueError(f"{error}, where float16 ends: use precision=fp32") from error
    return network


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The dtype that is asked for, or the fastest that the device has hardware for.

    Args:
        precision: one of :data:`PRECISIONS`.
        device: where the products run.

    Raises:
        ValueError: no such precision.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    if precision != "auto":
        return _DTYPES[precision]
    if device.type != "cuda":
        # AVX512-BF16 without tiles is slower than float32 (benchmarks/precision.py)
        return fastest_dtype(torch.cpu._is_amx_tile_supported(), has_fp16=False)
    has_fp16 = torch.cuda.get_device_capability(device) >= _TENSOR_CORES
    return fastest_dtype(torch.cuda.is_bf16_supported(including_emulation=False), has_fp16)


def fastest_dtype(has_bf16: bool, has_fp16: bool) -> torch.dtype:
    """bfloat16 before float16, whose range needs scaled losses, before float32.

    Args:
        has_bf16: whether the device is fast at bfloat16: CPUs with AMX tiles, GPUs from Ampere.
        has_fp16: whether there is hardware for float16: T4, V100.
    """
    if has_bf16:
        return torch.bfloat16
    return torch.float16 if has_fp16 else torch.float32


class LossScale:
    """Gradients by pixels that pass float16 layers: the loss is scaled, the gradient scaled back.

    A gradient that leaves float16's range becomes 0, and the scale of the next ones half of it.
    Everything stays on the device. Other dtypes are left alone.

    Args:
        dtype: of the layers.
        device: of the loss.
    """

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        is_half = dtype == torch.float16
        self.scale = torch.tensor(_START_SCALE, device=device) if is_half else None

    def gradient(self, loss: Tensor, values: Tensor) -> Tensor:
        """Gradient of a scalar loss by float32 values."""
        if self.scale is None:
            return torch.autograd.grad(loss, values)[0]
        scaled = torch.autograd.grad(loss * self.scale, values)[0] / self.scale
        is_finite = scaled.isfinite().all()
        # by kernels that take numbers: torch.where would copy them to the device, and wait
        self.scale.mul_(0.5 + 0.5 * is_finite)
        return scaled.masked_fill(~is_finite, 0.0)


def energy_scale(dtype: torch.dtype) -> float:
    """By what a sum over images is multiplied before its gradient passes layers of ``dtype``."""
    return _ENERGY_SCALE if dtype == torch.float16 else 1.0


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
            _check_range(name, weight.data)


def _check_range(name: str, weight: Tensor) -> None:
    if not weight.isfinite().all():
        raise OverflowError(f"{name} has weights beyond 65504")
