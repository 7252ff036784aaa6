"""Laws of reading media: where sound and picture lie in time, whatever carried them."""

from __future__ import annotations

import json
import os
import subprocess
import wave
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import avfuse
from avfuse.errors import ReadError
from avfuse.io import inspect, read
from avfuse.io.placing import Findings, Placer
from avfuse.simulation.media import write_media
from avfuse.stream import Recording, Stream

RATE = 48000


@dataclass(frozen=True)
class Source:
    """A known sound, its file and the ffmpeg that turns it into others."""

    path: Path
    values: np.ndarray
    ffmpeg: str

    def make(self, target: Path, *options: str, inputs: tuple[str, ...] = ()) -> str:
        command = [self.ffmpeg, "-v", "error", "-y", *inputs, "-i", str(self.path), *options, str(target)]
        subprocess.run(command, check=True, capture_output=True)
        return str(target)


@pytest.fixture(scope="module")
def source(tmp_path_factory, ffmpeg) -> Source:
    """Four seconds of noise of changing loudness between 100 Hz and 10 kHz, which every codec keeps."""
    rng = np.random.default_rng(0)
    spectrum = np.fft.rfft(rng.standard_normal(4 * RATE))
    frequency = np.fft.rfftfreq(4 * RATE, 1 / RATE)
    values = np.fft.irfft(spectrum * ((frequency > 100) & (frequency < 10000)))
    values *= 0.2 / values.std() * (0.4 + 0.6 * np.abs(np.sin(np.arange(4 * RATE) / RATE * 3)))
    coded = np.round(np.clip(values, -1, 1) * 32767).astype("<i2")
    path = tmp_path_factory.mktemp("source") / "source.wav"
    write_wav(path, coded, RATE)
    return Source(path, coded / 32768, ffmpeg)


def write_wav(path: Path, coded: np.ndarray, rate: int) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(coded.tobytes())


def sound(path: str, rate: float | None = None, duration: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    blocks = list(read(path)["sound"].blocks(duration, rate))
    return np.concatenate([t for t, _ in blocks]), np.concatenate([v for _, v in blocks], axis=1)


def lag(values: np.ndarray, reference: np.ndarray) -> int:
    """Samples by which `values` comes later than `reference`."""
    size = 1 << 19
    both = np.fft.irfft(np.fft.rfft(values, size) * np.fft.rfft(reference, size).conj())
    peak = int(np.argmax(both))
    return peak if peak < size // 2 else peak - size


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("aac.mp4", ["-c:a", "aac"]),
        ("aac.mkv", ["-c:a", "aac"]),
        ("lame.mp3", ["-c:a", "libmp3lame"]),
        ("lame.mkv", ["-c:a", "libmp3lame"]),
        ("lame.mp4", ["-c:a", "libmp3lame"]),
        ("opus.mkv", ["-c:a", "libopus"]),
        ("opus.ogg", ["-c:a", "libopus"]),
        ("opus.mp4", ["-c:a", "libopus"]),
        ("vorbis.ogg", ["-c:a", "libvorbis"]),
        ("vorbis.mkv", ["-c:a", "libvorbis"]),
        ("flac.flac", []),
        ("flac.mkv", ["-c:a", "flac"]),
        ("alac.m4a", ["-c:a", "alac"]),
        ("pcm.mkv", ["-c:a", "pcm_s24le"]),
    ],
)
def test_every_codec_gives_the_sound_back_at_its_own_time(source, tmp_path, name, options):
    path = source.make(tmp_path / name, *options)
    times, values = sound(path)
    assert abs(times[0]) < 1e-9
    np.testing.assert_allclose(times, np.arange(times.size) / RATE, rtol=0, atol=1e-9)
    assert abs(lag(values[0], source.values)) <= 1
    assert abs(times.size - source.values.size) < 0.03 * RATE


@pytest.mark.parametrize(
    ("name", "codec", "late"),
    [("lame.avi", "libmp3lame", 1105), ("aac.aac", "aac", 1024), ("aac.ts", "aac", 1024), ("mp2.mpg", "mp2", 481)],
)
def test_a_delay_that_no_header_states_is_named(source, tmp_path, name, codec, late):
    path = source.make(tmp_path / name, "-c:a", codec)
    assert lag(sound(path)[1][0], source.values) == pytest.approx(late, abs=1)
    assert any("states no encoder delay" in s and f"{late} samples" in s for s in read(path).facts["odd"])


