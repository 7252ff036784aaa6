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
from avfuse.simulation import demo_event as simulate_event
from avfuse.transcript import Transcript, Word

RATE = 250.0
COV = np.diag([1e-6, 1e-12])
LONG = 60.0  # seconds of the streams: they are read in several blocks


def sensor(count: int = 1500, seed: int = 0) -> Stream:
    rng = np.random.default_rng(seed)
    times = np.sort(rng.uniform(0.0, LONG, count))
    times[::7] = np.round(times[::7])  # samples on edges of windows
    times.sort()
    return Stream("imu", "rotation_rate", rng.standard_normal((count, 3)), times=times)


def event(clock: ClockMap | PiecewiseClock, moving: Stream, **facts: float) -> Alignment:
    """A reference of a minute of sound, and a recording with `moving` on `clock`."""
    sound = Stream.from_samples(np.random.default_rng(1).standard_normal(int(LONG * RATE)), rate=RATE)
    segments = len(clock.segments) if isinstance(clock, PiecewiseClock) else 0
    cov = np.repeat(COV[None], segments, axis=0) if segments else COV
    return Alignment(
        "cam",
        {
            "cam": reference_estimate("cam", LONG),
            "watch": ClockEstimate("aligned", clock, cov, 0.97, span=(0.0, LONG), reference="cam"),
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
    "hole": PiecewiseClock((Segment(0.0, 3.0, 0.5), Segment(13.4, 60.0, 1.1, 1e-4))),
    "set back": PiecewiseClock((Segment(0.0, 24.0, 1.0), Segment(24.0, 60.0, -13.7))),
    "set on": PiecewiseClock((Segment(0.0, 34.0, 0.0), Segment(34.0, 60.0, 2.5))),
    "known late": PiecewiseClock((Segment(33.0, 45.0, 0.5), Segment(45.4, 50.0, 1.1))),
}


@st.composite
def clocks(draw) -> ClockMap | PiecewiseClock:
    """Any number of segments, with holes and jumps either way, that need not cover the stream."""
    edges = sorted(draw(st.lists(st.floats(-5.0, LONG + 5.0), min_size=2, max_size=8, unique=True)))
    pairs = [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=False) if b - a > 1e-3]
    offsets, drifts = st.floats(-20.0, 20.0), st.floats(-1e-3, 1e-3)
    if not pairs:
        return ClockMap(draw(offsets), draw(drifts))
    return PiecewiseClock(tuple(Segment(a, b, draw(offsets), draw(drifts)) for a, b in pairs))


def plain_windows(times, values, starts, ends):
    """What each window holds, looked up in all of the stream."""
    for start, end in zip(starts, ends, strict=True):
        inside = np.flatnonzero((times >= start) & (times < end))
        inside = inside[np.argsort(times[inside], kind="stable")]
        yield times[inside], values[inside]


@settings(max_examples=60)
@given(
    clock=st.one_of(clocks(), st.sampled_from(list(CLOCKS.values()))),
    duration=st.floats(0.05, 30.0),
    hop=st.floats(0.3, 20.0),
    shift=st.sampled_from([0.0, 0.25, -0.4]),
    begin=st.floats(-10.0, 30.0),
)
def test_a_window_holds_the_samples_of_its_time_and_no_others(clock, duration, hop, shift, begin) -> None:
    moving = sensor()
    end = begin + duration + 45.0
    cut = avfuse.windows(
        event(clock, moving, imu=shift),
        duration=duration, hop=hop, streams={"s": "cam/sound", "w": "watch/imu"}, start=begin, end=end,
    )  # fmt: skip
    found = {w.start: w.samples for w in cut}
    starts = begin + hop * np.arange(int((end - begin - duration) / hop + 1e-9) + 1)
    ends = starts + duration
    if (steps := duration / hop) == round(steps):  # then they touch, see below
        ends = begin + hop * (np.arange(len(starts)) + round(steps))
    sound = np.random.default_rng(1).standard_normal(int(LONG * RATE)).astype(np.float32)[:, None]
    for name, times, values in (
        # The clock of the stream itself, in one step: near a break two would round to the other side of it.
        ("w", (clock @ ClockMap(shift))(moving.times), moving.values),
        ("s", np.arange(len(sound)) / RATE, sound),
    ):
        plain = plain_windows(times, values, starts, ends)
        for start, (want_times, want_values) in zip(starts, plain, strict=True):
            samples = found.get(start, {}).get(name)
            if samples is None:
                assert not want_times.size, f"{name}: the window at {start} s is missing"
                continue
            np.testing.assert_array_equal(samples.times, want_times)
            np.testing.assert_array_equal(samples.values, want_values)
            assert samples.valid.all()


