"""Essential matrices for the loop of `robust`: through five points, by Nister's polynomial of the tenth degree.

data: as of `epipolar`, rays on the plane one unit in front. model: `(12,)`, a matrix E row by row, of norm 1, and t, of
length 1: the one pose of its four, E ~ [t] R, that has the points before both cameras, z_ref x_ref = z_mov R x_mov + t.
"""

from __future__ import annotations

import numpy as np
from numba import float64, int64, njit, types

from avfuse._kernels.epipolar import constraints, epipolar_normal, epipolar_retract, epipolar_tangent, oriented
from avfuse._kernels.polynomial import null_space, real_roots, value
from avfuse._kernels.robust import DATA, MODEL, NORMAL, RESIDUALS, RETRACT, SOLVE, TANGENT

# Monomials of x, y, z up to the third degree, in the order of Nister (2004): the first ten are eliminated.
_CUBIC = [
    (3, 0, 0), (0, 3, 0), (2, 1, 0), (1, 2, 0), (2, 0, 1), (2, 0, 0), (0, 2, 1), (0, 2, 0), (1, 1, 1), (1, 1, 0),
    (1, 0, 2), (1, 0, 1), (1, 0, 0), (0, 1, 2), (0, 1, 1), (0, 1, 0), (0, 0, 3), (0, 0, 2), (0, 0, 1), (0, 0, 0),
]  # fmt: skip
_LINEAR = [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 0)]
_QUADRATIC = [m for m in _CUBIC if sum(m) <= 2]
_TO_QUADRATIC = np.array([[_QUADRATIC.index(tuple(np.add(a, b).tolist())) for b in _LINEAR] for a in _LINEAR])
_TO_CUBIC = np.array([[_CUBIC.index(tuple(np.add(a, b).tolist())) for b in _LINEAR] for a in _QUADRATIC])


_BEYOND2 = 100.0  # squared pixels that a sampled point may lie beyond where it can be: more than noise explains


@njit(types.void(MODEL, DATA), cache=True, nogil=True)
def _rotation(model, r):
    """R of E = [t] R / sqrt(2): [t] [t] R = t t^T R - R, and t t^T R are the cofactors of [t] R."""
    e, t = model, model[9:]
    for i in range(3):
        p, q = (i + 1) % 3, (i + 2) % 3
        for c in range(3):
            a, b = (c + 1) % 3, (c + 2) % 3
            cofactor = e[3 * p + a] * e[3 * q + b] - e[3 * p + b] * e[3 * q + a]
            crossed = t[p] * e[3 * q + c] - t[q] * e[3 * p + c]
            r[i, c] = 2.0 * cofactor - np.sqrt(2.0) * crossed


@njit(RESIDUALS, cache=True, nogil=True, fastmath={"reassoc", "contract"}, error_model="numpy")
def essential_residuals(model, data, start, stop, squared):
    """Squared Sampson distances from the part of the line on which a point can lie that is before both cameras.

    That part ends where a point infinitely far is seen, and at the epipoles. What lies beyond is as far away as its
    end, so that far points do not jump with the noise.
    """
    r = np.empty((3, 3))
    _rotation(model, r)
    r0, r1, r2, r3, r4, r5, r6, r7, r8 = r[0, 0], r[0, 1], r[0, 2], r[1, 0], r[1, 1], r[1, 2], r[2, 0], r[2, 1], r[2, 2]
    a, b, c, d, e, f = model[0], model[1], model[2], model[3], model[4], model[5]
    g, h, k = model[6], model[7], model[8]
    t0, t1, t2 = model[9], model[10], model[11]
    # Epipoles: the moving camera in the reference, and the reverse.
    eu, ev = t0 / t2, t1 / t2
    depth = r2 * t0 + r5 * t1 + r8 * t2
    ex, ey = (r0 * t0 + r3 * t1 + r6 * t2) / depth, (r1 * t0 + r4 * t1 + r7 * t2) / depth
    u, v, x, y, s, t = data[0], data[1], data[2], data[3], data[4], data[5]
    for i in range(start, stop):
        p, q, w = a * x[i] + b * y[i] + c, d * x[i] + e * y[i] + f, g * x[i] + h * y[i] + k
        m, n = a * u[i] + d * v[i] + g, b * u[i] + e * v[i] + h
        off = u[i] * p + v[i] * q + w
        line = off * off / (s[i] * (p * p + q * q) + t[i] * (m * m + n * n) + 1e-300)
        # The moving ray as the reference sees it, and the normal of both rays.
        j0, j1, j2 = r0 * x[i] + r1 * y[i] + r2, r3 * x[i] + r4 * y[i] + r5, r6 * x[i] + r7 * y[i] + r8
        n0, n1, n2 = v[i] * j2 - j1, j0 - u[i] * j2, u[i] * j1 - v[i] * j0
        # As z_ref x - z_mov R y = t: z_mov of the sign of n . (t x x), z_ref of that of n . E y.
        there = n0 * (t1 - t2 * v[i]) + n1 * (t2 * u[i] - t0) + n2 * (t0 * v[i] - t1 * u[i])
        here = n0 * p + n1 * q + n2 * w
        # What the end of the part is away, as a quotient: one division for all.
        over, under = (u[i] * j2 - j0) ** 2 + (v[i] * j2 - j1) ** 2, j2 * j2 * (s[i] + t[i])
        if here >= 0.0:
            over, under = (u[i] - eu) ** 2 + (v[i] - ev) ** 2, s[i]
        if there >= 0.0:
            over, under = (x[i] - ex) ** 2 + (y[i] - ey) ** 2, t[i]
        beyond = 0.0 if min(here, there) >= 0.0 else over / under
        squared[i] = line + beyond


