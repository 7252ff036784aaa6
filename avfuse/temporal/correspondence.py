"""Which regions of a picture go with a sound, and at which lag: found by that correlation itself.

Every region and the sound are whitened over their modulation spectrum, so that what changes slowly, and therefore goes
with anything, counts no more than what changes fast. Their correlation is measured in its own standard deviation over
lags at which nothing can match. One region among hundreds may be the one: the score of a lag is the log of the mean
likelihood ratio of all regions, so none has to be chosen, and nobody has to know what a mouth looks like.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

GRID_RATE = 25.0  # Hz
_LOW, _HIGH = 0.4, 9.0  # Hz of the modulations that are compared; syllables are 3-7 Hz
_SMOOTHING = 0.5  # Hz over which a spectrum is evened out
_TEMPER = 0.7  # of log likelihood ratios: correlations of real regions have heavier tails than noise
_LEAST = 4.0  # seconds that must meet
_LARGEST = 300.0  # a log likelihood ratio beyond this says no more
_APART = 0.35  # seconds: a further peak this close belongs to the first

Float = NDArray[np.float64]
Single = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Correspondence:
    """How a sound goes with regions of a picture, per lag (seconds, sound time minus picture time).

    score: log mean likelihood ratio of a match. peak: the lag of the highest among those asked for. height: there.
    rival: the highest further than 0.35 s from it, asked for or not. rivals: lags of those asked for that come near.
    weights: `(count,)` how much each region takes part, with its sign. meeting: seconds that overlap there.
    """

    lags: Float
    score: Float
    peak: float
    height: float
    rival: float
    rivals: tuple[float, ...]
    weights: Float
    meeting: float

    @property
    def margin(self) -> float:
        """How far the peak stands out from what else fits, or from what chance alone makes (about 2)."""
        return self.height - max(self.rival, 2.0)


def correspond(
    regions: Single, sound: Single, *, lead: float, low: float, high: float, signed: bool
) -> Correspondence | None:
    """Search lags from `low` to `high` seconds; None where picture and sound meet nowhere for long enough.

    regions: `(n, count)` at GRID_RATE. sound: `(m,)` at GRID_RATE. lead: seconds by which the sound's first value
    comes after the regions'. signed: regions may go against the sound, as a mouth darkens when it opens.
    """
    n, m = len(regions), len(sound)
    size = fft.next_fast_len(n + m, real=True)
    # Lags beyond those asked for show what chance makes of these very signals.
    shifts = np.arange(-n + 1, m)
    overlap = np.minimum(n + shifts, m) - np.maximum(shifts, 0)
    lags = lead + shifts / GRID_RATE
    enough = max(_LEAST * GRID_RATE, 0.35 * min(n, m))
    asked = (lags >= low) & (lags <= high) & (overlap >= _LEAST * GRID_RATE)
    kept = asked | ((overlap >= enough) & (lags > low - 120.0) & (lags < high + 120.0))
    if np.count_nonzero(asked) < 3:
        return None
    shifts, overlap, lags, asked = shifts[kept], overlap[kept], lags[kept], asked[kept]
    heard = whitened(sound[:, None], size)
    total = np.zeros(len(lags))
    found = np.empty((len(lags), regions.shape[1]), np.float32)
    # Where little meets the noise is larger; there is less evidence, too, so the shortest are not raised all the way.
    scale = 1.0 / np.sqrt(np.maximum(overlap / min(n, m), 0.5))
    others = ~asked if np.count_nonzero(~asked) > 40 else np.ones(len(lags), bool)
    for k in range(0, regions.shape[1], 32):
        part = fft.irfft(heard * np.conj(whitened(regions[:, k : k + 32], size)), size, axis=0)[shifts % size]
        part *= scale[:, None].astype(np.float32)
        spread = np.sqrt(np.mean(part[others].astype(np.float64) ** 2, axis=0)) + 1e-12
        part /= spread.astype(np.float32)
        found[:, k : k + 32] = part
        ratio = part if signed else np.maximum(part, 0.0)
        total += np.exp(np.minimum(_TEMPER * ratio.astype(np.float64) ** 2 / 2, _LARGEST)).sum(axis=1)
    score = np.log(total / regions.shape[1])
    candidates = np.flatnonzero(asked)
    best = int(candidates[np.argmax(score[candidates])])
    away = np.abs(lags - lags[best]) > _APART
    rival = float(score[away].max()) if away.any() else 0.0
    near = [
        k
        for k in candidates
        if away[k] and score[k] > score[best] - 3.0 and score[k] == score[max(0, k - 8) : k + 9].max()
    ]
    row = found[best].astype(np.float64)
    weights = np.where(np.abs(row) > 0.6 * np.abs(row).max(), row, 0.0)
    if not signed:
        weights = np.maximum(weights, 0.0)
    return Correspondence(
        lags, score, float(lags[best]), float(score[best]), rival,
        tuple(float(lags[k]) for k in sorted(near, key=lambda k: -score[k])[:3]), weights,
        float(overlap[best] / GRID_RATE),
    )  # fmt: skip


def whitened(values: Single, size: int) -> NDArray[np.complex64]:
    """Spectrum of `size` of columns `(n, count)`, evened out between _LOW and _HIGH."""
    from scipy.ndimage import uniform_filter1d

    spectrum = fft.rfft(values - values.mean(axis=0), size, axis=0)
    frequency = fft.rfftfreq(size, 1 / GRID_RATE)
    power = np.abs(spectrum) ** 2
    width = 2 * max(1, round(_SMOOTHING / frequency[1])) + 1
    power = uniform_filter1d(power, width, axis=0, mode="nearest")
    with np.errstate(divide="ignore"):
        band = np.exp(-((_LOW / frequency) ** 4) - (frequency / _HIGH) ** 4)
    level = np.sqrt(power + 1e-3 * power.max(axis=0) + 1e-20)
    return np.asarray(spectrum * (band[:, None] / level), np.complex64)


def onto_grid(times: Float, values: NDArray[np.generic], start: float, count: int) -> Single:
    """`(count, ...)`: values `(n, ...)` at `times` read at GRID_RATE from `start`, by straight lines."""
    at = start + np.arange(count) / GRID_RATE
    k = np.clip(np.searchsorted(times, at, side="right") - 1, 0, max(len(times) - 2, 0))
    after = np.minimum(k + 1, len(times) - 1)
    share = np.clip((at - times[k]) / np.maximum(times[after] - times[k], 1e-9), 0.0, 1.0).astype(np.float32)[:, None]
    return np.asarray(values[k].astype(np.float32) * (1 - share) + values[after].astype(np.float32) * share)
