"""Whether the channels of a recording are in the order of the microphones, or in which other order they would fit.

In every window of the recording some plane wave should line the channels up. How well the best one does, over all
windows, is compared between the order given and others. Which others are worth a try: for a few microphones all; for
more, those that sort the measured delays as some direction would have them, for the assignment of numbers to numbers
of least squares is that of their ranks.

What cannot be told: orders that only turn or mirror the array, and microphones that every sound reached together.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np

from avfuse._kernels import steering as kernels
from avfuse.spatial.sound.steering import F32, F64, Geometry, Spectra, Steering, sphere

_WINDOW = 16  # frames
_MOST_WINDOWS = 24
_ALL_UP_TO = 5  # microphones of which all orders are tried
_TRIED = 24  # orders of more microphones
_OVERLAP = 1.2  # frames share samples, and neighbouring bins a window: variance beside that of independent cells
_SAME = 0.02  # relative: distances between microphones that are taken for equal

Order = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class OrderCheck:
    """How the order given fits beside the one that fits best of all others that are not the same array turned.

    fit: share 0..1 of what the pairs of microphones have in common that one direction explains, in the order given;
    best_fit in the order `best` (channel of each microphone, from 0). doubt: by how many standard deviations of
    independent noise `best` is better. coherence: mean height of the pairs' own peaks. ties: orders that fit as well.
    """

    fit: float
    best: Order
    best_fit: float
    doubt: float
    coherence: float
    ties: tuple[Order, ...] = ()


def check_order(geometry: Geometry, spectra: Spectra, weights: F32) -> OrderCheck:
    """weights: `(frames, bins)` of cells by what they can tell."""
    channels = len(geometry.microphones)
    step = float(np.clip(0.35 * geometry.speed / 6000 / geometry.aperture, np.radians(2.0), np.radians(6.0)))
    facing = geometry.axes[2] if geometry.rank == 2 else None
    bends = (0.0, 1.0, 2.0) if geometry.is_bent else (0.0,)
    steering = Steering(geometry, sphere(step, facing=facing), spectra.rate, spectra.size, bends)
    heard, noise = _windows(steering, spectra, weights)
    peaks = heard.max(axis=2)  # (windows, pairs)
    own = peaks.sum(axis=1)
    given = tuple(range(channels))
    turns = symmetries(geometry)
    tried = _candidates(geometry, steering, heard)
    heights: dict[Order, F64] = {}
    for order in [given, *tried]:
        kind = _kind(order, turns)
        if kind not in heights:
            heights[kind] = _heights(steering, heard, order)
    mine = heights.pop(_kind(given, turns))
    if not heights:
        return OrderCheck(float(mine.sum() / own.sum()), given, float(mine.sum() / own.sum()), 0.0, float(peaks.mean()))
    ranked = sorted(heights, key=lambda kind: -float(heights[kind].sum()))
    best = heights[ranked[0]]
    # By what independent noise alone could make of the difference of two sums over pairs.
    doubt = float((best - mine).sum()) / max(float(np.sqrt(2 * len(geometry.pairs) * noise.sum())), 1e-12)
    ties = tuple(_nearest(kind, turns) for kind in ranked if heights[kind].sum() > 0.99 * mine.sum())
    return OrderCheck(
        float(mine.sum() / own.sum()), _nearest(ranked[0], turns), float(best.sum() / own.sum()), doubt,
        float(peaks.mean()), ties,
    )  # fmt: skip


def _windows(steering: Steering, spectra: Spectra, weights: F32) -> tuple[F32, F64]:
    """`(windows, pairs, lags)`: correlations of the loudest windows, 1 where a pair shares everything; and the variance
    that they have where it shares nothing, `(windows,)`."""
    edges = range(0, max(len(weights) - _WINDOW // 2, 1), _WINDOW)
    masses = np.array([float(spectra.power[a : a + _WINDOW].sum()) for a in edges])
    found, noise = [], []
    for k in np.sort(np.argsort(-masses, kind="stable")[:_MOST_WINDOWS]):
        rows = slice(edges[int(k)], edges[int(k)] + _WINDOW)
        mass = float(weights[rows].sum())
        if mass > 0:
            part = spectra.part(rows)
            found.append(steering.correlations(part.cross(weights[rows]), spectra) / np.float32(mass))
            noise.append(0.5 * _OVERLAP * float((weights[rows] ** 2).sum()) / mass**2)
    return np.array(found), np.array(noise)


def _heights(steering: Steering, heard: F32, order: Order) -> F64:
    """`(windows,)`: power of the best direction, were channel order[m] that of microphone m."""
    turned = reordered(heard, order, len(steering.geometry.microphones))
    return np.array([kernels.lag_sums(np.ascontiguousarray(one), steering.table).max() for one in turned], np.float64)


def reordered(correlations: F32, order: Order, channels: int) -> F32:
    """Correlations `(..., pairs, lags)` of the pairs of microphones, had channel order[m] been that of microphone m."""
    i, j = np.triu_indices(channels, 1)
    number = np.full((channels, channels), -1)
    number[i, j] = number[j, i] = np.arange(len(i))
    a, b = np.array(order)[i], np.array(order)[j]
    picked = correlations[..., number[a, b], :]
    # The delay of (b, a) is that of (a, b) the other way round.
    return np.where((a > b)[:, None], picked[..., ::-1], picked)


def delays_of(steering: Steering, correlations: F32) -> F64:
    """`(channels,)` arrival times, s, about their mean, that fit the peaks of all pairs: least squares, and once more
    with less weight for peaks that do not fit."""
    geometry = steering.geometry
    i, j = geometry.pairs.T
    reach = correlations.shape[1] // 2
    lags = (correlations.argmax(axis=1) - reach) / (steering.fine * steering.rate)
    rows = np.zeros((len(i), len(geometry.microphones)))
    rows[np.arange(len(i)), i], rows[np.arange(len(i)), j] = 1.0, -1.0
    weight = np.maximum(correlations.max(axis=1), 1e-6).astype(np.float64)
    times = np.zeros(len(geometry.microphones))
    for _ in range(4):
        times = np.linalg.lstsq(rows * weight[:, None], lags * weight, rcond=None)[0]
        off = np.abs(lags - rows @ times)
        weight = correlations.max(axis=1) / (1 + (off / 20e-6) ** 2)
    return np.asarray(times - times.mean())


def _candidates(geometry: Geometry, steering: Steering, heard: F32) -> list[Order]:
    channels = len(geometry.microphones)
    if channels <= _ALL_UP_TO:
        return list(permutations(range(channels)))
    half = sphere(np.radians(4.0), facing=geometry.axes[2] if geometry.rank == 2 else None)
    expected = -(half @ geometry.centred.T) / geometry.speed  # (directions, channels)
    ranks = np.argsort(expected, axis=1, kind="stable")
    sizes = np.sort(expected, axis=1)
    costs: dict[Order, float] = {}
    loud = np.argsort(-heard.max(axis=2).sum(axis=1), kind="stable")[:6]
    for one in [heard.mean(axis=0), *heard[loud]]:
        times = delays_of(steering, one)
        by_time = np.argsort(times, kind="stable")
        cost = ((sizes - times[by_time]) ** 2).sum(axis=1)
        for d in np.argsort(cost, kind="stable")[:_TRIED]:
            order = np.empty(channels, np.int64)
            order[ranks[d]] = by_time
            key = tuple(int(v) for v in order)
            costs[key] = min(costs.get(key, np.inf), float(cost[d]))
    found = sorted(costs, key=lambda key: costs[key])[:_TRIED]
    # What people mix up: two channels swapped.
    for a in range(channels):
        for b in range(a + 1, channels):
            swapped = list(range(channels))
            swapped[a], swapped[b] = b, a
            found.append(tuple(swapped))
    return found


def symmetries(geometry: Geometry) -> list[Order]:
    """Orders of the microphones that leave all distances as they are: the array turned or mirrored onto itself."""
    x = geometry.centred
    apart = np.linalg.norm(x[:, None] - x[None], axis=-1)
    near = _SAME * apart.max()
    found: list[Order] = []

    def extend(order: list[int]) -> None:
        k = len(order)
        if k == len(x):
            found.append(tuple(order))
            return
        for m in range(len(x)):
            if m not in order and np.all(np.abs(apart[m, order] - apart[k, :k]) < near):
                extend([*order, m])

    extend([])
    return found


def _equal(order: Order, turns: list[Order]) -> list[Order]:
    """All orders that are the same array turned or mirrored."""
    return [tuple(order[m] for m in turn) for turn in turns]


def _kind(order: Order, turns: list[Order]) -> Order:
    return min(_equal(order, turns))


def _nearest(order: Order, turns: list[Order]) -> Order:
    """Of the orders that cannot be told from this one, that which moves the fewest channels."""
    return min(_equal(order, turns), key=lambda one: (sum(a != b for a, b in enumerate(one)), one))
