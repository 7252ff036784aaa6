"""Estimators, for the loop of `robust`, of affine maps, similarities and rigid maps of the plane and of space.

data: `(2 d, n)`, rows of the reference, then of the moving; rigid maps in units of the threshold.
model: `(d (d + 1),)`, the rows [A | t] of a matrix. Which of them is meant is told by how many parameters are free.
"""

from __future__ import annotations

import numpy as np
from numba import float64, int64, njit, types

from avfuse._kernels.robust import DATA, MODEL, NORMAL, RESIDUALS, RETRACT, SOLVE, TANGENT

_SUMS = {"reassoc", "contract"}
_FLAT = 1e-3  # of a sample's size: triangles flatter than this tell nothing


@njit(SOLVE, cache=True, nogil=True, error_model="numpy")
def affine_solve(data, sample, models):
    """Through three points of the plane."""
    i, j, k = sample[0], sample[1], sample[2]
    u, v, x, y = data[0], data[1], data[2], data[3]
    x1, y1, x2, y2 = x[j] - x[i], y[j] - y[i], x[k] - x[i], y[k] - y[i]
    area = x1 * y2 - x2 * y1
    if not abs(area) > _FLAT * max(x1 * x1 + y1 * y1, x2 * x2 + y2 * y2):
        return 0
    for r in range(2):
        w = u if r == 0 else v
        p, q = w[j] - w[i], w[k] - w[i]
        a, b = (p * y2 - q * y1) / area, (q * x1 - p * x2) / area
        models[0, 3 * r], models[0, 3 * r + 1] = a, b
        models[0, 3 * r + 2] = w[i] - a * x[i] - b * y[i]
    return 1


@njit(int64(DATA, int64[::1], DATA, types.boolean), cache=True, nogil=True, error_model="numpy")
def _plane(data, sample, models, rigid):
    i, j = sample[0], sample[1]
    p, q = data[0, j] - data[0, i], data[1, j] - data[1, i]
    x, y = data[2, j] - data[2, i], data[3, j] - data[3, i]
    before, after = x * x + y * y, p * p + q * q
    if not min(before, after) > 1e-24:
        return 0
    size = before
    if rigid:
        # Two points, each off by the threshold at most: 1.
        if abs(np.sqrt(before) - np.sqrt(after)) > 2.0:
            return 0
        size = np.sqrt(before * after)
    c, s = (p * x + q * y) / size, (q * x - p * y) / size
    models[0, 0], models[0, 1], models[0, 3], models[0, 4] = c, -s, s, c
    x, y = 0.5 * (data[2, i] + data[2, j]), 0.5 * (data[3, i] + data[3, j])
    models[0, 2] = 0.5 * (data[0, i] + data[0, j]) - c * x + s * y
    models[0, 5] = 0.5 * (data[1, i] + data[1, j]) - s * x - c * y
    return 1


@njit(SOLVE, cache=True, nogil=True)
def similarity2_solve(data, sample, models):
    """Through two points."""
    return _plane(data, sample, models, False)


@njit(SOLVE, cache=True, nogil=True)
def rigid2_solve(data, sample, models):
    """Near two points whose distances agree."""
    return _plane(data, sample, models, True)


@njit(float64(DATA, int64, int64[::1], MODEL, DATA), cache=True, nogil=True, error_model="numpy")
def _frame(data, row, sample, centre, axes):
    """Middle and orthonormal axes (columns) of a triangle; returns its size, 0 for one that is flat."""
    for r in range(3):
        centre[r] = (data[row + r, sample[0]] + data[row + r, sample[1]] + data[row + r, sample[2]]) / 3.0
    size, along, across = 0.0, 0.0, 0.0
    for r in range(3):
        a = data[row + r, sample[1]] - data[row + r, sample[0]]
        b = data[row + r, sample[2]] - data[row + r, sample[0]]
        axes[r, 0], axes[r, 1] = a, b
        along += a * a
        across += a * b
    if not along > 1e-24:
        return 0.0
    rest = 0.0
    for r in range(3):
        axes[r, 1] -= across / along * axes[r, 0]
        rest += axes[r, 1] ** 2
    if not rest > _FLAT * _FLAT * max(along, across * across / along):
        return 0.0
    for r in range(3):
        axes[r, 0] /= np.sqrt(along)
        axes[r, 1] /= np.sqrt(rest)
    for r in range(3):
        p, q = (r + 1) % 3, (r + 2) % 3
        axes[r, 2] = axes[p, 0] * axes[q, 1] - axes[q, 0] * axes[p, 1]
    for r in range(3):
        for k in range(3):
            size += (data[row + r, sample[k]] - centre[r]) ** 2
    return np.sqrt(size)


