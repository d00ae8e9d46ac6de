"""Apply the draws of a batch on its device."""

from __future__ import annotations

from torch import Tensor

from raydd.ops.augment import crop_and_resize, flip_where, pad_windows
from raydd.ops.recipe import Recipe
from raydd.ops.views.color import jitter, shift_colors
from raydd.ops.views.draws import BatchDraws
from raydd.ops.views.holes import cut_out
from raydd.ops.views.mixing import Mix, blend, paste


def augment_batch(pixels: Tensor, draws: BatchDraws, recipe: Recipe, resolution: int) -> Tensor:
    """One random view per image.

    Args:
        pixels: uint8 [B, 3, S, S], S >= resolution.
        draws: on the same device.
        recipe: of the draws.
        resolution: R, side of the views, pixels.

    Returns:
        [B, 3, R, R] in [0, 255], or beyond where colours were changed; uint8 where no crop is
        resized and no colour changed, else float.
    """
    if draws.boxes is not None:
        pixels = crop_and_resize(pixels.float(), draws.boxes, resolution)
    else:
        margin = (pixels.shape[-1] - resolution) // 2
        pixels = pixels[..., margin : margin + resolution, margin : margin + resolution]
        if draws.offsets is not None:
            pixels = pad_windows(pixels, recipe.padding, draws.offsets)
    pixels = flip_where(pixels, draws.mirrored)
    if draws.factors is not None:
        pixels = jitter(pixels.float(), draws.factors)
    if draws.shifts is not None:
        pixels = shift_colors(pixels.float(), draws.shifts)
    return pixels


def mix_batch(images: Tensor, draws: BatchDraws) -> tuple[Tensor, Mix | None]:
    """Blank squares of normalised images [B, 3, R, R] and mix them, as drawn."""
    if draws.holes is not None:
        images = cut_out(images, draws.holes)
    if draws.permutation is None or draws.shares is None:
        return images, None
    mix = Mix(draws.permutation, draws.shares)
    if draws.window is not None:
        return paste(images, draws.permutation, draws.window), mix
    return blend(images, draws.permutation, draws.shares), mix
