"""The estimator, for the loop of `robust`, of the pose of a camera.

data: `(9, n)`, rows x and y of rays (x, y, 1), points x, y, z, and how pixels move with x and y: du/dx, du/dy, dv/dx,
dv/dy. model: `(12,)`, the rows [R | t]. Distances are in pixels.
"""

from __future__ import annotations

import numpy as np
from numba import float64, int64, njit, types

from avfuse._kernels.polynomial import real_roots
from avfuse._kernels.robust import DATA, MODEL, NORMAL, RESIDUALS, SOLVE, solved
from avfuse._kernels.similar import rigid_from_triangles

_SUMS = {"reassoc", "contract"}


@njit(float64(DATA), cache=True, nogil=True)
def _determinant(m):
    return (
        m[0, 0] * (m[1, 1] * m[2, 2] - m[1, 2] * m[2, 1])
        - m[0, 1] * (m[1, 0] * m[2, 2] - m[1, 2] * m[2, 0])
        + m[0, 2] * (m[1, 0] * m[2, 1] - m[1, 1] * m[2, 0])
    )


@njit(float64(DATA, MODEL, MODEL), cache=True, nogil=True)
def _form(m, a, b):
    total = 0.0
    for r in range(3):
        for c in range(3):
            total += a[r] * m[r, c] * b[c]
    return total


@njit(types.boolean(MODEL, MODEL, MODEL), cache=True, nogil=True, error_model="numpy")
def _polished(cosines, distances2, x):
    """Newton on the law of cosines of three triangles; whether it holds then."""
    m, b, step = np.empty((3, 3)), np.empty(3), np.empty(3)
    size = distances2[0] + distances2[1] + distances2[2]
    for _ in range(4):
        m[:] = 0.0
        off = 0.0
        for k in range(3):
            p, q = k, (k + 1) % 3
            b[k] = distances2[k] - (x[p] * x[p] + x[q] * x[q] - 2.0 * cosines[k] * x[p] * x[q])
            m[k, p], m[k, q] = 2.0 * (x[p] - cosines[k] * x[q]), 2.0 * (x[q] - cosines[k] * x[p])
            off += abs(b[k])
        if off < 1e-13 * size:
            return True
        if not solved(m, b, step):
            return False
        for r in range(3):
            x[r] += step[r]
    return off < 1e-6 * size and min(x[0], x[1], x[2]) > 0.0


@njit(int64(MODEL, MODEL, DATA), cache=True, nogil=True, error_model="numpy")
def depths(cosines, distances2, found):
    """Distances of three points from the camera, up to four triples of them into the rows of `found`.

    cosines: between rays 0 and 1, 1 and 2, 2 and 0; distances2: squared, between the points. Two of the three quadratic
    forms make a pair of planes (a cubic tells which), and each plane cuts another form in up to two lines, as Persson
    and Nordberg (2018) do; then Newton on all three.
    """
    forms, one, two, mixed = np.zeros((3, 3, 3)), np.empty((3, 3)), np.empty((3, 3)), np.empty((3, 3))
    largest = 0
    for k in range(3):
        p, q = k, (k + 1) % 3
        forms[k, p, p], forms[k, q, q] = 1.0, 1.0
        forms[k, p, q] = forms[k, q, p] = -cosines[k]
        if distances2[k] > distances2[largest]:
            largest = k
    if not min(distances2[0], distances2[1], distances2[2]) > 1e-12 * distances2[largest]:
        return 0
    for r in range(3):
        for c in range(3):
            one[r, c] = (distances2[1] * forms[0, r, c] - distances2[0] * forms[1, r, c]) / distances2[largest]
            two[r, c] = (distances2[1] * forms[2, r, c] - distances2[2] * forms[1, r, c]) / distances2[largest]
    cubic, gammas = np.empty(4), np.empty(4)
    at_plus, at_minus = _determinant(one + two), _determinant(one - two)
    cubic[0], cubic[3] = _determinant(one), _determinant(two)
    cubic[2] = 0.5 * (at_plus + at_minus) - cubic[0]
    cubic[1] = 0.5 * (at_plus - at_minus) - cubic[3]
    count = 0
    normal, u, v, x = np.empty(3), np.empty(3), np.empty(3), np.empty(3)
    for root in range(real_roots(cubic, gammas)):
        gamma = gammas[root]
        for r in range(3):
            for c in range(3):
                mixed[r, c] = one[r, c] + gamma * two[r, c]
        values, vectors = np.linalg.eigh(mixed)
        if not (values[0] < 0.0 and values[2] > 0.0):
            continue
        ratio = np.sqrt(-values[0] / values[2])
        other = one if abs(gamma) > 1.0 else two
        for side in range(2):
            for r in range(3):
                normal[r] = vectors[r, 2] + (ratio if side == 0 else -ratio) * vectors[r, 0]
            m = 0
            for r in range(1, 3):
                if abs(normal[r]) > abs(normal[m]):
                    m = r
            p, q = (m + 1) % 3, (m + 2) % 3
            u[p], u[q], u[m] = 1.0, 0.0, -normal[p] / normal[m]
            v[p], v[q], v[m] = 0.0, 1.0, -normal[q] / normal[m]
            a, b, c = _form(other, u, u), _form(other, u, v), _form(other, v, v)
            inside = b * b - a * c
            if inside < 0.0:
                # A double root that rounding has split into two complex ones.
                if inside < -1e-10 * (b * b + abs(a * c)):
                    continue
                inside = 0.0
            for sign in range(2):
                # t u + s v; the form that does not cancel.
                half = -b - np.sqrt(inside) if b > 0.0 else -b + np.sqrt(inside)
                t, s = (half, a) if sign == 0 else (c, half)
                for r in range(3):
                    x[r] = t * u[r] + s * v[r]
                if x[0] + x[1] + x[2] < 0.0:
                    for r in range(3):
                        x[r] = -x[r]
                size = _form(forms[largest], x, x)
                if not (min(x[0], x[1], x[2]) > 0.0 and size > 0.0):
                    continue
                for r in range(3):
                    x[r] *= np.sqrt(distances2[largest] / size)
                if not _polished(cosines, distances2, x):
                    continue
                fresh = count < 4
                for k in range(count):
                    away = abs(found[k, 0] - x[0]) + abs(found[k, 1] - x[1]) + abs(found[k, 2] - x[2])
                    if away < 1e-9 * (x[0] + x[1] + x[2]):
                        fresh = False
                if fresh:
                    for r in range(3):
                        found[count, r] = x[r]
                    count += 1
        if count > 0:
            break
    return count