@njit(int64(DATA, int64[::1], DATA, types.boolean), cache=True, nogil=True, error_model="numpy")
def _space(data, sample, models, scaled):
    """Triangle onto triangle."""
    to, of = np.empty((3, 3)), np.empty((3, 3))
    there, here = np.empty(3), np.empty(3)
    after, before = _frame(data, 0, sample, there, to), _frame(data, 3, sample, here, of)
    if after == 0.0 or before == 0.0:
        return 0
    scale = after / before if scaled else 1.0
    for r in range(3):
        shift = there[r]
        for c in range(3):
            total = 0.0
            for k in range(3):
                total += to[r, k] * of[c, k]
            models[0, 4 * r + c] = scale * total
            shift -= scale * total * here[c]
        models[0, 4 * r + 3] = shift
    return 1


@njit(SOLVE, cache=True, nogil=True)
def similarity3_solve(data, sample, models):
    """Near three points."""
    return _space(data, sample, models, True)


@njit(SOLVE, cache=True, nogil=True)
def rigid3_solve(data, sample, models):
    """Near three points whose distances agree: each off by the threshold, 1, at most."""
    for k in range(3):
        a, b = sample[k], sample[(k + 1) % 3]
        p, q = 0.0, 0.0
        for r in range(3):
            p += (data[r, a] - data[r, b]) ** 2
            q += (data[3 + r, a] - data[3 + r, b]) ** 2
        if abs(np.sqrt(p) - np.sqrt(q)) > 2.0:
            return 0
    return _space(data, sample, models, False)


@njit(SOLVE, cache=True, nogil=True)
def rigid_from_triangles(data, sample, models):
    """Near three points, whatever their distances."""
    return _space(data, sample, models, False)


@njit(RESIDUALS, cache=True, nogil=True, fastmath=_SUMS, error_model="numpy")
def residuals2(model, data, start, stop, squared):
    """Squared distances in the plane of the reference."""
    a, b, c, d, e, f = model[0], model[1], model[2], model[3], model[4], model[5]
    u, v, x, y = data[0], data[1], data[2], data[3]
    for i in range(start, stop):
        p, q = a * x[i] + b * y[i] + c - u[i], d * x[i] + e * y[i] + f - v[i]
        squared[i] = p * p + q * q


@njit(RESIDUALS, cache=True, nogil=True, fastmath=_SUMS, error_model="numpy")
def residuals3(model, data, start, stop, squared):
    """Squared distances in the space of the reference."""
    m = model
    u, v, w, x, y, z = data[0], data[1], data[2], data[3], data[4], data[5]
    a, b, c, d, e, f = m[0], m[1], m[2], m[3], m[4], m[5]
    g, h, i, j, k, l = m[6], m[7], m[8], m[9], m[10], m[11]
    for n in range(start, stop):
        p = a * x[n] + b * y[n] + c * z[n] + d - u[n]
        q = e * x[n] + f * y[n] + g * z[n] + h - v[n]
        r = i * x[n] + j * y[n] + k * z[n] + l - w[n]
        squared[n] = p * p + q * q + r * r


