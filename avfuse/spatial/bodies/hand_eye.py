"""Two trackers on one body, each telling poses in a frame of its own: where one sits on the body from the other.

A X = X B for the movements A, B of the two between any two moments. The rotation from pairs of movements, by their
rotation vectors, inside RANSAC (Park and Martin 1994; Fischler and Bolles 1981); the translation by least squares (Tsai
and Lenz 1989); then all at once over poses, T_ref X = W T_mov, with the frame W between the two worlds and the clock's
offset, so that every pose counts once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from avfuse.alignment import ClockEstimate
from avfuse.clock import ClockMap
from avfuse.errors import StreamError
from avfuse.rotations import nearest_rotation
from avfuse.spatial.bodies.poses import Poses, matrices_of
from avfuse.stream import Stream
from avfuse.transform import Rigid
from avfuse.transform_estimate import TransformEstimate

F64 = NDArray[np.float64]

_FEWEST, _MOST = 6, 400  # poses
_PAIRS, _TRIES = 3000, 400
_ALIKE = np.radians(3.0)  # by which the two turns of a movement may differ, at least
_CROSS = np.radians(8.0)  # between the axes of a minimal pair
_SECOND = np.radians(1.5)  # root of the mean square of turns about a second axis, under which there is none
_STILL = np.radians(2.0)  # of the largest turn
_NOISE = 3.0  # times the noise of turns that a second axis must reach
_SHARE = 0.35  # of the movements must agree
_FREEDOM = 4.0  # of Student's distribution
_ROUNDS = 60
_UNTOLD = np.radians(10.0)  # standard deviation of a rotation that is not told


@dataclass(frozen=True, eq=False)
class HandEye:
    """clock: of the moving tracker on the reference's, without drift. transform: T_ref_mov, points in the moving one's
    own frame -> the reference tracker's. world: T_refworld_movworld, None where there is none. axes: `(3,)` radians,
    root of the mean square of how the body turned about each of three axes, least first: two must be turned about."""

    clock: ClockEstimate
    transform: TransformEstimate
    world: Rigid | None = None
    axes: F64 | None = None


def calibrate_hand_eye(
    reference: Stream | tuple[ArrayLike, ArrayLike] | ArrayLike | Sequence[Rigid],
    moving: Stream | tuple[ArrayLike, ArrayLike] | ArrayLike | Sequence[Rigid], *,
    offset: float | None = None, max_offset: float | None = None, rng: int | np.random.Generator = 0,
) -> HandEye:  # fmt: skip
    """Pose of the moving tracker on the body of the reference tracker: A X = X B.

    reference, moving: pose Streams or (times, poses) with clocks of their own; or poses `(n, 4, 4)`, `(n, 7)` or Rigids
        that belong together one by one. Each tells its tracker's pose in its own world, body -> world. Of a camera that
        sees a board give T_board_camera.
    offset: seconds, t_ref = t_moving + offset, where it is known; None estimates it (`avfuse.temporal.estimate_motion`)
        and solves it again with the rest. Poses without times have none.
    The covariance of (rotation vector, translation) is from how poses disagree, neighbours together.
    `degenerate` where the body stood still or turned about one axis only (planar motion): the translation along that
    axis, and what turns about it, is then not told. `no_match` where the movements do not belong together.
    Raises StreamError for what are no poses, and for fewer than six.
    """
    called = "calibrate_hand_eye"
    rng = np.random.default_rng(rng)
    timed = [isinstance(x, Stream) or (isinstance(x, tuple) and len(x) == 2) for x in (reference, moving)]
    if timed[0] != timed[1]:
        raise StreamError(f"{called}: only one of reference and moving has times; expected both or neither")
    if not timed[0]:
        a, b = (matrices_of(x, n, called) for x, n in ((reference, "reference"), (moving, "moving")))  # type: ignore[arg-type]
        if len(a) != len(b) or len(a) < _FEWEST:
            raise StreamError(f"{called}: {len(a)} and {len(b)} poses; expected as many, at least {_FEWEST}")
        return _solve(a, b, None, None, 0.0, _known(0.0), rng)
    one, two = (Poses.of(x, n, called) for x, n in ((reference, "reference"), (moving, "moving")))  # type: ignore[arg-type]
    if offset is not None and not np.isfinite(offset):
        raise StreamError(f"{called}: offset {offset!r}; expected finite seconds or None")
    clock = _known(float(offset)) if offset is not None else _offset(one, two, max_offset)
    if clock.clock is None:
        message = f"no offset was found ({clock.message or clock.status}); give offset= where it is known"
        status = clock.status if clock.status in ("ambiguous", "degenerate") else "no_match"
        return HandEye(clock, TransformEstimate(status, message=message, diagnostics=_KIND))  # type: ignore[arg-type]
    assert isinstance(clock.clock, ClockMap)
    first, last = (float(clock.clock.inverse()(float(t))) for t in one.times[[0, -1]])
    middle = min(max(float(two.times.mean()), first), last)
    shift = float(clock.clock(middle)) - middle
    slack = 0.0 if offset is not None else 3 * one.step
    used = np.flatnonzero(one.known(two.times + shift - slack) & one.known(two.times + shift + slack))
    if len(used) < _FEWEST:
        message = f"{len(used)} poses in common at an offset of {shift:+.3f} s; expected at least {_FEWEST}"
        return HandEye(clock, TransformEstimate("no_match", message=message, diagnostics=_KIND))
    used = used[np.unique(np.linspace(0, len(used) - 1, min(_MOST, len(used))).astype(int))]
    b = _matrices(two.positions[used], two.rotations[used])
    free = one if offset is None else None
    at = one.at(two.times[used] + shift)
    return _solve(_matrices(at.positions, at.rotations), b, free, two.times[used], shift, clock, rng)


_KIND = {"kind": "rigid"}


def _known(offset: float) -> ClockEstimate:
    return ClockEstimate("aligned", ClockMap(offset, 0.0), np.zeros((2, 2)), 1.0, message="offset as given")


def _offset(one: Poses, two: Poses, max_offset: float | None) -> ClockEstimate:
    # Imported here: it brings SciPy's signal processing. Rotation rates alone: the two worlds and bodies differ.
    from avfuse.features.inertia import rotation_rate
    from avfuse.temporal.motion import estimate_motion

    return estimate_motion(rotation_rate(one.stream), rotation_rate(two.stream), max_offset=max_offset).clock


def _matrices(positions: F64, rotations: Rotation) -> F64:
    made = np.tile(np.eye(4), (len(positions), 1, 1))
    made[:, :3, :3], made[:, :3, 3] = rotations.as_matrix(), positions
    return made


def _solve(
    a: F64, b: F64, free: Poses | None, times: F64 | None, shift: float, clock: ClockEstimate, rng: np.random.Generator
) -> HandEye:
    i, j = _movements(len(a), rng)
    one, two = np.linalg.inv(a[i]) @ a[j], np.linalg.inv(b[i]) @ b[j]
    alpha, beta = (Rotation.from_matrix(x[:, :3, :3]).as_rotvec() for x in (one, two))
    sizes = np.linalg.norm(alpha, axis=1), np.linalg.norm(beta, axis=1)
    if max(np.percentile(s, 95) for s in sizes) < _STILL:
        return _refused(clock, "degenerate", "the body hardly turned: nothing tells a rotation; turn it about two axes")
    # The turn of a movement is the same for both, whatever X is (Chen 1991); near half a circle its axis has no sign.
    usable = (np.maximum(*sizes) < np.radians(150.0)) & (np.maximum(*sizes) > _STILL / 2)
    alike = np.abs(sizes[0] - sizes[1])
    noise = float(np.median(alike[usable])) if usable.any() else np.inf
    within = max(3 * 1.4826 * noise, np.radians(0.05))
    if not usable.any() or noise > max(0.3 * float(np.median(sizes[0][usable])), 1e-9):
        return _refused(clock, "no_match", "the two did not turn by the same amounts: they are not on one body")
    k = np.flatnonzero(usable & (alike < max(within, 1e-9)))
    found = _rotation(alpha[k], beta[k], within, rng)
    axes = _axes(alpha[k], beta[k])
    second = float(np.sqrt(max(axes[1], 0.0)))
    spread = np.sqrt(np.maximum(axes, 0.0))
    if second < max(_SECOND, _NOISE * noise) or found is None:
        message = (
            f"the body turned about one axis only ({np.degrees(second):.1f} degrees about a second): the translation "
            "along it and turns about it are not told; turn it about a second axis"
        )
        return _refused(clock, "degenerate", message, spread)
    rotation, good = found
    if good.mean() < _SHARE:
        message = f"{100 * good.mean():.0f} % of the movements agree on a rotation; expected trackers on one body"
        return _refused(clock, "no_match", message, spread)
    k = k[good]
    x = _translation(one[k], two[k], rotation)
    return _refined(a, b, rotation, x, free, times, shift, clock, spread)


def _refused(clock: ClockEstimate, status: str, message: str, axes: F64 | None = None) -> HandEye:
    refused = TransformEstimate(status, message=message, diagnostics=_KIND)  # type: ignore[arg-type]
    return HandEye(clock, refused, None, axes)


def _movements(n: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    i, j = np.triu_indices(n, 1)
    if len(i) > _PAIRS:
        some = np.sort(rng.choice(len(i), _PAIRS, replace=False))
        i, j = i[some], j[some]
    return i, j


def _rotation(alpha: F64, beta: F64, within: float, rng: np.random.Generator) -> tuple[F64, NDArray[np.bool_]] | None:
    """R of alpha = R beta by the pairs of movements on which most agree; None where no two axes cross."""
    n = len(alpha)
    if n < 2:
        return None
    p, q = rng.integers(0, n, (2, _TRIES))
    units = [v / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-12) for v in (alpha, beta)]
    crossing = np.minimum(*(np.linalg.norm(np.cross(u[p], u[q]), axis=1) for u in units)) > np.sin(_CROSS)
    if not crossing.any():
        return None
    best, good = -1.0, np.zeros(n, bool)
    # What axes are uncertain by, seen over the length of the vector.
    limit = 2 * within + 0.02 * np.linalg.norm(alpha, axis=1)
    for m, o in zip(p[crossing], q[crossing], strict=True):
        r = nearest_rotation(alpha[[m, o]].T @ beta[[m, o]])
        left = np.linalg.norm(alpha - beta @ r.T, axis=1) / limit
        score = float(np.maximum(1 - left**2, 0).sum())
        if score > best:
            best, good = score, left < 1
    rotation = np.eye(3)
    for _ in range(10):
        if good.sum() < 2:
            return None
        rotation = nearest_rotation(alpha[good].T @ beta[good])
        good = np.linalg.norm(alpha - beta @ rotation.T, axis=1) < limit
    return rotation, good


def _axes(alpha: F64, beta: F64) -> F64:
    """Mean squares of turns about three axes, least first. By products of what the two measured, so that noise, which
    knows nothing of the other's, makes no axis."""
    r = nearest_rotation(alpha.T @ beta)
    both = alpha.T @ (beta @ r.T) / len(alpha)
    return np.asarray(np.linalg.eigvalsh((both + both.T) / 2))


