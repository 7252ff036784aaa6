"""Laws of the maps of time."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from avfuse import ClockMap, PiecewiseClock, Segment, StreamError

offsets = st.floats(-1e5, 1e5)
drifts = st.floats(-5e-4, 5e-4)
clock_maps = st.builds(ClockMap, offsets, drifts)
TIMES = np.concatenate([[-1e4, -1.0, 0.0], np.linspace(0, 7200, 97), [1e6]])


@st.composite
def piecewise(draw: st.DrawFn) -> PiecewiseClock:
    """Segments with holes between them on both clocks, as pauses and dropped frames make them."""
    count = draw(st.integers(1, 4))
    t, reference, found = draw(st.floats(-50, 50)), draw(offsets), []
    for _ in range(count):
        length, drift = draw(st.floats(0.5, 500)), draw(drifts)
        found.append(Segment(t, t + length, reference - t - drift * t, drift))
        end = float(found[-1].map(t + length))
        t += length + draw(st.sampled_from([0.0, 0.3, 20.0]))
        reference = end + draw(st.sampled_from([0.0, 0.3, 20.0]))
    return PiecewiseClock(tuple(found))


@given(clock_maps)
def test_a_map_and_its_inverse_cancel(clock: ClockMap) -> None:
    np.testing.assert_allclose(clock.inverse()(clock(TIMES)), TIMES, atol=1e-8)
    np.testing.assert_allclose((clock @ clock.inverse())(TIMES), TIMES, atol=1e-8)


@given(clock_maps, clock_maps)
def test_composition_is_one_map_after_the_other(a: ClockMap, b: ClockMap) -> None:
    np.testing.assert_allclose((a @ b)(TIMES), a(b(TIMES)), atol=1e-8)


def test_the_offset_is_the_reference_time_of_the_moving_time_zero() -> None:
    started_late = ClockMap(12.3)
    assert started_late(0.0) == 12.3


def test_a_drift_below_the_resolution_of_one_plus_drift_survives() -> None:
    drift = 3e-15
    assert float(ClockMap(0.0, drift)(1e6) - 1e6) == pytest.approx(drift * 1e6, rel=0.05)


@pytest.mark.parametrize(("offset", "drift"), [(math.nan, 0.0), (math.inf, 0.0), (0.0, math.nan), (0.0, -1.0)])
def test_what_is_no_clock_is_refused(offset: float, drift: float) -> None:
    with pytest.raises(StreamError, match="expected finite"):
        ClockMap(offset, drift)
    with pytest.raises(StreamError, match="expected finite"):
        Segment(0.0, 1.0, offset, drift)


def test_a_map_composes_with_clocks_only() -> None:
    with pytest.raises(TypeError):
        ClockMap() @ 3.0  # type: ignore[operator]
    with pytest.raises(TypeError):
        PiecewiseClock((Segment(0, 1, 0),)) @ 3.0  # type: ignore[operator]


def test_segments_are_half_open_with_holes_between_and_lines_beyond() -> None:
    clock = PiecewiseClock((Segment(0, 10, 100), Segment(10, 20, 200), Segment(25, 30, 300)))
    np.testing.assert_array_equal(
        clock([-5, 0, 9.5, 10, 19.5, 20, 24.9, 25, 30, 31]),
        [95, 100, 109.5, 210, 219.5, np.nan, np.nan, 325, 330, 331],
    )
    assert clock(5.0).shape == ()


@pytest.mark.parametrize(
    "segments",
    [(), (Segment(0, 10, 0), Segment(9, 12, 0)), (Segment(5, 6, 0), Segment(0, 1, 0))],
    ids=["none", "overlapping", "out of order"],
)
def test_segments_that_make_no_clock_are_refused(segments: tuple[Segment, ...]) -> None:
    with pytest.raises(StreamError, match="PiecewiseClock"):
        PiecewiseClock(segments)


@pytest.mark.parametrize(("start", "end"), [(1.0, 1.0), (2.0, 1.0), (math.nan, 1.0), (0.0, math.inf)])
def test_a_segment_needs_a_length(start: float, end: float) -> None:
    with pytest.raises(StreamError, match="end > start"):
        Segment(start, end, 0.0)


@given(piecewise(), st.lists(st.floats(0.001, 0.999), min_size=1, max_size=5))
def test_the_inverse_brings_every_segment_back(clock: PiecewiseClock, shares: list[float]) -> None:
    times = np.concatenate([s.start + np.array(shares) * (s.end - s.start) for s in clock.segments])
    np.testing.assert_allclose(clock.inverse()(clock(times)), times, atol=1e-7)


@given(piecewise(), st.one_of(clock_maps, piecewise()), st.lists(st.floats(-3000, 3000), min_size=1, max_size=30))
def test_piecewise_composition_is_one_clock_after_the_other(
    outer: PiecewiseClock, inner: ClockMap | PiecewiseClock, times: list[float]
) -> None:
    breaks = outer.segments[0].start
    # Place the inner clock's images among the breaks of the outer one.
    middle = float(inner(0.0)) if isinstance(inner, ClockMap) else float(inner(inner.segments[0].start))
    inner = ClockMap(breaks + 50.0 - middle) @ inner
    t = np.array(times)
    together, apart = (outer @ inner)(t), outer(inner(t))
    # Rounding may put a time that falls on a break to its other side.
    edges = np.array([edge for s in outer.segments for edge in (s.start, s.end)])
    on_a_break = np.abs(inner(t)[:, None] - edges).min(axis=1) < 1e-6
    if isinstance(inner, PiecewiseClock):
        own = np.array([edge for s in inner.segments for edge in (s.start, s.end)])
        on_a_break |= np.abs(t[:, None] - own).min(axis=1) < 1e-6
    np.testing.assert_allclose(together[~on_a_break], apart[~on_a_break], atol=1e-6)


@given(clock_maps, piecewise(), st.lists(st.floats(-3000, 3000), min_size=1))
def test_an_affine_clock_after_a_piecewise_one(outer: ClockMap, inner: PiecewiseClock, times: list[float]) -> None:
    np.testing.assert_allclose((outer @ inner)(times), outer(inner(times)), atol=1e-7)


def test_where_images_overlap_the_inverse_takes_the_earlier_segment() -> None:
    clock = PiecewiseClock((Segment(0, 10, 100), Segment(10, 20, 95)))  # 105..115 again after 100..110
    np.testing.assert_allclose(clock.inverse()([100, 107, 112]), [0, 7, 17])


def test_the_inverse_keeps_a_segment_that_goes_back_in_reference_time() -> None:
    rearranged = PiecewiseClock((Segment(0, 10, 100), Segment(10, 20, 40), Segment(20, 40, 85)))
    np.testing.assert_allclose(rearranged.inverse()([52, 103, 115, 70]), [12, 3, 30, np.nan])


@given(piecewise(), st.floats(-100, 3000))
def test_the_inverse_never_claims_a_time_that_maps_elsewhere(clock: PiecewiseClock, reference_time: float) -> None:
    inverse = clock.inverse()
    first, last = inverse.segments[0].start, inverse.segments[-1].end
    t_ref = first + reference_time
    assume(t_ref < last)
    t = float(inverse(t_ref))
    if not math.isnan(t):
        assert min(abs(float(s.map(t)) - t_ref) for s in clock.segments) < 1e-6
