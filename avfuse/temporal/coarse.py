"""Where two long sounds may match: correlation of mel features, to about 10 ms.

Features are log energies less their local mean over their local deviation, correlated per band with the
modulation spectrum half whitened; the bands then add up. For long recordings the moving one is cut into
segments, each searched in the whole reference, and lags that lie on one slowly drifting line support each
other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from avfuse.cores import on_cores
from avfuse.temporal.hearing import BANDS, FRAME_RATE, RATE, Heard

F32 = NDArray[np.float32]

SEGMENT = 300.0  # seconds; 100 ppm moves 30 ms in it
_LOCAL = 0.5
_WIDE = 4.0
_MIN_OVERLAP = 1.0  # seconds
_AT_ONCE = 60_000  # frames
MAX_DRIFT = 200e-6


@dataclass(frozen=True)
class Line:
    """A candidate: t_ref = t_mov + lag + drift * (t_mov - centre), times in seconds of the two `Heard`.

    score: standard deviations above what unrelated features reach at this overlap; of the waveform's
        correlation where `wave`.
    """

    lag: float
    drift: float
    centre: float
    score: float
    wave: bool = False

    def lag_at(self, t: float) -> float:
        """Seconds to add to the moving time `t`."""
        return self.lag + self.drift * (t - self.centre)


def _smooth(values: F32, seconds: float) -> F32:
    """Centred moving average along time, shorter at the ends."""
    half = max(1, round(seconds * FRAME_RATE / 2))
    total = np.zeros(len(values) + 1, np.float64)
    low = np.maximum(np.arange(len(values)) - half, 0)
    high = np.minimum(np.arange(len(values)) + half + 1, len(values))
    mean = np.empty_like(values)
    for band in range(values.shape[1]):  # one at a time: hours of all bands in float64 would not fit the memory bound
        np.cumsum(values[:, band], out=total[1:])
        mean[:, band] = (total[high] - total[low]) / (high - low)
    return mean


def normalise(heard: Heard) -> NDArray[np.floating]:
    """Features without their local mean, over their local deviation, as precise as they are; 0 without content."""
    out = np.zeros_like(heard.features)
    around = round((_LOCAL + _WIDE) * FRAME_RATE)
    for first in range(0, len(out), _AT_ONCE):  # bounded scratch memory
        low, high = max(first - around, 0), min(first + _AT_ONCE + around, len(out))
        part = _normalised(heard.features[low:high].astype(np.float32), heard.active[low:high])
        out[first : first + _AT_ONCE] = part[first - low : first - low + _AT_ONCE]
    return out


def _normalised(mel: F32, active: NDArray[np.bool_]) -> F32:
    mel[~active] = np.log(1e-7)
    centred = mel - _smooth(mel, _LOCAL)
    deviation = np.sqrt(_smooth(centred * centred, _WIDE))
    # A band that only hisses deviates by about 0.3: do not blow its noise up further.
    centred /= np.maximum(deviation, 0.15)
    # Nothing but an edge of silence should ever dominate.
    np.clip(centred, -4, 4, out=centred)
    centred[~active] = 0
    return centred


class _Reference:
    """Spectra of the reference's features, kept for many segments."""

    def __init__(self, features: NDArray[np.floating], longest: int, shortest: int) -> None:
        """longest: frames of the segments to come. shortest: frames of overlap that count."""
        self.frames = len(features)
        self.shortest = shortest
        self.size = fft.next_fast_len(len(features) + longest, real=True)
        self.spectra = [fft.rfft(features[:, b].astype(np.float32), self.size) for b in range(BANDS)]
        self.energy = fft.rfft(np.einsum("fb,fb->f", features, features, dtype=np.float32), self.size)

    def correlate(self, segment: F32) -> tuple[F32, NDArray[np.int64]]:
        """Scores and the lags (frames) they belong to; lag: frame k of the segment meets frame k + lag."""
        cross = np.zeros(self.size // 2 + 1, np.complex64)
        for b, spectrum in enumerate(self.spectra):
            other = fft.rfft(segment[:, b], self.size)
            product = spectrum * np.conj(other)
            magnitude = np.abs(product)
            # Half whitening keeps fast and slow modulations in balance.
            cross += product / np.sqrt(magnitude + 1e-3 * magnitude.mean() + 1e-20)
        correlation = fft.irfft(cross, self.size)
        # Under no relation the variance at a lag goes with the energy that meets there.
        meeting = fft.irfft(self.energy * np.conj(fft.rfft((segment**2).sum(axis=1), self.size)), self.size)
        lags = np.arange(-(len(segment) - 1), self.frames)
        found, weight = correlation[lags], np.maximum(meeting[lags], 0)
        overlap = np.minimum(lags + len(segment), self.frames) - np.maximum(lags, 0)
        usable = overlap >= self.shortest
        if not usable.any():
            return np.zeros(0, np.float32), lags[:0]
        lags, found, weight = lags[usable], found[usable], weight[usable]
        full = float(weight.max())
        scores = found / np.sqrt(weight + 0.01 * full + 1e-20)
        scale = 1.4826 * float(np.median(np.abs(scores))) + 1e-20
        return (scores / scale).astype(np.float32), lags


def _peaks(scores: F32, count: int, apart: int) -> list[int]:
    """Indices of the largest values at least `apart` from each other."""
    left = scores.copy()
    found = []
    for _ in range(count):
        k = int(np.argmax(left))
        if not np.isfinite(left[k]):
            break
        found.append(k)
        left[max(k - apart, 0) : k + apart + 1] = -np.inf
    return found


def _parabola(scores: F32, k: int) -> float:
    if k == 0 or k == len(scores) - 1:
        return 0.0
    a, b, c = float(scores[k - 1]), float(scores[k]), float(scores[k + 1])
    bend = a - 2 * b + c
    return 0.0 if bend >= 0 else float(np.clip(0.5 * (a - c) / bend, -0.5, 0.5))


def _halved(features: NDArray[np.floating]) -> NDArray[np.floating]:
    """Two frames in one; both sounds move by half a frame, so lags stay."""
    halved: NDArray[np.floating] = features[0 : len(features) // 2 * 2 : 2] + features[1::2]
    halved *= 0.5
    return halved


def search(reference: Heard, moving: Heard, *, low: float, high: float, count: int = 6) -> list[Line]:
    """Candidates, best first; lags between `low` and `high` seconds of the two `Heard`s' own sample times."""
    points, pieces = lag_points(reference, moving, low=low, high=high, count=count)
    return _lines(points, pieces, count)


Point = tuple[int, float, float, float]  # piece, its centre (s), lag (s), score


def lag_points(
    reference: Heard, moving: Heard, *, low: float, high: float, count: int = 6, length: float = SEGMENT
) -> tuple[list[Point], int]:
    """The best lags of every piece of about `length` seconds of the moving sound, and how many pieces there are."""
    (a, b), rate = on_cores(normalise, (reference, moving)), FRAME_RATE
    if len(a) < FRAME_RATE // 2 or len(b) < FRAME_RATE // 2:
        return [], 0
    if moving.duration > SEGMENT:
        # Minutes need no modulations beyond 25 Hz; hours need half the time and memory.
        a, b, rate = _halved(a), _halved(b), FRAME_RATE // 2
    pieces = max(1, round(moving.duration / length))
    bounds = np.linspace(0, len(b), pieces + 1).astype(int)
    index = _Reference(a, int(np.diff(bounds).max()), round(_MIN_OVERLAP * rate))

    def best(piece: int) -> list[Point]:
        first, last = bounds[piece], bounds[piece + 1]
        segment = b[first:last].astype(np.float32)
        if not np.any(segment):
            return []
        scores, lags = index.correlate(segment)
        inside = (lags - first >= low * rate - 1) & (lags - first <= high * rate + 1)
        scores, lags = scores[inside], lags[inside]
        points: list[Point] = []
        for k in _peaks(scores, count, rate // 25) if len(lags) else []:
            lag = (float(lags[k]) + _parabola(scores, k) - first) / rate
            overlap = (max(0, int(lags[k])), min(len(a), int(lags[k]) + len(segment)))
            centre = ((overlap[0] + overlap[1]) / 2 - int(lags[k]) + first) / rate
            points.append((piece, centre, lag, float(scores[k])))
        return points

    return [point for points in on_cores(best, range(pieces)) for point in points], pieces


_PIECE = 4.0  # seconds; 100 ppm moves 0.2 ms within half of it
_LONGEST = 300.0  # seconds of sound that the waveform search takes
_PIECES = 12


def search_waveform(reference: Heard, moving: Heard, *, low: float, high: float, count: int = 4) -> list[Line]:
    """As `search`, by phase-only correlation of the waveforms of short pieces: for sounds without envelope.

    Recordings longer than five minutes are searched in their first five.
    """
    size = min(reference.count, int(_LONGEST * RATE))
    length = min(moving.count, int(_PIECE * RATE))
    n = fft.next_fast_len(size + length, real=True)
    f = np.fft.rfftfreq(n, 1 / RATE)
    band = ((f > 100) & (f < 6000)).astype(np.float32)
    spectrum = fft.rfft(reference.read(0, size), n)
    last = min(moving.count, int(_LONGEST * RATE)) - length
    starts = np.unique(np.linspace(0, last, min(_PIECES, 1 + 2 * last // length)).astype(int))
    points: list[Point] = []
    for piece, start in enumerate(starts):
        product = spectrum * np.conj(fft.rfft(moving.read(int(start), length), n))
        magnitude = np.abs(product)
        # Mostly whitened, so that one loud tone does not decide.
        product *= band / (magnitude + 1e-2 * float(magnitude.mean()) + 1e-20)
        correlation = np.abs(fft.irfft(product, n))
        lags = np.arange(-length + RATE, size - RATE)
        lag_seconds = (lags - start) / RATE
        keep = (lag_seconds >= low) & (lag_seconds <= high)
        lags, lag_seconds = lags[keep], lag_seconds[keep]
        if not len(lags):
            continue
        values = correlation[lags]
        scale = float(np.sqrt(np.mean(values**2))) + 1e-20
        for k in _peaks(values, count, RATE // 100):
            points.append((piece, (start + length / 2) / RATE, float(lag_seconds[k]), float(values[k]) / scale))
    return [replace(line, wave=True) for line in _lines(points, len(starts), count)]


def _lines(points: list[Point], pieces: int, count: int) -> list[Line]:
    """Points of different segments that lie on one slowly drifting line make one candidate."""
    points = sorted(points, key=lambda p: -p[3])
    lines: list[Line] = []
    for piece, centre, lag, score in points[: 4 * count]:
        members = [(centre, lag, score)]
        for other in range(pieces):
            if other == piece:
                continue
            near = [p for p in points if p[0] == other and abs(p[2] - lag) <= 0.02 + MAX_DRIFT * abs(p[1] - centre)]
            if near:
                members.append(max(near, key=lambda p: p[3])[1:])
        found = _fit(members)
        if not any(abs(found.lag_at(k.centre) - k.lag) < 0.04 for k in lines):
            lines.append(found)
    lines.sort(key=lambda line: -line.score)
    return lines[:count]


def _fit(members: list[tuple[float, float, float]]) -> Line:
    t, lag, score = (np.array(column) for column in zip(*members, strict=True))
    # Chance points score 4 to 5; their weight should be nothing beside a true one's.
    weight = np.maximum(score - 3, 0.05) ** 2
    centre = float(np.average(t, weights=weight))
    drift = 0.0
    if len(t) >= 3:
        for _ in range(5):
            middle = np.average(t, weights=weight)
            slope = np.sum(weight * (t - middle) * (lag - np.average(lag, weights=weight)))
            drift = float(np.clip(slope / (np.sum(weight * (t - middle) ** 2) + 1e-9), -MAX_DRIFT, MAX_DRIFT))
            residual = lag - np.average(lag, weights=weight) - drift * (t - middle)
            weight = np.maximum(score - 3, 0.05) ** 2 / (1 + (residual / 0.015) ** 2)
        centre = float(np.average(t, weights=weight))
    total = float(np.sqrt(np.sum(np.maximum(score, 0) ** 2 * (weight > 0.25 * np.maximum(score - 3, 0.05) ** 2))))
    return Line(float(np.average(lag, weights=weight)), drift, centre, total)
