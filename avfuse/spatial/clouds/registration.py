"""Two clouds of points of one place: the rigid map between them, with what it can and cannot tell.

surfaces   thinned clouds with the planes about their points      (surfaces.py)
placing    where to begin when nothing is known                   (placing.py)
fit        iterated closest points from there                     (icp.py)
decide     here
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from avfuse._kernels.points import plane_distances
from avfuse.cores import cores
from avfuse.errors import StreamError
from avfuse.rotations import nearest_rotation
from avfuse.spatial.clouds.icp import Fit, Fitting, fit
from avfuse.spatial.clouds.placing import differ, overlap, poses, sparse
from avfuse.spatial.clouds.surfaces import Cloud, Surface, fitting_voxel, surface_of
from avfuse.transform import Rigid
from avfuse.transform_estimate import TransformEstimate

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Method = Literal["generalised", "plane"]

_THIN = 1e-3  # variance of a plane's points across it, against along it (Segal, Haehnel and Thrun 2009)
_LIMIT, _FAR = 7.0, 4.0  # spacings at which a pair counts nothing, and times that in the first rounds
_SETTLED, _NEARLY = 0.02, 0.2  # spacings of movement at which rounds end; of the first rounds
_ROUNDS = 40
_STRIDE, _WORTH_IT = 4, 4000  # of the points that the first rounds look at, where there are so many
# Points lie on a surface that is nearer than so many spacings, across it by less than half of one or what both are
# rough by, and whose normal is so alike.
_NEAR, _ACROSS, _ROUGH, _ALIKE = 5.0, 0.5, 3.0, 0.9
# The share of the moving points that lie on the reference, times the share of those near it that do, by the axis that
# planes hold least. The best place for another room, two walls on two walls, reaches 0.32, and 0.47 with another such
# place beside it; from one start much less is found by chance.
_AGREED, _AGREED_FROM_START, _SOFT_AGREED = 0.4, 0.17, 0.08  # the last as a logarithm
# What stands out from all other places may agree less: unrelated rooms and streets have another that is 0.57 as good.
_USUAL_OTHER, _LEAST_BAR = 0.6, 0.45
_HELD = 0.02  # of all: an axis that so much of the planes holds
_MOSTLY = 0.5  # of the moving points lie on the reference: what is open then is no sign of a wrong place
_LEAST = 50  # points that must lie on the reference
# Of the best answer's share, at which another one is as good: rooms turned half around reach 0.82 wrongly.
_AS_GOOD, _SOFT_AS_GOOD = 0.85, 0.03
_ACCEPT = 0.9
# A start that nobody gave needs no other beside it where it hardly moved and explains nearly all that it sees.
_HARDLY, _SEES, _EXPLAINS = math.radians(15.0), 0.88, 0.6
_INFORMATION = 0.004  # of the points that must speak for each of six directions; corridors leave 0.0013, streets 0.016
_NEARLY_AS_GOOD = 0.75  # what is told as a candidate
_SPREAD = 1.2  # times what parts of a cloud tell: neighbouring parts err alike, as simulated rooms and streets show
_OTHERS = 3  # distinct answers that are compared


@dataclass(frozen=True)
class _Evidence:
    """share: of the moving points that lie on the reference. near: that have it near. holds: share of those that lie on
    it, by the axis that holds least. across: median distance across the reference's planes, of those near."""

    share: float
    near: float
    holds: float
    across: float
    count: int

    @property
    def agreed(self) -> float:
        return self.share * self.holds


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Of the moving points: which have the reference near, which lie on it, distances across its planes `(n,)`, and the
    normals of both in the reference's frame `(n, 3)`, pointing to one side."""

    near: NDArray[np.bool_]
    on: NDArray[np.bool_]
    across: F64
    ours: F64
    theirs: F64


@dataclass(frozen=True, eq=False)
class _Answer:
    fit: Fit
    pairs: _Pairs
    evidence: _Evidence


