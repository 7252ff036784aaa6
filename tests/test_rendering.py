"""Rendered files start together, run at one speed, and say what could not be done."""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import reference
import soundfile
from hypothesis import given
from hypothesis import strategies as st

import avfuse
from avfuse._kernels import rendering as kernels
from avfuse.alignment import Alignment, ClockEstimate, RecordingFacts, reference_estimate
from avfuse.clock import ClockMap, PiecewiseClock, Segment
from avfuse.errors import ReadError, StreamError, WriteError
from avfuse.io import read
from avfuse.rendering import PlacedSound, render, wav
from avfuse.stream import Recording, Stream

RATE = 8000


def hum(times: np.ndarray, seed: int = 0, top: float = 0.85 * RATE / 2) -> np.ndarray:
    """A sound that is known at every instant: (n,) at `times`, 40 tones up to `top` Hz, RMS 0.1."""
    rng = np.random.default_rng(seed)
    tones = rng.uniform(20, top, 40)
    phases = rng.uniform(0, 2 * np.pi, 40)
    return 0.1 * np.sqrt(2 / 40) * sum(np.sin(2 * np.pi * f * times + p) for f, p in zip(tones, phases, strict=True))


def heard(name: str, clock: ClockMap, duration: float, rate: float = RATE) -> Recording:
    """What a device whose time t is clock(t) of the event records of `hum`."""
    times = clock(np.arange(round(duration * rate)) / rate)
    return Recording(name, (Stream.from_samples(hum(times).astype(np.float32), rate=rate),))


def aligned(
    reference: Recording, *others: tuple[Recording, ClockMap | PiecewiseClock], refused: tuple[str, ...] = ()
) -> Alignment:
    recordings = {r.name: r for r in (reference, *(r for r, _ in others))}
    clocks = {reference.name: reference_estimate(reference.name, reference.duration)}
    for recording, clock in others:
        segments = len(clock.segments) if isinstance(clock, PiecewiseClock) else 0
        cov = np.zeros((segments, 2, 2)) if segments else np.zeros((2, 2))
        span = (0.0, recording.duration)
        clocks[recording.name] = ClockEstimate("aligned", clock, cov, 1.0, span=span, reference=reference.name)
    for name in refused:
        clocks[name] = ClockEstimate("no_match", message="nothing shared", reference=reference.name)
    facts = {name: RecordingFacts.of(recording) for name, recording in recordings.items()}
    return Alignment(reference.name, clocks, {}, facts, recordings)


def placed(values: np.ndarray, clock: ClockMap | PiecewiseClock, start: float, count: int) -> np.ndarray:
    return PlacedSound(Stream.from_samples(values, rate=RATE), clock, start).take(count)


