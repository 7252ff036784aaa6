"""The loops of steered power against their twins, and the laws they serve."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from avfuse._kernels import steering as kernels

pytestmark = pytest.mark.kernel

SEEDS = st.integers(0, 2**32 - 1)


@given(SEEDS, st.integers(0, 6), st.integers(2, 40), st.integers(0, 30))
@settings(max_examples=40)
def test_lag_sums_agree_with_their_twin(seed, pairs, lags, directions):
    rng = np.random.default_rng(seed)
    correlations = rng.standard_normal((pairs, lags)).astype(np.float32)
    table = rng.integers(0, 256 * (lags - 1), (pairs, directions)).astype(np.int32)
    found = kernels.lag_sums(correlations, table)
    assert found.shape == (directions,)
    np.testing.assert_allclose(found, reference.lag_sums(correlations, table), atol=1e-5)


@given(SEEDS, st.integers(1, 6), st.integers(0, 5), st.integers(1, 9))
@settings(max_examples=40)
def test_fits_agree_with_their_twin(seed, channels, frames, bins):
    rng = np.random.default_rng(seed)
    whitened = np.exp(1j * rng.uniform(-np.pi, np.pi, (channels, frames, bins))).astype(np.complex64)
    whitened[:, rng.random((frames, bins)) < 0.2] = 0  # silence
    steering = np.exp(1j * rng.uniform(-np.pi, np.pi, (channels, bins))).astype(np.complex64)
    found = kernels.fits_of_directions(whitened, steering)
    np.testing.assert_allclose(found, reference.fits_of_directions(whitened, steering), atol=1e-5)


@given(SEEDS, st.integers(2, 6))
@settings(max_examples=20)
def test_a_plane_wave_fits_exactly_whatever_the_phase_of_its_source(seed, channels):
    rng = np.random.default_rng(seed)
    steering = np.exp(1j * rng.uniform(-np.pi, np.pi, (channels, 7))).astype(np.complex64)
    source = np.exp(1j * rng.uniform(-np.pi, np.pi, (4, 7)))
    whitened = (steering[:, None] * source).astype(np.complex64)
    np.testing.assert_allclose(kernels.fits_of_directions(whitened, steering), 1.0, atol=1e-5)