@njit(SOLVE, cache=True, nogil=True, error_model="numpy")
def pose_solve(data, sample, models):
    """Poses that see three points where they are seen."""
    rays, cosines, distances2 = np.empty((3, 3)), np.empty(3), np.empty(3)
    for k in range(3):
        x, y = data[0, sample[k]], data[1, sample[k]]
        size = np.sqrt(x * x + y * y + 1.0)
        rays[k, 0], rays[k, 1], rays[k, 2] = x / size, y / size, 1.0 / size
    for k in range(3):
        p, q = k, (k + 1) % 3
        cosines[k] = rays[p, 0] * rays[q, 0] + rays[p, 1] * rays[q, 1] + rays[p, 2] * rays[q, 2]
        total = 0.0
        for r in range(3):
            total += (data[2 + r, sample[p]] - data[2 + r, sample[q]]) ** 2
        distances2[k] = total
    found = np.empty((4, 3))
    pair = np.empty((6, 3))
    own = np.arange(3)
    count = 0
    for k in range(depths(cosines, distances2, found)):
        for r in range(3):
            for c in range(3):
                pair[r, c] = found[k, c] * rays[c, r]
                pair[3 + r, c] = data[2 + r, sample[c]]
        count += rigid_from_triangles(pair, own, models[count : count + 1])
    return count


@njit(RESIDUALS, cache=True, nogil=True, fastmath=_SUMS, error_model="numpy")
def pose_residuals(model, data, start, stop, squared):
    """Squared distances in pixels; infinite for points that are not in front."""
    m = model
    a, b, c, d, e, f = m[0], m[1], m[2], m[3], m[4], m[5]
    g, h, i, j, k, l = m[6], m[7], m[8], m[9], m[10], m[11]
    u, v, x, y, z = data[0], data[1], data[2], data[3], data[4]
    ux, uy, vx, vy = data[5], data[6], data[7], data[8]
    for n in range(start, stop):
        depth = i * x[n] + j * y[n] + k * z[n] + l
        inverse = 1.0 / depth
        p = (a * x[n] + b * y[n] + c * z[n] + d) * inverse - u[n]
        q = (e * x[n] + f * y[n] + g * z[n] + h) * inverse - v[n]
        s, t = ux[n] * p + uy[n] * q, vx[n] * p + vy[n] * q
        squared[n] = s * s + t * t if depth > 1e-12 else 1e30


@njit(NORMAL, cache=True, nogil=True, fastmath=_SUMS, error_model="numpy")
def pose_normal(model, data, weights, normal, slope):
    """Sums of J^T J and J^T r over the distances' two coordinates."""
    normal[:] = 0.0
    slope[:] = 0.0
    j, x = np.empty((2, 12)), np.ones(4)
    for i in range(data.shape[1]):
        w = weights[i]
        if w == 0.0:
            continue
        for r in range(3):
            x[r] = data[2 + r, i]
        seen = np.zeros(3)
        for r in range(3):
            for c in range(4):
                seen[r] += model[4 * r + c] * x[c]
        u, v = seen[0] / seen[2], seen[1] / seen[2]
        p, q = u - data[0, i], v - data[1, i]
        for r in range(2):
            a, b = data[5 + 2 * r, i] / seen[2], data[6 + 2 * r, i] / seen[2]
            left = data[5 + 2 * r, i] * p + data[6 + 2 * r, i] * q
            for c in range(4):
                j[r, c], j[r, 4 + c], j[r, 8 + c] = a * x[c], b * x[c], -(a * u + b * v) * x[c]
            for k in range(12):
                slope[k] += w * left * j[r, k]
                for l in range(k + 1):
                    normal[k, l] += w * j[r, k] * j[r, l]
    for k in range(12):
        for l in range(k):
            normal[l, k] = normal[k, l]
