"""Where two tracks of several channels go together, whatever linear map relates their channels.

The covariance matrix of the channels at every lag, and its nuclear norm: what the best rotation (or, of channels made
white, the best linear map) would make of it (Kabsch 1976; Wahba 1965). Lags of blocks that lie on one line of offset
and drift support each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.ndimage import maximum_filter1d

from avfuse.temporal.tracks import Track

F64 = NDArray[np.float64]

_LEAST = 2.0  # seconds of overlap that a lag needs


@dataclass(frozen=True)
class Line:
    """t_ref = t + lag + drift * (t - centre). score: against the noise of all lags, in its standard deviations."""

    lag: float
    drift: float
    centre: float
    score: float


@dataclass(frozen=True, eq=False)
class Blocks:
    """Scores of blocks of the moving track: `scores[b][q]`, q samples after the earliest lag; cuts: where they end."""

    scores: list[NDArray[np.float32]]
    cuts: NDArray[np.int64]


def block_scores(x: Track, y: Track, rotation: bool, block: float) -> Blocks:
    """How well blocks of y, of `block` seconds or so, fit x at every lag at which they overlap by two seconds."""
    count = max(1, round(y.size / y.rate / block))
    cuts = np.linspace(0, y.size, count + 1).astype(np.int64)
    n = fft.next_fast_len(x.size + int(np.diff(cuts).max()), real=True)
    x_bins, x_power = fft.rfft(x.values, n), fft.rfft((x.values**2).sum(axis=0), n)
    x_valid = fft.rfft(x.valid.astype(np.float64), n)
    scores = []
    for a, b in pairwise(cuts):
        part, valid = y.values[:, a:b], y.valid[a:b].astype(np.float64)

        def lagged(left: NDArray[np.complex128], right: F64, size: int = int(b - a)) -> F64:
            product = fft.irfft(left * np.conj(fft.rfft(right, n)), n)
            return np.concatenate([product[n - size + 1 :], product[: x.size]])

        covariances = np.array([[lagged(left, right) for right in part] for left in x_bins])
        overlap = lagged(x_valid, valid)
        power = np.maximum(lagged(x_power, valid), 0) * np.maximum(lagged(x_valid, (part**2).sum(axis=0)), 0)
        usable = overlap >= _LEAST * x.rate
        scores.append(_standardised(nuclear_norms(covariances, rotation), power, overlap, usable))
    return Blocks(scores, cuts)


def nuclear_norms(matrices: F64, rotation: bool) -> F64:
    """Sums of the singular values of `(p, q, n)` matrices; of 3 x 3 ones the least counts negative where only a
    reflection would take it positively, and rotations alone are allowed."""
    stack = np.moveaxis(matrices, 2, 0)
    values = np.linalg.svd(stack, compute_uv=False)
    if rotation:
        values[:, -1] *= np.sign(np.linalg.det(stack))
    return np.asarray(values.sum(axis=1))


def _standardised(norms: F64, power: F64, overlap: F64, usable: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Correlations times the root of their samples, from their median on, in robust standard deviations."""
    out = np.zeros(len(norms), np.float32)
    if not usable.any():
        return out
    scale = np.sqrt(np.maximum(overlap, 1.0) / np.maximum(power, power.max() * 1e-9 + 1e-300))
    values = (norms * scale)[usable]
    middle = np.median(values)
    spread = 1.4826 * np.median(np.abs(values - middle))
    out[usable] = (values - middle) / max(float(spread), 1e-12)
    return out


def lines(
    x: Track, y: Track, blocks: Blocks, width: float, max_drift: float, max_offset: float | None, most: int
) -> list[Line]:
    """The best lines through the scores, best first, no two within `width` seconds in the middle.

    x, y, blocks: as of `block_scores`. max_drift: searched both ways. max_offset: seconds at time 0, both ways.
    """
    rate, cuts = x.rate, blocks.cuts
    size, middle = x.size + y.size - 1, y.size / 2
    # Half the tracks at both ends of a block may not move by more than a quarter of `width`.
    step = width / 2 / max(y.size / rate / 2, 1e-9)
    reach = int(np.ceil(max_drift / step)) if len(blocks.scores) > 1 else 0
    best = np.full(size, -np.inf, np.float32)
    steps = np.zeros(size, np.int32)
    # Entry p: the moving track's first sample falls on sample p - (y.size - 1) of the reference, with no drift.
    for k in range(-reach, reach + 1):
        total = np.zeros(size, np.float32)
        for scores, (a, b) in zip(blocks.scores, pairwise(cuts), strict=True):
            shift = round(a + k * step * ((a + b) / 2 - middle)) - (y.size - 1) + (b - a - 1)
            low, high = max(0, -shift), min(size, len(scores) - shift)
            if high > low:
                total[low:high] += scores[low + shift : high + shift]
        better = total > best
        best[better], steps[better] = total[better], k
    best /= np.sqrt(len(blocks.scores))
    lags = (np.arange(size) - (y.size - 1)) / rate + x.start - y.start
    centre = y.start + middle / rate
    if max_offset is not None:
        drift = steps * step
        best[np.abs(lags - drift * centre) > max_offset] = -np.inf
    peaks = np.flatnonzero((best == maximum_filter1d(best, 2 * max(1, int(width * rate)) + 1)) & np.isfinite(best))
    peaks = peaks[np.argsort(-best[peaks], kind="stable")][:most]
    return [Line(float(lags[p]), float(steps[p] * step), float(centre), float(best[p])) for p in peaks]
