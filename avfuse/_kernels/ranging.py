"""Where rays meet the rectangles of a simulated scene."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def cast(origin, directions, corners, sides):
    """The first rectangle that each ray meets, how far along the ray, and where on it.

    origin: `(3,)`. directions: `(n, 3)`. corners: `(m, 3)`. sides: `(m, 2, 3)`, at right angles, from the corner.
    Returns `(n,)` int32 rectangles, -1 where there is none; `(n,)` distances in lengths of the direction, infinite
    there; `(n, 2)` shares of the two sides.
    """
    n, m = directions.shape[0], corners.shape[0]
    which, far, at = np.full(n, -1, np.int32), np.full(n, np.inf), np.zeros((n, 2))
    normals, heights, scales = np.empty((m, 3)), np.empty(m), np.empty((m, 2))
    for k in range(m):
        a, b = sides[k, 0], sides[k, 1]
        normals[k, 0] = a[1] * b[2] - a[2] * b[1]
        normals[k, 1] = a[2] * b[0] - a[0] * b[2]
        normals[k, 2] = a[0] * b[1] - a[1] * b[0]
        heights[k] = 0.0
        for d in range(3):
            heights[k] += normals[k, d] * (corners[k, d] - origin[d])
        for s in range(2):
            scales[k, s] = 1.0 / (sides[k, s, 0] ** 2 + sides[k, s, 1] ** 2 + sides[k, s, 2] ** 2)
    for i in range(n):
        x, y, z = directions[i, 0], directions[i, 1], directions[i, 2]
        for k in range(m):
            slope = normals[k, 0] * x + normals[k, 1] * y + normals[k, 2] * z
            if slope == 0.0:
                continue
            t = heights[k] / slope
            if not (0.0 < t < far[i]):
                continue
            px = origin[0] + t * x - corners[k, 0]
            py = origin[1] + t * y - corners[k, 1]
            pz = origin[2] + t * z - corners[k, 2]
            u = (px * sides[k, 0, 0] + py * sides[k, 0, 1] + pz * sides[k, 0, 2]) * scales[k, 0]
            v = (px * sides[k, 1, 0] + py * sides[k, 1, 1] + pz * sides[k, 1, 2]) * scales[k, 1]
            if 0.0 <= u <= 1.0 and 0.0 <= v <= 1.0:
                which[i], far[i], at[i, 0], at[i, 1] = k, t, u, v
    return which, far, at
