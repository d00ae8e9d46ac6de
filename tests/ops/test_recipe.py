"""Claims about raydd.ops.recipe."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from raydd.ops.recipe import VIEW_FIELDS, Recipe, training_loss
from raydd.ops.recipe import learning_rate_factor as factor
from raydd.ops.seeds import generator
from raydd.ops.views.mixing import Mix


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
    mix = Mix(torch.tensor([1, 0, 3, 2]), torch.tensor([0.75, 0.25]))
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
        ({"hard_span": (0.5, 0.2)}, "hard_span must rise"),
        ({"hard_span": (0.5, 1.1)}, "hard_span must rise"),
        ({"hard_span": (0.0, 1.0)}, "leaves no epoch for soft labels"),
        ({"hard_span": (0.0, 0.5), "stop_epoch": 150}, "leaves no epoch for soft labels"),
    ],
)
def test_bad_recipes_are_refused(values, sentence):
    with pytest.raises(ValueError, match=sentence):
        Recipe(**values)


@pytest.mark.parametrize(
    ("epochs", "span", "hard"),
    [
        (300, (0.25, 0.75), range(75, 225)),  # the halves of HALD
        (30, (0.1, 0.7), range(3, 21)),  # 0.1 * 30 is above 3 in binary
        (5, (0.25, 0.75), range(2, 3)),  # only epochs that lie wholly in the span
        (1, (0.25, 0.75), range(0)),
        (10, (0.0, 0.0), range(0)),
        (10, (0.4, 0.4), range(0)),
    ],
)
def test_hard_epochs_are_those_within_the_span_and_soft_ones_are_counted_without(
    epochs, span, hard
):
    recipe = Recipe(epochs=epochs, hard_span=span)
    assert list(recipe.hard_epochs) == list(hard)
    counted = 0
    for epoch in range(epochs):
        assert recipe.soft_before(epoch) == counted
        counted += epoch not in hard
    assert recipe.soft_epochs == counted


def test_an_early_end_leaves_out_the_soft_epochs_behind_it():
    assert Recipe(epochs=8, hard_span=(0.25, 0.75), stop_epoch=7).soft_epochs == 3
