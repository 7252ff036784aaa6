"""Laws of elastic time: paths, maps, refusals, and the live follower."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avfuse.clock import ClockMap, PiecewiseClock, Segment, WarpPath
from avfuse.errors import StreamError, WeakAlignmentError
from avfuse.features import HarmonyExtractor, harmony
from avfuse.simulation.performances import PerformancePair, simulate_performances, tempo_map
from avfuse.simulation.sounds import make_sound
from avfuse.stream import Stream
from avfuse.temporal import WarpEstimate, WarpFollower, dtw, estimate_warp

RATE = 16000.0
SEEDS = st.integers(0, 2**32 - 1)


def sound(samples: np.ndarray, start: float = 0.0) -> Stream:
    return Stream.from_samples(samples, rate=RATE, start=start)


@pytest.fixture(scope="module")
def pair() -> PerformancePair:
    return simulate_performances(45.0, np.random.default_rng(21), noise_db=-20.0)


@pytest.fixture(scope="module")
def estimate(pair: PerformancePair) -> WarpEstimate:
    return estimate_warp(pair.reference, pair.moving)


# The map


def some_path(seed: int, n: int = 8) -> WarpPath:
    rng = np.random.default_rng(seed)
    return WarpPath(
        rng.uniform(-5, 5) + np.cumsum(rng.uniform(0.1, 2, n)),
        rng.uniform(-5, 5) + np.cumsum(rng.uniform(0.1, 2, n)),
        rng.random(n),
    )


@given(SEEDS)
def test_a_path_and_its_inverse_cancel(seed):
    path = some_path(seed)
    t = np.linspace(*path.span, 50)
    np.testing.assert_allclose(path.inverse()(path(t)), t, atol=1e-9)
    np.testing.assert_allclose(path.inverse().confidence_at(path(t)), path.confidence_at(t), atol=1e-9)


@given(SEEDS, st.floats(-3, 3), st.floats(-0.3, 0.3))
def test_clocks_before_and_after_a_path(seed, offset, drift):
    path, clock = some_path(seed), ClockMap(offset, drift)
    t = np.linspace(*path.span, 20)[1:-1]
    np.testing.assert_allclose((clock @ path)(t), clock(path(t)), atol=1e-9)
    back = clock.inverse()(t)
    np.testing.assert_allclose((path @ clock)(back), path(t), atol=1e-9)


@given(SEEDS)
def test_paths_one_after_the_other(seed):
    inner = some_path(seed)
    outer = WarpPath(inner.reference_times[1:6] + 0.05, np.cumsum(np.arange(1.0, 6.0)), np.full(5, 0.5))
    t = np.linspace(*inner.span, 200)
    both = (outer @ inner)(t)
    expected = outer(inner(t))
    known = np.isfinite(both)
    assert known.any()
    np.testing.assert_allclose(both[known], expected[known], atol=1e-9)
    assert np.count_nonzero(known != np.isfinite(expected)) <= 2  # at the very ends


def test_nothing_is_known_outside_the_span():
    path = WarpPath(np.array([1.0, 2.0]), np.array([5.0, 5.5]), np.array([0.2, 0.4]))
    assert np.isnan(path([0.999, 2.001])).all()
    np.testing.assert_allclose(path([1.0, 1.5, 2.0]), [5.0, 5.25, 5.5])
    np.testing.assert_allclose(path.tempo([1.0, 2.0]), 0.5)
    assert np.isnan(path.tempo(3.0))
    assert path.confidence_at(1.5) == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("times", "mapped", "says"),
    [
        ([0.0], [0.0], "n >= 2"),
        ([0.0, 1.0], [0.0, 0.0], "strictly rising"),
        ([0.0, np.nan], [0.0, 1.0], "strictly rising"),
        ([0.0, 1.0, 2.0], [0.0, 1.0], "expected both"),
    ],
)
def test_paths_that_do_not_rise_are_refused(times, mapped, says):
    with pytest.raises(StreamError, match=says):
        WarpPath(np.array(times), np.array(mapped))


def test_what_does_not_compose_is_refused():
    path = WarpPath(np.array([0.0, 1.0]), np.array([10.0, 11.0]))
    with pytest.raises(StreamError, match="expected an overlap"):
        path @ path
    with pytest.raises(TypeError):
        PiecewiseClock((Segment(0.0, 1.0, 0.0),)) @ path
    with pytest.raises(StreamError, match=r"outside 0 \.\.\. 1"):
        WarpPath(np.array([0.0, 1.0]), np.array([0.0, 1.0]), np.array([0.5, 1.5]))


# The path of cells


@given(SEEDS, st.integers(2, 40), st.integers(2, 40), st.booleans())
@settings(max_examples=30)
def test_swapping_keeps_the_cost(seed, rows, columns, limited):
    rng = np.random.default_rng(seed)
    x, y = rng.random((rows, 5)), rng.random((columns, 5))
    steps = dtw.LIMITED if limited else dtw.FREE
    if limited and max(rows - 1, columns - 1) > 2 * min(rows - 1, columns - 1):
        with pytest.raises(WeakAlignmentError, match="twice as long"):
            dtw.exact_path(y, x, steps=steps)
        return
    there, back = dtw.exact_path(y, x, steps=steps), dtw.exact_path(x, y, steps=steps)
    assert there.cost == pytest.approx(back.cost, rel=1e-12)
    np.testing.assert_array_equal(there.cells, back.cells[:, ::-1])  # no ties among random numbers


@given(SEEDS, st.integers(1, 40), st.integers(1, 40))
@settings(max_examples=30)
def test_time_reversed_sequences_have_the_reversed_path(seed, rows, columns):
    """Where every step weighs the same; otherwise the weight belongs to the cell where a step ends."""
    rng = np.random.default_rng(seed)
    x, y = rng.random((rows, 5)), rng.random((columns, 5))
    steps = dtw.Steps(weights=(1.0, 1.0, 1.0))
    there, back = dtw.exact_path(y, x, steps=steps), dtw.exact_path(y[::-1], x[::-1], steps=steps)
    assert there.cost == pytest.approx(back.cost, rel=1e-12)
    np.testing.assert_array_equal(there.cells, np.array([rows - 1, columns - 1]) - back.cells[::-1])


def stretched(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Smooth features, and the same at another tempo."""
    y = np.cumsum(rng.standard_normal((n, 6)), axis=0)
    at = np.interp(np.arange(n), np.linspace(0, n - 1, 7), np.sort(rng.uniform(0, n - 1, 7)))
    at[0], at[-1] = 0, n - 1
    return y, y[np.round(at).astype(int)] + 0.1 * rng.standard_normal((n, 6))


