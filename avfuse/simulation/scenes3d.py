"""Correspondences of known transforms: points on planes and in space seen by cameras, most of them matched wrongly.

`simulate_correspondences(kind, rng, ...)` makes what each estimator of `avfuse.spatial` takes, with its truth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from avfuse.errors import StreamError
from avfuse.rotations import cross_matrices
from avfuse.transform import Affine, Camera, Essential, Fundamental, Homography, Rigid, Similarity, Transform

F64 = NDArray[np.float64]
Kind = Literal[
    "homography", "affine", "similarity", "rigid", "similarity-3d", "rigid-3d", "fundamental", "essential", "pose"
]
KINDS: tuple[Kind, ...] = get_args(Kind)

_SIZE = (640, 480)
_CAMERA = Camera(np.array([[600.0, 0.0, 319.5], [0.0, 600.0, 239.5], [0.0, 0.0, 1.0]]), _SIZE)


@dataclass(frozen=True, eq=False)
class Correspondences:
    """reference, moving: `(n, d)`; of a pose pixels and points. truth: moving -> reference. right: `(n,)` bool, those
    that are no outliers. clean: `(n, d)`, the reference without noise where `right`. noise: its standard deviation.
    camera: that of pixels. motion: of the camera, T_ref_mov, where there is one."""

    reference: F64
    moving: F64
    truth: Transform
    right: NDArray[np.bool_]
    clean: F64
    noise: float
    camera: Camera = _CAMERA
    motion: Rigid | None = None


def simulate_correspondences(
    kind: Kind,
    rng: np.random.Generator,
    *,
    count: int = 500,
    outliers: float = 0.5,
    noise: float = 1.0,
    planar: float = 0.0,
    camera: Camera = _CAMERA,
) -> Correspondences:
    """count correspondences, a share `outliers` of them drawn at random, the reference with Gaussian `noise`: pixels,
    or hundredths of the unit of points in space; of epipolar geometry both pictures have it.

    planar: share of the points, of scenes in space, that lie on one plane.
    """
    if kind not in KINDS:
        raise StreamError(f"simulate_correspondences: kind {kind!r}; expected one of {', '.join(KINDS)}")
    if kind in ("homography", "affine", "similarity", "rigid"):
        made = _plane(kind, rng, count, noise)
    elif kind in ("similarity-3d", "rigid-3d"):
        made = _space(kind, rng, count, noise / 100)
    else:
        made = _views(kind, rng, count, noise, planar, camera)
    wrong = np.zeros(count, bool)
    wrong[rng.permutation(count)[: round(outliers * count)]] = True
    reference = made.reference.copy()
    low, high = reference.min(axis=0), reference.max(axis=0)
    reference[wrong] = rng.uniform(low, high, (int(wrong.sum()), reference.shape[1]))
    return Correspondences(
        reference, made.moving, made.truth, ~wrong, made.clean, made.noise, made.camera, made.motion
    )  # fmt: skip


def _plane(kind: str, rng: np.random.Generator, count: int, noise: float) -> Correspondences:
    moving = rng.uniform((0, 0), _SIZE, (count, 2))
    middle = np.array(_SIZE) / 2
    angle, scale = rng.uniform(-np.pi, np.pi), 1.0 if kind == "rigid" else np.exp(rng.uniform(-0.5, 0.5))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = np.eye(3)
    matrix[:2, :2] = scale * turn
    if kind in ("affine", "homography"):
        matrix[:2, :2] @= np.eye(2) + rng.uniform(-0.3, 0.3, (2, 2))
    if kind == "homography":
        matrix[2, :2] = rng.uniform(-5e-4, 5e-4, 2)
    centre = np.eye(3)
    centre[:2, 2] = -middle
    shift = np.eye(3)
    shift[:2, 2] = middle + rng.uniform(-100, 100, 2)
    made = {"rigid": Rigid, "similarity": Similarity, "affine": Affine, "homography": Homography}[kind]
    truth = made(shift @ matrix @ centre)
    clean = truth(moving)
    return Correspondences(
        clean + rng.normal(0, noise, clean.shape), moving, truth, np.ones(count, bool), clean, noise
    )  # fmt: skip


def _space(kind: str, rng: np.random.Generator, count: int, noise: float) -> Correspondences:
    moving = rng.uniform(-2, 2, (count, 3)) + rng.uniform(-5, 5, 3)
    turn = Rotation.random(random_state=int(rng.integers(2**31))).as_matrix()
    shift = rng.uniform(-5, 5, 3)
    truth = (
        Rigid.from_parts(turn, shift)
        if kind == "rigid-3d"
        else Similarity.from_parts(turn, shift, float(np.exp(rng.uniform(-1, 1))))
    )
    clean = truth(moving)
    return Correspondences(
        clean + rng.normal(0, noise, clean.shape), moving, truth, np.ones(count, bool), clean, noise
    )  # fmt: skip


def _views(
    kind: str, rng: np.random.Generator, count: int, noise: float, planar: float, camera: Camera
) -> Correspondences:
    """Points 4 to 10 units in front of two cameras, one to two units apart; all are seen by both."""
    width, height = camera.size or _SIZE
    motion = Rigid.from_parts(
        Rotation.from_rotvec(rng.normal(0, 0.1, 3)).as_matrix(), _direction(rng) * rng.uniform(1, 2)
    )
    normal = _direction(rng) + np.array([0, 0, -2.0])
    points, pixels, others = np.empty((0, 3)), np.empty((0, 2)), np.empty((0, 2))
    while len(points) < count:
        tried = rng.uniform((0, 0), (width, height), (4 * count, 2))
        rays = camera.rays(tried)
        depth = rng.uniform(4, 10, len(tried)) / rays[:, 2]
        flat = rng.random(len(tried)) < planar
        # The plane through (0, 0, 7).
        depth = np.where(flat, 7 * normal[2] / (rays @ normal), depth)
        there = rays * depth[:, None]
        seen = camera(motion(there))
        good = (depth * rays[:, 2] > 1) & (depth < 40) & camera.inside(np.nan_to_num(seen, nan=-9.0))
        points = np.concatenate([points, there[good]])
        pixels, others = np.concatenate([pixels, tried[good]]), np.concatenate([others, seen[good]])
    points, pixels, others = points[:count], pixels[:count], others[:count]
    right = np.ones(count, bool)
    clean = others
    seen = others + rng.normal(0, noise, others.shape)
    if kind == "pose":
        return Correspondences(seen, points, motion, right, clean, noise, camera, motion)
    essential = Essential(cross_matrices(motion.translation) @ motion.rotation)
    inverse = np.linalg.inv(camera.matrix)
    truth = essential if kind == "essential" else Fundamental(inverse.T @ essential.matrix @ inverse)
    return Correspondences(
        seen, pixels + rng.normal(0, noise, pixels.shape), truth, right, clean, noise, camera, motion
    )  # fmt: skip


def _direction(rng: np.random.Generator) -> F64:
    made = rng.normal(size=3)
    return np.asarray(made / np.linalg.norm(made))
