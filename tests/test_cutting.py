"""Windows hold the sound of their own moments and the frames of their own span, to the sample and to the tick."""

from __future__ import annotations

import io
import math
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from avfuse import ClockEstimate, ClockMap, PiecewiseClock, Segment, Stream
from avfuse.batches import Track
from avfuse.io import read
from avfuse.io.placing import Findings
from avfuse.preparation.cutting import Cutter, Piece, Slot
from avfuse.preparation.encoding import decode_pictures, decode_sound
from avfuse.preparation.keeping import keeping
from avfuse.preparation.recipe import PictureForm, Recipe, SoundForm
from avfuse.preparation.shaping import Shaper

Clock = ClockMap | PiecewiseClock
F64 = NDArray[np.float64]

LONG = 24.0
CLOCKS: dict[str, Clock] = {
    "same": ClockMap(0.0),
    "offset": ClockMap(1.2345678, 0.0),
    "drift": ClockMap(-3.3, 2e-4),
    "fast drift": ClockMap(0.7, -9e-4),
    "hole": PiecewiseClock((Segment(0.0, 9.0, 0.5), Segment(11.4, 24.0, 1.1, 1e-4))),
    "set back": PiecewiseClock((Segment(0.0, 14.0, 1.0), Segment(14.0, 24.0, -3.7))),
    "set on": PiecewiseClock((Segment(0.0, 9.0, 0.0), Segment(9.0, 24.0, 2.5))),
    "rearranged": PiecewiseClock((Segment(0.0, 12.0, 12.0), Segment(12.0, 24.0, -12.0))),
}


def track_of(stream: Stream, clock: Clock = CLOCKS["same"]) -> Track:
    return Track("cam", stream, ClockEstimate("aligned", clock, None, 1.0), 0.0, None, None)


def slots(start: float, end: float, duration: float, hop: float | None = None) -> list[Slot]:
    """Windows, touching where hop is the duration; each knows when the next one starts."""
    hop = hop or duration
    count = math.floor((end - start - duration) / hop + 1e-9) + 1
    starts = [start + hop * k for k in range(count)]
    stops = [start + hop * (k + 1) for k in range(count)] if hop == duration else [s + duration for s in starts]
    return [Slot(s, e, n) for s, e, n in zip(starts, stops, [*starts[1:], math.inf], strict=True)]


def cut(track: Track, recipe: Recipe, spans: Sequence[Slot]) -> list[Piece | None]:
    cutter = Cutter(track, recipe, None)
    return [cutter.take(slot) for slot in spans]


# Sound


def tune(t: F64) -> F64:
    """Known at every moment: steady tones, and one that rises, so that no other moment sounds alike."""
    return 0.25 * np.sin(2 * np.pi * 441.3 * t) + 0.2 * np.sin(2 * np.pi * (700.0 * t + 30.0 * t**2)) + 0.05


def sound(rate: float = 16000.0, start: float = 0.0, duration: float = LONG) -> Stream:
    t = start + np.arange(round(duration * rate)) / rate
    return Stream.from_samples(np.stack([tune(t), -0.5 * tune(t)]).astype(np.float32), rate=rate, start=start)


def heard(piece: Piece) -> tuple[F64, F64]:
    """Samples (n, channels) and their times since the window's start."""
    values, rate = decode_sound(piece.file.data)
    assert (rate, len(values)) == (piece.rate, piece.samples)
    return values.astype(np.float64), np.arange(len(values)) / rate


def known_at(clock: Clock, t: F64, start: float, end: float, margin: float) -> tuple[F64, NDArray[np.bool_]]:
    """Own times of moments of the timeline, and where they lie `margin` within what was recorded and mapped."""
    back = clock.inverse()
    own = np.asarray(back(t), np.float64)
    inside = np.isfinite(own) & (own > start + margin) & (own < end - margin)
    segments = back.segments if isinstance(back, PiecewiseClock) else ()
    for edge in [e for s in segments for e in (s.start, s.end)]:
        inside &= np.abs(t - edge) > margin
    return own, inside


FINE = SoundForm(bits=24)


