"""Laws of the figures that methods are judged by."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avfuse import ClockMap, StreamError, metrics

ERRORS = st.lists(st.floats(-1.0, 1.0), min_size=1, max_size=40)


@given(ERRORS, st.sampled_from(metrics.TOLERANCES))
def test_success_is_the_share_within_the_tolerance(errors: list[float], tolerance: float) -> None:
    hits = metrics.succeeds(errors, tolerance)
    assert hits.tolist() == [abs(e) <= tolerance for e in errors]


def test_nothing_stated_is_neither_success_nor_gross_nor_wrong() -> None:
    nothing = [math.nan]
    assert not metrics.succeeds(nothing, 1e9).any()
    assert not metrics.is_gross(nothing).any()
    assert not metrics.is_covered(nothing, [1.0]).any()


def test_wrong_is_beyond_five_deviations_and_a_millisecond() -> None:
    # error, std, known -> wrong
    rows = [
        (2e-3, 1e-5, 0.0, True), (2e-3, 1e-3, 0.0, False), (0.9e-3, 1e-5, 0.0, False), (-2e-3, 1e-5, 0.0, True),
        (2e-3, math.nan, 0.0, True), (0.9e-3, math.nan, 0.0, False), (2e-3, 1e-5, 1e-3, False),
    ]  # fmt: skip
    error, std, known, wrong = zip(*rows, strict=True)
    assert metrics.is_wrong(error, std, known).tolist() == list(wrong)


@given(st.floats(1e-6, 1.0), st.floats(0.0, 1.0))
def test_intervals_hold_the_truth_up_to_1_96_deviations_of_both(std: float, known: float) -> None:
    reach = 1.96 * math.hypot(std, known)
    assert metrics.is_covered([0.999 * reach], [std], [known])[0]
    assert not metrics.is_covered([1.001 * reach], [std], [known])[0]


def test_normal_errors_are_covered_95_per_cent_of_the_time() -> None:
    std = np.random.default_rng(1).uniform(1e-5, 1e-2, 20_000)
    errors = std * np.random.default_rng(2).standard_normal(len(std))
    assert metrics.is_covered(errors, std).mean() == pytest.approx(0.95, abs=0.006)


@given(st.lists(st.tuples(st.floats(0.0, 1.0), st.booleans()), min_size=1, max_size=50))
def test_every_confidence_is_in_one_level(told: list[tuple[float, bool]]) -> None:
    confidences, right = zip(*told, strict=True)
    levels = metrics.reliability(confidences, right)
    assert sum(level.count for level in levels) == len(told)
    assert sum(level.right for level in levels) == sum(right)
    assert all(level.low <= level.stated <= level.high for level in levels)


@given(st.lists(st.floats(0.0, 9.0), min_size=2, max_size=12), st.floats(0.0, 1.0), st.integers(0, 2**31))
def test_weighted_quantile_is_that_of_the_repeated_values(values: list[float], q: float, seed: int) -> None:
    ordered = np.sort(values)
    weights = np.random.default_rng(seed).integers(0, 4, (5, len(values)))
    found = metrics._weighted_quantile(ordered, weights, q)
    for row, value in zip(weights, found, strict=True):
        if row.sum() == 0:
            assert math.isnan(value)
        else:
            assert value == pytest.approx(np.quantile(np.repeat(ordered, row), q), abs=1e-9)


def test_interval_of_a_share_holds_the_truth_about_95_per_cent_of_the_time() -> None:
    rng = np.random.default_rng(3)
    held = 0
    for _ in range(200):
        hits = rng.random(60) < 0.7
        figure = metrics.share(hits, np.arange(60), rng)
        held += figure.low <= 0.7 <= figure.high
    assert 180 <= held <= 199


def test_interval_of_a_median_holds_the_truth_about_95_per_cent_of_the_time() -> None:
    rng = np.random.default_rng(4)
    held = 0
    for _ in range(200):
        figure = metrics.quantile(rng.exponential(1.0, 60), 0.5, np.arange(60), rng)
        held += figure.low <= math.log(2.0) <= figure.high
    assert 178 <= held <= 199


def test_pairs_of_one_case_are_not_taken_for_independent() -> None:
    rng = np.random.default_rng(5)
    hits = np.repeat(rng.random(20) < 0.5, 10)  # ten pairs, all or none, of each case
    together = metrics.share(hits, np.repeat(np.arange(20), 10))
    apart = metrics.share(hits, np.arange(200))
    assert together.value == apart.value
    assert together.high - together.low > 2.5 * (apart.high - apart.low)


def test_none_of_thirteen_is_not_known_to_be_none() -> None:
    none = metrics.share(np.zeros(13, bool), np.arange(13))
    assert (none.value, none.low) == (0.0, 0.0)
    # P(none of 13) is 2.5 % where each fails with this probability.
    assert (1.0 - none.high) ** 13 == pytest.approx(0.025)
    every = metrics.share(np.ones(13, bool), np.arange(13))
    assert (every.low, every.high) == (pytest.approx(1.0 - none.high), 1.0)


def test_no_values_give_no_figure() -> None:
    for figure in (metrics.share([], []), metrics.quantile([], 0.5, []), metrics.mean([math.nan], [0])):
        assert math.isnan(figure.value)
        assert figure.count == 0


def test_pairing_takes_out_what_both_methods_share() -> None:
    rng = np.random.default_rng(6)
    hard = rng.random(200) < 0.5  # half of the cases are too hard for anybody
    first, second = ~hard, ~hard & (rng.random(200) < 0.9)
    found = metrics.difference(first, second, np.arange(200))
    assert found.value == pytest.approx(first.mean() - second.mean())
    assert found.low > 0.0
    # Apart, their intervals overlap.
    assert metrics.share(first, np.arange(200)).low < metrics.share(second, np.arange(200)).high


def test_difference_of_other_pairs_is_refused() -> None:
    with pytest.raises(StreamError, match="same pairs"):
        metrics.difference([1.0], [1.0, 0.0], [0])


@given(st.floats(0.1, 10.0))
def test_ratio_of_times_has_no_favourite(factor: float) -> None:
    times = np.random.default_rng(7).uniform(0.5, 3.0, 15)
    there = metrics.ratio(factor * times, times, np.arange(15))
    back = metrics.ratio(times, factor * times, np.arange(15))
    assert there.value == pytest.approx(factor)
    assert there.value * back.value == pytest.approx(1.0)


def test_sign_test_is_the_binomial_one() -> None:
    assert metrics.sign_test(0, 0) == 1.0
    assert metrics.sign_test(5, 5) == 1.0
    assert metrics.sign_test(0, 6) == pytest.approx(2 / 64)
    assert metrics.sign_test(1, 7) == pytest.approx(2 * 9 / 256)
    assert metrics.sign_test(3, 9) == metrics.sign_test(9, 3)
    # Beyond what floats hold of 2^n, against the normal approximation with its continuity correction.
    z = (1050 - 950 - 1) / math.sqrt(2000)
    assert metrics.sign_test(950, 1050) == pytest.approx(math.erfc(z / math.sqrt(2)), rel=1e-3)


def test_consistent_clocks_close_every_loop_and_a_wrong_one_is_seen() -> None:
    own = {"a": ClockMap(), "b": ClockMap(3.0, 2e-5), "c": ClockMap(-1.0, -4e-5), "d": ClockMap(7.0, 1e-4)}
    maps = {(a, b): own[a].inverse() @ own[b] for a in own for b in own if a < b}
    at = dict.fromkeys(own, 10.0)
    assert metrics.cycle_residuals(maps, at).max() < 1e-12
    assert len(metrics.cycle_residuals(maps, at)) == 4
    maps["a", "b"] = ClockMap(0.25) @ maps["a", "b"]
    residuals = metrics.cycle_residuals(maps, at)
    # The two triangles with a and b in them.
    assert np.sort(residuals) == pytest.approx([0.0, 0.0, 0.25, 0.25], abs=1e-4)
    del maps["a", "b"]
    assert len(metrics.cycle_residuals(maps, at)) == 2
