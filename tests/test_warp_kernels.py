"""The loops of elastic time against their twins: exact costs, exact paths, ties included."""

from __future__ import annotations

import numba
import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from avfuse._kernels import warp as kernels
from avfuse.errors import WeakAlignmentError
from avfuse.temporal import dtw

pytestmark = pytest.mark.kernel

SEEDS = st.integers(0, 2**32 - 1)
LENGTHS = st.integers(1, 22)
WEIGHTS = st.tuples(*3 * [st.sampled_from([0.7, 1.0, 2.0, 3.0])])


def frames(rng: np.random.Generator, n: int, dims: int, levels: int) -> np.ndarray:
    """Few levels make many ties, as silence and held notes do."""
    return rng.integers(0, levels + 1, (n, dims)).astype(np.float64) / rng.choice([1.0, 3.0])


@given(SEEDS, LENGTHS, LENGTHS, st.integers(1, 6), WEIGHTS, *4 * [st.booleans()], st.integers(1, 8), st.integers(1, 8))
@settings(max_examples=150)
def test_exact_paths_are_those_of_the_whole_matrix(
    seed, rows, columns, dims, weights, limited, free, rooted, nested, block, strip
):
    """Whatever the blocks, with grids within grids where `nested`."""
    rng = np.random.default_rng(seed)
    x, y = frames(rng, rows, dims, 1 + seed % 5), frames(rng, columns, dims, 1 + seed % 5)
    cost, path = reference.warp_path(reference.local_costs(x, y, rooted), limited, weights, free)
    steps = dtw.Steps(limited, weights)
    with pytest.MonkeyPatch.context() as patch:
        if nested:
            patch.setattr(dtw, "_LINES", 2)
            patch.setattr(dtw, "_WHOLE", block)
        major = dtw.feature_major("x", x), dtw.feature_major("y", y)
        if path is None:
            with pytest.raises(WeakAlignmentError, match="twice as long"):
                dtw._exact(*major, steps, rooted, free, block, strip)
            return
        found = dtw._exact(*major, steps, rooted, free, block, strip)
    assert found.cost == cost
    np.testing.assert_array_equal(found.cells, path)


@pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="millions of cells, which take minutes without the JIT")
@pytest.mark.parametrize("limited", [False, True])
def test_blocks_larger_than_what_is_held_at_once_change_nothing(limited):
    rng = np.random.default_rng(3)
    # More rows than a strip and more columns than the window over them; whole numbers, so that sums are exact.
    x, y = (dtw.feature_major("f", rng.integers(0, 5, (n, 5)).astype(float)) for n in (1300, 2 * kernels.WIDE + 100))
    steps = dtw.Steps(limited, (2.0, 3.0, 3.0))
    small = dtw._exact(x, y, steps, False, True, 64, 60)
    large = dtw._exact(x, y, steps, False, True, 10_000, 10_000)
    assert small.cost == large.cost
    np.testing.assert_array_equal(small.cells, large.cells)


@given(SEEDS, LENGTHS, LENGTHS, st.integers(1, 6), WEIGHTS, *3 * [st.booleans()])
@settings(max_examples=100)
def test_paths_in_a_band_are_those_of_its_cells(seed, rows, columns, dims, weights, limited, free, rooted):
    rng = np.random.default_rng(seed)
    x, y = frames(rng, rows, dims, 3), frames(rng, columns, dims, 3)
    low = np.minimum(np.sort(rng.integers(0, columns, rows)), columns - 1)
    low[0] = 0
    high = np.maximum.accumulate(np.minimum(low + rng.integers(1, columns + 1, rows), columns))
    allowed = np.array([(np.arange(columns) >= a) & (np.arange(columns) < b) for a, b in zip(low, high, strict=True)])
    costs = reference.local_costs(x, y, rooted)
    cost, path = reference.warp_path(costs, limited, weights, free, allowed)
    found = dtw._path_in_band(
        dtw.feature_major("x", x), dtw.feature_major("y", y), low, high, dtw.Steps(limited, weights), rooted, free
    )
    if path is None:
        assert found is None
    else:
        assert found is not None
        assert found.cost == cost
        np.testing.assert_array_equal(found.cells, path)


@given(SEEDS, st.integers(1, 9), st.integers(1, 4), st.floats(0, 1))
@settings(max_examples=40)
def test_followed_peaks_agree_with_their_twin(seed, n, m, keep):
    rng = np.random.default_rng(seed)
    arguments = (rng.random((n, m), np.float32), rng.random(m, np.float32), np.float32(keep), np.float32(0.2))
    np.testing.assert_allclose(kernels.follow_peaks(*arguments), reference.follow_peaks(*arguments), rtol=1e-6)


@given(SEEDS, st.integers(2, 14))
@settings(max_examples=40)
def test_the_diagonal_of_an_inverse_agrees_with_the_inverse(seed, n):
    rng = np.random.default_rng(seed)
    lower = np.tril(np.triu(rng.uniform(-1, 1, (n, n)), -2))
    lower[np.diag_indices(n)] = rng.uniform(0.7, 2, n)
    band = np.zeros((3, n))
    for k in range(3):
        band[k, : n - k] = np.diag(lower, -k)
    expected = np.diag(np.linalg.inv(lower @ lower.T))
    np.testing.assert_allclose(kernels.inverse_diagonal(band), expected, rtol=1e-6)


@given(SEEDS, st.integers(1, 20), st.integers(1, 5), st.integers(1, 6))
@settings(max_examples=40)
def test_windowed_distances_agree_with_their_twin(seed, n, dims, half):
    rng = np.random.default_rng(seed)
    x, y = rng.random((2, dims, n), np.float32)
    arguments = (x, y, rng.integers(-n - 1, n + 2, 4), np.sort(rng.integers(0, n, 5)), half)
    found, expected = kernels.windowed_distances(*arguments), reference.windowed_distances(*arguments)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@given(SEEDS, LENGTHS, LENGTHS, st.booleans())
@settings(max_examples=40)
def test_the_cost_of_a_path_is_that_of_its_cells(seed, rows, columns, rooted):
    rng = np.random.default_rng(seed)
    x, y = rng.random((rows, 3)), rng.random((columns, 3))
    found = dtw.exact_path(y, x, steps=dtw.Steps(weights=(1.0, 1.0, 1.0)), rooted=rooted)
    i, j = found.cells.T
    local = kernels.costs_at(dtw.feature_major("x", x), dtw.feature_major("y", y), i, j, rooted)
    assert found.cost == pytest.approx(local.sum(dtype=np.float64), rel=1e-12)
    np.testing.assert_array_equal(local, reference.local_costs(x, y, rooted)[i, j])