@pytest.mark.parametrize(
    ("codec", "name", "error"),
    [
        ("pcm_u8", "u8.wav", 2**-7),
        ("pcm_s16le", "s16.wav", 0.0),
        ("pcm_s24le", "s24.wav", 0.0),
        ("pcm_s32le", "s32.wav", 0.0),
        ("pcm_f32le", "f32.wav", 0.0),
        ("pcm_f64le", "f64.wav", 0.0),
        ("flac", "s16.flac", 0.0),
    ],
)
def test_every_sample_format_keeps_its_values(source, tmp_path, codec, name, error):
    _, values = sound(source.make(tmp_path / name, "-c:a", codec))
    assert values.dtype == np.float32
    np.testing.assert_allclose(values[0], source.values, rtol=0, atol=error)


def test_channels_keep_their_order_and_names(source, tmp_path):
    pan = "pan=5.1|c0=c0|c1=0.5*c0|c2=0.25*c0|c3=0*c0|c4=0.1*c0|c5=-1*c0"
    path = source.make(tmp_path / "six.wav", "-af", pan, "-c:a", "pcm_f32le")
    _, values = sound(path)
    np.testing.assert_allclose(values, np.outer([1, 0.5, 0.25, 0, 0.1, -1], source.values), atol=1e-4)
    assert read(path)["sound"].channels[:4] == ("FL", "FR", "FC", "LFE")


def test_the_length_of_blocks_changes_nothing(source, tmp_path):
    path = source.make(tmp_path / "aac.mp4", "-c:a", "aac")
    times, values = sound(path, 16000, 5.0)
    for duration in (0.013, 0.37):
        blocks = list(read(path)["sound"].blocks(duration, 16000))
        assert all(t.size <= duration * 16000 for t, _ in blocks)
        np.testing.assert_array_equal(np.concatenate([v for _, v in blocks], axis=1), values)
        np.testing.assert_allclose(np.concatenate([t for t, _ in blocks]), times, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["gap.mkv", "gap.nut"])
def test_a_gap_in_the_stamps_is_a_gap_in_time(source, tmp_path, name):
    # Packets of 960 samples: 1.00 and 1.48 s lie on their edges.
    cut = "asetnsamples=960,aselect='not(between(t,1.0,1.47))'"
    path = source.make(tmp_path / name, "-af", cut, "-c:a", "pcm_s16le")
    times, values = sound(path)
    truth = np.interp(times, np.arange(source.values.size) / RATE, source.values)
    steps = np.diff(times)
    assert np.sum(steps > 1.5 / RATE) == 1
    assert steps.max() == pytest.approx(0.48, abs=1e-3)
    np.testing.assert_allclose(values[0][times < 0.9], truth[times < 0.9], atol=1e-6)
    assert lag(values[0][times > 1.4], source.values[int(1.48 * RATE) :]) == 0
    (gap,) = inspect(path).streams[0].gaps
    assert gap == pytest.approx((1.0, 0.48), abs=1e-3)


def test_streams_keep_their_own_starts(source, tmp_path):
    picture = ("-f", "lavfi", "-i", "testsrc=d=2:r=25:s=64x48")
    path = source.make(
        tmp_path / "late.mkv",
        "-map",
        "0",
        "-map",
        "1",
        "-c:v",
        "ffv1",
        "-c:a",
        "flac",
        inputs=(*picture, "-itsoffset", "0.7"),
    )
    recording = read(path)
    assert recording["picture"].start == 0.0
    assert recording["sound"].start == pytest.approx(0.7, abs=1e-3)
    assert recording["sound"].duration == pytest.approx(4.0, abs=0.1)
    assert "sound starts 0.700 s after the start of the file" in recording.facts["odd"]
    shifted = subprocess.run(
        [
            source.ffmpeg,
            "-v",
            "error",
            "-y",
            "-i",
            path,
            "-c",
            "copy",
            "-output_ts_offset",
            "5",
            str(tmp_path / "five.mkv"),
        ],
        check=True,
    )
    assert shifted.returncode == 0
    five = read(tmp_path / "five.mkv")
    assert five.start == 5_000_000_000
    assert five["sound"].start == pytest.approx(0.7, abs=1e-3)


def test_a_file_without_a_stated_length_has_one(source, tmp_path):
    path = tmp_path / "pipe.mkv"
    command = [source.ffmpeg, "-v", "error", "-i", str(source.path), "-c:a", "flac", "-f", "matroska", "-"]
    path.write_bytes(subprocess.run(command, check=True, capture_output=True).stdout)
    with av.open(str(path)) as container:
        assert not container.duration
    assert read(path)["sound"].duration == pytest.approx(4.0, abs=0.1)


