"""Joint histograms of values and of what an image shows where they lie, and how they change with the places."""

from __future__ import annotations

import numpy as np
from numba import njit

_BLOCK = 512  # points that are placed at once, by a loop that vectorises
_CHUNK = 8192  # points that are summed in single precision; a multiple of the block


@njit(cache=True, nogil=True, fastmath={"contract"})
def joint_moments(rows, image, positions, bins):
    """Which values meet which greys: for each pair of steps the sums of 1, f, f^2 and f^3 over its points.

    rows: `(n,)` uint8 steps of the values; those not below `bins` are left out. image: `(h, w)` float32, greys of 0 to
    less than `bins`, at least 2 by 2 pixels. positions: `(n, 2)` x, y; those outside, or NaN, are left out. Between
    pixels the image is bilinear. k: whole part of the grey, f: the rest. Returns `(bins, bins, 4)` float64.

    Cubic weights of a point are linear in the moments, so that a histogram with B-splines costs four sums a point.
    """
    height, width = image.shape
    grey, places = image.reshape(-1), positions.reshape(-1)
    # One more row takes what is left out: cheaper than a branch.
    size = (bins + 1) * bins * 4
    total = np.zeros(size)
    # Two in turn, so that a cell that comes again need not wait until it was stored.
    sums = np.zeros(2 * size, np.float32)
    corner, base = np.empty(_BLOCK, np.int32), np.empty(_BLOCK, np.int32)
    across, down = np.empty(_BLOCK, np.float32), np.empty(_BLOCK, np.float32)
    zero, one = np.float32(0.0), np.float32(1.0)
    right, below = np.float32(width - 1), np.float32(height - 1)
    last_column, last_line = np.float32(width - 2), np.float32(height - 2)
    wide, steps = np.int32(width), np.int32(bins)
    stride, other = np.int64(np.uint32(width)), np.int64(size)
    n = rows.shape[0]
    for chunk in range(0, n, _CHUNK):
        for first in range(chunk, min(n, chunk + _CHUNK), _BLOCK):
            m = min(_BLOCK, n - first)
            own, place = rows[first : first + m], places[2 * first : 2 * (first + m)]
            for i in range(m):
                x, y = np.float32(place[2 * i]), np.float32(place[2 * i + 1])
                row = np.int32(own[i])
                good = (x >= zero) & (y >= zero) & (x <= right) & (y <= below) & (row < steps)
                x = x if good else zero
                y = y if good else zero
                # The last pixel is reached from the one before it.
                column, line = np.int32(min(x, last_column)), np.int32(min(y, last_line))
                across[i] = x - np.float32(column)
                down[i] = y - np.float32(line)
                corner[i] = line * wide + column
                base[i] = (row if good else steps) * steps
            for i in range(m):
                # Unsigned, so that no index is tested for being negative.
                at = np.int64(np.uint32(corner[i]))
                under = at + stride
                u = across[i]
                upper = grey[at] + u * (grey[at + 1] - grey[at])
                lower = grey[under] + u * (grey[under + 1] - grey[under])
                value = upper + down[i] * (lower - upper)
                k = np.int32(value)
                f = value - np.float32(k)
                cell = np.int64(np.uint32(base[i] + k)) * 4 + (i & 1) * other
                f2 = f * f
                sums[cell] += one
                sums[cell + 1] += f
                sums[cell + 2] += f2
                sums[cell + 3] += f2 * f
        for c in range(size):
            total[c] += np.float64(sums[c]) + np.float64(sums[c + size])
            sums[c] = zero
            sums[c + size] = zero
    return total.reshape(bins + 1, bins, 4)[:bins]


@njit(cache=True, nogil=True, fastmath={"contract"})
def position_slopes(rows, image, positions, polynomials):
    """How a function of the joint histogram changes with each position.

    rows, image, positions: as of `joint_moments`. polynomials: `(bins, bins, 3)` float32; the function changes with a
    point's grey by p0 + p1 f + p2 f^2. Returns `(n, 2)` float64; 0 for points that are left out.
    """
    height, width = image.shape
    bins = polynomials.shape[0]
    out = np.zeros((rows.shape[0], 2))
    right, below = np.float32(width - 1), np.float32(height - 1)
    for i in range(rows.shape[0]):
        x, y = np.float32(positions[i, 0]), np.float32(positions[i, 1])
        row = np.int64(rows[i])
        if not (x >= 0 and y >= 0 and x <= right and y <= below and row < bins):
            continue
        column, line = min(np.int64(x), width - 2), min(np.int64(y), height - 2)
        u, v = x - np.float32(column), y - np.float32(line)
        upper, lower = image[line, column], image[line + 1, column]
        rise, rise_below = image[line, column + 1] - upper, image[line + 1, column + 1] - lower
        upper, lower = upper + u * rise, lower + u * rise_below
        value = upper + v * (lower - upper)
        k = np.int64(value)
        f = value - np.float32(k)
        change = polynomials[row, k, 0] + f * (polynomials[row, k, 1] + f * polynomials[row, k, 2])
        out[i, 0] = change * (rise + v * (rise_below - rise))
        out[i, 1] = change * (lower - upper)
    return out
