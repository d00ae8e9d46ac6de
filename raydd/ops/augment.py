"""Batched augmentations with one draw per image, and the whole-batch views of synthesis.

Cropping and resizing is linear and separable, so a view is `rows @ image @ columns^T` with one
small matrix per axis. Flips and rolls only reorder the rows of these matrices. Two matrix products
are differentiable, run on any device and, unlike interpolation kernels on CUDA, give the same
gradient in every run. All draws come from the given CPU generator.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

ATTEMPTS = 10  # torchvision's RandomResizedCrop gives up after as many draws
_WALK_BYTES = 8 << 20  # of the matrices that are made together


class ViewParameters(NamedTuple):
    """Draws of n views: boxes float32 [n, 4], flips bool [n], shifts int64 [n, 2]."""

    boxes: Tensor
    flips: Tensor
    shifts: Tensor


def resized_crop_boxes(
    count: int,
    scale: tuple[float | Tensor, float],
    ratio: tuple[float, float],
    generator: torch.Generator,
) -> Tensor:
    """Draw crop boxes of square images as torchvision's RandomResizedCrop does.

    Args:
        count: number of boxes.
        scale: smallest and largest area, fractions of the image in (0, 1]; the smallest may be a
            float tensor [count], one bound per box.
        ratio: smallest and largest width / height, drawn uniformly in the logarithm.
        generator: CPU generator.

    Returns:
        float32 [count, 4]: top, left, height, width as fractions of the image side in [0, 1].
        A box that fits in none of ten draws is the whole image. Differs from torchvision: edges are
        not rounded to pixels.
    """
    return fitting_boxes(torch.rand(4, count, ATTEMPTS, generator=generator), scale, ratio)


def fitting_boxes(
    uniform: Tensor, scale: tuple[float | Tensor, float], ratio: tuple[float, float]
) -> Tensor:
    """Boxes of :func:`resized_crop_boxes` from float32 [4, count, ATTEMPTS] draws in [0, 1)."""
    low = torch.as_tensor(scale[0], dtype=torch.float32).reshape(-1, 1)
    area = low + (scale[1] - low) * uniform[0]
    log_low, log_high = math.log(ratio[0]), math.log(ratio[1])
    aspect = torch.exp(log_low + (log_high - log_low) * uniform[1])
    height, width = (area / aspect).sqrt(), (area * aspect).sqrt()
    fits = (height <= 1) & (width <= 1)
    first = fits.int().argmax(dim=1, keepdim=True)
    found = fits.any(dim=1, keepdim=True)
    height = torch.where(found, height.gather(1, first), 1.0)
    width = torch.where(found, width.gather(1, first), 1.0)
    top = (1 - height) * uniform[2].gather(1, first)
    left = (1 - width) * uniform[3].gather(1, first)
    return torch.cat([top, left, height, width], dim=1)


def resize_matrix(start: Tensor, length: Tensor, source: int, size: int) -> Tensor:
    """Matrices [..., size, source] that crop [start, start + length) (pixels) and resize one axis.

    Bilinear with antialiasing; for whole-pixel boxes equal to torch's interpolate of the slice.
    """
    start, length = start[..., None, None], length[..., None, None]
    pixels = torch.arange(source, device=start.device)
    targets = torch.arange(size, device=start.device)[:, None]
    centres = start + (targets + 0.5) * (length / size)
    support = (length / size).clamp(min=1.0)
    weights = (1 - (pixels + 0.5 - centres).abs() / support).clamp(min=0)
    inside = (pixels >= start.floor()) & (pixels < (start + length).ceil())
    weights = weights * inside
    return weights / weights.sum(dim=-1, keepdim=True)


def crop_and_resize(images: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Cut one box out of each image and resize it, bilinear with antialiasing.

    Args:
        images: float [B, C, H, W].
        boxes: float32 [B, 4], top, left, height, width as fractions in [0, 1].
        size: side of the result, pixels.

    Returns:
        float [B, C, size, size], same dtype and device as `images`.
    """
    height, width = images.shape[-2:]
    boxes = boxes.to(images.device)
    rows = resize_matrix(boxes[:, 0] * height, boxes[:, 2] * height, height, size)
    columns = resize_matrix(boxes[:, 1] * width, boxes[:, 3] * width, width, size)
    return apply_view(images, rows, columns)


def flip_where(images: Tensor, flags: Tensor) -> Tensor:
    """Mirror left and right the images [B, C, H, W] whose flag (bool [B]) is set."""
    return torch.where(flags.to(images.device)[:, None, None, None], images.flip(-1), images)


