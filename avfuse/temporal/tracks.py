"""Tracks: what a sensor measured, evenly sampled, with what is missing marked.

track_of    a stream on an even grid, low-passed
Spectrum    power over frequency, smoothed
shaped      a track after a filter that delays nothing
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from avfuse.errors import StreamError
from avfuse.stream import Stream

F64 = NDArray[np.float64]

_GAP = 5.0  # sampling intervals without a sample that are a gap
_FEWEST = 4  # samples that a cubic needs
_SHORTEST = 8  # samples in all
_CONTINUED = 8.0  # seconds beyond both ends
_FARTHEST_REPETITION, _FELL = 3.0, 0.3  # seconds; autocorrelation that ends the first peak


@dataclass(frozen=True, eq=False)
class Track:
    """values: `(channels, n)`, zero where not valid, each channel without its mean. rate: Hz. start: seconds.

    valid: `(n,)` bool. native: Hz, of the samples it was made from.
    """

    values: F64
    rate: float
    start: float
    valid: NDArray[np.bool_]
    native: float

    @property
    def size(self) -> int:
        return int(self.values.shape[1])

    @property
    def times(self) -> F64:
        return self.start + np.arange(self.size) / self.rate

    @property
    def held(self) -> float:
        """Seconds that were measured."""
        return float(self.valid.sum() / self.rate)


def native_rate(times: F64) -> float:
    """Hz: what most intervals say."""
    apart = np.diff(times)
    apart = apart[apart > 0]
    return float(1 / np.median(apart)) if apart.size else 0.0


def samples_of(stream: Stream) -> tuple[F64, F64]:
    """Times `(n,)`, strictly rising, and values `(n, channels)`: rows with a NaN left out, equal times averaged.

    Raises StreamError where fewer than eight are left.
    """
    parts = list(stream.blocks(60.0))
    times = np.concatenate([t for t, _ in parts]) if parts else np.zeros(0)
    values = np.concatenate([np.asarray(v, np.float64) for _, v in parts]) if parts else np.zeros((0, 1))
    values = values.reshape(len(values), -1 if values.size else 1)
    whole = np.isfinite(values).all(axis=1)
    times, values = times[whole], values[whole]
    times, first = np.unique(times, return_index=True)
    if len(times) < _SHORTEST:
        raise StreamError(
            f"Stream {stream.name!r}: {len(times)} samples at different times; expected {_SHORTEST} or more"
        )
    counts = np.diff(first, append=len(values))
    return times, np.add.reduceat(values, first, axis=0) / counts[:, None]


def step_means(times: F64, values: F64, edges: F64) -> F64:
    """Means of samples `(n, channels)` over the steps between edges, `(steps, channels)`: their integral by trapezoids,
    at the edges, and what it grows by."""
    grown = np.cumsum((values[1:] + values[:-1]) / 2 * np.diff(times)[:, None], axis=0)
    whole = np.concatenate([np.zeros((1, values.shape[1])), grown])
    at = np.stack([np.interp(edges, times, column) for column in whole.T], axis=1)
    return np.asarray(np.diff(at, axis=0) / np.diff(edges)[:, None])


def track_of(times: F64, values: F64, rate: float, cutoff: float) -> Track:
    """An even grid through uneven samples: cubic between them, nothing across gaps, little above `cutoff` Hz.

    times `(n,)` strictly rising; values `(n, channels)`; rate: Hz of the grid, at least twice the cutoff.
    """
    from scipy.interpolate import CubicSpline

    native = native_rate(times)
    fold = max(1, int(np.ceil(native / rate)))
    fine = rate * fold
    n = int((times[-1] - times[0]) * fine + 1e-6) + 1
    grid = times[0] + np.arange(n) / fine
    out, valid = np.zeros((n, values.shape[1])), np.zeros(n, np.bool_)
    cuts = np.flatnonzero(np.diff(times) > _GAP / native) + 1
    for a, b in zip([0, *cuts], [*cuts, len(times)], strict=True):
        if b - a < _FEWEST:
            continue
        i, j = np.searchsorted(grid, [times[a] - 1e-9, times[b - 1] + 1e-9])
        out[i:j] = CubicSpline(times[a:b], values[a:b])(grid[i:j])
        valid[i:j] = True
    if valid.any():
        out[valid] -= out[valid].mean(axis=0)
    track = Track(np.ascontiguousarray(out.T), fine, float(times[0]), valid, native)
    if fold > 1:
        track = _thinned(track, fold, cutoff)
    return track


def _thinned(track: Track, fold: int, cutoff: float) -> Track:
    """Every `fold`-th sample of running means as long as half a period of the cutoff.

    A sharper filter is longer, and what happens at an end would be smeared by what it makes up beyond; frames of a
    picture, which sensors are often compared with, are running means too. Near the ends the means get shorter, about
    their middles.
    """
    values = bridged(track)
    at = np.arange(0, track.size, fold)
    half = np.minimum(int(track.rate / (4 * cutoff)), np.minimum(at, track.size - 1 - at))
    sums = np.concatenate([np.zeros((len(values), 1)), np.cumsum(values, axis=1)], axis=1)
    means = (sums[:, at + half + 1] - sums[:, at - half]) / (2 * half + 1)
    valid = track.valid[::fold]
    return replace(track, values=np.where(valid, means, 0.0), rate=track.rate / fold, valid=valid)


def shaped(track: Track, amplitude: Callable[[F64], F64]) -> Track:
    """After a filter of zero phase. amplitude: of frequencies in Hz.

    Gaps are bridged and both ends continued (reflected about their last values) first: steps would ring.
    """
    whole, more = _continued(track, int(_CONTINUED * track.rate))
    # What is left of the steps at the far ends sinks into the zeros beyond.
    ramp = np.sin(np.pi / 2 * (np.arange(more) + 0.5) / max(more, 1)) ** 2
    whole[:, :more] *= ramp
    whole[:, whole.shape[1] - more :] *= ramp[::-1]
    n = fft.next_fast_len(whole.shape[1] + more, real=True)
    gain = amplitude(fft.rfftfreq(n, 1 / track.rate))
    made = fft.irfft(fft.rfft(whole, n) * gain, n)[:, more : more + track.size]
    return replace(track, values=np.where(track.valid, made, 0.0))


def _continued(track: Track, more: int) -> tuple[F64, int]:
    """Values with `more` samples before and after, or as many as there are, and how many: gaps bridged, both ends
    reflected about their last values."""
    values = bridged(track)
    more = min(track.size - 1, more)
    before = 2 * values[:, :1] - values[:, more:0:-1]
    after = 2 * values[:, -1:] - values[:, -2 : -2 - more : -1]
    return np.concatenate([before, values, after], axis=1), more


def bridged(track: Track) -> F64:
    """Values with straight lines across what is missing."""
    if track.valid.all() or not track.valid.any():
        return track.values
    at = np.arange(track.size)
    known = np.flatnonzero(track.valid)
    return np.stack([np.interp(at, known, channel[known]) for channel in track.values])


def repetition(track: Track) -> tuple[float, float]:
    """How like itself a track is at another time, and how many seconds away: the highest maximum of its autocorrelation
    within three seconds, once that has fallen.

    Walking and running reach 0.6 to 0.9, free motion 0.4, shaking 0.6.
    """
    values, rate = track.values, track.rate
    highest, at, fell = 0.0, 0.0, False
    for lag in range(1, min(int(_FARTHEST_REPETITION * rate), track.size // 2)):
        one, two = values[:, lag:], values[:, : track.size - lag]
        alike = float((one * two).sum() / max(np.sqrt((one**2).sum() * (two**2).sum()), 1e-300))
        fell = fell or alike < _FELL
        if fell and alike > highest:
            highest, at = alike, lag / rate
    return highest, at


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Power per Hz `(n,)` of all channels together at frequencies `(n,)`."""

    frequencies: F64
    power: F64

    def at(self, frequencies: F64) -> F64:
        return np.asarray(np.interp(frequencies, self.frequencies, self.power))


