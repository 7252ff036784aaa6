"""What two pictures from different places share: the fundamental matrix, and the essential one of known cameras.

    estimate_fundamental(reference, moving)              x_ref^T F x_mov = 0 of pixels
    estimate_essential(reference, moving, cameras=...)   the same of rays; its four poses are `.transform.poses()`

Distances are Sampson's (Hartley and Zisserman, section 11.4.3), in pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from avfuse.errors import StreamError
from avfuse.robust import Estimator, Rng, consensus, log_chance
from avfuse.spatial.correspondences.agreement import (
    Problem,
    different,
    estimate,
    frame_of,
    in_one,
    kind_of,
    limit_of,
    pairs_of,
    too_few,
    view_size,
    with_article,
)
from avfuse.spatial.correspondences.transforms import homography_estimator, kept
from avfuse.transform import Camera, Essential, Fundamental, Rigid, Transform
from avfuse.transform_estimate import TransformEstimate

F64 = NDArray[np.float64]

_NAMES = ("reference", "moving")
_OFF_CHANCE = -2.0  # logarithm of how often points off a plane agree by chance, above which the scene is flat
_PLANE = 1.5  # thresholds within which points count as lying on the plane
_BY_NOISE = 0.01  # points of a plane that may lie farther off it than what counts as off
_FAR2 = 1e30  # squared pixels
_OPEN = 0.5  # of the matrix's norm, 1: one whose entries may be off by more is open


def estimate_fundamental(
    reference: ArrayLike, moving: ArrayLike, *, threshold: float = 3.0, scores: ArrayLike | None = None, rng: Rng = None
) -> TransformEstimate:
    """The fundamental matrix, x_ref^T F x_mov = 0, that most of the correspondences agree with.

    reference, moving: `(n, 2)`, row by row the same thing seen from two places, in pixels of undistorted pictures.
    threshold: Sampson's distance, in pixels, up to which a correspondence agrees.
    scores, rng: as of `estimate_homography`.

    Samples that lie on a plane are completed by points off it (DEGENSAC; Chum, Werner and Matas 2005). `degenerate`
    where too few points are off the plane, or the camera only turned: then a homography tells all there is. `no_match`
    where no more agree than chance would give, `ambiguous` where two motions explain as much. Raises StreamError for
    arrays that do not fit.
    """
    called, limit = "estimate_fundamental", limit_of("estimate_fundamental", threshold)
    ref, mov = pairs_of(called, reference, moving, (2,))
    estimator = _fundamental()
    refused = too_few(len(ref), estimator, "fundamental matrix") or _flat(ref, mov, limit, "fundamental matrix")
    if refused is not None:
        return refused
    (to, scale), (of, unit) = frame_of(ref), frame_of(mov)
    left, right = np.diag([scale, scale, 1.0]), np.diag([unit, unit, 1.0])
    left[:2, 2], right[:2, 2] = -scale * to, -unit * of

    def matrices(models: F64) -> F64:
        return _normed(left.T @ models.reshape(-1, 3, 3) @ right)

    data = np.empty((6, len(ref)))
    data[:2], data[2:4], data[4], data[5] = ((ref - to) * scale).T, ((mov - of) * unit).T, scale**2, unit**2

    def errors(transform: Transform) -> F64:
        off = sampson(transform.matrix, ref, mov, np.ones(len(ref)), np.ones(len(ref)))
        return _in_front(transform.matrix, ref, mov, off, limit)

    return _estimate(
        called, "fundamental matrix", estimator, Fundamental, data, limit, (ref, mov), matrices, errors, scores, rng
    )


def estimate_essential(
    reference: ArrayLike,
    moving: ArrayLike,
    *,
    cameras: Camera | tuple[Camera, Camera],
    threshold: float = 3.0,
    scores: ArrayLike | None = None,
    rng: Rng = None,
) -> TransformEstimate:
    """The essential matrix, x_ref^T E x_mov = 0 of rays (x, y, 1), that most of the correspondences agree with.

    reference, moving: `(n, 2)`, pixels as the cameras took them, lens distortion and all.
    cameras: that of the reference and that of the moving, or one for both; their poses do not count.
    threshold: Sampson's distance up to which a correspondence agrees, in pixels, by the size that a pixel has there;
    more by as much as a point lies beyond where it can be before both cameras.
    scores, rng: as of `estimate_homography`. Statuses and errors are those of `estimate_fundamental`; a flat scene is
    `degenerate` here too, because two motions explain it.
    """
    called, limit = "estimate_essential", limit_of("estimate_essential", threshold)
    ref, mov = pairs_of(called, reference, moving, (2,))
    both = (cameras, cameras) if isinstance(cameras, Camera) else tuple(cameras)
    if len(both) != 2 or not all(isinstance(c, Camera) for c in both):
        raise StreamError(f"{called}: cameras {cameras!r}; expected a Camera, or two")
    estimator = _essential()
    refused = too_few(len(ref), estimator, "essential matrix") or _flat(ref, mov, limit, "essential matrix")
    if refused is not None:
        return refused
    (a, s), (b, t) = (
        rays_and_scale(camera, pixels, name, called)
        for camera, pixels, name in zip(both, (ref, mov), _NAMES, strict=True)
    )
    data = np.ascontiguousarray(np.concatenate([a.T, b.T, s[None], t[None]]))

    def matrices(models: F64) -> F64:
        return _normed(models[:, :9].reshape(-1, 3, 3))

    def errors(transform: Transform) -> F64:
        off = sampson(transform.matrix, a, b, s, t)
        return np.copysign(np.sqrt(_before_both(estimator, transform.matrix, data, limit))[:, None], off)

    return _estimate(
        called, "essential matrix", estimator, Essential, data, limit, (ref, mov), matrices, errors, scores, rng
    )


def _normed(matrices: F64) -> F64:
    """Of norm 1, the largest entry positive: the sign of such a matrix says nothing."""
    flat = matrices.reshape(-1, 9)
    largest = np.take_along_axis(flat, np.argmax(np.abs(flat), axis=1)[:, None], axis=1)
    return np.asarray((flat * np.sign(largest) / np.linalg.norm(flat, axis=1)[:, None]).reshape(-1, 3, 3))


def sampson(matrix: F64, ref: F64, mov: F64, ref_scale: F64, mov_scale: F64) -> F64:
    """Signed distances `(n, 1)`; scales are the squared sizes of a pixel in the units of the points."""
    x, y = np.column_stack([ref, np.ones(len(ref))]), np.column_stack([mov, np.ones(len(mov))])
    there, here = y @ matrix.T, x @ matrix
    size = ref_scale * np.sum(there[:, :2] ** 2, axis=1) + mov_scale * np.sum(here[:, :2] ** 2, axis=1)
    return np.asarray((np.sum(x * there, axis=1) / np.sqrt(size + 1e-300))[:, None])


def _in_front(matrix: F64, ref: F64, mov: F64, off: F64, limit: float) -> F64:
    """Distances, infinite for points that would lie behind one camera but not the other, going by what most of those
    within the limit do (the oriented constraint of Chum, Werner and Matas 2004)."""
    epipole = np.linalg.svd(matrix)[0][:, 2]
    x, y = np.column_stack([ref, np.ones(len(ref))]), np.column_stack([mov, np.ones(len(mov))])
    side = np.sum((y @ matrix.T) * np.cross(epipole, x), axis=1)
    most = np.sum(np.sign(side[np.abs(off[:, 0]) <= limit]))
    return np.where((side * most < 0)[:, None], np.inf, off)


def _before_both(estimator: Estimator, matrix: F64, data: F64, limit: float) -> F64:
    """Squared distances by that one of the four poses of an essential matrix with which most points agree."""
    direction = np.linalg.svd(matrix)[0][:, 2]
    said = [
        np.minimum(estimator.squared(np.concatenate([e * matrix.ravel(), t * direction]), data), _FAR2)
        for e in (1, -1) for t in (1, -1)
    ]  # fmt: skip
    return min(said, key=lambda squared: float(np.sum(np.minimum(squared, limit**2))))


def rays_and_scale(camera: Camera, pixels: F64, name: str, called: str) -> tuple[F64, F64]:
    """Where pixels lie on the plane one unit in front, `(n, 2)`, and the squared size of a pixel there, `(n,)`."""
    flat, turn = flat_rays(camera, pixels, name, called)
    return flat, np.asarray(1.0 / np.abs(turn[:, 0, 0] * turn[:, 1, 1] - turn[:, 0, 1] * turn[:, 1, 0]))


def flat_rays(camera: Camera, pixels: F64, name: str, called: str) -> tuple[F64, F64]:
    """Where pixels lie on the plane one unit in front, `(n, 2)`, and how pixels move with that, `(n, 2, 2)`."""
    camera = replace(camera, pose=Rigid(np.eye(4)))
    rays = camera.rays(pixels)
    # A ray sideways is none on that plane.
    seen = rays[:, 2] > 1e-3
    if not seen.all():
        raise StreamError(
            f"{called}: {int((~seen).sum())} points of {name} are no pixels of their camera, the first is point "
            f"{int(np.flatnonzero(~seen)[0])}; leave them out, or check the distortion"
        )
    flat = rays[:, :2] / rays[:, 2:]
    step = 1e-5
    turn = np.empty((len(flat), 2, 2))
    for k in range(2):
        sides = []
        for sign in (step, -step):
            moved = np.column_stack([flat, np.ones(len(flat))])
            moved[:, k] += sign
            sides.append(camera(moved))
        turn[:, :, k] = (sides[0] - sides[1]) / (2 * step)
    return flat, turn


def _estimate(
    called: str,
    model: str,
    estimator: Estimator,
    made: type[Fundamental],
    data: F64,
    limit: float,
    points: tuple[F64, F64],
    matrices: Callable[[F64], F64],
    errors: Callable[[Transform], F64],
    scores: ArrayLike | None,
    rng: Rng,
) -> TransformEstimate:
    ref = points[0]
    sides = [np.maximum(np.ptp(p, axis=0), 2 * limit) for p in points]
    # A band about a line through the picture; Sampson's distance shares an error between both pictures.
    shares = [2 * np.sqrt(2) * limit * float(np.hypot(*side) / np.prod(side)) for side in sides]
    share = min(max(shares), 1.0)

    def local(near: F64, about: F64) -> F64:
        entries = near.reshape(-1, 9)
        return np.asarray(entries * np.sign(entries @ about.ravel())[:, None])

    def probes(_inliers: NDArray[np.bool_]) -> tuple[Callable[[F64], F64], float]:
        return (lambda those: those.reshape(-1, 9)), _OPEN

    def suspect(transform: Transform, inliers: NDArray[np.bool_]) -> str | None:
        on = np.ascontiguousarray(np.stack([data[0], data[1], data[2], data[3]])[:, inliers])
        pixel = float(np.sqrt(np.median(data[4])))
        plane = consensus(homography_estimator(), on, _PLANE * limit * pixel, rng=0, rivals=False)
        if plane is None:
            return f"all points that agree lie in one line, which leaves the {model} open"
        # Points of the plane lie off it by the noise of both pictures, which is told by what they are off their lines.
        noise = 1.4826 * float(np.median(np.abs(errors(transform)[inliers])))
        grown = view_size(points[0][inliers]) / view_size(points[1][inliers])
        # A share exp(-k^2 / 2) of Rayleigh's distribution lies beyond k standard deviations.
        noise *= float(np.hypot(1.0, grown) * np.sqrt(2 * np.log(inliers.sum() / _BY_NOISE)))
        reach = max(_PLANE * limit, noise) * pixel
        flat = homography_estimator().squared(plane.model, np.ascontiguousarray(data[:4])) <= reach**2
        off = different(ref[inliers & ~flat])
        among = int(np.sum(~flat))
        # The plane is given: an epipole, by two points, makes a matrix of it.
        chance = log_chance(among, off, replace(estimator, sample=2, models=1), share)
        if chance <= _OFF_CHANCE:
            return None
        return (
            f"{int(np.sum(inliers & flat))} of the {int(inliers.sum())} points that agree lie on one plane, or the "
            f"camera only turned; that leaves the {model} open: use estimate_homography"
        )

    problem = Problem(
        called, model, estimator, data, limit, limit, share, matrices, made, errors, local, probes, points
    )  # fmt: skip
    return estimate(problem, scores=scores, rng=rng, suspect=suspect)


def _flat(ref: F64, mov: F64, limit: float, model: str) -> TransformEstimate | None:
    if not (in_one(ref, limit, 1) or in_one(mov, limit, 1)):
        return None
    return TransformEstimate(
        "degenerate",
        message=f"all points lie within {limit:g} of one line, which leaves {with_article(model)} open: use more "
        "of the scene",
        diagnostics={"kind": kind_of(model)},
    )


def _fundamental() -> Estimator:
    from avfuse._kernels import epipolar as k

    return kept(
        "fundamental", k.fundamental_solve, k.epipolar_residuals, k.epipolar_normal, k.epipolar_tangent,
        k.epipolar_retract, 7, 3, 9, 7, 1, k.fundamental_upgrade,
    )  # fmt: skip


def _essential() -> Estimator:
    from avfuse._kernels import essential as k

    return kept(
        "essential", k.essential_solve, k.essential_residuals, k.essential_normal, k.essential_tangent,
        k.essential_retract, 5, 10, 12, 5, 1,
    )  # fmt: skip