def offset_between(reference: np.ndarray, moving: np.ndarray, rate: float) -> float:
    """Seconds by which `moving` is late, from the phase slope of the cross-spectrum around the correlation's peak."""
    n = len(reference)
    spectrum = np.fft.rfft(moving) * np.conj(np.fft.rfft(reference))
    size = 64 * n
    # Zero-padding the spectrum of a band-limited correlation interpolates it exactly.
    correlation = np.fft.irfft(np.concatenate([spectrum, np.zeros(size // 2 + 1 - len(spectrum))]), size)
    lag = int(np.argmax(correlation))
    return (lag if lag < size // 2 else lag - size) / (64 * rate)


# --- kernels


@pytest.mark.kernel
@given(
    st.lists(st.one_of(st.floats(-1.0, 1.0), st.just(float("nan"))), max_size=40),
    st.floats(-0.5, 0.5),
    st.integers(0, 40),
    st.integers(1, 60),
    st.sampled_from([8, 32]),
    st.sampled_from([1, 16]),
)
def test_locate_is_its_twin(times, origin, skipped, n, taps, phases):
    arguments = (np.array(times, np.float64), origin, 50.0, skipped, n, taps, phases)
    for found, expected in zip(kernels.locate(*arguments), reference.locate(*arguments), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-9)
        assert found.dtype == expected.dtype


@pytest.mark.kernel
def test_placed_sound_is_the_windowed_sinc(rng_values):
    clock, start = ClockMap(0.01234, 3e-4), -0.005
    found = placed(rng_values, clock, start, 400)[0]
    positions = clock.inverse()(start + np.arange(400) / RATE) * RATE
    expected = [reference.sinc_value(rng_values, p, 64, 0.1102 * (96 - 8.7)) for p in positions]
    np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.fixture
def rng_values() -> np.ndarray:
    return np.random.default_rng(5).uniform(-1, 1, 300).astype(np.float32)


# --- sound on another clock


@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.9])
def test_tones_below_nine_tenths_of_nyquist_come_out_80_db_clean(share):
    frequency, clock = share * RATE / 2, ClockMap(0.0123, 8e-5)
    values = np.sin(2 * np.pi * frequency * clock(np.arange(4 * RATE) / RATE)).astype(np.float32)
    found = placed(values, clock, 1.0, 2 * RATE)[0]
    error = found - np.sin(2 * np.pi * frequency * (1.0 + np.arange(2 * RATE) / RATE))
    assert 20 * np.log10(np.sqrt(np.mean(error**2)) / np.sqrt(0.5)) < -80


@pytest.mark.parametrize("drift", [0.0, 1.2e-4, -1.2e-4])
def test_two_devices_hear_the_same_once_rendered(tmp_path, drift):
    clock = ClockMap(3.45678, drift)
    alignment = aligned(heard("cam", ClockMap(), 12.0), (heard("rec", clock, 10.0), clock))
    cam, rec = (soundfile.read(path)[0] for path in render(alignment, tmp_path))
    both = slice(round(3.5 * RATE), round(11.9 * RATE))
    assert np.max(np.abs(cam[both] - rec[both])) < 1e-4 * 0.5
    # The end must agree as well as the start: no drift is left.
    for part in (slice(round(3.5 * RATE), round(4.5 * RATE)), slice(round(10.9 * RATE), round(11.9 * RATE))):
        assert abs(offset_between(cam[part], rec[part], RATE)) < 1e-6


def test_the_timeline_reaches_from_the_first_sample_to_the_last(tmp_path):
    cam, rec = heard("cam", ClockMap(), 3.0), heard("rec", ClockMap(-1.25), 2.0)
    alignment = aligned(cam, (rec, ClockMap(-1.25)))
    union = render(alignment, tmp_path / "union")
    assert (union.start, union.end) == (-1.25, 3.0)
    assert [soundfile.info(p).frames for p in union] == [round(4.25 * RATE)] * 2
    common = render(alignment, tmp_path / "common", timeline="intersection")
    assert (common.start, common.end) == (0.0, 0.75)
    assert [soundfile.info(p).frames for p in common] == [round(0.75 * RATE)] * 2


def test_silence_where_the_recording_says_nothing():
    values = np.ones(RATE, np.float32)
    found = placed(values, ClockMap(1.0), 0.0, 3 * RATE)[0]
    assert not found[: RATE - 40].any()
    assert not found[2 * RATE + 40 :].any()
    np.testing.assert_allclose(found[RATE + 40 : 2 * RATE - 40], 1.0, atol=1e-5)


def test_silence_in_the_holes_of_a_piecewise_clock():
    """A recorder that dropped a quarter of a second: what it wrote after that belongs later."""
    clock = PiecewiseClock((Segment(0.0, 1.0, 0.0), Segment(1.0, 2.0, 0.25)))
    lost = ClockMap()
    truth = np.concatenate([np.arange(RATE) / RATE, 1.25 + np.arange(RATE) / RATE])
    found = placed(hum(truth).astype(np.float32), clock, 0.0, round(2.25 * RATE))[0]
    expected = hum(lost(np.arange(len(found)) / RATE))
    gap = slice(RATE, round(1.25 * RATE))
    assert not found[gap].any()
    for part in (slice(40, RATE - 40), slice(round(1.25 * RATE) + 40, len(found) - 40)):
        np.testing.assert_allclose(found[part], expected[part], atol=1e-4)


class Chopped:
    """A source that delivers an array in blocks of its own liking."""

    def __init__(self, values: np.ndarray, sizes: list[int], start: float = 0.0) -> None:
        self.values, self.sizes, self.start = values, sizes, start
        self.duration = values.shape[1] / RATE

    def blocks(self, duration: float, rate: float | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        first = 0
        for size in [*self.sizes, self.values.shape[1]]:
            part = self.values[:, first : first + size]
            if part.shape[1]:
                yield self.start + (first + np.arange(part.shape[1])) / RATE, part
            first += size


@given(st.lists(st.integers(0, 500), max_size=12), st.lists(st.integers(1, 700), min_size=1, max_size=6))
def test_how_sound_was_cut_does_not_matter(sizes, takes):
    values = np.random.default_rng(1).standard_normal((2, 2500)).astype(np.float32)
    clock = ClockMap(0.0123, 1e-4)
    cut = PlacedSound(Stream("sound", "sound", Chopped(values, sizes), rate=RATE), clock, -0.01)
    whole = PlacedSound(Stream.from_samples(values, rate=RATE), clock, -0.01)
    found = np.concatenate([cut.take(n) for n in takes], axis=1)
    np.testing.assert_allclose(found, whole.take(sum(takes)), atol=1e-6)


def test_gaps_between_blocks_stay_silent_and_what_follows_keeps_its_time():
    late = 1.5
    values = hum(np.arange(RATE) / RATE)[None].astype(np.float32)

    class Gapped(Chopped):
        def blocks(self, duration: float, rate: float | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
            yield np.arange(RATE) / RATE, values
            yield late + np.arange(RATE) / RATE, values

    found = PlacedSound(Stream("sound", "sound", Gapped(values, []), rate=RATE), ClockMap(), 0.0).take(3 * RATE)[0]
    assert not found[RATE + 40 : round(late * RATE) - 40].any()
    again = slice(round(late * RATE) + 40, round(late * RATE) + RATE - 40)
    np.testing.assert_allclose(found[again], values[0, 40:-40], atol=1e-5)


def test_an_hour_does_not_stay_in_memory():
    rate = 48000
    block = np.zeros((2, rate), np.float32)

    class Long:
        duration = 3600.0

        def blocks(self, duration: float, rate_: float | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
            for k in range(3600):
                yield k + np.arange(rate) / rate, block

    sound = PlacedSound(Stream("sound", "sound", Long(), rate=rate), ClockMap(0.3, 5e-5), 0.0)
    sound.take(rate)
    tracemalloc.start()
    for _ in range(60):
        sound.take(2 * rate)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6


def test_a_correction_of_one_stream_moves_it(tmp_path):
    cam, rec = heard("cam", ClockMap(), 3.0), heard("rec", ClockMap(0.2), 3.0)
    alignment = aligned(cam, (rec, ClockMap()))
    corrected = {**alignment.facts, "rec": replace(alignment.facts["rec"], streams={"sound": 0.2})}
    first, second = (soundfile.read(p)[0] for p in render(replace(alignment, facts=corrected), tmp_path))
    both = slice(round(0.3 * RATE), round(2.9 * RATE))
    np.testing.assert_allclose(first[both], second[both], atol=1e-4)


def test_the_talk_lies_where_it_was_cut_from(shared, tmp_path):
    whole, part = read(shared / "sound" / "timbl_1.mp3"), read(shared / "sound" / "timbl_2.mp3")
    paths = render(aligned(whole, (part, ClockMap(12.2540))), tmp_path)
    (one, rate), (two, _) = (soundfile.read(p, dtype="float32") for p in paths)
    assert one.shape == two.shape
    part = slice(13 * rate, 18 * rate)
    # The stated offset is good to 0.05 ms.
    assert abs(offset_between(one[part, 0], two[part, 0], rate)) < 0.0001


def test_aligning_what_was_rendered_finds_nothing_left(shared, tmp_path):
    first = avfuse.align([shared / "sound" / "timbl_1.mp3", shared / "sound" / "timbl_2.mp3"])
    again = avfuse.align(list(render(first, tmp_path))).clocks["timbl_2"]
    assert abs(again.offset) < 5e-5
    assert abs(again.drift) < 1e-6


# --- WAV files


def test_wav_files_read_back_as_written(tmp_path):
    values = np.random.default_rng(0).uniform(-1.5, 1.5, (3, 1000)).astype(np.float32)
    path = tmp_path / "a.wav"
    with path.open("wb") as file:
        file.write(wav.wav_header(1000, 44100, 3, ("FL", "FR", "LFE")))
        wav.write_samples(file, values)
    found, rate = soundfile.read(path, dtype="float32")
    assert rate == 44100
    np.testing.assert_array_equal(found.T, values)
    assert path.stat().st_size == wav.wav_size(1000, 3)
    assert read(path)["sound"].channels == ("FL", "FR", "LFE")


def test_more_than_four_gigabytes_become_rf64(tmp_path):
    frames, path = 700_000_000, tmp_path / "long.wav"
    with path.open("wb") as file:
        file.write(wav.wav_header(frames, 48000, 2))
        file.truncate(wav.wav_size(frames, 2))  # sparse: takes no space
    assert path.stat().st_size > 2**32
    with path.open("rb") as file:
        head = file.read(48)
    assert head[12:16] == b"ds64"
    assert int.from_bytes(head[20:28], "little") == path.stat().st_size - 8
    assert int.from_bytes(head[28:36], "little") == frames * 8
    info = soundfile.info(path)
    assert (info.format, info.frames, info.channels) == ("RF64", frames, 2)
    with av.open(path) as container:
        assert container.duration / 1e6 == pytest.approx(frames / 48000)


def test_rf64_holds_the_same_sound(tmp_path, monkeypatch):
    alignment = aligned(heard("cam", ClockMap(), 2.0))
    (plain,) = render(alignment, tmp_path / "riff")
    monkeypatch.setattr(wav, "RIFF_LIMIT", 10_000)
    (large,) = render(alignment, tmp_path / "rf64")
    assert (soundfile.info(plain).format, soundfile.info(large).format) == ("WAV", "RF64")
    np.testing.assert_array_equal(soundfile.read(plain)[0], soundfile.read(large)[0])


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_equal_input_gives_equal_files(movies, tmp_path, name):
    alignment = aligned(read(movies(name)), (heard("rec", ClockMap(0.1), 2.0), ClockMap(0.1)))
    first, second = render(alignment, tmp_path / "a"), render(alignment, tmp_path / "b")
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]


# --- video


@pytest.fixture(scope="session")
def movies(ffmpeg, tmp_path_factory) -> Callable[[str], Path]:
    """Six seconds of test picture with a key frame every two seconds and B-frames, beside 44.1 kHz sound."""
    folder = tmp_path_factory.mktemp("movies")
    picture = ["-f", "lavfi", "-i", "testsrc2=s=160x120:r=25:d=6"]
    sound = ["-f", "lavfi", "-i", "aevalsrc=0.3*sin(2*PI*(200+300*t)*t):s=44100:d=6"]
    h264 = ["-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-bf", "2"]
    h264 += ["-g", "50", "-keyint_min", "50", "-sc_threshold", "0"]

    def run(*arguments: str) -> None:
        subprocess.run([ffmpeg, "-y", "-v", "error", *arguments], check=True)

    run(*picture, *sound, *h264, "-c:a", "aac", "-shortest", str(folder / "a.mp4"))

    def make(name: str) -> Path:
        path, first = folder / name, str(folder / "a.mp4")
        if path.exists():
            return path
        if name == "mute.mp4":
            run("-i", first, "-an", "-c", "copy", str(path))
        elif name == "cut.mp4":  # an edit list of its own, that hides the first 0.7 s
            run("-ss", "0.7", "-i", first, "-c", "copy", str(path))
        elif name == "turned.mp4":
            run("-i", first, "-c", "copy", "-metadata:s:v", "rotate=90", str(path))
        elif name == "surround.mov":
            run(*picture, *sound, "-c:v", "mjpeg", "-c:a", "pcm_s16le", "-ac", "6", str(path))
        elif name == "open.mkv":  # pictures that are shown before their key frame refer to the ones before
            run(*picture, *h264, "-x264-params", "open-gop=1", str(path))
        elif name == "surround.mp4":
            run(*picture, *sound, *h264, "-filter:a", "pan=5.1|FL=c0|FR=0.5*c0", "-c:a", "aac", str(path))
        elif name == "hevc.mp4":
            run(*picture, "-c:v", "libx265", "-x265-params", "log-level=none", "-tag:v", "hvc1", str(path))
        elif path.suffix in (".avi", ".mpg"):
            codec = {".avi": "mpeg4", ".mpg": "mpeg2video"}[path.suffix]
            run(*picture, *sound, "-c:v", codec, "-c:a", "mp2", "-g", "50", "-bf", "2", str(path))
        else:
            run("-i", first, "-c", "copy", str(path))
        return path

    return make


def frame_times(recording: Recording) -> np.ndarray:
    return np.concatenate([times for times, _ in recording["picture"].blocks(0.5)])


CLOCK_EARLY, CLOCK_LATE = ClockMap(-1.3137, 8e-5), ClockMap(2.34567, -8e-5)


def tick(path: Path) -> float:
    return 0.0005 if path.suffix == ".mkv" else 0.5 / 90000


def assert_frames_lie_at(found: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    assert len(found) == len(expected)
    np.testing.assert_allclose(found, expected, atol=tolerance * 1.02)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov", "a.ts", "a.avi", "a.mpg", "mute.mp4", "surround.mov"])
def test_pictures_are_moved_and_scaled_without_touching_them(movies, tmp_path, name):
    cam = read(movies(name))
    alignment = aligned(heard("rec", ClockMap(), 10.0), (cam, CLOCK_LATE))
    rendered = render(alignment, tmp_path)
    again = read(rendered[1])
    assert again.start == 0  # time 0 of the file is time 0 of the timeline
    assert_frames_lie_at(frame_times(again), CLOCK_LATE(frame_times(cam)), tick(rendered[1]))
    before = next(values for _, values in cam["picture"].blocks(1.0))
    after = next(values for _, values in again["picture"].blocks(1.0))
    np.testing.assert_array_equal(before[:20], after[:20])
    for sound in again.of_kind("sound"):
        assert sound.start == pytest.approx(0.0, abs=2e-5)


def test_the_containers_that_are_kept_and_those_that_change(movies, tmp_path):
    kept = {"a.mp4": ".mp4", "a.mkv": ".mkv", "a.mov": ".mov", "a.ts": ".mkv", "a.avi": ".mkv", "a.mpg": ".mkv"}
    for name, suffix in kept.items():
        rendered = render(aligned(read(movies(name))), tmp_path / name)
        assert rendered[0].suffix == suffix
        assert any("written as .mkv" in note for note in rendered.notes) == (Path(name).suffix != suffix)


def test_channels_keep_their_places(movies, tmp_path):
    cam = read(movies("surround.mp4"))
    again = read(render(aligned(cam), tmp_path)[0])["sound"]
    # FLAC knows one layout of six channels, and FFmpeg calls its last pair side or back.
    assert [c.replace("SL", "BL").replace("SR", "BR") for c in again.channels] == list(cam["sound"].channels)
    assert len(again.channels) == 6


def test_a_codec_keeps_the_tag_that_players_know_it_by(movies, tmp_path):
    (path,) = render(aligned(read(movies("hevc.mp4"))), tmp_path)
    with av.open(path) as container:
        assert container.streams.video[0].codec_context.codec_tag == "hvc1"


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov"])
def test_the_sound_of_a_video_moves_with_its_picture(movies, tmp_path, name):
    cam = read(movies(name))
    rendered = render(aligned(heard("rec", ClockMap(), 10.0), (cam, CLOCK_LATE)), tmp_path)
    again = read(rendered[1])["sound"]
    expected = PlacedSound(cam["sound"], CLOCK_LATE, 0.0)
    for times, values in again.blocks(1.0):
        wanted = expected.take(values.shape[1])
        assert times[0] == pytest.approx(round(times[0] * 44100) / 44100, abs=2e-5)
        np.testing.assert_allclose(values, wanted, atol=2**-23)


@pytest.mark.parametrize("name", ["a.mp4", "a.mov"])
def test_edit_lists_hide_what_the_copy_must_carry_before_the_cut(movies, tmp_path, name, ffmpeg):
    cam = read(movies(name))
    rendered = render(aligned(heard("rec", ClockMap(), 10.0), (cam, CLOCK_EARLY)), tmp_path, timeline="intersection")
    assert rendered.notes == []
    shown = CLOCK_EARLY(frame_times(cam))
    # The picture on screen at the cut is shown from the cut on.
    expected = np.concatenate([[0.0], shown[shown >= 0]])
    assert_frames_lie_at(frame_times(read(rendered[1])), expected, tick(rendered[1]))
    probe = Path(ffmpeg).with_name("ffprobe")
    ask = ["-v", "error", "-select_streams", "v", "-show_entries", "frame=pts_time", "-of", "csv=p=0"]
    told = subprocess.run([probe, *ask, rendered[1]], capture_output=True, text=True, check=True).stdout
    lines = told.replace(",", "").split()
    assert_frames_lie_at(np.array([float(line) for line in lines]), expected, 2e-5)


def test_what_matroska_cannot_hide_is_said(movies, tmp_path):
    cam = read(movies("a.mkv"))
    rendered = render(aligned(heard("rec", ClockMap(), 10.0), (cam, CLOCK_EARLY)), tmp_path, timeline="intersection")
    times, shown = frame_times(read(rendered[1])), CLOCK_EARLY(frame_times(cam))
    (note,) = rendered.notes
    assert f"a.mkv: picture begins {shown[50]:.3f} s late" in note
    assert "reencode" in note
    assert_frames_lie_at(times, shown[50:], tick(rendered[1]))


def test_pictures_that_refer_to_what_was_cut_off_are_left_out(movies, tmp_path):
    cam = read(movies("open.mkv"))
    rendered = render(aligned(heard("rec", ClockMap(), 10.0), (cam, CLOCK_EARLY)), tmp_path, timeline="intersection")
    with av.open(rendered[1]) as container:
        stamps = [packet.pts for packet in container.demux(video=0) if packet.size]
    assert min(stamps) == stamps[0]
    # All that was copied can be decoded and shown, and lies where it should though the video has no sound.
    np.testing.assert_allclose(frame_times(read(rendered[1])), np.sort(stamps) / 1000, atol=1e-9)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_encoding_again_cuts_exactly(movies, tmp_path, name):
    cam = read(movies(name))
    alignment = aligned(heard("rec", ClockMap(), 3.0), (cam, CLOCK_EARLY))
    rendered = render(alignment, tmp_path, timeline="intersection", reencode=True)
    assert rendered.notes == []
    shown = CLOCK_EARLY(frame_times(cam))
    inside = (shown >= 0) & (shown < 3.0)
    again = read(rendered[1])
    assert_frames_lie_at(frame_times(again), np.concatenate([[0.0], shown[inside]]), tick(rendered[1]) + 2e-5)
    before = np.concatenate([v for _, v in cam["picture"].blocks(1.0)])[inside][20].astype(float)
    after = np.concatenate([v for _, v in again["picture"].blocks(1.0)])[21].astype(float)
    assert np.abs(before - after).mean() < 4.0


@pytest.mark.parametrize("count", [75, 76, 77, 78])  # some of these ends fall between a picture and one it is built on
def test_the_copy_ends_where_the_timeline_ends(movies, tmp_path, count):
    cam, end = read(movies("a.mp4")), count / 25
    rec = heard("rec", ClockMap(), end)
    rendered = render(aligned(rec, (cam, ClockMap())), tmp_path, timeline="intersection")
    times = frame_times(read(rendered[1]))
    kept = [note for note in rendered.notes if "after the end" in note]
    # Pictures behind the end stay only where others need them, and then it is said.
    assert (times >= end - 1e-9).sum() == sum(int(note.split()[1]) for note in kept)
    assert (times < end - 1e-9).sum() == count


def test_hidden_pictures_of_the_source_stay_hidden(movies, tmp_path):
    cam = read(movies("cut.mp4"))
    early = render(aligned(cam), tmp_path / "alone")
    assert_frames_lie_at(frame_times(read(early[0])), frame_times(cam), tick(early[0]))
    late = render(aligned(heard("rec", ClockMap(), 10.0), (cam, CLOCK_LATE)), tmp_path)
    times = frame_times(read(late[1]))
    assert times[0] >= CLOCK_LATE(0.0) - 1e-4
    assert any("picture begins" in note for note in late.notes)


def test_a_silent_video_that_starts_late_gets_a_silent_track(movies, tmp_path):
    cam = read(movies("mute.mp4"))
    rendered = render(aligned(heard("rec", ClockMap(), 10.0), (cam, CLOCK_LATE)), tmp_path)
    assert any("silent track" in note for note in rendered.notes)
    assert not np.concatenate([v for _, v in read(rendered[1])["sound"].blocks(1.0)], axis=1).any()
    assert read(render(aligned(cam), tmp_path / "alone")[0]).of_kind("sound") == ()


@pytest.mark.parametrize("reencode", [False, True])
def test_a_turned_video_stays_upright(movies, tmp_path, reencode):
    cam = read(movies("turned.mp4"))
    again = read(render(aligned(cam), tmp_path, reencode=reencode)[0])
    first, second = (next(v for _, v in r["picture"].blocks(0.2))[0].astype(float) for r in (cam, again))
    assert first.shape == second.shape == (160, 120, 3)
    assert np.abs(first - second).mean() < 4.0


def test_the_best_sound_comes_as_a_further_track(movies, tmp_path):
    cam, rec = read(movies("a.mp4")), heard("rec", CLOCK_LATE, 3.0)
    rendered = render(aligned(cam, (rec, CLOCK_LATE)), tmp_path, best_sound="rec")
    own, best = read(rendered[0]).of_kind("sound")
    expected = PlacedSound(rec["sound"], CLOCK_LATE, 0.0)
    for _, values in best.blocks(1.0):
        np.testing.assert_allclose(values, expected.take(values.shape[1]), atol=2**-23)
    assert (own.rate, best.rate) == (44100, RATE)


def test_auto_takes_the_recorder_with_the_widest_range(movies, tmp_path):
    cam = read(movies("a.mp4"))
    clean = heard("clean", ClockMap(), 4.0)
    swell = np.linspace(0.01, 1.0, 4 * RATE, dtype=np.float32)
    noise = np.random.default_rng(0).normal(0, 0.05, 4 * RATE).astype(np.float32)
    sound = np.asarray(clean["sound"].values) * swell
    good = Recording("good", (Stream.from_samples(sound, rate=RATE),))
    noisy = Recording("noisy", (Stream.from_samples(sound + noise, rate=RATE),))
    rendered = render(aligned(cam, (noisy, ClockMap()), (good, ClockMap())), tmp_path, best_sound="auto")
    assert "good: taken as the best sound" in rendered.notes


def test_pictures_in_a_hole_of_the_clock_are_squeezed_or_left_out(movies, tmp_path):
    cam = read(movies("a.mp4"))
    clock = PiecewiseClock((Segment(0.0, 2.0, 0.0), Segment(3.0, 6.0, -0.5)))
    shown = clock(frame_times(cam))
    copied = frame_times(read(render(aligned(heard("rec", ClockMap(), 6.0), (cam, clock)), tmp_path)[1]))
    assert len(copied) == len(shown)
    assert (np.diff(copied) > 0).all()
    known = np.isfinite(shown)
    np.testing.assert_allclose(copied[known], shown[known], atol=1e-5)
    alignment = aligned(heard("rec", ClockMap(), 6.0), (cam, clock))
    again = frame_times(read(render(alignment, tmp_path, reencode=True)[1]))
    assert_frames_lie_at(again, shown[known], 2e-5)


@pytest.mark.parametrize(
    "name",
    ["picture/nasa_13013.mp4", "motion/karma.mp4", "picture/VID00003-20100701-2204.avi", "picture/bbaf2n.mpg",
     "picture/VID00003-20100701-2204.mpg", "picture/flipping_a_pancake.mkv", "picture/fire2.mp4",
     "picture/face_22fps.mp4"],
)  # fmt: skip
def test_real_videos_keep_every_picture_in_its_place(shared, tmp_path, name):
    cam, clock = read(shared / name), ClockMap(0.7531, 5e-5)
    rendered = render(aligned(heard("rec", ClockMap(), 3.0), (cam, clock)), tmp_path)
    again = read(rendered[1])
    assert_frames_lie_at(frame_times(again), clock(frame_times(cam)), tick(rendered[1]))
    for before, after in zip(cam.of_kind("sound"), again.of_kind("sound"), strict=True):
        assert (before.rate, after.start) == (after.rate, pytest.approx(0.0, abs=2e-5))


# --- what is refused, and what is left behind


def test_refused_recordings_are_named_and_left_out(tmp_path):
    rendered = render(aligned(heard("cam", ClockMap(), 1.0), refused=("far",)), tmp_path)
    assert [p.name for p in rendered] == ["cam.wav"]
    assert rendered.left_out == {"far": "no_match: nothing shared"}


def test_islands_are_not_mixed(tmp_path):
    alignment = aligned(heard("cam", ClockMap(), 1.0), (heard("other", ClockMap(), 1.0), ClockMap()))
    island = replace(alignment.clocks["other"], reference="third")
    rendered = render(replace(alignment, clocks={**alignment.clocks, "other": island}), tmp_path)
    assert [p.name for p in rendered] == ["cam.wav"]
    assert "third" in rendered.left_out["other"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"timeline": "longest"}, "union, intersection"),
        ({"only": ["nobody"]}, "cam, rec, far"),
        ({"best_sound": "nobody"}, "cam, rec, far"),
        ({"best_sound": "far"}, "not on the timeline"),
        ({"timeline": "intersection"}, "no time in common"),
    ],
)
def test_bad_arguments_are_one_clear_line_and_make_no_folder(tmp_path, options, words):
    rec = heard("rec", ClockMap(), 1.0)
    alignment = aligned(heard("cam", ClockMap(), 1.0), (rec, ClockMap(5.0)), refused=("far",))
    with pytest.raises(StreamError, match=words) as raised:
        render(alignment, tmp_path / "out", **options)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()


def test_only_writes_what_is_asked_for_on_the_timeline_of_all(tmp_path):
    alignment = aligned(heard("cam", ClockMap(), 1.0), (heard("rec", ClockMap(), 1.0), ClockMap(5.0)))
    (path,) = render(alignment, tmp_path, only=["rec"])
    assert soundfile.info(path).frames == 6 * RATE


def test_a_recording_is_never_overwritten(tmp_path):
    path = tmp_path / "cam.wav"
    soundfile.write(path, np.zeros(RATE), RATE)
    before = path.read_bytes()
    with pytest.raises(WriteError, match=r"cam\.wav: is one of the recordings"):
        render(aligned(read(path)), tmp_path)
    assert path.read_bytes() == before


def test_names_that_collide_once_written_all_get_a_file(tmp_path):
    """Recordings called talk.wav and talk, and one called like what the second of them would become."""
    takes = [heard(name, ClockMap(), 1.0 + k / 10) for k, name in enumerate(("talk.wav", "talk", "talk-2"))]
    written = render(aligned(takes[0], *((take, ClockMap()) for take in takes[1:])), tmp_path)
    assert len(written) == 3
    assert set(written) == set(tmp_path.iterdir())


def test_a_name_as_long_as_a_name_may_be(tmp_path):
    (path,) = render(aligned(heard("入" * 83, ClockMap(), 1.0)), tmp_path)
    assert path.exists()


def test_an_output_folder_that_is_a_file(tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(WriteError, match="is a file"):
        render(aligned(heard("cam", ClockMap(), 1.0)), tmp_path / "out")


def test_a_source_that_has_gone_is_a_read_error(movies, tmp_path):
    path = tmp_path / "gone.mp4"
    shutil.copy(movies("a.mp4"), path)
    alignment = aligned(read(path))
    path.unlink()
    with pytest.raises(ReadError, match=r"gone\.mp4"):
        render(alignment, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("reencode", [False, True])
def test_ctrl_c_leaves_nothing_behind(movies, tmp_path, reencode):
    alignment = aligned(heard("rec", ClockMap(), 8.0), (read(movies("a.mp4")), ClockMap(0.5)))

    def interrupt(fraction: float, file: str) -> None:
        if fraction > 0.7:
            assert len(list((tmp_path / "new" / "out").iterdir())) == 2  # both files are under way
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        render(alignment, tmp_path / "new" / "out", reencode=reencode, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_progress_rises_to_the_end(movies, tmp_path):
    told: list[tuple[float, str]] = []
    alignment = aligned(heard("rec", ClockMap(), 8.0), (read(movies("a.mp4")), ClockMap(0.5)))
    render(alignment, tmp_path, progress=lambda fraction, file: told.append((fraction, file)))
    fractions = [fraction for fraction, _ in told]
    assert fractions == sorted(fractions)
    assert fractions[-1] > 0.95
    assert {file for _, file in told} == {"rec.wav", "a.mp4"}


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "rec.wav"])
def test_a_full_disk_is_one_clear_line_and_leaves_nothing(movies, tmp_path, name):
    pytest.importorskip("resource")
    script = f"""
        import resource, sys
        sys.path[:0] = {[str(Path(__file__).parent), *sys.path]!r}
        from test_rendering import *
        cam = heard("rec", ClockMap(), 20.0) if {name!r} == "rec.wav" else read({str(movies("a.mp4"))!r})
        alignment = aligned(replace(cam, name={Path(name).stem!r}))
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            render(alignment, {str(tmp_path / "out")!r})
        except WriteError as error:
            print(error)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True)
    assert "cannot be written" in done.stdout
    assert done.stdout.count("\n") == 1
    assert not (tmp_path / "out").exists()
