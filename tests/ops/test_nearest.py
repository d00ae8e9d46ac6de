"""Nearest rows against trying all pairs, exactly."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from raydd.ops.nearest import nearest_rows


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(0, 12), st.integers(0, 12))
def test_nearest_rows_are_those_of_all_pairs(seed, num_queries, num_rows):
    draws = np.random.default_rng(seed)
    queries, rows = (draws.integers(0, 4, (n, 5), np.uint8) * 85 for n in (num_queries, num_rows))
    asked, given_ = (draws.integers(0, 3, n) for n in (num_queries, num_rows))
    nearest, squares = nearest_rows(queries, asked, rows, given_)
    for i in range(num_queries):
        pairs = [
            (int(np.square(queries[i].astype(int) - rows[j]).sum()), j)
            for j in range(num_rows)
            if given_[j] == asked[i]
        ]
        assert (squares[i], nearest[i]) == (min(pairs) if pairs else (0, -1))


def test_sums_beyond_single_precision_are_exact():
    black, white = np.zeros((1, 3 * 64 * 64), np.uint8), np.full((1, 3 * 64 * 64), 255, np.uint8)
    white[0, 0] = 254
    _, squares = nearest_rows(black, np.zeros(1), white, np.zeros(1))
    assert squares[0] == (3 * 64 * 64 - 1) * 255**2 + 254**2