@given(
    duration=st.one_of(st.sampled_from([0.1, 0.3, 0.7, 1.1]), st.floats(0.05, 5.0)),
    times=st.integers(1, 4),
    begin=st.one_of(st.sampled_from([0.0, 0.1, 1.3]), st.floats(0.0, 20.0)),
)
@settings(max_examples=60)
def test_where_windows_touch_each_sample_is_in_one_of_them(duration: float, times: int, begin: float) -> None:
    starts = np.array([begin + duration * k for k in range(60)])
    on_edges = np.sort(np.concatenate([starts, starts + duration, np.nextafter(starts, 0), starts + duration / 2]))
    marks = Stream("marks", "other", np.arange(len(on_edges), dtype=float)[:, None], times=on_edges)
    made = Alignment("a", {"a": reference_estimate("a", LONG)}, recordings={"a": Recording("a", (marks,))})
    cut = avfuse.windows(made, duration=duration * times, hop=duration, start=begin, end=begin + duration * 60)
    seen = np.concatenate([w.samples["a/marks"].values[:, 0] for k, w in enumerate(cut) if k % times == 0])
    np.testing.assert_array_equal(np.diff(seen), 1.0)


def test_sound_of_windows_end_to_end_is_the_sound() -> None:
    made = event(CLOCKS["line"], sensor())
    cut = list(avfuse.windows(made, duration=0.7, streams={"sound": "cam/sound"}, start=0.0, end=56.0))
    joined = np.concatenate([w.samples["sound"].values for w in cut])
    np.testing.assert_array_equal(joined[:, 0], made.recordings["cam"]["sound"].values[0, :14000].astype(np.float32))
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


def test_of_alternatives_the_first_that_the_event_has_is_taken() -> None:
    made = event(CLOCKS["line"], sensor())
    for choices in (["cam/imu", "watch/imu"], ["phone/imu", "watch/imu"], ["other/imu", "watch/imu"]):
        assert set(next(avfuse.windows(made, duration=1.0, streams={"imu": choices})).samples) == {"imu"}
    with pytest.raises(StreamError, match=r"'phone/imu' names no recording.*; recording 'cam' has no stream 'imu'"):
        avfuse.windows(made, duration=1.0, streams={"imu": ["phone/imu", "cam/imu"]})


def test_recordings_that_are_not_asked_for_need_not_be_there() -> None:
    made = event(CLOCKS["line"], sensor())
    gone = replace(made, recordings={"watch": made.recordings["watch"]})
    assert len(list(avfuse.windows(gone, duration=20.0, streams={"imu": "watch/imu"}))) == 3
    with pytest.raises(avfuse.ReadError, match="'cam' was made from arrays"):
        avfuse.windows(gone, duration=1.0)


def test_streams_without_samples_and_text_bound_nothing() -> None:
    empty = Stream("empty", "other", np.zeros((0, 2)), times=np.zeros(0))
    lines = Stream("text", "text", np.array(["hello", "you"]), times=np.array([20.0, 30.0]))
    made = event(CLOCKS["line"], sensor())
    cam = Recording("cam", (*made.recordings["cam"].streams, empty, lines))
    made = replace(made, recordings={**made.recordings, "cam": cam})
    cut = list(avfuse.windows(made, duration=1.0))
    assert cut[0].start == pytest.approx(CLOCKS["line"](sensor().times[0]))
    assert len(cut) == 58
    assert ["cam/text" in w.samples for w in cut].count(True) == 2
    (only,) = avfuse.windows(made, duration=10.0, streams={"said": "cam/text"})
    assert bytes(only.samples["said"].values.tolist()) == b"hello "
    with pytest.raises(StreamError, match="empty: no sample that the clocks map"):
        avfuse.windows(made, duration=1.0, streams={"empty": "cam/empty"})


def test_streams_that_begin_together_are_whole_whatever_rounding_says() -> None:
    sounds = [
        Stream(name, "sound", np.ones((1, 8), np.float32), rate=4.0, start=start)
        for name, start in (("a", 0.0), ("b", 5.6e-17))
    ]
    made = Alignment("r", {"r": reference_estimate("r", 2.0)}, recordings={"r": Recording("r", tuple(sounds))})
    cut = list(avfuse.windows(made, duration=1.0))
    assert [[len(s.times) for s in w.samples.values()] for w in cut] == [[4, 4], [4, 4]]
    assert cut[0].start == 0.0


def test_a_confidence_that_another_tool_stated_is_kept() -> None:
    made = event(CLOCKS["line"], sensor())
    watch = replace(made.clocks["watch"], cov=None, confidence=0.6)
    stated = replace(made, clocks={**made.clocks, "watch": watch})
    assert next(avfuse.windows(stated, duration=1.0)).samples["watch/imu"].confidence == 0.6


