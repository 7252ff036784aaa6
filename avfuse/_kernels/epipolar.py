"""Fundamental matrices for the loop of `robust`, and what essential ones share with them.

data: `(6, n)`, rows x and y of the reference, x and y of the moving, and of either the squared size of a pixel there.
model: `(9,)`, a matrix row by row, x_ref^T F x_mov = 0, of norm 1. Distances are Sampson's, in pixels.
"""

from __future__ import annotations

import numpy as np
from numba import float64, int64, njit, types

from avfuse._kernels.polynomial import null_space, real_roots
from avfuse._kernels.robust import DATA, MODEL, NORMAL, RESIDUALS, RETRACT, SOLVE, TANGENT, UPGRADE, draw, solved
from avfuse._kernels.similar import turned

_SUMS = {"reassoc", "contract"}
_AGREE2 = 4.0  # squared thresholds by which sampled points may lie off a plane through three of them
_PARALLAX = 40  # pairs of points off the plane that are tried


@njit(types.void(DATA, int64[::1], DATA), cache=True, nogil=True)
def constraints(data, sample, rows):
    for k in range(sample.shape[0]):
        i = sample[k]
        u, v, x, y = data[0, i], data[1, i], data[2, i], data[3, i]
        rows[k, 0], rows[k, 1], rows[k, 2] = u * x, u * y, u
        rows[k, 3], rows[k, 4], rows[k, 5] = v * x, v * y, v
        rows[k, 6], rows[k, 7], rows[k, 8] = x, y, 1.0


@njit(types.boolean(MODEL, DATA, int64[::1]), cache=True, nogil=True)
def oriented(f, data, sample):
    """Whether all points of a sample lie before the cameras, or all behind (Chum, Werner and Matas 2004)."""
    # The epipole of the reference: the longest cross product of two columns.
    ex, ey, ez, longest = 0.0, 0.0, 0.0, -1.0
    for c in range(3):
        p, q = c, (c + 1) % 3
        x = f[3 + p] * f[6 + q] - f[6 + p] * f[3 + q]
        y = f[6 + p] * f[q] - f[p] * f[6 + q]
        z = f[p] * f[3 + q] - f[3 + p] * f[q]
        size = x * x + y * y + z * z
        if size > longest:
            ex, ey, ez, longest = x, y, z, size
    positive, negative = 0, 0
    for k in range(sample.shape[0]):
        i = sample[k]
        u, v, x, y = data[0, i], data[1, i], data[2, i], data[3, i]
        a, b, c = f[0] * x + f[1] * y + f[2], f[3] * x + f[4] * y + f[5], f[6] * x + f[7] * y + f[8]
        side = a * (ey - ez * v) + b * (ez * u - ex) + c * (ex * v - ey * u)
        if side > 0.0:
            positive += 1
        else:
            negative += 1
    return positive == 0 or negative == 0


@njit(SOLVE, cache=True, nogil=True, error_model="numpy")
def fundamental_solve(data, sample, models):
    """Through seven points (Hartley and Zisserman, section 11.1.2)."""
    rows, basis = np.empty((7, 9)), np.empty((2, 9))
    constraints(data, sample, rows)
    if null_space(rows, basis) != 2:
        return 0
    a, b = basis[0], basis[1]
    # det(a + z b), by its values at four places.
    cubic, roots = np.zeros(4), np.empty(4)
    f = np.empty(9)
    values = np.empty(4)
    for k in range(4):
        z = -1.0 if k == 0 else 0.0 if k == 1 else 1.0
        for j in range(9):
            f[j] = a[j] + z * b[j] if k < 3 else b[j]
        values[k] = (
            f[0] * (f[4] * f[8] - f[5] * f[7]) - f[1] * (f[3] * f[8] - f[5] * f[6]) + f[2] * (f[3] * f[7] - f[4] * f[6])
        )
    cubic[0], cubic[3] = values[1], values[3]
    cubic[2] = 0.5 * (values[0] + values[2]) - cubic[0]
    cubic[1] = 0.5 * (values[2] - values[0]) - cubic[3]
    count = 0
    for k in range(real_roots(cubic, roots)):
        size = np.sqrt(1.0 + roots[k] ** 2)
        for j in range(9):
            models[count, j] = (a[j] + roots[k] * b[j]) / size
        if oriented(models[count], data, sample):
            count += 1
    return count


