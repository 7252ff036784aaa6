"""How long a camera takes to read its rows, from how each band of them turned against a gyroscope on it.

Rows that are read later saw a later turn: what a band of rows moved by from one frame to the next is what the
gyroscope measured between the two moments at which the band was read (Karpenko et al. 2011). Lag, drift, read-out time
and what turns the one's axes into the other's are solved together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avfuse.clock import ClockMap
from avfuse.features.flow import ImageMotion
from avfuse.temporal.calibration import PRIOR_DRIFT
from avfuse.temporal.coupling import larger, spread_of_scores, symmetric_inverse, usual_energy
from avfuse.temporal.frames import Turned

F64 = NDArray[np.float64]

_ROUNDS, _CLOSE = 30, 1e-7
_TAILS = 4.0  # degrees of freedom of the weights of frames
_LOCAL = 0.5  # seconds over which a weight looks: weights that follow each frame's own noise look surer than they are
_BATCH = 0.5  # seconds of scores that are summed before their covariance is taken
_LEAST_BATCHES = 8
_LONGEST_STEP, _FARTHEST = 0.01, 2.0  # seconds; times from frame to frame
_FINER = 2.0  # times the rate of frames: what is kept of the sensor
_STEP = 1e-4  # seconds over which scores are differentiated
_CLOCK, _DRIFT, _READOUT, _OTHERS = 0, 1, 2, 3


@dataclass(frozen=True, eq=False)
class Shutter:
    """readout: seconds from the first row to the last, negative where the last comes first. std: of it, from the data.

    lag, drift: sensor time = picture time + lag + drift * (picture time - centre), for the middle row. cov: `(2, 2)` of
    them, a crystal's prior and that rows take no longer than a frame included. explained: share of the power.
    """

    readout: float
    std: float
    lag: float
    drift: float
    centre: float
    cov: F64
    explained: float


def seen_below_middle(seen: ImageMotion) -> float:
    """How late one rotation for all rows is, in read-out times: where in the picture the motion was seen, in heights
    below its middle, and what a skew that comes and goes with one axis looks like about another."""
    faster = np.diff(np.asarray(seen.rate.values), axis=0)
    faster[~np.isfinite(faster).all(axis=1)] = 0.0
    normals, rows = seen.normals[1:], seen.rows[1:].mean(axis=2)
    low = np.einsum("kb,kbcd->kcd", rows, normals)
    lowered = np.linalg.pinv(normals.sum(axis=1), rcond=1e-9, hermitian=True) @ low
    return float(np.einsum("kc,kcd,kd->", faster, lowered, faster) / max(float((faster**2).sum()), 1e-300))


@dataclass(frozen=True, eq=False)
class _Bands:
    """Frames `(n, 2)` seconds of both; rows, normals, right as of ImageMotion; inverses: of the normals."""

    frames: F64
    rows: F64
    normals: F64
    right: F64
    inverses: F64
    centre: float


def estimate_shutter(seen: ImageMotion, times: F64, values: F64, clock: ClockMap) -> Shutter | None:
    """The read-out time of a camera that a sensor turned with; None where they share too little, or no rows explain it.

    times `(n,)`, values `(n, 3)`: rotation rates of the sensor. clock: picture -> sensor, good to a small part of what
    the motion takes.
    """
    middle = np.asarray(seen.rate.times)
    frames = np.stack([middle - seen.apart / 2, middle + seen.apart / 2], axis=1)
    longest = float(np.median(seen.apart))
    turned = Turned(times, values, _FINER / longest)
    at = np.asarray(clock(frames))
    use = turned.known(at[:, 0] - longest / 4, at[:, 1] + longest / 4) & (seen.normals[:, :, 0, 0].sum(axis=1) > 0)
    use &= seen.apart < 1.5 * longest
    batch = max(1, round(_BATCH / longest))
    local = np.ones(max(1, round(_LOCAL / longest)))
    if use.sum() < _LEAST_BATCHES * batch:
        return None
    centre = float(middle[use].mean())
    normals = seen.normals[use]
    # Some bands hold too few corners for three axes.
    inverses = np.linalg.pinv(normals, rcond=1e-6, hermitian=True)
    bands = _Bands(frames[use], seen.rows[use], normals, seen.right[use], inverses, centre)
    state = np.zeros(_OTHERS + 15)
    start = float(clock(centre)) - centre
    state[_CLOCK], state[_DRIFT] = start, clock.drift
    weights = np.ones(len(bands.frames))
    prior = np.zeros((len(state), len(state)))
    for turn in range(_ROUNDS):
        if turn == 0:
            state[_OTHERS:] = _linear(bands, turned, state)
        scores, normal, energy, power = _scores(bands, turned, state)
        if turn >= 1:
            near, busy = np.convolve(energy, local, "same"), np.convolve(power, local, "same")
            weights = (_TAILS + 1) / (_TAILS + near / usual_energy(near, busy))
        total = np.einsum("k,kij->ij", weights, normal)
        spread = spread_of_scores(scores * weights[:, None], batch)
        # The prior weighs what the data's own spread says it does.
        inflation = max(float(spread[_DRIFT, _DRIFT] / max(total[_DRIFT, _DRIFT], 1e-300)), 1e-300)
        prior[_DRIFT, _DRIFT] = inflation / PRIOR_DRIFT**2
        right = (weights[:, None] * scores).sum(axis=0)
        right[_DRIFT] -= prior[_DRIFT, _DRIFT] * state[_DRIFT]
        step = symmetric_inverse(total + prior) @ right
        step[:_OTHERS] = np.clip(step[:_OTHERS], -_LONGEST_STEP, _LONGEST_STEP)
        state = state + step
        # One rotation for all rows is off by half of them at most.
        if max(abs(state[_CLOCK] - start), abs(state[_READOUT])) > _FARTHEST * longest:
            return None
        if turn > 3 and max(abs(step[_CLOCK]), abs(step[_READOUT])) < _CLOSE:
            break
    scores, normal, energy, power = _scores(bands, turned, state)
    total = np.einsum("k,kij->ij", weights, normal)
    # The sensor's noise looks like information in J^T J; the slope of the scores themselves knows better.
    for k, step_of in ((_CLOCK, _STEP), (_DRIFT, _STEP / float(np.ptp(bands.frames))), (_READOUT, _STEP)):
        nudge = np.zeros(len(state))
        nudge[k] = step_of
        ahead, behind = (_scores(bands, turned, state + s * nudge)[0] for s in (1, -1))
        slope = -np.einsum("k,ki->i", weights, ahead - behind) / (2 * step_of)
        total[k], total[:, k] = slope, slope
    # Half seconds are few and their spread is known badly; frames, were they independent, tell the least it can be.
    pulls = (scores * weights[:, None]) @ symmetric_inverse(total)[:, :_OTHERS]
    free = larger(pulls.T @ pulls, spread_of_scores(pulls, batch))
    known = symmetric_inverse(free) + np.diag([0.0, PRIOR_DRIFT**-2, 3 / longest**2])
    return Shutter(
        readout=float(state[_READOUT]),
        std=float(np.sqrt(free[_READOUT, _READOUT])),
        lag=float(state[_CLOCK]),
        drift=float(state[_DRIFT]),
        centre=centre,
        cov=symmetric_inverse(known)[:2, :2],
        explained=1 - float((weights * energy).sum()) / max(float((weights * power).sum()), 1e-300),
    )


def _ends(bands: _Bands, state: F64) -> F64:
    """Moments on the sensor's clock at which the bands of both frames were read, `(n, bands, 2)`."""
    at = bands.frames + state[_CLOCK] + state[_DRIFT] * (bands.frames - bands.centre)
    return np.asarray(at[:, None, :] + state[_READOUT] * bands.rows)