def _translation(one: F64, two: F64, rotation: F64) -> F64:
    """t of (R_A - 1) t = R t_B - t_A, robustly."""
    left = (one[:, :3, :3] - np.eye(3)).reshape(-1, 3)
    right = (two[:, :3, 3] @ rotation.T - one[:, :3, 3]).ravel()
    weight = np.ones(len(right))
    t: F64 = np.zeros(3)
    for _ in range(20):
        t = np.asarray(np.linalg.lstsq(left * weight[:, None], right * weight, rcond=None)[0], np.float64)
        away = np.linalg.norm((right - left @ t).reshape(-1, 3), axis=1)
        usual = max(1.4826 * float(np.median(away)), 1e-12)
        weight = np.repeat(np.sqrt(1 / (1 + (away / (2 * usual)) ** 2)), 3)
    return t


@dataclass(frozen=True, eq=False)
class _State:
    """X and W by their parts, and the offset."""

    r: Rotation
    t: F64
    wr: Rotation
    wt: F64
    shift: float

    def moved(self, step: F64) -> _State:
        return _State(
            Rotation.from_rotvec(step[:3]) * self.r, self.t + step[3:6],
            Rotation.from_rotvec(step[6:9]) * self.wr, self.wt + step[9:12], self.shift + float(step[12]),
        )  # fmt: skip


