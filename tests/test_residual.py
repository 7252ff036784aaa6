"""Laws of measuring again: a clock that is wrong by d shows d, whoever is asked, and silence says nothing."""

from __future__ import annotations

import numpy as np
import pytest

from avfuse import ClockMap, PiecewiseClock, Segment, Stream, simulate
from avfuse.simulation import Device, SimulatedEvent, dropping_clock, unrelated_pair
from avfuse.temporal.hearing import Heard, hear
from avfuse.temporal.residual import CLEAR, REACH, Residual, residual_over_time

SAMPLE = 1 / 16000
DRIFT = 40e-6
PAUSES = [(8.0, 3.0), (15.0, 1.5)]


@pytest.fixture(scope="module")
def event() -> SimulatedEvent:
    """b and paused run beside a, all as far from the talker; paused loses time twice."""
    place, lasts = (1.0, 0.0, 0.0), 24.0
    devices = [
        Device("a", ClockMap(0.5), 32.0, 16000.0, place, snr_db=20.0),
        Device("b", ClockMap(4.0, DRIFT), lasts, 16000.0, place, snr_db=15.0),
        Device(
            "paused",
            dropping_clock(ClockMap(2.0, DRIFT), lasts, PAUSES),
            lasts,
            16000.0,
            place,
            snr_db=15.0,
            polarity=-1,
        ),
    ]
    return simulate(duration=34.0, devices=devices, rng=11)


@pytest.fixture(scope="module")
def heard(event: SimulatedEvent) -> dict[str, Heard]:
    return {recording.name: hear(recording["sound"]) for recording in event.recordings}


def measured(*arguments: object, **options: object) -> Residual:
    found = residual_over_time(*arguments, **options)  # type: ignore[arg-type]
    assert found is not None
    return found


def truth(event: SimulatedEvent, name: str) -> ClockMap | PiecewiseClock:
    return event.truth_between("a", name)


@pytest.mark.parametrize("wrong", [0.0, 0.0031, -0.017, 0.04])
def test_a_clock_that_is_wrong_by_d_shows_d(event: SimulatedEvent, heard: dict[str, Heard], wrong: float) -> None:
    found = measured(heard["a"], heard["b"], ClockMap(-wrong) @ truth(event, "b"))
    assert found.clear.mean() > 0.9
    np.testing.assert_allclose(found.residuals[found.clear], wrong, atol=SAMPLE)
    assert found.peak.lag == pytest.approx(wrong, abs=SAMPLE)
    assert found.peak.height > 2 * found.runner_up.height
    assert abs(found.runner_up.lag - found.peak.lag) >= 0.001 - SAMPLE


def test_a_wrong_drift_shows_as_a_slope(event: SimulatedEvent, heard: dict[str, Heard]) -> None:
    right = truth(event, "b")
    assert isinstance(right, ClockMap)
    found = measured(heard["a"], heard["b"], ClockMap(right.offset, right.drift - 70e-6))
    sample_over_all = SAMPLE / (found.times[-1] - found.times[0])
    assert found.slope == pytest.approx(70e-6, abs=sample_over_all)
    assert measured(heard["a"], heard["b"], right).slope == pytest.approx(0.0, abs=sample_over_all)


def test_swapping_the_sounds_negates_the_residual(event: SimulatedEvent, heard: dict[str, Heard]) -> None:
    clock = ClockMap(-0.005) @ truth(event, "b")
    there, back = measured(heard["a"], heard["b"], clock), measured(heard["b"], heard["a"], clock.inverse())
    assert there.median == pytest.approx(0.005, abs=SAMPLE)
    assert back.median == pytest.approx(-there.median, abs=SAMPLE)


def test_gain_and_polarity_do_not_matter(event: SimulatedEvent, heard: dict[str, Heard]) -> None:
    values = np.asarray(event["b"]["sound"].values)
    turned = hear(Stream.from_samples(-0.01 * values, rate=16000.0))
    one, other = (measured(heard["a"], h, truth(event, "b")) for h in (heard["b"], turned))
    np.testing.assert_allclose(other.residuals, one.residuals, atol=1e-6)
    np.testing.assert_allclose(other.strengths, one.strengths, rtol=1e-2)
    np.testing.assert_allclose(other.correlation, one.correlation, atol=0.01 * one.peak.height)
    assert one.correlation[np.argmax(np.abs(one.correlation))] > 0
    assert other.correlation[np.argmax(np.abs(other.correlation))] > 0


