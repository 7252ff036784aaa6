"""Two trajectories of one body: the clock and the map that put one on the other, and how far they then differ.

Map: least squares over positions (Umeyama 1991). Offset: what the motions tell (`avfuse.temporal.estimate_motion`),
then solved together with the map. Errors: absolute and relative, as Sturm et al. 2012 define and evo computes them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from avfuse.alignment import ClockEstimate
from avfuse.clock import ClockMap
from avfuse.errors import StreamError
from avfuse.spatial.bodies.poses import Poses, matrices_of
from avfuse.stream import Stream
from avfuse.transform import Rigid, Similarity
from avfuse.transform_estimate import TransformEstimate

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

_ROUNDS, _SETTLED = 30, 1e-9  # of the joint fit; seconds
_BLOCKS = 30  # parts of a trajectory whose errors are taken to be their own
_LINE = 1e-3  # of the longest extent: the second longest of what is no line
_FEWEST = 8  # poses in common
_EXPLAINED = 0.5  # of the reference's movement, under which two trajectories are not one
_LONGEST = 0.5  # seconds by which a first offset may still be off


@dataclass(frozen=True, eq=False)
class PoseErrors:
    """translation: `(n,)`, in the units of the poses. rotation: `(n,)` radians."""

    translation: F64
    rotation: F64

    @property
    def rmse(self) -> tuple[float, float]:
        """Roots of the mean squares, of translation and rotation."""
        return tuple(float(np.sqrt((e**2).mean())) for e in (self.translation, self.rotation))  # type: ignore[return-value]


@dataclass(frozen=True, eq=False)
class TrajectoryAlignment:
    """clock: of the moving trajectory on the reference's. transform: of its frame, a Rigid or a Similarity.

    times: `(n,)` of the reference's clock, at which both are known; reference, moved: `(n, 4, 4)` poses there, the
    moving ones mapped. Empty where there is no alignment.
    """

    clock: ClockEstimate
    transform: TransformEstimate
    times: F64 = field(default_factory=lambda: np.zeros(0))
    reference: F64 = field(default_factory=lambda: np.zeros((0, 4, 4)))
    moved: F64 = field(default_factory=lambda: np.zeros((0, 4, 4)))

    @property
    def absolute(self) -> PoseErrors:
        return absolute_errors(self.reference, self.moved)

    def relative(self, step: int = 1, *, overlapping: bool = False) -> PoseErrors:
        return relative_errors(self.reference, self.moved, step=step, overlapping=overlapping)


def align_trajectories(
    reference: Stream | tuple[ArrayLike, ArrayLike], moving: Stream | tuple[ArrayLike, ArrayLike], *,
    scale: bool = False, offset: float | None = None, max_offset: float | None = None,
) -> TrajectoryAlignment:  # fmt: skip
    """Clock and frame that put the trajectory `moving` on `reference`.

    reference, moving: pose streams, or (times `(n,)`, poses `(n, 7)` x y z qx qy qz qw or `(n, 4, 4)`).
    scale: solve for one too, as for a single camera's trajectory; the transform is then a Similarity.
    offset: seconds, t_ref = t_moving + offset, where it is known; None estimates it, to a fraction of a step, together
        with the map. Drift is none.
    max_offset: seconds, searched both ways.
    The reference is interpolated at the moving poses' times, but not across gaps. Covariances are from how parts of the
    trajectory disagree, for errors of trajectories go on for long.
    `degenerate` where positions lie on a line or in a point, `no_match` where the two have no motion in common; the
    clock's status tells of the offset. Raises StreamError for what are no poses.
    """
    called = "align_trajectories"
    one, two = Poses.of(reference, "reference", called), Poses.of(moving, "moving", called)
    for name, value in (("offset", offset), ("max_offset", max_offset)):
        if value is not None and not np.isfinite(value):
            raise StreamError(f"{called}: {name} {value!r}; expected finite seconds or None")
    kind = "similarity" if scale else "rigid"
    if offset is None:
        first = _first_offset(one, two, max_offset)
        if first.clock is None:
            message = f"no offset was found ({first.message or first.status}); give offset= where it is known"
            status = first.status if first.status in ("ambiguous", "degenerate") else "no_match"
            refused = TransformEstimate(status, message=message, diagnostics={"kind": kind})  # type: ignore[arg-type]
            return TrajectoryAlignment(first, refused)
        middle = float(np.clip(two.times.mean(), *_common(one, two, first.clock)))
        begin, confidence = float(first.clock(middle)) - middle, first.confidence
    else:
        first, begin, confidence = None, float(offset), 0.99
    found = _solved(one, two, begin, scale, free=offset is None)
    if isinstance(found, str):
        refused = TransformEstimate("degenerate", message=found, diagnostics={"kind": kind})
        return TrajectoryAlignment(first or _given(begin), refused)
    if found.explained < _EXPLAINED:
        message = f"the map explains {100 * found.explained:.0f} % of the movement; expected trajectories of one body"
        refused = TransformEstimate("no_match", message=message, diagnostics={"kind": kind})
        return TrajectoryAlignment(first or _given(begin), refused)
    n = 7 if scale else 6
    clock = _given(begin)
    if first is not None:
        cov = np.array([[found.cov[n, n], 0.0], [0.0, 0.0]])
        clock = replace(first, clock=ClockMap(found.offset, 0.0), cov=cov)
    answer = TransformEstimate(
        "aligned", found.transform, found.cov[:n, :n], residuals=found.residuals,
        inliers=np.ones(len(found.residuals), bool), confidence=confidence,
        diagnostics={"kind": kind, "offset": found.offset, "explained": found.explained},
    )  # fmt: skip
    there = two.times[found.used] + found.offset
    at = one.at(there)
    return TrajectoryAlignment(
        clock, answer, there, _matrices(at.positions, at.rotations),
        transformed(_matrices(two.positions[found.used], two.rotations[found.used]), found.transform),
    )  # fmt: skip


def transformed(poses: ArrayLike, transform: Similarity) -> F64:
    """Poses `(n, 4, 4)` of a body in another frame of space; a scale stretches the way, not the body."""
    matrices = matrices_of(poses, "poses", "transformed")
    made = matrices.copy()
    made[:, :3, :3] = transform.rotation @ matrices[:, :3, :3]
    made[:, :3, 3] = transform(matrices[:, :3, 3])
    return made


def umeyama(reference: F64, moving: F64, *, scale: bool = False) -> Similarity:
    """Least-squares map of points `(n, 3)` moving -> reference (Umeyama 1991, eq. 34 to 43). Raises StreamError where
    they lie on a line."""
    a, b = reference.mean(axis=0), moving.mean(axis=0)
    u, d, vt = np.linalg.svd((reference - a).T @ (moving - b) / len(moving))
    if not d[1] > _LINE**2 * d[0]:
        raise StreamError("umeyama: the points lie on a line or in one place; expected three apart from a line")
    s = np.array([1.0, 1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    rotation = u @ np.diag(s) @ vt
    size = float((d * s).sum() / ((moving - b) ** 2).sum(axis=1).mean()) if scale else 1.0
    kind = Similarity if scale else Rigid
    return kind.from_parts(rotation, a - size * rotation @ b, size)


def nearest_times(reference: ArrayLike, moving: ArrayLike, *, within: float = 0.01) -> I64:
    """Pairs `(n, 2)` of indices: for each of the fewer times the nearest of the others, where it is within so many
    seconds. As evo associates them."""
    a, b = np.asarray(reference, np.float64), np.asarray(moving, np.float64)
    if a.ndim != 1 or b.ndim != 1 or not len(a) or not len(b):
        raise StreamError(f"nearest_times: times of shapes {a.shape} and {b.shape}; expected (n,) and (m,), not empty")
    few, many = (b, a) if len(a) > len(b) else (a, b)
    order = np.argsort(many, kind="stable")
    after = np.clip(np.searchsorted(many[order], few), 1, max(len(many) - 1, 1))
    before, after = order[after - 1], order[np.minimum(after, len(many) - 1)]
    # The later one, where both are as near.
    best = np.where(np.abs(many[before] - few) < np.abs(many[after] - few), before, after)
    near = np.abs(many[best] - few) <= within
    pairs = np.stack([best, np.arange(len(few))] if len(a) > len(b) else [np.arange(len(few)), best], axis=1)
    return np.asarray(pairs[near], np.int64)


def absolute_errors(reference: ArrayLike, moving: ArrayLike) -> PoseErrors:
    """Of poses one to one, `(n, 4, 4)` or `(n, 7)`: what is left of each against its reference (evo's APE)."""
    return _errors(*_pairs(reference, moving, "absolute_errors"))


def relative_errors(reference: ArrayLike, moving: ArrayLike, *, step: int = 1, overlapping: bool = False) -> PoseErrors:
    """Of the movements over `step` poses (evo's RPE). overlapping: from every pose, not where the last one ended."""
    one, two = _pairs(reference, moving, "relative_errors")
    if not 1 <= step < len(one):
        raise StreamError(f"relative_errors: step {step} over {len(one)} poses; expected 1 to {len(one) - 1}")
    starts = np.arange(0, len(one) - step, 1 if overlapping else step)
    moved = [np.linalg.inv(x[starts]) @ x[starts + step] for x in (one, two)]
    return _errors(moved[0], moved[1])


def _pairs(reference: ArrayLike, moving: ArrayLike, called: str) -> tuple[F64, F64]:
    one, two = matrices_of(reference, "reference", called), matrices_of(moving, "moving", called)
    if len(one) != len(two) or not len(one):
        raise StreamError(f"{called}: {len(one)} and {len(two)} poses; expected as many, at least one")
    return one, two


def _errors(one: F64, two: F64) -> PoseErrors:
    left = np.linalg.inv(one) @ two
    turned = Rotation.from_matrix(left[:, :3, :3]).magnitude()
    return PoseErrors(np.linalg.norm(left[:, :3, 3], axis=1), np.asarray(turned))


def _matrices(positions: F64, rotations: Rotation) -> F64:
    made = np.tile(np.eye(4), (len(positions), 1, 1))
    made[:, :3, :3], made[:, :3, 3] = rotations.as_matrix(), positions
    return made


def _given(offset: float) -> ClockEstimate:
    return ClockEstimate("aligned", ClockMap(offset, 0.0), np.zeros((2, 2)), 1.0, message="offset as given")


def _first_offset(one: Poses, two: Poses, max_offset: float | None) -> ClockEstimate:
    # Imported here: it brings SciPy's signal processing.
    from avfuse.temporal.motion import estimate_motion

    return estimate_motion(one.stream, two.stream, max_offset=max_offset).clock


def _common(one: Poses, two: Poses, clock: object) -> tuple[float, float]:
    assert isinstance(clock, ClockMap)
    back = clock.inverse()
    first, last = max(two.times[0], float(back(one.times[0]))), min(two.times[-1], float(back(one.times[-1])))
    return min(first, last), max(first, last)


@dataclass(frozen=True, eq=False)
class _Solved:
    transform: Similarity
    offset: float
    cov: F64
    residuals: F64
    used: NDArray[np.bool_]
    explained: float


def _solved(one: Poses, two: Poses, offset: float, scale: bool, free: bool) -> _Solved | str:
    """Map and, where it is free, offset by Gauss-Newton; or why there is none."""
    curve = one.curve
    speed = curve.derivative()
    begin = offset
    # Which poses count is settled first, so that no round sees other ones.
    slack = 3 * one.step if free else 0.0
    used = one.known(two.times + offset - slack) & one.known(two.times + offset + slack)
    if used.sum() < _FEWEST:
        return f"{int(used.sum())} poses in common at an offset of {offset:+.3f} s; expected at least {_FEWEST}"
    p = two.positions[used]
    for _ in range(_ROUNDS):
        times = np.clip(two.times[used] + offset, one.times[0], one.times[-1])
        q = curve(times)
        try:
            transform = umeyama(q, p, scale=scale)
        except StreamError:
            return (
                "the positions lie on a line or in one place; a turn about it is not told, move in a second direction"
            )
        y = transform(p)
        centre = y.mean(axis=0)
        r = (q - y).ravel()
        # Columns: a turn about the middle, a shift there, the scale, the offset.
        j = np.zeros((len(y), 3, 8))
        d = y - centre
        j[:, 0, 1], j[:, 0, 2], j[:, 1, 2] = d[:, 2], -d[:, 1], d[:, 0]
        j[:, 1, 0], j[:, 2, 0], j[:, 2, 1] = -d[:, 2], d[:, 1], -d[:, 0]
        j[:, :, 3:6] = np.eye(3)
        j[:, :, 6] = d
        j[:, :, 7] = -speed(times)
        columns = [*range(6), *([6] if scale else []), *([7] if free else [])]
        a = j[:, :, columns].reshape(-1, len(columns))
        normal = a.T @ a
        if not free:
            break
        step = float(np.linalg.lstsq(a, r, rcond=None)[0][-1])
        offset += float(np.clip(step, -one.step, one.step))
        if abs(offset - begin) > _LONGEST:
            return f"the offset does not settle near {begin:+.3f} s"
        if abs(step) < _SETTLED:
            break
    explained = 1 - float((r**2).sum() / max(((q - q.mean(axis=0)) ** 2).sum(), 1e-300))
    cov = np.zeros((8, 8))
    cov[np.ix_(columns, columns)] = _sandwich(a, r.reshape(-1, 3), normal)
    change = np.eye(8)
    # The turn was about the middle: what that shifts at the origin of `Rigid`'s convention.
    x, yy, z = transform.translation - centre
    change[3:6, :3] = -np.array([[0.0, -z, yy], [z, 0.0, -x], [-yy, x, 0.0]])
    change[3:6, 6] = transform.translation - centre
    cov = change @ cov @ change.T
    keep = [*range(6), *([6] if scale else []), 7]
    return _Solved(transform, offset, cov[np.ix_(keep, keep)], np.linalg.norm(q - y, axis=1), used, explained)


def _sandwich(a: F64, residuals: F64, normal: F64) -> F64:
    """Covariance by the scatter of what parts of the trajectory pull, neighbours together (Newey and West 1987)."""
    n, k = len(residuals), a.shape[1]
    blocks = max(min(_BLOCKS, n // 4), 2)
    pulls = (a * residuals.ravel()[:, None]).reshape(n, 3, k).sum(axis=1)
    edges = np.linspace(0, n, blocks + 1).astype(int)
    sums = np.add.reduceat(pulls, edges[:-1], axis=0)
    meat = sums.T @ sums
    across = sums[1:].T @ sums[:-1]
    meat = meat + 0.5 * (across + across.T)
    values, vectors = np.linalg.eigh(meat)
    meat = vectors @ np.diag(np.maximum(values, 0.1 * np.diag(sums.T @ sums).min())) @ vectors.T
    inverse = np.linalg.inv(normal)
    return np.asarray(inverse @ meat @ inverse * (blocks / max(blocks - k / 3, 1.0)))
