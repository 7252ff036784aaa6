"""Where outputs on another clock lie between the samples of a recording."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Seconds = NDArray[np.float64]
Indices = NDArray[np.int64]


@njit(cache=True, nogil=True)
def locate(
    times: Seconds, origin: float, rate: float, skipped: int, n: int, taps: int, phases: int
) -> tuple[Indices, Indices, NDArray[np.float64]]:
    """First sample, phase row and weight of the next row for `_kernels.resampling.interpolated`.

    times: (m,) float64 seconds. The sound has n samples, the first of them number `skipped` of a run whose sample 0
        lies at `origin`, at `rate` Hz; it comes with `taps` zeros before and behind it.
    A row p of the filter holds the weights of the samples i - taps/2 + 1 .. i + taps/2 around i + p / phases.
    Returns starts (m,) int64 into the padded sound, rows (m,) int64 < phases, weights (m,) float64 in 0..1. NaN and
    times out of reach of the sound point at the zeros before it.
    """
    half = taps // 2
    starts = np.zeros(times.shape[0], np.int64)
    rows = np.zeros(times.shape[0], np.int64)
    weights = np.zeros(times.shape[0])
    for m in range(times.shape[0]):
        position = (times[m] - origin) * rate - skipped
        # Also false for NaN.
        if position > -half and position < n - 1 + half:
            whole = int(np.floor(position))
            fine = (position - whole) * phases
            row = min(int(fine), phases - 1)
            starts[m] = whole + half + 1
            rows[m] = row
            weights[m] = fine - row
    return starts, rows, weights