@njit(RESIDUALS, cache=True, nogil=True, fastmath=_SUMS, error_model="numpy")
def epipolar_residuals(model, data, start, stop, squared):
    """Squared Sampson distances."""
    a, b, c, d, e, f = model[0], model[1], model[2], model[3], model[4], model[5]
    g, h, k = model[6], model[7], model[8]
    u, v, x, y, s, t = data[0], data[1], data[2], data[3], data[4], data[5]
    for i in range(start, stop):
        p, q = a * x[i] + b * y[i] + c, d * x[i] + e * y[i] + f
        m, n = a * u[i] + d * v[i] + g, b * u[i] + e * v[i] + h
        off = u[i] * p + v[i] * q + g * x[i] + h * y[i] + k
        squared[i] = off * off / (s[i] * (p * p + q * q) + t[i] * (m * m + n * n) + 1e-300)


@njit(NORMAL, cache=True, nogil=True, error_model="numpy")
def epipolar_normal(model, data, weights, normal, slope):
    """Sums of J^T J and J^T r of Sampson's distance in the nine entries."""
    normal[:] = 0.0
    slope[:] = 0.0
    j = np.empty(9)
    f = model
    for i in range(data.shape[1]):
        w = weights[i]
        if w == 0.0:
            continue
        u, v, x, y, s, t = data[0, i], data[1, i], data[2, i], data[3, i], data[4, i], data[5, i]
        p, q = f[0] * x + f[1] * y + f[2], f[3] * x + f[4] * y + f[5]
        m, n = f[0] * u + f[3] * v + f[6], f[1] * u + f[4] * v + f[7]
        size = s * (p * p + q * q) + t * (m * m + n * n) + 1e-300
        root = np.sqrt(size)
        off = (u * p + v * q + f[6] * x + f[7] * y + f[8]) / root
        k = off / size
        # The distance is e / sqrt(D): its slope is that of e, less that of D.
        sp, sq, tm, tn = k * s * p, k * s * q, k * t * m, k * t * n
        j[0] = u * x / root - sp * x - tm * u
        j[1] = u * y / root - sp * y - tn * u
        j[2] = u / root - sp
        j[3] = v * x / root - sq * x - tm * v
        j[4] = v * y / root - sq * y - tn * v
        j[5] = v / root - sq
        j[6] = x / root - tm
        j[7] = y / root - tn
        j[8] = 1.0 / root
        for a in range(9):
            g = w * j[a]
            slope[a] += g * off
            for b in range(a + 1):
                normal[a, b] += g * j[b]
    for a in range(9):
        for b in range(a):
            normal[b, a] = normal[a, b]


@njit(types.void(MODEL, DATA, MODEL, DATA), cache=True, nogil=True)
def _parts(model, u, s, vt):
    a, b, c = np.linalg.svd(model.copy().reshape(3, 3))
    u[:], s[:], vt[:] = a, b, c


@njit(TANGENT, cache=True, nogil=True, error_model="numpy")
def epipolar_tangent(model, moves):
    """F = U diag(cos a, sin a, 0) V^T: turns of U, turns of V, and a (after Bartoli and Sturm 2004). Of an essential
    matrix a is 45 degrees, and a turn of V about its third axis undoes that of U."""
    u, s, vt = np.empty((3, 3)), np.empty(3), np.empty((3, 3))
    _parts(model, u, s, vt)
    free = moves.shape[1]
    angle = np.arctan2(s[1], s[0]) if free == 7 else np.pi / 4
    diagonal = np.array([np.cos(angle), np.sin(angle), 0.0])
    change = np.array([-np.sin(angle), np.cos(angle), 0.0])
    for r in range(3):
        for c in range(3):
            at = 3 * r + c
            for k in range(3):
                p, q = (k + 1) % 3, (k + 2) % 3
                moves[at, k] = u[r, q] * diagonal[p] * vt[p, c] - u[r, p] * diagonal[q] * vt[q, c]
                if k < 2 or free == 7:
                    moves[at, 3 + k] = u[r, p] * diagonal[p] * vt[q, c] - u[r, q] * diagonal[q] * vt[p, c]
            if free == 7:
                moves[at, 6] = u[r, 0] * change[0] * vt[0, c] + u[r, 1] * change[1] * vt[1, c]