@njit(NORMAL, cache=True, nogil=True, error_model="numpy")
def essential_normal(model, data, weights, normal, slope):
    """Of the distance from the whole line: t follows from E."""
    inner = np.empty((9, 9))
    epipolar_normal(model[:9], data, weights, inner, slope[:9])
    normal[:] = 0.0
    normal[:9, :9] = inner
    slope[9:] = 0.0


@njit(TANGENT, cache=True, nogil=True, error_model="numpy")
def essential_tangent(model, moves):
    epipolar_tangent(model[:9], moves[:9])
    moves[9:] = 0.0


@njit(types.void(MODEL), cache=True, nogil=True, error_model="numpy")
def _with_translation(model):
    """Sets t, up to its sign: the longest cross product of two columns of E."""
    longest = -1.0
    for c in range(3):
        p, q = c, (c + 1) % 3
        x = model[3 + p] * model[6 + q] - model[6 + p] * model[3 + q]
        y = model[6 + p] * model[q] - model[p] * model[6 + q]
        z = model[p] * model[3 + q] - model[3 + p] * model[q]
        size = np.sqrt(x * x + y * y + z * z)
        if size > longest:
            longest = size
            model[9], model[10], model[11] = x / size, y / size, z / size


@njit(RETRACT, cache=True, nogil=True, error_model="numpy")
def essential_retract(model, step, out):
    epipolar_retract(model[:9], step, out[:9])
    _with_translation(out)
    if out[9] * model[9] + out[10] * model[10] + out[11] * model[11] < 0.0:
        for k in range(9, 12):
            out[k] = -out[k]


@njit(types.boolean(MODEL, DATA), cache=True, nogil=True, error_model="numpy")
def _in_front(model, points):
    """Turns a model to that one of its four poses that has the points before both cameras; False where none has."""
    squared = np.empty(points.shape[1])
    least, turned = np.inf, 0
    for pose in range(4):
        # A pose has -E where another has E, and -t where it has t.
        for k in range(12):
            model[k] = -model[k] if k < 9 or pose % 2 == 0 else model[k]
        essential_residuals(model, points, 0, points.shape[1], squared)
        worst = squared.max()
        if worst < least:
            least, turned = worst, pose
    if not least < _BEYOND2:
        return False
    for pose in range(turned + 1):
        for k in range(12):
            model[k] = -model[k] if k < 9 or pose % 2 == 0 else model[k]
    return True


@njit(int64(DATA, DATA), cache=True, nogil=True, error_model="numpy")
def _eliminated(m, reduced):
    """Gauss and Jordan on the first ten of twenty columns; the others into `reduced`. 0 where that is singular."""
    for k in range(10):
        best = k
        for i in range(k + 1, 10):
            if abs(m[i, k]) > abs(m[best, k]):
                best = i
        if not abs(m[best, k]) > 1e-14:
            return 0
        for j in range(20):
            held = m[k, j]
            m[k, j] = m[best, j]
            m[best, j] = held
        for j in range(19, k - 1, -1):
            m[k, j] /= m[k, k]
        for i in range(10):
            if i != k:
                f = m[i, k]
                for j in range(k, 20):
                    m[i, j] -= f * m[k, j]
    for i in range(10):
        for j in range(10):
            reduced[i, j] = m[i, 10 + j]
    return 1


