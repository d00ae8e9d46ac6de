"""Claims about raydd.ops.tiles."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raydd.ops.augment import crop_and_resize
from raydd.ops.seeds import generator
from raydd.ops.tiles import (
    assemble_tiles,
    cell_ranks,
    cut_pixels,
    draw_crops,
    pad_centre,
    round_pixels,
)


def test_crops_are_squares_inside_the_image_within_the_area_bounds():
    boxes = draw_crops([f"image{i}" for i in range(300)], 5, (0.08, 0.5), 0)
    assert boxes.shape == (300, 5, 4)
    top, left, height, width = boxes.unbind(-1)
    torch.testing.assert_close(height, width)
    area = height * width
    assert 0.08 - 1e-6 <= area.min() < 0.09
    assert 0.49 < area.max() <= 0.5 + 1e-6
    assert min(top.min(), left.min()) >= 0
    assert max((top + height).max(), (left + width).max()) <= 1 + 1e-6
    assert len(boxes.flatten(0, 1).unique(dim=0)) == 1500  # every crop is another one


def test_the_crops_of_an_image_depend_on_its_id_and_the_seed_alone():
    boxes = draw_crops(["a", "b", "c"], 4, (0.08, 1.0), 0, "crop")
    torch.testing.assert_close(draw_crops(["c", "a"], 4, (0.08, 1.0), 0, "crop"), boxes[[2, 0]])
    assert not torch.equal(boxes[0], boxes[1])
    assert not torch.equal(draw_crops(["a"], 4, (0.08, 1.0), 1, "crop")[0], boxes[0])


def test_pixels_are_rounded_not_truncated():
    exact = torch.tensor([0.0, 0.4, 0.6, 99.4, 99.6, 254.7, -3.0, 300.0])
    assert round_pixels(exact).tolist() == [0, 0, 1, 99, 100, 255, 0, 255]
    assert round_pixels(exact).dtype == torch.uint8


def test_a_cut_is_the_nearest_grey_level_of_the_resized_crop():
    images = torch.randint(0, 256, (6, 3, 20, 20), generator=generator("cut")).to(torch.uint8)
    boxes = draw_crops(list("abcdef"), 1, (0.08, 1.0), "cut")[:, 0]
    exact = crop_and_resize(images.float(), boxes, 8)
    cut = cut_pixels(images, boxes, 8)
    assert cut.dtype == torch.uint8
    assert (cut - exact).abs().max() <= 0.5 + 1e-3
    assert abs((cut - exact).mean()) < 0.05  # truncation would give -0.5
    channels_last = images.contiguous(memory_format=torch.channels_last)
    assert torch.equal(cut_pixels(channels_last[2:4], boxes[2:4], 8), cut[2:4])


@pytest.mark.parametrize(("size", "side"), [(4, 8), (3, 8), (8, 8), (1, 2)])
def test_padding_lays_the_crop_on_the_centre_of_zeros(size, side):
    padded = pad_centre(torch.ones(2, 3, size, size), side)
    assert padded.shape == (2, 3, side, side)
    first = (side - size) // 2
    assert (padded[:, :, first : first + size, first : first + size] == 1).all()
    assert padded.sum() == 2 * 3 * size * size


def test_a_crop_larger_than_the_square_is_refused():
    with pytest.raises(ValueError, match="do not fit"):
        pad_centre(torch.ones(1, 3, 9, 9), 8)


def test_cell_k_of_image_j_holds_rank_k_times_n_plus_j():
    count, tiles, side = 3, 2, 5
    crops = torch.arange(count * tiles**2).view(-1, 1, 1, 1).expand(-1, 3, side, side)
    ranks = cell_ranks(count, tiles, "ranked", generator(0))
    images = assemble_tiles(crops, ranks)
    assert images.shape == (3, 3, 10, 10)
    for j in range(count):
        for k in range(tiles**2):
            row, column = side * (k // tiles), side * (k % tiles)
            cell = images[j, :, row : row + side, column : column + side]
            assert (cell == k * count + j).all()


def test_a_cell_shows_its_crop_upright():
    crops = torch.randn(9, 3, 4, 4, generator=generator("upright"))
    images = assemble_tiles(crops, cell_ranks(1, 3, "ranked", generator(0)))
    assert torch.equal(images[0, :, 4:8, 8:12], crops[5])
    assert torch.equal(assemble_tiles(crops, torch.arange(9)[:, None]), crops)  # f = 1: as they are


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 9), st.integers(1, 4), st.integers(0, 99))
def test_shuffling_permutes_the_cells_within_each_image(count, tiles, seed):
    ranked = cell_ranks(count, tiles, "ranked", generator(seed))
    shuffled = cell_ranks(count, tiles, "shuffled", generator(seed))
    assert sorted(ranked.flatten().tolist()) == list(range(count * tiles**2))
    assert torch.equal(shuffled.sort(dim=1).values, ranked)
    assert torch.equal(shuffled, cell_ranks(count, tiles, "shuffled", generator(seed)))


def test_shuffling_is_another_for_every_image_and_puts_any_rank_into_the_first_cell():
    shuffled = cell_ranks(400, 2, "shuffled", generator(1))
    first_cell = torch.bincount(shuffled[:, 0] // 400, minlength=4)
    assert first_cell.min() > 60  # of 100 expected


def test_an_unknown_mapping_is_refused():
    with pytest.raises(ValueError, match="ranked, shuffled"):
        cell_ranks(2, 2, "sorted", generator(0))