@pytest.mark.parametrize("seed", range(4))
def test_the_multiscale_path_is_no_cheaper_and_seldom_dearer(seed):
    y, x = stretched(np.random.default_rng(seed), 600)
    exact = dtw.exact_path(y, x)
    major = dtw.feature_major("x", x), dtw.feature_major("y", y)
    near = dtw._multiscale(*major, dtw.FREE, False, False, 10, 2e4)
    assert near.radius is not None
    assert exact.cost <= near.cost * (1 + 1e-12)
    assert near.cost <= 1.001 * exact.cost


def test_a_band_that_is_too_narrow_widens():
    """A detour that the coarse path cannot see: the path touches the edges until they are far enough."""
    rng = np.random.default_rng(5)
    y, x = stretched(rng, 600)
    major = dtw.feature_major("x", x), dtw.feature_major("y", y)
    near = dtw._multiscale(*major, dtw.FREE, False, False, 1, 2e4)
    assert near.radius is not None
    assert near.radius > 1
    assert near.cost == pytest.approx(dtw.exact_path(y, x).cost, rel=1e-3)


def test_a_part_is_found_within_the_whole():
    rng = np.random.default_rng(3)
    y = np.cumsum(rng.standard_normal((400, 6)), axis=0)
    found = dtw.exact_path(y, y[150:270], subsequence=True)
    np.testing.assert_array_equal(found.cells, np.stack([np.arange(120), np.arange(150, 270)], axis=1))
    assert found.cost == 0


def test_limited_steps_keep_the_slope():
    y, x = stretched(np.random.default_rng(8), 300)
    steps = np.diff(dtw.exact_path(y, x, steps=dtw.LIMITED).cells, axis=0)
    assert {tuple(s) for s in steps} <= {(1, 1), (1, 2), (2, 1)}


