"""Loops of steered power."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def lag_sums(correlations, table):
    """Sum over pairs of microphones of each one's correlation at the lag that a direction asks of it.

    correlations: `(pairs, lags)` float32. table: `(pairs, directions)` int32 indices of lags in 1/256, all below the
    last one: a straight line between two lags costs less than lags that are closer. Returns `(directions,)` float32.
    """
    pairs, directions = table.shape
    out = np.zeros(directions, np.float32)
    part = np.float32(1.0 / 256.0)
    for p in range(pairs):
        row, at = correlations[p], table[p]
        for d in range(directions):
            k = at[d] >> 8
            out[d] += row[k] + part * np.float32(at[d] & 255) * (row[k + 1] - row[k])
    return out


@njit(cache=True, nogil=True)
def fits_of_directions(whitened, steering):
    """How well each moment and frequency fits a plane wave: |a^H z|^2 / channels^2, 1 where it fits exactly.

    whitened: `(channels, frames, bins)` complex64 of length 1 (0 where silent). steering: `(channels, bins)` complex64,
    what the wave makes of the phases. Returns `(frames, bins)` float32.
    """
    channels, frames, bins = whitened.shape
    out = np.empty((frames, bins), np.float32)
    real, imag = np.empty(bins, np.float32), np.empty(bins, np.float32)
    share = np.float32(1.0 / (channels * channels))
    for k in range(frames):
        real[:] = 0.0
        imag[:] = 0.0
        for m in range(channels):
            for b in range(bins):
                z, a = whitened[m, k, b], steering[m, b]
                real[b] += z.real * a.real + z.imag * a.imag
                imag[b] += z.imag * a.real - z.real * a.imag
        for b in range(bins):
            out[k, b] = share * (real[b] * real[b] + imag[b] * imag[b])
    return out
