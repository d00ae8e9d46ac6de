"""Every draw of a batch's views, made on the CPU, where generators are the same everywhere.

They go to the device in one copy and are applied there (:mod:`.batch`): a step that brings each of
them for itself makes the host wait as many times.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from raydd.ops.augment import pad_offsets, resized_crop_boxes
from raydd.ops.device import send
from raydd.ops.recipe import Recipe
from raydd.ops.views.color import jitter_factors, lighting_shifts
from raydd.ops.views.holes import draw_holes
from raydd.ops.views.mixing import draw_share, draw_window


@dataclass(frozen=True)
class BatchDraws:
    """Draws of the views of B images; None where the recipe asks for no such thing.

    Attributes:
        mirrored: bool [B].
        boxes: float32 [B, 4], of resized crops, see :func:`.augment.resized_crop_boxes`.
        offsets: int64 [2, B, 1], of padded crops.
        factors: float32 [3, B], of brightness, contrast and saturation.
        shifts: float32 [B, 3], of the colours, pixels.
        holes: int64 [4, B], top, bottom, left and right of a blanked square, pixels.
        permutation: int64 [B], which image each is mixed with.
        shares: float32 [2], of an image's own pixels and of the other's.
        window: int64 [4], top, bottom, left and right of a pasted rectangle, pixels.
    """

    mirrored: Tensor
    boxes: Tensor | None = None
    offsets: Tensor | None = None
    factors: Tensor | None = None
    shifts: Tensor | None = None
    holes: Tensor | None = None
    permutation: Tensor | None = None
    shares: Tensor | None = None
    window: Tensor | None = None

    def to(self, device: torch.device) -> BatchDraws:
        """The same on a device, in one copy."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        drawn = {name: value for name, value in values.items() if value is not None}
        return BatchDraws(**dict(zip(drawn, send(list(drawn.values()), device), strict=True)))


def draw_batch(
    count: int, recipe: Recipe, resolution: int, flip: float, generator: torch.Generator
) -> BatchDraws:
    """Draw the views of a batch.

    Args:
        count: B, images.
        recipe: which crop, colours and mixing.
        resolution: R, side of the views, pixels.
        flip: probability of a mirrored view.
        generator: CPU generator of every draw.
    """
    values: dict[str, Tensor] = {}
    if recipe.crop == "resized":
        low, high = recipe.crop_scale
        values["boxes"] = resized_crop_boxes(count, (low, high), (3 / 4, 4 / 3), generator)
    elif recipe.crop == "pad":
        values["offsets"] = pad_offsets(count, recipe.padding, generator)
    values["mirrored"] = torch.rand(count, generator=generator) < flip
    if recipe.color_jitter:
        values["factors"] = jitter_factors(count, recipe.color_jitter, generator)
    if recipe.lighting:
        values["shifts"] = lighting_shifts(count, recipe.lighting, generator)
    if recipe.cutout:
        values["holes"] = draw_holes(count, recipe.cutout, resolution, generator)
    if recipe.mix != "none":
        share = draw_share(recipe.mix_alpha, generator)
        if recipe.mix == "cutmix":
            values["window"], share = draw_window(share, resolution, generator)
        values["permutation"] = torch.randperm(count, generator=generator)
        values["shares"] = torch.tensor([share, 1 - share])
    return BatchDraws(**values)
