"""Views of a batch: what is drawn, in which order, and that it says all."""

import torch

from raydd.ops.augment import crop_and_resize, flip_where, resized_crop_boxes
from raydd.ops.recipe import Recipe
from raydd.ops.seeds import generator
from raydd.ops.views.batch import augment_batch, mix_batch
from raydd.ops.views.color import jitter, jitter_factors, lighting_shifts, shift_colors
from raydd.ops.views.draws import draw_batch
from raydd.ops.views.mixing import draw_share, draw_window

PIXELS = torch.randint(256, (5, 3, 16, 16), generator=generator("pixels")).to(torch.uint8)


def test_mixing_is_drawn_after_colours_and_those_after_everything_else():
    """So that a recipe without them draws what it drew before they existed."""
    draws = generator("views")
    boxes = resized_crop_boxes(5, (0.08, 1.0), (3 / 4, 4 / 3), draws)
    views = crop_and_resize(PIXELS.float(), boxes, 12)
    views = flip_where(views, torch.rand(5, generator=draws) < 0.5)
    drawn = draw_batch(5, Recipe(), 12, 0.5, generator("views"))
    assert torch.equal(augment_batch(PIXELS, drawn, Recipe(), 12), views)
    colourful = Recipe(color_jitter=0.4, lighting=0.1)
    drawn = draw_batch(5, colourful, 12, 0.5, generator("views"))
    views = jitter(views, jitter_factors(5, 0.4, draws))
    views = shift_colors(views, lighting_shifts(5, 0.1, draws))
    assert torch.equal(augment_batch(PIXELS, drawn, colourful, 12), views)
    window, share = draw_window(draw_share(1.0, draws), 12, draws)
    assert torch.equal(drawn.window, window)
    assert torch.equal(drawn.shares, torch.tensor([share, 1 - share]))
    assert torch.equal(drawn.permutation, torch.randperm(5, generator=draws))


def test_colours_change_views_that_no_crop_resized():
    recipe = Recipe(crop="none", color_jitter=0.4)
    drawn = draw_batch(5, recipe, 16, 0.0, generator("views"))
    assert augment_batch(PIXELS, drawn, recipe, 16).dtype == torch.float32


def test_what_is_not_asked_for_is_not_drawn():
    recipe = Recipe(crop="none", mix="none")
    drawn = draw_batch(5, recipe, 16, 0.0, generator("views"))
    assert [name for name, value in vars(drawn).items() if value is not None] == ["mirrored"]
    views = augment_batch(PIXELS, drawn, recipe, 16)
    assert torch.equal(views, PIXELS)
    assert mix_batch(views, drawn) == (views, None)
