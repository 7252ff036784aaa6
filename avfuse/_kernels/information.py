"""Joint histograms of values and of what an image shows where they lie, and how they change with the places."""

from __future__ import annotations

import numpy as np
from numba import njit

from avfuse._kernels.lanes import add_powers, bilinear

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
    part, single = np.empty(_BLOCK, np.float32), np.empty(2 * _BLOCK, np.float32)
    zero = np.float32(0.0)
    right, below = np.float32(width - 1), np.float32(height - 1)
    last_column, last_line = np.float32(width - 2), np.float32(height - 2)
    wide, steps = np.int32(width), np.int32(bins)
    stride, other = np.int64(np.uint32(width)), np.int64(size)
    n = rows.shape[0]
    for chunk in range(0, n, _CHUNK):
        for first in range(chunk, min(n, chunk + _CHUNK), _BLOCK):
            m = min(_BLOCK, n - first)
            own, place = rows[first : first + m], places[2 * first : 2 * (first + m)]
            for i in range(2 * m):
                single[i] = place[i]
            for i in range(m):
                x, y = single[2 * i], single[2 * i + 1]
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
                part[i] = bilinear(grey, at, at + stride, across[i], down[i])
            for i in range(m):
                k = np.int32(part[i])
                part[i] -= np.float32(k)
                base[i] += k
            for i in range(m):
                add_powers(sums, np.int64(np.uint32(base[i])) * 4 + (i & 1) * other, part[i])
        for c in range(size):
            total[c] += np.float64(sums[c]) + np.float64(sums[c + size])
            sums[c] = zero
            sums[c + size] = zero
    return total.reshape(bins + 1, bins, 4)[:bins]


@njit(cache=True, nogil=True)
def spread_moments(moments, spline):
    """Joint histogram `(bins, bins + 2)` of moments `(bins, bins, 4)`: greys spread over columns k - 1 to k + 2.

    spline: `(4, 4)`, weights of these columns by powers of f.
    """
    bins = moments.shape[0]
    out = np.zeros((bins, bins + 3))
    for row in range(bins):
        for k in range(bins):
            for j in range(4):
                for power in range(4):
                    out[row, k + j] += spline[j, power] * moments[row, k, power]
    # The last column is reached by greys of a whole number alone, with weight 0.
    return out[:, :-1].copy()


@njit(cache=True, nogil=True)
def _entropy(shares):
    total = 0.0
    for share in shares:
        if share > 0:
            total -= share * np.log(share)
    return total


@njit(cache=True, nogil=True)
def entropies(histogram):
    """Of the rows, of the columns and of both together, in nats; 0 of a histogram that holds nothing."""
    total = histogram.sum()
    if not total > 0:
        return 0.0, 0.0, 0.0
    rows, columns = np.zeros(histogram.shape[0]), np.zeros(histogram.shape[1])
    for i in range(histogram.shape[0]):
        for j in range(histogram.shape[1]):
            rows[i] += histogram[i, j] / total
            columns[j] += histogram[i, j] / total
    return _entropy(rows), _entropy(columns), _entropy(histogram.ravel() / total)


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