@njit(NORMAL, cache=True, nogil=True, fastmath=_SUMS, error_model="numpy")
def similar_normal(model, data, weights, normal, slope):
    """Sums of J^T J and J^T r: the same moments of the moving points for each row of the matrix."""
    d = data.shape[0] // 2
    moments, x = np.zeros((d + 1, d + 1)), np.ones(d + 1)
    slope[:] = 0.0
    for i in range(data.shape[1]):
        w = weights[i]
        if w == 0.0:
            continue
        for c in range(d):
            x[c] = data[d + c, i]
        for r in range(d):
            left = -data[r, i]
            for c in range(d + 1):
                left += model[(d + 1) * r + c] * x[c]
            for c in range(d + 1):
                slope[(d + 1) * r + c] += w * left * x[c]
        for r in range(d + 1):
            for c in range(r + 1):
                moments[r, c] += w * x[r] * x[c]
    normal[:] = 0.0
    for k in range(d):
        for r in range(d + 1):
            for c in range(d + 1):
                normal[(d + 1) * k + r, (d + 1) * k + c] = moments[max(r, c), min(r, c)]


@njit(TANGENT, cache=True, nogil=True)
def similar_tangent(model, moves):
    """Six in the plane: all entries. Else angles, translation, and the logarithm of the scale where it is free."""
    m, free = moves.shape
    moves[:] = 0.0
    if m == 6 and free == 6:
        for k in range(6):
            moves[k, k] = 1.0
        return
    d = 2 if m == 6 else 3
    turns = 1 if d == 2 else 3
    for k in range(turns):
        p, q = (0, 1) if d == 2 else ((k + 1) % 3, (k + 2) % 3)
        for c in range(d):
            moves[(d + 1) * p + c, k] = -model[(d + 1) * q + c]
            moves[(d + 1) * q + c, k] = model[(d + 1) * p + c]
    for r in range(d):
        moves[(d + 1) * r + d, turns + r] = 1.0
    if free > turns + d:
        for r in range(d):
            for c in range(d):
                moves[(d + 1) * r + c, turns + d] = model[(d + 1) * r + c]


@njit(types.void(MODEL, DATA), cache=True, nogil=True, error_model="numpy")
def turned(vector, out):
    """The rotation matrix of a rotation vector (Rodrigues)."""
    x, y, z = vector[0], vector[1], vector[2]
    angle2 = x * x + y * y + z * z
    angle = np.sqrt(angle2)
    s = np.sin(angle) / angle if angle > 1e-8 else 1.0 - angle2 / 6.0
    c = (1.0 - np.cos(angle)) / angle2 if angle > 1e-4 else 0.5 - angle2 / 24.0
    out[0, 0], out[1, 1], out[2, 2] = 1.0 - c * (y * y + z * z), 1.0 - c * (x * x + z * z), 1.0 - c * (x * x + y * y)
    out[0, 1], out[1, 0] = c * x * y - s * z, c * x * y + s * z
    out[0, 2], out[2, 0] = c * x * z + s * y, c * x * z - s * y
    out[1, 2], out[2, 1] = c * y * z - s * x, c * y * z + s * x


@njit(RETRACT, cache=True, nogil=True, error_model="numpy")
def similar_retract(model, step, out):
    m, free = model.shape[0], step.shape[0]
    if m == 6 and free == 6:
        for k in range(6):
            out[k] = model[k] + step[k]
        return
    d = 2 if m == 6 else 3
    turns = 1 if d == 2 else 3
    vector, turn = np.zeros(3), np.empty((3, 3))
    if d == 2:
        vector[2] = step[0]
    else:
        for k in range(3):
            vector[k] = step[k]
    turned(vector, turn)
    scale = np.exp(step[turns + d]) if free > turns + d else 1.0
    for r in range(d):
        for c in range(d):
            total = 0.0
            for k in range(d):
                total += turn[r, k] * model[(d + 1) * k + c]
            out[(d + 1) * r + c] = scale * total
        out[(d + 1) * r + d] = model[(d + 1) * r + d] + step[turns + r]
