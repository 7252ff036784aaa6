"""Pitch and onsets of sound: what is alike in two takes of one piece.

harmony    chroma (which pitch classes sound) and onsets (where in the spectrum something begins), 50 frames a second

All look only `LOOK_AHEAD` seconds ahead, so that a live sound gives the same features as its recording.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from avfuse._kernels.sound import triangle_powers
from avfuse._kernels.warp import follow_peaks
from avfuse.errors import StreamError
from avfuse.stream import Stream

RATE = 16000  # Hz
FRAME_RATE = 50  # Hz
HOP = RATE // FRAME_RATE
CHROMA, BANDS = 12, 12
_CHROMA_LENGTH = 0.2  # against onsets, whose length is up to 1: these tell the time, pitch only which note it is
_LONG, _SHORT = 2048, 1024  # samples of the windows for pitch and for onsets
LOOK_AHEAD = _LONG / 2 / RATE
_LOWEST, _HIGHEST = 110.0, 4200.0  # Hz that count as pitch
_BLOCK = 10.0

F32 = NDArray[np.float32]


@lru_cache(maxsize=1)
def _windows() -> tuple[F32, F32]:
    return tuple(np.hanning(n + 1)[:-1].astype(np.float32) for n in (_LONG, _SHORT))  # type: ignore[return-value]


@lru_cache(maxsize=1)
def _banks() -> tuple[tuple[NDArray[np.int64], F32], tuple[NDArray[np.int64], F32]]:
    """Pitch classes and mel bands of a bin, as `triangle_powers` wants them; class 12 is class 0 again."""
    f = np.arange(_LONG // 2 + 1) * RATE / _LONG
    pitch = (12 * np.log2(np.maximum(f, 1.0) / 440) + 9) % 12  # 0 is C
    classes = np.where((f >= _LOWEST) & (f <= _HIGHEST), np.floor(pitch).astype(np.int64) + 1, -1)
    mel = 2595 * np.log10(1 + np.arange(_SHORT // 2 + 1) * RATE / _SHORT / 700)
    low, high = (2595 * np.log10(1 + x / 700) for x in (80.0, 7600.0))
    place = (mel - low) / (high - low) * (BANDS + 1)
    bands = np.where((place >= 0) & (place < BANDS + 1), np.floor(place).astype(np.int64), -1)
    return (classes, (pitch % 1).astype(np.float32)), (bands, (place % 1).astype(np.float32))


class HarmonyExtractor:
    """Features of sound that arrives in pieces; equal for every way of cutting it."""

    def __init__(self) -> None:
        self._held: F32 | None = None
        self._done = 0  # frames
        self._level = np.full(1, 1e-9, np.float32)
        self._before: F32 | None = None
        self._loudest = np.zeros(1, np.float32)
        self._ringing = np.zeros(BANDS, np.float32)

    def push(self, samples: F32) -> F32:
        """`(channels, n)` at RATE -> `(frames, CHROMA + BANDS)`, those that are complete by now."""
        if self._held is None:
            # Frame k is centred on sample k * HOP.
            self._held = np.zeros((samples.shape[0], _LONG // 2), np.float32)
        held = np.concatenate([self._held, samples], axis=1)
        count = (held.shape[1] - _LONG) // HOP + 1
        if count <= 0:
            self._held = held
            return np.zeros((0, CHROMA + BANDS), np.float32)
        chroma = np.zeros((count, CHROMA + 1), np.float32)
        bands = np.zeros((count, BANDS), np.float32)
        (long, short), (classes, mel) = _windows(), _banks()
        inset = (_LONG - _SHORT) // 2
        # Powers of the channels add: opposite polarity does not cancel.
        for channel in held:
            frames = np.lib.stride_tricks.sliding_window_view(channel, _LONG)[: count * HOP : HOP]
            for first in range(0, count, 250):  # stays in the cache
                part = frames[first : first + 250]
                chroma[first : first + 250] += triangle_powers(fft.rfft(part * long), *classes, CHROMA + 1)
                inner = part[:, inset : inset + _SHORT] * short
                bands[first : first + 250] += triangle_powers(fft.rfft(inner), *mel, BANDS)
        chroma[:, 0] += chroma[:, CHROMA]
        channels = np.float32(len(held))
        chroma, bands = chroma[:, :CHROMA] / channels, bands / channels
        self._held = held[:, count * HOP :]
        return self._shaped(chroma, bands)

    def flush(self) -> F32:
        """The last frames, as if silence followed."""
        channels = 1 if self._held is None else self._held.shape[0]
        return self.push(np.zeros((channels, _LONG // 2), np.float32))

    def _shaped(self, chroma: NDArray[np.floating], bands: NDArray[np.floating]) -> F32:
        loud = bands.sum(axis=1, keepdims=True)
        level = follow_peaks(loud, self._level, np.float32(0.5 ** (1 / (3 * FRAME_RATE))), np.float32(1e-6))
        self._level = level[-1]
        pitches = np.sqrt(chroma)
        norm = np.sqrt((pitches**2).sum(axis=1, keepdims=True))
        pitches *= _CHROMA_LENGTH / (norm + 0.02 * np.sqrt(level))
        compressed = np.log1p(300 * bands / level)
        before = compressed[:1] if self._before is None else self._before
        rises = np.maximum(np.diff(compressed, axis=0, prepend=before), 0)
        self._before = compressed[-1:]
        size = np.sqrt((rises**2).sum(axis=1, keepdims=True))
        loudest = follow_peaks(size, self._loudest, np.float32(0.5 ** (1 / FRAME_RATE)), np.float32(1.0))
        self._loudest = loudest[-1]
        rises /= loudest
        ringing = follow_peaks(rises, self._ringing, np.float32(0.75), np.float32(0.0))
        self._ringing = ringing[-1]
        return np.concatenate([pitches, ringing], axis=1)


def harmony(stream: Stream) -> Stream:
    """Chroma and onsets of a sound, `(n, 24)` at 50 Hz, in blocks: an hour takes 17 MB.

    Chroma: roots of the powers in the twelve pitch classes, of length 0.2 but where it is quiet. Onsets: rises of the
    log energy in twelve mel bands against the strongest of the last second, which fade over 0.1 s (the idea of DLNCO
    features: Ewert, Müller and Grosche 2009). Neither depends on gain. Gaps count as silence.
    Raises StreamError where the stream is not finite sound.
    """
    if stream.kind != "sound":
        raise StreamError(f"Stream {stream.name!r}: is {stream.kind}; expected sound")
    extractor = HarmonyExtractor()
    start, parts = None, []
    for at, values in without_gaps(stream):
        start = at if start is None else start
        parts.append(extractor.push(values))
    if start is None:
        raise StreamError(f"Stream {stream.name!r}: holds no sound")
    parts.append(extractor.flush())
    return Stream(stream.name, "feature", np.concatenate(parts), rate=float(FRAME_RATE), start=start)


def without_gaps(stream: Stream) -> Iterator[tuple[float, F32]]:
    """(start, `(channels, n)`) of a sound at RATE, silence where it has gaps. Raises StreamError unless finite."""
    start, position = 0.0, -1
    for times, values in stream.blocks(_BLOCK, RATE):
        if not values.shape[1]:
            continue
        if not np.isfinite(values.sum(dtype=np.float64)):
            raise StreamError(f"Stream {stream.name!r}: NaN or infinite samples near {times[0]:.2f} s")
        if position < 0:
            start, position = float(times[0]), 0
        gap = round((times[0] - start) * RATE) - position
        while gap > 0:
            step = min(gap, int(_BLOCK * RATE))
            yield start + position / RATE, np.zeros((values.shape[0], step), np.float32)
            position, gap = position + step, gap - step
        yield start + position / RATE, np.asarray(values, np.float32)
        position += values.shape[1]
