"""Loops of dense registration against their twins."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from avfuse._kernels.registration import gradient_moments, seen_through

pytestmark = pytest.mark.kernel


@given(
    st.integers(0, 2**32 - 1), st.integers(2, 7), st.integers(2, 8), st.integers(1, 6), st.integers(1, 6),
    st.booleans(),
)  # fmt: skip
@settings(max_examples=40)
def test_what_is_seen_through_a_map_agrees_with_its_twin(seed, rows, columns, height, width, bent):
    rng = np.random.default_rng(seed)
    image = rng.uniform(0, 255, (rows, columns)).astype(np.float32)
    matrix = np.eye(3) + rng.normal(0, [[0.2, 0.2, 1], [0.2, 0.2, 1], [0.1 * bent, 0.1 * bent, 0]])
    found, expected = seen_through(image, matrix, height, width), reference.seen_through(image, matrix, height, width)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    np.testing.assert_allclose(found, expected, atol=1e-2)


def test_an_image_through_the_identity_is_itself_and_absent_pixels_spread():
    image = np.arange(42, dtype=np.float32).reshape(6, 7)
    np.testing.assert_allclose(seen_through(image, np.eye(3), 6, 7), image, atol=1e-4)
    image[0, 0] = np.nan
    assert np.isnan(seen_through(image, np.eye(3), 6, 7)[:2, :2]).all()


@given(st.integers(0, 2**32 - 1), st.integers(1, 2), st.integers(3, 7), st.integers(3, 8), st.floats(0.1, 10.0))
@settings(max_examples=30)
def test_moments_of_gradients_agree_with_their_twin(seed, channels, height, width, scale):
    rng = np.random.default_rng(seed)
    own, seen = rng.normal(size=(2, channels, height, width)).astype(np.float32)
    inside = (rng.uniform(size=(height, width)) < 0.8).astype(np.float32)
    for found, expected in zip(
        gradient_moments(own, seen, inside, scale), reference.gradient_moments(own, seen, inside, scale), strict=True
    ):
        np.testing.assert_allclose(found, expected, atol=1e-4)
