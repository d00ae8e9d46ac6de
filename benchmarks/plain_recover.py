"""Plain fp32 transcriptions of the recover loops, as the methods' specifications are written.

The slower side of ``recover.py``: statistics one by one in hooks, views of torchvision, no
fused kernels, no lower precision.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms import v2

MEAN, STD = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)
ROLL = 4
PATCH = 4


class StatisticsHook:
    """Forward hook that keeps the gap between batch and running statistics of one layer."""

    def __init__(self, norm: nn.BatchNorm2d):
        self.gap = torch.zeros(())
        norm.register_forward_hook(self)

    def __call__(self, norm: nn.BatchNorm2d, inputs: tuple[Tensor], output: Tensor) -> None:
        """Compute the two norms of the specification."""
        features = inputs[0]
        mean = features.mean((0, 2, 3))
        rows = features.permute(1, 0, 2, 3).contiguous().view(features.shape[1], -1)
        var = rows.var(1, unbiased=False)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        self.gap = torch.norm(var - norm.running_var, 2) + torch.norm(mean - norm.running_mean, 2)


def plain_recover(
    start: Tensor,
    labels: Tensor,
    teacher: nn.Module,
    student: nn.Module | None,
    hooks: list[StatisticsHook],
    steps: int,
) -> Tensor:
    """Recover one batch as the specification of CUDD is written, section 5, in float32."""
    resolution = start.shape[-1]
    mean, std = (torch.tensor(v, device=start.device).view(1, 3, 1, 1) for v in (MEAN, STD))
    real = (start.float() / 255 - mean) / std
    images = real.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([images], lr=0.25, betas=(0.5, 0.9), eps=1e-8)
    augment = v2.Compose([v2.RandomResizedCrop(resolution), v2.RandomHorizontalFlip()])
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 0.25 * 0.5 * (1 + math.cos(math.pi * step / steps))
        view, view_real = augment(torch.cat([images, real])).chunk(2)
        shift = [int(torch.randint(0, ROLL + 1, (1,))) for _ in range(2)]
        view, view_real = torch.roll(view, shift, (2, 3)), torch.roll(view_real, shift, (2, 3))
        optimizer.zero_grad()
        logits = teacher(view)
        loss = F.cross_entropy(logits, labels)
        weights = [10.0] + [1.0] * (len(hooks) - 1)
        loss = loss + 0.01 * sum(w * h.gap for w, h in zip(weights, hooks, strict=True))
        loss = loss + F.mse_loss(view, view_real)
        if student is not None:
            mask = torch.zeros(len(labels), 1, device=start.device)
            for row in range(len(labels)):
                if logits[row].argmax().item() == labels[row].item():
                    mask[row] = 1
            confidence = F.softmax(student(view) * mask, dim=1)[range(len(labels)), labels]
            loss = loss - torch.log(1 - confidence + 1e-12).mean()
        loss.backward()
        optimizer.step()
        images.data = torch.clamp(images.data, -mean / std, (1 - mean) / std)
    return ((images.detach() * std + mean).clamp(0, 1) * 255).to(torch.uint8)


class GeneralisedHook:
    """Hook of G-VBSM and EDC: channel statistics, of a convolution's input tile statistics too."""

    def __init__(self, layer: nn.Module):
        self.statistics: list[Tensor] = []
        self.average: list[Tensor] = []
        layer.register_forward_hook(self)

    def __call__(self, layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        """Compute the statistics of the input."""
        x = inputs[0]
        rows = x.permute(1, 0, 2, 3).contiguous().view(x.shape[1], -1)
        self.statistics = [x.mean((0, 2, 3)), rows.var(1, unbiased=False)]
        if isinstance(layer, nn.Conv2d):
            side = -(-x.shape[2] // PATCH) * PATCH
            if side != x.shape[2]:
                x = F.interpolate(x, (side, side), mode="bilinear", align_corners=False)
            tiles = F.unfold(x, PATCH, stride=PATCH)
            flat = tiles.permute(2, 0, 1).flatten(1)
            self.statistics += [flat.mean(1), flat.var(1, unbiased=False)]

    def loss(self, targets: list[Tensor], momentum: float) -> Tensor:
        """Distance of the smoothed statistics from global and class targets, alpha 0.5."""
        if not self.average:
            self.average = [value.detach() for value in self.statistics]
        total = torch.zeros((), device=self.statistics[0].device)
        for i, value in enumerate(self.statistics):
            self.average[i] = momentum * self.average[i] + (1 - momentum) * value.detach()
            smooth = self.average[i] + value - value.detach()
            for target in (targets[2 * i], targets[2 * i + 1]):
                total = total + 0.5 * torch.norm(target - smooth, 2)
        return total


def plain_match(
    start: Tensor,
    labels: Tensor,
    observers: list[nn.Module],
    hooks: list[list[GeneralisedHook]],
    targets: list[list[list[Tensor]]],
    steps: int,
) -> Tensor:
    """Match one batch as the specification of EDC is written, section 3, in float32."""
    resolution = start.shape[-1]
    mean, std = (torch.tensor(v, device=start.device).view(1, 3, 1, 1) for v in (MEAN, STD))
    images = ((start.float() / 255 - mean) / std).requires_grad_(True)
    average = images.detach().clone()
    optimizer = torch.optim.Adam([images], lr=0.05, betas=(0.5, 0.9), eps=1e-8)
    augment = v2.Compose([v2.RandomResizedCrop(resolution, (0.5, 1.0)), v2.RandomHorizontalFlip()])
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 0.05 * 0.5 * (1 + math.cos(math.pi * step / steps))
        number = step % len(observers)
        view, view_average = augment(torch.cat([images, average])).chunk(2)
        optimizer.zero_grad()
        with torch.no_grad():
            reference = observers[number](view_average)
        logits = observers[number](view)
        layers = [
            hook.loss(own, 0.8) for hook, own in zip(hooks[number], targets[number], strict=True)
        ]
        loss = F.cross_entropy(logits, labels) + 0.1 * (9 * layers[0] + sum(layers))
        loss = loss + 0.25 * F.kl_div(
            F.log_softmax(reference / 4, 1), F.softmax(logits / 4, 1), reduction="batchmean"
        )
        loss.backward()
        optimizer.step()
        images.data = torch.clamp(images.data, -mean / std, (1 - mean) / std)
        average = 0.99 * average + 0.01 * images.detach()
    return ((images.detach() * std + mean).clamp(0, 1) * 255).to(torch.uint8)
