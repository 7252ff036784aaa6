"""From correspondences to a TransformEstimate: found by `avfuse.robust`, then asked whether it can be believed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from avfuse.errors import StreamError
from avfuse.robust import Estimator, Rng, Spread, clumping, consensus, least_agreeing, log_chance, settled, spread
from avfuse.transform import Transform
from avfuse.transform_estimate import TransformEstimate

F64 = NDArray[np.float64]

_CHANCE = -3.0  # logarithm of the number of models that chance may offer: one refusal missed in a thousand
_SAMPLE = 100  # reference points whose distances tell how crowded they are
_SLENDER, _LINES, _BESIDE = 0.35, 60, -2.0  # widths over length that look like a line, lines tried, chance off it
_SURE = 1 - 1e-4  # the search itself misses one in 10,000


@dataclass(frozen=True, eq=False)
class Problem:
    """Correspondences as an estimator takes them, and how its models are told in the units of the caller.

    called, model: the function and its transform, for messages. data, threshold: as the estimator takes them.
    limit: the threshold in the units of `errors`. share: probability that an unrelated correspondence lies within it.
    matrices: those of models `(b, entries)`, `(b, D, D)`. transform: from one of them. errors: `(n, d)` signed
    distances of a transform. local: the coordinates `(b, q)`, about a matrix, that a covariance is stated in. probes:
    what matrices say of some places, `(b, m)`, and how unsure that may be, given the inliers. points: reference and
    moving, for counts of different ones.
    """

    called: str
    model: str
    estimator: Estimator
    data: F64
    threshold: float
    limit: float
    share: float
    matrices: Callable[[F64], F64]
    transform: Callable[[F64], Transform]
    errors: Callable[[Transform], F64]
    local: Callable[[F64, F64], F64]
    probes: Callable[[NDArray[np.bool_]], tuple[Callable[[F64], F64], float]]
    points: tuple[F64, F64]

    def make(self, model: F64) -> Transform:
        return self.transform(self.matrices(model[None])[0])


def estimate(
    problem: Problem,
    *,
    scores: ArrayLike | None,
    rng: Rng,
    suspect: Callable[[Transform, NDArray[np.bool_]], str | None] | None = None,
    rivals: Callable[[Transform, F64, float], tuple[Transform, ...]] | None = None,
) -> TransformEstimate:
    """Find, then judge. suspect: says why what agrees still cannot tell the transform, or None. rivals: other
    transforms that explain the same correspondences as well."""
    n = problem.data.shape[1]
    kind: dict[str, Any] = {"kind": kind_of(problem.model), "threshold": problem.limit}
    least = least_agreeing(n, problem.estimator, problem.share, _CHANCE)
    found = consensus(
        problem.estimator, problem.data, problem.threshold, scores=scores_of(scores, n, problem.called), rng=rng,
        least=least,
    )  # fmt: skip
    if found is None:
        return TransformEstimate(
            "degenerate",
            message=f"no {problem.estimator.sample} of the {n} correspondences determine "
            f"{with_article(problem.model)}: they lie on one another or in one line",
            diagnostics=kind,
        )
    try:
        transform = problem.make(found.model)
    except StreamError:
        # Chance likes a map onto a point or a line best of all.
        return TransformEstimate(
            "no_match",
            message=f"the {problem.model} that most of the {n} correspondences agree with maps all to one point or "
            "line: better matches, or a threshold that fits their errors, may help",
            diagnostics=kind,
        )
    errors = problem.errors(transform)
    model, reach, data = found.model, found.reach, problem.data
    if problem.estimator.dimensions == 1 and not np.isfinite(errors).all():
        # What lies on a line but behind a camera took part until here: fitted again without.
        data = np.ascontiguousarray(data[:, np.isfinite(errors[:, 0])])
        model, reach = settled(problem.estimator, model, data, problem.threshold)
        transform = problem.make(model)
        errors = problem.errors(transform)
    residuals = np.sqrt(np.sum(errors**2, axis=1))
    residuals = np.where(np.isfinite(residuals), residuals, np.inf)
    inliers = residuals <= problem.limit
    # Doubles of one point agree for one reason only.
    agree = min(different(p[inliers]) for p in problem.points)
    chance = log_chance(n, agree, problem.estimator, problem.share)
    kind |= {"log10_chance": chance, "draws": found.draws, "rng": "seed 0" if rng is None else "given"}
    seen: dict[str, Any] = {"inliers": inliers, "residuals": residuals, "diagnostics": kind}
    if chance > _CHANCE:
        return TransformEstimate(
            "no_match",
            message=f"the best {problem.model} agrees with {agree} of {n} correspondences within {problem.limit:g}, no "
            "more than chance would give: better matches, or a threshold that fits their errors, may help",
            **seen,
        )
    reason = suspect(transform, inliers) if suspect is not None else None
    known = spread(problem.estimator, model, data, reach)
    cov = None
    if known is not None:
        cov, unsure, allowed = _stated(problem, model, transform, known, inliers)
        grown = clumping(errors[inliers], problem.points[1][inliers])
        cov = cov * grown
        kind |= {"sigma": known.sigma * problem.limit / problem.threshold, "clumping": grown}
        if not unsure <= allowed:
            known = None
    if reason is not None or known is None:
        return TransformEstimate(
            "degenerate",
            message=reason
            or f"the {agree} correspondences that agree leave the {problem.model} open: they lie close to one another, "
            "or in one line",
            **seen,
        )
    others = () if rivals is None else rivals(transform, model, known.sigma)
    if found.rival is not None:
        others = (*others, problem.make(found.rival))
    if others:
        return TransformEstimate(
            "ambiguous",
            message=f"{len(others) + 1} different transforms ({problem.model}) explain nearly as many correspondences; "
            "they are the candidates",
            candidates=(transform, *others),
            confidence=0.0,
            **seen,
        )
    confidence = _SURE * (1 - 10.0**chance)
    return TransformEstimate("aligned", transform, cov, confidence=confidence, **seen)


def _stated(
    problem: Problem, model: F64, transform: Transform, known: Spread, inliers: NDArray[np.bool_]
) -> tuple[F64, float, float]:
    """Covariance in the coordinates that are stated; the largest standard deviation of what the transform says of a
    place in view; how large it may be."""
    say, allowed = problem.probes(inliers)
    free = problem.estimator.free
    # Small beside what is known, large beside rounding.
    steps = np.diag(np.maximum(1e-3 * np.sqrt(np.diag(known.cov)), 1e-7))
    sides = problem.matrices(np.stack([problem.estimator.moved(model, s) for s in (*steps, *-steps)]))
    width = 2 * np.diag(steps)[:, None]
    about, told = problem.local(sides, transform.matrix), say(sides)
    slope = ((about[:free] - about[free:]) / width).T
    places = ((told[:free] - told[free:]) / width).T  # (m, free)
    variance = np.einsum("mf,fg,mg->m", places, known.cov, places)
    unsure = float(np.sqrt(variance.max(initial=0.0))) if np.isfinite(variance).all() else np.inf
    cov = slope @ known.cov @ slope.T
    if problem.estimator.dimensions == 1:
        cov = cov + _bent(problem, model, transform, known, slope)
    return cov, unsure, allowed


def _bent(problem: Problem, model: F64, transform: Transform, known: Spread, slope: F64) -> F64:
    """What the curvature of the stated coordinates adds to their covariance: to second order, along its main axes, in
    the space in which they vary.

    Epipolar geometry is known a hundred times better in some directions than in others: a step along the latter bends
    away by more than the former are known.
    """
    scale = np.sqrt(np.diag(known.cov))
    root = np.linalg.cholesky(known.cov / np.outer(scale, scale)) * scale[:, None]
    varies, _, axes = np.linalg.svd(slope @ root, full_matrices=False)
    steps = axes @ root.T
    sides = problem.matrices(np.stack([problem.estimator.moved(model, s.copy()) for s in (*steps, *-steps)]))
    about, here = problem.local(sides, transform.matrix), problem.local(transform.matrix[None], transform.matrix)
    bend = (0.5 * (about[: len(steps)] + about[len(steps) :]) - here) @ varies @ varies.T  # half a second derivative
    shift = bend.sum(axis=0)
    return np.asarray(2 * bend.T @ bend + np.outer(shift, shift))


# What all estimators ask of their arguments


def points_of(called: str, given: ArrayLike, dimensions: tuple[int, ...], name: str) -> F64:
    """`(n, d)`, finite. Raises StreamError for anything else."""
    try:
        x = np.array(given, np.float64)
    except (TypeError, ValueError):
        raise StreamError(f"{called}: {name} is no array of numbers; expected points (n, d)") from None
    if x.size == 0 and x.ndim < 2:
        x = x.reshape(0, dimensions[0])
    if x.ndim != 2 or x.shape[1] not in dimensions:
        expected = " or ".join(f"(n, {d})" for d in dimensions)
        raise StreamError(f"{called}: {name} of shape {x.shape}; expected {expected}")
    bad = np.flatnonzero(~np.isfinite(x).all(axis=1))
    if bad.size:
        raise StreamError(
            f"{called}: {name} has {bad.size} points that are not finite, the first is point {bad[0]}; leave such "
            "correspondences out"
        )
    return x


def pairs_of(called: str, reference: ArrayLike, moving: ArrayLike, dimensions: tuple[int, ...]) -> tuple[F64, F64]:
    """Both `(n, d)`, finite, of equal shape. Raises StreamError for anything else."""
    ref, mov = points_of(called, reference, dimensions, "reference"), points_of(called, moving, dimensions, "moving")
    if ref.shape != mov.shape:
        raise StreamError(
            f"{called}: reference of shape {ref.shape} and moving of shape {mov.shape}; expected as many points of as "
            "many dimensions"
        )
    return ref, mov


def limit_of(called: str, threshold: float | None) -> float:
    if threshold is None:
        raise StreamError(f"{called}: points in space need a threshold, in their units; give threshold=")
    if not (isinstance(threshold, int | float | np.number) and np.isfinite(threshold) and threshold > 0):
        raise StreamError(f"{called}: threshold {threshold!r}; expected a positive number")
    return float(threshold)


def scores_of(scores: ArrayLike | None, n: int, called: str) -> F64 | None:
    if scores is None:
        return None
    made = np.array(scores, np.float64)
    if made.shape != (n,) or np.isnan(made).any():
        raise StreamError(
            f"{called}: scores of shape {made.shape}; expected ({n},), one number for each correspondence"
        )
    return made


def too_few(n: int, estimator: Estimator, model: str) -> TransformEstimate | None:
    """The refusal of so few correspondences that any model fits them."""
    if n > estimator.sample:
        return None
    return TransformEstimate(
        "degenerate",
        message=f"{n} correspondences; {with_article(model)} passes through any {estimator.sample}, and at least one "
        "more has to confirm it",
        diagnostics={"kind": kind_of(model)},
    )


def with_article(noun: str) -> str:
    """With its article."""
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def kind_of(model: str) -> str:
    """A transform's kind, from what messages call it."""
    return "rigid" if model == "pose" else model.split(maxsplit=1)[0]


