"""Essential matrices through five points, by Nister's polynomial of the tenth degree."""

from __future__ import annotations

import numpy as np
from numba import float64, int64, njit, types

from avfuse._kernels.epipolar import constraints, oriented
from avfuse._kernels.polynomial import null_space, real_roots, value
from avfuse._kernels.robust import DATA, MODEL, SOLVE

# Monomials of x, y, z up to the third degree, in the order of Nister (2004): the first ten are eliminated.
_CUBIC = [
    (3, 0, 0), (0, 3, 0), (2, 1, 0), (1, 2, 0), (2, 0, 1), (2, 0, 0), (0, 2, 1), (0, 2, 0), (1, 1, 1), (1, 1, 0),
    (1, 0, 2), (1, 0, 1), (1, 0, 0), (0, 1, 2), (0, 1, 1), (0, 1, 0), (0, 0, 3), (0, 0, 2), (0, 0, 1), (0, 0, 0),
]  # fmt: skip
_LINEAR = [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 0)]
_QUADRATIC = [m for m in _CUBIC if sum(m) <= 2]
_TO_QUADRATIC = np.array([[_QUADRATIC.index(tuple(np.add(a, b).tolist())) for b in _LINEAR] for a in _LINEAR])
_TO_CUBIC = np.array([[_CUBIC.index(tuple(np.add(a, b).tolist())) for b in _LINEAR] for a in _QUADRATIC])


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
    """Through five points (Nister 2004)."""
    rows, basis = np.empty((5, 9)), np.empty((4, 9))
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
        if size > 0.0 and oriented(models[count], data, sample):
            count += 1
    return count
