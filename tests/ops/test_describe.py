"""Descriptions of many numbers."""

import numpy as np
import pytest

from raydd.ops.describe import describe


def test_quantiles_and_counts_are_those_of_the_finite_values():
    found = describe(np.array([*range(101), np.inf, np.nan], float))
    assert (found["min"], found["q10"], found["median"], found["max"]) == (0, 10, 50, 100)
    assert found["mean"] == pytest.approx(50)
    assert sum(found["histogram"]["counts"]) == 101
    assert len(found["histogram"]["edges"]) == len(found["histogram"]["counts"]) + 1


def test_nothing_finite_is_nothing():
    assert describe(np.array([np.inf])) is None