@pytest.mark.parametrize(
    ("reference", "moving", "says"),
    [
        (np.zeros((0, 3)), np.zeros((4, 3)), "at least one frame"),
        (np.zeros((4, 3)), np.zeros((4, 2)), "3 dimensions in the reference and 2"),
        (np.full((4, 3), np.nan), np.zeros((4, 3)), "NaN or infinite"),
    ],
)
def test_features_that_do_not_fit_are_refused(reference, moving, says):
    with pytest.raises(StreamError, match=says):
        dtw.exact_path(reference, moving)


# Features


def test_features_do_not_depend_on_gain_polarity_or_how_the_sound_is_cut(pair):
    samples = np.asarray(pair.moving.values)[:, : 8 * 16000]
    whole = harmony(sound(samples)).values
    np.testing.assert_allclose(harmony(sound(np.float32(0.1) * samples)).values, whole, atol=2e-3)
    stereo = np.concatenate([samples, -samples])
    np.testing.assert_allclose(harmony(sound(stereo)).values, whole, atol=1e-4)
    extractor = HarmonyExtractor()
    cuts = np.sort(np.random.default_rng(1).integers(0, samples.shape[1], 40))
    pieces = [extractor.push(part) for part in np.split(samples, cuts, axis=1)] + [extractor.flush()]
    np.testing.assert_allclose(np.concatenate(pieces), whole, atol=1e-5)


# The estimate


def test_a_warped_performance_is_found(pair, estimate):
    assert estimate.status == "aligned"
    assert estimate.confidence >= 0.98
    t = np.arange(0.0, pair.moving.duration, 0.02)
    error = np.abs(estimate.map(t) - pair.truth(t))
    error = error[np.isfinite(error)]
    assert len(error) > 0.98 * len(t)
    assert np.median(error) <= 0.015
    assert np.percentile(error, 95) <= 0.05


def test_swapping_the_streams_inverts_the_map(pair, estimate):
    back = estimate_warp(pair.moving, pair.reference)
    t = np.linspace(*estimate.map.span, 300)
    np.testing.assert_allclose(back.map(estimate.map(t))[1:-1], t[1:-1], atol=1e-9)


def test_starts_and_gain_move_the_map_as_they_should(pair, estimate):
    late = sound(np.float32(0.2) * np.asarray(pair.moving.values), start=7.5)
    early = sound(np.asarray(pair.reference.values), start=-3.0)
    moved = estimate_warp(early, late).map
    t = np.linspace(1.0, 40.0, 100)
    np.testing.assert_allclose(moved(t + 7.5), estimate.map(t) - 3.0, atol=5e-3)


def test_features_of_the_caller_give_the_same(pair, estimate):
    given_features = estimate_warp(harmony(pair.reference), harmony(pair.moving))
    t = np.linspace(0, 44, 100)
    np.testing.assert_array_equal(given_features.map(t), estimate.map(t))


def test_a_part_of_a_performance_is_found_within_the_whole(pair):
    part = sound(np.asarray(pair.moving.values)[:, 15 * 16000 : 35 * 16000])
    found = estimate_warp(pair.reference, part, subsequence=True)
    t = np.arange(0.5, 19.5, 0.05)
    assert np.median(np.abs(found.map(t) - pair.truth(t + 15.0))) <= 0.02


def test_a_part_that_comes_twice_is_ambiguous(pair):
    twice = np.concatenate([np.asarray(pair.reference.values)] * 2, axis=1)
    part = sound(np.asarray(pair.moving.values)[:, 15 * 16000 : 35 * 16000])
    found = estimate_warp(sound(twice), part, subsequence=True)
    assert found.status == "ambiguous"
    assert "several places" in str(found.message)
    with pytest.raises(WeakAlignmentError, match="ambiguous: it fits"):
        found.map  # noqa: B018


@pytest.mark.parametrize("kind", ["music", "speech", "digits", "loop", "impacts", "white"])
def test_unrelated_sounds_are_refused(kind):
    rng = np.random.default_rng(12)
    reference, moving = (sound(make_sound(kind, length, RATE, rng)) for length in (40.0, 46.0))
    found = estimate_warp(reference, moving)
    assert found.status == "no_match"
    assert found.path is None


def test_other_music_of_the_same_players_is_refused(pair):
    other = simulate_performances(45.0, np.random.default_rng(22), noise_db=-20.0)
    assert estimate_warp(other.reference, pair.moving).status == "no_match"


