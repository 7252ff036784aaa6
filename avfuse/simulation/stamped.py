"""Films that tell their own time: every frame bears it as a code, and any stretch of the sound is like no other.

What cuts, seeks or resamples such a film can be asked where each piece really comes from: frames are read back to
50 us, sound to a small part of a sample. Frames hold 4 rows of 8 light or dark blocks, which survive scaling and H.264:
24 bits of time, 8 of a checksum. Sound is a train of overlapping sweeps, drawn for each 40 ms and exact at any time, so
that a recorder with a clock of its own hears it without resampling. No noise: encoders are free to replace that.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from heapq import merge
from operator import itemgetter
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from avfuse.errors import StreamError, WriteError
from avfuse.files import replacing
from avfuse.stream import Array, Block, Recording, Stream, parts_of_times

Float = NDArray[np.float64]
TICK = 5e-5  # seconds that the code counts
LONGEST = TICK * 2**24
_ROWS, _COLUMNS = 4, 8
_DARK, _LIGHT = 40, 215
_STEP, _SWEEP = 0.04, 0.08  # seconds from one sweep to the next, and how long each lasts
_SWEEPS = round(LONGEST / _STEP) + 2
_BLOCK = 0.5  # seconds in memory at a time
_PICTURE_TICK = Fraction(1, 90000)
_MATROSKA_SHIFT = Fraction(1, 2000)  # see `avfuse.simulation.media`
_CRC = 0x07  # x^8 + x^2 + x + 1


@dataclass(frozen=True, eq=False)
class StampedPicture:
    """Frames that bear their own time: the `values` of a picture stream. times: `(n,)` seconds. size: pixels."""

    times: Float
    size: tuple[int, int]

    @property
    def duration(self) -> float:
        return float(self.times[-1] - self.times[0]) + float(np.median(np.diff(self.times)))

    def blocks(self, duration: float, rate: float | None = None) -> Iterator[Block]:
        """(times, frames) with frames (n, height, width, 3) uint8 RGB."""
        if rate is not None:
            raise StreamError("a film is never resampled; expected rate=None")
        for part in parts_of_times(self.times, duration):
            frames = np.stack([stamped_frame(float(t), self.size) for t in self.times[part]])
            yield self.times[part], np.repeat(frames[..., None], 3, axis=3)


def stamped_frame(time: float, size: tuple[int, int]) -> NDArray[np.uint8]:
    """(height, width) of the frame of a time between 0 and 838 s. Raises StreamError for others."""
    ticks = round(time / TICK)
    if not 0 <= ticks < 2**24:
        raise StreamError(f"a frame at {time} s; the code holds 0 to {LONGEST:.0f} s")
    word = ticks << 8 | _checksum(ticks)
    bits = (word >> np.arange(31, -1, -1) & 1).reshape(_ROWS, _COLUMNS)
    width, height = size
    rows, columns = np.arange(height) * _ROWS // height, np.arange(width) * _COLUMNS // width
    return np.where(bits[rows[:, None], columns], _LIGHT, _DARK).astype(np.uint8)


def times_of_frames(frames: Array) -> Float:
    """Seconds that frames (n, height, width) or (n, height, width, colour) bear; NaN where a code cannot be read."""
    grey = np.asarray(frames, np.float64)
    grey = grey.mean(axis=3) if grey.ndim == 4 else grey
    n, height, width = grey.shape
    found = np.full(n, np.nan)
    means = np.empty((n, _ROWS, _COLUMNS))
    for r in range(_ROWS):
        for c in range(_COLUMNS):
            # The middle of a block: its edges are blurred.
            y, x = ((np.array([0.3, 0.7]) + k) * length / count for k, length, count in
                    ((r, height, _ROWS), (c, width, _COLUMNS)))  # fmt: skip
            means[:, r, c] = grey[:, int(y[0]) : int(y[1]) + 1, int(x[0]) : int(x[1]) + 1].mean(axis=(1, 2))
    low, high = means.min(axis=(1, 2)), means.max(axis=(1, 2))
    bits = means > ((low + high) / 2)[:, None, None]
    words = (bits.reshape(n, 32).astype(np.int64) << np.arange(31, -1, -1)).sum(axis=1)
    for k, word in enumerate(words):
        ticks = int(word) >> 8
        if _checksum(ticks) == int(word) & 0xFF:
            found[k] = ticks * TICK
    return found


def _checksum(ticks: int) -> int:
    """CRC-8 of 24 bits. It starts from something, so that no frame is all dark."""
    left = 0xA5
    for byte in ticks.to_bytes(3, "big"):
        left ^= byte
        for _ in range(8):
            left = (left << 1 ^ _CRC if left & 0x80 else left << 1) & 0xFF
    return left


def stamped_sound(times: ArrayLike, seed: int = 0) -> Float:
    """The sound at any times (seconds up to 838), of the shape of `times`; silence before 0."""
    t = np.asarray(times, np.float64)
    low, high, phase = _sweeps(seed)
    last = np.floor(t / _STEP).astype(np.int64)
    total = np.zeros(t.shape)
    for k in (last, last - 1):
        inside = np.clip(k, 0, _SWEEPS - 1)
        since = t - k * _STEP
        swept = 2.0 * np.pi * since * (low[inside] + (high - low)[inside] * since / (2.0 * _SWEEP))
        total += np.where(k >= 0, np.sin(swept + phase[inside]) * np.sin(np.pi * since / _SWEEP) ** 2, 0.0)
    return 0.5 * total


@lru_cache(4)
def _sweeps(seed: int) -> tuple[Float, Float, Float]:
    """First and last frequency (Hz), and phase, of every sweep."""
    draws = np.random.default_rng([seed, 8]).uniform(size=(3, _SWEEPS))
    return 200.0 * 30.0 ** draws[0], 200.0 * 30.0 ** draws[1], 2.0 * np.pi * draws[2]


def time_of_sound(
    samples: Array, rate: float, *, near: float, within: float = 2.0, seed: int = 0
) -> tuple[float, float]:
    """(seconds of the first of `samples` (n,), correlation with the true sound from there, 0 ... 1).

    near, within: seconds around which it is looked for. NaN and 0 where nothing is heard.
    """
    heard = np.asarray(samples, np.float64)
    first = near - within
    count = int((near + within - first) * rate) + len(heard)
    true = stamped_sound(first + np.arange(count) / rate, seed)
    size = 1 << (count + len(heard)).bit_length()
    both = np.fft.irfft(np.fft.rfft(true, size) * np.fft.rfft(heard, size).conj(), size)[: count - len(heard) + 1]
    at = int(np.argmax(both))
    norm = float(np.sqrt(np.sum(heard**2) * np.sum(true[at : at + len(heard)] ** 2)))
    if norm < 1e-9:
        return float("nan"), 0.0
    shift = 0.0
    if 0 < at < len(both) - 1:
        before, top, after = both[at - 1 : at + 2]
        shift = 0.5 * (before - after) / (before - 2.0 * top + after)
    return first + (at + shift) / rate, float(np.clip(both[at] / norm, 0.0, 1.0))


def stamped_film(
    duration: float,
    rng: np.random.Generator | int | list[int],
    *,
    rate: float = 25.0,
    variable: float = 0.0,
    starts: tuple[float, float] = (0.0, 0.0),
    sound_rate: int = 48000,
    size: tuple[int, int] = (160, 96),
    seed: int = 0,
) -> Recording:
    """A recording whose picture and sound tell the recording's own time, up to `duration` seconds.

    rate: mean frames per second. variable: 0 ... 0.9, how far intervals between frames vary, as a share of their mean;
    above 0 some frames are missing, too. starts: of picture and sound. seed: of the sound.
    """
    rng = np.random.default_rng(rng)
    count = int((duration - starts[0]) * rate)
    steps = 1.0 + variable * rng.uniform(-1.0, 1.0, count)
    if variable:
        steps[rng.random(count) < 0.02] += rng.integers(2, 6)
    times = starts[0] + np.cumsum(np.concatenate([[0.0], steps])) / rate
    # Where a code and a file can hold them exactly.
    times = np.round(times[times < duration - 0.5 / rate] / 1e-3) * 1e-3
    picture = Stream("picture", "picture", StampedPicture(times, size), rate=None if variable else rate,
                     start=starts[0], facts={"width": size[0], "height": size[1]})  # fmt: skip
    first, last = round(starts[1] * sound_rate), round(duration * sound_rate)
    values = stamped_sound(np.arange(first, last) / sound_rate, seed).astype(np.float32)
    sound = Stream.from_samples(values, rate=sound_rate, start=first / sound_rate)
    return Recording("film", (picture, sound))


def write_film(
    path: str | PathLike[str],
    film: Recording,
    *,
    sound: str = "aac",
    key_frames: float = 10.0,
    b_frames: int = 3,
) -> Path:
    """A film in H.264 as cameras and sites write it: seconds between key frames, B-frames, each stream at its start.

    path: a container that FFmpeg writes by its suffix. sound: name of an encoder. Raises WriteError where FFmpeg
    cannot.
    """
    import av

    target = Path(path)
    shift = _MATROSKA_SHIFT if target.suffix in {".mkv", ".webm"} else Fraction(0)
    with replacing(target) as temporary:
        try:
            # By default MP4 counts where its streams begin in milliseconds.
            exact = {"movie_timescale": "90000"} if target.suffix in {".mp4", ".mov"} else {}
            with av.open(str(temporary), "w", options={"fflags": "+bitexact", **exact}) as container:
                tracks = [_picture(container, film["picture"], key_frames, b_frames, shift)]
                tracks.append(_sound(container, film["sound"], sound, shift))
                for _, stream, frame in merge(*tracks, key=itemgetter(0)):
                    container.mux(stream.encode(frame))
                for stream in container.streams.video:
                    container.mux(stream.encode(None))
                for stream in container.streams.audio:
                    container.mux(stream.encode(None))
        except (av.FFmpegError, ValueError) as error:
            raise WriteError(f"{target}: FFmpeg cannot write this film ({error})") from error
    return target


def _picture(container: Any, stream: Stream, key_frames: float, b_frames: int, shift: Fraction) -> Iterator[Any]:
    import av

    source = stream.values
    assert isinstance(source, StampedPicture)
    mean = (len(source.times) - 1) / float(source.times[-1] - source.times[0])
    track = container.add_stream("libx264", rate=Fraction(mean).limit_denominator(1001))
    track.width, track.height = source.size
    track.pix_fmt = "yuv420p"
    track.codec_context.time_base = _PICTURE_TICK
    length = round(key_frames * mean)
    # Every frame differs from the last: without a word it would be a new scene, and a key frame.
    parameters = f"keyint={length}:min-keyint={length}:scenecut=0:bframes={b_frames}:b-adapt=0:threads=1"
    track.options = {"preset": "veryfast", "crf": "23", "x264-params": parameters}

    def frames() -> Iterator[Any]:
        for times, images in stream.blocks(_BLOCK):
            for time, image in zip(times, images, strict=True):
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts, frame.time_base = round((Fraction(float(time)) + shift) / _PICTURE_TICK), _PICTURE_TICK
                yield float(time), track, frame

    return frames()


def _sound(container: Any, stream: Stream, codec: str, shift: Fraction) -> Iterator[Any]:
    import av

    assert stream.rate is not None
    rate = round(stream.rate)
    track = container.add_stream(codec, rate=rate)
    track.layout = "mono"
    track.time_base = Fraction(1, rate)
    if codec not in {"flac", "pcm_s16le"}:
        track.bit_rate = 96000

    def frames() -> Iterator[Any]:
        pts = round((stream.start + float(shift)) * rate)
        for _, values in stream.blocks(_BLOCK):
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(values, np.float32), "fltp", "mono")
            frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), pts
            yield pts / rate, track, frame
            pts += values.shape[1]

    return frames()