@pytest.mark.parametrize("name", CLOCKS)
@pytest.mark.parametrize("hop", [None, 2.3])
def test_each_sample_of_sound_is_that_of_its_moment(name: str, hop: float | None) -> None:
    clock = CLOCKS[name]
    track = track_of(sound(start=0.0123), clock)
    low, high = track.span
    spans = slots(low + 0.0007, high, 4.3, hop)
    pieces = cut(track, Recipe(4.3, hop, sound=FINE), spans)
    told = 0
    for slot, piece in zip(spans, pieces, strict=True):
        t = slot.start + np.arange(round(4.3 * 16000)) / 16000
        own, inside = known_at(clock, t, 0.0123, 0.0123 + LONG, 3e-3)
        if piece is None:
            assert not inside.any()
            continue
        values, times = heard(piece)
        assert len(values) == len(t)
        expected = np.stack([tune(own[inside]), -0.5 * tune(own[inside])], axis=1)
        np.testing.assert_allclose(values[inside], expected, atol=3e-5)
        covered = np.zeros(len(t), bool)
        for begin, end in piece.valid:
            covered |= (times >= begin - 1e-6) & (times < end - 1e-6)
        assert covered[inside].all()
        assert not np.any(values[~covered & (np.isnan(own))])
        told += int(inside.sum())
    assert told > 16000 * 12


def test_windows_that_overlap_are_those_that_are_cut_alone() -> None:
    for name, clock in CLOCKS.items():
        low, high = track_of(sound(8000.0), clock).span
        spans = slots(low, high, 3.0, 1.1)
        together = cut(track_of(sound(8000.0), clock), Recipe(3.0, 1.1), spans)
        for k in range(2, len(spans), 8):
            alone = cut(track_of(sound(8000.0), clock), Recipe(3.0), [replace(spans[k], following=math.inf)])[0]
            assert (alone is None) == (together[k] is None), (name, k)
            if alone is not None:
                assert alone.file.data == together[k].file.data, (name, k)
                assert alone.valid == together[k].valid


def test_sound_at_another_rate_is_that_of_its_moment(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, tune(np.arange(30 * 48000) / 48000), 48000, subtype="PCM_24")
    recording = keeping(read(path), lambda: Shaper(PictureForm()), tmp_path, 1e9)
    clock = ClockMap(5.4321, 1.5e-4)
    spans = slots(8.123, 35.0, 3.7, 2.1)
    form = SoundForm(rate=16000.0, bits=24)
    for slot, piece in zip(
        spans, cut(track_of(recording.streams[0], clock), Recipe(3.7, sound=form), spans), strict=True
    ):
        assert piece is not None
        values, times = heard(piece)
        np.testing.assert_allclose(values[:, 0], tune(clock.inverse()(slot.start + times)), atol=1e-4)