@njit(types.void(MODEL, MODEL, float64, MODEL), cache=True, nogil=True)
def _add_product(a, b, sign, out):
    """Adds sign * a * b, polynomials with the highest coefficient last."""
    for i in range(a.shape[0]):
        for j in range(b.shape[0]):
            out[i + j] += sign * a[i] * b[j]


@njit(SOLVE, cache=True, nogil=True, error_model="numpy")
def essential_solve(data, sample, models):
    """Through five points (Nister 2004), all of them before both cameras."""
    rows, basis, points = np.empty((5, 9)), np.empty((4, 9)), np.empty((6, 5))
    for k in range(5):
        for row in range(6):
            points[row, k] = data[row, sample[k]]
    constraints(data, sample, rows)
    if null_space(rows, basis) != 4:
        return 0
    # E = x E1 + y E2 + z E3 + E4: its entries are linear, E E^T - trace / 2 quadratic, all constraints cubic.
    square = np.zeros((3, 3, 10))
    for i in range(3):
        for j in range(i, 3):
            for k in range(3):
                for p in range(4):
                    for q in range(4):
                        square[i, j, _TO_QUADRATIC[p, q]] += basis[p, 3 * i + k] * basis[q, 3 * j + k]
            square[j, i] = square[i, j]
    half = 0.5 * (square[0, 0] + square[1, 1] + square[2, 2])
    for i in range(3):
        square[i, i] -= half
    m, reduced = np.zeros((10, 20)), np.empty((10, 10))
    for i in range(3):
        for j in range(3):
            for k in range(3):
                for p in range(10):
                    for q in range(4):
                        m[3 * i + j, _TO_CUBIC[p, q]] += square[i, k, p] * basis[q, 3 * k + j]
    minor = np.empty(10)
    for k in range(3):
        minor[:] = 0.0
        a, b = (k + 1) % 3, (k + 2) % 3
        for p in range(4):
            for q in range(4):
                minor[_TO_QUADRATIC[p, q]] += basis[p, 3 + a] * basis[q, 6 + b] - basis[p, 3 + b] * basis[q, 6 + a]
        for p in range(10):
            for q in range(4):
                m[9, _TO_CUBIC[p, q]] += minor[p] * basis[q, k]
    if _eliminated(m, reduced) == 0:
        return 0
    # Three equations in x, y, 1 whose coefficients are polynomials of z.
    equations = np.zeros((3, 3, 5))
    for r in range(3):
        upper, lower = reduced[4 + 2 * r], reduced[5 + 2 * r]
        for c in range(3):
            degree = 2 if c < 2 else 3
            for k in range(degree + 1):
                equations[r, c, degree - k] += upper[3 * c + k]
                equations[r, c, degree - k + 1] -= lower[3 * c + k]
    determinant, roots = np.zeros(13), np.empty(14)
    two = np.zeros(9)
    for c in range(3):
        p, q = (c + 1) % 3, (c + 2) % 3
        two[:] = 0.0
        _add_product(equations[1, p], equations[2, q], 1.0, two)
        _add_product(equations[1, q], equations[2, p], -1.0, two)
        _add_product(equations[0, c], two, 1.0, determinant)
    count = 0
    at = np.empty((3, 3))
    for k in range(real_roots(determinant[:11].copy(), roots)):
        z = roots[k]
        for r in range(3):
            for c in range(3):
                at[r, c] = value(equations[r, c], 4, z)
        x, y, weight = 0.0, 0.0, 0.0
        for r in range(3):
            p, q = r, (r + 1) % 3
            w = at[p, 0] * at[q, 1] - at[p, 1] * at[q, 0]
            if abs(w) > abs(weight):
                weight = w
                x = at[p, 1] * at[q, 2] - at[p, 2] * at[q, 1]
                y = at[p, 2] * at[q, 0] - at[p, 0] * at[q, 2]
        if weight == 0.0:
            continue
        x, y = x / weight, y / weight
        size = 0.0
        for j in range(9):
            e = x * basis[0, j] + y * basis[1, j] + z * basis[2, j] + basis[3, j]
            models[count, j] = e
            size += e * e
        for j in range(9):
            models[count, j] /= np.sqrt(size)
        if not size > 0.0:
            continue
        if not oriented(models[count], data, sample):
            continue
        _with_translation(models[count])
        if _in_front(models[count], points):
            count += 1
    return count
