"""What streams show on steps of 40 ms: sound as log-mel energies, pictures small and grey, sensors as they are.

Whatever the rate that a stream came at, a track is read at times that are whole steps of the stream's own clock: a
model learned at 25 frames/s and 48 kHz hears and sees the same at 30 frames/s and 16 kHz.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avfuse.errors import StreamError
from avfuse.features.light import grey_frames
from avfuse.stream import Kind, Recording, Stream

STEP = 0.04  # seconds
FINER = 4  # frames of sound and sensors to a step
WIDTH, HEIGHT = 40, 24  # pixels
BANDS = 40
SENSORS: tuple[Kind, ...] = ("rotation_rate", "acceleration", "pose", "orientation", "points", "feature", "other")
_RATE = 16000  # Hz of sound
_WINDOW, _HOP = 400, 160  # samples; 10 ms from frame to frame
_LOW, _HIGH = 60.0, 7600.0  # Hz
_FLOOR = 1e-4  # of the mean energy of a band: what is fainter is silence
_BLOCK = 30.0  # seconds of sound that are looked at together
_GAP = 0.5  # seconds without a frame or a sample: nothing is known in between
_MOST = 600.0  # seconds

Single = NDArray[np.float32]
Bool = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Track:
    """One stream, evenly.

    kind: of the stream. first: the step of the first value; step k is at k * 0.04 seconds of the stream's own clock.
    values: pictures `(steps, 24, 40)` uint8; others `(4 * steps, channels)` float32, four frames of 10 ms a step, of
        which the first is at the step itself.
    valid: `(steps,)`, False where nothing is known. Values are 0 there.
    """

    kind: Kind
    first: int
    values: NDArray[Any]
    valid: Bool

    @property
    def steps(self) -> int:
        return len(self.valid)

    @property
    def start(self) -> float:
        return self.first * STEP

    @property
    def end(self) -> float:
        return (self.first + self.steps) * STEP

    @property
    def channels(self) -> int:
        """Of each frame; 1 for pictures, which are grey."""
        return 1 if self.kind == "picture" else int(self.values.shape[1])

    def part(self, first: int, count: int) -> Track:
        """`count` steps from step `first` on, whether or not there are any: what is not there is not valid."""
        finer = 1 if self.kind == "picture" else FINER
        low, high = max(first, self.first), min(first + count, self.first + self.steps)
        values = np.zeros((count * finer, *self.values.shape[1:]), self.values.dtype)
        valid = np.zeros(count, bool)
        if high > low:
            values[(low - first) * finer : (high - first) * finer] = self.values[
                (low - self.first) * finer : (high - self.first) * finer
            ]
            valid[low - first : high - first] = self.valid[low - self.first : high - self.first]
        return Track(self.kind, first, values, valid)

    @property
    def idle(self) -> str | None:
        """Why nothing in it can tell a time, or None."""
        if self.kind == "picture":
            seen = self.values[self.valid].astype(np.float32)
            changes = np.abs(np.diff(seen, axis=0)).max(axis=(1, 2)) if len(seen) > 1 else np.zeros(1)
            # Noise and codecs move the brightest pixel of a still picture by less than two steps.
            return "is still" if float(np.percentile(changes, 90)) < 2.0 else None
        known = self.values[np.repeat(self.valid, FINER)]
        if not len(known) or float(np.ptp(known, axis=0).max()) < 1e-6:
            return "is silent" if self.kind == "sound" else "never changes"
        return None


def track_of(stream: Stream) -> Track:
    """What the synchroniser looks at of a stream; ten minutes of it at most.

    Raises StreamError for kinds that it cannot look at, ReadError for files that cannot be read.
    """
    if stream.kind == "picture":
        return _picture(stream)
    if stream.kind == "sound":
        return _sound(stream)
    if stream.kind in SENSORS:
        return _sensor(stream)
    raise StreamError(f"Stream {stream.name!r}: {stream.kind}; expected sound, picture or numbers of a sensor")


def stream_of(recording: Recording, kind: str) -> Stream:
    """The first stream of a kind. Raises StreamError where the recording has none."""
    for stream in recording.streams:
        if stream.kind == kind:
            return stream
    have = ", ".join(f"{s.name} ({s.kind})" for s in recording.streams) or "no streams"
    raise StreamError(f"Recording {recording.name!r} has no {kind}; it has {have}")


def _picture(stream: Stream) -> Track:
    import cv2

    times: list[float] = []
    frames = []
    for time, image in grey_frames(stream):
        if times and time > times[0] + _MOST:
            break
        times.append(time)
        frames.append(cv2.resize(image, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA))
    if not frames:
        raise StreamError(f"Stream {stream.name!r}: no pictures; expected at least one")
    first, at = _steps(times[0], times[-1])
    values, valid = _read(np.array(times), np.stack(frames).astype(np.float32), at)
    return Track("picture", first, np.round(values).astype(np.uint8), valid)


def _sensor(stream: Stream) -> Track:
    blocks = list(stream.blocks(_BLOCK))
    times = np.concatenate([t for t, _ in blocks])
    values = np.concatenate([v for _, v in blocks]).astype(np.float64)
    values = values.reshape(len(values), -1)[times <= times[0] + _MOST]
    times = times[: len(values)]
    known = np.isfinite(values).all(axis=1)
    if known.sum() < 2:
        raise StreamError(f"Stream {stream.name!r}: {known.sum()} values that are numbers; expected two or more")
    times, values = times[known], values[known]
    # Of many samples to a frame their mean counts, so that none of them folds.
    dense = max(1, int(STEP / FINER / max(float(np.median(np.diff(times))), 1e-6)))
    if dense > 1:
        kernel = np.ones(dense) / dense
        values = np.stack([np.convolve(np.pad(v, dense, "edge"), kernel, "same")[dense:-dense] for v in values.T], 1)
    first, steps = _steps(float(times[0]), float(times[-1]))
    at = (steps[:, None] + np.arange(FINER) * (STEP / FINER)).ravel()
    read, valid = _read(times, values.astype(np.float32), at)
    valid = np.any(valid.reshape(-1, FINER), axis=1)
    middle, spread = read.mean(axis=0), read.std(axis=0)
    read = (read - middle) / np.maximum(spread, 1e-3 * float(spread.max()) + 1e-12)
    read[~np.repeat(valid, FINER)] = 0.0
    return Track(stream.kind, first, read, valid)


def _steps(start: float, end: float) -> tuple[int, NDArray[np.float64]]:
    """The first whole step from `start` on, and the seconds of all of them up to `end`; at least one."""
    first = int(np.ceil(start / STEP - 1e-6))
    last = max(first, int(np.floor(end / STEP + 1e-6)))
    return first, np.arange(first, last + 1, dtype=np.float64) * STEP


def _read(times: NDArray[np.float64], values: Single, at: NDArray[np.float64]) -> tuple[Single, Bool]:
    """Values `(n, ...)` at `times` read at others, by straight lines; what lies in a gap is not valid."""
    k = np.clip(np.searchsorted(times, at, side="right") - 1, 0, max(len(times) - 2, 0))
    after = np.minimum(k + 1, len(times) - 1)
    apart = times[after] - times[k]
    share = np.clip((at - times[k]) / np.maximum(apart, 1e-9), 0.0, 1.0).astype(np.float32)
    share = share.reshape(-1, *(1,) * (values.ndim - 1))
    valid = np.asarray(apart <= _GAP)
    read = values[k] * (1 - share) + values[after] * share
    read[~valid] = 0.0
    return np.asarray(read), valid


@lru_cache
def _filters() -> Single:
    import librosa

    return np.asarray(librosa.filters.mel(sr=_RATE, n_fft=_WINDOW, n_mels=BANDS, fmin=_LOW, fmax=_HIGH), np.float32)


def _sound(stream: Stream) -> Track:
    """Log-mel energies, the mean of each band taken out."""
    pieces: list[Single] = []
    start = 0.0
    rest = np.zeros(0, np.float32)
    filled = 0
    first: int | None = None
    for times, values in stream.blocks(_BLOCK, rate=float(_RATE)):
        mono = values.mean(axis=0)
        if first is None:
            start = float(times[0])
            first = int(np.ceil(start / STEP - 1e-6))
            # The first frame is centred on the first whole step.
            lead = round((first * STEP - start) * _RATE) - _WINDOW // 2
            rest = np.zeros(max(0, -lead), np.float32)
            mono = mono[max(0, lead) :]
            filled = max(0, lead)
        missing = round((float(times[0]) - start) * _RATE) - filled
        if missing > 0 and pieces:  # what is missing in the middle is silence, so that what follows keeps its time
            mono = np.concatenate([np.zeros(missing, np.float32), mono])
        filled += len(mono)
        samples = np.concatenate([rest, mono])
        count = max(0, (len(samples) - _WINDOW) // _HOP + 1)
        rest = samples[count * _HOP :]
        if count:
            pieces.append(_energies(samples[: (count - 1) * _HOP + _WINDOW]))
        if filled > _MOST * _RATE:
            break
    if first is None:
        raise StreamError(f"Stream {stream.name!r}: no sound; expected at least one sample")
    samples = np.concatenate([rest, np.zeros(_WINDOW, np.float32)])
    pieces.append(_energies(samples[: (len(samples) - _WINDOW) // _HOP * _HOP + _WINDOW]))
    energy = np.concatenate(pieces)
    energy = energy[: max(1, len(energy) // FINER) * FINER]
    energy = np.pad(energy, ((0, -len(energy) % FINER), (0, 0)))
    mean = energy.mean(axis=0)
    values = np.log(energy + _FLOOR * mean + 1e-3 * _FLOOR * float(mean.max()) + 1e-20)
    return Track("sound", first, (values - values.mean(axis=0)).astype(np.float32), np.ones(len(values) // FINER, bool))


def _energies(samples: Single) -> Single:
    """(frames, BANDS) of samples that hold a whole number of hops and a window."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, _WINDOW)[::_HOP]
    spectrum = np.fft.rfft(frames * np.hanning(_WINDOW + 1)[:-1], axis=1)
    return np.asarray((np.abs(spectrum) ** 2).astype(np.float32) @ _filters().T, np.float32)
