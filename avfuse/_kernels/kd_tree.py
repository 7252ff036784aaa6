"""A k-d tree over points: its making, planes through each point's neighbours, and nearest points."""

from __future__ import annotations

import numpy as np
from numba import njit

from avfuse._kernels.lanes import alike, any_below, highest, labelled, larger, numbers, smaller, store


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
                            store(keys, at, larger(before, smaller(here, key)))
                            here = before
                        store(keys, 0, smaller(here, key))
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
        store(keys, 0, best)
        for q in range(number):
            i = bits[q] & mask
            found[first + q], squared[first + q] = -1, np.inf
            if i < len(points):
                dx, dy, dz = points[i, 0] - eight[0, q], points[i, 1] - eight[1, q], points[i, 2] - eight[2, q]
                value = dx * dx + dy * dy + dz * dz
                if value < limit:
                    found[first + q], squared[first + q] = i, value
    return found, squared
