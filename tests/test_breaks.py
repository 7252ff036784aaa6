"""Laws of clocks that break: where, by how much, in both directions, and where nothing breaks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import avfuse
from avfuse import ClockEstimate, ClockMap, Recording, Stream
from avfuse.alignment import load_alignment
from avfuse.clock import PiecewiseClock, Segment
from avfuse.simulation import SimulatedEvent, SoundSource, dropping_clock, jingle_pair, simulate, wandering_clock
from avfuse.simulation.devices import Device
from avfuse.simulation.sampling import sample_on_clock
from avfuse.simulation.sounds import make_sound
from avfuse.temporal import estimate_clock
from avfuse.temporal.coarse import Line
from avfuse.temporal.hearing import hear
from avfuse.temporal.tracking import wanders

RATE = 16000.0
LENGTH = 90.0
START = 3.0
DRIFT = 30e-6


def noisy(values: np.ndarray, seed: int) -> Stream:
    rng = np.random.default_rng(seed)
    level = 0.1 * float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))
    return Stream.from_samples((values + level * rng.standard_normal(len(values))).astype(np.float32), rate=RATE)


def record(
    clock: ClockMap | PiecewiseClock, seconds: float, seed: int = 5, kind: str = "speech"
) -> tuple[Stream, Stream]:
    """A sound of 100 s, and what a device with `clock` records of it, 20 dB above noise."""
    sound = make_sound(kind, LENGTH + 10.0, RATE, np.random.default_rng(seed))
    return noisy(sound, 1), noisy(sample_on_clock(sound, RATE, clock, RATE, round(seconds * RATE)), 2)


@pytest.fixture(scope="module")
def dropped() -> tuple[Stream, Stream, PiecewiseClock]:
    """28 ms are lost at 31 s, and 0.6 s at 60 s."""
    clock = dropping_clock(ClockMap(START, DRIFT), LENGTH, [(31.0, 0.028), (60.0, 0.6)])
    return (*record(clock, LENGTH), clock)


@pytest.fixture(scope="module")
def found(dropped) -> ClockEstimate:
    return estimate_clock(dropped[0], dropped[1])


def errors(found: ClockEstimate, truth: PiecewiseClock | ClockMap, times: np.ndarray) -> np.ndarray:
    return np.abs(found.map(times) - truth(times))


def test_breaks_are_found_with_their_place_and_size(found):
    assert found.status == "aligned"
    assert [b.missing for b in found.breaks] == pytest.approx([0.028, 0.6], abs=1e-4)
    for b, place in zip(found.breaks, (31.0, 60.0), strict=True):
        assert abs(b.at - place) < min(0.5, 5 * b.std)


def test_away_from_breaks_the_clock_is_right_and_its_interval_holds(found, dropped):
    times = np.array([1.0, 15.0, 29.0, 33.0, 45.0, 58.0, 62.0, 75.0, 89.0])
    off = errors(found, dropped[2], times)
    assert off.max() < 0.1e-3
    assert np.all(off < 5 * found.std_at(times))
    assert [s.drift for s in found.segments] == pytest.approx([DRIFT] * 3, abs=1e-6)


def test_swapping_the_streams_inverts_a_broken_clock(found, dropped):
    back = estimate_clock(dropped[1], dropped[0])
    times = np.array([5.0, 20.0, 40.0, 55.0, 70.0, 85.0])
    np.testing.assert_allclose(back.map(found.map(times)), times, atol=1e-6)
    assert [b.missing for b in back.breaks] == pytest.approx([-b.missing for b in found.breaks], abs=1e-6)


def test_inserted_content_has_no_time_of_the_reference():
    # At 40 s the device has 0.8 s of something else, then goes on where it was.
    clock = PiecewiseClock((Segment(0.0, 40.0, START), Segment(40.8, LENGTH, START - 0.8)))
    reference, moving = record(clock, LENGTH)
    found = estimate_clock(reference, moving)
    assert [b.missing for b in found.breaks] == pytest.approx([-0.8], abs=1e-4)
    assert np.isnan(found.map(40.4))
    assert errors(found, clock, np.array([10.0, 35.0, 45.0, 80.0])).max() < 0.1e-3


def test_a_pause_of_a_minute_is_a_break_too():
    sound = make_sound("music", 200.0, RATE, np.random.default_rng(8))
    clock = dropping_clock(ClockMap(2.0, DRIFT), 130.0, [(70.0, 60.0)])
    found = estimate_clock(noisy(sound, 1), noisy(sample_on_clock(sound, RATE, clock, RATE, round(130.0 * RATE)), 2))
    assert [b.missing for b in found.breaks] == pytest.approx([60.0], abs=1e-3)
    assert errors(found, clock, np.array([10.0, 65.0, 75.0, 120.0])).max() < 0.1e-3


@pytest.mark.parametrize("kind", ["speech", "music"])
def test_a_whole_clock_is_one_line(kind):
    found = estimate_clock(*record(ClockMap(START, DRIFT), LENGTH, kind=kind))
    assert isinstance(found.map, ClockMap)
    assert found.breaks == ()


def test_talkers_in_turn_are_no_breaks_of_the_clock():
    """Two devices 4 m apart, a talker beside each: the lag changes by 20 ms with who talks."""
    rng = np.random.default_rng(3)
    turns = np.repeat(rng.integers(0, 2, 20), round(4.0 * RATE))[: round(62.0 * RATE)]
    voices = [
        SoundSource((make_sound("speech", 62.0, RATE, rng) * (turns == k)).astype(np.float32), place)
        for k, place in enumerate([(0.5, 0.0, 0.0), (3.5, 0.0, 0.0)])
    ]
    devices = [
        Device(name, ClockMap(0.5), 60.0, rate=RATE, position=(x, 0.0, 0.0), snr_db=20.0)
        for name, x in (("a", 0.0), ("b", 4.0))
    ]
    event = simulate(duration=62.0, devices=devices, sources=voices, rate=RATE, rng=4)
    found = estimate_clock(event["a"].streams[0], event["b"].streams[0])
    assert found.breaks == ()
    if found.status == "aligned":
        assert abs(float(found.map(30.0)) - 30.0) < max(3 * float(found.std_at(30.0)), 1e-3)


def test_jingles_at_different_places_are_no_broken_clock():
    pair = jingle_pair(duration=60.0, rng=2)
    assert estimate_clock(pair.reference, pair.moving).status != "aligned"


# Among many


@pytest.fixture(scope="module")
def event() -> SimulatedEvent:
    """Three recorders, of which `b` loses half a second and `c` lasts shorter."""
    devices = [
        Device("a", ClockMap(0.5), 80.0, rate=RATE, position=(1.0, 0.0, 0.0), snr_db=20.0),
        Device(
            "b",
            dropping_clock(ClockMap(2.0, DRIFT), 70.0, [(33.0, 0.5)]),
            70.0,
            rate=RATE,
            position=(0.0, 1.0, 0.0),
            snr_db=20.0,
        ),
        Device("c", ClockMap(4.0, -DRIFT), 60.0, rate=RATE, position=(0.0, 0.0, 1.0), snr_db=20.0),
    ]
    return simulate(duration=82.0, devices=devices, rate=RATE, rng=12)


def test_in_a_joint_alignment_only_the_broken_recording_breaks(event):
    alignment = avfuse.align(event.recordings, reference="a")
    assert [len(alignment.clocks[n].segments) for n in "abc"] == [1, 2, 1]
    times = np.array([5.0, 30.0, 36.0, 60.0])
    for name in "bc":
        found = alignment.clocks[name]
        assert found.status == "aligned"
        assert errors(found, event.truth_between("a", name), times[times < event.devices[name].duration]).max() < 0.2e-3
    assert alignment.clocks["b"].breaks[0].missing == pytest.approx(0.5, abs=1e-4)


def test_on_the_clock_of_a_broken_reference_others_have_no_time_in_its_gap(event):
    alignment = avfuse.align(event.recordings, reference="b")
    for name in "ac":
        clock = alignment.clocks[name].map
        assert isinstance(clock, PiecewiseClock)
        # b lost what lies between 35.0 and 35.5 s of the event.
        lost = float(event.devices[name].clock.inverse()(35.25))
        assert np.isnan(clock(lost))
        before, after = lost - 5.0, lost + 5.0
        np.testing.assert_allclose(clock([before, after]), event.truth_between("b", name)([before, after]), atol=0.2e-3)


def test_breaks_survive_the_json(found, tmp_path: Path):
    alignment = avfuse.Alignment("a", {"a": ClockEstimate("reference", ClockMap()), "b": found})
    loaded = load_alignment(alignment.save(tmp_path / "alignment.json")).clocks["b"]
    assert loaded.breaks == found.breaks
    np.testing.assert_allclose(loaded.map([5.0, 40.0, 80.0]), found.map([5.0, 40.0, 80.0]), atol=1e-9)


# Drift that changes


def test_what_only_one_recording_goes_on_with_is_no_wandering():
    """Looking for breaks in earnest takes longer than all else: a clock that keeps to its line must not cause it."""
    sound, steep = make_sound("speech", 400.0, RATE, np.random.default_rng(3)), 150e-6
    camera = noisy(sound[: round(150 * RATE)], 1)
    line = Line(100.0, steep, 0.0, 10.0)

    def wandering(clock: ClockMap | PiecewiseClock) -> bool:
        recorder = noisy(sample_on_clock(sound, RATE, clock, RATE, round(290 * RATE)), 2)
        return wanders(hear(camera), hear(recorder), line)

    whole = ClockMap(100.0, steep)
    assert not wandering(whole)
    assert wandering(dropping_clock(whole, 290.0, [(20.0, 0.3)]))


def test_a_clock_that_wanders_is_followed_within_its_interval():
    length = 240.0
    truth = wandering_clock(START, length, DRIFT, 8e-6, np.random.default_rng(1), step=20.0)
    sound = make_sound("speech", length + 10.0, RATE, np.random.default_rng(9))
    moving = sample_on_clock(sound, RATE, truth, RATE, round(length * RATE))
    found = estimate_clock(noisy(sound, 1), noisy(moving, 2))
    times = np.arange(3.0, length - 3.0)
    straight = np.polyval(np.polyfit(times, truth(times) - times, 1), times)
    assert np.abs(truth(times) - times - straight).max() > 0.3e-3  # so that one line would not do
    assert found.status == "aligned"
    assert found.breaks == ()
    off = errors(found, truth, times)
    assert off.max() < 0.1e-3
    assert np.mean(off < 1.96 * found.std_at(times)) > 0.9
    joint = avfuse.align([Recording("a", (noisy(sound, 1),)), Recording("b", (noisy(moving, 2),))], reference="a")
    assert errors(joint.clocks["b"], truth, times).max() < 0.1e-3
    assert joint.clocks["b"].breaks == ()
