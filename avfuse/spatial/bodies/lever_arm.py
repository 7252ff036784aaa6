"""Where an accelerometer sits on a body, seen from another one or from what tells the body's poses.

Two places p apart on one turning body feel different forces: f_moving = f_reference + a x p + w x (w x p), w the rate
and a its derivative (any text on strapdown navigation, e.g. Titterton and Weston 2004, section 4.2). That is linear in
p; what noise makes of the products of rates is kept out by instrumental variables (Wald 1940): one sensor's rates form
the equations, the other's the sums over them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from avfuse.clock import ClockMap
from avfuse.errors import StreamError
from avfuse.rotations import cross_matrices
from avfuse.spatial.bodies.poses import Poses
from avfuse.stream import Stream
from avfuse.temporal.tracks import native_rate, samples_of, step_means

F64 = NDArray[np.float64]
_Rows = tuple[F64, F64, F64, NDArray[np.int64], float]

_SMOOTH, _SMOOTH_POSES = (
    0.02,
    0.05,
)  # seconds, sigma of the filter that all pass; longer for poses
_FASTEST = 200.0  # Hz
_SEGMENT = 1.0  # seconds that count as one, for neighbours err together
_FEWEST = 8  # such seconds
_GAP = 5.0  # steps without a sample
_ENDS = 5  # steps
_ROUNDS, _HUBER = 10, 1.5
_OPEN = 0.1  # metres of the standard deviation along the least certain axis
_LEFT = 0.5  # of what forces vary by, that may stay unexplained
# How far a priori: bias of both [m/s^2], turn between a gyroscope's and its accelerometer's axes, scale, seconds.
_BIAS, _TURN, _SCALE, _LATE = 1.0, np.radians(5.0), 0.05, 0.02


@dataclass(frozen=True, eq=False)
class LeverArm:
    """place: `(3,)` metres of the moving accelerometer, in the reference's axes; None where it is not told, `message`
    saying why. cov: its covariance."""

    place: F64 | None
    cov: F64
    message: str = ""


def check_accelerations(reference: Stream, moving: Stream, accelerations: tuple[Stream | None, Stream]) -> None:
    """Raises StreamError for streams that `estimate_lever_arm` does not take."""
    called = "calibrate_rotation: accelerations"
    if not (isinstance(accelerations, tuple) and len(accelerations) == 2):
        raise StreamError(f"{called} {accelerations!r}; expected two streams: the reference's and the moving's")
    for stream, name, beside in zip(accelerations, ("reference", "moving"), (reference, moving), strict=True):
        if name == "reference" and beside.kind == "pose":
            if stream is not None:
                raise StreamError(f"{called} of the reference: its poses tell them; give (None, those of moving)")
        elif beside.kind != "rotation_rate":
            kinds = "rotation_rate or pose" if name == "reference" else "rotation_rate"
            raise StreamError(f"{called}: {name} is a stream of {beside.kind}; with accelerations expected {kinds}")
        elif stream is None or stream.kind != "acceleration" or stream.unit not in (None, "m/s^2"):
            what = "None" if stream is None else f"a stream of {stream.kind} in {stream.unit}"
            raise StreamError(f"{called} of {name}: {what}; expected a stream of acceleration in m/s^2")


def estimate_lever_arm(
    reference: Stream, moving: Stream, accelerations: tuple[Stream | None, Stream], clock: ClockMap, rotation: F64
) -> LeverArm:
    """reference: rotation rates, or poses, which need no accelerometer. moving: rotation rates, rad/s.

    accelerations: specific forces of both in m/s^2, on the axes and clocks of their rates. clock: moving -> reference.
    rotation: v_reference = rotation @ v_moving.
    """
    felt, own = accelerations
    turned, told = samples_of(moving), samples_of(own)
    for stream, values in ((moving, turned[1]), (own, told[1])):
        if values.shape[1] != 3:
            raise StreamError(
                f"calibrate_rotation: stream {stream.name!r} has {values.shape[1]} channels; expected x, y, z"
            )
    turned, told = (clock(turned[0]), turned[1] @ rotation.T), (clock(told[0]), told[1] @ rotation.T)
    if felt is None:
        poses = Poses.of(reference, "reference", "calibrate_rotation")
        grid, sigma = _grid([poses.times, turned[0], told[0]], _SMOOTH_POSES)
        rows = _of_poses(poses, turned, told, grid, sigma)
    else:
        own_rates, own_felt = samples_of(reference), samples_of(felt)
        grid, sigma = _grid([own_rates[0], own_felt[0], turned[0], told[0]], _SMOOTH)
        rows = _of_rates(own_rates, own_felt, turned, told, grid, sigma)
    return LeverArm(None, np.full((3, 3), np.inf), _SHORT) if rows is None else _solved(*rows)


_SHORT = f"less than {_FEWEST} seconds in common tell no lever arm: record longer"


def _grid(times: list[F64], sigma: float) -> tuple[F64, float]:
    """Edges of even steps that all cover, and the filter in steps."""
    rate = min(_FASTEST, *(native_rate(t) for t in times))
    edges = np.arange(max(t[0] for t in times), min(t[-1] for t in times), 1 / rate)
    return edges, max(sigma * rate, 1.0)


def _steps(samples: tuple[F64, F64], edges: F64) -> F64:
    """Means over each step `(n, columns)`, NaN where nothing was measured."""
    times, values = samples
    made = step_means(times, values, edges)
    step = max(float(np.median(np.diff(times))), float(edges[1] - edges[0]))
    for k in np.flatnonzero(np.diff(times) > _GAP * step):
        made[(edges[1:] > times[k]) & (edges[:-1] < times[k + 1])] = np.nan
    return made


def _squares(w: F64) -> F64:
    """w w^T - |w|^2, which is what w x (w x p) takes of p, `(n, 9)`."""
    outer = w[:, :, None] * w[:, None, :]
    return np.asarray((outer - np.eye(3) * np.sum(w * w, axis=1)[:, None, None]).reshape(-1, 9))


def _slope(x: F64, step: float, order: int = 1) -> F64:
    """Derivative along the first axis, by five samples."""
    padded = np.pad(x, [(2, 2)] + [(0, 0)] * (x.ndim - 1), mode="edge")
    far, near = (padded[4:], padded[:-4]), (padded[3:-1], padded[1:-3])
    if order == 1:
        return np.asarray((8 * (near[0] - near[1]) - (far[0] - far[1])) / (12 * step))
    return np.asarray((16 * (near[0] + near[1]) - far[0] - far[1] - 30 * x) / (12 * step * step))


def _smooth(x: F64, sigma: float) -> F64:
    return np.asarray(gaussian_filter1d(x, sigma, axis=0, mode="nearest"))


def _moments(rates: tuple[F64, F64], edges: F64, sigma: float) -> F64:
    """What each step's forces say of the place, `(n, 3, 3)`: [a]x + [w]x [w]x, as filtered as the forces are."""
    step = float(edges[1] - edges[0])
    times, w = rates
    pushed = _slope(_smooth(_steps(rates, edges), sigma), step)
    return np.asarray(cross_matrices(pushed) + _smooth(_steps((times, _squares(w)), edges), sigma).reshape(-1, 3, 3))


