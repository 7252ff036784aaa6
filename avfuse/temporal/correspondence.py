"""Which regions of a picture go with a sound, and at which lag: found by that correlation itself.

The picture's time is cut into blocks, every other one to each of two halves. At every lag the regions are weighted by
how they go with the sound in one half (ridge regression, that is canonical correlation with one sound), and judged by
how the weighted sum goes with it in the other. What fits by chance in one half does not in the other; so the score
needs no choice of a region, and lags at which nothing can match tell what chance alone makes of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

GRID_RATE = 25.0  # Hz of the search; what is found is refined at the frames' own times
_BLOCK = 3.0  # seconds of one half, then of the other
_RIDGE = 0.3  # of the mean variance of a region

Float = NDArray[np.float64]
Single = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Scores:
    """score at each of `lags` (seconds; sound time minus picture time), in standard deviations of what chance gives.

    overlap: seconds of picture and sound that met there.
    """

    lags: Float
    score: Float
    overlap: Float


def correlate_regions(
    regions: Single, seen: NDArray[np.bool_], sound: Single, *, lead: float, low: float, high: float
) -> Scores | None:
    """Scores of all lags from `low` to `high` seconds; None where too little meets.

    regions: `(n, count)` at GRID_RATE, zero where not seen. seen: `(n,)`. sound: `(m,)` at GRID_RATE; lead: seconds
    by which the first of it comes after the first of the regions.
    """
    n, m = len(regions), len(sound)
    first = max(int(np.floor((low - lead) * GRID_RATE)), -n + 1)
    last = min(int(np.ceil((high - lead) * GRID_RATE)), m - 1)
    if last - first < 2:
        return None
    block = np.arange(n) // int(_BLOCK * GRID_RATE) % 2
    size = fft.next_fast_len(n + m, real=True)
    spectrum = fft.rfft(sound, size)
    power = fft.rfft(sound.astype(np.float32) ** 2, size)
    there = fft.rfft(np.ones(m, np.float32), size)
    shifts = np.arange(first, last + 1)
    at = shifts % size

    def against(values: Single, other: NDArray[np.complex64]) -> Single:
        """sum over t of values[t] * other[t + shift], per column of values."""
        return np.asarray(fft.irfft(other[:, None] * np.conj(fft.rfft(values, size, axis=0)), size, axis=0)[at])

    halves = []
    for half in (0, 1):
        mine = (block == half) & seen
        part = np.where(mine[:, None], regions, np.float32(0.0))
        products = np.concatenate(
            [against(part[:, k : k + 32], spectrum) for k in range(0, part.shape[1], 32)], axis=1
        )
        energy = against(mine[:, None].astype(np.float32), power)[:, 0]
        covariance = part.T.astype(np.float64) @ part
        halves.append((products, np.maximum(energy, 1e-9), covariance))
    total = np.zeros(len(shifts))
    for (products, _, covariance), (others, energy, judged) in (halves, halves[::-1]):
        ridge = _RIDGE * np.trace(covariance) / len(covariance) + 1e-9
        solved = np.linalg.inv(covariance + ridge * np.eye(len(covariance)))
        weights = products @ solved
        spread = np.einsum("tc,tc->t", weights @ judged, weights)
        total += np.einsum("tc,tc->t", weights, others) / np.sqrt(np.maximum(spread, 1e-12) * energy)
    overlap = against(seen[:, None].astype(np.float32), there)[:, 0] / GRID_RATE
    return Scores(lead + shifts / GRID_RATE, 0.5 * total * np.sqrt(np.maximum(overlap, 0.0)), overlap)


def onto_grid(times: Float, values: NDArray[np.generic], start: float, count: int) -> Single:
    """`(count, ...)`: values `(n, ...)` at `times` read at GRID_RATE from `start`, by straight lines."""
    at = start + np.arange(count) / GRID_RATE
    k = np.clip(np.searchsorted(times, at, side="right") - 1, 0, max(len(times) - 2, 0))
    gap = np.maximum(times[np.minimum(k + 1, len(times) - 1)] - times[k], 1e-9)
    share = np.clip((at - times[k]) / gap, 0.0, 1.0).astype(np.float32)[:, None]
    low = values[k].astype(np.float32)
    high = values[np.minimum(k + 1, len(times) - 1)].astype(np.float32)
    return np.asarray(low * (1 - share) + high * share)
