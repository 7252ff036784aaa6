"""A sound stream made ready for comparison: 16 kHz mono that can be read by position, and mel features.

Decoding happens once, in blocks. Long recordings are spilled to a temporary file, so that memory grows by
the features alone (about 12 MB an hour).
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import IO

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from avfuse._kernels.sound import triangle_powers
from avfuse.errors import StreamError
from avfuse.resampling import resample_pieces
from avfuse.stream import Stream

RATE = 16000  # Hz; 8 kHz of band is where speech, music and claps carry their timing
FRAME_RATE = 100  # Hz, of the features
BANDS = 16
_WINDOW = 400
_NFFT = 512
_HOP = RATE // FRAME_RATE
_LEAKS = 48  # bins; the window's side lobes are 90 dB down from there on
_BLOCK = 10.0  # seconds decoded at once
_KEEP = 240 * RATE  # samples kept in memory before the rest is spilled
# Power (mean square) under which a frame counts as silent: 1 bit of a 16-bit file is 1e-10.
_SILENT = 1e-11
_STEADY = 0.5  # deviation of the features; stationary noise reaches 0.42, the quietest rooms with anything in them 0.75

F32 = NDArray[np.float32]


class _Spill:
    """Samples in a file without a name, which goes with the last that reads it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, samples: F32) -> None:
        self._file.write(np.ascontiguousarray(samples, np.float32).data)

    def flush(self) -> None:
        self._file.flush()

    def read(self, first: int, count: int) -> F32:
        return np.frombuffer(os.pread(self._file.fileno(), 4 * count, 4 * first), np.float32)

    def __del__(self) -> None:
        self._file.close()