def _of_rates(
    own: tuple[F64, F64],
    felt: tuple[F64, F64],
    turned: tuple[F64, F64],
    told: tuple[F64, F64],
    edges: F64,
    sigma: float,
) -> _Rows | None:
    """What is left of the forces `(n, 3)`, columns `(n, 3, q)` and instruments, the steps' seconds, and how forces
    varied."""
    if len(edges) < 3:
        return None
    forces, seen = _smooth(_steps(felt, edges), sigma), _smooth(_steps(told, edges), sigma)
    columns, instruments = (
        np.concatenate([m, np.broadcast_to(np.eye(3), (len(m), 3, 3)), _nuisance(seen, edges)], axis=2)
        for m in (_moments(own, edges, sigma), _moments(turned, edges, sigma))
    )
    return _whole(seen - forces, columns, instruments, edges, seen)


def _of_poses(poses: Poses, turned: tuple[F64, F64], told: tuple[F64, F64], edges: F64, sigma: float) -> _Rows | None:
    """The same in the frame of the poses, where second derivatives of what was measured are all that is needed."""
    if len(edges) < 3:
        return None
    middle = (edges[1:] + edges[:-1]) / 2
    step = float(edges[1] - edges[0])
    at = poses.at(middle)
    turns = at.rotations.as_matrix()
    forces = _smooth(np.einsum("nij,nj->ni", turns, _steps(told, edges)), sigma)
    pushed = _slope(_smooth(at.positions, sigma), step, 2)
    arm = _slope(_smooth(turns, sigma), step, 2)
    # The other's rates, by the same filter.
    rates = _steps(turned, edges)
    again = np.einsum("nij,njk->nik", turns, cross_matrices(_slope(rates, step)) + _squares(rates).reshape(-1, 3, 3))
    facing = _smooth(turns, sigma)
    shared = [facing, _nuisance(forces, edges), np.broadcast_to(np.eye(3), turns.shape)]
    known = poses.known(middle)
    pushed[~known] = np.nan
    columns = np.concatenate([arm, *shared], axis=2)
    instruments = np.concatenate([_smooth(again, sigma), *shared], axis=2)
    return _whole(forces - pushed, columns, instruments, edges, forces)


