"""Poses about a start, by six numbers of about a pixel each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from avfuse.transform import Rigid

F64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PoseBox:
    """unit: `(6,)` radians and metres of each number. limits: `(6,)`, how far each may go."""

    start: Rigid
    unit: F64
    limits: F64

    @classmethod
    def about(cls, start: Rigid, focal: float, depth: float, limits: F64) -> Self:
        """One for a camera of `focal` pixels that sees things `depth` metres away. limits: radians, metres."""
        unit = np.repeat([1 / focal, depth / focal], 3)
        return cls(start, unit, np.repeat(limits, 3) / unit)

    def pose(self, x: F64) -> Rigid:
        return moved(self.start, x * self.unit)

    def gradient(self, x: F64, local: F64) -> F64:
        """By the numbers, of what changes by `local` with a rotation vector and a translation after the pose."""
        return np.concatenate([left_jacobian(x[:3] * self.unit[:3]).T @ local[:3], local[3:]]) * self.unit


def moved(pose: Rigid, change: F64) -> Rigid:
    """R' = exp(r) R, t' = t + d for a change (r, d)."""
    turned = Rotation.from_rotvec(change[:3]).as_matrix() @ pose.rotation
    u, _, vt = np.linalg.svd(turned)
    return Rigid.from_parts(u @ vt, pose.translation + change[3:])


def left_jacobian(r: F64) -> F64:
    """J with exp(r + d) = exp(J d) exp(r) for small d (Sola et al. 2018, equation 145)."""
    angle = float(np.linalg.norm(r))
    cross = np.array([[0.0, -r[2], r[1]], [r[2], 0.0, -r[0]], [-r[1], r[0], 0.0]])
    if angle < 1e-4:
        return np.asarray(np.eye(3) + cross / 2 + cross @ cross / 6)
    first, second = (1 - np.cos(angle)) / angle**2, (angle - np.sin(angle)) / angle**3
    return np.asarray(np.eye(3) + first * cross + second * cross @ cross)
