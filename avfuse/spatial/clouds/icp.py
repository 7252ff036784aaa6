"""Iterated closest points between two surfaces: generalised (Segal, Haehnel and Thrun 2009) or point to plane (Chen and
Medioni 1992), damped after Levenberg and Marquardt, pairs weighed down smoothly with their distance (Tukey)."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from avfuse._kernels.kd_tree import kd_nearest
from avfuse._kernels.points import pair_weights, plane_terms
from avfuse.spatial.clouds.surfaces import Surface

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Made = TypeVar("Made")

_TASKS = 4  # that threads share
_PARTS = 32  # of the moving points, near each other: they are summed apart, whatever the number of threads
_DAMPING = 1e-6
_MAD = 1.4826  # standard deviations of a normal distribution in one median absolute deviation


@dataclass(frozen=True)
class Fitting:
    """thin: variance across a plane against along it; 0 for point to plane. robust: of `register_points`.

    limit: distance at which a pair counts nothing. enough: movement of the points at which rounds end. rounds: at most.
    """

    thin: float
    limit: float
    enough: float
    rounds: int
    robust: float | None = None


@dataclass(frozen=True, eq=False)
class Fit:
    """rotation, translation: moving -> reference, in the frames of the surfaces. match: `(n,)` index or -1.

    squared: of distances. hessian: `(6, 6)` of half the sum of weighted squares over (rotation vector, translation)
    about the origin; gradients: `(parts, 6)`, of parts of the points that lie together. moved: last step's movement.
    """

    rotation: F64
    translation: F64
    match: I64
    squared: F64
    weight: F64
    hessian: F64
    gradients: F64
    converged: bool
    rounds: int

    def __call__(self, points: F64) -> F64:
        return np.asarray(points @ self.rotation.T + self.translation)


def turned_by(vector: F64) -> F64:
    """Rotation matrix of a rotation vector (Rodrigues)."""
    angle = float(np.linalg.norm(vector))
    x, y, z = vector
    k = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    a = 1.0 - angle**2 / 6 if angle < 1e-4 else np.sin(angle) / angle
    b = 0.5 - angle**2 / 24 if angle < 1e-4 else (1.0 - np.cos(angle)) / angle**2
    return np.asarray(np.eye(3) + a * k + b * k @ k)


def fit(
    reference: Surface, moving: Surface, rotation: F64, translation: F64, how: Fitting, pool: Executor | None = None,
    stride: int = 1,
) -> Fit:  # fmt: skip
    """From where `rotation` and `translation` put the moving surface. stride: take every so manieth of its points."""
    points, normals = (np.ascontiguousarray(x[::stride]) for x in (moving.points, moving.normals))
    pairs = _Pairs(reference, np.ascontiguousarray(moving.trust[::stride]), how, pool)
    radius = moving.radius
    damping, converged, rounds = _DAMPING, False, 0
    r, t = rotation, translation
    while True:
        moved, turned = points @ r.T + t, normals @ r.T
        pairs.look(moved)
        cost, gradients, hessian = pairs.terms(moved, turned)
        if converged or rounds >= how.rounds or not hessian.any():
            return Fit(r, t, pairs.match, pairs.squared, pairs.weight, hessian, gradients, converged, rounds)
        rounds += 1
        gradient = gradients.sum(axis=0)
        while damping < 1e6:
            # The least multiple of 1 lets directions stand still of which nothing is known.
            damped = hessian + np.diag(damping * np.diag(hessian) + 1e-12 * np.trace(hessian))
            step = np.linalg.solve(damped, gradient)
            turn = turned_by(step[:3])
            # What pairs weigh is held: only then do the normal equations tell what a step gains.
            if pairs.terms(moved @ turn.T + step[3:], turned)[0] <= cost * (1 + 1e-9):
                damping = max(damping / 10, 1e-9)
                r, t = turn @ r, turn @ t + step[3:]
                break
            damping *= 10
        else:
            converged = True
            continue
        movement = float(np.linalg.norm(step[:3])) * radius + float(np.linalg.norm(step[3:] + np.cross(step[:3], t)))
        converged = movement < how.enough


class _Pairs:
    """The nearest of the reference's points for each moved one, and what they pull. Parts of the points are summed
    apart and then in their order, so that the number of threads changes nothing."""

    def __init__(self, reference: Surface, trust: F64, how: Fitting, pool: Executor | None) -> None:
        self.reference, self.trust, self.how, self.pool = reference, trust, how, pool
        n = len(trust)
        self.edges = np.linspace(0, n, min(_PARTS, max(n // 8, 1)) + 1).astype(np.int64)
        parts = len(self.edges) - 1
        every = parts if pool is None else -(-parts // _TASKS)
        self.groups = [self.edges[k : k + every + 1] for k in range(0, parts, every)]
        self.match = np.full(n, -1)
        self.squared = self.weight = np.zeros(n)

    def _each(self, function: Callable[[I64], Made]) -> list[Made]:
        if self.pool is None:
            return [function(edges) for edges in self.groups]
        return list(self.pool.map(function, self.groups))

    def look(self, moved: F64) -> None:
        near, limit = self.reference, self.how.limit**2

        def nearest(edges: I64) -> tuple[I64, F64]:
            part = slice(edges[0], edges[-1])
            found: tuple[I64, F64] = kd_nearest(
                near.points, near.boxes, near.nodes, moved[part], self.match[part], limit
            )
            return found

        found = self._each(nearest)
        self.match, self.squared = (np.concatenate(some) for some in zip(*found, strict=True))
        usual = 0.0
        if self.how.robust is not None and (self.match >= 0).any():
            met = self.match >= 0
            across = ((near.points[self.match[met]] - moved[met]) * near.normals[self.match[met]]).sum(axis=1)
            usual = max(self.how.robust * _MAD * float(np.median(np.abs(across))), 1e-9 * self.how.limit)
        self.weight = pair_weights(
            near.points, near.normals, near.trust, moved, self.trust, self.match, self.squared, limit, usual
        )

    def terms(self, moved: F64, turned: F64) -> tuple[float, F64, F64]:
        near, thin = self.reference, self.how.thin

        def sums(edges: I64) -> tuple[F64, F64, F64]:
            part = slice(edges[0], edges[-1])
            found: tuple[F64, F64, F64] = plane_terms(
                near.points, near.normals, moved[part], turned[part], self.match[part], self.weight[part], thin,
                edges[0], edges,
            )  # fmt: skip
            return found

        costs, gradients, hessians = (np.concatenate(some) for some in zip(*self._each(sums), strict=True))
        return float(costs.sum()), gradients, hessians.sum(axis=0)
