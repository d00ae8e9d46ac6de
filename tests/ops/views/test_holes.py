"""Cutout against its definition."""

import torch

from raydd.ops.recipe import Recipe
from raydd.ops.seeds import generator
from raydd.ops.views.batch import mix_batch
from raydd.ops.views.draws import draw_batch
from raydd.ops.views.holes import cut_out, draw_holes


def test_a_square_of_every_image_is_blanked_and_nothing_else():
    holes = torch.tensor([[0, 5], [3, 9], [-2, 2], [2, 6]])  # top, bottom, left, right
    images = torch.rand(2, 3, 8, 8) + 1
    expected = images.clone()
    expected[0, :, 0:3, 0:2] = 0
    expected[1, :, 5:8, 2:6] = 0
    assert torch.equal(cut_out(images, holes), expected)


def test_squares_have_their_size_and_any_centre():
    top, bottom, left, right = draw_holes(4000, 8, 32, generator("holes"))
    assert ((bottom - top) == 8).all()
    assert ((right - left) == 8).all()
    centres = torch.stack([top + 4, left + 4])
    assert centres.min() == 0
    assert centres.max() == 31
    assert abs(centres.float().mean() - 15.5) < 0.5


def test_a_recipe_without_cutout_draws_as_before_and_one_with_it_blanks():
    plain = Recipe(crop="pad", mix="none")
    drawn = draw_batch(5, plain, 16, 0.5, generator("views"))
    assert drawn.holes is None
    blanked = draw_batch(5, Recipe(crop="pad", mix="none", cutout=6), 16, 0.5, generator("views"))
    assert torch.equal(blanked.offsets, drawn.offsets)
    assert torch.equal(blanked.mirrored, drawn.mirrored)
    images, mix = mix_batch(torch.ones(5, 3, 16, 16), blanked)
    assert mix is None
    assert (images == 0).sum(dim=(1, 2, 3)).min() > 0
    assert (images == 0).sum(dim=(1, 2, 3)).max() <= 3 * 6 * 6
