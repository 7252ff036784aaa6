"""How good stated maps of time are: errors, shares, intervals, and comparisons paired by case.

Errors are seconds, estimate minus truth; NaN where nothing was stated. Figures that come with an interval are
`Figure`s: the 95 % interval is that of the bootstrap over *cases* (Efron and Tibshirani 1993, chapter 13, percentiles),
since the pairs of one case share their recordings and are no independent evidence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from avfuse.errors import StreamError

F64 = NDArray[np.float64]
Clock = Callable[[ArrayLike], F64]

TOLERANCES = (1e-3, 5e-3, 20e-3, 40e-3, 100e-3)  # seconds
GROSS = 0.1  # seconds; a stated answer that is farther off is no alignment at all
FEW = 1e-3  # seconds that an answer may be off whatever deviation it states
LEVELS = (0.0, 0.5, 0.9, 0.98, 0.99, 0.999, 0.9999, 1.0)  # of confidence
Z95 = 1.96
_REPEATS = 2000
_AT_ONCE = 4_000_000  # weights in memory at a time


@dataclass(frozen=True)
class Figure:
    """A figure and its 95 % interval; NaN where there was nothing to compute it from. count: pairs behind it."""

    value: float
    low: float = math.nan
    high: float = math.nan
    count: int = 0


def succeeds(errors: ArrayLike, tolerance: float) -> NDArray[np.bool_]:
    """|error| <= tolerance; nothing stated is no success."""
    e = np.abs(np.asarray(errors, np.float64))
    return np.nan_to_num(e, nan=np.inf) <= tolerance


def is_gross(errors: ArrayLike) -> NDArray[np.bool_]:
    """Stated, and more than 100 ms off."""
    return np.abs(np.asarray(errors, np.float64)) > GROSS


def is_covered(errors: ArrayLike, stds: ArrayLike, known: ArrayLike = 0.0) -> NDArray[np.bool_]:
    """|error| <= 1.96 sqrt(std^2 + known^2): whether the stated 95 % interval holds the truth.

    known: seconds (1 sigma) to which the truth itself is known.
    """
    e, s, k = (np.asarray(a, np.float64) for a in (errors, stds, known))
    return np.abs(e) <= Z95 * np.hypot(s, k)


def is_wrong(errors: ArrayLike, stds: ArrayLike, known: ArrayLike = 0.0) -> NDArray[np.bool_]:
    """|error| > max(5 std, 1 ms) + 1.96 known: what a stated confidence is the probability against.

    stds: NaN where none was stated; then 1 ms is allowed.
    """
    e, s, k = (np.asarray(a, np.float64) for a in (errors, stds, known))
    return np.abs(e) > np.maximum(5.0 * np.nan_to_num(s), FEW) + Z95 * k


@dataclass(frozen=True)
class Reliability:
    """Answers whose stated confidence lies in [low, high): how many, their mean confidence, and how many are right."""

    low: float
    high: float
    count: int
    stated: float
    right: int


def reliability(confidences: ArrayLike, right: ArrayLike, levels: Sequence[float] = LEVELS) -> tuple[Reliability, ...]:
    """Stated confidence against the share that is right, one entry per level that has any; the last one is closed.

    confidences, right: `(n,)` of the stated answers.
    """
    c, r = np.asarray(confidences, np.float64), np.asarray(right, bool)
    found = []
    for low, high in pairwise(levels):
        inside = (c >= low) & ((c < high) | ((high == levels[-1]) & (c == high)))
        if inside.any():
            found.append(Reliability(low, high, int(inside.sum()), float(c[inside].mean()), int(r[inside].sum())))
    return tuple(found)


def cycle_residuals(maps: dict[tuple[str, str], Clock], at: dict[str, float]) -> F64:
    """Seconds by which a method's answers about pairs fail to close round every triangle of recordings.

    maps: (reference, moving) -> the clock moving -> reference, one direction of each pair suffices where it has an
    `inverse`. at: own time of each recording at which its triangles are entered.
    For a, b, c it is |m_ab(m_bc(m_ca(t))) - t|; triangles with a pair missing are left out.
    """
    both = dict(maps)
    for (a, b), clock in maps.items():
        both.setdefault((b, a), clock.inverse())  # type: ignore[attr-defined]
    found = []
    for a, b, c in combinations(sorted({name for pair in both for name in pair}), 3):
        if (a, b) in both and (b, c) in both and (c, a) in both:
            t = at[a]
            found.append(abs(float(both[a, b](both[b, c](both[c, a](t)))) - t))
    return np.array(found, np.float64)


# Intervals. `cases` gives for each value the case it belongs to, 0 .. n - 1.


def _weights(count: int, rng: np.random.Generator, repeats: int) -> NDArray[np.int64]:
    """(repeats, count): how often each of `count` cases is drawn when `count` are drawn with replacement."""
    return rng.multinomial(count, np.full(count, 1.0 / count), size=repeats)


def _bootstrap(
    cases: NDArray[np.int64], statistic: Callable[[NDArray[np.int64]], F64], rng: np.random.Generator | int
) -> tuple[float, float]:
    """Percentiles 2.5 and 97.5 of `statistic` over resampled cases; it takes the weights (repeats, values)."""
    rng = np.random.default_rng(rng)
    _, own = np.unique(cases, return_inverse=True)
    count = int(own.max()) + 1
    step = max(1, _AT_ONCE // max(len(own), count))
    parts = [statistic(_weights(count, rng, min(step, _REPEATS - first))[:, own]) for first in range(0, _REPEATS, step)]
    found = np.concatenate(parts)
    found = found[np.isfinite(found)]
    if not len(found):
        return math.nan, math.nan
    low, high = np.quantile(found, (0.025, 0.975))
    return float(low), float(high)


def share(hits: ArrayLike, cases: ArrayLike, rng: np.random.Generator | int = 0) -> Figure:
    """Share of `hits` (n,) with its interval.

    Where no value hits, or all do, resampling knows no other outcome; the exact binomial bound (Clopper and Pearson
    1934) over the number of cases is given instead: none of 13 is 0 to 25 %, not 0 to 0.
    """
    h, c = np.asarray(hits, bool), np.asarray(cases, np.int64)
    if not len(h):
        return Figure(math.nan)
    value = float(h.mean())
    if value in (0.0, 1.0):
        beyond = 1.0 - 0.025 ** (1.0 / len(np.unique(c)))
        return Figure(value, 0.0, beyond, len(h)) if value == 0.0 else Figure(value, 1.0 - beyond, 1.0, len(h))
    low, high = _bootstrap(c, lambda w: (w @ h) / w.sum(axis=1), rng)
    return Figure(value, low, high, len(h))


def quantile(values: ArrayLike, q: float, cases: ArrayLike, rng: np.random.Generator | int = 0) -> Figure:
    """Quantile of the finite `values` (n,), linear between them as numpy's, with its interval."""
    v, c = np.asarray(values, np.float64), np.asarray(cases, np.int64)
    v, c = v[np.isfinite(v)], c[np.isfinite(v)]
    if not len(v):
        return Figure(math.nan)
    order = np.argsort(v, kind="stable")
    v, c = v[order], c[order]
    low, high = _bootstrap(c, lambda w: _weighted_quantile(v, w, q), rng)
    return Figure(float(np.quantile(v, q)), low, high, len(v))


