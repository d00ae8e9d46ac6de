"""The interval of repeated runs: Student's t in closed form, and its limits."""

import math

import pytest

from raydd.ops.intervals import mean_and_interval


def test_three_values_give_students_t() -> None:
    mean, half_width = mean_and_interval([1.0, 2.0, 3.0])
    assert mean == pytest.approx(2.0)
    assert half_width == pytest.approx(4.303 / math.sqrt(3), rel=1e-4)  # t(0.975, 2) = 4.303, s = 1


def test_two_values_give_cauchys_quantile() -> None:
    _, half_width = mean_and_interval([0.4, 0.6])  # one degree of freedom: tan(0.475 pi) = 12.706
    assert half_width == pytest.approx(math.tan(0.475 * math.pi) * 0.1)


def test_interval_scales_with_the_unit_and_ignores_a_shift() -> None:
    values = [0.91, 0.93, 0.90, 0.94]
    mean, half_width = mean_and_interval(values)
    points_mean, points_half = mean_and_interval([100 * value + 7 for value in values])
    assert points_mean == pytest.approx(100 * mean + 7)
    assert points_half == pytest.approx(100 * half_width)


def test_equal_values_have_no_width() -> None:
    assert mean_and_interval([0.5] * 3) == (0.5, 0.0)


def test_one_value_has_an_unknown_interval() -> None:
    mean, half_width = mean_and_interval([0.5])
    assert mean == 0.5
    assert math.isnan(half_width)


def test_no_value_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        mean_and_interval([])
