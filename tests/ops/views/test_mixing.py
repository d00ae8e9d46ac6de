"""Claims about raydd.ops.views.mixing."""

import torch

from raydd.ops.seeds import generator
from raydd.ops.views.mixing import blend, draw_share, draw_window, paste


def test_paste_moves_one_rectangle_of_the_stated_area():
    images = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 2, 20, 20)
    permutation = torch.tensor([3, 0, 1, 5, 2, 4])
    for seed in range(20):
        draws = generator(seed)
        window, share = draw_window(draw_share(1.0, draws), 20, draws)
        mixed = paste(images, permutation, window)
        own = mixed == images
        torch.testing.assert_close(own.float().mean((1, 2, 3)), torch.full((6,), share))
        assert torch.equal(mixed, torch.where(own, images, images[permutation]))
        top, bottom, left, right = window.tolist()
        assert not own[:, :, top:bottom, left:right].any()


def test_the_pasted_area_is_the_share_but_for_what_an_edge_cuts_off():
    shares = [draw_window(0.75, 32, generator(seed))[1] for seed in range(50)]
    assert min(shares) == 0.75
    assert max(shares) < 1


def test_blend_weighs_both_images():
    images, permutation = torch.rand(3, 2, 4, 4), torch.tensor([1, 2, 0])
    mixed = blend(images, permutation, torch.tensor([0.7, 0.3]))
    torch.testing.assert_close(mixed, 0.7 * images + 0.3 * images[permutation])
