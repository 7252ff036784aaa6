"""Points through a lens, which of them a camera sees, and where they end before what lies behind.

A lens is `(30,)`: fx, skew, cx, fy, cy; 1 for a fisheye; the squared radius of flat coordinates beyond which it shows
nothing; 14 coefficients in OpenCV's order (a fisheye's four first); the tilt of the sensor, `(3, 3)`, row by row.
"""

from __future__ import annotations

import numpy as np
from numba import njit

_SECTORS = 8
_OPEN = 3  # empty sectors in a row: a gap of 135 degrees or more, where half a circle may be open


@njit(cache=True, nogil=True, error_model="numpy")
def _through(x, y, lens):
    """Flat coordinates bent, and how they change with x and y: (a, b, da/dx, da/dy, db/dx, db/dy)."""
    k = lens[7:21]
    r2 = x * x + y * y
    if lens[5] == 1.0:
        r = np.sqrt(r2)
        if r < 1e-9:
            return x, y, 1.0, 0.0, 0.0, 1.0
        angle = np.arctan(r)
        s = angle * angle
        bent = angle * (1 + s * (k[0] + s * (k[1] + s * (k[2] + s * k[3]))))
        slope = (1 + s * (3 * k[0] + s * (5 * k[1] + s * (7 * k[2] + s * 9 * k[3])))) / (1 + r2)
        g = bent / r
        h = (slope - g) / r2  # of g with r, over r
        return x * g, y * g, g + x * x * h, x * y * h, x * y * h, g + y * y * h
    over, under = 1 + r2 * (k[0] + r2 * (k[1] + r2 * k[4])), 1 + r2 * (k[5] + r2 * (k[6] + r2 * k[7]))
    g = over / under
    d = (k[0] + r2 * (2 * k[1] + r2 * 3 * k[4]) - g * (k[5] + r2 * (2 * k[6] + r2 * 3 * k[7]))) / under
    a = x * g + 2 * k[2] * x * y + k[3] * (r2 + 2 * x * x) + r2 * (k[8] + r2 * k[9])
    b = y * g + k[2] * (r2 + 2 * y * y) + 2 * k[3] * x * y + r2 * (k[10] + r2 * k[11])
    thin_a, thin_b = 2 * (k[8] + 2 * r2 * k[9]), 2 * (k[10] + 2 * r2 * k[11])
    ax = g + 2 * x * x * d + 2 * k[2] * y + 6 * k[3] * x + x * thin_a
    ay = 2 * x * y * d + 2 * k[2] * x + 2 * k[3] * y + y * thin_a
    bx = 2 * x * y * d + 2 * k[2] * x + 2 * k[3] * y + x * thin_b
    by = g + 2 * y * y * d + 6 * k[2] * y + 2 * k[3] * x + y * thin_b
    if k[12] == 0.0 and k[13] == 0.0:
        return a, b, ax, ay, bx, by
    t = lens[21:30]
    u, v, w = t[0] * a + t[1] * b + t[2], t[3] * a + t[4] * b + t[5], t[6] * a + t[7] * b + t[8]
    u, v = u / w, v / w
    ua, ub = (t[0] - u * t[6]) / w, (t[1] - u * t[7]) / w
    va, vb = (t[3] - v * t[6]) / w, (t[4] - v * t[7]) / w
    return u, v, ua * ax + ub * bx, ua * ay + ub * by, va * ax + vb * bx, va * ay + vb * by