def register_points(
    reference: ArrayLike, moving: ArrayLike, *, start: Rigid | None = None, voxel: float | None = None,
    method: Method = "generalised", neighbours: int = 10, robust: float | None = None,
    max_distance: float | None = None, threads: int | None = None, rng: int | np.random.Generator = 0,
) -> TransformEstimate:  # fmt: skip
    """The rigid map that puts the cloud `moving` on the cloud `reference`; both `(n, 3)` in one unit.

    start: where to begin, moving -> reference, good to about four times `max_distance`. None begins with the frames as
        they are, and where that does not explain nearly all that is seen, looks everywhere.
    voxel: edge of the cubes whose points are averaged first, in the units of the points; 0 takes all points; None
        leaves about 11,000.
    method: `generalised` compares the planes of both clouds (Segal, Haehnel and Thrun 2009), `plane` points with the
        reference's planes (Chen and Medioni 1992).
    neighbours: of a point, itself one, that tell its plane.
    robust: how many times the usual distance across a plane a pair may have before it counts less (Cauchy); None lets
        only the distance between its points count.
    max_distance: at which a pair counts nothing; None takes 7 voxels. The first rounds look four times as far.
    threads: None takes all cores. The result is the same for any number.

    Returns a Rigid with the covariance of (rotation vector, translation), from how parts of the cloud disagree.
    `degenerate` where a direction is undetermined (a corridor, a plane, a ball; the message says which), `no_match`
    where the surfaces do not lie on each other anywhere, `ambiguous` where they do so in several places. `inliers` and
    `residuals` are those of the moving points given: whether they lie near the reference's planes, and how far off.
    Raises StreamError for other shapes, NaN, fewer than 30 points, and arguments out of range.
    """
    called = "register_points"
    least = max(30, neighbours + 1)
    _check(called, start, voxel, method, neighbours, robust, max_distance, threads)
    one, two = Cloud.of(reference, "reference", called, least), Cloud.of(moving, "moving", called, least)
    size = fitting_voxel(one) if voxel is None else float(voxel)
    for cloud, argument in ((one, "reference"), (two, "moving")):
        cloud.check_voxel(size, argument, called)
        if not (cloud.high > cloud.low).any():
            return TransformEstimate("degenerate", message=f"all points of {argument} are one", diagnostics=_KIND)
    pool = ThreadPoolExecutor(threads or cores()) if (threads or cores()) > 1 else None
    try:
        (first, _), (second, cube) = (pool.map if pool else map)(lambda c: c.thinned(size), (one, two))
        thinned = [first, second]
        for points, argument in zip(thinned, ("reference", "moving"), strict=True):
            if len(points) < least:
                raise StreamError(
                    f"{called}: voxel {size:g} leaves {len(points)} points of {argument}; expected at least {least}, "
                    "take a smaller one"
                )
        a, b = (pool.map if pool else map)(lambda p: surface_of(p, neighbours), thinned)
        spacing = max(size, a.spacing, b.spacing)
        if spacing == 0.0:
            return TransformEstimate("degenerate", message="most points lie on others", diagnostics=_KIND)
        limit = _LIMIT * spacing if max_distance is None else float(max_distance)
        how = Fitting(_THIN if method == "generalised" else 0.0, limit, _SETTLED * spacing, _ROUNDS, robust)
        solver = _Solver(a, b, how, spacing, pool)
        rng = np.random.default_rng(rng)
        return _decided(solver, one, two, cube, start, rng, size)
    finally:
        if pool is not None:
            pool.shutdown()


_KIND = {"kind": "rigid"}