def in_line(
    points: F64, agree: NDArray[np.bool_], closer: float, estimator: Estimator, share: float, confirm: int
) -> bool:
    """Whether those that agree lie in one line, `closer` to it, but for no more than chance adds: a few outliers off it
    always fit what a line leaves open. confirm: points off a line that determine the rest."""
    own = points[agree]
    _, sizes, _ = axes_of(own)
    if sizes[-2] > _SLENDER * sizes[-1]:
        return False
    random = np.random.default_rng(0)
    starts, stops = (own[random.integers(0, len(own), _LINES)] for _ in range(2))
    ways = stops - starts
    length = np.linalg.norm(ways, axis=1)
    starts, ways = starts[length > 0], ways[length > 0] / length[length > 0, None]
    # Squared distances from every line, as products of matrices; from the middle, so that no digits are lost.
    middle = middle_of(own)
    own, starts = own - middle, starts - middle
    along = own @ ways.T - np.sum(starts * ways, axis=1)
    off = np.sum(own**2, axis=1)[:, None] - 2 * own @ starts.T + np.sum(starts**2, axis=1) - along**2
    best = int(np.argmin(np.sum(np.minimum(off, closer**2), axis=0)))
    everyone = points - middle - starts[best]
    beside = np.sum(everyone**2, axis=1) - (everyone @ ways[best]) ** 2 > closer**2
    chance = log_chance(int(beside.sum()), different(points[beside & agree]), replace(estimator, sample=confirm), share)
    return chance > _BESIDE


