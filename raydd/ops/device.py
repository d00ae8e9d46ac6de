"""What a loop brings to its device: constants once, the draws of a step in one copy.

A tensor that is made of Python numbers on a GPU is made on the host and copied, and the host waits
until the GPU has done all that was asked before: in a loop of small kernels that costs more than
the kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=256)
def constant(
    values: tuple[float, ...], device: torch.device, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Numbers [n] on a device, made at the first call; not to be changed.

    Args:
        values: n numbers.
        device: where they are needed.
        dtype: of the tensor.
    """
    with torch.inference_mode(False):  # the same tensor serves trainings and passes
        return torch.tensor(values, dtype=dtype, device=device)


def send(values: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """Bring several small CPU tensors of any dtypes to a device in one copy, in the same order.

    The copy is pinned and does not make the host wait.

    Args:
        values: contiguous or not, any shapes.
        device: a CPU gets them as they are.
    """
    if device.type == "cpu" or not values:
        return list(values)
    # wide numbers first: each must start at a multiple of its width
    order = sorted(range(len(values)), key=lambda i: -values[i].element_size())
    parts = [values[i].contiguous().view(-1).view(torch.uint8) for i in order]
    packed = move(torch.cat(parts), device)
    result: list[Tensor] = list(values)
    for i, part in zip(order, packed.split([len(part) for part in parts]), strict=True):
        result[i] = part.view(values[i].dtype).view(values[i].shape)
    return result


def move(values: Tensor, device: torch.device) -> Tensor:
    """A CPU tensor on a device; the host does not wait for the copy."""
    if device.type == "cuda":
        values = values.pin_memory()  # of memory that torch keeps until the copy is done
    return values.to(device, non_blocking=True)
