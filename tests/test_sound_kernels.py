"""The loops of the sound estimators against their twins, and the laws they serve."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from avfuse._kernels import sound as kernels

pytestmark = pytest.mark.kernel

SEEDS = st.integers(0, 2**32 - 1)
FRAMES = st.integers(1, 12)
BINS = st.integers(2, 24)


def spectra(rng: np.random.Generator, frames: int, bins: int) -> np.ndarray:
    """Noise whose frames differ in level by 60 dB, some of them silent."""
    levels = 10 ** rng.uniform(-2, 1, (frames, 1)) * (rng.random((frames, 1)) > 0.2)
    both = rng.standard_normal((2, frames, bins))
    return (levels * (both[0] + 1j * both[1])).astype(np.complex64)


def close(found: np.ndarray, expected: np.ndarray, tolerance: float = 2e-5) -> None:
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * (np.abs(expected).max() + 1e-12))


@given(SEEDS, FRAMES, BINS, st.integers(1, 4))
@settings(max_examples=40)
def test_cross_groups_agree_with_their_twin(seed, frames, bins, groups):
    rng = np.random.default_rng(seed)
    arguments = (
        spectra(rng, frames, bins),
        spectra(rng, frames, bins),
        rng.uniform(-1, 1, frames),
        rng.integers(0, groups, frames),  # in any order, some groups empty
        groups,
    )
    for found, expected in zip(kernels.cross_groups(*arguments), reference.cross_groups(*arguments), strict=True):
        close(found, expected)


@given(SEEDS, FRAMES, BINS, st.integers(1, 9))
@settings(max_examples=40)
def test_slant_stacks_agree_with_their_twin(seed, groups, bins, count):
    rng = np.random.default_rng(seed)
    arguments = (spectra(rng, groups, bins), rng.uniform(-4, 4, groups), rng.uniform(-2, 2), rng.uniform(0, 0.5), count)
    close(kernels.slant_stack(*arguments), reference.slant_stack(*arguments), 1e-4)


@given(SEEDS, FRAMES, BINS, st.floats(0, 1), st.integers(1, 4))
@settings(max_examples=40)
def test_onset_groups_agree_with_their_twin(seed, frames, bins, keep, groups):
    rng = np.random.default_rng(seed)
    arguments = (
        spectra(rng, frames, bins),
        spectra(rng, frames, bins),
        rng.uniform(-1, 1, frames),
        keep,
        rng.integers(0, groups, frames),
        groups,
    )
    for found, expected in zip(kernels.onset_groups(*arguments), reference.onset_groups(*arguments), strict=True):
        close(found, expected, 1e-4)


@given(SEEDS, FRAMES, BINS, st.integers(1, 5))
@settings(max_examples=40)
def test_triangle_powers_agree_with_their_twin(seed, frames, bins, bands):
    rng = np.random.default_rng(seed)
    interval = np.sort(rng.integers(-1, bands + 1, bins))
    arguments = (spectra(rng, frames, bins), interval, rng.random(bins).astype(np.float32), bands)
    close(kernels.triangle_powers(*arguments), reference.triangle_powers(*arguments))


@given(SEEDS, st.floats(-0.5, 0.5))
@settings(max_examples=20)
def test_a_frame_read_too_early_is_turned_back(seed, late):
    """y read `late` samples early is y delayed by `late`: after the turn both spectra have equal phase."""
    rng = np.random.default_rng(seed)
    x = spectra(rng, 6, 17)
    y = (x * np.exp(-1j * np.pi * np.arange(17) / 16 * late)).astype(np.complex64)
    _, cross, power_x, _ = kernels.cross_groups(x, y, np.full(6, late), np.zeros(6, np.int64), 1)
    np.testing.assert_allclose(cross, power_x, atol=2e-5 * power_x.max() + 1e-12)


@given(SEEDS, st.floats(1e-3, 1e3))
@settings(max_examples=20)
def test_gain_does_not_change_what_is_whitened(seed, gain):
    rng = np.random.default_rng(seed)
    x, y, late, group = spectra(rng, 6, 17), spectra(rng, 6, 17), rng.uniform(-1, 1, 6), np.arange(6) // 3
    louder = (gain * x).astype(np.complex64)
    close(kernels.cross_groups(louder, y, late, group, 2)[0], kernels.cross_groups(x, y, late, group, 2)[0], 1e-4)


@given(SEEDS, st.floats(-1.5, 1.5))
@settings(max_examples=20)
def test_the_right_slope_stacks_to_the_full_height(seed, slope):
    """Groups that drift by `slope` line up at that slope, and nowhere higher."""
    rng = np.random.default_rng(seed)
    lateness = rng.uniform(-3, 3, 8)
    phase = np.exp(-1j * np.outer(slope * lateness, np.pi * np.arange(33) / 32)).astype(np.complex64)
    stacks = kernels.slant_stack(phase, lateness, slope - 0.5, 0.25, 5).real.sum(axis=1)
    assert np.argmax(stacks) == 2
    assert stacks[2] == pytest.approx(8 * 33, rel=1e-4)


def test_a_reflection_that_follows_counts_less_than_what_rises_first():
    """Sound starts at frame 4 and lasts: its first frame is an onset, what goes on is none."""
    x = np.full((8, 9), 1e-3, np.complex64)
    x[4:] = 1.0
    plain, broad, fine, mass, square = kernels.onset_groups(x, x, np.zeros(8), 0.0, np.zeros(8, np.int64), 1)
    np.testing.assert_allclose(plain, 8.0)
    np.testing.assert_allclose(broad, 9.0)  # rises are limited to 3, one at each device
    np.testing.assert_allclose(fine, 9.0)
    np.testing.assert_allclose(mass, 9.0)
    np.testing.assert_allclose(square, 81.0)