def test_a_window_far_into_a_long_recording_is_exact(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    rate, begin = 2000, 3590.0
    with soundfile.SoundFile(path, "w", rate, 1, "PCM_24") as file:
        for k in range(60):
            file.write(tune_late(60.0 * k + np.arange(60 * rate) / rate))
    clock = ClockMap(-1000.0, 8e-5)
    slot = Slot(float(clock(begin)), float(clock(begin)) + 4.0)
    piece = cut(track_of(read(path).streams[0], clock), Recipe(4.0, sound=FINE), [slot])[0]
    assert piece is not None
    values, times = heard(piece)
    np.testing.assert_allclose(values[:, 0], tune_late(clock.inverse()(slot.start + times)), atol=3e-5)
    assert piece.source_start == pytest.approx(begin, abs=1e-9)


def tune_late(t: F64) -> F64:
    return 0.4 * np.sin(2 * np.pi * (500.0 * t + 0.03 * t**2))


def test_a_gap_is_silent_and_told(tmp_path: Path) -> None:
    early, late = sound(duration=5.0), sound(start=7.5, duration=5.0)
    assert isinstance(early.values, np.ndarray)
    assert isinstance(late.values, np.ndarray)
    gapped = Stream("sound", "sound", Blocks([early, late]), rate=16000.0)
    piece = cut(track_of(gapped), Recipe(12.0, sound=FINE), [Slot(0.25, 12.25)])[0]
    assert piece is not None
    np.testing.assert_allclose(piece.valid, [(0.0, 4.75), (7.25, 12.0)], atol=1e-4)
    assert piece.coverage == pytest.approx(9.5 / 12.0, abs=1e-4)
    values, times = heard(piece)
    assert not values[(times > 4.753) & (times < 7.247)].any()


class Blocks:
    """Pieces of sound one after the other, with gaps between them."""

    def __init__(self, pieces: Sequence[Stream]) -> None:
        self._pieces = pieces
        self.duration = pieces[-1].end - pieces[0].start

    def blocks(self, duration: float, rate: float | None = None) -> Iterator[tuple[F64, NDArray[Any]]]:
        for piece in self._pieces:
            yield from piece.blocks(duration, rate)


# Pictures

BITS, SIDE = 10, 16  # the number of a frame as a row of squares


def numbered(k: int, width: int = 192, height: int = 96) -> NDArray[np.uint8]:
    """RGB frame number k: which it is can be read from squares in its upper left, which way is up from its halves."""
    image = np.full((height, width, 3), 40, np.uint8)
    image[:, width // 2 :, 0] = 120  # the right half is red
    image[SIDE:] += np.uint8(20)
    image[height // 2 :, width // 2 :, 1] = 160  # and below it yellow
    for bit in range(BITS):
        image[:SIDE, bit * SIDE : (bit + 1) * SIDE] = 235 if k >> bit & 1 else 16
    return image


def numbers(frames: NDArray[np.uint8]) -> list[int]:
    found = []
    for frame in frames.astype(float):
        squares = frame[3 : SIDE - 3, : BITS * SIDE].mean(axis=(0, 2)).reshape(BITS, SIDE)[:, 3:-3].mean(axis=1)
        assert ((squares < 70) | (squares > 180)).all(), squares
        found.append(sum(1 << bit for bit in range(BITS) if squares[bit] > 125))
    return found


def film(
    path: Path, stamps: Sequence[float], *, codec: str = "libx264", pix_fmt: str = "yuv420p", tick: int = 90000,
    turned: int = 0, **options: str,
) -> Path:  # fmt: skip
    """A film of numbered frames shown at stamps; B-frames and one key frame in all unless options say otherwise."""
    with av.open(str(path), "w") as container:
        track: Any = container.add_stream(codec, rate=25)
        track.pix_fmt = pix_fmt
        track.codec_context.time_base = Fraction(1, tick)
        x264 = {"g": "600", "bf": "3", "crf": "12", "preset": "ultrafast", "b-adapt": "0", "sc_threshold": "0"}
        track.options = {**(x264 if codec == "libx264" else {}), **options}
        if turned:
            track.set_display_rotation(turned)
        for k, stamp in enumerate(stamps):
            image = np.rot90(numbered(k), -turned // 90)
            if k == 0:
                track.width, track.height = image.shape[1], image.shape[0]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), "rgb24")
            frame.pts, frame.time_base = round(stamp * tick), Fraction(1, tick)
            container.mux(track.encode(frame))
        container.mux(track.encode(None))
    return path


def kept(path: Path, folder: Path, form: PictureForm, limit: float = 1e9) -> Stream:
    (stream,) = keeping(read(path), lambda: Shaper(form), folder, limit).of_kind("picture")
    return stream


def seen(piece: Piece) -> tuple[list[int], F64]:
    """Numbers of the frames of a piece and the times of their file, which are those that the piece tells."""
    with av.open(io.BytesIO(piece.file.data)) as container:
        frames = list(container.decode(video=0))
    assert piece.times is not None
    shown = np.array([float(f.pts * f.time_base) for f in frames])
    # Players begin at the first frame, whatever it says.
    np.testing.assert_allclose(shown - shown[0], piece.times - piece.times[0], atol=1.01 / 90000)
    assert piece.start == piece.times[0]
    assert piece.samples == len(piece.times) == len(frames)
    return numbers(decode_pictures(piece.file.data)), piece.times


RNG = np.random.default_rng(7)
STAMPS = {
    "variable": np.round(np.cumsum(RNG.uniform(0.005, 0.09, 200)) * 90000) / 90000,
    "late start and a gap": np.concatenate([1.5 + np.arange(80) / 30, 7.0 + np.arange(90) / 30]),
}


@pytest.mark.parametrize("stamps", STAMPS)
@pytest.mark.parametrize("clock", ["same", "drift", "hole", "set back", "set on", "rearranged"])
def test_each_frame_is_in_the_window_of_its_time_and_in_no_other(tmp_path: Path, stamps: str, clock: str) -> None:
    path = film(tmp_path / "a.mp4", STAMPS[stamps])
    stream = kept(path, tmp_path, PictureForm())
    scaled = _quickened(CLOCKS[clock])
    own = STAMPS[stamps] - STAMPS[stamps][0]
    mapped = scaled(own)
    # What two moments of the film claim belongs to the earlier one, as for sound.
    back = scaled.inverse()(mapped)
    shown = np.flatnonzero(np.isfinite(mapped) & (np.abs(back - own) < 1e-6))
    low, high = float(np.nanmin(mapped)) + 0.31, float(np.nanmax(mapped)) - 0.2
    spans = slots(low, high, 1.37)
    pieces = cut(track_of(stream, scaled), Recipe(1.37), spans)
    for slot, piece in zip(spans, pieces, strict=True):
        expected = shown[(mapped[shown] >= slot.start) & (mapped[shown] < slot.end)]
        expected = expected[np.argsort(mapped[expected])]
        if piece is None:
            assert not len(expected)
            continue
        found, times = seen(piece)
        assert found == expected.tolist()
        np.testing.assert_allclose(times, mapped[expected] - slot.start, atol=1e-6)


def _quickened(clock: Clock) -> Clock:
    """The clock with its breaks in the ten seconds of the films."""
    if isinstance(clock, ClockMap):
        return clock
    share = 0.4
    return PiecewiseClock(
        tuple(Segment(s.start * share, s.end * share, s.offset * share, s.drift) for s in clock.segments)
    )


# What is stored looks as what was recorded


def shots(path: Path, form: PictureForm, folder: Path, transform: str | None = None) -> list[Piece]:
    """All frames of a film in windows of a second."""
    stream = kept(path, folder, form)
    found = cut(track_of(stream), Recipe(1.0, picture=form), slots(0.0, 100.0, 1.0))
    return [piece for piece in found if piece is not None]


def upright(path: Path) -> NDArray[np.uint8]:
    """The frames as avfuse.read shows them, which its own tests hold."""
    (stream,) = read(path).of_kind("picture")
    return np.concatenate([values for _, values in stream.blocks(1.0)])


FORMATS = {
    "yuv420p": ("libx264", "yuv420p"),
    "ten bits": ("libx264", "yuv420p10le"),
    "4:4:4": ("libx264", "yuv444p"),
    "4:2:2": ("libx264", "yuv422p"),
    "grey": ("libx264", "gray"),
    "full range": ("mjpeg", "yuvj420p"),
    "full range, 4:2:2": ("mjpeg", "yuvj422p"),
    "alpha": ("qtrle", "argb"),
    "rgb": ("png", "rgb24"),
    "lossless rgb": ("ffv1", "bgr0"),
    "sixteen bits grey": ("ffv1", "gray16le"),
}


@pytest.mark.parametrize("fit", [None, (64, 160)], ids=["as it is", "smaller"])
@pytest.mark.parametrize("name", FORMATS)
def test_colours_stay_in_any_pixel_format(tmp_path: Path, name: str, fit: tuple[int, int] | None) -> None:
    codec, pix_fmt = FORMATS[name]
    options = {"qscale": "2"} if codec == "mjpeg" else {}
    suffix = "mkv" if codec == "ffv1" else "mov"
    path = film(tmp_path / f"a.{suffix}", np.arange(30) / 25, codec=codec, pix_fmt=pix_fmt, **options)
    assert_same_colours(path, tmp_path, fit)


def assert_same_colours(path: Path, folder: Path, size: tuple[int, int] | None) -> None:
    form = PictureForm(size, quality=4)
    pieces = shots(path, form, folder)
    stored = np.concatenate([decode_pictures(piece.file.data) for piece in pieces])
    recorded = upright(path)
    assert len(stored) == len(recorded)
    for before, after in zip(recorded[::7], stored[::7], strict=True):
        height, width = after.shape[:2]
        expected = cv2.resize(before, (width, height), interpolation=cv2.INTER_AREA).astype(float)
        away = np.abs(after.astype(float) - expected).max(axis=2)
        # Edges of colour blur in 4:2:0.
        assert np.percentile(away, 85) <= 4.0, np.percentile(away, [50, 85, 99])


TAGS = {"bt709": "bt709", "bt601": "smpte170m", "bt2020": "bt2020nc"}


@pytest.mark.parametrize("size", [None, (64, 160)], ids=["as it is", "smaller"])
@pytest.mark.parametrize("matrix", [*TAGS.values(), "full"])
def test_colours_stay_whatever_the_file_says_of_them(
    tmp_path: Path, ffmpeg: str, matrix: str, size: tuple[int, int] | None
) -> None:
    plain = film(tmp_path / "plain.mov", np.arange(30) / 25, codec="png", pix_fmt="rgb24")
    told = [
        "-vf",
        "scale=out_range=pc:out_color_matrix=bt709,format=yuv420p",
        "-color_range",
        "pc",
        "-colorspace",
        "bt709",
    ]
    if matrix != "full":
        told = ["-vf", f"scale=out_color_matrix={matrix}:out_range=tv,format=yuv420p", "-colorspace", matrix]
    path = tmp_path / "a.mp4"
    subprocess.run([ffmpeg, "-v", "error", "-i", plain, *told, "-c:v", "libx264", "-crf", "4", path], check=True)
    assert_same_colours(path, tmp_path, size)


@pytest.mark.parametrize("turned", [90, 180, 270])
@pytest.mark.parametrize("size", [None, (96, 192), (48, 96)])
def test_turned_pictures_are_stored_upright(tmp_path: Path, turned: int, size: tuple[int, int] | None) -> None:
    path = film(tmp_path / "a.mp4", np.arange(40) / 25, turned=turned)
    pieces = shots(path, PictureForm(size), tmp_path)
    frames = np.concatenate([decode_pictures(piece.file.data) for piece in pieces])
    assert frames.shape == (40, *(size or (96, 192)), 3)
    if size != (48, 96):
        assert numbers(frames) == list(range(40))
    left, right = (frames[:, -8:, part, 0].mean() for part in (slice(8), slice(-8, None)))
    assert right > left + 50


@pytest.mark.parametrize(("width", "height"), [(191, 97), (193, 96), (17, 16)])
def test_odd_sizes_lose_a_row_or_a_column_and_nothing_moves(tmp_path: Path, width: int, height: int) -> None:
    with av.open(str(tmp_path / "a.mov"), "w") as container:
        track: Any = container.add_stream("png", rate=25)
        track.width, track.height, track.pix_fmt = width, height, "rgb24"
        images = np.random.default_rng(0).integers(0, 255, (5, height // 4 + 1, width // 4 + 1, 3), np.uint8)
        images = images.repeat(4, axis=1).repeat(4, axis=2)[:, :height, :width]
        for k, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), "rgb24")
            frame.pts = k
            container.mux(track.encode(frame))
        container.mux(track.encode(None))
    (piece,) = shots(tmp_path / "a.mov", PictureForm(quality=2), tmp_path)
    frames = decode_pictures(piece.file.data)
    assert frames.shape[1:3] == (height // 2 * 2, width // 2 * 2)
    away = np.abs(frames.astype(float) - images[:, : frames.shape[1], : frames.shape[2]]).mean(axis=3)
    assert np.percentile(away, 50) < 12.0


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("size", [(96, 96), (96, 192), (48, 192), (64, 64), (200, 192), (98, 50)])
def test_fit_shows_the_part_that_it_says(tmp_path: Path, fit: Any, size: tuple[int, int]) -> None:
    width, height = 192, 96
    path = film(tmp_path / "a.mov", np.arange(3) / 25, codec="png", pix_fmt="rgb24")
    (piece,) = shots(path, PictureForm(size, fit, quality=2), tmp_path)
    frame = decode_pictures(piece.file.data)[1].astype(float)
    assert frame.shape[:2] == size
    across, down = size[1] / width, size[0] / height
    if fit != "stretch":
        across = down = (max if fit == "crop" else min)(across, down)
    # Where a point of the recording lies in what is stored: the middle stays in the middle.
    y, x = np.mgrid[: size[0], : size[1]]
    from_x = (x + 0.5 - size[1] / 2) / across + width / 2
    from_y = (y + 0.5 - size[0] / 2) / down + height / 2
    inside = (from_x > 0) & (from_x < width) & (from_y > 0) & (from_y < height)
    expected = np.zeros((*size, 3))
    image = numbered(1)
    expected[inside] = image[from_y[inside].astype(int), from_x[inside].astype(int)]
    away = np.abs(frame - expected).max(axis=2)
    assert np.percentile(away, 90) < 12.0
    assert inside.all() == (fit != "pad" or abs(size[1] / size[0] - 2.0) < 1e-9)


def test_frames_that_change_size_are_all_stored_in_the_size_of_the_first(tmp_path: Path) -> None:
    parts = []
    for k, (width, height) in enumerate([(192, 96), (384, 192), (192, 96)]):
        stream = io.BytesIO()
        with av.open(stream, "w", format="mpegts") as container:
            track: Any = container.add_stream("libx264", rate=25)
            track.width, track.height, track.pix_fmt = width, height, "yuv420p"
            track.options = {"bf": "0", "crf": "8"}
            for j in range(25):
                image = cv2.resize(numbered(25 * k + j), (width, height), interpolation=cv2.INTER_NEAREST)
                frame = av.VideoFrame.from_ndarray(image, "rgb24")
                frame.pts, frame.time_base = 25 * k + j, Fraction(1, 25)
                container.mux(track.encode(frame))
            container.mux(track.encode(None))
        parts.append(stream.getvalue())
    path = tmp_path / "a.ts"
    path.write_bytes(b"".join(parts))
    for duration in (0.7, 3.0):
        found = cut(track_of(kept(path, tmp_path, PictureForm())), Recipe(duration), slots(0.0, 3.0, duration))
        frames = [decode_pictures(piece.file.data) for piece in found if piece is not None]
        assert {part.shape[1:] for part in frames} == {(96, 192, 3)}
        assert numbers(np.concatenate(frames)) == list(range(sum(map(len, frames))))


@pytest.mark.parametrize("rate", [7.5, 60.0])
@pytest.mark.parametrize("stamps", STAMPS)
def test_even_times_show_the_nearest_frame(tmp_path: Path, stamps: str, rate: float) -> None:
    own = STAMPS[stamps] - STAMPS[stamps][0]
    path = film(tmp_path / "a.mkv", STAMPS[stamps], tick=1000)
    form = PictureForm(rate=rate)
    spans = slots(0.1234, float(own[-1]) + 0.03, 1.6)
    clock = ClockMap(0.05, 1e-4)
    for slot, piece in zip(
        spans, cut(track_of(kept(path, tmp_path, form), clock), Recipe(1.6, picture=form), spans), strict=True
    ):
        assert piece is not None
        found, times = seen_evenly(piece, rate)
        moments = slot.start + np.arange(round(1.6 * rate)) / rate
        assert len(found) == len(moments)
        away = np.abs(clock(own[found]) - moments)
        best = np.abs(clock(own)[None, :] - moments[:, None]).min(axis=1)
        np.testing.assert_allclose(away, best, atol=1.1e-3)  # MKV rounds to 1 ms
        np.testing.assert_allclose(times, clock(own[found]) - slot.start, atol=1.1e-3)


def seen_evenly(piece: Piece, rate: float) -> tuple[list[int], F64]:
    with av.open(io.BytesIO(piece.file.data)) as container:
        shown = np.array([float(f.pts * f.time_base) for f in container.decode(video=0)])
    np.testing.assert_allclose(shown, np.arange(len(shown)) / rate, atol=1.01 / 90000)
    assert piece.times is not None
    return numbers(decode_pictures(piece.file.data)), piece.times


def test_windows_of_pictures_that_overlap_are_those_cut_alone_and_a_full_spool_changes_nothing(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", STAMPS["variable"])
    for form in (PictureForm(), PictureForm((48, 96), rate=12.5)):
        spans = slots(0.2, 5.0, 1.5, 0.4)
        recipe = Recipe(1.5, 0.4, picture=form)
        once = kept(path, tmp_path, form)
        list(once.values.frames(Findings()))  # type: ignore[union-attr]
        together = [p and (p.file.data, p.times.tolist(), p.valid) for p in cut(track_of(once), recipe, spans)]  # type: ignore[union-attr]
        small = [
            p and (p.file.data, p.times.tolist(), p.valid)
            for p in cut(track_of(kept(path, tmp_path, form, 1e5)), recipe, spans)
        ]  # type: ignore[union-attr]
        assert together == small
        alone = [
            cut(track_of(kept(path, tmp_path, form)), recipe, [replace(slot, following=math.inf)])[0] for slot in spans
        ]
        assert together == [p and (p.file.data, p.times.tolist(), p.valid) for p in alone]  # type: ignore[union-attr]