@njit(RETRACT, cache=True, nogil=True, error_model="numpy")
def epipolar_retract(model, step, out):
    u, s, vt = np.empty((3, 3)), np.empty(3), np.empty((3, 3))
    _parts(model, u, s, vt)
    free = step.shape[0]
    angle = np.arctan2(s[1], s[0]) + step[6] if free == 7 else np.pi / 4
    left, right, vector = np.empty((3, 3)), np.empty((3, 3)), np.zeros(3)
    turned(step[:3].copy(), left)
    vector[0], vector[1] = step[3], step[4]
    if free == 7:
        vector[2] = step[5]
    turned(vector, right)
    u = u @ left
    vt = right.T.copy() @ vt
    for r in range(3):
        for c in range(3):
            out[3 * r + c] = u[r, 0] * np.cos(angle) * vt[0, c] + u[r, 1] * np.sin(angle) * vt[1, c]


@njit(types.boolean(MODEL, DATA, int64, int64, int64, DATA), cache=True, nogil=True, error_model="numpy")
def _plane_through(f, data, i, j, k, h):
    """The homography, moving -> reference, of the plane through three points (Hartley and Zisserman, result 13.6)."""
    u, s, vt = np.empty((3, 3)), np.empty(3), np.empty((3, 3))
    _parts(f, u, s, vt)
    e = u[:, 2]
    a, m, b, x = np.empty((3, 3)), np.empty((3, 3)), np.empty(3), np.empty(3)
    for c in range(3):
        a[0, c] = e[1] * f[6 + c] - e[2] * f[3 + c]
        a[1, c] = e[2] * f[c] - e[0] * f[6 + c]
        a[2, c] = e[0] * f[3 + c] - e[1] * f[c]
    for row in range(3):
        at = i if row == 0 else j if row == 1 else k
        p, q, y, z = data[0, at], data[1, at], data[2, at], data[3, at]
        g0 = a[0, 0] * y + a[0, 1] * z + a[0, 2]
        g1 = a[1, 0] * y + a[1, 1] * z + a[1, 2]
        g2 = a[2, 0] * y + a[2, 1] * z + a[2, 2]
        c0, c1, c2 = q * e[2] - e[1], e[0] - p * e[2], p * e[1] - q * e[0]
        size = c0 * c0 + c1 * c1 + c2 * c2
        if not size > 1e-24:
            return False
        b[row] = ((q * g2 - g1) * c0 + (g0 - p * g2) * c1 + (p * g1 - q * g0) * c2) / size
        m[row, 0], m[row, 1], m[row, 2] = y, z, 1.0
    if not solved(m, b, x):
        return False
    for r in range(3):
        for c in range(3):
            h[r, c] = a[r, c] - e[r] * x[c]
    return True


@njit(float64(DATA, DATA, int64), cache=True, nogil=True, error_model="numpy")
def _off_plane(h, data, i):
    """Squared distance in the reference, in pixels."""
    x, y = data[2, i], data[3, i]
    w = h[2, 0] * x + h[2, 1] * y + h[2, 2]
    p = (h[0, 0] * x + h[0, 1] * y + h[0, 2]) / w - data[0, i]
    q = (h[1, 0] * x + h[1, 1] * y + h[1, 2]) / w - data[1, i]
    return (p * p + q * q) / data[4, i]