def test_a_change_of_rate_in_mid_file_keeps_rate_and_time(source, tmp_path):
    source.make(tmp_path / "a.ts", "-t", "2", "-c:a", "mp2")
    source.make(tmp_path / "b.ts", "-ss", "2", "-c:a", "mp2", "-ar", "32000", "-ac", "2", "-output_ts_offset", "2")
    both = tmp_path / "both.ts"
    both.write_bytes((tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes())
    times, values = sound(str(both))
    assert values.shape[0] == 1
    late = (times > 2.3) & (times < 3.9)
    assert np.diff(times[late]).max() < 1.5 / RATE
    first = round(times[late][0] * RATE)
    # The second half is stamped with its delay taken off, the first could not be: its stamps would be negative.
    assert abs(lag(values[0][late], source.values[first : first + late.sum()])) <= 1
    assert any("rate from 48000 to 32000" in s for s in inspect(both).odd)


def test_pictures_come_upright_each_at_its_own_time(tmp_path):
    path = tmp_path / "turned.mp4"
    stamps = [0, 40, 130, 140, 400]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv444p"
        stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        stream.set_display_rotation(90)
        for stamp in stamps:
            values = np.zeros((48, 64, 3), np.uint8)
            values[:, :32] = 255  # white on the left
            frame = av.VideoFrame.from_ndarray(values, format="rgb24")
            frame.pts = stamp
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    picture = read(path)["picture"]
    (times, frames), *rest = list(picture.blocks(0.35))
    assert [*times, *(t for t, _ in rest)] == pytest.approx([0, 0.04, 0.13, 0.14, 0.4])
    assert frames.shape == (4, 64, 48, 3)
    assert frames.dtype == np.uint8
    # Turned counter-clockwise by 90 degrees, the left comes to the bottom.
    assert frames[:, 40:].min() > 200
    assert frames[:, :24].max() < 50
    assert (picture.facts["width"], picture.facts["height"]) == (48, 64)


def test_cover_pictures_are_no_pictures(source, tmp_path):
    cover = ("-f", "lavfi", "-i", "color=red:s=64x64:d=0.04")
    path = source.make(
        tmp_path / "song.mp3",
        "-map",
        "1",
        "-map",
        "0",
        "-c:v",
        "png",
        "-frames:v",
        "1",
        "-disposition:v",
        "attached_pic",
        inputs=cover,
    )
    assert [s.name for s in read(path).streams] == ["sound"]


@pytest.mark.parametrize(
    ("name", "start", "streams"),
    [
        ("nasa_13013.mp4", 0.0, {"picture": 0, "sound": 0, "text": 0.21, "picture-2": 0, "sound-2": 0, "text-2": 0.21}),
        ("VID00003-20100701-2204.mpg", 0.5, {"picture": 0, "sound": 0}),
        ("face_22fps.mp4", 0.0, {"picture": 0.033008, "sound": 0}),
        ("fire2.mp4", 0.0, {"picture": 0, "sound": 0}),
        ("flipping_a_pancake.mkv", 0.0, {"picture": 0, "sound": 0}),
    ],
)
def test_real_files_start_where_ffprobe_says(shared, name, start, streams):
    recording = read(shared / "picture" / name)
    assert recording.start == pytest.approx(start * 1e9, abs=1e6)
    assert {s.name: s.start for s in recording.streams} == pytest.approx(streams, abs=1e-3)


def test_what_is_odd_about_real_files_is_said(shared):
    fire = inspect(shared / "picture" / "fire2.mp4")
    assert fire.creation_time == "2017-01-05T18:32:43.000000Z"
    assert any("variable frame rate" in s for s in fire.odd)
    # The second packet of its sound is stamped 155 ms after the end of the first.
    assert fire.streams[1].gaps == (pytest.approx((0.02133, 0.15515), abs=1e-4),)
    face = inspect(shared / "picture" / "face_22fps.mp4")
    assert face.streams[0].average_rate == pytest.approx(22.1, abs=0.1)
    assert read(shared / "motion" / "karma.mp4").facts["timecode"] == "19:26:48:04"
    text = read(shared / "picture" / "nasa_13013.mp4")["text"]
    assert next(text.blocks(1.0))[1][0] == "NAR: This is the optical and science segment of the Webb"
    json.dumps(face.to_json())


def test_two_recordings_of_one_talk_keep_their_measured_offset(shared):
    first, second = (sound(str(shared / "sound" / f"timbl_{k}.mp3"))[1][0] for k in (1, 2))
    size = 1 << 22
    both = np.fft.irfft(np.fft.rfft(first, size) * np.fft.rfft(second, size).conj())
    assert np.argmax(both) / RATE == pytest.approx(12.2540, abs=2e-4)


def test_bad_files_give_one_clear_line(source, tmp_path):
    whole = Path(source.make(tmp_path / "whole.mp4", "-c:a", "aac")).read_bytes()
    (tmp_path / "truncated.mp4").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("Dear reader, this is no sound.\n" * 50)
    (tmp_path / "text.txt").write_text("Dear reader, this is no sound.\n" * 50)
    (tmp_path / "lines.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nHello\n")
    for name in ("missing.wav", ".", "empty.wav", "text.wav", "text.txt", "lines.srt", "truncated.mp4"):
        with pytest.raises(ReadError) as caught:
            read(tmp_path / name)
        message = str(caught.value)
        assert str(tmp_path / name) in message
        assert "expected" in message
        assert "\n" not in message


def test_nan_in_a_file_is_refused_where_it_is(source, tmp_path):
    path = tmp_path / "nan.wav"
    source.make(path, "-c:a", "pcm_f32le")
    coded = bytearray(path.read_bytes())
    coded[-4 * RATE : -4 * RATE + 4] = np.float32(np.nan).tobytes()
    path.write_bytes(coded)
    with pytest.raises(ReadError, match=r"NaN or infinite at 3\.000 s"):
        sound(str(path))


def test_a_file_cut_short_is_read_as_far_as_it_goes(source, tmp_path):
    whole = Path(source.make(tmp_path / "whole.mp4", "-c:a", "aac", "-movflags", "+faststart")).read_bytes()
    path = tmp_path / "short.mp4"
    path.write_bytes(whole[: int(0.6 * len(whole))])
    times, values = sound(str(path))
    assert 1.5 < times[-1] < 3.5
    assert abs(lag(values[0], source.values)) <= 1
    assert any("cut short: the container says 4.0 s" in s for s in inspect(path).odd)


def test_damage_in_the_middle_moves_nothing_behind_it(source, tmp_path):
    path = tmp_path / "damaged.mp4"
    coded = bytearray(Path(source.make(path, "-c:a", "aac")).read_bytes())
    coded[len(coded) // 2 : len(coded) // 2 + 1500] = bytes(1500)
    path.write_bytes(coded)
    times, values = sound(str(path))
    late = times > 3.0
    assert lag(values[0][late], source.values[round(times[late][0] * RATE) :]) == pytest.approx(0, abs=1)
    assert any("damaged" in s for s in inspect(path).odd)


def test_silence_is_said(tmp_path):
    write_wav(tmp_path / "silence.wav", np.zeros(RATE, "<i2"), RATE)
    assert "sound: silent throughout" in inspect(tmp_path / "silence.wav").odd


def test_names_are_stems_and_sources_are_paths_as_given(source):
    recording = avfuse.read(source.path)
    assert (recording.name, recording.source) == ("source", str(source.path))


# Stamps against counted samples


def placed(stamps, sizes, resolution, chunk=7, findings=None):
    """All pieces of a stream that comes in chunks of a few packets, as (first sample, end, start)."""
    placer = Placer(RATE, resolution, findings or Findings(), 0.0)
    pieces, at, size, before = [], 0, 0, 0
    while at < len(stamps):
        size += chunk
        last = at + size >= len(stamps)
        part = slice(at, at + size)
        found, settled = placer.place(np.array(stamps[part]), np.array(sizes[part], np.int64), last=last)
        pieces += [(before + p.first, before + p.end, p.start) for p in found]
        before += int(np.sum(sizes[at : at + settled]))
        size = 0 if settled else size
        at += settled
    return pieces


def joined(pieces):
    """(start of sample 0, samples) if all pieces touch, else None."""
    for a, b in pairwise(pieces):
        if a[1] != b[0] or abs(a[2] + (a[1] - a[0]) / RATE - b[2]) > 1e-9:
            return None
    return pieces[0][2], pieces[-1][1] - pieces[0][0]


@given(st.floats(0, 100), st.sampled_from([960, 1024, 1152, 4608]), st.integers(1, 200), st.integers(1, 60))
def test_rounded_stamps_leave_sound_unbroken(start, size, count, chunk):
    exact = start + np.arange(count) * size / RATE
    pieces = placed(np.round(exact, 3), np.full(count, size), 1e-3, chunk)
    first, samples = joined(pieces)
    assert samples == size * count
    assert abs(first - start) <= 0.5e-3 + 1e-9


def test_the_start_is_finer_than_the_stamps():
    exact = 0.0004 + np.arange(100) * 1024 / RATE
    ((_, _, start),) = placed(np.round(exact, 3), np.full(100, 1024), 1e-3, chunk=200)
    assert abs(start - 0.0004) < 0.2e-3


@given(st.floats(0.004, 60), st.integers(4, 90), st.integers(1, 40))
def test_a_step_forward_is_a_gap_at_that_very_packet(gap, at, chunk):
    exact = np.arange(100) * 1024 / RATE
    exact[at:] += gap
    findings = Findings()
    pieces = placed(np.round(exact, 3), np.full(100, 1024), 1e-3, chunk, findings)
    assert joined(pieces) is None
    ((where, length),) = findings.gaps
    assert where == pytest.approx(at * 1024 / RATE, abs=1e-3)
    assert length == pytest.approx(gap, abs=1.1e-3)


@given(st.integers(1, 98), st.floats(-3, 3), st.integers(1, 40))
def test_one_odd_stamp_moves_nothing(at, error, chunk):
    stamps = np.arange(100) * 1024 / RATE
    stamps[min(at, 96)] += error
    start, samples = joined(placed(stamps, np.full(100, 1024), 1 / RATE, chunk))
    # A stamp within the tolerance of the very first ones may take part in placing the start.
    assert abs(start) <= 0.5 * (1e-3 + 2 / RATE)
    assert samples == 102400


def test_missing_stamps_are_counted():
    stamps = 2.0 + np.arange(100) * 1024 / RATE
    stamps[1:] = np.nan
    start, samples = joined(placed(stamps, np.full(100, 1024), 1e-3))
    assert (start, samples) == (2.0, 102400)


def test_what_is_covered_twice_is_dropped():
    stamps = np.arange(100) * 960 / RATE
    stamps[50:] -= 0.05  # 2400 samples, two and a half packets
    findings = Findings()
    pieces = placed(stamps, np.full(100, 960), 1 / RATE, findings=findings)
    assert findings.overlaps == [pytest.approx((1.0, 0.05))]
    ends = [start + (end - first) / RATE for first, end, start in pieces]
    for end, (_, _, start) in zip(ends, pieces[1:], strict=False):
        assert start == pytest.approx(end, abs=1 / RATE)
    assert sum(end - first for first, end, _ in pieces) == 96000 - 2400
    # The last sample still lies where its stamp says.
    assert ends[-1] == pytest.approx(stamps[-1] + 960 / RATE)


def test_a_clock_that_starts_again_goes_on_counting():
    stamps = 100.0 + np.arange(100) * 960 / RATE
    stamps[50:] -= 101.0
    findings = Findings()
    assert joined(placed(stamps, np.full(100, 960), 1 / RATE, findings=findings)) == (100.0, 96000)
    assert findings.resets == [pytest.approx((101.0, -101.0))]


def test_slow_drift_is_followed_within_30_ms():
    size, count = 1024, 600 * 47
    stamps = np.arange(count) * size / RATE * (1 + 2e-4)
    findings = Findings()
    pieces = placed(stamps, np.full(count, size), 1 / RATE, 47, findings)
    for first, _, start in pieces:
        assert start == pytest.approx(first / RATE * (1 + 2e-4), abs=30e-3)
    assert len(findings.drift_steps) == pytest.approx(0.12 / 0.02, abs=2)


def test_a_pipe_is_refused_before_anybody_waits_for_it(tmp_path):
    os.mkfifo(tmp_path / "clip.mp4")
    with pytest.raises(ReadError, match=r"clip.mp4: a pipe or a device; expected a file"):
        read(tmp_path / "clip.mp4")


@pytest.mark.parametrize("late", ["picture", "sound"])
def test_a_track_of_matroska_that_starts_late_is_as_long_as_what_it_holds(tmp_path, late):
    # FFmpeg tags tracks with when they end.
    frames = np.zeros((50, 32, 32, 3), np.uint8)
    starts = {"picture": 0.0, "sound": 0.0, late: 0.8}
    picture = Stream("picture", "picture", frames, rate=25.0, start=starts["picture"])
    sound = Stream.from_samples(np.zeros(96000, np.float32), rate=48000.0, start=starts["sound"])
    write_media(tmp_path / "late.mkv", Recording("late", (picture, sound)))
    for stream in read(tmp_path / "late.mkv").streams:
        assert stream.duration == pytest.approx(2.0, abs=0.05)
