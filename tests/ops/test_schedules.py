"""Claims about raydd.ops.schedules."""

import pytest

from raydd.ops.schedules import cosine_factor, crop_scale_minimum, smooth_factor


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


def test_a_smooth_schedule_is_the_beginning_of_a_longer_cosine():
    for step in (0, 3, 10):
        assert smooth_factor(step, 10) == pytest.approx(cosine_factor(step, 10))
        assert smooth_factor(step, 10, zeta=2.0) == pytest.approx(cosine_factor(step, 20))
    assert smooth_factor(10, 10, zeta=2.0) == pytest.approx(0.5)


def test_late_steep_drops_to_a_sixth_and_falls_to_zero():
    """The published formula: 0.5 (1 + cos 75 degrees) / 6 just after 5/6 of the schedule."""
    before, after = (smooth_factor(step, 600, 2.0, late_steep=True) for step in (500, 500.0001))
    assert before == pytest.approx(0.62941, abs=1e-5)
    assert after == pytest.approx(0.1049, abs=1e-4)
    assert smooth_factor(550, 600, 2.0, late_steep=True) == pytest.approx(after / 2, rel=1e-3)
    assert smooth_factor(600, 600, 2.0, late_steep=True) == 0


def test_warmup_comes_before_the_smooth_decay():
    assert smooth_factor(0, 100, 2.0, warmup=5) == pytest.approx(0.01)
    assert smooth_factor(5, 100, 2.0, warmup=5) == pytest.approx(1)
    assert smooth_factor(100, 100, 2.0, warmup=5) == pytest.approx(0.5)
