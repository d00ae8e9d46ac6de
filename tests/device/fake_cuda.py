"""Tensors that say they are on a GPU and hold nothing: dtypes under CUDA's own autocast.

Forward passes only: without a GPU torch's backward asks for a context that is not there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from raydd.models.observer import _enlarging
from raydd.ops.device import constant


@contextmanager
def fake_cuda() -> Iterator[None]:
    """A GPU that computes bfloat16 exists here."""
    caches = (constant, _enlarging)
    library = torch.library.Library("aten", "IMPL")
    library.impl("batch_norm_update_stats", _update_stats, "Meta")
    for cache in caches:
        cache.cache_clear()
    try:
        with (
            patch.object(nn.Module, "_apply", _apply),
            patch.object(Tensor, "__deepcopy__", _deepcopy),
            patch.object(nn.Parameter, "__deepcopy__", _deepcopy),
            patch("torch.amp.autocast_mode.torch.cuda.amp.common.amp_definitely_not_available",
                  lambda: False),
            patch("torch.cuda.is_bf16_supported", lambda including_emulation=True: True),
            patch("torch.cuda.get_device_capability", lambda device=None: (8, 0)),
            FakeTensorMode(allow_non_fake_inputs=True),
        ):  # fmt: skip
            yield
    finally:
        library._destroy()
        for cache in caches:  # tensors of this mode are of no use to others
            cache.cache_clear()


def _apply(self: nn.Module, fn: Any, recurse: bool = True) -> nn.Module:
    """Module.to with new parameters: a fake tensor's data cannot be exchanged."""
    for child in self.children() if recurse else ():
        child._apply(fn)
    for name, weight in self._parameters.items():
        if weight is not None:
            with torch.no_grad():
                moved = fn(weight).detach()
            self._parameters[name] = nn.Parameter(moved, requires_grad=weight.requires_grad)
    for name, value in self._buffers.items():
        if value is not None:
            self._buffers[name] = fn(value)
    return self


def _deepcopy(self: Tensor, memo: dict[int, Any]) -> Tensor:
    with torch.no_grad():
        made = self.detach().clone()
    if isinstance(self, nn.Parameter):
        made = nn.Parameter(made, requires_grad=self.requires_grad)
    memo[id(self)] = made
    return made


def _update_stats(
    features: Tensor, mean: Tensor | None, var: Tensor | None, momentum: float
) -> tuple[Tensor, Tensor]:
    dtype = torch.promote_types(features.dtype, torch.float32)
    return tuple(features.new_empty(features.shape[1], dtype=dtype) for _ in range(2))
