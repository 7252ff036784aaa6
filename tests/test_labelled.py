"""Laws of labelled events: what is said, shown and done at a moment is of the class stated, on every device's clock."""

from __future__ import annotations

import numpy as np
import pytest

import avfuse
from avfuse.errors import StreamError
from avfuse.simulation.labelled import (
    LASTS,
    SPACING,
    Difficulty,
    Examples,
    LabelledEvent,
    Rates,
    drawn_shapes,
    simulate_labelled,
    simulated_gestures,
    spoken_tones,
)
from avfuse.stream import Stream

CLASSES = np.arange(5)
HERTZ = 500.0 * (1 + CLASSES)
CLEAR = Difficulty(background_db=-60.0, grain=0.0, tremor=0.0, hiss=0.0)


def plain() -> tuple[Examples, Examples, Examples]:
    """Examples whose class can be read off: a tone of its own, a grey of its own, a turn about an axis of its own."""
    t = np.arange(int(0.3 * 8000)) / 8000
    tones = [np.sin(2 * np.pi * hertz * t).astype(np.float32) for hertz in HERTZ]
    greys = [np.full((8, 8), 40.0 * (1 + c)) for c in CLASSES]
    arch = 10.0 * np.hanning(80)[:, None]
    axes = np.array([(1, 0, 0), (0, 1, 0), (0, 0, 1), (-1, 0, 0), (0, -1, 0)])
    return (
        Examples(tones, CLASSES, 8000.0),
        Examples(greys, CLASSES),
        Examples(list(arch * axes[:, None]), CLASSES, 200.0),
    )


def clear_event(**how: object) -> LabelledEvent:
    return simulate_labelled(*plain(), rng=7, duration=30.0, difficulty=CLEAR, **how)  # type: ignore[arg-type]


def around(stream: Stream, moment: float, width: float) -> tuple[np.ndarray, np.ndarray]:
    """Times and values (time first) within half of `width` of a moment."""
    values = np.asarray(stream.values)
    if stream.times is None:
        assert stream.rate is not None
        values, times = values.T, stream.start + np.arange(values.shape[1]) / stream.rate
    else:
        times = stream.times
    near = np.abs(times - moment) < width / 2
    return times[near], values[near]


def read_off(event: LabelledEvent, moments: dict[str, np.ndarray]) -> dict[str, list[int]]:
    """The classes that each device has at these moments of its own."""
    camera, recorder, wearable = event.recordings
    seen, heard, felt = [], [], []
    dark = float(np.asarray(camera["picture"].values).min(axis=(1, 2, 3)).min())
    for k in range(len(event.moments)):
        _, frames = around(camera["picture"], moments["camera"][k], 0.1)
        seen.append(round((float(frames.mean()) - dark - 20.0) / 32.0) - 1)
        times, samples = around(recorder["sound"], moments["recorder"][k], 0.2)
        spectrum = np.abs(np.fft.rfft(samples[:, 0] * np.hanning(len(times)), 16000))
        heard.append(round(float(np.argmax(spectrum)) / 500.0) - 1)
        _, turns = around(wearable["rotation_rate"], moments["wearable"][k], 0.2)
        mean = turns.mean(axis=0)
        axis = int(np.argmax(np.abs(mean)))
        felt.append(axis + (3 if mean[axis] < 0 else 0))
    return {"camera": seen, "recorder": heard, "wearable": felt}


def test_every_device_has_the_stated_class_at_the_moment_on_its_own_clock() -> None:
    event = clear_event()
    assert len(set(event.labels.tolist())) == len(CLASSES)
    labels = event.labels.tolist()
    for device, classes in read_off(event, {d: event.moments_on(d) for d in event.clocks}).items():
        assert classes == labels, device
    # Half a second later, as far as clocks may be apart, it is mostly another happening.
    later = read_off(event, {d: event.moments_on(d) + 0.5 for d in event.clocks})
    assert all(np.mean(np.equal(classes, labels)) < 0.6 for classes in later.values())


