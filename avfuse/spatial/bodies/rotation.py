"""The rotation between two sensors on one body, with their clocks: gyroscopes, orientations, poses, pictures.

Clock: `avfuse.temporal.estimate_motion`. Rotation: what both turned by, segment by segment; the segments on which most
agree by RANSAC (Fischler and Bolles 1981), then least squares with biases (Wahba 1965). The lever
arm too: between two trackers of poses (hand_eye.py), and of accelerometers that come with the rates (lever_arm.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avfuse.alignment import ClockEstimate
from avfuse.clock import ClockMap
from avfuse.errors import StreamError
from avfuse.rotations import nearest_rotation
from avfuse.spatial.bodies.hand_eye import calibrate_hand_eye
from avfuse.spatial.bodies.lever_arm import check_accelerations, estimate_lever_arm
from avfuse.stream import Stream
from avfuse.temporal.motion import RotationEstimate
from avfuse.temporal.tracks import step_means
from avfuse.transform import Rigid
from avfuse.transform_estimate import TransformEstimate

F64 = NDArray[np.float64]

_SEGMENT = 1.0  # seconds
_TRIES = 300
_INSIDE = 3.0  # times what segments usually leave
_SHARE = 0.4  # of the segments must agree
_KNOWN = np.radians(10.0)  # of the standard deviation about the least certain axis
_SECOND = 0.02  # of the power about the first axis that a second one must have


@dataclass(frozen=True, eq=False)
class RotationCalibration:
    """clock: of the moving stream on the reference's. rotation: v_reference = matrix @ v_moving.

    axes: `(3,)` rad/s, root of the mean square of how both turned about each of three axes, least first: two must be
    turned about. agreeing: share of the segments, each a second, that keep the rotation. transform: T_ref_mov with the
    lever arm, of two pose streams and of accelerations; None of others, whose rotation says nothing of where they sit.
    """

    clock: ClockEstimate
    rotation: RotationEstimate
    axes: F64 | None = None
    agreeing: float = 0.0
    transform: TransformEstimate | None = None


def calibrate_rotation(
    reference: Stream,
    moving: Stream,
    *,
    accelerations: tuple[Stream | None, Stream] | None = None,
    max_offset: float | None = None,
    rng: int | np.random.Generator = 0,
) -> RotationCalibration:
    """Clock and rotation that put the axes of `moving` on those of `reference`.

    reference, moving: rotation rates, orientations, poses or pictures (one at most).
    accelerations: specific forces of the reference and of the moving, m/s^2, on the axes and clocks of their rotation
        rates: they tell the lever arm, where the body turns enough about two axes. (None, that of the moving) for a
        reference of poses in metres.
    max_offset: seconds, searched both ways.
    The covariance of the rotation vector, in the reference's axes, is from how segments disagree. `degenerate` where
    the two turned about one axis only, `no_match` where they keep no one rotation or share no motion (see `clock`).
    Raises StreamError for other kinds and streams without samples.
    """
    # Imported here: it brings SciPy's signal processing.
    from avfuse.features.flow import image_motion
    from avfuse.features.inertia import rotation_rate
    from avfuse.temporal.motion import TURNING, compare_motions
    from avfuse.temporal.tracks import native_rate, samples_of

    for stream, argument in ((reference, "reference"), (moving, "moving")):
        if stream.kind not in (*TURNING, "picture"):
            raise StreamError(
                f"calibrate_rotation: {argument} is a stream of {stream.kind}; expected {', '.join(TURNING)} or picture"
            )
    if accelerations is not None:
        check_accelerations(reference, moving, accelerations)
    rng = np.random.default_rng(rng)
    seen = [image_motion(s) if s.kind == "picture" else s for s in (reference, moving)]
    motion = compare_motions(seen[0], seen[1], max_offset)
    assert motion is not None
    clock = motion.clock
    if clock.clock is None:
        return RotationCalibration(clock, RotationEstimate("no_match", message=clock.message))
    rates = [s if isinstance(s, Stream) and s.kind == "rotation_rate" else None for s in seen]
    made = [
        samples_of(r if r is not None else rotation_rate(s) if isinstance(s, Stream) else s.rate)
        for r, s in zip(rates, seen, strict=True)
    ]
    assert isinstance(clock.clock, ClockMap)
    times = clock.clock(made[1][0])
    slow = min(native_rate(made[0][0]), native_rate(times))
    alpha, beta = _segments(made[0], (times, made[1][1]), slow)
    found, axes, agreeing = _agreed(alpha, beta, rng)
    transform = None
    if found.status != "aligned":
        return RotationCalibration(clock, found, axes, agreeing)
    if accelerations is not None:
        transform = _placed(found, reference, moving, accelerations, clock.clock)
    elif reference.kind == moving.kind == "pose":
        middle = float(clock.diagnostics.get("middle", times.mean()))
        transform = calibrate_hand_eye(reference, moving, offset=float(clock.clock(middle)) - middle, rng=rng).transform
    return RotationCalibration(clock, found, axes, agreeing, transform)


def _placed(
    rotation: RotationEstimate,
    reference: Stream,
    moving: Stream,
    accelerations: tuple[Stream | None, Stream],
    clock: ClockMap,
) -> TransformEstimate:
    assert rotation.matrix is not None
    assert rotation.cov is not None
    arm = estimate_lever_arm(reference, moving, accelerations, clock, rotation.matrix)
    kind = {"kind": "rigid"}
    if arm.place is None:
        return TransformEstimate("degenerate", message=arm.message, diagnostics=kind)
    cov = np.zeros((6, 6))
    cov[:3, :3], cov[3:, 3:] = rotation.cov, arm.cov
    answer = Rigid.from_parts(rotation.matrix, arm.place)
    return TransformEstimate("aligned", answer, cov, confidence=1 - 1e-4, diagnostics=kind)


def _segments(one: tuple[F64, F64], two: tuple[F64, F64], rate: float) -> tuple[F64, F64]:
    """Rates of both `(segments, samples, 3)` on one grid, each averaged over its steps; segments that both know."""
    first, last = max(one[0][0], two[0][0]), min(one[0][-1], two[0][-1])
    count = max(int(rate * _SEGMENT), 2)
    edges = np.arange(first, last, 1 / rate)
    number = (len(edges) - 1) // count
    if number < 1:
        return np.zeros((0, count, 3)), np.zeros((0, count, 3))
    made = [step_means(*samples, edges)[: number * count].reshape(number, count, 3) for samples in (one, two)]
    known = np.ones(number, bool)
    for times, _ in (one, two):
        step = float(np.median(np.diff(times)))
        gaps = np.flatnonzero(np.diff(times) > 5 * step)
        for g in gaps:
            a, b = ((times[g + k] - first) * rate / count for k in (0, 1))
            known[max(int(a), 0) : max(int(b) + 1, 0)] = False
    return made[0][known], made[1][known]


def _agreed(alpha: F64, beta: F64, rng: np.random.Generator) -> tuple[RotationEstimate, F64 | None, float]:
    n = len(alpha)
    if n < 3:
        return RotationEstimate("degenerate", message=f"{n} seconds in common; expected three or more"), None, 0.0
    power = (alpha**2).sum(axis=(1, 2)), (beta**2).sum(axis=(1, 2))
    gain = float(np.sqrt(np.median(power[1]) / max(float(np.median(power[0])), 1e-300)))
    beta = beta / max(gain, 1e-300)
    moments = np.einsum(
        "nki,nkj->nij", alpha - alpha.mean(axis=1, keepdims=True), beta - beta.mean(axis=1, keepdims=True)
    )
    chance = np.sqrt(power[0] * power[1])
    if not chance.sum() > 0:
        return RotationEstimate("degenerate", message="neither turned"), None, 0.0

    def left_by(r: F64) -> F64:
        away = alpha - beta @ r.T
        return np.asarray(np.sqrt(((away - away.mean(axis=1, keepdims=True)) ** 2).sum(axis=2).mean(axis=1)))

    best, matrix = np.inf, np.eye(3)
    for _ in range(_TRIES):
        some = rng.choice(n, min(3, n), replace=False, p=chance / chance.sum())
        r = nearest_rotation(moments[some].sum(axis=0))
        score = float(np.median(left_by(r)))
        if score < best:
            best, matrix = score, r
    good = np.ones(n, bool)
    for _ in range(20):
        left = left_by(matrix)
        now = left <= _INSIDE * float(np.median(left))
        matrix = nearest_rotation(moments[now].sum(axis=0))
        if (now == good).all():
            break
        good = now
    total = moments[good].sum(axis=0) @ matrix.T / (good.sum() * alpha.shape[1])
    powers = np.linalg.eigvalsh((total + total.T) / 2)
    axes = np.sqrt(np.maximum(powers, 0.0))
    moving = np.sqrt(power[0][good] / alpha.shape[1])
    agreeing = float(good.mean())
    if np.median(left_by(matrix)[good]) > 0.7 * float(np.median(moving)) or agreeing < _SHARE:
        message = "the seconds keep no one rotation: was a sensor moved?"
        return RotationEstimate("no_match", message=message), axes, agreeing
    if powers[1] < _SECOND * powers[2]:
        message = (
            f"both turned about one axis only ({axes[1]:.2g} of {axes[2]:.2g} rad/s about a second one): turn them "
            "about a second axis"
        )
        return RotationEstimate("degenerate", message=message), axes, agreeing
    # Turns of the answer pull on each segment by the antisymmetric part of its moments.
    turned = moments[good] @ matrix.T
    pulls = np.stack(
        [turned[:, 2, 1] - turned[:, 1, 2], turned[:, 0, 2] - turned[:, 2, 0], turned[:, 1, 0] - turned[:, 0, 1]],
        axis=1,
    )
    whole = turned.sum(axis=0)
    bread = np.linalg.inv(np.trace(whole) * np.eye(3) - (whole + whole.T) / 2)
    cov = bread @ (pulls.T @ pulls) @ bread * (len(pulls) / max(len(pulls) - 3, 1))
    if float(np.sqrt(np.linalg.eigvalsh(cov)[-1])) > _KNOWN:
        return (
            RotationEstimate("degenerate", message="about one axis the rotation is not told: turn more"),
            axes,
            agreeing,
        )
    return RotationEstimate("aligned", matrix, cov, gain), axes, agreeing
