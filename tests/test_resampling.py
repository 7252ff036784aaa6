"""Laws of avfuse.resampling."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import reference
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from avfuse._kernels import resampling as kernels
from avfuse.errors import StreamError
from avfuse.resampling import regroup, resample, resample_blocks

PAIRS = [
    (48000, 16000),
    (44100, 16000),
    (22050, 16000),
    (11025, 16000),
    (8000, 16000),
    (192000, 16000),
    (16000, 48000),
    (44100, 48000),
    (48000.1, 16000),  # no small fraction: interpolated phases
    (16000, 15999.3),
]


def tones(rng: np.random.Generator, top: float, count: int = 30):
    """A sum of tones below `top` Hz, as a function of time."""
    frequency = rng.uniform(20, top, count)
    phase = rng.uniform(0, 2 * np.pi, count)
    return lambda t: np.sin(2 * np.pi * np.multiply.outer(np.asarray(t), frequency) + phase).sum(axis=-1) / count


def cut(values: np.ndarray, rate: float, places: list[int], start: float = 0.0):
    edges = [0, *sorted(places), values.shape[1]]
    for first, end in pairwise(edges):
        yield start + np.arange(first, end) / rate, values[:, first:end]


@pytest.mark.parametrize(("rate_in", "rate_out"), PAIRS)
def test_a_band_limited_signal_keeps_its_values_in_time(rate_in, rate_out):
    signal = tones(np.random.default_rng(1), 15 / 16 * min(rate_in, rate_out) / 2)
    got = resample(signal(np.arange(int(rate_in)) / rate_in)[None], rate_in, rate_out)[0]
    times = np.arange(got.size) / rate_out
    inside = (times > 0.05) & (times < times[-1] - 0.05)
    error = got[inside] - signal(times[inside])
    assert np.std(error) < 1e-4 * np.std(signal(times[inside]))


@pytest.mark.parametrize(("rate_in", "rate_out"), [(48000, 16000), (44100, 16000), (48000.1, 16000), (192000, 16000)])
def test_tones_that_would_fold_into_the_band_are_80_db_down(rate_in, rate_out):
    t = np.arange(int(rate_in)) / rate_in
    for frequency in np.linspace(17 / 16 * rate_out / 2, rate_in / 2 * 0.99, 12):
        got = resample(np.sin(2 * np.pi * frequency * t)[None], rate_in, rate_out)[0]
        assert np.sqrt(2 * np.mean(got[800:-800] ** 2)) < 1e-4


def test_agrees_with_soxr_on_noise_below_the_edge():
    rng = np.random.default_rng(2)
    spectrum = np.fft.rfft(rng.standard_normal(96000))
    spectrum[np.fft.rfftfreq(96000, 1 / 48000) > 7000] = 0
    values = np.fft.irfft(spectrum)
    ours, theirs = resample(values[None], 48000, 16000)[0], soxr.resample(values, 48000, 16000, quality="VHQ")
    assert np.std((ours - theirs)[500:-500]) < 1e-4 * np.std(theirs)


@settings(max_examples=40)
@given(
    st.sampled_from(PAIRS),
    st.integers(1, 3),
    st.integers(1, 6000),
    st.lists(st.integers(0, 6000), max_size=8),
    st.integers(0, 2**32 - 1),
)
def test_how_the_input_is_cut_changes_not_one_bit(pair, channels, size, places, seed):
    rate_in, rate_out = pair
    values = np.random.default_rng(seed).standard_normal((channels, size)).astype(np.float32)
    whole = resample(values, rate_in, rate_out)
    blocks = list(resample_blocks(cut(values, rate_in, [p % (size + 1) for p in places], 3.0), rate_in, rate_out))
    np.testing.assert_array_equal(np.concatenate([v for _, v in blocks], axis=1), whole)
    times = np.concatenate([t for t, _ in blocks])
    np.testing.assert_allclose(times, 3.0 + np.arange(whole.shape[1]) / rate_out, rtol=0, atol=1e-12)
    assert whole.shape[1] == int(np.ceil(size * rate_out / rate_in - 1e-9))


def test_each_side_of_a_gap_is_as_if_alone():
    rng = np.random.default_rng(3)
    a, b = rng.standard_normal((1, 4801)).astype(np.float32), rng.standard_normal((1, 3000)).astype(np.float32)
    blocks = [(np.arange(4801) / 48000, a), (0.2 + np.arange(3000) / 48000, b)]
    got = list(resample_blocks(iter(blocks), 48000, 16000))
    times = np.concatenate([t for t, _ in got])
    values = np.concatenate([v for _, v in got], axis=1)
    np.testing.assert_array_equal(values[:, times < 0.15], resample(a, 48000, 16000))
    np.testing.assert_array_equal(values[:, times > 0.15], resample(b, 48000, 16000))
    assert times[times > 0.15][0] == 0.2


@given(st.lists(st.integers(1, 700), min_size=1, max_size=8), st.integers(1, 500), st.integers(0, 8))
def test_regrouped_sound_has_even_blocks_and_every_sample_at_its_time(sizes, size, gap_at):
    pieces, start, count = [], 1.0, 0
    for k, n in enumerate(sizes):
        start += 0.5 if k == gap_at and k > 0 else 0.0
        pieces.append((start, np.arange(count, count + n, dtype=np.float32)[None]))
        start, count = start + n / 1000, count + n
    blocks = list(regroup(pieces, size, 1000.0))
    expected = np.concatenate([s + np.arange(v.shape[1]) / 1000 for s, v in pieces])
    np.testing.assert_allclose(np.concatenate([t for t, _ in blocks]), expected, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(np.concatenate([v[0] for _, v in blocks]), np.arange(count))
    assert all(t.size <= size for t, _ in blocks)
    assert sum(t.size < size for t, _ in blocks) <= (2 if 0 < gap_at < len(sizes) else 1)


@pytest.mark.parametrize("rate", [0.0, -1.0, np.nan, np.inf])
def test_rates_that_are_not_positive_are_refused(rate):
    with pytest.raises(StreamError, match="rate_out"):
        resample(np.zeros((1, 10)), 48000, rate)


@pytest.mark.kernel
@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 5), st.integers(0, 9), st.integers(0, 2**32 - 1))
def test_polyphase_kernel_agrees_with_its_twin(channels, groups, pairs, first, seed):
    rng = np.random.default_rng(seed)
    width, advance = 32, int(rng.integers(1, 20))
    taps = rng.standard_normal((groups, 4, width)).astype(np.float32)
    origins = np.sort(rng.integers(0, 30, groups))
    values = rng.standard_normal((channels, first + 2 * pairs * advance + 30 + width)).astype(np.float32)
    got = kernels.polyphase(values, taps, origins, advance, first, 2 * pairs)
    want = reference.polyphase(values, taps, origins, advance, first, 2 * pairs)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-4)


@pytest.mark.kernel
@given(st.integers(1, 3), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_interpolated_kernel_agrees_with_its_twin(channels, count, seed):
    rng = np.random.default_rng(seed)
    taps = rng.standard_normal((9, 16)).astype(np.float32)
    starts, phases, weights = rng.integers(0, 80, count), rng.integers(0, 8, count), rng.uniform(0, 1, count)
    values = rng.standard_normal((channels, 96)).astype(np.float32)
    got = kernels.interpolated(values, taps, starts, phases, weights)
    want = reference.interpolated(values, taps, starts, phases, weights)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-4)
