"""Where a camera is, from points in space and the pixels that show them (PnP)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from avfuse.errors import StreamError
from avfuse.robust import Estimator, Rng
from avfuse.rotations import nearest_rotation
from avfuse.spatial.correspondences.agreement import (
    Problem,
    around,
    axes_of,
    crowded,
    estimate,
    in_line,
    in_one,
    limit_of,
    points_of,
    too_few,
    view_size,
)
from avfuse.spatial.correspondences.epipolar import flat_rays
from avfuse.spatial.correspondences.transforms import kept
from avfuse.transform import Camera, Rigid, Transform
from avfuse.transform_estimate import TransformEstimate

F64 = NDArray[np.float64]

_OPEN = 1.0  # of the scene's size: a pose that may be off by more is open
_LIKELY = 9.0  # twice the log likelihood that another pose may have less and still be a candidate
_OTHER = 1e-3  # radians between poses that are two
_LINE = 1e-4  # of their length: points closer to a line tell no pose


def estimate_pose(
    pixels: ArrayLike,
    points: ArrayLike,
    *,
    camera: Camera,
    threshold: float = 3.0,
    scores: ArrayLike | None = None,
    rng: Rng = None,
) -> TransformEstimate:
    """The pose that shows most of the points where they are seen: camera(T(points)) are the pixels.

    pixels: `(n, 2)`, as the camera took them. points: `(n, 3)`, row by row what they show, in any unit.
    camera: with its own `pose` left as it is, so that of a camera on a rig the rig's pose is found; where it has none,
    T is T_camera_points. `camera @ T` then takes the points themselves.
    threshold: distance in pixels up to which a correspondence agrees. scores, rng: as of `estimate_homography`.

    Samples of three points (Persson and Nordberg 2018), refined by all. `degenerate` where the points are too few or in
    one line, `no_match` where no more agree than chance would give, `ambiguous` where two poses explain as much: a
    small plane and its mirror image (Schweighofer and Pinz 2006). Raises StreamError for arrays that do not fit.
    """
    called, limit = "estimate_pose", limit_of("estimate_pose", threshold)
    if not isinstance(camera, Camera):
        raise StreamError(f"{called}: camera {camera!r}; expected a Camera")
    seen, space = points_of(called, pixels, (2,), "pixels"), points_of(called, points, (3,), "points")
    if len(seen) != len(space):
        raise StreamError(f"{called}: {len(seen)} pixels and {len(space)} points; expected as many")
    estimator = _pose()
    refused = too_few(len(seen), estimator, "pose")
    if refused is not None:
        return refused
    if in_one(space, _LINE * view_size(space), 1) or in_one(seen, limit, 0):
        return TransformEstimate(
            "degenerate",
            message="all points lie in one line, or are seen as one, which leaves a pose open: use more of the scene",
            diagnostics={"kind": "rigid"},
        )
    flat, turn = flat_rays(camera, seen, "pixels", called)
    middle, size = space.mean(axis=0), view_size(space)
    data = np.ascontiguousarray(np.concatenate([flat, (space - middle) / size, turn.reshape(-1, 4)], axis=1).T)
    # The model's pose is the camera's; that of the camera's own frame is taken off again.
    mount = camera.pose.inverse().matrix

    def matrices(models: F64) -> F64:
        entries = models.reshape(-1, 3, 4)
        found = np.tile(np.eye(4), (len(entries), 1, 1))
        found[:, :3, :3] = nearest_rotation(entries[:, :, :3])
        found[:, :3, 3] = size * entries[:, :, 3] - found[:, :3, :3] @ middle
        return np.asarray(mount @ found)

    def errors(transform: Transform) -> F64:
        return np.asarray(camera(transform(space)) - seen)  # type: ignore[operator]

    def local(near: F64, about: F64) -> F64:
        relative = near[:, :3, :3] @ about[:3, :3].T
        half = (relative - relative.transpose(0, 2, 1)) / 2
        angles = np.stack([half[:, 2, 1], half[:, 0, 2], half[:, 1, 0]], axis=1)
        return np.concatenate([angles, near[:, :3, 3] - about[:3, 3]], axis=1)

    def probes(inliers: NDArray[np.bool_]) -> tuple[Callable[[F64], F64], float]:
        places = around(space[inliers])

        def say(those: F64) -> F64:
            there = places @ those[:, :3, :3].transpose(0, 2, 1) + those[:, None, :3, 3]
            return np.asarray(there.reshape(len(those), -1))

        return say, _OPEN * view_size(space[inliers])

    def rivals(_transform: Transform, model: F64, sigma: float) -> tuple[Transform, ...]:
        other = _mirrored(estimator, model, data, limit, sigma)
        return () if other is None else (problem.make(other),)

    def suspect(_transform: Transform, inliers: NDArray[np.bool_]) -> str | None:
        closer = _LINE * view_size(space[inliers])
        if in_line(space, inliers, closer, estimator, problem.share, 2):
            return "the points that agree lie in one line, about which the pose may turn: use more of the scene"
        return None

    problem = Problem(
        called, "pose", estimator, data, limit, limit, crowded(seen, limit), matrices, Rigid, errors, local, probes,
        (seen, space),
    )  # fmt: skip
    return estimate(problem, scores=scores, rng=rng, suspect=suspect, rivals=rivals)


def _mirrored(estimator: Estimator, model: F64, data: F64, limit: float, sigma: float) -> F64 | None:
    """The pose in which a flat scene is tilted the other way, where that explains the pixels as well."""
    near = estimator.squared(model, data) <= limit**2
    points = data[2:5, near].T
    middle, _, axes = axes_of(points)
    pose = model.reshape(3, 4)
    there = pose[:, :3] @ middle + pose[:, 3]
    view = there / np.linalg.norm(there)
    # The scene's two long axes as the camera sees them, their depths turned about.
    longest, second = axes[2], axes[1]
    seen = [pose[:, :3] @ a for a in (longest, second)]
    seen = [a - 2 * (view @ a) * view for a in seen]
    turn = np.column_stack([*seen, np.cross(seen[0], seen[1])]) @ np.stack([longest, second, np.cross(longest, second)])
    start = np.column_stack([turn, there - turn @ middle])
    other = np.ascontiguousarray(start.ravel())
    _, refine, _ = estimator.compiled
    none = np.zeros(0)
    square = limit * limit
    # All that agree take part, however far the first guess is off; then those that agree with it.
    own = np.ascontiguousarray(data[:, near])
    refine(other, np.inf, own, 1e4 * square, none, none, estimator.free, 50, 1e-10)
    angle = Rotation.from_matrix(other.reshape(3, 4)[:, :3] @ pose[:, :3].T).magnitude()
    if angle < _OTHER:
        return None
    variance = max(sigma, 1e-9) ** 2
    first, second_sum = (float(np.minimum(estimator.squared(m, own), square).sum()) for m in (model, other))
    return other if (second_sum - first) / variance < _LIKELY else None


def _pose() -> Estimator:
    from avfuse._kernels import pose as k
    from avfuse._kernels import similar

    return kept(
        "pose", k.pose_solve, k.pose_residuals, k.pose_normal, similar.similar_tangent, similar.similar_retract,
        3, 4, 12, 6, 2,
    )  # fmt: skip