@njit(types.boolean(DATA, int64[::1], int64, DATA), cache=True, nogil=True, error_model="numpy")
def _plane_of(data, chosen, count, h):
    """Least squares of a homography, linear, over columns in `chosen`."""
    m, b, x, row = np.zeros((8, 8)), np.zeros(8), np.empty(8), np.empty(8)
    for k in range(count):
        i = chosen[k]
        y, z = data[2, i], data[3, i]
        for r in range(2):
            to = data[r, i]
            row[:] = 0.0
            row[3 * r], row[3 * r + 1], row[3 * r + 2], row[6], row[7] = y, z, 1.0, -to * y, -to * z
            for p in range(8):
                for q in range(8):
                    m[p, q] += row[p] * row[q]
                b[p] += row[p] * to
    if not solved(m, b, x):
        return False
    for k in range(8):
        h[k // 3, k % 3] = x[k]
    h[2, 2] = 1.0
    return True


@njit(UPGRADE, cache=True, nogil=True, error_model="numpy")
def fundamental_upgrade(data, sample, model, threshold2, state, out):
    """Where five or more of a sample lie on a plane, that plane and two points off it (Chum, Werner, Matas 2005)."""
    n = data.shape[1]
    h = np.empty((3, 3))
    found = False
    for triple in range(5):
        i = sample[0] if triple in (0, 2) else sample[3] if triple in (1, 3) else sample[2]
        j = sample[1] if triple in (0, 2) else sample[4] if triple in (1, 3) else sample[5]
        k = sample[2] if triple == 0 else sample[5] if triple == 1 else sample[6]
        if not _plane_through(model, data, i, j, k, h):
            continue
        on = 0
        for s in range(7):
            on += _off_plane(h, data, sample[s]) < _AGREE2 * threshold2
        if on >= 5:
            found = True
            break
    if not found:
        return 0
    chosen, off = np.empty(n, np.int64), np.empty(n, np.int64)
    trial = h.copy()
    on = 0
    for _ in range(3):
        now = 0
        for i in range(n):
            if _off_plane(trial, data, i) < _AGREE2 * threshold2:
                chosen[now] = i
                now += 1
        if now <= on:
            break
        on = now
        h[:] = trial
        if on < 4 or not _plane_of(data, chosen, on, trial):
            break
    away = 0
    for i in range(n):
        if not _off_plane(h, data, i) < _AGREE2 * threshold2:
            off[away] = i
            away += 1
    if away < 2:
        return 0
    pair, lines, squared = np.empty(2, np.int64), np.empty((2, 3)), np.empty(n)
    best = np.inf
    f = np.empty(9)
    for _ in range(min(_PARALLAX, away * (away - 1) // 2)):
        draw(state, 2, away, pair)
        for k in range(2):
            i = off[pair[k]]
            p, q, y, z = data[0, i], data[1, i], data[2, i], data[3, i]
            a = h[0, 0] * y + h[0, 1] * z + h[0, 2]
            b = h[1, 0] * y + h[1, 1] * z + h[1, 2]
            c = h[2, 0] * y + h[2, 1] * z + h[2, 2]
            lines[k, 0], lines[k, 1], lines[k, 2] = q * c - b, a - p * c, p * b - q * a
        e0 = lines[0, 1] * lines[1, 2] - lines[0, 2] * lines[1, 1]
        e1 = lines[0, 2] * lines[1, 0] - lines[0, 0] * lines[1, 2]
        e2 = lines[0, 0] * lines[1, 1] - lines[0, 1] * lines[1, 0]
        size = 0.0
        for c in range(3):
            f[c] = e1 * h[2, c] - e2 * h[1, c]
            f[3 + c] = e2 * h[0, c] - e0 * h[2, c]
            f[6 + c] = e0 * h[1, c] - e1 * h[0, c]
            size += f[c] ** 2 + f[3 + c] ** 2 + f[6 + c] ** 2
        if not size > 1e-300:
            continue
        for c in range(9):
            f[c] /= np.sqrt(size)
        epipolar_residuals(f, data, 0, n, squared)
        cost = 0.0
        for i in range(n):
            cost += min(squared[i] / threshold2, 1.0)
        if cost < best:
            best = cost
            out[:] = f
    return 1 if best < np.inf else 0