def _refined(
    a: F64, b: F64, rotation: F64, t: F64, free: Poses | None, times: F64 | None, shift: float, clock: ClockEstimate,
    axes: F64,
) -> HandEye:  # fmt: skip
    """T_ref X = W T_mov over all poses, by likelihood of Student's distribution."""
    rb, tb = Rotation.from_matrix(b[:, :3, :3]), b[:, :3, 3]

    def residuals(s: _State) -> F64:
        if free is None:
            ra, ta = Rotation.from_matrix(a[:, :3, :3]), a[:, :3, 3]
        else:
            assert times is not None
            at = free.at(times + s.shift)
            ra, ta = at.rotations, at.positions
        left = (s.r.inv() * ra.inv() * s.wr * rb).as_rotvec()
        return np.concatenate([left, ta + ra.apply(s.t) - s.wr.apply(tb) - s.wt], axis=1)

    start = Rotation.from_matrix(rotation)
    ra = Rotation.from_matrix(a[:, :3, :3])
    wr = (ra * start * rb.inv()).mean()
    state = _State(start, t, wr, np.median(a[:, :3, 3] + ra.apply(t) - wr.apply(tb), axis=0), shift)
    n, free_columns = len(a), np.arange(13 if free is not None else 12)
    spread = np.eye(6)
    for k in range(_ROUNDS):
        e = residuals(state)
        if k == 0:
            sizes = [max(float(np.median(np.abs(e[:, part]))) ** 2, 1e-18) for part in (slice(0, 3), slice(3, 6))]
            spread = np.diag(np.repeat(sizes, 3))
        inverse = np.linalg.inv(spread)
        squared = np.einsum("ni,ij,nj->n", e, inverse, e)
        weight = (_FREEDOM + 6) / (_FREEDOM + squared)
        jacobian = _jacobian(residuals, state, e)[:, :, free_columns]
        left = np.einsum("nik,ij->njk", jacobian, inverse) * weight[:, None, None]
        normal = np.einsum("njk,njl->kl", left, jacobian)
        pulls = -np.einsum("njk,nj->nk", left, e)
        step = np.zeros(13)
        step[free_columns] = np.linalg.lstsq(normal, pulls.sum(axis=0), rcond=1e-14)[0]
        step[12] = np.clip(step[12], -0.02, 0.02)
        state = state.moved(step)
        new = (e * weight[:, None]).T @ e / n
        new += np.diag(1e-9 * np.repeat([new[:3, :3].trace(), new[3:, 3:].trace()], 3) + 1e-24)
        settled = np.abs(new - spread).max() < 1e-3 * np.abs(new).max()
        spread = new
        if settled and np.linalg.norm(step) < 1e-6:
            break
    # What Student's likelihood leaves of the second derivatives: weights fall where residuals grow.
    left_over = (weight * (1 - 2 * squared / 6 / (_FREEDOM + squared))).sum() / weight.sum()
    cov = _covariance(normal * left_over, pulls, times is not None)
    largest = float(np.sqrt(max(np.linalg.eigvalsh(cov[:3, :3])[-1], 0.0)))
    inside = squared < 16.8
    said = {
        "kind": "rigid", "poses": n, "turn": float(np.median(np.linalg.norm(e[:, :3], axis=1))),
        "shift": float(np.median(np.linalg.norm(e[:, 3:], axis=1))), "axes": np.degrees(axes).tolist(),
    }  # fmt: skip
    if largest > _UNTOLD:
        message = (
            f"a rotation good to {np.degrees(largest):.0f} degrees only: turn the body further about a second axis"
        )
        return HandEye(clock, TransformEstimate("degenerate", message=message, diagnostics=said), None, axes)
    if free is not None:
        both = np.array([[cov[12, 12], 0.0], [0.0, 0.0]])
        clock = replace(clock, clock=ClockMap(state.shift, 0.0), cov=both)
    answer = TransformEstimate(
        "aligned", Rigid.from_parts(state.r.as_matrix(), state.t), cov[:6, :6], inside,
        np.linalg.norm(e[:, 3:], axis=1), min(clock.confidence, 0.999), diagnostics=said,
    )  # fmt: skip
    return HandEye(clock, answer, Rigid.from_parts(state.wr.as_matrix(), state.wt), axes)


def _jacobian(residuals: object, state: _State, e: F64) -> F64:
    """By central differences: 13 columns."""
    assert callable(residuals)
    made = np.empty((*e.shape, 13))
    for k in range(13):
        step = np.zeros(13)
        step[k] = 1e-6 if k < 12 else 1e-4
        made[:, :, k] = (residuals(state.moved(step)) - residuals(state.moved(-step))) / (2 * step[k])
    return made


def _covariance(normal: F64, pulls: F64, ordered: bool) -> F64:
    n, k = pulls.shape
    meat = pulls.T @ pulls
    lags = int(np.ceil(n ** (1 / 3))) if ordered else 0
    for lag in range(1, lags + 1):
        across = pulls[lag:].T @ pulls[:-lag]
        meat += (1 - lag / (lags + 1)) * (across + across.T)
    values, vectors = np.linalg.eigh(meat)
    meat = vectors @ np.diag(np.maximum(values, 0.0)) @ vectors.T
    inverse = np.linalg.pinv(normal, rcond=1e-14, hermitian=True)
    cov = np.zeros((13, 13))
    cov[:k, :k] = inverse @ meat @ inverse * (n / max(n - k / 6 - lags, 1.0))
    return cov
