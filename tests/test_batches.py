"""Windows hold what their clocks say, all of it and nothing else; batches mask what they pad."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import avfuse
from avfuse import Alignment, ClockEstimate, ClockMap, PiecewiseClock, Recording, Segment, Stream, StreamError
from avfuse.alignment import RecordingFacts, reference_estimate
from avfuse.batches import Samples, Window

RATE = 1000.0
COV = np.diag([1e-6, 1e-12])


def sensor(count: int = 400, seed: int = 0) -> Stream:
    rng = np.random.default_rng(seed)
    times = np.sort(rng.uniform(0.0, 8.0, count))
    return Stream("imu", "rotation_rate", rng.standard_normal((count, 3)), times=times)


def event(clock: ClockMap | PiecewiseClock, moving: Stream, **facts: float) -> Alignment:
    """A reference of ten seconds with sound, and a recording with `moving` on `clock`."""
    sound = Stream.from_samples(np.random.default_rng(1).standard_normal(int(10 * RATE)), rate=RATE)
    segments = len(clock.segments) if isinstance(clock, PiecewiseClock) else 0
    cov = np.repeat(COV[None], segments, axis=0) if segments else COV
    return Alignment(
        "cam",
        {
            "cam": reference_estimate("cam", 10.0),
            "watch": ClockEstimate("aligned", clock, cov, 0.97, span=(0.0, 8.0), reference="cam"),
            "other": ClockEstimate("no_match", message="nothing is shared"),
        },
        facts={"watch": RecordingFacts(streams=facts)},
        recordings={
            "cam": Recording("cam", (sound,)),
            "watch": Recording("watch", (moving,)),
            "other": Recording("other", (replace(moving),)),
        },
    )


CLOCKS = {
    "line": ClockMap(1.3, 2e-4),
    "hole": PiecewiseClock((Segment(0.0, 3.0, 0.5), Segment(3.4, 8.0, 1.1, 1e-4))),
    "set back": PiecewiseClock((Segment(0.0, 4.0, 1.0), Segment(4.0, 8.0, -0.7))),
    "set on": PiecewiseClock((Segment(0.0, 4.0, 0.0), Segment(4.0, 8.0, 2.5))),
}


@pytest.mark.parametrize("clock", CLOCKS.values(), ids=CLOCKS.keys())
@settings(max_examples=25)
@given(duration=st.floats(0.05, 4.0), hop=st.floats(0.05, 3.0), shift=st.sampled_from([0.0, 0.25]))
def test_a_window_holds_the_samples_of_its_time_and_no_others(clock, duration: float, hop: float, shift: float) -> None:
    moving = sensor()
    made = event(clock, moving, imu=shift)
    found = {
        w.start: w
        for w in avfuse.windows(
            made, duration=duration, hop=hop, streams={"s": "cam/sound", "w": "watch/imu"}, timeline="union"
        )
    }
    mapped = clock(moving.times + shift)
    for start, window in found.items():
        inside = (mapped >= start) & (mapped < start + duration)
        order = np.argsort(mapped[inside], kind="stable")
        if not inside.any():
            assert "w" not in window.samples
            continue
        np.testing.assert_array_equal(window.samples["w"].values, moving.values[inside][order])
        np.testing.assert_allclose(window.samples["w"].times, mapped[inside][order], rtol=0, atol=1e-12)
    starts = sorted(found)
    np.testing.assert_allclose(np.diff(starts) / hop, np.round(np.diff(starts) / hop), atol=1e-6)


def test_sound_of_windows_end_to_end_is_the_sound() -> None:
    made = event(CLOCKS["line"], sensor())
    cut = list(avfuse.windows(made, duration=0.7, streams={"sound": "cam/sound"}, start=0.0, end=7.0))
    joined = np.concatenate([w.samples["sound"].values for w in cut])
    np.testing.assert_array_equal(joined[:, 0], made.recordings["cam"]["sound"].values[0, :7000].astype(np.float32))
    assert {w.samples["sound"].rate for w in cut} == {RATE}
    assert all(w.samples["sound"].confidence == 1.0 and w.samples["sound"].std == 0.0 for w in cut)


def test_a_window_tells_how_sure_its_clock_is() -> None:
    made = event(CLOCKS["line"], sensor())
    window = next(avfuse.windows(made, duration=1.0, start=4.0))
    watch = window.samples["watch/imu"]
    assert watch.confidence == 0.97
    own = CLOCKS["line"].inverse()(4.5)
    assert watch.std == pytest.approx(made.clocks["watch"].std_at(own))
    assert "other/imu" not in window.samples


def test_what_is_not_aligned_is_absent_or_refused_and_alternatives_are_taken() -> None:
    made = event(CLOCKS["line"], sensor())
    window = next(
        avfuse.windows(made, duration=1.0, start=4.0, streams={"imu": ("other/imu", "watch/imu"), "s": "cam/sound"})
    )
    assert set(window.samples) == {"imu", "s"}
    asked = {"imu": "other/imu", "s": "cam/sound"}
    assert set(next(avfuse.windows(made, duration=1.0, streams=asked)).samples) == {"s"}
    with pytest.raises(avfuse.WeakAlignmentError, match="other/imu is no_match: nothing is shared"):
        avfuse.windows(made, duration=1.0, streams=asked, strict=True)
    with pytest.raises(StreamError, match="no stream is aligned: other is no_match"):
        avfuse.windows(made, duration=1.0, streams={"imu": "other/imu"})


def test_nan_in_a_sensor_is_masked_and_not_a_number_that_anyone_sees() -> None:
    moving = sensor()
    broken = moving.values.copy()
    broken[::3, 1] = np.nan
    made = event(CLOCKS["line"], replace(moving, values=broken))
    window = next(avfuse.windows(made, duration=4.0, start=3.0, streams={"w": "watch/imu"}))
    samples = window.samples["w"]
    assert np.isfinite(samples.values).all()
    assert 0.6 < samples.valid.mean() < 0.72
    assert (samples.values[~samples.valid] == 0).all()
    padded = avfuse.collate([window])["w"]
    np.testing.assert_array_equal(padded.valid[0], samples.valid)


def test_labels_follow_the_window() -> None:
    made = event(CLOCKS["line"], sensor())
    cut = avfuse.windows(made, duration=1.0, start=2.0, end=5.0, label=lambda start, end: (start, end), name="e1")
    assert [(w.event, w.label) for w in cut] == [("e1", (2.0, 3.0)), ("e1", (3.0, 4.0)), ("e1", (4.0, 5.0))]


def test_windows_of_two_real_files_of_one_talk_hold_the_same_words(shared: Path) -> None:
    alignment = avfuse.align([shared / "sound" / "timbl_1.mp3", shared / "sound" / "timbl_2.mp3"])
    assert alignment.complete
    streams = {"whole": "timbl_1/sound", "cut": "timbl_2/sound"}
    alike, shifted = [], []
    for window in avfuse.windows(alignment, duration=2.0, streams=streams):
        whole, cut = window.samples["whole"], window.samples["cut"]
        heard = [np.interp(whole.times + by, cut.times, cut.values.mean(axis=1)) for by in (0.0, 0.001)]
        said = whole.values.mean(axis=1)
        alike.append(np.corrcoef(said, heard[0])[0, 1])
        shifted.append(np.corrcoef(said, heard[1])[0, 1])
    assert len(alike) == 17
    assert np.median(alike) > 0.98
    assert np.median(shifted) < 0.8


def test_windows_of_a_real_camera_hold_its_picture_sound_and_gyroscope(shared: Path) -> None:
    camera = avfuse.read(shared / "motion" / "karma.mp4")
    made = Alignment("karma", {"karma": reference_estimate("karma", camera.duration)}, recordings={"karma": camera})
    cut = list(avfuse.windows(made, duration=1.0, size=(24, 42)))
    assert len(cut) == 11
    by_kind = {stream.kind: f"karma/{stream.name}" for stream in camera.streams}
    counts = np.array([[len(w.samples[by_kind[k]].times) for k in ("picture", "sound", "rotation_rate")] for w in cut])
    assert set(counts[:, 0].tolist()) <= {29, 30}
    assert set(counts[:, 1].tolist()) == {48000}
    assert (abs(counts[:, 2] - 398) < 12).all()
    assert cut[0].samples[by_kind["picture"]].values.shape[1:] == (24, 42, 3)


def test_pictures_and_text_come_as_asked() -> None:
    frames = np.random.default_rng(0).integers(0, 255, (50, 12, 16, 3)).astype(np.uint8)
    film = Stream("picture", "picture", frames, rate=25.0)
    lines = Stream("text", "text", np.array(["ab", "c"]), times=np.array([0.2, 1.2]))
    made = Alignment(
        "cam", {"cam": reference_estimate("cam", 2.0)}, recordings={"cam": Recording("cam", (film, lines))}
    )
    first, second = avfuse.windows(made, duration=1.0, timeline="union", start=0.0, size=(6, 8))
    assert first.samples["cam/picture"].values.shape == (25, 6, 8, 3)
    assert first.samples["cam/picture"].values.dtype == np.uint8
    area = frames[:25].reshape(25, 6, 2, 8, 2, 3).mean(axis=(2, 4))
    assert np.abs(first.samples["cam/picture"].values - area).max() <= 0.51
    assert first.samples["cam/text"].values.tolist() == list(b"ab")
    assert second.samples["cam/text"].times.tolist() == [1.2]


def test_sound_is_resampled_where_that_is_asked() -> None:
    made = event(CLOCKS["line"], sensor())
    window = next(avfuse.windows(made, duration=1.0, streams={"s": "cam/sound"}, rates={"s": 500.0}))
    assert window.samples["s"].values.shape == (500, 1)
    assert window.samples["s"].rate == 500.0
    with pytest.raises(StreamError, match="only sound can be resampled"):
        next(avfuse.windows(made, duration=1.0, streams={"w": "watch/imu"}, rates={"w": 50.0}))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"duration": 0.0}, "duration 0.0 s; expected a positive"),
        ({"duration": 1.0, "hop": -1.0}, "hop -1.0 s; expected a positive"),
        ({"duration": 60.0}, "no window of 60 s between"),
        ({"duration": 1.0, "streams": {"a": "nobody/sound"}}, "names no recording; expected RECORDING/STREAM"),
        ({"duration": 1.0, "streams": {"a": "cam/picture"}}, "has no stream 'picture'; it has sound"),
        ({"duration": 1.0, "rates": {"x": 5.0}}, "rates of x; expected some of"),
        ({"duration": 1.0, "size": (0, 4)}, "size \\(0, 4\\); expected"),
    ],
)
def test_arguments_that_do_not_fit_are_told_at_once(options: dict, told: str) -> None:
    with pytest.raises(StreamError, match=told):
        avfuse.windows(event(CLOCKS["line"], sensor()), **options)


def samples(count: int, width: int = 3, *, seed: int = 0, start: float = 0.0) -> Samples:
    rng = np.random.default_rng(seed)
    return Samples(rng.standard_normal((count, width)), start + np.arange(count) / 10, np.ones(count, bool), 0.9, 0.01)


def test_a_batch_pads_with_what_is_not_valid() -> None:
    a = Window("a", 100.0, 1.0, {"imu": samples(4, start=100.0), "sound": samples(7, 1, start=100.2)}, 1)
    b = Window("b", 200.0, 1.0, {"imu": samples(6, seed=1, start=200.0)}, 0)
    batch = avfuse.collate([a, b])
    assert list(batch.modalities) == ["imu", "sound"]
    imu, sound = batch["imu"], batch["sound"]
    np.testing.assert_array_equal(imu.valid.sum(axis=1), [4, 6])
    np.testing.assert_array_equal(imu.values[0, :4], a.samples["imu"].values)
    assert (imu.values[0, 4:] == 0).all()
    np.testing.assert_allclose(sound.times[0], 0.2 + np.arange(7) / 10)
    np.testing.assert_array_equal(sound.present, [True, False])
    np.testing.assert_array_equal(sound.confidence, [0.9, 0.0])
    assert batch.labels == (1, 0)
    assert batch.events == ("a", "b")
    with pytest.raises(KeyError, match="no modality 'text'; it has imu, sound"):
        batch["text"]


def test_small_times_survive_the_cast_of_windows_far_into_a_recording() -> None:
    late = Window("a", 1.7e9, 1.0, {"imu": samples(8, start=1.7e9)})
    np.testing.assert_allclose(np.diff(avfuse.collate([late])["imu"].times.astype(np.float32)[0]), 0.1, atol=1e-6)


def test_windows_that_do_not_fit_together_are_told() -> None:
    good = Window("a", 0.0, 1.0, {"imu": samples(4)})
    with pytest.raises(StreamError, match="no windows"):
        avfuse.collate([])
    with pytest.raises(StreamError, match=r"'imu' of 'b'.*\(2,\) beside \(3,\); expected one shape"):
        avfuse.collate([good, Window("b", 0.0, 1.0, {"imu": samples(4, 2)})])
    nothing = replace(samples(4), valid=np.zeros(4, bool))
    with pytest.raises(StreamError, match=r"'c' at 0\.000 s has no modality with a valid value"):
        avfuse.collate([good, Window("c", 0.0, 1.0, {"imu": nothing})])
    broken = samples(4)
    broken.values[1, 1] = np.nan
    with pytest.raises(StreamError, match="NaN or infinite values that are said to be valid"):
        avfuse.collate([good, Window("d", 0.0, 1.0, {"imu": broken})])
    with pytest.raises(StreamError, match="times are float32; expected float64"):
        Samples(broken.values, broken.times.astype(np.float32), broken.valid)  # type: ignore[arg-type]
