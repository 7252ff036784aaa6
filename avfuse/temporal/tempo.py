"""A smooth rising map through a warping path, finer than its frames.

Frames tell the time only where something begins; in between a path is arbitrary. So the map is the one that bends
little and meets the frames where they change: a penalised least-squares fit, first to the cells of the path, each
weighted by how much happens there, then to the features themselves by Gauss-Newton steps (the registration of Lucas and
Kanade 1981 in one dimension). Bending is that of a tempo that wanders as Brownian motion.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve_banded, cholesky_banded

from avfuse._kernels.warp import inverse_diagonal

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

KNOTS = 0.2  # seconds
_WANDER = 0.02  # per second: variance by which the tempo, reference seconds per second, wanders in a second
_CELL = 0.03  # seconds that a cell with an onset in both is off, typically
_TOGETHER = 3.0  # frames that tell about the same, since windows overlap and onsets ring
_REACH = 0.06  # seconds that one Gauss-Newton step may move a frame
_ROUNDS = 3
_SLOWEST = 0.01  # slope below which the map would all but stand still


@dataclass(frozen=True, eq=False)
class Smooth:
    """knots, values: `(n,)` seconds, moving and reference. std: `(n,)` seconds at the knots, given the right track."""

    knots: F64
    values: F64
    std: F64


def activity(frames: F32) -> F64:
    """How fast features `(n, dims)` change, per frame: root of the summed squares of their slopes."""
    return np.asarray(np.sqrt((np.gradient(frames, axis=0) ** 2).sum(axis=1)), np.float64)


def smooth_map(reference: F32, moving: F32, rate: float, cells: NDArray[np.int64]) -> Smooth:
    """The map from moving to reference time, both from their frame 0 on, over the cells' moving frames.

    reference, moving: `(n, dims)` at `rate` Hz. cells: `(m, 2)` (moving frame, reference frame).
    """
    i, j = cells.T
    first, last = i[0] / rate, i[-1] / rate
    count = max(2, int(np.ceil((last - first) / KNOTS)) + 1)
    knots = first + np.arange(count) * KNOTS
    happening = activity(reference)[j] * activity(moving)[i]
    weights = happening / (happening.mean() + 1e-12) / (_CELL**2 * _TOGETHER)
    values, _ = _fit(i / rate, j / rate, weights + 1.0, knots)
    slopes = np.gradient(reference, axis=0) * rate
    frames = np.arange(i[0], i[-1] + 1)
    times = frames / rate
    factor = np.zeros(0)
    for _ in range(_ROUNDS):
        at = np.interp(times, knots, values)
        heard, slope = sample(reference, at * rate), sample(slopes, at * rate)
        left = moving[frames] - heard
        variance = float(np.mean(left**2)) + 1e-12
        steep = np.einsum("nd,nd->n", slope, slope, dtype=np.float64)
        move = np.einsum("nd,nd->n", slope, left, dtype=np.float64) / np.maximum(steep, 1e-9)
        target = at + np.clip(move, -_REACH, _REACH)
        values, factor = _fit(times, target, steep / (variance * _TOGETHER) + 1e-3, knots)
    values = np.maximum.accumulate(values - _SLOWEST * knots) + _SLOWEST * knots
    # Rounding may leave two equal values where the accumulated maximum held.
    values += 1e-9 * np.arange(count)
    return Smooth(knots, values, np.sqrt(inverse_diagonal(factor)))


def sample(values: F32, positions: F64) -> F32:
    """Rows of `values` `(n, dims)` at fractional positions, by straight lines; the end rows beyond the ends."""
    at = np.clip(positions, 0, len(values) - 1)
    k = np.minimum(at.astype(np.int64), max(len(values) - 2, 0))
    share = (at - k).astype(np.float32)[:, None]
    return np.asarray(values[k] * (1 - share) + values[np.minimum(k + 1, len(values) - 1)] * share)


def _fit(times: F64, targets: F64, weights: F64, knots: F64) -> tuple[F64, F64]:
    """Values at the knots, and the Cholesky factor (lower, banded `(3, n)`) of their information.

    weights: 1 / variance of each target.
    """
    n, step = len(knots), knots[1] - knots[0]
    k = np.clip(((times - knots[0]) / step).astype(np.int64), 0, n - 2)
    f = (times - knots[k]) / step
    # Deviations from the chord, since a penalty hours away from zero would be all rounding.
    chord = (targets[-1] - targets[0]) / max(times[-1] - times[0], step)
    line = targets[0] + chord * (knots - times[0])
    away = targets - targets[0] - chord * (times - times[0])
    band = np.zeros((3, n))
    right = np.zeros(n)
    for offset, share in ((0, 1 - f), (1, f)):
        band[0] += np.bincount(k + offset, weights * share**2, n)
        right += np.bincount(k + offset, weights * share * away, n)
    band[1] += np.bincount(k, weights * f * (1 - f), n)
    bend = 1 / (_WANDER * step**3)
    band[0, :-2] += bend
    band[0, 1:-1] += 4 * bend
    band[0, 2:] += bend
    band[1, :-2] -= 2 * bend
    band[1, 1:-1] -= 2 * bend
    band[2, :-2] += bend
    band[0] += 1e-6
    factor = cholesky_banded(band, lower=True)
    return line + cho_solve_banded((factor, True), right), factor