def _check(
    called: str, start: object, voxel: float | None, method: str, neighbours: int, robust: float | None,
    max_distance: float | None, threads: int | None,
) -> None:  # fmt: skip
    if start is not None and not (isinstance(start, Rigid) and start.dimension == 3):
        raise StreamError(f"{called}: start is {type(start).__name__}; expected a Rigid of space")
    if voxel is not None and not (np.isfinite(voxel) and voxel >= 0):
        raise StreamError(f"{called}: voxel {voxel!r}; expected a size, 0 for none or None")
    if method not in get_args(Method):
        raise StreamError(f"{called}: method {method!r}; expected one of {', '.join(get_args(Method))}")
    if not 4 <= neighbours <= 200:
        raise StreamError(f"{called}: neighbours {neighbours!r}; expected 4 to 200")
    for name, value in (("robust", robust), ("max_distance", max_distance)):
        if value is not None and not (np.isfinite(value) and value > 0):
            raise StreamError(f"{called}: {name} {value!r}; expected a positive number or None")
    if threads is not None and threads < 1:
        raise StreamError(f"{called}: threads {threads!r}; expected at least 1")


class _Solver:
    """Fits of two surfaces, and what they are worth."""

    def __init__(
        self, reference: Surface, moving: Surface, how: Fitting, spacing: float, pool: Executor | None
    ) -> None:
        self.reference, self.moving, self.how, self.spacing, self.pool = reference, moving, how, spacing, pool

    def from_near(self, rotation: F64, translation: F64) -> _Answer:
        """By a part of the points that look twice as far, then by all."""
        if len(self.moving) > _WORTH_IT:
            first = Fitting(self.how.thin, 2 * self.how.limit, _NEARLY * self.spacing, self.how.rounds, self.how.robust)
            found = fit(self.reference, self.moving, rotation, translation, first, self.pool, _STRIDE)
            rotation, translation = found.rotation, found.translation
        found = fit(self.reference, self.moving, rotation, translation, self.how, self.pool)
        pairs = self.paired(found)
        return _Answer(found, pairs, self.evidence(pairs))

    def paired(self, found: Fit) -> _Pairs:
        a, b = self.reference, self.moving
        moved, theirs = found(b.points), b.normals @ found.rotation.T
        ours = a.normals[found.match]
        agree = (ours * theirs).sum(axis=1)
        across = np.abs(((a.points[found.match] - moved) * ours).sum(axis=1))
        near = (found.match >= 0) & (found.squared < (_NEAR * self.spacing) ** 2)
        on = near & (across < self.tolerance) & (np.abs(agree) > _ALIKE)
        return _Pairs(near, on, across, ours, theirs * np.sign(agree)[:, None])

    @property
    def tolerance(self) -> float:
        return max(_ACROSS * self.spacing, _ROUGH * math.hypot(self.reference.rough, self.moving.rough))

    def evidence(self, pairs: _Pairs) -> _Evidence:
        near, on, across, theirs = pairs.near, pairs.on, pairs.across, pairs.theirs
        if on.sum() < _LEAST:
            return _Evidence(float(on.mean()), float(near.mean()), 0.0, math.inf, int(on.sum()))
        weight = self.moving.planarity
        values, axes = np.linalg.eigh(theirs.T @ (theirs * weight[:, None]))
        along = (theirs @ axes) ** 2 * weight[:, None]
        holds = along[on].sum(axis=0) / np.maximum(along[near].sum(axis=0), 1e-12)
        # An axis that no plane holds is no evidence, for or against.
        held = values > _HELD * values.sum()
        return _Evidence(
            float(on.mean()),
            float(near.mean()),
            float(holds[held].min()),
            float(np.median(across[near])),
            int(on.sum()),
        )

    def everywhere(self, rng: np.random.Generator, known: Sequence[_Answer]) -> list[_Answer]:
        """The best distinct answers from every start worth trying, beside those known, best first."""
        a, b = sparse(self.reference), sparse(self.moving)
        wide = max(a.spacing, b.spacing)
        far, close = (Fitting(self.how.thin, x * wide, y * wide, 15) for x, y in ((10.0, 0.2), (4.0, 0.05)))

        def come_to(pose: tuple[F64, F64]) -> tuple[float, Fit]:
            found = fit(a, b, *pose, far)
            found = fit(a, b, found.rotation, found.translation, close)
            return overlap(a, b, (found.rotation, found.translation), 2 * wide), found

        starts = poses(a, b, rng) + [(k.fit.rotation, k.fit.translation) for k in known]
        tried = list((self.pool.map if self.pool else map)(come_to, starts))
        answers: list[_Answer] = []
        taken: list[Fit] = []
        for _, found in sorted(tried, key=lambda some: -some[0]):
            if len(taken) == _OTHERS:
                break
            if all(self._apart(found, other, 2 * wide) for other in taken):
                taken.append(found)
                answers.append(self.from_near(found.rotation, found.translation))
        answers += known
        distinct: list[_Answer] = []
        for some in sorted(answers, key=lambda k: -self.score(k, answers)):
            if all(self._apart(some.fit, other.fit, 2 * _NEAR * self.spacing) for other in distinct):
                distinct.append(some)
        return distinct

    def score(self, some: _Answer, among: Sequence[_Answer]) -> float:
        """Share of the moving points that lie on the reference, as finely as the best of all answers lets them."""
        finest = min(max(3 * min(k.evidence.across for k in among), 0.02 * self.spacing), self.tolerance)
        return float((some.pairs.on & (some.pairs.across < finest)).mean())

    def _apart(self, one: Fit, two: Fit, least: float) -> bool:
        return differ((one.rotation, one.translation), (two.rotation, two.translation), self.moving.radius, least)


