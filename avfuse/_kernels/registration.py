"""Loops of dense registration: an image through a map, at full precision."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True, fastmath={"contract"})
def seen_through(image, matrix, height, width):
    """An image at the places to which a matrix takes the pixels of a grid, bicubic (Keys 1981, a = -1/2).

    image: `(h, w)` float32, NaN where it has no value. matrix: `(3, 3)` float64, pixel of the grid to pixel of the
    image. Returns `(height, width)` float32, NaN where one of the 16 pixels about the place is absent. OpenCV rounds
    places to 1/32 pixel, which is more than what remains of an error here.
    """
    rows, columns = image.shape
    out = np.empty((height, width), np.float32)
    half = np.float32(0.5)
    for r in range(height):
        a = matrix[0, 1] * r + matrix[0, 2]
        b = matrix[1, 1] * r + matrix[1, 2]
        c = matrix[2, 1] * r + matrix[2, 2]
        for k in range(width):
            weight = matrix[2, 0] * k + c
            x, y = (matrix[0, 0] * k + a) / weight, (matrix[1, 0] * k + b) / weight
            # A place that rounding put a hair outside is on the edge; NaN, and behind the horizon, is nowhere.
            if not (weight > 0 and x >= -1e-6 and y >= -1e-6 and x <= columns - 1 + 1e-6 and y <= rows - 1 + 1e-6):
                out[r, k] = np.nan
                continue
            i, j = min(max(int(y), 0), rows - 2), min(max(int(x), 0), columns - 2)
            v, u = np.float32(y - i), np.float32(x - j)
            u2, v2 = u * u, v * v
            across0, across3 = (
                half * u * (-np.float32(1.0) + np.float32(2.0) * u - u2),
                half * u2 * (u - np.float32(1.0)),
            )
            across1 = np.float32(1.0) + half * u2 * (np.float32(3.0) * u - np.float32(5.0))
            across2 = half * u * (np.float32(1.0) + np.float32(4.0) * u - np.float32(3.0) * u2)
            down0, down3 = half * v * (-np.float32(1.0) + np.float32(2.0) * v - v2), half * v2 * (v - np.float32(1.0))
            down1 = np.float32(1.0) + half * v2 * (np.float32(3.0) * v - np.float32(5.0))
            down2 = half * v * (np.float32(1.0) + np.float32(4.0) * v - np.float32(3.0) * v2)
            # Beyond an edge its last pixel goes on.
            left, after = max(j - 1, 0), min(j + 2, columns - 1)
            total = np.float32(0.0)
            for q in range(4):
                row = image[min(max(i - 1 + q, 0), rows - 1)]
                line = across0 * row[left] + across1 * row[j] + across2 * row[j + 1] + across3 * row[after]
                total += (down0 if q == 0 else down1 if q == 1 else down2 if q == 2 else down3) * line
            out[r, k] = total
    return out


@njit(cache=True, nogil=True, fastmath={"contract", "reassoc"})
def gradient_moments(own, seen, inside, scale):
    """What the normal equations of any small change of the plane are made of.

    own, seen: `(c, h, w)` float32. inside: `(h, w)` float32, 1 where pixels and their four neighbours count, else 0.
    scale: of the squared residuals; one of that size counts a quarter (Geman and McClure). g: mean slope of both
    fields, r: own - seen, u and v: column and row less the middle's, in halves of the longer side. Returns

        (3, 5, 5)   sums of weight * (gx gx, gx gy, gy gy) * v^i u^j, i + j up to 4
        (2, 3, 3)   sums of weight * r * (gx, gy) * v^i u^j, i + j up to 2
    """
    channels, height, width = own.shape
    squares, pulls = np.zeros((3, 5, 5)), np.zeros((2, 3, 3))
    unit = max(height, width) / 2.0
    across = np.empty(width, np.float32)
    for k in range(width):
        across[k] = np.float32((k - (width - 1) / 2.0) / unit)
    weights = np.empty(width, np.float32)
    one, quarter, over = np.float32(1.0), np.float32(0.25), np.float32(1.0 / scale)
    xx, xy, yy = np.zeros(5), np.zeros(5), np.zeros(5)
    for row in range(1, height - 1):
        v = (row - (height - 1) / 2.0) / unit
        for k in range(width):
            weights[k] = 0
        for c in range(channels):
            a, b = own[c, row], seen[c, row]
            for k in range(width):
                weights[k] += (a[k] - b[k]) * (a[k] - b[k])
        for k in range(width):
            w = one + weights[k] * over
            weights[k] = inside[row, k] / (w * w)
        for c in range(channels):
            a, b = own[c, row], seen[c, row]
            above, above_seen, below, below_seen = own[c, row - 1], seen[c, row - 1], own[c, row + 1], seen[c, row + 1]
            x0 = x1 = x2 = x3 = x4 = np.float32(0)
            m0 = m1 = m2 = m3 = m4 = np.float32(0)
            y0 = y1 = y2 = y3 = y4 = np.float32(0)
            p0 = p1 = p2 = q0 = q1 = q2 = np.float32(0)
            for k in range(1, width - 1):
                gx = quarter * (a[k + 1] - a[k - 1] + b[k + 1] - b[k - 1])
                gy = quarter * (below[k] - above[k] + below_seen[k] - above_seen[k])
                u = across[k]
                wx, wy = weights[k] * gx, weights[k] * gy
                r = a[k] - b[k]
                s, m, t, p, q = wx * gx, wx * gy, wy * gy, wx * r, wy * r
                x0 += s
                m0 += m
                y0 += t
                p0 += p
                q0 += q
                s, m, t, p, q = s * u, m * u, t * u, p * u, q * u
                x1 += s
                m1 += m
                y1 += t
                p1 += p
                q1 += q
                s, m, t, p, q = s * u, m * u, t * u, p * u, q * u
                x2 += s
                m2 += m
                y2 += t
                p2 += p
                q2 += q
                s, m, t = s * u, m * u, t * u
                x3 += s
                m3 += m
                y3 += t
                s, m, t = s * u, m * u, t * u
                x4 += s
                m4 += m
                y4 += t
            xx[0], xx[1], xx[2], xx[3], xx[4] = x0, x1, x2, x3, x4
            xy[0], xy[1], xy[2], xy[3], xy[4] = m0, m1, m2, m3, m4
            yy[0], yy[1], yy[2], yy[3], yy[4] = y0, y1, y2, y3, y4
            power = 1.0
            for i in range(5):
                for j in range(5 - i):
                    squares[0, i, j] += power * xx[j]
                    squares[1, i, j] += power * xy[j]
                    squares[2, i, j] += power * yy[j]
                if i == 0:
                    pulls[0, 0, 0] += p0
                    pulls[0, 0, 1] += p1
                    pulls[0, 0, 2] += p2
                    pulls[1, 0, 0] += q0
                    pulls[1, 0, 1] += q1
                    pulls[1, 0, 2] += q2
                elif i == 1:
                    pulls[0, 1, 0] += power * p0
                    pulls[0, 1, 1] += power * p1
                    pulls[1, 1, 0] += power * q0
                    pulls[1, 1, 1] += power * q1
                elif i == 2:
                    pulls[0, 2, 0] += power * p0
                    pulls[1, 2, 0] += power * q0
                power *= v
    return squares, pulls
