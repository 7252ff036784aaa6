"""Small algebra of minimal solvers: real roots, null spaces, products of polynomials."""

from __future__ import annotations

import numpy as np
from numba import float64, int64, njit

_VECTOR, _MATRIX = float64[::1], float64[:, ::1]


@njit(float64(_VECTOR, int64, float64), cache=True, nogil=True)
def value(coefficients, degree, x):
    """Of a polynomial, its highest coefficient last."""
    total = coefficients[degree]
    for k in range(degree - 1, -1, -1):
        total = total * x + coefficients[k]
    return total


@njit(float64(_VECTOR, _VECTOR, int64, float64, float64), cache=True, nogil=True, error_model="numpy")
def _between(p, slope, degree, low, high):
    """The root between two places of different sign: Newton, bisected where it leaves them."""
    rising = value(p, degree, high) > 0.0
    x = 0.5 * (low + high)
    for _ in range(100):
        f = value(p, degree, x)
        if f == 0.0:
            return x
        if (f > 0.0) == rising:
            high = x
        else:
            low = x
        following = x - f / value(slope, degree - 1, x)
        if not low < following < high:
            following = 0.5 * (low + high)
        if abs(following - x) <= 4e-16 * abs(x):
            return following
        x = following
    return x


@njit(int64(_VECTOR, _VECTOR), cache=True, nogil=True, error_model="numpy")
def real_roots(coefficients, roots):
    """Real roots of a polynomial, its highest coefficient last, rising; between those of its derivatives, which are
    found first. Double roots are found where rounding leaves them. Returns how many."""
    top = 0.0
    for k in range(coefficients.shape[0]):
        top = max(top, abs(coefficients[k]))
    degree = coefficients.shape[0] - 1
    while degree > 0 and not abs(coefficients[degree]) > 1e-14 * top:
        degree -= 1
    if degree == 0:
        return 0
    # All derivatives, row d of degree d.
    p = np.zeros((degree + 1, degree + 1))
    for k in range(degree + 1):
        p[degree, k] = coefficients[k]
    for d in range(degree - 1, -1, -1):
        for k in range(d + 1):
            p[d, k] = (k + 1) * p[d + 1, k + 1] / (d + 1)
    # Fujiwara's bound; by Gauss and Lucas it also holds the roots of derivatives.
    bound = 0.0
    for k in range(degree):
        if coefficients[k] != 0.0:
            bound = max(bound, abs(coefficients[k] / coefficients[degree]) ** (1.0 / (degree - k)))
    bound = 2.0 * bound + 1e-300
    count = 0
    turning = np.empty(degree + 1)
    for d in range(1, degree + 1):
        turning[:count] = roots[:count]
        turns = count
        count = 0
        low = -bound
        below = value(p[d], d, low)
        for k in range(turns + 1):
            high = turning[k] if k < turns else bound
            above = value(p[d], d, high)
            if below == 0.0:
                if count == 0 or roots[count - 1] != low:
                    roots[count] = low
                    count += 1
            elif above != 0.0 and (below > 0.0) != (above > 0.0):
                roots[count] = _between(p[d], p[d - 1] * d, d, low, high)
                count += 1
            low, below = high, above
        if below == 0.0 and count < d:
            roots[count] = low
            count += 1
    return count


@njit(int64(_MATRIX, _MATRIX), cache=True, nogil=True, error_model="numpy")
def null_space(rows, basis):
    """An orthonormal basis, by rows, of what `rows` take to 0; they are overwritten. 0 where they are of lower rank."""
    r, n = rows.shape
    columns = np.arange(n)
    top = 0.0
    for i in range(r):
        for j in range(n):
            top = max(top, abs(rows[i, j]))
    for k in range(r):
        best, row, column = 0.0, k, k
        for i in range(k, r):
            for j in range(k, n):
                if abs(rows[i, j]) > best:
                    best, row, column = abs(rows[i, j]), i, j
        if not best > 1e-9 * top:
            return 0
        for j in range(n):
            held = rows[k, j]
            rows[k, j] = rows[row, j]
            rows[row, j] = held
        for i in range(r):
            held = rows[i, k]
            rows[i, k] = rows[i, column]
            rows[i, column] = held
        kept = columns[k]
        columns[k] = columns[column]
        columns[column] = kept
        for j in range(n - 1, k - 1, -1):
            rows[k, j] /= rows[k, k]
        for i in range(r):
            if i != k:
                f = rows[i, k]
                for j in range(k, n):
                    rows[i, j] -= f * rows[k, j]
    for b in range(n - r):
        for j in range(n):
            basis[b, j] = 0.0
        basis[b, columns[r + b]] = 1.0
        for i in range(r):
            basis[b, columns[i]] = -rows[i, r + b]
        for a in range(b):
            along = 0.0
            for j in range(n):
                along += basis[a, j] * basis[b, j]
            for j in range(n):
                basis[b, j] -= along * basis[a, j]
        size = 0.0
        for j in range(n):
            size += basis[b, j] ** 2
        for j in range(n):
            basis[b, j] /= np.sqrt(size)
    return n - r