def _decided(
    solver: _Solver, one: Cloud, two: Cloud, cube: I64, start: Rigid | None, rng: np.random.Generator, voxel: float
) -> TransformEstimate:
    begin = Rigid(np.eye(4)) if start is None else start
    found = solver.from_near(begin.rotation, begin(two.mean) - one.mean)
    others: list[_Answer] = []
    if start is None and not _plain(found):
        found, *others = solver.everywhere(rng, [found])
    evidence = found.evidence
    ratio = 0.0
    if others:
        every = [found, *others]
        ratio = solver.score(others[0], every) / max(solver.score(found, every), 1e-12)
    bar = _AGREED * min(max(ratio / _USUAL_OTHER, _LEAST_BAR), 1.0) if others else _AGREED_FROM_START
    holds = _logistic(math.log(max(evidence.agreed, 1e-9) / bar) / _SOFT_AGREED)
    alone = _logistic(math.log(_AS_GOOD / max(ratio, 1e-9)) / _SOFT_AS_GOOD)
    said: dict[str, Any] = {
        "kind": "rigid", "voxel": voxel, "overlap": evidence.near, "share": evidence.share, "holds": evidence.holds,
        "runner_up": ratio, "rounds": found.fit.rounds,
    }  # fmt: skip
    open_, information = _undetermined(solver, found)
    said["information"] = information
    if open_ and evidence.share > _MOSTLY:
        return TransformEstimate("degenerate", message=_sentence(open_), diagnostics=said)
    if holds < _ACCEPT or evidence.count < _LEAST:
        where = "from this start" if start is not None else "anywhere"
        return TransformEstimate(
            "no_match", confidence=0.0, diagnostics=said,
            message=f"the surfaces do not lie on each other {where}: {100 * evidence.share:.0f} % of the moving points "
            f"lie on the reference, and of those near it {100 * evidence.holds:.0f} % where they agree least",
        )  # fmt: skip
    if open_:
        return TransformEstimate("degenerate", message=_sentence(open_), diagnostics=said)
    if alone < _ACCEPT:
        chosen = [
            k for k in (found, *others) if solver.score(k, [found, *others]) >= 0.9 * solver.score(found, [found])
        ]
        return TransformEstimate(
            "ambiguous", confidence=0.0, diagnostics=said,
            candidates=tuple(_outside(k.fit, one, two) for k in chosen[:_OTHERS]),
            message=f"the clouds fit in {max(len(chosen), 2)} places equally well; give start= or show more of them",
        )  # fmt: skip
    answer = _outside(found.fit, one, two)
    # Points given are held against what their cube was matched with.
    match = found.fit.match[solver.moving.rank[cube]]
    residuals = plane_distances(
        solver.reference.points, solver.reference.normals, match, two.points, np.array(answer.rotation),
        answer.translation - one.mean,
    )  # fmt: skip
    return TransformEstimate(
        "aligned", answer, _covariance(found.fit, answer, one), residuals < solver.tolerance, residuals,
        min(holds * alone, 0.9999), diagnostics=said,
    )  # fmt: skip


