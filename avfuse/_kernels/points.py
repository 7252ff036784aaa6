"""Loops over sets of points."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def lzf_unpack(packed, size):
    """What LZF packed, uint8 `(size,)`; shorter where it ends early, refers to before its start or overflows.

    A control byte under 32 is followed by that many bytes and one, taken as they are. Any other says by its upper
    three bits (7: plus the next byte) and two how many bytes to repeat, from as far back as its lower five bits and the
    byte after tell, and one.
    """
    out = np.empty(size, np.uint8)
    i = made = 0
    while i < len(packed):
        control = np.int64(packed[i])
        i += 1
        if control < 32:
            length = control + 1
            if i + length > len(packed) or made + length > size:
                return out[:made]
            for k in range(length):
                out[made + k] = packed[i + k]
            i += length
            made += length
            continue
        length = control >> 5
        if i + (2 if length == 7 else 1) > len(packed):
            return out[:made]
        if length == 7:
            length += np.int64(packed[i])
            i += 1
        length += 2
        first = made - ((control & 31) << 8) - np.int64(packed[i]) - 1
        i += 1
        if first < 0 or made + length > size:
            return out[:made]
        # One by one: the part repeated may reach into what is being written.
        for k in range(length):
            out[made + k] = out[first + k]
        made += length
    return out[:made]


@njit(cache=True, nogil=True)
def extent(points):
    """Lowest corner, highest corner and mean of points `(n, 3)`; NaN or infinite where any of them is."""
    low, high, mean = np.full(3, np.inf), np.full(3, -np.inf), np.zeros(3)
    for i in range(len(points)):
        for d in range(3):
            v = points[i, d]
            low[d] = min(low[d], v)
            high[d] = max(high[d], v)
            mean[d] += v
    return low, high, mean / len(points)


@njit(cache=True, nogil=True)
def _hashed(key):
    """Neighbouring cubes spread over 32 bits: Fibonacci hashing of both halves, whose products stay below 2^63."""
    low, high = key & 0x3FFFFFFF, (key >> 30) & 0x3FFFFFFF
    mixed = (low * 2654435769) ^ (high * 2246822519) ^ (key >> 60)
    return (mixed >> 29) & 0xFFFFFFFF


@njit(cache=True, nogil=True)
def voxel_means(points, size, origin):
    """Mean of the points in each cube of an even grid, in the order in which cubes are first met, `(m, 3)`, and the
    cube of each point, `(n,)`.

    points: `(n, 3)`, none below `origin` `(3,)` and none 2^21 cubes above it.
    """
    n = len(points)
    slots = 16
    while slots < 2 * n:
        slots *= 2
    mask = slots - 1
    owner = np.full(slots, -1, np.int32)
    keys = np.empty(n, np.int64)
    cube = np.empty(n, np.int64)
    sums = np.empty((n, 4))
    made = 0
    before, m = np.int64(-1), np.int32(0)
    per = 1.0 / size
    for i in range(n):
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        key = np.int64((x - origin[0]) * per)
        key = (key << 21) | np.int64((y - origin[1]) * per)
        key = (key << 21) | np.int64((z - origin[2]) * per)
        # Scanners measure neighbours one after the other.
        if key != before:
            before = key
            slot = _hashed(key) & mask
            while owner[slot] >= 0 and keys[owner[slot]] != key:
                slot = (slot + 1) & mask
            m = owner[slot]
            if m < 0:
                m = np.int32(made)
                owner[slot] = m
                keys[m] = key
                sums[m, 0] = sums[m, 1] = sums[m, 2] = sums[m, 3] = 0.0
                made += 1
        sums[m, 0] += x
        sums[m, 1] += y
        sums[m, 2] += z
        sums[m, 3] += 1.0
        cube[i] = m
    means = np.empty((made, 3))
    for m in range(made):
        for d in range(3):
            means[m, d] = sums[m, d] / sums[m, 3]
    return means, cube


@njit(cache=True, nogil=True)
def voxel_count(points, size, origin, share):
    """About how many cubes hold points: those counted whose hash falls into one of `share` parts, a power of two."""
    n = len(points)
    slots = 16
    while slots < 2 * n:
        slots *= 2
    mask = slots - 1
    keys = np.full(slots, -1, np.int64)
    made = 0
    before = np.int64(-1)
    per = 1.0 / size
    for i in range(n):
        key = np.int64((points[i, 0] - origin[0]) * per)
        key = (key << 21) | np.int64((points[i, 1] - origin[1]) * per)
        key = (key << 21) | np.int64((points[i, 2] - origin[2]) * per)
        if key == before:
            continue
        before = key
        hashed = _hashed(key)
        if (hashed >> 26) & (share - 1) != 0:
            continue
        slot = hashed & mask
        while keys[slot] != key and keys[slot] != -1:
            slot = (slot + 1) & mask
        if keys[slot] == -1:
            keys[slot] = key
            made += 1
    return made * share


@njit(cache=True, nogil=True)
def pair_weights(points, normals, trust, moved, own, match, squared, limit, usual):
    """(1 - d^2 / limit)^2 of pairs (Tukey) times the trust in both planes; 0 without a pair; over 1 + (a / usual)^2
    where `usual` is not 0 (Cauchy), a being how far apart they lie across the reference's plane. squared: d^2. limit:
    squared too. trust `(m,)`, own `(n,)`: of the reference's and of the moved points."""
    weight = np.zeros(len(match))
    for i in range(len(match)):
        k = match[i]
        if k >= 0:
            left = 1.0 - squared[i] / limit
            w = left * left * trust[k] * own[i]
            if usual > 0.0:
                a = 0.0
                for d in range(3):
                    a += (points[k, d] - moved[i, d]) * normals[k, d]
                w /= 1.0 + (a / usual) * (a / usual)
            weight[i] = w
    return weight


