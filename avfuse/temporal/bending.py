"""A clock whose drift changes with time: a line with knots, as few as explain what was seen.

Six or ten seconds give one lag. Knots are added one by one where they help most, each line joined to the
next, as long as the Bayesian information criterion pays for them (Schwarz 1978).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avfuse.temporal.coarse import Line
from avfuse.temporal.evidence import Evidence
from avfuse.temporal.focus import LAGS, correlation

F64 = NDArray[np.float64]

_SPAN = 10.0  # seconds of one lag
_GROUPS = 12  # half seconds of one lag of windows
_STANDS_OUT = 6.0  # times the usual height
_LEAST = 0.1e-3  # seconds of bending that matter
_MOST_KNOTS = 12
_BETWEEN = 3  # lags between two knots
_LEVELS = 3  # lags that sources in turn may have
_LEVEL = 0.03e-3  # seconds about each
_FLOOR = 5e-6  # seconds, of the scatter of one lag


@dataclass(frozen=True)
class Piece:
    """A line up to `end` seconds; rest: root mean square (s) of what it leaves of the lags it was fitted to."""

    end: float
    line: Line
    rest: float


def bent_lines(at: F64, lag: F64, line: Line) -> list[Piece]:
    """Lines for every part of lags that `line` should fit, `line` itself where it does.

    at, lag: seconds of the moving sound, in order, and seconds of lag, one for about ten seconds.
    """
    if len(at) < 4 * _BETWEEN:
        return [Piece(line.centre, line, 0.0)]
    whole = [Piece(float(at[-1]), line, 0.0)]
    off = lag - np.array([line.lag_at(t) for t in at])
    # Second differences of noise have six times its variance; a drift leaves none, a bend little.
    noise = max(1.4826 * float(np.median(np.abs(np.diff(off, 2)))) / np.sqrt(6.0), _FLOOR)
    knots = _knots(at, off, noise)
    if not knots:
        return whole
    fitted = _curve(at, off, noise, knots)
    straight = _curve(at, off, noise, [])
    if np.abs(fitted - straight).max() < max(_LEAST, 4 * noise) or _few_levels(off - straight, noise):
        return whole
    edges = [float(at[0]), *(float(at[k]) for k in knots), float(at[-1])]
    heights = np.interp(edges, at, fitted)
    found = []
    for k in range(len(edges) - 1):
        slope = float((heights[k + 1] - heights[k]) / (edges[k + 1] - edges[k]))
        middle = (edges[k] + edges[k + 1]) / 2
        part = Line(
            line.lag_at(middle) + float(heights[k] + heights[k + 1]) / 2, line.drift + slope, middle, line.score
        )
        inside = (at >= edges[k]) & (at <= edges[k + 1])
        found.append(Piece(edges[k + 1], part, float(np.sqrt(np.mean((off - fitted)[inside] ** 2)))))
    return found


def medians(times: F64, lags: F64, strength: F64) -> tuple[F64, F64]:
    """Times and one lag for every ten seconds of a path, of the half seconds that tell."""
    sure = strength > max(2.0, 0.5 * float(np.median(strength)))
    group = ((times - times[0]) / _SPAN).astype(int)
    at, lag = [], []
    for g in np.unique(group[sure]):
        inside = sure & (group == g)
        if np.count_nonzero(inside) >= 4:
            at.append(float(times[inside].mean()))
            lag.append(float(np.median(lags[inside])))
    return np.array(at), np.array(lag)


def window_lags(evidence: Evidence) -> tuple[F64, F64]:
    """Times and one lag for every six seconds of windows along a line, where one stands out."""
    at, lag = [], []
    for first in range(0, len(evidence.times), _GROUPS):
        few = slice(first, first + _GROUPS)
        height = np.abs(correlation(evidence.spectra[few].sum(axis=0)))
        k = int(height.argmax())
        if height[k] > _STANDS_OUT * float(np.sqrt(np.mean(height**2))):
            middle = float(evidence.times[few].mean())
            at.append(middle)
            lag.append(evidence.line.lag_at(middle) + float(LAGS[k]))
    return np.array(at), np.array(lag)


def _hinges(at: F64, knots: list[int]) -> F64:
    """Columns of a line, and of a change of slope at every knot."""
    middle, scale = float(at.mean()), float(np.ptp(at)) or 1.0
    columns = [np.ones_like(at), (at - middle) / scale, *(np.maximum(at - at[k], 0.0) / scale for k in knots)]
    return np.stack(columns, axis=1)


def _curve(at: F64, off: F64, noise: float, knots: list[int]) -> F64:
    """The joined lines through `off`, by reweighting with Huber's weights."""
    columns = _hinges(at, knots)
    weight = np.ones_like(off)
    fitted = off
    for _ in range(10):
        root = np.sqrt(weight)
        fitted = columns @ np.linalg.lstsq(columns * root[:, None], off * root, rcond=None)[0]
        weight = 1 / np.maximum(1.0, np.abs(off - fitted) / (2 * noise))
    return np.asarray(fitted)


def _cost(at: F64, off: F64, noise: float, knots: list[int]) -> float:
    """Bayesian information criterion with Huber's loss; a knot has a place and a slope."""
    z = np.abs(off - _curve(at, off, noise, knots)) / noise
    loss = np.where(z < 2, z**2, 4 * z - 4)
    return float(loss.sum()) + 2 * len(knots) * float(np.log(len(at)))


def _knots(at: F64, off: F64, noise: float) -> list[int]:
    knots: list[int] = []
    cost = _cost(at, off, noise, knots)
    while len(knots) < _MOST_KNOTS:
        free = [k for k in range(_BETWEEN, len(at) - _BETWEEN) if all(abs(k - other) >= _BETWEEN for other in knots)]
        step = max(1, len(free) // 40)  # forty places are enough to start from
        costs = [(_cost(at, off, noise, sorted([*knots, k])), k) for k in free[::step]]
        best = min(costs, default=(np.inf, 0))
        if best[0] >= cost - 1e-9:
            break
        near = [k for k in free if abs(k - best[1]) < step]
        best = min((_cost(at, off, noise, sorted([*knots, k])), k) for k in near) if step > 1 else best
        cost, knots = best[0], sorted([*knots, best[1]])
    return knots


def _few_levels(off: F64, noise: float) -> bool:
    """Whether a few lags, each of which comes back, explain what a line does not: sources that take turns do that."""
    left = np.sort(off)
    levels = 0
    covered = 0
    while len(left) and levels < _LEVELS:
        width = max(4 * noise, _LEVEL)
        ends = np.searchsorted(left, left + width, side="right")
        first = int(np.argmax(ends - np.arange(len(left))))
        covered += int(ends[first]) - first
        left = np.concatenate([left[:first], left[ends[first] :]])
        levels += 1
    return covered >= 0.9 * len(off)