@dataclass(frozen=True, eq=False)
class Heard:
    """One sound stream, prepared.

    start: seconds of sample 0 in the recording's own time; sample k lies at start + k / RATE.
    count: samples. stated: seconds that the stream was said to last.
    features: `(frames, BANDS)` log energies, in half precision where the sound is spilled; frame k is centred on sample
        k * 160.
    active: `(frames,)` False where there is no content (gap, digital silence).
    liveliness: `(seconds,)` deviation of the features within each second.
    """

    name: str
    start: float
    count: int
    stated: float
    features: NDArray[np.floating]
    active: NDArray[np.bool_]
    liveliness: F32
    _samples: F32 | None
    _spill: _Spill | None
    _origin: int = 0  # sample of the spilled sound at which this one begins

    @property
    def duration(self) -> float:
        return self.count / RATE

    @property
    def steady(self) -> bool:
        """Whether nothing happens in it: hiss and hum, as of a microphone that was off."""
        return not bool((self.liveliness > _STEADY).any())

    def read(self, first: int, count: int) -> F32:
        """Samples first .. first + count; zeros beyond the ends."""
        out = np.zeros(count, np.float32)
        low, high = max(first, 0), min(first + count, self.count)
        if high <= low:
            return out
        if self._samples is not None:
            out[low - first : high - first] = self._samples[low:high]
        else:
            assert self._spill is not None
            out[low - first : high - first] = self._spill.read(self._origin + low, high - low)
        return out

    def excerpt(self, begin: float, end: float) -> Heard:
        """The part between two times (seconds from sample 0), to the 10 ms of the features; nothing is copied."""
        low = max(0, math.ceil(begin * FRAME_RATE - 1e-9))
        high = max(low, min(self.count // _HOP, math.floor(end * FRAME_RATE + 1e-9)))
        first, count = low * _HOP, (high - low) * _HOP
        features = self.features[low : high + 1]
        return replace(
            self,
            start=self.start + first / RATE,
            count=count,
            stated=count / RATE,
            features=features,
            active=self.active[low : high + 1],
            liveliness=_liveliness(features),
            _samples=None if self._samples is None else self._samples[first : first + count],
            _origin=self._origin + first,
        )


@lru_cache(maxsize=1)
def _window() -> tuple[F32, NDArray[np.complex64]]:
    """The analysis window, and the first bins of its spectrum, beyond which a constant leaks into nothing."""
    window = np.hanning(_WINDOW + 1)[:-1].astype(np.float32)
    return window, np.asarray(fft.rfft(window, _NFFT)[:_LEAKS], np.complex64)


@lru_cache(maxsize=1)
def _mel_bank() -> tuple[NDArray[np.int64], F32]:
    """Triangles on the mel scale (O'Shaughnessy's formula) from 120 Hz to 7.6 kHz, as `triangle_powers` wants them."""
    low, high = (2595 * np.log10(1 + f / 700) for f in (120.0, 7600.0))
    edges = 700 * (10 ** (np.linspace(low, high, BANDS + 2) / 2595) - 1)
    f = np.arange(_NFFT // 2 + 1) * RATE / _NFFT
    interval = np.searchsorted(edges, f, side="right") - 1
    interval[interval > BANDS] = -1
    rise = (f - edges[interval]) / (edges[np.minimum(interval + 1, BANDS + 1)] - edges[interval])
    return interval, rise.astype(np.float32)


def log_mel(samples: F32) -> F32:
    """Log mel energies, `(frames, BANDS)`; frame k covers samples k * 160 .. k * 160 + 400 of `samples`."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, _WINDOW)[::_HOP]
    window, leak = _window()
    level = np.full(_WINDOW, 1 / _WINDOW, np.float32)
    out = np.empty((len(frames), BANDS), np.float32)
    for first in range(0, len(frames), 500):  # stays in the cache
        part = frames[first : first + 500] * window
        spectrum = fft.rfft(part, _NFFT)
        # A constant would leak into every band; taking it out here costs nothing that is heard.
        spectrum[:, :_LEAKS] -= (frames[first : first + 500] @ level)[:, None] * leak
        # BLAS would do it in threads that wait for each other where two sounds are heard at once.
        np.log(triangle_powers(spectrum, *_mel_bank(), BANDS) + np.float32(1e-7), out=out[first : first + 500])
    return out


class _Mixer:
    """Channels to mono. Signs are chosen once, on the first block that holds sound, so that channels of
    opposite polarity add instead of cancelling; channels as quiet as silence are left out."""

    def __init__(self) -> None:
        self.weights: F32 | None = None

    def __call__(self, values: F32) -> F32:
        if values.shape[0] == 1:
            only: F32 = values[0]
            return only
        weights = self.weights
        if weights is None or weights.shape[0] != values.shape[0]:
            power = np.einsum("cn,cn->c", values, values, dtype=np.float64) / max(values.shape[1], 1)
            loudest = int(np.argmax(power))
            if power[loudest] < _SILENT:
                quiet: F32 = values[loudest]
                return quiet
            shared = values @ values[loudest] / max(values.shape[1], 1)
            coherence = shared / np.sqrt(np.maximum(power * power[loudest], 1e-30))
            sign = np.where(coherence < -0.3, -1.0, 1.0)
            weights = (sign * (power > 1e-4 * power[loudest])).astype(np.float32)
            weights /= np.abs(weights).sum()
            self.weights = weights
        # Not as a matrix product: see `log_mel`.
        mixed: F32 = weights[0] * values[0]
        for weight, channel in zip(weights[1:], values[1:], strict=True):
            mixed += weight * channel
        return mixed


def _mono_blocks(stream: Stream) -> Iterator[tuple[float, F32]]:
    mixer = _Mixer()

    def mixed() -> Iterator[tuple[float, F32]]:
        for times, values in stream.blocks(_BLOCK):
            if values.shape[1]:
                mono = mixer(values)
                if not np.isfinite(mono.sum(dtype=np.float64)):
                    raise StreamError(
                        f"Stream {stream.name!r}: NaN or infinite samples near {times[0]:.2f} s; expected finite sound"
                    )
                yield float(times[0]), mono[None]

    assert stream.rate is not None  # sound always has one
    # Mixed first: one channel is cheaper to resample than all.
    pieces = mixed() if stream.rate == RATE else resample_pieces(mixed(), stream.rate, RATE)
    for start, values in pieces:
        if values.shape[1]:
            yield start, values[0]


def hear(stream: Stream) -> Heard:
    """Decode `stream` once and keep what comparison needs.

    Raises StreamError where the stream is not sound or holds NaN or infinite samples.
    """
    if stream.kind != "sound":
        raise StreamError(f"Stream {stream.name!r}: is {stream.kind}; expected sound")
    start: float | None = None
    position = 0  # samples written
    parts: list[F32] = []
    spill: _Spill | None = None
    features: list[NDArray[np.floating]] = []
    covered: list[tuple[int, int]] = []
    # Frame k is centred on sample k * hop: the first needs half a window before the start.
    tail = np.zeros(_WINDOW // 2, np.float32)

    def add(samples: F32) -> None:
        nonlocal position, spill, tail, parts
        parts.append(samples)
        position += len(samples)
        if position > _KEEP and spill is None:
            features[:] = [part.astype(np.float16) for part in features]
            spill = _Spill(tempfile.TemporaryFile(prefix="avfuse-"))  # noqa: SIM115  (until nobody reads it)
        if spill is not None:
            for part in parts:
                spill.write(part)
            parts = []
        tail = np.concatenate([tail, samples])
        if len(tail) >= _WINDOW:
            found = log_mel(tail)
            features.append(found if spill is None else found.astype(np.float16))
            tail = tail[len(found) * _HOP :]

    for at, mono in _mono_blocks(stream):
        if start is None:
            start = at
        # Gaps become silence on the grid; a run that starts between two samples moves by less than 32 us.
        first = round((at - start) * RATE)
        gap = first - position
        while gap > 0:
            step = min(gap, RATE * 10)
            add(np.zeros(step, np.float32))
            gap -= step
        mono = mono[max(position - first, 0) :]
        covered.append((position, position + len(mono)))
        add(mono)
    add(np.zeros(_WINDOW, np.float32))
    count = position - _WINDOW
    frames = count // _HOP + 1
    mel = _joined(features)[:frames]
    active = np.zeros(len(mel), bool)
    for low, high in covered:
        active[-(-low // _HOP) : high // _HOP + 1] = True
    active &= mel.max(axis=1, initial=-np.inf) > np.log(_SILENT * 1e5 + 1e-7) if len(mel) else active
    if spill is not None:
        spill.flush()
    samples = None if spill is not None else np.concatenate(parts)[: max(count, 0)]
    return Heard(
        stream.name, start or 0.0, max(count, 0), stream.duration, mel, active, _liveliness(mel), samples, spill
    )


def _joined(parts: list[NDArray[np.floating]]) -> NDArray[np.floating]:
    """All parts in one array; each is let go as it is copied, so that hours are never held twice."""
    out = np.empty((sum(map(len, parts)), BANDS), parts[0].dtype if parts else np.float32)
    first = 0
    while parts:
        part = parts.pop(0)
        out[first : first + len(part)] = part
        first += len(part)
    return out


def _liveliness(mel: NDArray[np.floating]) -> F32:
    seconds = mel[: len(mel) // FRAME_RATE * FRAME_RATE].reshape(-1, FRAME_RATE, BANDS)
    live = np.empty(len(seconds), np.float32)
    for first in range(0, len(seconds), 300):  # bounded scratch memory
        part = seconds[first : first + 300].astype(np.float32)
        live[first : first + 300] = part.std(axis=1).mean(axis=1)
    return live