@njit(cache=True, nogil=True)
def plane_terms(points, normals, moved, turned, match, weight, thin, first, edges):
    """Normal equations of generalised ICP (Segal, Haehnel and Thrun 2009) about the moved points as they lie.

    points, normals: `(m, 3)` of the reference. moved, turned: `(n, 3)` points and normals already in its frame.
    match: `(n,)` index of the reference, -1 for none. weight: `(n,)`. thin: variance across a plane against along it; 0
    measures across the reference's planes alone (point to plane, Chen and Medioni 1992). edges: `(parts + 1,)`, where
    parts of the moved points begin and end, counted from `first` on.
    Returns of each part the sum of weighted squares `(parts,)`, gradient `(parts, 6)` and Hessian `(parts, 6, 6)` over
    (rotation vector, translation), moved points turned about the origin first.
    """
    parts = len(edges) - 1
    totals = np.zeros(parts)
    gradients = np.zeros((parts, 6))
    hessians = np.zeros((parts, 6, 6))
    flat = 1.0 - thin
    for part in range(parts):
        total = 0.0
        gradient, hessian = gradients[part], hessians[part]
        for i in range(edges[part] - first, edges[part + 1] - first):
            k = match[i]
            if k < 0 or weight[i] == 0.0:
                continue
            w = weight[i]
            x, y, z = moved[i, 0], moved[i, 1], moved[i, 2]
            rx, ry, rz = points[k, 0] - x, points[k, 1] - y, points[k, 2] - z
            nx, ny, nz = normals[k, 0], normals[k, 1], normals[k, 2]
            if thin > 0.0:
                ux, uy, uz = turned[i, 0], turned[i, 1], turned[i, 2]
                # Both planes' covariances, 1 - flat n n^T each; their sum inverted by cofactors.
                a, b, c = 2 - flat * (nx * nx + ux * ux), 2 - flat * (ny * ny + uy * uy), 2 - flat * (nz * nz + uz * uz)
                d, e, f = -flat * (nx * ny + ux * uy), -flat * (nx * nz + ux * uz), -flat * (ny * nz + uy * uz)
                p, q, r = b * c - f * f, e * f - d * c, d * f - e * b
                s = w / (a * p + d * q + e * r)
                xx, xy, xz = p * s, q * s, r * s
                yy, yz, zz = (a * c - e * e) * s, (d * e - a * f) * s, (a * b - d * d) * s
            else:
                xx, xy, xz = w * nx * nx, w * nx * ny, w * nx * nz
                yy, yz, zz = w * ny * ny, w * ny * nz, w * nz * nz
            fx, fy, fz = xx * rx + xy * ry + xz * rz, xy * rx + yy * ry + yz * rz, xz * rx + yz * ry + zz * rz
            total += rx * fx + ry * fy + rz * fz
            gradient[0] += y * fz - z * fy
            gradient[1] += z * fx - x * fz
            gradient[2] += x * fy - y * fx
            gradient[3] += fx
            gradient[4] += fy
            gradient[5] += fz
            # Rows of -M [y]_x^T.
            ax, ay, az = z * xy - y * xz, x * xz - z * xx, y * xx - x * xy
            bx, by, bz = z * yy - y * yz, x * yz - z * xy, y * xy - x * yy
            cx, cy, cz = z * yz - y * zz, x * zz - z * xz, y * xz - x * yz
            # -[y]_x times those.
            hessian[0, 0] += z * bx - y * cx
            hessian[0, 1] += z * by - y * cy
            hessian[0, 2] += z * bz - y * cz
            hessian[1, 1] += x * cy - z * ay
            hessian[1, 2] += x * cz - z * az
            hessian[2, 2] += y * az - x * bz
            hessian[0, 3] -= ax
            hessian[1, 3] -= ay
            hessian[2, 3] -= az
            hessian[0, 4] -= bx
            hessian[1, 4] -= by
            hessian[2, 4] -= bz
            hessian[0, 5] -= cx
            hessian[1, 5] -= cy
            hessian[2, 5] -= cz
            hessian[3, 3] += xx
            hessian[3, 4] += xy
            hessian[3, 5] += xz
            hessian[4, 4] += yy
            hessian[4, 5] += yz
            hessian[5, 5] += zz
        totals[part] = total
        for i in range(6):
            for j in range(i):
                hessian[i, j] = hessian[j, i]
    return totals, gradients, hessians


@njit(cache=True, nogil=True)
def plane_distances(points, normals, match, given, rotation, translation):
    """How far given points `(n, 3)`, turned and shifted, lie off their matches' planes, `(n,)`; infinite without one.

    match: `(n,)` indices of the reference's points and normals `(m, 3)`, -1 for none.
    """
    found = np.full(len(given), np.inf)
    for i in range(len(given)):
        k = match[i]
        if k >= 0:
            away = 0.0
            for d in range(3):
                moved = translation[d]
                for e in range(3):
                    moved += rotation[d, e] * given[i, e]
                away += (points[k, d] - moved) * normals[k, d]
            found[i] = abs(away)
    return found
