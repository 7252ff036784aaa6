"""Estimators, for the loop of `robust`, of a homography of the plane.

data: `(4, n)`, rows x and y of the reference, x and y of the moving. model: `(9,)`, a matrix row by row.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types

from avfuse._kernels.robust import MODEL, NORMAL, RESIDUALS, RETRACT, SOLVE, TANGENT

_SUMS = {"reassoc", "contract"}


@njit(SOLVE, cache=True, nogil=True, error_model="numpy")
def homography_solve(data, sample, models):
    """Through four points, basis to basis, where their triangles keep their sense (Hartley and Zisserman, 4.7.2)."""
    a, b = np.empty((3, 3)), np.empty((3, 3))
    for side in range(2):
        u, v = data[2 * side], data[2 * side + 1]
        x0, y0 = u[sample[0]], v[sample[0]]
        x1, y1 = u[sample[1]] - x0, v[sample[1]] - y0
        x2, y2 = u[sample[2]] - x0, v[sample[2]] - y0
        x3, y3 = u[sample[3]] - x0, v[sample[3]] - y0
        # Barycentric coordinates of the fourth point, times twice the area.
        area, second, third = x1 * y2 - x2 * y1, x3 * y2 - x2 * y3, x1 * y3 - x3 * y1
        first = area - second - third
        size = max(x1 * x1 + y1 * y1, x2 * x2 + y2 * y2, x3 * x3 + y3 * y3)
        if not min(abs(area), abs(first), abs(second), abs(third)) > 1e-3 * size:
            return 0
        into = a if side == 0 else b
        for k in range(3):
            w = first if k == 0 else second if k == 1 else third
            w /= area
            into[0, k], into[1, k], into[2, k] = w * u[sample[k]], w * v[sample[k]], w
    # A view of a plane turns all triangles over, or none: of the weights only the signs' pattern counts.
    for k in range(3):
        if a[2, k] * b[2, k] <= 0:
            return 0
    # Inverse of b by its adjugate; the scale of a homography is free.
    h = models[0]
    for c in range(3):
        p, q = (c + 1) % 3, (c + 2) % 3
        for r in range(3):
            h[3 * r + c] = 0.0
        for k in range(3):
            s, t = (k + 1) % 3, (k + 2) % 3
            inverse = b[p, s] * b[q, t] - b[p, t] * b[q, s]
            for r in range(3):
                h[3 * r + c] += a[r, k] * inverse
    size = 0.0
    for i in range(9):
        size += h[i] * h[i]
    if not size > 1e-300:
        return 0
    # Positive where the sample lies.
    w = h[6] * data[2, sample[0]] + h[7] * data[3, sample[0]] + h[8]
    size = np.sqrt(size) if w > 0 else -np.sqrt(size)
    for i in range(9):
        h[i] /= size
    return 1


@njit(RESIDUALS, cache=True, nogil=True, fastmath=_SUMS, error_model="numpy")
def homography_residuals(model, data, start, stop, squared):
    """Squared distances in the reference; infinite for points behind the picture."""
    a, b, c, d, e, f = model[0], model[1], model[2], model[3], model[4], model[5]
    g, h, k = model[6], model[7], model[8]
    u, v, x, y, out = data[0], data[1], data[2], data[3], squared
    for i in range(start, stop):
        w = g * x[i] + h * y[i] + k
        inverse = 1.0 / w
        p = (a * x[i] + b * y[i] + c) * inverse - u[i]
        q = (d * x[i] + e * y[i] + f) * inverse - v[i]
        out[i] = p * p + q * q if w > 1e-12 else 1e30


@njit(NORMAL, cache=True, nogil=True, fastmath=_SUMS, error_model="numpy")
def homography_normal(model, data, weights, normal, slope):
    """Sums of J^T J and J^T r over the distances' two coordinates."""
    s_xx, s_xy, s_x, s_yy, s_y, s_o = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    u_xx, u_xy, u_x, u_yy, u_y, u_o = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    v_xx, v_xy, v_x, v_yy, v_y, v_o = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    t_xx, t_xy, t_x, t_yy, t_y, t_o = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    px, py, po, qx, qy, qo, lx, ly, lo = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    a, b, c, d, e, f = model[0], model[1], model[2], model[3], model[4], model[5]
    g, h, k = model[6], model[7], model[8]
    for i in range(data.shape[1]):
        x, y = data[2, i], data[3, i]
        # No branch: sums over all, nothing added where the weight is 0, keep the loop vectorised.
        inverse = 1.0 / (g * x + h * y + k) if weights[i] > 0.0 else 0.0
        u = (a * x + b * y + c) * inverse
        v = (d * x + e * y + f) * inverse
        first = weights[i] * inverse
        o = first * inverse
        p, q = first * (u - data[0, i]), first * (v - data[1, i])
        l = -(p * u + q * v)
        t = u * u + v * v
        ox, oy = o * x, o * y
        xx, xy, yy = ox * x, ox * y, oy * y
        s_xx += xx
        s_xy += xy
        s_x += ox
        s_yy += yy
        s_y += oy
        s_o += o
        u_xx += u * xx
        u_xy += u * xy
        u_x += u * ox
        u_yy += u * yy
        u_y += u * oy
        u_o += u * o
        v_xx += v * xx
        v_xy += v * xy
        v_x += v * ox
        v_yy += v * yy
        v_y += v * oy
        v_o += v * o
        t_xx += t * xx
        t_xy += t * xy
        t_x += t * ox
        t_yy += t * yy
        t_y += t * oy
        t_o += t * o
        px += p * x
        py += p * y
        po += p
        qx += q * x
        qy += q * y
        qo += q
        lx += l * x
        ly += l * y
        lo += l
    sums = np.array(
        [
            [s_xx, s_xy, s_x, s_yy, s_y, s_o],
            [u_xx, u_xy, u_x, u_yy, u_y, u_o],
            [v_xx, v_xy, v_x, v_yy, v_y, v_o],
            [t_xx, t_xy, t_x, t_yy, t_y, t_o],
        ]
    )
    slopes = np.array([px, py, po, qx, qy, qo, lx, ly, lo])
    normal[:] = 0.0
    for i in range(3):
        for j in range(3):
            low, high = min(i, j), max(i, j)
            at = low * (5 - low) // 2 + high
            normal[i, j] = sums[0, at]
            normal[3 + i, 3 + j] = sums[0, at]
            normal[i, 6 + j] = -sums[1, at]
            normal[6 + i, j] = -sums[1, at]
            normal[3 + i, 6 + j] = -sums[2, at]
            normal[6 + i, 3 + j] = -sums[2, at]
            normal[6 + i, 6 + j] = sums[3, at]
    slope[:] = slopes


@njit(types.int64(MODEL), cache=True, nogil=True)
def _largest(model):
    best = 0
    for i in range(1, 9):
        if abs(model[i]) > abs(model[best]):
            best = i
    return best


@njit(TANGENT, cache=True, nogil=True)
def homography_tangent(model, moves):
    """All entries but the largest are free."""
    kept = _largest(model)
    moves[:] = 0.0
    for k in range(8):
        moves[k if k < kept else k + 1, k] = 1.0


@njit(RETRACT, cache=True, nogil=True, error_model="numpy")
def homography_retract(model, step, out):
    kept = _largest(model)
    for k in range(9):
        out[k] = model[k]
        if k != kept:
            out[k] += step[k if k < kept else k - 1]
