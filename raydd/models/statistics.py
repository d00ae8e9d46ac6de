"""What a frozen network's BatchNorm layers see of a batch, and how far that is from a target."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from raydd.ops.device import constant


class Groups(NamedTuple):
    """Columns of statistics that are compared as one vector each: channels or tiles of a layer.

    Attributes:
        sizes: how many columns each group has, one group after another; sum W.
        first: how many groups belong to the first layer.
        owners: int64 [W] on the device, the number of each column's group.
    """

    sizes: tuple[int, ...]
    first: int
    owners: Tensor

    @classmethod
    def of(cls, sizes: Sequence[int], first: int, device: torch.device) -> Groups:
        """Groups of these sizes; to be made before a loop, for it copies to the device."""
        lengths = torch.tensor(list(sizes))
        owners = torch.arange(len(sizes)).repeat_interleave(lengths, output_size=sum(sizes))
        return cls(tuple(sizes), first, owners.to(device))


def statistic_gap(
    statistics: Tensor, target: Tensor, groups: Groups, first_multiplier: float = 10.0
) -> Tensor:
    """Distance of the statistics of all layers of a network from their targets.

    Args:
        statistics: float32 [2, W], means and variances of all groups, one after another.
        target: float32 [2, W], what they shall become.
        groups: of the columns.
        first_multiplier: weight of the first layer's groups (the stem); all others weigh 1.

    Returns:
        float32 scalar, sum over groups of ||mean gap||_2 + ||var gap||_2 (norms not squared); 0
        when all match.

    Sources: arXiv 2306.13092, recover objective, plain norms as in the authors' code; arXiv
    2404.13733, L_syn (Form 1).
    """
    norms: Tensor = _GroupNorms.apply(statistics - target, groups.sizes, groups.owners).sum(dim=0)
    return norms.sum() + (first_multiplier - 1.0) * norms[: groups.first].sum()


class _GroupNorms(torch.autograd.Function):
    """Euclidean norms of the groups of [..., W] columns, [..., groups]; the gradient at 0 is 0.

    A handful of kernels however many groups there are, where a norm of each takes several.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, sizes: tuple[int, ...], owners: Tensor) -> Tensor:
        rows = values.contiguous().view(-1, values.shape[-1])
        pieces = rows.flatten().split(list(sizes) * len(rows))
        norms = torch.stack(torch._foreach_norm(pieces)).view(*values.shape[:-1], len(sizes))
        ctx.save_for_backward(values, norms, owners)
        return norms

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None]:
        values, norms, owners = ctx.saved_tensors
        spread = norms.index_select(-1, owners)
        direction = (values / spread).masked_fill(spread == 0, 0)
        return slope.index_select(-1, owners) * direction, None, None


class InputStatistics(NamedTuple):
    """Statistics of the inputs of all BatchNorm layers of a network.

    Attributes:
        batch: float32 [2, W], means and biased variances of the batch, layer by layer.
        running: float32 [2, W], what the layers remember of their training.
        groups: a group for each layer.
    """

    batch: Tensor
    running: Tensor
    groups: Groups


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
        self._records: list[tuple[int, tuple[Tensor, Tensor]]] = []
        self._norms = [
            m for m in network.modules() if isinstance(m, _BatchNorm) and m.track_running_stats
        ]
        self.num_layers = len(self._norms)
        self._known = list(range(self.num_layers))  # number of the norm of each call
        self._constants = self._remember()
        self._handles = [
            norm.register_forward_pre_hook(self._recorder(index))
            for index, norm in enumerate(self._norms)
        ]

    def _recorder(self, index: int) -> Callable[[Any, tuple[Tensor, ...]], None]:
        def record(norm: _BatchNorm, inputs: tuple[Tensor, ...]) -> None:
            self._records.append((index, input_statistics(inputs[0], norm)))

        return record

    def forward(self, images: Tensor) -> tuple[Tensor, InputStatistics | None]:
        """Return logits and the statistics, a group per BatchNorm call, in module order.

        None where there is no BatchNorm layer.
        """
        self._records = []
        logits = self.network(images)
        records, self._records = sorted(self._records, key=lambda record: record[0]), []
        if not records:
            return logits, None
        calls = [index for index, _ in records]
        if calls != self._known:  # a norm that is called twice, or not at all
            self._known = calls
            self._constants = self._remember()
        batch = torch.cat([pair[k] for k in (0, 1) for _, pair in records]).view(2, -1)
        return logits, InputStatistics(batch, *self._constants)

    def _remember(self) -> tuple[Tensor, Groups]:
        """Running statistics and groups of the known calls, made once and not in every step."""
        norms = [self._norms[index] for index in self._known]
        if not norms:
            return torch.empty(2, 0), Groups((), 0, torch.empty(0, dtype=torch.int64))
        means, variances = [n.running_mean for n in norms], [n.running_var for n in norms]
        running = torch.cat([*means, *variances]).view(2, -1)  # type: ignore[list-item]
        return running, Groups.of([norm.num_features for norm in norms], 1, running.device)

    def close(self) -> None:
        """Take the hooks off the wrapped network."""
        for handle in self._handles:
            handle.remove()


def input_statistics(features: Tensor, norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    """Mean and biased variance per channel of one BatchNorm input, float32 [channels] each.

    Args:
        features: [B, C], [B, C, L], [B, C, H, W], or [B, tokens, C] as in vision transformers.
        norm: the BatchNorm layer that receives them.
    """
    if features.dim() == 3 and features.shape[1] != norm.num_features:
        features = features.flatten(0, 1)  # tokens are samples
    return batch_statistics(features)


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
        unused = torch.empty(2, features.shape[1], dtype=dtype, device=features.device)
        mean, var = torch.batch_norm_update_stats(features, unused[0], unused[1], 0.0)
        ctx.save_for_backward(features, mean, constant((1.0,) * len(mean), mean.device, dtype))
        return mean, var

    @staticmethod
    def backward(ctx: Any, mean_grad: Tensor, var_grad: Tensor) -> Tensor:
        features, mean, ones = ctx.saved_tensors
        count = features.numel() // features.shape[1]
        # d mean / dx = 1 / n and d var / dx = 2 (x - mean) / n: a BatchNorm with these constants
        return torch.nn.functional.batch_norm(
            features,
            running_mean=mean,
            running_var=ones,
            weight=var_grad * (2.0 / count),
            bias=mean_grad * (1.0 / count),
            eps=0.0,
        )
