"""Claims about raydd.ops.recipe."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from raydd.ops.augment import crop_and_resize, flip_where, resized_crop_boxes
from raydd.ops.color import color_jitter, pca_lighting
from raydd.ops.recipe import VIEW_FIELDS, Mix, Recipe, augment_batch, training_loss
from raydd.ops.recipe import learning_rate_factor as factor
from raydd.ops.seeds import generator

PIXELS = torch.randint(256, (5, 3, 16, 16), generator=generator("pixels")).to(torch.uint8)


def test_colours_are_drawn_after_everything_else():
    """So that a recipe without them draws what it drew before they existed."""
    draws = generator("views")
    boxes = resized_crop_boxes(5, (0.08, 1.0), (3 / 4, 4 / 3), draws)
    views = crop_and_resize(PIXELS.float(), boxes, 12)
    views = flip_where(views, torch.rand(5, generator=draws) < 0.5)
    assert torch.equal(augment_batch(PIXELS, Recipe(), 12, 0.5, generator("views")), views)
    colourful = Recipe(color_jitter=0.4, lighting=0.1)
    changed = augment_batch(PIXELS, colourful, 12, 0.5, generator("views"))
    assert torch.equal(changed, pca_lighting(color_jitter(views, 0.4, draws), 0.1, draws))


def test_colours_change_views_that_no_crop_resized():
    recipe = Recipe(crop="none", color_jitter=0.4)
    assert augment_batch(PIXELS, recipe, 16, 0.0, generator("views")).dtype == torch.float32


def test_what_decides_views_travels_with_labels():
    assert {"color_jitter", "lighting"} <= set(VIEW_FIELDS)


def test_the_step_schedule_drops_twice():
    recipe = Recipe(epochs=30, schedule="step", step_milestones=[0.6667, 0.8333])
    values = [factor(recipe, epoch * 7, 7) for epoch in (0, 19, 20, 24, 25, 29)]
    assert values == pytest.approx([1, 1, 0.2, 0.2, 0.04, 0.04])
    warm = replace(recipe, warmup_epochs=2)
    assert factor(warm, 7, 7) == pytest.approx(0.505)
    assert factor(warm, 14, 7) == 1


def test_mixed_hard_labels_need_no_teacher():
    logits, labels = torch.randn(4, 10, generator=generator("logits")), torch.arange(4)
    mix = Mix(torch.tensor([1, 0, 3, 2]), 0.75)
    targets = 0.75 * F.one_hot(labels, 10) + 0.25 * F.one_hot(labels[mix.permutation], 10)
    loss = training_loss(logits, labels, None, mix, Recipe(loss="mse"))
    torch.testing.assert_close(loss, F.cross_entropy(logits, targets))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"schedule": "spiral"}, "schedule must be one of cosine, step"),
        ({"step_factor": 0.0}, "step_factor must lie"),
        ({"step_milestones": [0.9, 0.5]}, "step_milestones must rise"),
        ({"color_jitter": 1.5}, "color_jitter must lie"),
        ({"lighting": -0.1}, "color_jitter must lie"),
    ],
)
def test_bad_recipes_are_refused(values, sentence):
    with pytest.raises(ValueError, match=sentence):
        Recipe(**values)