def _weighted_quantile(values: F64, weights: NDArray[np.int64], q: float) -> F64:
    """np.quantile(np.repeat(values, w), q) for every row w of `weights`; `values` in order."""
    upto = np.cumsum(weights, axis=1)
    total = upto[:, -1]
    place = (np.maximum(total, 1) - 1) * q
    below = np.floor(place)
    first = np.argmax(upto > below[:, None], axis=1)
    second = np.argmax(upto > np.ceil(place)[:, None], axis=1)
    found = values[first] + (place - below) * (values[second] - values[first])
    return np.where(total > 0, found, np.nan)


def mean(values: ArrayLike, cases: ArrayLike, rng: np.random.Generator | int = 0) -> Figure:
    """Mean of the finite `values` (n,) with its interval."""
    v, c = np.asarray(values, np.float64), np.asarray(cases, np.int64)
    v, c = v[np.isfinite(v)], c[np.isfinite(v)]
    if not len(v):
        return Figure(math.nan)
    low, high = _bootstrap(c, lambda w: (w @ v) / w.sum(axis=1), rng)
    return Figure(float(v.mean()), low, high, len(v))


# Two methods on the same cases.


def difference(first: ArrayLike, second: ArrayLike, cases: ArrayLike, rng: np.random.Generator | int = 0) -> Figure:
    """Mean of first - second over pairs that both were asked about, with its interval: shares, where both are hits.

    Raises StreamError where the two have different lengths: they must be of the same pairs in the same order.
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if a.shape != b.shape:
        raise StreamError(f"difference: {a.shape} against {b.shape} values; expected the same pairs of both")
    return mean(a - b, cases, rng)


def ratio(first: ArrayLike, second: ArrayLike, cases: ArrayLike, rng: np.random.Generator | int = 0) -> Figure:
    """Geometric mean of first / second over pairs of positive values, with its interval."""
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(a / b)
    found = mean(logs, cases, rng)
    return Figure(math.exp(found.value), math.exp(found.low), math.exp(found.high), found.count)


def sign_test(wins: int, losses: int) -> float:
    """Two-sided probability of a split at least this uneven where both outcomes are as likely; ties are left out.

    With wins and losses the cases in which only one of two methods succeeds it is McNemar's test (1947), exact.
    """
    n = wins + losses
    if n == 0:
        return 1.0
    tail = sum(math.comb(n, k) for k in range(min(wins, losses) + 1))
    return min(1.0, 2.0 * tail / 2.0**n if n < 1000 else 2.0 * float(np.exp(_log_tail(n, min(wins, losses)))))


def _log_tail(n: int, k: int) -> float:
    """log of P(at most k of n) for a fair coin, where 2^n is beyond floats."""
    terms = [math.lgamma(n + 1) - math.lgamma(j + 1) - math.lgamma(n - j + 1) - n * math.log(2.0) for j in range(k + 1)]
    return float(np.logaddexp.reduce(terms))
