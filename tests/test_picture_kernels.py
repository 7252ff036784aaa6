"""The loop over lit rows against its twin."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from avfuse._kernels.picture import block_means, lit_residuals, lost_velocity

pytestmark = pytest.mark.kernel


@given(
    st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(2, 6), st.integers(2, 9),
    st.floats(0.0, 0.04), st.floats(0.001, 0.03), st.floats(0.001, 0.2),
)  # fmt: skip
@settings(max_examples=40)
def test_what_flashes_leave_agrees_with_its_twin(seed, events, frames, height, readout, exposure, lasting):
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.uniform(0.01, 0.05, events * frames))
    rows = rng.normal(5.0, 10.0, (events * frames, height))
    first = np.arange(events) * frames
    onsets = times[first] + rng.uniform(0.0, 0.06, events)
    arguments = (times, rows, first, first + frames, onsets, readout, exposure, lasting)
    expected = reference.lit_residuals(*arguments)
    found = lit_residuals(*arguments)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6 * np.sum(rows**2))


@given(
    st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 3), st.integers(1, 4), st.integers(1, 4),
    st.integers(0, 3), st.integers(0, 3),
)  # fmt: skip
@settings(max_examples=40)
def test_small_pictures_agree_with_their_twin(seed, block, step, rows, columns, top, left):
    image = np.random.default_rng(seed).integers(0, 256, (top + rows * block, left + columns * block)).astype(np.uint8)
    arguments = (image, top, left, block, step, rows, columns)
    # Half way between two steps either is right.
    assert np.abs(block_means(*arguments).astype(int) - reference.block_means(*arguments)).max() <= 1


@given(st.integers(0, 2**32 - 1), st.integers(2, 5), st.integers(1, 3), st.integers(1, 3), st.integers(0, 3))
@settings(max_examples=40)
def test_velocity_that_is_lost_agrees_with_its_twin(seed, cell, rows, columns, more):
    rng = np.random.default_rng(seed)
    shape = (rows * cell + more, columns * cell + more)
    back, ahead = rng.normal(0.0, 2.0, (2, *shape, 2)).astype(np.float32)
    image, before, after = rng.integers(0, 256, (3, *shape)).astype(np.uint8)
    before = np.where(rng.random(shape) < 0.3, image, before)  # where nothing changes
    shake = rng.normal(0.0, 0.5, 4).astype(np.float32)
    arguments = (back, ahead, shake, image, before, after, 0.04, 0.033, 0.3, 240.0, cell)
    np.testing.assert_allclose(lost_velocity(*arguments), reference.lost_velocity(*arguments), rtol=1e-4, atol=1e-3)


def test_light_that_fits_leaves_nothing():
    times, height = np.arange(4) / 25, 10
    down = (np.arange(height) + 0.5) / height
    middle = times[:, None] + (down - 0.5) * 0.02
    lit = np.clip(np.minimum(middle + 0.005, 0.13) - np.maximum(middle - 0.005, 0.05), 0.0, None) / 0.01
    one = np.zeros(1, np.int64)
    whole = np.full(1, 4, np.int64)
    assert lit_residuals(times, 50 * lit, one, whole, np.array([0.05]), 0.02, 0.01, 0.08)[0] < 1e-9
    assert lit_residuals(times, 50 * lit, one, whole, np.array([0.06]), 0.02, 0.01, 0.08)[0] > 100
