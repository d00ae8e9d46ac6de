"""Claims about raydd.ops.views.color."""

import pytest
import torch
from torchvision.transforms.v2 import functional as reference

from raydd.ops.seeds import generator
from raydd.ops.views.color import jitter, jitter_factors, lighting_shifts, shift_colors


@pytest.fixture
def images():
    """Mild colours: torchvision clamps, and nothing here reaches a bound."""
    return 100 + 50 * torch.rand(6, 3, 8, 8, generator=generator("images"))


def test_jitter_equals_torchvisions_three_changes_in_any_order(images):
    factors = jitter_factors(6, 0.4, generator("jitter"))
    torch.testing.assert_close(factors, 0.6 + 0.8 * torch.rand(3, 6, generator=generator("jitter")))
    ours = jitter(images, factors)
    changes = (
        reference.adjust_brightness,
        reference.adjust_contrast,
        reference.adjust_saturation,
    )
    for index in range(6):
        for order in ((0, 1, 2), (2, 1, 0), (1, 2, 0)):
            theirs = images[index] / 255
            for which in order:
                theirs = changes[which](theirs, factors[which, index].item())
            # torchvision rounds the weight of blue: 0.1140 against 0.110
            torch.testing.assert_close(ours[index], 255 * theirs, atol=1.5, rtol=0)


def test_grey_images_stay_grey_and_keep_their_mean_under_contrast_and_saturation():
    grey = torch.rand(4, 1, 8, 8, generator=generator("grey")).expand(-1, 3, -1, -1) * 255
    factors = jitter_factors(4, 0.4, generator("jitter"))
    changed, brightness = jitter(grey, factors), factors[0]
    torch.testing.assert_close(changed[:, 0], changed[:, 2], atol=1e-3, rtol=0)
    torch.testing.assert_close(changed.mean((1, 2, 3)), brightness * grey.mean((1, 2, 3)))


def test_jitter_of_strength_zero_changes_nothing(images):
    unchanged = jitter(images, jitter_factors(6, 0.0, generator("jitter")))
    torch.testing.assert_close(unchanged, images)


def test_lighting_shifts_each_image_by_one_colour(images):
    drawn = lighting_shifts(6, 0.1, generator("light"))
    shifts = shift_colors(images, drawn) - images
    torch.testing.assert_close(shifts, shifts[:, :, :1, :1].expand_as(shifts), atol=1e-4, rtol=0)
    assert not torch.allclose(shifts[0], shifts[1])


def test_lighting_has_the_published_deviation():
    """Of red, in pixels: 0.1 * 255 * |(0.5675 * 0.2175, 0.7192 * 0.0188, 0.4009 * 0.0045)|."""
    shifts = lighting_shifts(20000, 0.1, generator("light"))
    assert shifts[:, 0].std().item() == pytest.approx(3.167, rel=0.03)
    correlation = torch.corrcoef(shifts[:, :2].T)[0, 1]
    assert correlation > 0.95  # the first component is brightness
