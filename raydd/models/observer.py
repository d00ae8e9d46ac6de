"""Taps that read what EDC matches: channel and tile statistics at BatchNorm and Conv inputs.

Source: arXiv 2311.17950 (G-VBSM, generalised statistics) and arXiv 2404.13733 (EDC).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from raydd.models.statistics import Groups, batch_statistics
from raydd.ops.augment import resize_matrix


@dataclass(frozen=True)
class TappedLayer:
    """A layer whose input is read.

    Attributes:
        name: dotted path in the network.
        kind: "norm" or "conv".
        channels: of the input.
        tiles: how many tiles the input is cut into; 0 for a norm.
    """

    name: str
    kind: str
    channels: int
    tiles: int

    @property
    def sizes(self) -> tuple[int, ...]:
        """Lengths of this layer's groups of statistics: its channels, then its tiles."""
        return (self.channels, self.tiles) if self.tiles else (self.channels,)


class Statistics(NamedTuple):
    """Means and biased variances of all groups of all layers: [W] of a batch, [B, W] of images."""

    mean: Tensor
    var: Tensor


class ObserverTap(nn.Module):
    """A network that returns the statistics of its layers' inputs beside its logits.

    Args:
        network: in eval mode; every BatchNorm and Conv2d is tapped by hooks that `close` takes
            off again. The network is changed in no other way.
        resolution: R, side of the images, pixels; it fixes the number of tiles of every layer.
        patch: side of a tile, pixels of the layer's input; 16 at 224 pixels, 4 at 32 and 64.
        per_image: return statistics of each image instead of the batch's.

    Attributes:
        layers: in the order in which the network calls them; one called twice is there twice.
        sizes: lengths of all groups, in the order of the statistics; their sum is W.
        groups: the same on the network's device.

    Raises:
        ValueError: the network has neither a BatchNorm nor a Conv2d.
    """

    def __init__(self, network: nn.Module, resolution: int, patch: int, per_image: bool = False):
        super().__init__()
        self.network = network
        self.patch = patch
        self._read: Callable[[Tensor], list[Tensor]] = _of_images if per_image else _of_batch
        self._read_tiles: Callable[[Tensor, int], list[Tensor]] = (
            _tiles_of_images if per_image else _tiles_of_batch
        )
        self._records: list[list[Tensor]] = []
        self._reads = True
        self._found: list[TappedLayer] | None = []  # until the first pass has shown the layers
        self._handles = [
            module.register_forward_pre_hook(self._recorder(name))
            for name, module in network.named_modules()
            if isinstance(module, _BatchNorm | nn.Conv2d)
        ]
        if not self._handles:
            raise ValueError("an observer needs BatchNorm or convolution layers, this has neither")
        device = next(network.parameters()).device
        with torch.no_grad():
            self(torch.zeros(1, 3, resolution, resolution, device=device))
        self.layers, self._found = tuple(self._found or ()), None
        self.sizes = [size for layer in self.layers for size in layer.sizes]
        self.groups = Groups.of(self.sizes, len(self.layers[0].sizes), device)

    def forward(self, images: Tensor, read: bool = True) -> tuple[Tensor, Statistics | None]:
        """Return logits [B, C] and the statistics of all layers; None where nobody reads them."""
        self._records, self._reads = [], read
        logits = self.network(images)
        records, self._records = self._records, []
        if not read:
            return logits, None
        means = [value for record in records for value in record[0::2]]
        variances = [value for record in records for value in record[1::2]]
        return logits, Statistics(torch.cat(means, dim=-1), torch.cat(variances, dim=-1))

    def close(self) -> None:
        """Take the hooks off the network."""
        for handle in self._handles:
            handle.remove()

    def _recorder(self, name: str) -> Callable[[Any, tuple[Tensor, ...]], None]:
        def record(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if not self._reads:
                return
            features = inputs[0]
            values = self._read(features)
            if isinstance(module, nn.Conv2d):
                values = [*values, *self._read_tiles(features, self.patch)]
            self._records.append(values)
            if self._found is not None:
                tiles = values[2].shape[-1] if len(values) > 2 else 0
                kind = "conv" if tiles else "norm"
                self._found.append(TappedLayer(name, kind, features.shape[1], tiles))

        return record


def running_statistics(network: nn.Module, layers: tuple[TappedLayer, ...]) -> Statistics:
    """What the BatchNorm layers remember of their training, float32 [W]; nan for other groups."""
    means, variances = [], []
    for layer in layers:
        norm = network.get_submodule(layer.name)
        known = isinstance(norm, _BatchNorm) and norm.running_mean is not None
        for size in layer.sizes:
            means.append(norm.running_mean if known else torch.full((size,), torch.nan))
            variances.append(norm.running_var if known else torch.full((size,), torch.nan))
    return Statistics(torch.cat(means), torch.cat(variances))  # type: ignore[arg-type]


def _of_batch(features: Tensor) -> list[Tensor]:
    return list(batch_statistics(features))


def _of_images(features: Tensor) -> list[Tensor]:
    """Mean and variance over the pixels of every channel, float32 [B, C] each."""
    var, mean = torch.var_mean(features.float(), dim=(2, 3), correction=0)
    return [mean, var]


def _tiles_of_batch(features: Tensor, patch: int) -> list[Tensor]:
    """Mean and variance of every tile position over batch, channels and pixels, float32 [T]."""
    return list(_TileStatistics.apply(_whole_tiles(features, patch), patch))


def _tiles_of_images(features: Tensor, patch: int) -> list[Tensor]:
    """The same for every image, float32 [B, T] each."""
    features = _whole_tiles(features, patch).float()
    batch, channels, height, width = features.shape
    tiles = features.reshape(batch, channels, height // patch, patch, width // patch, patch)
    var, mean = torch.var_mean(tiles, dim=(1, 3, 5), correction=0)
    return [mean.flatten(1), var.flatten(1)]


def _whole_tiles(features: Tensor, patch: int) -> Tensor:
    """Resize so that each side is a multiple of the tile's."""
    height, width = (-(-side // patch) * patch for side in features.shape[2:])
    if features.shape[2:] == (height, width):
        return features
    resized: Tensor = _Enlarged.apply(features, height, width)
    return resized


class _Enlarged(torch.autograd.Function):
    """Bilinear enlarging whose gradient is the same in every run, on any device.

    On CUDA torch's gradient of it adds in any order: images that are optimised through it would be
    others in every run. Two matrix products are not. A CPU keeps torch's, four times as fast there.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, height: int, width: int) -> Tensor:
        ctx.shape = tuple(features.shape)
        if features.device.type != "cpu":
            pairs = zip(features.shape[2:], (height, width), strict=True)
            like = features.device, features.dtype
            ctx.save_for_backward(*(_enlarging(*pair, *like) for pair in pairs))
        return F.interpolate(features, (height, width), mode="bilinear", align_corners=False)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None]:
        if slope.device.type == "cpu":
            native = torch.ops.aten.upsample_bilinear2d_backward
            return native(slope, slope.shape[2:], ctx.shape, False), None, None
        return _shrink(slope, *ctx.saved_tensors), None, None


def _shrink(slope: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The gradient [B, C, h, w] of what was enlarged by matrices [H, h] and [W, w] to [H, W]."""
    batch, channels, height, width = slope.shape
    # in channels last, as convolutions have it, both are products of large matrices
    pixels = slope.permute(0, 2, 3, 1).reshape(batch, height, width * channels)
    pixels = (rows.T @ pixels).view(batch, -1, width, channels)
    return (columns.T @ pixels).permute(0, 3, 1, 2)


@lru_cache(maxsize=64)
def _enlarging(source: int, size: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """The matrix [size, source] of one axis, made once."""
    whole = torch.full((), float(source), device=device)
    return resize_matrix(torch.zeros_like(whole), whole, source, size).to(dtype)


class _TileStatistics(torch.autograd.Function):
    """Mean and biased variance of tiles over batch and channels, one pass over the features back.

    Autograd's way through var_mean makes several temporaries of the size of the features.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, patch: int) -> tuple[Tensor, Tensor]:
        count = features.shape[0] * features.shape[1]
        pixels = features.float()
        mean = _pool(pixels.sum(dim=(0, 1)) / count, patch)
        centred = pixels - _unpool(mean, patch)
        var = _pool(torch.linalg.vector_norm(centred, dim=(0, 1)).square() / count, patch)
        ctx.save_for_backward(features, mean)
        ctx.patch = patch
        return mean.flatten(), var.flatten()

    @staticmethod
    def backward(ctx: Any, mean_grad: Tensor, var_grad: Tensor) -> tuple[Tensor, None]:
        features, mean = ctx.saved_tensors
        count = features.shape[0] * features.shape[1] * ctx.patch**2
        # d mean / dx = 1 / n and d var / dx = 2 (x - mean) / n
        slope = 2.0 * var_grad.view_as(mean) / count
        offset = mean_grad.view_as(mean) / count - slope * mean
        slope, offset = (_unpool(value, ctx.patch).to(features.dtype) for value in (slope, offset))
        return torch.addcmul(offset, features, slope), None


def _pool(values: Tensor, patch: int) -> Tensor:
    """Means of the tiles of [H, W]."""
    return F.avg_pool2d(values[None], patch)[0]


def _unpool(values: Tensor, patch: int) -> Tensor:
    """Every tile's value at each of its pixels, [H, W]."""
    return values.repeat_interleave(patch, 0).repeat_interleave(patch, 1)