def draw_views(
    count: int,
    generator: torch.Generator,
    *,
    crop_scale: tuple[float | Tensor, float] | None,
    crop_ratio: tuple[float, float],
    flip: bool,
    roll: tuple[int, int],
) -> ViewParameters:
    """Draw crop, flip and cyclic shift of `count` views.

    Args:
        count: number of views.
        generator: CPU generator.
        crop_scale: see `resized_crop_boxes`; None crops nothing.
        crop_ratio: width / height bounds of the crop.
        flip: mirror half of the views.
        roll: smallest and largest shift, pixels, both included; drawn apart for rows and columns.
    """
    if crop_scale is None:
        boxes = torch.tensor([0.0, 0.0, 1.0, 1.0]).repeat(count, 1)
    else:
        boxes = resized_crop_boxes(count, crop_scale, crop_ratio, generator)
    flips = torch.rand(count, generator=generator) < (0.5 if flip else 0.0)
    shifts = torch.randint(roll[0], roll[1] + 1, (count, 2), generator=generator)
    return ViewParameters(boxes, flips, shifts)


def view_matrices(views: ViewParameters, resolution: int) -> tuple[Tensor, Tensor]:
    """Row and column matrices, float32 [..., R, R], of crop, then flip, then roll.

    Args:
        views: parameters with any leading shape: boxes [..., 4], flips [...], shifts [..., 2].
        resolution: R, side of the square images before and after, pixels.
    """
    boxes = views.boxes * resolution
    rows = resize_matrix(boxes[..., 0], boxes[..., 2], resolution, resolution)
    columns = resize_matrix(boxes[..., 1], boxes[..., 3], resolution, resolution)
    columns = torch.where(views.flips[..., None, None], columns.flip(-2), columns)
    return _roll(rows, views.shifts[..., 0]), _roll(columns, views.shifts[..., 1])


def walk_views(views: ViewParameters, resolution: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Row and column matrices of each step in turn, computed for many steps at once.

    Those of one step are 57 kernels on numbers so few that they take no longer for all of them.

    Args:
        views: of all steps, boxes [steps, ..., 4]; see :func:`view_matrices`.
        resolution: R, side of the square images, pixels.
    """
    step_bytes = 2 * views.flips[:1].numel() * resolution**2 * torch.float32.itemsize
    together = max(1, _WALK_BYTES // step_bytes)
    for parts in zip(*(draws.split(together) for draws in views), strict=True):
        rows, columns = view_matrices(ViewParameters(*parts), resolution)
        yield from zip(rows, columns, strict=True)


def _roll(matrix: Tensor, shift: Tensor) -> Tensor:
    """Shift the rows of [..., R, R] cyclically by `shift` [...], as torch.roll does."""
    size = matrix.shape[-2]
    order = (torch.arange(size, device=matrix.device) - shift[..., None]) % size
    return matrix.gather(-2, order[..., None].expand(matrix.shape))


def apply_view(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return rows @ image @ columns^T.

    Args:
        images: float [B, C, H, W].
        rows: [S, H], or one matrix per image [B, S, H].
        columns: [S, W] or [B, S, W].

    Returns:
        [B, C, S, S], the dtype of `images`.
    """
    if rows.dim() == 3:
        rows, columns = rows.unsqueeze(1), columns.unsqueeze(1)
    return rows.to(images.dtype) @ images @ columns.to(images.dtype).transpose(-1, -2)


def pad_offsets(count: int, padding: int, generator: torch.Generator) -> Tensor:
    """Draw windows of padded images: the CIFAR recipe; int64 [2, count, 1] for :func:`pad_windows`.

    Each shift is uniform in [-padding, padding].
    """
    return torch.randint(2 * padding + 1, (2, count, 1), generator=generator)


def pad_windows(images: Tensor, padding: int, offsets: Tensor) -> Tensor:
    """Pad with zeros and cut one window of the old size out of each image.

    Args:
        images: [B, C, H, W], uint8 or float; zero is black before the normalisation only.
        padding: pixels added on every side.
        offsets: int64 [2, B, 1], first row and column of each window, in [0, 2 * padding].
    """
    count, channels, height, width = images.shape
    padded, device = F.pad(images, (padding,) * 4), images.device
    offsets = offsets.to(device)
    rows = (offsets[0] + torch.arange(height, device=device))[:, None, :, None]
    columns = (offsets[1] + torch.arange(width, device=device))[:, None, None, :]
    batch = torch.arange(count, device=device)[:, None, None, None]
    channel = torch.arange(channels, device=device)[None, :, None, None]
    return padded[batch, channel, rows, columns]
