"""Taps that read the batch statistics at every BatchNorm input of a frozen network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from raydd.ops.losses import LayerStatistics


class StatisticsTap(nn.Module):
    """A network that returns its BatchNorm input statistics beside its logits.

    The statistics are read by hooks that live in this object; the wrapped network is changed in no
    other way, and `close()` takes the hooks off again. Not for DataParallel, whose replicas would
    each see a part of the batch: use one process per device.

    Args:
        network: a network in eval mode; each `_BatchNorm` with running statistics is tapped.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network
        self._records: list[tuple[int, LayerStatistics]] = []
        norms = [
            m for m in network.modules() if isinstance(m, _BatchNorm) and m.track_running_stats
        ]
        self.num_layers = len(norms)
        self._handles = [
            norm.register_forward_pre_hook(self._recorder(index))
            for index, norm in enumerate(norms)
        ]

    def _recorder(self, index: int) -> Callable[[Any, tuple[Tensor, ...]], None]:
        def record(norm: _BatchNorm, inputs: tuple[Tensor, ...]) -> None:
            self._records.append((index, input_statistics(inputs[0], norm)))

        return record

    def forward(self, images: Tensor) -> tuple[Tensor, list[LayerStatistics]]:
        """Return logits and one entry per BatchNorm call, in module order."""
        self._records = []
        logits = self.network(images)
        records, self._records = sorted(self._records, key=lambda record: record[0]), []
        return logits, [statistics for _, statistics in records]

    def close(self) -> None:
        """Take the hooks off the wrapped network."""
        for handle in self._handles:
            handle.remove()


def input_statistics(features: Tensor, norm: _BatchNorm) -> LayerStatistics:
    """Mean and biased variance per channel of one BatchNorm input, float32.

    Args:
        features: [B, C], [B, C, L], [B, C, H, W], or [B, tokens, C] as in vision transformers.
        norm: the BatchNorm layer that receives them; its running statistics are passed along.
    """
    if features.dim() == 3 and features.shape[1] != norm.num_features:
        features = features.flatten(0, 1)  # tokens are samples
    mean, var = batch_statistics(features)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return LayerStatistics(mean, var, norm.running_mean, norm.running_var)


def batch_statistics(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance over all dimensions but 1, float32 [C] each; differentiable."""
    return _BatchStatistics.apply(features)


class _BatchStatistics(torch.autograd.Function):
    """Mean and biased variance over all dimensions but 1, in one pass over the features each way.

    Uses the kernels of BatchNorm itself: on a CPU torch.var_mean is thirty times slower over
    channels, and its gradient goes through several temporaries of the size of the features.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor) -> tuple[Tensor, Tensor]:
        dtype = torch.promote_types(features.dtype, torch.float32)
        # the kernel takes the dtype of its results from these buffers, which are thrown away
        unused = torch.zeros(2, features.shape[1], dtype=dtype, device=features.device)
        mean, var = torch.batch_norm_update_stats(features, unused[0], unused[1], 0.0)
        ctx.save_for_backward(features, mean)
        return mean, var

    @staticmethod
    def backward(ctx: Any, mean_grad: Tensor, var_grad: Tensor) -> Tensor:
        features, mean = ctx.saved_tensors
        count = features.numel() // features.shape[1]
        # d mean / dx = 1 / n and d var / dx = 2 (x - mean) / n: a BatchNorm with these constants
        return torch.nn.functional.batch_norm(
            features,
            running_mean=mean,
            running_var=torch.ones_like(mean),
            weight=var_grad * (2.0 / count),
            bias=mean_grad * (1.0 / count),
            eps=0.0,
        )
