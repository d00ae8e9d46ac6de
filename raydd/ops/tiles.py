"""Crops of real images, and images that are tiled from them.

The pieces of RDED (arXiv 2312.03526): square crops drawn per image, the padded view that its
observer scores, and the mapping from ranked crops to the cells of f x f tiles. An image's crops
depend on its own id alone, never on which images are drawn beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from raydd.ops.augment import crop_and_resize, resized_crop_boxes
from raydd.ops.seeds import generator

MAPPINGS = ("ranked", "shuffled")


def draw_crops(
    ids: Sequence[str], crops: int, scale: tuple[float, float], *seed_parts: str | int
) -> Tensor:
    """Draw square boxes for each image from a generator of its own.

    Args:
        ids: N image ids.
        crops: M, boxes per image.
        scale: smallest and largest area, fractions of the image in (0, 1].
        seed_parts: names and numbers that fix the draws together with an id.

    Returns:
        float32 [N, M, 4]: top, left, height, width as fractions of the image side; height = width.
    """
    boxes = [
        resized_crop_boxes(crops, scale, (1.0, 1.0), generator(*seed_parts, name)) for name in ids
    ]
    return torch.stack(boxes)


def cut_pixels(images: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Cut one box out of each image and resize it, rounding to whole grey levels.

    Each image is cut in a call of its own: a batched product may add up in another order for
    another batch size, and a sum at .5 would then round the other way.

    Args:
        images: uint8 [N, 3, H, H].
        boxes: float32 [N, 4], as of :func:`draw_crops`.
        size: side of the result, pixels.

    Returns:
        uint8 [N, 3, size, size].
    """
    cut = [
        crop_and_resize(image[None].float().contiguous(), box[None], size)
        for image, box in zip(images, boxes, strict=True)
    ]
    return round_pixels(torch.cat(cut))


def round_pixels(images: Tensor) -> Tensor:
    """Nearest uint8 of float pixels in [0, 255]; a plain cast would darken by half a grey level."""
    return images.round().clamp(0, 255).to(torch.uint8)


def pad_centre(images: Tensor, side: int) -> Tensor:
    """Lay images on the centre of a square of zeros.

    Args:
        images: float [B, C, H, W], normalised: a zero is then the mean colour, not black.
        side: of the result, pixels; an odd pixel of padding goes to the bottom and the right.

    Returns:
        [B, C, side, side].

    Raises:
        ValueError: the images are larger than the square.
    """
    height, width = images.shape[-2:]
    if max(height, width) > side:
        raise ValueError(f"{height} x {width} pixels do not fit into a square of {side} pixels")
    top, left = (side - height) // 2, (side - width) // 2
    return F.pad(images, (left, side - width - left, top, side - height - top))


def cell_ranks(count: int, tiles: int, mapping: str, draws: torch.Generator) -> Tensor:
    """Which ranked crop lies in which cell.

    Args:
        count: n, images.
        tiles: f; an image has f * f cells, numbered row by row.
        mapping: "ranked" puts rank k * n + j into cell k of image j, so that each image mixes
            good and less good crops and its first cell holds the best of them; "shuffled"
            permutes the cells of every image.
        draws: CPU generator of the permutations.

    Returns:
        int64 [n, f * f]: every rank of n * f * f crops once.

    Raises:
        ValueError: another mapping.
    """
    if mapping not in MAPPINGS:
        raise ValueError(f"mapping must be one of {', '.join(MAPPINGS)}, got {mapping!r}")
    cells = tiles * tiles
    ranks = torch.arange(count * cells).view(cells, count).T
    if mapping == "shuffled":
        ranks = ranks.gather(1, torch.rand(count, cells, generator=draws).argsort(dim=1))
    return ranks.contiguous()


def assemble_tiles(crops: Tensor, ranks: Tensor) -> Tensor:
    """Tile crops into images.

    Args:
        crops: [n * f * f, C, s, s] of any dtype, by rank.
        ranks: int64 [n, f * f], rank of the crop in each cell, see :func:`cell_ranks`.

    Returns:
        [n, C, f * s, f * s].
    """
    count, cells = ranks.shape
    tiles = math.isqrt(cells)
    channels, side = crops.shape[1], crops.shape[-1]
    grid = crops[ranks].view(count, tiles, tiles, channels, side, side)
    return grid.permute(0, 3, 1, 4, 2, 5).reshape(count, channels, tiles * side, tiles * side)
