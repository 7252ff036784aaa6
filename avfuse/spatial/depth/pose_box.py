"""Poses about a start, by six numbers each of which moves what is seen by about a pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from avfuse.rotations import cross_matrices, nearest_rotation
from avfuse.transform import Rigid

F64 = NDArray[np.float64]

_WEAK = 30.0  # pixels of motion, had a number moved one axis alone, at which directions that cancel are held


@dataclass(frozen=True, eq=False)
class PoseBox:
    """axes: `(6, 6)`, columns are the changes (rotation vector, translation) of one step of each number. limits: `(6,)`
    radians and metres."""

    start: Rigid
    axes: F64
    limits: F64

    @classmethod
    def about(cls, start: Rigid, moves: F64, limits: F64) -> Self:
        """moves: `(n, 2, 6)`, how pixels of points change with the pose. Turning about x and going along y move far
        points alike: axes are such that each moves the pixels by 1 in the mean of squares, and none as another."""
        metric = np.einsum("nki,nkj->ij", moves, moves) / max(len(moves), 1)
        unit = 1 / np.sqrt(np.maximum(np.diag(metric), 1e-12))
        values, vectors = np.linalg.eigh(metric * unit[:, None] * unit)
        return cls(start, unit[:, None] * vectors / np.sqrt(np.maximum(values, _WEAK**-2)), limits)

    def pose(self, x: F64) -> Rigid:
        return moved(self.start, self.axes @ x)

    def coordinates(self, change: F64) -> F64:
        """The numbers of a change (rotation vector, translation)."""
        return np.asarray(np.linalg.solve(self.axes, change))

    def gradient(self, x: F64, local: F64) -> F64:
        """By the numbers, of what changes by `local` with a rotation vector and a translation after the pose."""
        turned = left_jacobian((self.axes @ x)[:3])
        return np.asarray(self.axes.T @ np.concatenate([turned.T @ local[:3], local[3:]]))

    def beyond(self, x: F64) -> tuple[float, F64]:
        """How far the change lies beyond the limits, in squares of their hundredths, and its slope by the numbers."""
        change = self.axes @ x
        over = np.sign(change) * np.maximum(np.abs(change) - self.limits, 0) / (0.01 * self.limits)
        return float(over @ over), np.asarray(self.axes.T @ (2 * over / (0.01 * self.limits)))


def moved(pose: Rigid, change: F64) -> Rigid:
    """R' = exp(r) R, t' = t + d for a change (r, d)."""
    turned = Rotation.from_rotvec(change[:3]).as_matrix() @ pose.rotation
    return Rigid.from_parts(nearest_rotation(turned), pose.translation + change[3:])


def left_jacobian(r: F64) -> F64:
    """J with exp(r + d) = exp(J d) exp(r) for small d (Sola et al. 2018, equation 145)."""
    angle = float(np.linalg.norm(r))
    cross = cross_matrices(r)
    if angle < 1e-4:
        return np.asarray(np.eye(3) + cross / 2 + cross @ cross / 6)
    first, second = (1 - np.cos(angle)) / angle**2, (angle - np.sin(angle)) / angle**3
    return np.asarray(np.eye(3) + first * cross + second * cross @ cross)