def different(points: F64) -> int:
    """How many of them are not the same."""
    # One number each: points that differ share none but by a freak of rounding.
    return len(np.unique(points @ np.array([1.0, np.pi, np.e])[: points.shape[1]]))


def middle_of(points: F64) -> F64:
    """The mean of points `(n, d)`; a product, which is faster than a sum along so short rows."""
    return np.asarray(np.ones(len(points)) @ points / max(len(points), 1))


def axes_of(points: F64) -> tuple[F64, F64, F64]:
    """Middle, standard deviations along the principal axes from the least, and those axes by rows."""
    middle = middle_of(points)
    x = points - middle
    variances, axes = np.linalg.eigh(x.T @ x / max(len(x), 1))
    return middle, np.sqrt(np.maximum(variances, 0.0)), axes.T


def in_one(points: F64, closer: float, dimension: int, known: tuple[F64, F64, F64] | None = None) -> bool:
    """Whether all points lie within `closer` of one point (dimension 0) or line (1). known: their `axes_of`."""
    middle, sizes, axes = axes_of(points) if known is None else known
    # No further away than the root of their mean square: most are told apart by that alone.
    if float(np.sqrt(np.sum(sizes[: len(sizes) - dimension] ** 2))) > closer:
        return False
    away = points - middle
    if dimension == 1:
        away = away - np.outer(away @ axes[-1], axes[-1])
    return bool(np.sum(away**2, axis=1).max(initial=0.0) <= closer**2)


