"""The loops that follow a lag against their twins, and the laws they serve."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from avfuse._kernels import tracking as kernels

pytestmark = pytest.mark.kernel

SEEDS = st.integers(0, 2**32 - 1)


@given(SEEDS, st.integers(1, 9), st.integers(1, 14), st.integers(1, 3), st.integers(1, 5), st.integers(1, 6))
@settings(max_examples=40)
def test_lag_products_agree_with_their_twin(seed, n, m, width, block, lags):
    rng = np.random.default_rng(seed)
    a, b = (rng.standard_normal((k, width)).astype(np.float32) for k in (n, m))
    first = rng.integers(-m - 2, n + 2, -(-m // block) + 1)
    found = kernels.lag_products(a, b, first, lags, block)
    np.testing.assert_allclose(found, reference.lag_products(a, b, first, lags, block), atol=1e-4)


@given(SEEDS, st.integers(1, 5), st.integers(1, 5), st.integers(0, 2), st.sampled_from([0.5, 2.0]))
@settings(max_examples=60)
def test_no_path_is_worth_more_than_the_best(seed, groups, lags, steps, step_cost):
    rng = np.random.default_rng(seed)
    scores = rng.standard_normal((groups, lags)).astype(np.float32)
    moved = rng.integers(-2, 3, groups)
    arguments = (scores, moved, steps, step_cost, 1.5)
    path = kernels.best_path(*arguments)
    assert np.all((path >= 0) & (path < lags))
    best = reference.best_path_value(*arguments)
    assert reference.path_value(*arguments, path) == pytest.approx(best, abs=1e-4)


def test_a_path_stays_where_nothing_speaks_for_moving():
    assert np.ptp(kernels.best_path(np.zeros((20, 9), np.float32), np.zeros(20, np.int64), 2, 0.0, 0.0)) == 0


def test_a_path_that_stays_follows_columns_that_move():
    scores = np.zeros((6, 12), np.float32)
    moved = np.array([0, 2, -1, 0, 3, 0])
    scores[0, 8] = 9.0
    np.testing.assert_array_equal(kernels.best_path(scores, moved, 1, 1.0, 5.0), 8 - np.cumsum(moved))