@pytest.mark.parametrize("hop", [0.5, 5.0])
def test_of_a_long_recording_little_is_held(hop: float) -> None:
    """A source that counts what is alive of the blocks that it gave."""
    import weakref

    given: list[weakref.ref] = []
    most = 0

    class Film:
        duration = 200.0

        def blocks(self, duration: float, rate: float | None = None):
            for k in range(int(self.duration / duration)):
                block = np.full((5, 4, 4, 3), k % 256, np.uint8)
                given.append(weakref.ref(block))
                yield (k + np.arange(5) / 5) * duration, block

    film = Stream("picture", "picture", Film(), rate=20.0)
    made = Alignment("a", {"a": reference_estimate("a", 200.0)}, recordings={"a": Recording("a", (film,))})
    kept = []
    for window in avfuse.windows(made, duration=2.0, hop=hop):
        kept.append(window)
        most = max(most, sum(ref() is not None for ref in given))
    assert len(given) >= 780
    assert most * 0.25 <= 2.0 + 2 * 0.25


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


def test_a_flash_and_its_beep_are_in_one_window_of_every_stream_of_an_aligned_event() -> None:
    simulated = simulate_event(3, duration=20.0)
    alignment = avfuse.align(list(simulated.recordings))
    assert alignment.complete
    to_reference = dict(simulated.devices)[alignment.reference].clock.inverse()
    for flash in to_reference(np.array(simulated.scene.flashes)):
        begin = float(flash) - 0.15
        (window,) = avfuse.windows(
            alignment, duration=0.4, start=begin, end=begin + 0.4, timeline="union", size=(18, 32)
        )
        for name, samples in window.samples.items():
            if name.endswith("picture"):
                seen = np.diff(samples.values.mean(axis=(1, 2, 3))).argmax() + 1
                late = samples.times[seen] - flash
                assert -0.005 < late < 0.045, f"{name}: the flash is {late} s late"  # a frame
            else:
                turned = samples.values.mean(axis=1) * np.exp(-2j * np.pi * 1000.0 * samples.times)
                heard = np.abs(np.convolve(turned, np.ones(480), "valid"))  # the sum of 10 ms, by its first sample
                late = samples.times[np.flatnonzero(heard > 0.5 * heard.max())[0]] + 0.005 - flash
                assert abs(late - 1.4 / 343.0) < 0.004, f"{name}: the beep is {late} s late"


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
    assert first.samples["cam/text"].values.tolist() == list(b"ab ")
    assert second.samples["cam/text"].times.tolist() == [1.2, 1.2]


def test_words_of_a_transcript_come_as_bytes_at_their_times() -> None:
    said = Transcript("aligned", (Word("Où", 0.2, 0.4), Word("est-il?", 0.9, 1.3)))
    talk = Recording("talk", (Stream.from_samples(np.ones(2000), rate=1000.0), said.stream()))
    made = Alignment("talk", {"talk": reference_estimate("talk", 2.0)}, recordings={"talk": talk})
    first, second = avfuse.windows(made, duration=0.8)
    assert bytes(first.samples["talk/text"].values.tolist()).decode() == "Où "
    assert first.samples["talk/text"].times.tolist() == [0.2] * 4
    assert bytes(second.samples["talk/text"].values.tolist()).decode() == "est-il? "
    with pytest.raises(avfuse.WeakAlignmentError, match="no_match: another text"):
        Transcript("no_match", message="another text").stream()


def test_sound_is_resampled_where_that_is_asked() -> None:
    made = event(CLOCKS["line"], sensor())
    window = next(avfuse.windows(made, duration=1.0, streams={"s": "cam/sound"}, rates={"s": 125.0}))
    assert window.samples["s"].values.shape == (125, 1)
    assert window.samples["s"].rate == 125.0
    with pytest.raises(StreamError, match="only sound can be resampled, not rotation_rate"):
        avfuse.windows(made, duration=1.0, streams={"w": "watch/imu"}, rates={"w": 50.0})
    with pytest.raises(StreamError, match=r"at -5\.0 Hz; expected a positive rate"):
        avfuse.windows(made, duration=1.0, streams={"s": "cam/sound"}, rates={"s": -5.0})


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"duration": 0.0}, "duration 0.0 s; expected a positive"),
        ({"duration": 1.0, "hop": -1.0}, "hop -1.0 s; expected a positive"),
        ({"duration": 60.0}, "no window of 60 s between"),
        ({"duration": 1.0, "start": float("nan")}, "start nan s; expected a finite time"),
        ({"duration": 1.0, "end": float("inf")}, "end inf s; expected a finite time"),
        ({"duration": 1.0, "timeline": "all"}, "timeline 'all'; expected one of intersection, union"),
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