def test_true_clocks_put_what_devices_saw_onto_the_same_instants() -> None:
    event = clear_event()
    truth = event.truth
    on_camera = event.moments_on("camera")
    for device, stream, tolerance in (
        ("camera", "picture", 1 / 25), ("recorder", "sound", 6e-3), ("wearable", "rotation_rate", 5e-3),
    ):  # fmt: skip
        centres = []
        for moment in event.moments_on(device):
            times, values = around(truth.recordings[device][stream], moment, LASTS)
            power = np.square(values.reshape(len(times), -1).astype(float) - (55.0 if stream == "picture" else 0.0))
            on = times[power.sum(axis=1) > 0.1 * power.sum(axis=1).max()]
            # A room rings on: of sound only the beginning tells.
            centres.append(on[0] + 0.15 if stream == "sound" else (on[0] + on[-1]) / 2)
        found = truth.clocks[device].map(np.array(centres))
        # Frames lie 40 ms apart; sound takes 1.6 ms for half a metre, and 3 ms to get loud.
        assert abs(float(np.median(found - on_camera))) < tolerance, device
        if device != "camera":
            assert abs(float(np.median(np.array(centres) - on_camera))) > 0.05


def test_equal_seeds_give_equal_events_and_the_same_happenings_at_other_rates() -> None:
    one, same = clear_event(), clear_event()
    other = clear_event(rates=Rates(30.0, 8000.0, 100.0, jitter=0.2))
    for a, b in zip(one.recordings, same.recordings, strict=True):
        for s, t in zip(a.streams, b.streams, strict=True):
            np.testing.assert_array_equal(s.values, t.values)
    for event in (same, other):
        assert event.clocks == one.clocks
        np.testing.assert_array_equal(event.labels, one.labels)
        np.testing.assert_array_equal(event.moments, one.moments)
    assert other.recordings[1]["sound"].rate == 8000.0
    assert len(np.asarray(other.recordings[0]["picture"].values)) == 30 * 30
    different = simulate_labelled(*plain(), rng=8, duration=30.0, difficulty=CLEAR)
    assert different.clocks != one.clocks


def test_stamps_say_when_a_jittered_sample_was_taken() -> None:
    fine = clear_event(rates=Rates(rotation=1000.0)).recordings[2]["rotation_rate"]
    rough = clear_event(rates=Rates(rotation=50.0, jitter=0.3)).recordings[2]["rotation_rate"]
    assert fine.times is not None
    assert rough.times is not None
    assert np.std(np.diff(rough.times)) > 2e-3
    for axis in range(3):
        expected = np.interp(rough.times, fine.times, np.asarray(fine.values)[:, axis])
        np.testing.assert_allclose(np.asarray(rough.values)[:, axis], expected, atol=0.05)


def test_align_finds_the_clocks_from_what_the_devices_share() -> None:
    rng = np.random.default_rng(0)
    made = spoken_tones(4, 5, rng), drawn_shapes(4, 5, rng), simulated_gestures(4, 5, rng)
    event = simulate_labelled(*made, rng=3, duration=60.0, difficulty=Difficulty(background_db=3.0))
    found = avfuse.align(event.recordings, reference="camera", spacing=SPACING)
    truth = event.truth
    assert found.complete
    for name in ("recorder", "wearable"):
        estimate = found.clocks[name]
        at = np.array([0.0, 30.0, 60.0])
        error = np.abs(estimate.map(at) - truth.clocks[name].map(at))
        assert (error < 3.0 * estimate.std_at(at)).all(), (name, error, estimate.std_at(at))
        assert (error < 0.01).all()
        assert abs(float(event.unaligned.clocks[name].map(30.0) - truth.clocks[name].map(30.0))) > 0.03


def test_offsets_and_drifts_stay_within_what_was_asked() -> None:
    for seed in range(20):
        event = simulate_labelled(*plain(), rng=seed, duration=6.0, difficulty=CLEAR, offset=0.3, drift=50e-6)
        for name in ("recorder", "wearable"):
            clock = event.truth.clocks[name].map
            assert isinstance(clock, avfuse.ClockMap)
            assert abs(clock.offset) <= 0.3
            assert abs(clock.drift) <= 50e-6


def test_examples_that_cannot_be_used_are_refused() -> None:
    spoken, shown, gestures = plain()
    with pytest.raises(StreamError, match="labels of shape"):
        Examples(spoken.values, CLASSES[:3], 8000.0)
    with pytest.raises(StreamError, match="no class"):
        simulate_labelled(spoken, Examples(shown.values, CLASSES + 50), gestures, rng=0)
    with pytest.raises(StreamError, match="expected more than"):
        simulate_labelled(spoken, shown, gestures, rng=0, duration=3.0)