def frame_of(points: F64) -> tuple[F64, float]:
    """Middle and scale that bring points to a mean square of one in each coordinate."""
    middle = middle_of(points)
    x = points - middle
    size = float(np.sqrt(np.vdot(x, x) / max(x.size, 1)))
    return middle, 1.0 / size if size > 0 else 1.0


def crowded(points: F64, limit: float) -> float:
    """Probability that one of `points` lies within `limit` of a place where another lies: as crowded as they are, and
    at least as if they were even over their bounding box."""
    some = points[np.linspace(0, len(points) - 1, min(len(points), _SAMPLE)).astype(int)]
    squared = np.zeros((len(some), len(some)))
    for column in some.T:
        squared += (column[:, None] - column) ** 2
    # Doubles of one point are no crowd: they count once among those that agree.
    near = float(np.sum((squared <= limit**2) & (squared > 0)))
    different = float(np.sum(squared > 0))
    d = points.shape[1]
    ball = np.pi * limit**2 if d == 2 else 4 / 3 * np.pi * limit**3
    sides = np.array([max(float(np.ptp(column)), 2 * limit) for column in np.ascontiguousarray(points.T)])
    return float(min(max(near / max(different, 1.0), ball / np.prod(sides)), 1.0))


def around(points: F64) -> F64:
    """Places as far from the middle along every axis as the points reach along their longest, `(2 d, d)`."""
    middle, sizes, axes = axes_of(points)
    reach = np.sqrt(2.0) * sizes[-1] * axes
    return np.concatenate([middle + reach, middle - reach])


def view_size(points: F64) -> float:
    """Root of the mean squared distance from the middle."""
    x = points - middle_of(points)
    return float(np.sqrt(np.vdot(x, x) / max(len(points), 1)))