def test_streams_that_start_later_in_their_recordings_lie_where_they_start(
    event: SimulatedEvent, heard: dict[str, Heard]
) -> None:
    values = np.asarray(event["b"]["sound"].values)
    late = hear(Stream.from_samples(values, rate=16000.0, start=1.25))
    found = measured(heard["a"], late, truth(event, "b") @ ClockMap(-1.25))
    assert found.median == pytest.approx(0.0, abs=SAMPLE)
    assert found.times.min() > 1.25


def test_every_segment_is_measured_along_its_own_line(event: SimulatedEvent, heard: dict[str, Heard]) -> None:
    right = truth(event, "paused")
    assert isinstance(right, PiecewiseClock)
    found = measured(heard["a"], heard["paused"], right)
    assert found.clear.mean() > 0.9
    np.testing.assert_allclose(found.residuals[found.clear], 0.0, atol=SAMPLE)
    edges = np.array([t for t, _ in PAUSES])
    assert np.abs(found.times[:, None] - edges).min() >= found.window / 2 - 1e-6  # no window reaches over a break
    first, middle, last = right.segments
    moved = PiecewiseClock((first, Segment(middle.start, middle.end, middle.offset - 0.004, middle.drift), last))
    found = measured(heard["a"], heard["paused"], moved)
    inside = (found.times > middle.start) & (found.times < middle.end)
    np.testing.assert_allclose(found.residuals[found.clear & inside], 0.004, atol=SAMPLE)
    np.testing.assert_allclose(found.residuals[found.clear & ~inside], 0.0, atol=SAMPLE)


def test_one_line_over_a_pause_is_seen_not_to_hold(event: SimulatedEvent, heard: dict[str, Heard]) -> None:
    right = truth(event, "paused")
    assert isinstance(right, PiecewiseClock)
    found = measured(heard["a"], heard["paused"], right.segments[0].map)
    before = found.times < PAUSES[0][0]
    assert found.clear[before].mean() > 0.9
    assert found.clear[~before & (found.times > PAUSES[0][0] + found.window)].mean() < 0.2


def test_holes_are_not_looked_at(event: SimulatedEvent, heard: dict[str, Heard]) -> None:
    line = truth(event, "b")
    assert isinstance(line, ClockMap)
    holed = PiecewiseClock((Segment(0.0, 6.0, line.offset, line.drift), Segment(14.0, 24.0, line.offset, line.drift)))
    found = measured(heard["a"], heard["b"], holed)
    assert not np.any((found.times > 6.0) & (found.times < 14.0))
    np.testing.assert_allclose(found.residuals[found.clear], 0.0, atol=SAMPLE)


def test_silence_has_no_strength(event: SimulatedEvent, heard: dict[str, Heard]) -> None:
    values = np.asarray(event["b"]["sound"].values).copy()
    values[:, 8 * 16000 :] = 0.0
    found = measured(heard["a"], hear(Stream.from_samples(values, rate=16000.0)), truth(event, "b"))
    quiet = found.times > 8.0 + found.window
    assert np.all(found.strengths[quiet] == 0.0)
    assert not found.clear[quiet].any()
    assert found.clear[found.times < 7.0].all()
    nothing = hear(Stream.from_samples(np.zeros((1, 160000), np.float32), rate=16000.0))
    found = measured(heard["a"], nothing, ClockMap())
    assert (found.peak.height, found.clear.any()) == (0.0, False)
    assert np.isnan(found.median)


@pytest.mark.parametrize("kind", ["speech", "music", "loop", "hum", "same_device"])
def test_what_shares_nothing_says_nothing(kind: str) -> None:
    reference, moving = (hear(stream) for stream in unrelated_pair(kind, duration=20.0, rng=3))
    found = measured(reference, moving, ClockMap())
    assert found.peak.height < CLEAR
    assert found.clear.mean() < 0.1


def test_recordings_that_do_not_meet_are_not_measured(heard: dict[str, Heard]) -> None:
    assert residual_over_time(heard["a"], heard["b"], ClockMap(100.0)) is None
    assert residual_over_time(heard["a"], heard["b"], ClockMap(31.5)) is None  # half a second


def test_long_sounds_take_no_more_windows_than_asked_for(event: SimulatedEvent, heard: dict[str, Heard]) -> None:
    found = measured(heard["a"], heard["b"], truth(event, "b"), windows=5)
    assert len(found.times) == 5
    assert np.all(np.diff(found.times) > 0)
    assert abs(found.lags[0]) == pytest.approx(REACH)