def _nuisance(forces: F64, edges: F64) -> F64:
    """Columns `(n, 3, 5)`: a small turn of the accelerometer, its scale, and how late it is."""
    late = _slope(forces, float(edges[1] - edges[0]))
    return np.concatenate([-cross_matrices(forces), forces[:, :, None], late[:, :, None]], axis=2)


def _whole(y: F64, columns: F64, instruments: F64, edges: F64, forces: F64) -> _Rows | None:
    whole = np.isfinite(np.concatenate([y[:, :, None], columns, instruments], axis=2)).all(axis=(1, 2))
    good = np.flatnonzero(whole)
    # The filter reaches over the ends.
    good = good[(good >= _ENDS) & (good < len(y) - _ENDS)]
    seconds = ((edges[:-1] - edges[0]) / _SEGMENT).astype(np.int64)[good]
    if len(np.unique(seconds)) < _FEWEST:
        return None
    varied = float(np.sqrt(np.mean(np.var(forces[good], axis=0))))
    return y[good], columns[good], instruments[good], seconds, varied


def _solved(y: F64, columns: F64, instruments: F64, seconds: NDArray[np.int64], varied: float) -> LeverArm:
    """varied: m/s^2, root of the mean square by which a component of the moving one's forces varied."""
    q = columns.shape[2]
    prior = np.zeros(q)
    prior[3:11] = [_BIAS**-2] * 3 + [_TURN**-2] * 3 + [_SCALE**-2, _LATE**-2]
    weight = np.ones(len(y))
    scale = float(np.std(y))
    x = np.zeros(q)
    bread = np.eye(q)
    for _ in range(_ROUNDS):
        weighed = instruments * weight[:, None, None]
        normal = np.einsum("nij,nik->jk", weighed, columns) / scale**2 + np.diag(prior)
        try:
            bread = np.linalg.inv(normal)
        except np.linalg.LinAlgError:
            return LeverArm(None, np.full((3, 3), np.inf), _LEVEL)
        x = bread @ (np.einsum("nij,ni->j", weighed, y) / scale**2)
        left = y - columns @ x
        size = np.sqrt(np.mean(left**2, axis=1))
        scale = max(float(np.median(size)) / 0.89, 1e-12)  # the median of a chi of three, over the root of three
        weight = np.minimum(1.0, _HUBER * scale / np.maximum(size, 1e-300))
    # Seconds err by themselves: how they disagree is what the answer varies by.
    number = np.searchsorted(np.unique(seconds), seconds)
    pulls = np.zeros((number.max() + 1, q))
    np.add.at(pulls, number, np.einsum("nij,ni->nj", weighed, left) / scale**2)
    n = len(pulls)
    cov = bread @ (pulls.T @ pulls * (n / max(n - q, 1)) + np.diag(prior)) @ bread.T
    place, known = x[:3], cov[:3, :3]
    widest = float(np.sqrt(np.linalg.eigvalsh((known + known.T) / 2)[-1])) if np.isfinite(known).all() else np.inf
    if not widest <= _OPEN:
        return LeverArm(None, known, _LEVEL)
    if float(np.median(size)) > _LEFT * varied:
        return LeverArm(None, known, "accelerations keep no one lever arm: was a sensor moved, or do units differ?")
    return LeverArm(place, known)


_LEVEL = f"the lever arm is not told to {100 * _OPEN:.0f} cm: turn faster, about two axes and more"