@njit(cache=True, nogil=True, error_model="numpy")
def _project_upright(points, pose, lens, out):
    """`project` of lenses that are no fisheye and whose sensor is not tilted: most of them, and a loop that vectorises.

    The operations are those of `_through`, in their order, so that results are the same to the last bit.
    """
    k0, k1, k2, k3, k4, k5 = lens[7], lens[8], lens[9], lens[10], lens[11], lens[12]
    k6, k7, k8, k9, k10, k11 = lens[13], lens[14], lens[15], lens[16], lens[17], lens[18]
    fx, skew, cx, fy, cy, far = lens[0], lens[1], lens[2], lens[3], lens[4], lens[6]
    a0, a1, a2, a3 = pose[0, 0], pose[0, 1], pose[0, 2], pose[0, 3]
    b0, b1, b2, b3 = pose[1, 0], pose[1, 1], pose[1, 2], pose[1, 3]
    c0, c1, c2, c3 = pose[2, 0], pose[2, 1], pose[2, 2], pose[2, 3]
    for i in range(points.shape[0]):
        p, q, s = points[i, 0], points[i, 1], points[i, 2]
        z = c0 * p + c1 * q + c2 * s + c3
        x = (a0 * p + a1 * q + a2 * s + a3) / z
        y = (b0 * p + b1 * q + b2 * s + b3) / z
        r2 = x * x + y * y
        g = (1 + r2 * (k0 + r2 * (k1 + r2 * k4))) / (1 + r2 * (k5 + r2 * (k6 + r2 * k7)))
        a = x * g + 2 * k2 * x * y + k3 * (r2 + 2 * x * x) + r2 * (k8 + r2 * k9)
        b = y * g + k2 * (r2 + 2 * y * y) + 2 * k3 * x * y + r2 * (k10 + r2 * k11)
        shown = (z > 0) & (r2 <= far)
        out[i, 0] = fx * a + skew * b + cx if shown else np.nan
        out[i, 1] = fy * b + cy if shown else np.nan


@njit(cache=True, nogil=True)
def project(points, pose, lens):
    """Pixels `(n, 2)` of points `(n, 3)` through T_camera_points `(3, 4)`; NaN for those it cannot show."""
    n = points.shape[0]
    out = np.empty((n, 2))
    if lens[5] != 1.0 and lens[19] == 0.0 and lens[20] == 0.0:
        _project_upright(points, pose, lens, out)
        return out
    for i in range(n):
        p, q, s = points[i, 0], points[i, 1], points[i, 2]
        z = pose[2, 0] * p + pose[2, 1] * q + pose[2, 2] * s + pose[2, 3]
        out[i, 0], out[i, 1] = np.nan, np.nan
        if not z > 0:
            continue
        x = (pose[0, 0] * p + pose[0, 1] * q + pose[0, 2] * s + pose[0, 3]) / z
        y = (pose[1, 0] * p + pose[1, 1] * q + pose[1, 2] * s + pose[1, 3]) / z
        if x * x + y * y > lens[6]:
            continue
        a, b = _through(x, y, lens)[:2]
        out[i, 0] = lens[0] * a + lens[1] * b + lens[2]
        out[i, 1] = lens[3] * b + lens[4]
    return out


@njit(cache=True, nogil=True, error_model="numpy")
def pose_slopes(points, pose, lens, slopes, blocks, count):
    """How sums over points change with the pose, summed in blocks.

    slopes: `(n, 2)`, how each point's share changes with its pixel. blocks: `(n,)` int64, below count. Returns
    `(count, 6)`: by a rotation vector (exp(r) before the rotation) and a translation in the camera's frame.
    """
    out = np.zeros((count, 6))
    for i in range(points.shape[0]):
        if slopes[i, 0] == 0 and slopes[i, 1] == 0:
            continue
        p, q, s = points[i, 0], points[i, 1], points[i, 2]
        # Turned, but not yet moved: the rotation acts on it.
        u = pose[0, 0] * p + pose[0, 1] * q + pose[0, 2] * s
        v = pose[1, 0] * p + pose[1, 1] * q + pose[1, 2] * s
        w = pose[2, 0] * p + pose[2, 1] * q + pose[2, 2] * s
        z = w + pose[2, 3]
        if not z > 0:
            continue
        x, y = (u + pose[0, 3]) / z, (v + pose[1, 3]) / z
        if x * x + y * y > lens[6]:
            continue
        _, _, ax, ay, bx, by = _through(x, y, lens)
        a, b = lens[0] * slopes[i, 0], lens[1] * slopes[i, 0] + lens[3] * slopes[i, 1]
        gx, gy = (a * ax + b * bx) / z, (a * ay + b * by) / z
        gz = -(gx * x + gy * y)
        k = blocks[i]
        out[k, 0] += v * gz - w * gy
        out[k, 1] += w * gx - u * gz
        out[k, 2] += u * gy - v * gx
        out[k, 3] += gx
        out[k, 4] += gy
        out[k, 5] += gz
    return out