def _linear(bands: _Bands, turned: Turned, state: F64) -> F64:
    """The linear map that fits best at a given clock, without slopes over rows."""
    _, jacobian, _ = _model(bands, turned, state)
    linear = jacobian[..., _OTHERS : _OTHERS + 12]
    normal = np.einsum("kbci,kbcd,kbdj->ij", linear, bands.normals, linear)
    right = np.einsum("kbci,kbc->i", linear, bands.right)
    return np.concatenate([symmetric_inverse(normal) @ right, np.zeros(3)])


def _model(bands: _Bands, turned: Turned, state: F64) -> tuple[F64, F64, F64]:
    """What each band should turn by `(n, bands, 3)`, its jacobian `(n, bands, 3, parameters)`, and of that what moves.

    Parameters: lag, drift, read-out; the map of the sensor's axes to the camera's, row by row; the rate at rest; and
    how much more each axis of the camera turns per height of the picture, as near ground does below far hills.
    """
    ends = _ends(bands, state)
    matrix, rest, slope = state[3:12].reshape(3, 3), state[12:15], state[15:18]
    heard = turned.between(ends[..., 0], ends[..., 1])
    fast = [turned.rate(ends[..., k]) @ matrix.T for k in (0, 1)]
    apart = (bands.frames[:, 1] - bands.frames[:, 0])[:, None, None]
    height = bands.rows.mean(axis=2)[..., None]
    gain = 1 + height * slope
    moved = heard @ matrix.T
    away = bands.frames[:, None, :] - bands.centre
    jacobian = np.zeros((*heard.shape, len(state)))
    jacobian[..., _CLOCK] = gain * (fast[1] - fast[0])
    jacobian[..., _DRIFT] = gain * (fast[1] * away[..., 1:] - fast[0] * away[..., :1])
    jacobian[..., _READOUT] = gain * (fast[1] * bands.rows[..., 1:] - fast[0] * bands.rows[..., :1])
    for axis in range(3):
        jacobian[..., axis, 3 + 3 * axis : 6 + 3 * axis] = gain[..., axis : axis + 1] * heard
        jacobian[..., axis, 12 + axis] = apart[..., 0]
        jacobian[..., axis, 15 + axis] = height[..., 0] * moved[..., axis]
    return gain * moved + rest * apart, jacobian, gain * moved


def _scores(bands: _Bands, turned: Turned, state: F64) -> tuple[F64, F64, F64, F64]:
    """Of every frame: scores `(n, p)`, normal matrices `(n, p, p)`, energy of the residual and of the motion `(n,)`."""
    fitted, jacobian, moved = _model(bands, turned, state)
    residual = bands.right - (bands.normals @ fitted[..., None])[..., 0]
    count, parameters = len(residual), len(state)
    flat = jacobian.reshape(count, -1, parameters).transpose(0, 2, 1)
    scores = (flat @ residual.reshape(count, -1, 1))[..., 0]
    normal = flat @ (bands.normals @ jacobian).reshape(count, -1, parameters)
    energy = np.einsum("kbc,kbc->k", residual, (bands.inverses @ residual[..., None])[..., 0])
    power = np.einsum("kbc,kbc->k", moved, (bands.normals @ moved[..., None])[..., 0])
    return scores, normal, energy, power