def test_silence_and_moments_hold_nothing(pair):
    assert estimate_warp(pair.reference, sound(np.zeros(10 * 16000, np.float32))).status == "degenerate"
    assert estimate_warp(sound(np.asarray(pair.reference.values)[:, :16000]), pair.moving).status == "degenerate"


def test_one_twice_as_long_as_the_other_is_refused_with_advice(pair):
    part = sound(np.asarray(pair.moving.values)[:, : 15 * 16000])
    found = estimate_warp(pair.reference, part)
    assert found.status == "no_match"
    assert "subsequence" in str(found.message)


def test_streams_of_different_kinds_or_rates_are_refused(pair):
    with pytest.raises(StreamError, match="two sounds or two feature streams"):
        estimate_warp(pair.reference, harmony(pair.moving))
    slow = Stream.from_samples(np.zeros((500, 24)), rate=25.0, kind="feature")
    with pytest.raises(StreamError, match="expected the same for both"):
        estimate_warp(harmony(pair.reference), slow)
    uneven = Stream("x", "feature", np.zeros((3, 2)), times=np.array([0.0, 1.0, 5.0]))
    with pytest.raises(StreamError, match="even rate"):
        estimate_warp(uneven, uneven)


def test_local_confidence_falls_where_something_else_is_played(pair):
    """The middle third of the moving performance is replaced by other music."""
    samples = np.array(pair.moving.values)
    other = make_sound("music", 14.0, RATE, np.random.default_rng(99))
    samples[0, 16 * 16000 : 30 * 16000] = other
    found = estimate_warp(pair.reference, sound(samples))
    same = np.concatenate([np.arange(2, 13, 0.2), np.arange(33, 43, 0.2)])
    assert found.map.confidence_at(same).mean() > 0.9
    assert found.map.confidence_at(np.arange(19, 27, 0.2)).mean() < 0.6


# Live


def follow(pair: PerformancePair, block: int, **options: float) -> tuple[np.ndarray, list[float], np.ndarray]:
    follower = WarpFollower(pair.reference, rate=RATE, **options)
    samples = np.asarray(pair.moving.values)[0]
    errors, lags, told = [], [], []
    for first in range(0, len(samples), block):
        where = follower.push(samples[first : first + block])
        if where is not None:
            errors.append(where.reference_time - float(pair.truth(where.time)))
            lags.append(min(first + block, len(samples)) / RATE - where.time)
            told.append(where.confidence)
    return np.abs(np.array(errors)), lags, np.array(told)


def test_the_follower_keeps_up_and_is_nearly_as_good(pair, estimate):
    errors, lags, _ = follow(pair, 3200)
    t = np.arange(3.0, 44.0, 0.2)
    offline = np.abs(estimate.map(t) - pair.truth(t))
    assert max(lags) < 1.0
    assert np.median(errors) <= 2 * np.median(offline)
    assert np.percentile(errors, 95) <= 2 * max(np.percentile(offline, 95), 0.025)


def test_the_follower_says_that_it_does_not_know():
    one, other = (simulate_performances(20.0, np.random.default_rng(s)) for s in (31, 32))
    mixed = PerformancePair(other.reference, one.moving, one.truth)
    assert follow(mixed, 8000)[2].mean() < 0.7


def test_the_follower_takes_features_and_other_rates(pair):
    frames = np.asarray(harmony(pair.moving).values)
    follower = WarpFollower(harmony(pair.reference))
    where = follower.push(frames[:500])
    assert where is not None
    assert abs(where.reference_time - float(pair.truth(where.time))) < 0.1
    live = WarpFollower(pair.reference, rate=48000.0)
    assert live.push(np.zeros((2, 480), np.float32)) is None
    with pytest.raises(StreamError, match="live sound of shape"):
        live.push(np.zeros((3, 480), np.float32))
    with pytest.raises(StreamError, match="NaN"):
        live.push(np.full((2, 480), np.nan))
    with pytest.raises(StreamError, match="give the rate"):
        WarpFollower(pair.reference)


@given(SEEDS, st.floats(0.5, 0.9), st.floats(1.0, 1.8))
@settings(max_examples=30)
def test_simulated_tempo_stays_in_its_range(seed, low, high):
    slopes = tempo_map(30.0, np.random.default_rng(seed), tempo=(low, high)).tempo(np.arange(0.01, 29.9, 0.1))
    assert slopes.min() >= low - 1e-9
    assert slopes.max() <= high + 1e-9
