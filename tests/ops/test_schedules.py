"""Claims about raydd.ops.schedules."""

import pytest

from raydd.ops.schedules import cosine_factor, crop_scale_minimum


def test_cosine_falls_from_one_over_a_half_to_zero():
    assert [cosine_factor(step, 10) for step in (0, 5, 10)] == pytest.approx([1, 0.5, 0])


def test_warmup_rises_linearly_and_then_decays():
    factors = [cosine_factor(epoch, 100, warmup=5, warmup_start=0.01) for epoch in (0, 2.5, 5, 100)]
    assert factors == pytest.approx([0.01, 0.505, 1, 0])


def test_a_warmup_as_long_as_the_schedule_is_refused():
    with pytest.raises(ValueError, match="shorter"):
        cosine_factor(0, 5, warmup=5)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.08, 0.08, 0.08]),
        ("cosine", [1.0, 0.54, 0.08]),
        ("linear", [1.0, 0.54, 0.08]),
        ("step", [1.0, 1.0, 0.08]),
    ],
)
def test_crop_scale_reaches_its_floor_at_the_milestone(schedule, expected):
    values = [crop_scale_minimum(step, 200, schedule, milestone=0.5) for step in (0, 50, 100)]
    assert values == pytest.approx(expected)


def test_milestone_zero_equals_the_constant_schedule():
    values = {crop_scale_minimum(step, 10, "cosine", milestone=0.0) for step in range(10)}
    assert values == {0.08}


def test_an_unknown_schedule_is_refused():
    with pytest.raises(ValueError, match="constant, cosine"):
        crop_scale_minimum(0, 10, "exponential")
