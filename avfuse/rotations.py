"""Rotations of space from vectors and matrices: what time and space share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]


def nearest_rotation(moments: F64) -> F64:
    """The rotations R `(..., 3, 3)` that maximise trace(R^T moments) (Kabsch 1976): of sums of a b^T those that take b
    to a in the least-squares sense, of a matrix that is nearly a rotation the one beside it."""
    u, _, vt = np.linalg.svd(moments)
    # The least certain axis turns over where a mirror image would fit better.
    u[..., 2] *= np.sign(np.linalg.det(u) * np.linalg.det(vt))[..., None]
    return np.asarray(u @ vt)


def cross_matrices(vectors: F64) -> F64:
    """[v]x `(..., 3, 3)` of vectors `(..., 3)`: [v]x w is the cross product of v and w."""
    x, y, z = np.moveaxis(np.asarray(vectors, np.float64), -1, 0)
    zero = np.zeros_like(x)
    rows = [zero, -z, y, z, zero, -x, -y, x, zero]
    return np.stack(rows, axis=-1).reshape(*np.shape(vectors)[:-1], 3, 3)
