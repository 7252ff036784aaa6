"""Loops over frames: bends of trajectories, and light that falls into rows which are read one after the other."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def bend_residuals(times, signals, first, last, bends):
    """(events, bends): what continuous pairs of parabolas, bent at a given time, leave of the signals.

    times: (n,). signals: (n, channels). first, last: (events,) half-open range of frames of each event.
    bends: (events, bends) times at which to bend. Sum of squares over frames and channels.
    """
    events, count = bends.shape
    channels = signals.shape[1]
    out = np.empty((events, count))
    for e in range(events):
        n = last[e] - first[e]
        base = np.empty((5, n))
        for b in range(count):
            bend = bends[e, b]
            for k in range(n):
                u = times[first[e] + k] - bend
                after = max(u, 0.0)
                base[0, k] = 1.0
                base[1, k] = u
                base[2, k] = u * u
                base[3, k] = after
                base[4, k] = after * after
            # Orthogonal one after the other; what depends on those before vanishes.
            for i in range(5):
                before = 0.0
                for k in range(n):
                    before += base[i, k] * base[i, k]
                for j in range(i):
                    dot = 0.0
                    for k in range(n):
                        dot += base[i, k] * base[j, k]
                    for k in range(n):
                        base[i, k] -= dot * base[j, k]
                norm = 0.0
                for k in range(n):
                    norm += base[i, k] * base[i, k]
                scale = 1.0 / np.sqrt(norm) if norm > 1e-12 * before and norm > 0.0 else 0.0
                for k in range(n):
                    base[i, k] *= scale
            total = 0.0
            for c in range(channels):
                mean = 0.0
                for k in range(n):
                    mean += signals[first[e] + k, c]
                mean /= n
                for k in range(n):
                    value = signals[first[e] + k, c] - mean
                    total += value * value
                for i in range(5):
                    dot = 0.0
                    for k in range(n):
                        dot += base[i, k] * (signals[first[e] + k, c] - mean)
                    total -= dot * dot
            out[e, b] = max(total, 0.0)
    return out


@njit(cache=True, nogil=True)
def lit_residuals(times, rows, first, last, onsets, readout, exposure, lasting):
    """(events,): what flashes of a known beginning leave of the brightness that they added.

    times: (n,) of the middle of each frame. rows: (n, height) added brightness. first, last: (events,) range of
    frames. onsets: (events,) seconds at which light goes on. readout, exposure, lasting: seconds. How bright a flash
    is may change evenly from the first row to the last; both ends of that line are fitted.
    """
    events = len(onsets)
    height = rows.shape[1]
    out = np.empty(events)
    for e in range(events):
        total = 0.0
        a00 = a01 = a11 = b0 = b1 = 0.0
        for k in range(first[e], last[e]):
            for r in range(height):
                down = (r + 0.5) / height
                middle = times[k] + (down - 0.5) * readout
                begin = max(onsets[e], middle - 0.5 * exposure)
                end = min(onsets[e] + lasting, middle + 0.5 * exposure)
                share = max(0.0, end - begin) / min(exposure, lasting)
                value = rows[k, r]
                total += value * value
                top = share * (1.0 - down)
                low = share * down
                a00 += top * top
                a01 += top * low
                a11 += low * low
                b0 += top * value
                b1 += low * value
        det = a00 * a11 - a01 * a01
        if det > 1e-9 * a00 * a11 and det > 0.0:
            x0 = (a11 * b0 - a01 * b1) / det
            x1 = (a00 * b1 - a01 * b0) / det
            # Light adds; it takes nothing away.
            if x0 > 0.0 and x1 > 0.0:
                total -= x0 * b0 + x1 * b1
            else:
                both = a00 + 2.0 * a01 + a11
                x = max(0.0, (b0 + b1) / both)
                total -= x * (b0 + b1)
        out[e] = max(total, 0.0)
    return out
