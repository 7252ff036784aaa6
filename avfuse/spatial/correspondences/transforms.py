"""Transforms from point correspondences: homography, affine map, similarity, rigid map.

    estimate_homography(reference, moving)          pictures of a plane, or from one place
    estimate_affine(reference, moving)              the same from far away
    estimate_similarity(reference, moving)          turned, shifted and scaled, in the plane or in space
    estimate_rigid(reference, moving)               turned and shifted

Matches are pairs of rows, many of which may be wrong. All return a TransformEstimate, moving -> reference.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from avfuse.robust import Estimator, Rng
from avfuse.spatial.correspondences.agreement import (
    Problem,
    around,
    axes_of,
    crowded,
    estimate,
    frame_of,
    in_line,
    in_one,
    kind_of,
    limit_of,
    pairs_of,
    too_few,
    view_size,
    with_article,
)
from avfuse.transform import Affine, Homography, Rigid, Similarity, Transform
from avfuse.transform_estimate import TransformEstimate

F64 = NDArray[np.float64]

_OPEN = 0.25  # of the view's size: a transform that may be off by more is open


def estimate_homography(
    reference: ArrayLike, moving: ArrayLike, *, threshold: float = 3.0, scores: ArrayLike | None = None, rng: Rng = None
) -> TransformEstimate:
    """The homography, moving -> reference, that most of the correspondences agree with.

    reference, moving: `(n, 2)`, row by row the same thing seen in both pictures, in pixels.
    threshold: distance in the reference, in pixels, up to which a correspondence agrees.
    scores: `(n,)`, higher for matches to be trusted more; they are tried first (PROSAC), which is faster.
    rng: a seed or a numpy Generator; None is seed 0, so that equal input gives equal output.

    `degenerate` where the points cannot tell it (too few, in one line), `no_match` where no more agree than chance
    would give, `ambiguous` where two homographies explain as much (two planes). Raises StreamError for arrays that do
    not fit.
    """
    called, limit = "estimate_homography", limit_of("estimate_homography", threshold)
    ref, mov = pairs_of(called, reference, moving, (2,))
    homography = homography_estimator()
    refused = too_few(len(ref), homography, "homography") or _flat(ref, mov, limit, 1, "homography", "a similarity")
    if refused is not None:
        return refused
    (to, scale), (of, unit) = frame_of(ref), frame_of(mov)
    back, there = np.diag([1 / scale, 1 / scale, 1.0]), np.diag([unit, unit, 1.0])
    back[:2, 2], there[:2, 2] = to, -unit * of

    def matrices(models: F64) -> F64:
        return np.asarray(back @ models.reshape(-1, 3, 3) @ there)

    def local(near: F64, _about: F64) -> F64:
        entries = near.reshape(-1, 9)
        return np.asarray(entries[:, :8] / entries[:, 8:])

    data = np.ascontiguousarray(np.concatenate([(ref - to) * scale, (mov - of) * unit], axis=1).T)
    problem = _problem(
        called, "homography", homography, data, limit * scale, limit, ref, mov, Homography, matrices, local
    )
    return estimate(problem, scores=scores, rng=rng, suspect=_line(problem, confirm=2))


def estimate_affine(
    reference: ArrayLike, moving: ArrayLike, *, threshold: float = 3.0, scores: ArrayLike | None = None, rng: Rng = None
) -> TransformEstimate:
    """The affine map of the plane, moving -> reference, that most of the correspondences agree with.

    Arguments, statuses and errors are those of `estimate_homography`.
    """
    called, limit = "estimate_affine", limit_of("estimate_affine", threshold)
    ref, mov = pairs_of(called, reference, moving, (2,))
    affine = _similar("affine", 2)
    refused = too_few(len(ref), affine, "affine map") or _flat(ref, mov, limit, 1, "affine map", "a similarity")
    if refused is not None:
        return refused
    return _estimate_similar(called, "affine map", Affine, affine, ref, mov, limit, scores, rng)


def estimate_similarity(
    reference: ArrayLike,
    moving: ArrayLike,
    *,
    threshold: float | None = None,
    scores: ArrayLike | None = None,
    rng: Rng = None,
) -> TransformEstimate:
    """The similarity, moving -> reference, that most of the correspondences agree with.

    reference, moving: `(n, 2)` or `(n, 3)`. threshold: distance in the reference up to which a correspondence agrees;
    3 pixels in the plane unless given, in space it has to be given. Other arguments, statuses and errors are those of
    `estimate_homography`; mirrored points are no similarity.
    """
    return _estimate_turned("similarity", Similarity, reference, moving, threshold, scores, rng)


def estimate_rigid(
    reference: ArrayLike,
    moving: ArrayLike,
    *,
    threshold: float | None = None,
    scores: ArrayLike | None = None,
    rng: Rng = None,
) -> TransformEstimate:
    """The rotation and translation, moving -> reference, that most of the correspondences agree with.

    reference, moving: `(n, 2)` or `(n, 3)`, in equal units. Arguments, statuses and errors are those of
    `estimate_similarity`.
    """
    return _estimate_turned("rigid", Rigid, reference, moving, threshold, scores, rng)


def _estimate_turned(
    kind: str,
    made: type[Similarity],
    reference: ArrayLike,
    moving: ArrayLike,
    threshold: float | None,
    scores: ArrayLike | None,
    rng: Rng,
) -> TransformEstimate:
    called = f"estimate_{kind}"
    model = "similarity" if kind == "similarity" else "rigid map"
    ref, mov = pairs_of(called, reference, moving, (2, 3))
    d = ref.shape[1]
    limit = limit_of(called, 3.0 if threshold is None and d == 2 else threshold)
    estimator = _similar(kind, d)
    # In the plane two different points are enough; in space a line may turn about itself.
    refused = too_few(len(ref), estimator, model) or _flat(ref, mov, limit, d - 2, model, "more of the scene")
    if refused is not None:
        return refused
    return _estimate_similar(called, model, made, estimator, ref, mov, limit, scores, rng)


def _estimate_similar(
    called: str,
    model: str,
    made: type[Affine],
    estimator: Estimator,
    ref: F64,
    mov: F64,
    limit: float,
    scores: ArrayLike | None,
    rng: Rng,
) -> TransformEstimate:
    d = ref.shape[1]
    to, of = ref.mean(axis=0), mov.mean(axis=0)
    # Rigid maps in units of the threshold on both sides; else the moving points as large as the reference.
    scale = 1.0 / limit
    unit = scale if made is Rigid else view_size(ref) * scale / max(view_size(mov), 1e-300)

    def matrices(models: F64) -> F64:
        found = np.zeros((len(models), d + 1, d + 1))
        entries = models.reshape(-1, d, d + 1)
        linear = entries[:, :, :d] * (unit / scale)
        if made is not Affine:
            linear = _rotations(linear, made is Rigid)
        found[:, :d, :d], found[:, d, d] = linear, 1.0
        found[:, :d, d] = to + entries[:, :, d] / scale - linear @ of
        return found

    def local(near: F64, about: F64) -> F64:
        if made is Affine:
            return near[:, :2].reshape(-1, 6)
        turn = near[:, :d, :d] @ np.linalg.inv(about[:d, :d])
        growth = np.linalg.det(turn) ** (1 / d)
        half = (turn - turn.transpose(0, 2, 1)) / (2 * growth[:, None, None])
        angles = half[:, 1:, 0] if d == 2 else np.stack([half[:, 2, 1], half[:, 0, 2], half[:, 1, 0]], axis=1)
        parts = [angles, near[:, :d, d] - about[:d, d]]
        return np.concatenate(parts if made is Rigid else [*parts, np.log(growth)[:, None]], axis=1)

    data = np.ascontiguousarray(np.concatenate([(ref - to) * scale, (mov - of) * unit], axis=1).T)
    problem = _problem(called, model, estimator, data, 1.0, limit, ref, mov, made, matrices, local)
    return estimate(problem, scores=scores, rng=rng, suspect=_line(problem, confirm=1))


def _line(problem: Problem, confirm: int) -> Callable[[Transform, NDArray[np.bool_]], str | None] | None:
    """What is asked of transforms that points in one line leave open."""
    ref, mov = problem.points
    if ref.shape[1] == 2 and problem.estimator.free < 6:
        return None

    def suspect(_transform: Transform, inliers: NDArray[np.bool_]) -> str | None:
        closer = problem.limit * view_size(mov[inliers]) / max(view_size(ref[inliers]), 1e-300)
        if not in_line(mov, inliers, closer, problem.estimator, problem.share, confirm):
            return None
        return f"the points that agree lie in one line, which leaves the {problem.model} open: use more of the scene"

    return suspect


def _rotations(matrices: F64, unit: bool) -> F64:
    """The nearest rotations, times their scales unless `unit`: rounding must not skew what was multiplied often."""
    u, s, vt = np.linalg.svd(matrices)
    turns = u @ vt
    return np.asarray(turns if unit else turns * s.mean(axis=1)[:, None, None])


def _problem(
    called: str,
    model: str,
    estimator: Estimator,
    data: F64,
    threshold: float,
    limit: float,
    ref: F64,
    mov: F64,
    made: type[Homography],
    matrices: Callable[[F64], F64],
    local: Callable[[F64, F64], F64],
) -> Problem:
    def errors(transform: Transform) -> F64:
        mapped = np.asarray(transform(mov))  # type: ignore[operator]
        if estimator.name == "homography":
            # Beyond its horizon a homography still says where points come to lie, but no camera sees them there.
            row = transform.matrix[2]
            middle = mov[np.argmin(np.sum((mapped - ref) ** 2, axis=1))]
            behind = (mov @ row[:2] + row[2]) * (middle @ row[:2] + row[2]) <= 0
            mapped[behind] = np.inf
        return np.asarray(mapped - ref)

    def probes(inliers: NDArray[np.bool_]) -> tuple[Callable[[F64], F64], float]:
        places = around(mov[inliers])

        def say(those: F64) -> F64:
            seen = places @ those[:, :-1, :-1].transpose(0, 2, 1) + those[:, None, :-1, -1]
            seen /= places @ those[:, -1, :-1, None] + those[:, -1:, -1:]
            return seen.reshape(len(those), -1)

        return say, _OPEN * view_size(ref[inliers])

    return Problem(
        called, model, estimator, data, threshold, limit, crowded(ref, limit), matrices, made, errors, local, probes,
        (ref, mov),
    )  # fmt: skip


def _flat(ref: F64, mov: F64, limit: float, dimension: int, model: str, instead: str) -> TransformEstimate | None:
    """The refusal of points that all lie on one another, or in one line."""
    # The moving points have no threshold of their own: one as large as the reference's, by their sizes.
    there, here = axes_of(ref), axes_of(mov)
    own = limit * float(np.linalg.norm(here[1])) / max(float(np.linalg.norm(there[1])), 1e-300)
    if not (in_one(ref, limit, dimension, there) or in_one(mov, own if dimension else 0.0, dimension, here)):
        return None
    together = dimension == 0 or in_one(ref, limit, 0) or in_one(mov, 0.0, 0)
    where = "of one another" if together else "of one line"
    return TransformEstimate(
        "degenerate",
        message=f"all points lie within {limit:g} {where}, which leaves {with_article(model)} open: use {instead}",
        diagnostics={"kind": kind_of(model)},
    )


def homography_estimator() -> Estimator:
    from avfuse._kernels import planar as k

    return kept(
        "homography", k.homography_solve, k.homography_residuals, k.homography_normal, k.homography_tangent,
        k.homography_retract, 4, 1, 9, 8, 2,
    )  # fmt: skip


def _similar(kind: str, d: int) -> Estimator:
    from avfuse._kernels import similar as k

    if kind == "affine":
        solve, sample, free = k.affine_solve, 3, 6
    elif kind == "similarity":
        solve, sample, free = (k.similarity2_solve, 2, 4) if d == 2 else (k.similarity3_solve, 3, 7)
    else:
        solve, sample, free = (k.rigid2_solve, 2, 3) if d == 2 else (k.rigid3_solve, 3, 6)
    residuals = k.residuals2 if d == 2 else k.residuals3
    return kept(
        f"{kind}{d}", solve, residuals, k.similar_normal, k.similar_tangent, k.similar_retract, sample, 1, d * (d + 1),
        free, d,
    )  # fmt: skip


_MADE: dict[str, Estimator] = {}


def kept(name: str, *parts: object) -> Estimator:
    """One of each, for it holds compiled code."""
    if name not in _MADE:
        _MADE[name] = Estimator(name, *parts)  # type: ignore[arg-type]
    return _MADE[name]
