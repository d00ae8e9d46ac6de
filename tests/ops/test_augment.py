"""Claims about raydd.ops.augment."""

import pytest
import torch
import torch.nn.functional as F
from torchvision.transforms.v2 import functional as reference

from raydd.ops.augment import (
    ViewParameters,
    apply_view,
    crop_and_resize,
    draw_views,
    flip_where,
    pad_offsets,
    pad_windows,
    resized_crop_boxes,
    view_matrices,
)
from raydd.ops.seeds import generator


@pytest.fixture
def images():
    return torch.randn(5, 3, 16, 16, generator=generator("images"))


def test_boxes_stay_inside_the_image_and_within_their_bounds():
    boxes = resized_crop_boxes(5000, (0.08, 1.0), (3 / 4, 4 / 3), generator("boxes"))
    top, left, height, width = boxes.unbind(1)
    area, ratio = height * width, width / height
    assert boxes.min() >= 0
    assert (top + height).max() <= 1 + 1e-6
    assert (left + width).max() <= 1 + 1e-6
    assert 0.08 - 1e-6 <= area.min() < 0.1
    assert ratio.min() >= 3 / 4 - 1e-5
    assert ratio.max() <= 4 / 3 + 1e-5


def test_boxes_are_distributed_as_in_torchvision():
    from torchvision.transforms import RandomResizedCrop

    torch.manual_seed(0)
    canvas = torch.zeros(1, 1000, 1000)
    drawn = [RandomResizedCrop.get_params(canvas, (0.08, 1.0), (3 / 4, 4 / 3)) for _ in range(4000)]
    theirs = torch.tensor(drawn).float() / 1000
    ours = resized_crop_boxes(4000, (0.08, 1.0), (3 / 4, 4 / 3), generator("boxes"))
    torch.testing.assert_close(ours.mean(0), theirs.mean(0), atol=0.02, rtol=0)
    torch.testing.assert_close(ours.std(0), theirs.std(0), atol=0.02, rtol=0)


def test_each_box_obeys_its_own_smallest_area():
    low = torch.tensor([1.0, 0.5] * 500)
    boxes = resized_crop_boxes(1000, (low, 1.0), (3 / 4, 4 / 3), generator("boxes"))
    area = boxes[:, 2] * boxes[:, 3]
    assert (area >= low - 1e-5).all()
    assert area[1::2].min() < 0.55


@pytest.mark.parametrize("size", [7, 16, 40])
@pytest.mark.parametrize("box", [(0, 0, 16, 16), (3, 1, 9, 15), (5, 5, 4, 8)])
def test_whole_pixel_crops_equal_torchvision(images, size, box):
    ours = crop_and_resize(images, torch.tensor([box] * 5) / 16.0, size)
    theirs = reference.resized_crop(images, *box, [size, size], antialias=True)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_each_image_gets_its_own_box(images):
    boxes = resized_crop_boxes(5, (0.08, 1.0), (3 / 4, 4 / 3), generator("boxes"))
    together = crop_and_resize(images, boxes, 12)
    for index in range(5):
        alone = crop_and_resize(images[index : index + 1], boxes[index : index + 1], 12)
        torch.testing.assert_close(together[index : index + 1], alone)


def test_a_constant_image_stays_constant_under_any_box():
    boxes = resized_crop_boxes(50, (0.001, 0.01), (3 / 4, 4 / 3), generator("tiny"))
    cropped = crop_and_resize(torch.full((50, 1, 8, 8), 3.0), boxes, 8)
    torch.testing.assert_close(cropped, torch.full_like(cropped, 3.0))


def test_flip_where_touches_flagged_images_only(images):
    flags = torch.tensor([True, False, True, False, False])
    flipped = flip_where(images, flags)
    assert torch.equal(flipped[0], images[0].flip(-1))
    assert torch.equal(flipped[1], images[1])


@pytest.mark.parametrize("flip", [False, True])
def test_a_view_is_crop_then_flip_then_roll(images, flip):
    view = ViewParameters(
        torch.tensor([2, 4, 10, 9]) / 16.0, torch.tensor(flip), torch.tensor([3, -2])
    )
    ours = apply_view(images, *view_matrices(view, 16))
    cropped = F.interpolate(images[:, :, 2:12, 4:13], 16, mode="bilinear", antialias=True)
    theirs = torch.roll(cropped.flip(-1) if flip else cropped, (3, -2), (2, 3))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_views_per_image_equal_views_one_by_one(images):
    views = draw_views(
        5,
        generator("views"),
        crop_scale=(0.08, 1.0),
        crop_ratio=(3 / 4, 4 / 3),
        flip=True,
        roll=(0, 4),
    )
    together = apply_view(images, *view_matrices(views, 16))
    for index in range(5):
        single = ViewParameters(*(draws[index] for draws in views))
        alone = apply_view(images[index : index + 1], *view_matrices(single, 16))
        torch.testing.assert_close(together[index : index + 1], alone)


def test_roll_bounds_are_both_reached():
    views = draw_views(
        500, generator("roll"), crop_scale=None, crop_ratio=(1, 1), flip=False, roll=(-4, 4)
    )
    assert set(views.shifts.flatten().tolist()) == set(range(-4, 5))
    assert not views.flips.any()
    assert torch.equal(views.boxes[7], torch.tensor([0.0, 0, 1, 1]))


def test_pad_windows_returns_shifted_windows(images):
    padded = F.pad(images, (2, 2, 2, 2))
    windows = padded.unfold(2, 16, 1).unfold(3, 16, 1)
    cropped = pad_windows(images, 2, pad_offsets(5, 2, generator("pad")))
    for index in range(5):
        matches = (windows[index] == cropped[index][:, None, None]).all(-1).all(-1).all(0)
        assert matches.sum() == 1


def test_pad_windows_keeps_uint8():
    images = torch.full((4, 3, 8, 8), 200, dtype=torch.uint8)
    assert pad_windows(images, 2, pad_offsets(4, 2, generator("pad"))).dtype == torch.uint8