@njit(cache=True, nogil=True)
def _nearest_of_cells(positions, depths, cell, columns, rows):
    """The nearest point of every cell of the picture, `(rows, columns)`, -1 where there is none."""
    held = np.full((rows, columns), -1, np.int64)
    for i in range(positions.shape[0]):
        x, y = positions[i, 0], positions[i, 1]
        if not (x >= 0 and y >= 0 and x < cell * columns and y < cell * rows):
            continue
        c, r = np.int64(x / cell), np.int64(y / cell)
        if held[r, c] < 0 or depths[i] < depths[held[r, c]]:
            held[r, c] = i
    return held


@njit(cache=True, nogil=True)
def _sector(dx, dy):
    """Which eighth of the circle a step points into; the opposite one is 4 away."""
    if dy > 0 or (dy == 0 and dx >= 0):
        if dx > 0:
            return 0 if dy < dx else 1
        return 2 if -dx < dy else 3
    if dx < 0:
        return 4 if -dy < -dx else 5
    return 6 if dx < -dy else 7


@njit(cache=True, nogil=True)
def visible(positions, depths, cell, columns, rows, reach, nearer):
    """Which points the camera sees: those in the picture that points nearer by a share do not surround.

    positions: `(n, 2)` pixels. depths: `(n,)`. The picture is cut into rows x columns cells of `cell` pixels, and the
    nearest point of each of the (2 reach + 1)^2 cells about a point is looked at. A point is hidden where those with
    less than 1 - nearer of its depth lie all around, so that ground that only slants is seen.
    """
    n = positions.shape[0]
    held = _nearest_of_cells(positions, depths, cell, columns, rows)
    seen = np.zeros(n, np.bool_)
    for i in range(n):
        x, y = positions[i, 0], positions[i, 1]
        if not (x >= 0 and y >= 0 and x < cell * columns and y < cell * rows):
            continue
        c, r = np.int64(x / cell), np.int64(y / cell)
        before = 0
        limit = depths[i] * (1.0 - nearer)
        for row in range(max(r - reach, 0), min(r + reach + 1, rows)):
            for column in range(max(c - reach, 0), min(c + reach + 1, columns)):
                j = held[row, column]
                if j >= 0 and depths[j] < limit:
                    before |= 1 << _sector(positions[j, 0] - x, positions[j, 1] - y)
        longest, run = 0, 0
        for k in range(2 * _SECTORS):
            run = 0 if before >> (k % _SECTORS) & 1 else run + 1
            longest = max(longest, run)
        seen[i] = longest >= _OPEN
    return seen


@njit(cache=True, nogil=True)
def standing_out(positions, depths, cell, columns, rows, reach):
    """By which share of its inverse depth each point stands out before the line through neighbours on opposite sides.

    Inverse depth is affine in the picture on a plane, however it slants: there this is 0, at the end of a thing that
    stands before another one near 1. positions, depths: of points that are seen, the grid as of `visible`. Returns
    `(n,)`, 0 for points without neighbours on both sides, and `(n,)` int64 which point lies on the farther side, the
    point itself where it does not stand out.
    """
    n = positions.shape[0]
    held = _nearest_of_cells(positions, depths, cell, columns, rows)
    out, behind = np.zeros(n), np.arange(n)
    nearest, inverse, which = np.empty(_SECTORS), np.empty(_SECTORS), np.zeros(_SECTORS, np.int64)
    for i in range(n):
        x, y = positions[i, 0], positions[i, 1]
        if not (x >= 0 and y >= 0 and x < cell * columns and y < cell * rows):
            continue
        c, r = np.int64(x / cell), np.int64(y / cell)
        nearest[:] = np.inf
        for row in range(max(r - reach, 0), min(r + reach + 1, rows)):
            for column in range(max(c - reach, 0), min(c + reach + 1, columns)):
                j = held[row, column]
                if j < 0 or j == i:
                    continue
                dx, dy = np.float64(positions[j, 0] - x), np.float64(positions[j, 1] - y)
                away, s = np.sqrt(dx * dx + dy * dy), _sector(dx, dy)
                if 0 < away < nearest[s]:
                    nearest[s], inverse[s], which[s] = away, 1.0 / depths[j], j
        for s in range(_SECTORS // 2):
            o = s + _SECTORS // 2
            if nearest[s] < np.inf and nearest[o] < np.inf:
                line = (inverse[s] * nearest[o] + inverse[o] * nearest[s]) / (nearest[s] + nearest[o])
                out_here = 1.0 - line * depths[i]
                if out_here > out[i]:
                    out[i] = out_here
                    behind[i] = which[s] if inverse[s] < inverse[o] else which[o]
    return out, behind