def _plain(found: _Answer) -> bool:
    """Whether nothing else needs to be looked at."""
    turned = math.acos(min(max((float(np.trace(found.fit.rotation)) - 1) / 2, -1.0), 1.0))
    e = found.evidence
    return turned < _HARDLY and e.near > _SEES and e.holds > _EXPLAINS


def _outside(found: Fit, one: Cloud, two: Cloud) -> Rigid:
    """In the frames that were given, not about the clouds' means."""
    rotation = nearest_rotation(found.rotation)
    return Rigid.from_parts(rotation, found.translation + one.mean - rotation @ two.mean)


def _covariance(found: Fit, answer: Rigid, one: Cloud) -> F64:
    """Inverse Hessian, scatter of the gradients of parts of the cloud, inverse Hessian (Huber 1967; White 1980): points
    of one part err alike, by their common normals and by the gaps between neighbours."""
    parts = len(found.gradients)
    inverse = np.linalg.inv(found.hessian)
    scatter = found.gradients.T @ found.gradients * (parts / max(parts - 6, 1)) * _SPREAD**2
    about = inverse @ scatter @ inverse
    # A turn about the reference's mean also shifts what is given about its origin.
    x, y, z = answer.translation - one.mean
    change = np.eye(6)
    change[3:, :3] = -np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.asarray(change @ about @ change.T)


def _undetermined(solver: _Solver, found: _Answer) -> tuple[list[F64], list[float]]:
    """Directions (turn, shift) in which the surfaces may slide on each other, and how many points speak for each.

    By products of the two clouds' normals, not squares: noise in one knows nothing of noise in the other, so that what
    no plane holds comes to nothing, however rough the clouds are.
    """
    on = found.pairs.on
    if not on.any():
        return [], []
    y = found.fit(solver.moving.points)[on]
    y = y - y.mean(axis=0)
    n, m = found.pairs.ours[on], found.pairs.theirs[on]
    radius = max(float(np.sqrt((y**2).sum(axis=1).mean())), 1e-12)
    weight = solver.moving.planarity[on] * solver.reference.planarity[found.fit.match[on]]
    one, two = (np.concatenate([np.cross(y, v) / radius, v], axis=1) for v in (n, m))
    both = one.T @ (two * weight[:, None]) / max(float(weight.sum()), 1e-12)
    values, vectors = np.linalg.eigh((both + both.T) / 2)
    return [vectors[:, k] for k in range(6) if values[k] < _INFORMATION], [float(v) for v in values]


def _sentence(open_: Sequence[F64]) -> str:
    said = []
    for vector in open_:
        turn, shift = vector[:3], vector[3:]
        part, name = (shift, "shifts along") if shift @ shift >= turn @ turn else (turn, "turns about")
        part = part / np.linalg.norm(part)
        part = part * np.sign(part[np.argmax(np.abs(part))])
        said.append(f"{name} ({', '.join(f'{v + 0.0:.2f}' for v in part)})")
    return f"the surfaces slide on each other: nothing tells {'; '.join(said)} in the reference's axes"


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-min(max(x, -500.0), 500.0)))
