"""Loops of the polyphase resampler: dot products of float32 sound with rows of a tap table.

The sums may be reordered (reassoc) and fused (contract): without that the inner loops stay scalar and an hour
of sound takes ten times as long. Which order is used depends on the width of the table alone, never on the position,
so the same output sample has the same bits however the input was cut into blocks.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

_REDUCE = {"reassoc", "contract"}


@njit(cache=True, nogil=True, fastmath=_REDUCE)
def polyphase(values: Floats, taps: Floats, origins: Integers, advance: int, first: int, periods: int) -> Floats:
    """Output 4 g + r of period p = sum_j taps[g, r, j] * values[c, first + p * advance + origins[g] + j].

    values (channels, n) float32; taps (groups, 4, width); `periods` even. Four neighbouring outputs share one
    stretch of input and two periods share the taps: six loads feed eight multiply-adds, so that the
    multipliers set the pace and not the cache.
    """
    channels, groups, width = values.shape[0], taps.shape[0], taps.shape[2]
    found = np.empty((channels, periods * groups * 4), np.float32)
    for c in range(channels):
        row = values[c]
        for p in range(0, periods, 2):
            for g in range(groups):
                at = first + p * advance + origins[g]
                x = row[at : at + width]
                y = row[at + advance : at + advance + width]
                h0 = taps[g, 0]
                h1 = taps[g, 1]
                h2 = taps[g, 2]
                h3 = taps[g, 3]
                x0 = np.float32(0.0)
                x1 = np.float32(0.0)
                x2 = np.float32(0.0)
                x3 = np.float32(0.0)
                y0 = np.float32(0.0)
                y1 = np.float32(0.0)
                y2 = np.float32(0.0)
                y3 = np.float32(0.0)
                for j in range(width):
                    x0 += h0[j] * x[j]
                    x1 += h1[j] * x[j]
                    x2 += h2[j] * x[j]
                    x3 += h3[j] * x[j]
                    y0 += h0[j] * y[j]
                    y1 += h1[j] * y[j]
                    y2 += h2[j] * y[j]
                    y3 += h3[j] * y[j]
                k = (p * groups + g) * 4
                found[c, k] = x0
                found[c, k + 1] = x1
                found[c, k + 2] = x2
                found[c, k + 3] = x3
                k += groups * 4
                found[c, k] = y0
                found[c, k + 1] = y1
                found[c, k + 2] = y2
                found[c, k + 3] = y3
    return found


@njit(cache=True, nogil=True, fastmath=_REDUCE)
def interpolated(
    values: Floats, taps: Floats, starts: Integers, phases: Integers, weights: NDArray[np.float64]
) -> Floats:
    """Output k = (1 - weights[k]) * y(phases[k]) + weights[k] * y(phases[k] + 1).

    y(p) = sum_j taps[p, j] * values[c, starts[k] + j]; values (channels, n) float32; taps (phases + 1, width).
    """
    channels, width, count = values.shape[0], taps.shape[1], starts.shape[0]
    found = np.empty((channels, count), np.float32)
    for c in range(channels):
        row = values[c]
        for k in range(count):
            x = row[starts[k] : starts[k] + width]
            g = taps[phases[k]]
            h = taps[phases[k] + 1]
            before = np.float32(0.0)
            after = np.float32(0.0)
            for j in range(width):
                before += g[j] * x[j]
                after += h[j] * x[j]
            found[c, k] = before + np.float32(weights[k]) * (after - before)
    return found
