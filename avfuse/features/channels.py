"""Any stream as rows of numbers, few enough to be compared: what no special feature is made of."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from avfuse.errors import StreamError
from avfuse.features.inertia import rotation_rate, velocity
from avfuse.stream import Stream

F64 = NDArray[np.float64]

KINDS = ("feature", "other", "points", "acceleration", "rotation_rate", "orientation", "pose")
_FASTEST = 250.0  # Hz
_MOST = 4e6  # numbers in all
_BLOCK = 60.0  # seconds
_COMPLETE = 0.9  # of the rows of the most complete channel that a channel needs


def channels(stream: Stream) -> Stream:
    """The stream as `(n, channels)` numbers, whole rows only, at 250 Hz or less and four million numbers at most.

    Faster ones come as means of so many samples. Left out are channels that never change, and those that hold a tenth
    less than others do; orientations and poses come as rotation rates and velocities. Read block by block.
    Raises StreamError for sound, pictures and text.
    """
    if stream.kind not in KINDS:
        raise StreamError(f"Stream {stream.name!r} is of kind {stream.kind}; expected one of {', '.join(KINDS)}")
    if stream.kind in ("orientation", "pose"):
        rates = rotation_rate(stream)
        values = np.asarray(rates.values)
        if stream.kind == "pose":
            values = np.hstack([values, np.asarray(velocity(stream).values)])
        stream = Stream(stream.name, "other", values, times=rates.times)
    parts = list(_means(stream))
    times = np.concatenate([t for t, _ in parts]) if parts else np.zeros(0)
    values = np.concatenate([v for _, v in parts]) if parts else np.zeros((0, 0))
    known = np.isfinite(values)
    held = known.mean(axis=0) if len(values) else np.zeros(values.shape[1])
    values = values[:, held >= max(_COMPLETE * float(held.max(initial=0.0)), 1e-9)]
    whole = np.isfinite(values).all(axis=1)
    times, values = times[whole], values[whole]
    # A constant that is not a power of two has a standard deviation of its last bits.
    if len(values):
        size = np.abs(values).max(axis=0)
        values = values[:, np.ptp(values, axis=0) > 1e-9 * size]
    return Stream(stream.name, "other", values, times=times)


def _means(stream: Stream) -> Iterator[tuple[F64, F64]]:
    """Times `(n,)` and values `(n, channels)`: means of as many rows as it takes; rows of numbers that are not finite
    are NaN."""
    fold, step = 0, math.inf
    left_times, left = np.zeros(0), np.zeros((0, 1))
    for times, values in stream.blocks(_BLOCK):
        rows = np.asarray(values, np.float64).reshape(len(times), -1 if len(times) else 1)
        if not len(rows):
            continue
        if not fold:
            apart = np.diff(times)
            apart = apart[apart > 0]
            step = float(np.median(apart)) if apart.size else math.inf
            most = min(_FASTEST, _MOST / (rows.shape[1] * max(stream.duration, 1.0)))
            fold = max(1, math.ceil(1 / (step * most) - 1e-6))
            left = np.zeros((0, rows.shape[1]))
        times, rows = np.concatenate([left_times, times]), np.concatenate([left, rows])
        count = len(rows) // fold * fold
        left_times, left = times[count:], rows[count:]
        groups = times[:count].reshape(-1, fold)
        with np.errstate(invalid="ignore"):
            means = rows[:count].reshape(-1, fold, rows.shape[1]).mean(axis=1)
        means[~np.isfinite(means)] = np.nan
        # A mean across a gap is of no time.
        near = groups[:, -1] - groups[:, 0] < 2 * fold * step
        yield groups.mean(axis=1)[near], means[near]
    if len(left) and fold == 1:
        yield left_times, left