def windows_of(valid: NDArray[np.bool_], length: int) -> list[int]:
    """Starts of windows, half overlapping, of which nine tenths or more are valid."""
    counts = np.concatenate([[0], np.cumsum(valid)])
    starts = range(0, len(valid) - length + 1, max(1, length // 2))
    return [s for s in starts if counts[s + length] - counts[s] >= 0.9 * length]


def spectrum(track: Track, seconds: float = 8.0, octaves: float = 0.5) -> Spectrum:
    """Welch's estimate, its logarithm averaged over `octaves`."""
    length = max(8, min(int(seconds * track.rate), track.size))
    taper = np.hanning(length)
    total, count = np.zeros(length // 2 + 1), 0
    for start in windows_of(track.valid, length) or [0]:
        part = track.values[:, start : start + length]
        part = np.pad(part, ((0, 0), (0, length - part.shape[1])))
        total += (np.abs(fft.rfft(part * taper)) ** 2).sum(axis=0)
        count += 1
    frequencies = fft.rfftfreq(length, 1 / track.rate)
    power = total / (count * (taper**2).sum() * track.rate)
    return Spectrum(frequencies, octave_mean(frequencies, power, octaves))


def octave_mean(frequencies: F64, power: F64, octaves: float) -> F64:
    """Geometric means over bands of a width in octaves; frequency 0 takes its neighbour's."""
    floor = max(float(power.max()) * 1e-12, 1e-300)
    level = np.concatenate([[0.0], np.cumsum(np.log(np.maximum(power, floor)))])
    place = np.log2(np.maximum(frequencies, frequencies[1] / 2))
    low = np.searchsorted(place, place - octaves / 2)
    high = np.searchsorted(place, place + octaves / 2, side="right")
    out = np.exp((level[high] - level[low]) / (high - low))
    out[0] = out[1]
    return np.asarray(out)


def whitened(track: Track, low: float, high: float, share: float) -> Track:
    """Between `low` and `high` Hz, all frequencies alike where share is 1, untouched where it is 0."""
    power = spectrum(track)
    top = float(power.power.max()) or 1.0

    def amplitude(frequencies: F64) -> F64:
        edges = 1 / (1 + (low / np.maximum(frequencies, 1e-9)) ** 4) / (1 + (frequencies / high) ** 8)
        return np.asarray((np.maximum(power.at(frequencies), 1e-9 * top) / top) ** (-share / 2) * edges)

    return shaped(track, amplitude)
