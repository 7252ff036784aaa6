"""Loops over sets of points."""

from __future__ import annotations

import numpy as np
from numba import njit

from avfuse._kernels.lanes import alike, any_below, highest, labelled, larger, numbers, put, smaller


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
def kd_build(points, leaf):
    """A k-d tree over points `(n, 3)`: halved at the median of the widest side until `leaf` or fewer are left.

    Returns order `(n,)`, boxes `(nodes, 6)` (lowest corner, highest corner) and nodes `(nodes, 3)`: first and last + 1
    of its points in that order, and its right child, 0 for a leaf. The left child comes right after its parent.
    """
    n = len(points)
    order = np.arange(n)
    # The points themselves move with their places: what is read then lies together.
    moved = points.copy()
    most = 8 * (n // leaf + 1) + 8
    boxes = np.empty((most, 6))
    nodes = np.zeros((most, 3), np.int64)
    waiting = np.empty((128, 3), np.int64)
    waiting[0, 0], waiting[0, 1], waiting[0, 2] = 0, n, -1
    depth, made = 1, 0
    while depth > 0:
        depth -= 1
        first, last, parent = waiting[depth, 0], waiting[depth, 1], waiting[depth, 2]
        node = made
        made += 1
        if parent >= 0:
            nodes[parent, 2] = node
        nodes[node, 0], nodes[node, 1] = first, last
        x0, y0, z0 = moved[first, 0], moved[first, 1], moved[first, 2]
        x1, y1, z1 = x0, y0, z0
        for i in range(first + 1, last):
            x, y, z = moved[i, 0], moved[i, 1], moved[i, 2]
            x0, y0, z0 = min(x0, x), min(y0, y), min(z0, z)
            x1, y1, z1 = max(x1, x), max(y1, y), max(z1, z)
        boxes[node, 0], boxes[node, 1], boxes[node, 2] = x0, y0, z0
        boxes[node, 3], boxes[node, 4], boxes[node, 5] = x1, y1, z1
        axis = 0
        for d in range(1, 3):
            if boxes[node, 3 + d] - boxes[node, d] > boxes[node, 3 + axis] - boxes[node, axis]:
                axis = d
        if last - first <= leaf:
            continue
        middle = (first + last) // 2
        # Hoare's selection of the median.
        a, b = first, last - 1
        while a < b:
            pivot = moved[(a + b) // 2, axis]
            i, j = a, b
            while i <= j:
                while moved[i, axis] < pivot:
                    i += 1
                while moved[j, axis] > pivot:
                    j -= 1
                if i <= j:
                    order[i], order[j] = order[j], order[i]
                    for d in range(3):
                        moved[i, d], moved[j, d] = moved[j, d], moved[i, d]
                    i += 1
                    j -= 1
            if middle <= j:
                b = j
            elif middle >= i:
                a = i
            else:
                break
        waiting[depth, 0], waiting[depth, 1], waiting[depth, 2] = middle, last, node
        waiting[depth + 1, 0], waiting[depth + 1, 1], waiting[depth + 1, 2] = first, middle, -1
        depth += 2
    return order, boxes[:made].copy(), nodes[:made].copy()


@njit(cache=True, nogil=True)
def smallest_axis(xx, xy, xz, yy, yz, zz):
    """Unit eigenvector of the smallest eigenvalue of a symmetric 3 x 3, and its eigenvalues, rising (Smith 1961)."""
    q = (xx + yy + zz) / 3.0
    a, b, c = xx - q, yy - q, zz - q
    p = np.sqrt((a * a + b * b + c * c + 2.0 * (xy * xy + xz * xz + yz * yz)) / 6.0)
    if p <= 1e-14 * abs(q) or p == 0.0:
        return 0.0, 0.0, 1.0, q, q, q
    half = (a * (b * c - yz * yz) - xy * (xy * c - yz * xz) + xz * (xy * yz - b * xz)) / (2.0 * p * p * p)
    turn = np.arccos(min(1.0, max(-1.0, half))) / 3.0
    high = q + 2.0 * p * np.cos(turn)
    low = q + 2.0 * p * np.cos(turn + 2.0943951023931953)
    a, b, c = xx - low, yy - low, zz - low
    # Two rows of C - low * 1 span the other axes; the pair with the longest product tells best.
    x0, y0, z0 = xy * yz - xz * b, xz * xy - a * yz, a * b - xy * xy
    x1, y1, z1 = xy * c - xz * yz, xz * xz - a * c, a * yz - xy * xz
    x2, y2, z2 = b * c - yz * yz, yz * xz - xy * c, xy * yz - b * xz
    l0, l1, l2 = x0 * x0 + y0 * y0 + z0 * z0, x1 * x1 + y1 * y1 + z1 * z1, x2 * x2 + y2 * y2 + z2 * z2
    if l1 > l0:
        x0, y0, z0, l0 = x1, y1, z1, l1
    if l2 > l0:
        x0, y0, z0, l0 = x2, y2, z2, l2
    if l0 <= 1e-24 * p * p * p * p:
        # The two lower ones are alike, as of points on a line: any axis across the highest one.
        a, b, c = xx - high, yy - high, zz - high
        l0, l1, l2 = a * a + xy * xy + xz * xz, xy * xy + b * b + yz * yz, xz * xz + yz * yz + c * c
        x0, y0, z0 = a, xy, xz
        if l1 > l0:
            x0, y0, z0, l0 = xy, b, yz, l1
        if l2 > l0:
            x0, y0, z0, l0 = xz, yz, c, l2
    length = 1.0 / np.sqrt(l0)
    x0, y0, z0 = x0 * length, y0 * length, z0 * length
    # The angle keeps half of the digits where the two lower values are alike; along the axis itself all are kept.
    low = x0 * (xx * x0 + 2.0 * (xy * y0 + xz * z0)) + y0 * (yy * y0 + 2.0 * yz * z0) + zz * z0 * z0
    return x0, y0, z0, low, 3.0 * q - high - low, high


@njit(cache=True, nogil=True)
def _mask(n):
    """The last bits of squared distances, in which indices below n and one more are put, so that one number tells
    both: of a million points 32 of 52 bits of the distance are left."""
    mask = np.int64(1)
    while mask <= n:
        mask *= 2
    return mask - 1


@njit(cache=True, nogil=True)
def _together(points, first, number, eight):
    """Their lowest and highest corner. eight: `(3, 8)`, takes `number` points from `first` on, the last one again."""
    for q in range(8):
        i = first + min(q, number - 1)
        for d in range(3):
            eight[d, q] = points[i, d]
    x, y, z = eight
    x0, y0, z0, x1, y1, z1 = x[0], y[0], z[0], x[0], y[0], z[0]
    for q in range(1, number):
        x0, y0, z0 = min(x0, x[q]), min(y0, y[q]), min(z0, z[q])
        x1, y1, z1 = max(x1, x[q]), max(y1, y[q]), max(z1, z[q])
    return x0, y0, z0, x1, y1, z1


@njit(cache=True, nogil=True)
def kd_normals(points, boxes, nodes, k, begin, end):
    """Of the leaves from node `begin` to `end`: normals of the planes through each point's k nearest (itself one).

    points: `(n, 3)` in the tree's order, n >= k. Returns for all points of these leaves, in that order, normals
    `(m, 3)`, planarity `(m,)` (0 where neighbours lie on a line or in a ball, 1 on a plane), how far they lie off the
    plane (root of the mean square) and the distance of the second nearest, itself the first, `(m,)`.
    """
    total = 0
    for node in range(begin, end):
        if nodes[node, 2] == 0:
            total += nodes[node, 1] - nodes[node, 0]
    normals = np.empty((total, 3))
    planarity = np.empty(total)
    rough = np.empty(total)
    spacing = np.zeros(total)
    mask = _mask(len(points))
    # Of eight points that lie together, side by side, the k nearest so far, rising; all eight meet each point at once.
    keys = np.empty(8 * k)
    bits = keys.view(np.int64)
    farthest = 8 * (k - 1)
    eight = np.empty((3, 8))
    flat = eight.reshape(-1)
    stack = np.empty(128, np.int64)
    written = 0
    for leaf in range(begin, end):
        if nodes[leaf, 2] != 0:
            continue
        for first in range(nodes[leaf, 0], nodes[leaf, 1], 8):
            number = min(8, nodes[leaf, 1] - first)
            x0, y0, z0, x1, y1, z1 = _together(points, first, number, eight)
            xs, ys, zs = numbers(flat, 0), numbers(flat, 8), numbers(flat, 16)
            keys[:] = np.inf
            worst = np.inf
            stack[0] = 0
            depth = 1
            while depth > 0:
                depth -= 1
                node = stack[depth]
                gx = max(boxes[node, 0] - x1, x0 - boxes[node, 3], 0.0)
                gy = max(boxes[node, 1] - y1, y0 - boxes[node, 4], 0.0)
                gz = max(boxes[node, 2] - z1, z0 - boxes[node, 5], 0.0)
                if gx * gx + gy * gy + gz * gz > worst:
                    continue
                right = nodes[node, 2]
                if right != 0:
                    # The half in which this leaf lies, or which is nearer, comes first: it is pushed last.
                    nearer, farther = node + 1, right
                    one, two = 0.0, 0.0
                    for d in range(3):
                        middle = boxes[leaf, d] + boxes[leaf, 3 + d]
                        one += abs(boxes[nearer, d] + boxes[nearer, 3 + d] - middle)
                        two += abs(boxes[farther, d] + boxes[farther, 3 + d] - middle)
                    inside = nodes[right, 0] <= first < nodes[right, 1]
                    if inside or (two < one and not (nodes[nearer, 0] <= first < nodes[nearer, 1])):
                        nearer, farther = farther, nearer
                    stack[depth], stack[depth + 1] = farther, nearer
                    depth += 2
                    continue
                for i in range(nodes[node, 0], nodes[node, 1]):
                    dx, dy, dz = xs - alike(points[i, 0]), ys - alike(points[i, 1]), zs - alike(points[i, 2])
                    key = labelled(dx * dx + dy * dy + dz * dz, mask, i)
                    here = numbers(keys, farthest)
                    if any_below(key, here):
                        # Each place keeps what it holds, or takes the new one or what the place before held.
                        for at in range(farthest, 0, -8):
                            before = numbers(keys, at - 8)
                            put(keys, at, larger(before, smaller(here, key)))
                            here = before
                        put(keys, 0, smaller(here, key))
                worst = highest(numbers(keys, farthest))
            for q in range(number):
                x, y, z = points[first + q, 0], points[first + q, 1], points[first + q, 2]
                mx = my = mz = xx = xy = xz = yy = yz = zz = 0.0
                for j in range(k):
                    i = bits[8 * j + q] & mask
                    dx, dy, dz = points[i, 0] - x, points[i, 1] - y, points[i, 2] - z
                    if j == 1:
                        spacing[written] = np.sqrt(dx * dx + dy * dy + dz * dz)
                    mx += dx
                    my += dy
                    mz += dz
                    xx += dx * dx
                    xy += dx * dy
                    xz += dx * dz
                    yy += dy * dy
                    yz += dy * dz
                    zz += dz * dz
                nx, ny, nz, low, middle, high = smallest_axis(
                    xx - mx * mx / k, xy - mx * my / k, xz - mx * mz / k, yy - my * my / k, yz - my * mz / k,
                    zz - mz * mz / k,
                )  # fmt: skip
                normals[written, 0], normals[written, 1], normals[written, 2] = nx, ny, nz
                planarity[written] = (middle - low) / high if high > 0.0 else 0.0
                rough[written] = np.sqrt(max(low, 0.0) / k)
                written += 1
    return normals, planarity, rough, spacing


@njit(cache=True, nogil=True)
def kd_nearest(points, boxes, nodes, queries, guess, limit):
    """The nearest of a tree's points (in its order) for each query `(n, 3)`: index, or -1 where none is nearer than the
    root of `limit`, and squared distance. guess: `(n,)` indices that may be near, or -1; they only save time.

    Eight queries in turn are looked up together, so that those should lie near each other, as points of a tree do.
    """
    n = len(queries)
    found = np.empty(n, np.int64)
    squared = np.empty(n)
    mask = _mask(len(points))
    stack = np.empty(128, np.int64)
    away = np.empty(128)
    eight, keys = np.empty((3, 8)), np.empty(8)
    flat, bits = eight.reshape(-1), keys.view(np.int64)
    for first in range(0, n, 8):
        number = min(8, n - first)
        x0, y0, z0, x1, y1, z1 = _together(queries, first, number, eight)
        for q in range(8):
            keys[q] = limit
            i = guess[first + min(q, number - 1)]
            if i >= 0:
                dx, dy, dz = points[i, 0] - eight[0, q], points[i, 1] - eight[1, q], points[i, 2] - eight[2, q]
                keys[q] = min(limit, dx * dx + dy * dy + dz * dz)
        xs, ys, zs = numbers(flat, 0), numbers(flat, 8), numbers(flat, 16)
        worst = highest(numbers(keys, 0))
        # No point has this label: what is guessed is found again.
        best = labelled(numbers(keys, 0), mask, mask)
        stack[0], away[0] = 0, 0.0
        depth = 1
        while depth > 0:
            depth -= 1
            if away[depth] > worst:
                continue
            node = stack[depth]
            right = nodes[node, 2]
            while right != 0:
                left = node + 1
                gx = max(boxes[left, 0] - x1, x0 - boxes[left, 3], 0.0)
                gy = max(boxes[left, 1] - y1, y0 - boxes[left, 4], 0.0)
                gz = max(boxes[left, 2] - z1, z0 - boxes[left, 5], 0.0)
                one = gx * gx + gy * gy + gz * gz
                gx = max(boxes[right, 0] - x1, x0 - boxes[right, 3], 0.0)
                gy = max(boxes[right, 1] - y1, y0 - boxes[right, 4], 0.0)
                gz = max(boxes[right, 2] - z1, z0 - boxes[right, 5], 0.0)
                two = gx * gx + gy * gy + gz * gz
                if two < one:
                    left, right, one, two = right, left, two, one
                if two <= worst:
                    stack[depth], away[depth] = right, two
                    depth += 1
                if one > worst:
                    node = -1
                    break
                node = left
                right = nodes[node, 2]
            if node < 0:
                continue
            for i in range(nodes[node, 0], nodes[node, 1]):
                dx, dy, dz = xs - alike(points[i, 0]), ys - alike(points[i, 1]), zs - alike(points[i, 2])
                best = smaller(best, labelled(dx * dx + dy * dy + dz * dz, mask, i))
            worst = highest(best)
        put(keys, 0, best)
        for q in range(number):
            i = bits[q] & mask
            found[first + q], squared[first + q] = -1, np.inf
            if i < len(points):
                dx, dy, dz = points[i, 0] - eight[0, q], points[i, 1] - eight[1, q], points[i, 2] - eight[2, q]
                value = dx * dx + dy * dy + dz * dz
                if value < limit:
                    found[first + q], squared[first + q] = i, value
    return found, squared


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
