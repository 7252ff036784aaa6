"""Two scans of one place by a spinning laser, taken from two poses that are known.

Rooms and streets tell all six numbers of a pose; a corridor leaves one open, a plain three, a ball three.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from avfuse.errors import StreamError
from avfuse.transform import Rigid

F64 = NDArray[np.float64]
Place = Literal["room", "street", "corridor", "plain", "ball"]


@dataclass(frozen=True, eq=False)
class ScanPair:
    """reference, moving: `(n, 3)` points, each in its scanner's own frame [m]. truth: moving -> reference."""

    reference: F64
    moving: F64
    truth: Rigid


@dataclass(frozen=True, eq=False)
class _Walls:
    """Rectangles: middle, two half sides at right angles, each `(k, 3)`."""

    middle: F64
    side: F64
    up: F64

    def hit(self, start: F64, rays: F64) -> F64:
        """How far along each ray `(n, 3)` of length 1 the first wall is; infinite where there is none."""
        normal = np.cross(self.side, self.up)
        across = rays @ normal.T
        with np.errstate(divide="ignore", invalid="ignore"):
            far = ((self.middle - start) * normal).sum(axis=1) / across
        nearest = np.full(len(rays), np.inf)
        for k in range(len(self.middle)):
            reached = far[:, k] > 0.3
            at = start + rays[reached] * far[reached, k, None] - self.middle[k]
            inside = np.abs(at @ self.side[k]) <= self.side[k] @ self.side[k]
            inside &= np.abs(at @ self.up[k]) <= self.up[k] @ self.up[k]
            rows = np.flatnonzero(reached)[inside]
            nearest[rows] = np.minimum(nearest[rows], far[rows, k])
        return nearest


def simulate_scans(
    rng: np.random.Generator, *, place: Place = "room", noise: float = 0.01, apart: float = 0.5, turned: float = 0.05,
    rings: int = 48, columns: int = 500, related: bool = True,
) -> ScanPair:  # fmt: skip
    """noise: metres along each ray. apart: metres between the two poses. turned: radians between them, about an axis
    that leans to the upright one. related: False scans another place of the same kind the second time.
    """
    if place not in get_args(Place):
        raise StreamError(f"simulate_scans: place {place!r}; expected one of {', '.join(get_args(Place))}")
    axis = rng.normal(size=3) * [0.3, 0.3, 1.0]
    way = rng.normal(size=3) * [1.0, 1.0, 0.1]
    truth = Rigid.from_parts(
        Rotation.from_rotvec(turned * axis / np.linalg.norm(axis)).as_matrix(), apart * way / np.linalg.norm(way)
    )
    seen = _place(place, rng)
    reference = _scan(seen, place, Rigid(np.eye(4)), rng, noise, rings, columns)
    moving = _scan(seen if related else _place(place, rng), place, truth, rng, noise, rings, columns)
    return ScanPair(reference, moving, truth)


def _scan(
    seen: _Walls, place: Place, pose: Rigid, rng: np.random.Generator, noise: float, rings: int, columns: int
) -> F64:
    """What a scanner at `pose` of the place's frame measures, in its own frame."""
    tilt = np.radians(np.linspace(-35.0, 25.0, rings))
    turn = np.linspace(-np.pi, np.pi, columns, endpoint=False) + rng.uniform(0, 2 * np.pi / columns)
    e, a = (v.ravel() for v in np.meshgrid(tilt, turn, indexing="ij"))
    rays = np.stack([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)], axis=1)
    outside = rays @ pose.rotation.T
    if place == "ball":
        # From inside.
        along = outside @ pose.translation
        far = -along + np.sqrt(along**2 + 16.0 - pose.translation @ pose.translation)
    else:
        far = seen.hit(pose.translation, outside)
    whole = far < 60.0
    return np.asarray(rays[whole] * (far[whole] + rng.normal(0, noise, whole.sum()))[:, None])


def _place(place: Place, rng: np.random.Generator) -> _Walls:
    sheets: list[tuple[list[float], list[float], list[float]]] = []

    def box(x: float, y: float, z: float, a: float, b: float, c: float, turn: float = 0.0) -> None:
        """All six sides about (x, y, z), of half sizes a, b, c, turned about the upright axis."""
        cos, sin = np.cos(turn), np.sin(turn)
        u, v, w = np.array([cos * a, sin * a, 0]), np.array([-sin * b, cos * b, 0]), np.array([0, 0, c])
        for middle, one, two in ((u, v, w), (v, u, w), (w, u, v)):
            for sign in (-1, 1):
                at = np.array([x, y, z]) + sign * middle
                sheets.append((at.tolist(), one.tolist(), two.tolist()))

    if place == "room":
        box(rng.uniform(-1, 1), rng.uniform(-1, 1), 0.2, rng.uniform(3, 6), rng.uniform(3, 6), 1.6)
        for _ in range(8):
            far, round_ = rng.uniform(1.8, 3.5), rng.uniform(-np.pi, np.pi)
            c = rng.uniform(0.2, 0.9)
            a, b = rng.uniform(0.2, 0.6, 2)
            box(far * np.cos(round_), far * np.sin(round_), c - 1.4, a, b, c, rng.uniform(0, np.pi))
    elif place == "street":
        sheets.append(([0, 0, -1.8], [60, 0, 0], [0, 60, 0]))
        for side in (-1, 1):
            x = -40.0
            while x < 40:
                a, gap, c = rng.uniform(3, 8), rng.uniform(0.5, 3), rng.uniform(2, 6)
                box(x + a, side * (rng.uniform(7, 10) + 4), c - 1.8, a, 4.0, c)
                x += 2 * a + gap
            for _ in range(6):
                box(rng.uniform(-30, 30), side * rng.uniform(3.5, 5.5), -1.1, rng.uniform(1, 2.2), 0.8, 0.7)
    elif place == "corridor":
        # Longer than can be seen.
        for y, z, up in ((-1.2, 0, [0, 0, 1.5]), (1.2, 0, [0, 0, 1.5]), (0, -1.5, [0, 1.2, 0]), (0, 1.5, [0, 1.2, 0])):
            sheets.append(([0, y, z], [500, 0, 0], up))
    else:
        sheets.append(([0, 0, -1.8], [500, 0, 0], [0, 500, 0]))
    return _Walls(*(np.array(v, np.float64) for v in zip(*sheets, strict=True)))
