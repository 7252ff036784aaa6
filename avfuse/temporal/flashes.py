"""When lights went on, finer than the frames: from the row at which a sensor that reads row by row was lit.

A row whose exposure is centred at t_frame + (y / height - 1/2) * readout gets the share of the light that its exposure
overlaps. Delay, readout, exposure and the length of the flash are fitted together to all flashes: where in the frame
each of them falls tells the readout, and a single flash tells the delay only to about half of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from avfuse._kernels.picture import lit_residuals

_ROWS = 24  # that a frame is reduced to
_READOUTS = np.linspace(0.0, 0.036, 13)
_EXPOSURES = np.array([0.0007, 0.002, 0.005, 0.012, 0.025])
_LENGTHS = np.array([0.001, 0.004, 0.015, 0.04, 0.08, 0.15, 0.3])

Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class FlashTiming:
    """offset: seconds, sound minus picture. std: of it. readout: seconds that fit best. explained: share of the light
    that the model explains, per flash. drift: its value, its std, and the picture's time at which `offset` holds; None
    where the flashes do not fix it."""

    offset: float
    std: float
    readout: float
    explained: Float
    drift: tuple[float, float, float] | None = None


def time_flashes(frame_times: Float, rows: NDArray[np.float32], heard: Float, offset: float) -> FlashTiming | None:
    """Fine offset of flashes against their sounds, from a rough one (to a frame); None where none can be seen.

    frame_times: `(n,)`. rows: `(n, height)` brightness. heard: `(k,)` seconds of the sounds of flashes.
    """
    from scipy.optimize import minimize

    period = float(np.median(np.diff(frame_times)))
    height = rows.shape[1] // (rows.shape[1] // min(_ROWS, rows.shape[1]))
    step = rows.shape[1] // height
    small = rows[:, : height * step].reshape(len(rows), height, step).mean(axis=2, dtype=np.float64)
    events, added = [], []
    for time in heard - offset:
        first = int(np.searchsorted(frame_times, time - 2.0 * period - 0.02))
        last = int(np.searchsorted(frame_times, time + 3.0 * period + 0.02))
        if first < 3 or last >= len(frame_times) or last - first < 4:
            continue
        dark = np.median(small[first - 3 : first + 1], axis=0)
        part = small[first:last] - dark
        if part.mean(axis=1).max() > 1.5:
            events.append(time)
            added.append((frame_times[first:last], part))
    if not events:
        return None
    times = np.concatenate([t for t, _ in added])
    light = np.concatenate([p for _, p in added])
    ends = np.cumsum([len(t) for t, _ in added])
    begins = np.concatenate([[0], ends[:-1]])
    onsets = np.array(events)
    energy = np.array([float(np.sum(p**2)) for _, p in added])

    def left(values: tuple[float, ...], some: NDArray[np.intp] | slice) -> float:
        """Of a shift, a readout, an exposure and a length."""
        shift, readout, exposure, lasting = values
        found = lit_residuals(times, light, begins[some], ends[some], onsets[some] + shift, readout, exposure, lasting)
        # Each flash in shares of its own light: a bright one does not outvote the others.
        return float(np.sum(found / energy[some]))

    everything = slice(None)
    shifts = np.arange(-1.2 * period, 1.2 * period + 1e-9, max(0.002, period / 12))
    exposures = _EXPOSURES[period > _EXPOSURES]
    tried = [(left(values, everything), values) for values in product(shifts, _READOUTS[::2], exposures[::2], _LENGTHS)]
    tried.sort(key=lambda pair: pair[0])

    def refine(start: tuple[float, ...], some: NDArray[np.intp] | slice, steps: int) -> tuple[float, Float]:
        def cost(x: Float) -> float:
            readout = min(max(x[1], 0.0), 0.04)
            penalty = abs(x[1] - readout) * 100.0
            exposure, lasting = np.exp(np.clip(x[2:], -7.6, [np.log(period), -0.7]))
            return left((x[0], readout, exposure, lasting), some) + float(penalty)

        x0 = np.array([start[0], start[1], *np.log(start[2:])])
        simplex = x0 + np.vstack([np.zeros(4), np.diag([0.003, 0.005, 0.5, 0.4])])
        found = minimize(cost, x0, method="Nelder-Mead", options={"initial_simplex": simplex, "maxfev": steps})
        return float(found.fun), np.asarray(found.x)

    # From the best of every length: a long flash's end looks like the dark after a short one.
    starts = {values[3]: values for _, values in reversed(tried)}.values()
    best, x = min((refine(values, everything, 300) for values in starts), key=lambda pair: pair[0])
    count = len(onsets)
    inside = [float(np.clip(v, 1e-4, 0.5)) for v in np.exp(x[2:])]
    exchanged = 0.0
    if max(inside) < period:
        # A short light seen for long looks like a long light seen shortly: the middle is known, and which it was is
        # not. Lights that are shorter than an exposure are photographers'; those that are longer are rarely this short.
        exchanged = 0.5 * abs(inside[1] - inside[0])
        if inside[1] > inside[0]:
            x[0] += exchanged
            inside.reverse()
    each = lit_residuals(times, light, begins, ends, onsets + x[0], float(np.clip(x[1], 0.0, 0.04)), *inside)
    # What other readouts leave, and the delay that goes with them: with one flash they are all alike.
    noise = max(best / max(count, 1), 1e-3) / 8.0
    ranged = []
    for readout in _READOUTS:
        costs = [left((x[0] + s, readout, *inside), everything) for s in np.arange(-0.016, 0.0161, 0.001)]
        k = int(np.argmin(costs))
        ranged.append((costs[k], x[0] + (k - 16) * 0.001))
    costs_of, shifts_of = np.array(ranged).T
    weights = np.exp(-(costs_of - costs_of.min()) / (2 * noise))
    weights /= weights.sum()
    middle = float(weights @ shifts_of)
    loose = float(weights @ (shifts_of - middle) ** 2)
    jackknife = 0.0
    if count > 2:
        start = (x[0], float(np.clip(x[1], 0, 0.04)), *inside)
        # Some at a time, so that hundreds of flashes take no longer than ten.
        folds = min(count, 10)
        refined = [refine(start, np.flatnonzero(np.arange(count) % folds != f), 120)[1] for f in range(folds)]
        # Middles of the light: they do not depend on how its length and the exposure share what is seen.
        parts = [y[0] + (0.5 * float(np.exp(y[3])) if exchanged else 0.0) for y in refined]
        jackknife = (folds - 1) / folds * float(np.sum((np.array(parts) - np.mean(parts)) ** 2))
    shift = float(x[0]) if count > 2 else middle
    # The sound's onset itself is good to half a millisecond; one flash alone tells nothing of scatter.
    std = float(np.sqrt(loose + jackknife + 0.2 * exchanged**2 + 0.0005**2 + (0.004**2 if count == 1 else 0.0)))
    readout = float(np.clip(x[1], 0.0, 0.04))
    steps = np.arange(-0.02, 0.0201, 0.0005)
    lefts = np.array([lit_residuals(times, light, begins, ends, onsets + x[0] + s, readout, *inside) for s in steps])
    drift = _slope(onsets + x[0], -steps[np.argmin(lefts, axis=0)])
    return FlashTiming(offset - shift, std, readout, 1 - each / energy, drift)


def _slope(times: Float, delays: Float) -> tuple[float, float, float] | None:
    """(slope, std, time in the middle) of delays over time, from those within 4 ms of the median line (Sen 1968)."""
    first, second = np.triu_indices(len(times), 1)
    usual = float(np.median((delays[second] - delays[first]) / (times[second] - times[first]))) if len(first) else 0.0
    beside = delays - usual * times
    near = np.abs(beside - np.median(beside)) < 0.004
    if np.count_nonzero(near) < 6:
        return None
    at = float(times[near].mean())
    away, late = times[near] - at, delays[near] - delays[near].mean()
    slope = float(away @ late / (away @ away))
    # Each flash alone is good to half a millisecond at best: rows, onsets.
    scatter = max(float(np.sqrt(np.mean((late - slope * away) ** 2))), 0.0005)
    return slope, scatter / float(np.sqrt(away @ away)) * 1.2, at
