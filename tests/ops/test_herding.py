"""Herding against a plain transcription of its definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raydd.ops.herding import herd


def plain_herd(features, count):
    """Pick k minimises |mean - mean of the picks|, by trying every candidate."""
    points = features.astype(np.float64)
    mean, picked = points.mean(0), []
    for _ in range(count):
        gaps = [
            np.inf if i in picked else np.linalg.norm(mean - points[[*picked, i]].mean(0))
            for i in range(len(points))
        ]
        picked.append(int(np.argmin(gaps)))
    return picked


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.integers(1, 25))
def test_picks_are_those_of_the_definition(seed, count):
    features = np.random.default_rng(seed).normal(size=(25, 6)).astype(np.float16)
    picks, distances = herd(features, count)
    assert picks.tolist() == plain_herd(features, count)
    means = np.cumsum(features[picks].astype(float), 0) / np.arange(1, count + 1)[:, None]
    gaps = np.linalg.norm(features.astype(float).mean(0) - means, axis=1)
    np.testing.assert_allclose(distances, gaps, atol=1e-12)


def test_the_first_pick_is_nearest_to_the_mean_and_all_picks_have_the_mean():
    features = np.random.default_rng(0).normal(size=(40, 5))
    picks, distances = herd(features, 40)
    assert picks[0] == np.linalg.norm(features - features.mean(0), axis=1).argmin()
    assert sorted(picks) == list(range(40))
    assert distances[-1] == pytest.approx(0, abs=1e-12)
    assert distances[4] < distances[0]


@pytest.mark.parametrize("width", [3, 64, 511])
def test_of_equal_rows_the_first_is_taken(width):
    rows = np.random.default_rng(1).normal(size=(17, width)).astype(np.float16)
    picks, _ = herd(np.concatenate([rows, rows]), 17)
    order = picks.tolist()
    assert order[0] < 17
    assert all(row - 17 in order[: order.index(row)] for row in order if row >= 17)


def test_a_class_that_is_too_small_gives_what_it_has():
    assert herd(np.ones((3, 2)), 5)[0].tolist() == [0, 1, 2]
    assert herd(np.empty((0, 2)), 5)[0].tolist() == []
