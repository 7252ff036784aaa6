"""Joint histograms against their twins, and what an information distance must obey."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from avfuse._kernels.information import entropies, joint_moments, position_slopes, spread_moments
from avfuse.errors import StreamError
from avfuse.spatial.images.information import JointInformation, information_distance


def made(seed, n, height, width, bins):
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, bins + 1, n).astype(np.uint8)
    rows[rows == bins] = 255
    image = rng.uniform(0, bins - 1.001, (height, width)).astype(np.float32)
    # On a grid of 1/8 pixel single precision is exact, as are places on the very edge.
    positions = rng.integers(-8, 8 * (max(height, width) + 1), (n, 2)) / 8
    positions[rng.uniform(size=n) < 0.05] = np.nan
    return rows, image, positions


@pytest.mark.kernel
@given(st.integers(0, 2**32 - 1), st.integers(0, 40), st.integers(2, 7), st.integers(2, 9), st.sampled_from([2, 5, 16]))
@settings(max_examples=40)
def test_joint_moments_agree_with_their_twin(seed, n, height, width, bins):
    rows, image, positions = made(seed, n, height, width, bins)
    expected = reference.joint_moments(rows, image, positions, bins)
    np.testing.assert_allclose(joint_moments(rows, image, positions, bins), expected, atol=1e-4)


@pytest.mark.kernel
@given(st.integers(0, 2**32 - 1), st.integers(0, 40), st.integers(2, 7), st.integers(2, 9), st.sampled_from([2, 5, 16]))
@settings(max_examples=40)
def test_slopes_agree_with_their_twin(seed, n, height, width, bins):
    rows, image, positions = made(seed, n, height, width, bins)
    polynomials = np.random.default_rng(seed).normal(size=(bins, bins, 3)).astype(np.float32)
    expected = reference.position_slopes(rows, image, positions, polynomials)
    np.testing.assert_allclose(position_slopes(rows, image, positions, polynomials), expected, atol=2e-3)


@pytest.mark.kernel
@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 5, 16]), st.sampled_from([0.0, 0.5, 1.0]))
@settings(max_examples=20)
def test_histograms_and_entropies_agree_with_their_twins(seed, bins, filled):
    rng = np.random.default_rng(seed)
    moments = rng.uniform(0, 9, (bins, bins, 4)) * (rng.uniform(size=(bins, bins, 1)) < filled)
    spline = rng.uniform(size=(4, 4))
    histogram = spread_moments(moments, spline)
    np.testing.assert_allclose(histogram, reference.spread_moments(moments, spline), rtol=1e-12)
    np.testing.assert_allclose(entropies(histogram), reference.entropies(histogram), atol=1e-12)


@pytest.mark.kernel
def test_sums_do_not_depend_on_where_blocks_end():
    rows, image, positions = made(3, 600, 6, 8, 16)
    whole = joint_moments(rows, image, positions, 16)
    parts = [joint_moments(rows[k : k + 101], image, positions[k : k + 101], 16) for k in range(0, 600, 101)]
    np.testing.assert_allclose(whole, np.sum(parts, axis=0), atol=1e-4)


@pytest.fixture(scope="module")
def scene():
    """A smooth image, and where a grid of points lies on it."""
    from scipy.ndimage import gaussian_filter

    image = gaussian_filter(np.random.default_rng(0).normal(size=(120, 160)), 4)
    y, x = np.mgrid[20:100:1.3, 20:140:1.3]
    return image, np.stack([x.ravel(), y.ravel()], axis=1)


def sampled(image, positions):
    from scipy.ndimage import map_coordinates

    return map_coordinates(image, positions.T[::-1], order=1)


@pytest.mark.parametrize("seen_as", [lambda v: v, lambda v: -v, lambda v: v**2, lambda v: np.exp(9 * v)])
def test_the_distance_is_least_where_the_values_belong(scene, seen_as):
    image, positions = scene
    joint = JointInformation(seen_as(sampled(image, positions)), image)
    best = joint.distance(positions)
    away = [joint.distance(positions + 3 * np.array([np.cos(a), np.sin(a)])) for a in np.linspace(0, 6, 8)]
    assert min(away) > best + 0.1


def test_slopes_are_those_of_the_distance(scene):
    image, positions = scene
    joint = JointInformation(-(sampled(image, positions) ** 2), image)
    moved = positions + np.array([1.3, -0.7])
    distance, slopes = joint.slopes(moved)
    assert distance == joint.distance(moved)
    for axis in np.eye(2):
        step = 0.01 * axis
        numeric = (joint.distance(moved + step) - joint.distance(moved - step)) / 0.02
        assert slopes.sum(axis=0) @ axis == pytest.approx(numeric, abs=1e-3)
    assert abs(slopes.sum(axis=0)).min() > 1e-2


def test_what_shares_nothing_is_far_and_gains_no_information(scene):
    image, positions = scene
    joint = JointInformation(np.random.default_rng(1).normal(size=len(positions)), image)
    assert joint.distance(positions) > 0.95
    assert joint.mutual_information(positions) < 0.05


def test_every_point_inside_counts_once(scene):
    image, positions = scene
    values = sampled(image, positions)
    values[:7] = np.nan
    positions = positions.copy()
    positions[7:12] = -3.0
    assert JointInformation(values, image).histogram(positions).sum() == pytest.approx(len(values) - 12)


def test_scale_and_unit_of_the_values_do_not_matter(scene):
    image, positions = scene
    values = sampled(image, positions)
    one = information_distance(values, image, positions)[0]
    assert information_distance(1e4 * values - 77, 255 * image, positions)[0] == pytest.approx(one, abs=2e-3)


def test_nothing_inside_is_as_far_as_can_be(scene):
    image, positions = scene
    distance, slopes = information_distance(sampled(image, positions), image, positions + 1e4)
    assert distance == 1.0
    assert not slopes.any()


@pytest.mark.parametrize(
    ("values", "image", "positions", "says"),
    [
        (np.zeros((3, 2)), np.zeros((4, 4)), np.zeros((3, 2)), "reference_values"),
        (np.zeros(3), np.zeros(4), np.zeros((3, 2)), "image"),
        (np.zeros(3), np.zeros((1, 4)), np.zeros((3, 2)), "image"),
        (np.zeros(3), np.zeros((4, 4)), np.zeros((2, 2)), "positions"),
        (np.array(["a"]), np.zeros((4, 4)), np.zeros((1, 2)), "reference_values"),
    ],
)
def test_arrays_that_do_not_fit_are_named(values, image, positions, says):
    with pytest.raises(StreamError, match=says) as caught:
        information_distance(values, image, positions)
    assert "\n" not in str(caught.value)
