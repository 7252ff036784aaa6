"""Two tracks coupled by a clock and a linear map: y(t) = A x(m(t)) + noise, all of it solved together.

A is a rotation times a gain, or any matrix. Gauss-Newton with Student weights over time, so that a stretch that is not
rigidly coupled counts little; the tracks are weighted over frequency as Hannan and Thomson (1973) do, by how far they
cohere. The covariance is that of the scores as they come out, neighbouring half seconds together (Newey and West 1987).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from avfuse.clock import ClockMap
from avfuse.rotations import cross_matrices, nearest_rotation
from avfuse.temporal.calibration import PRIOR_DRIFT
from avfuse.temporal.tracks import Track, octave_mean, shaped, windows_of

F64 = NDArray[np.float64]

_ROUNDS = 30
_CLOSE = 1e-8  # seconds of a step that ends the rounds
_TAILS = 4.0  # degrees of freedom of the weights over time
_LOCAL = 1.0  # seconds over which a weight looks
_BATCH = 0.5  # seconds of scores that are summed before their covariance is taken
_LAGGED = 2  # batches on either side that a batch may depend on
_LONGEST_STEP, _LARGEST_DRIFT = 0.05, 2e-4
_WINDOW = 4.0  # seconds of the windows over which coherence is measured
_LEAST_WINDOWS = 6
_ORDER, _RIDGE = 8, 1e-4  # of the prediction of a track from its past


class Centred(Protocol):
    """A clock about the middle of what tells it: t_reference = t + lag + drift * (t - centre)."""

    @property
    def lag(self) -> float: ...
    @property
    def drift(self) -> float: ...
    @property
    def centre(self) -> float: ...


def clock_of(found: Centred) -> ClockMap:
    return ClockMap(found.lag - found.drift * found.centre, found.drift)


def cov_at_zero(cov: F64, centre: float) -> F64:
    """Of (offset, drift), from that of (lag, drift) about `centre`."""
    jacobian = np.array([[1.0, -centre], [0.0, 1.0]])
    return np.asarray(jacobian @ cov @ jacobian.T)


@dataclass(frozen=True, eq=False)
class Coupling:
    """The moving track y as a linear map of the reference x: y(t) = matrix @ x(t + lag + drift * (t - centre)).

    cov: `(2, 2)` of (lag, drift), a crystal's prior included. matrix: `(q, p)`. gain: of the rotation in it, or 1.
    rotation_cov: `(3, 3)` rad^2 of the rotation vector on the left of the matrix, where it is a rotation.
    explained: share of the power of y, over the weights. moments: half seconds that tell the lag, were they alike.
    """

    lag: float
    drift: float
    centre: float
    cov: F64
    matrix: F64
    gain: float
    rotation_cov: F64 | None
    explained: float
    moments: float

    def on_reference(self, times: F64) -> F64:
        return times + self.lag + self.drift * (times - self.centre)


class _Reference:
    """The reference between its samples."""

    def __init__(self, x: Track) -> None:
        from scipy.interpolate import CubicSpline

        self._x, self._spline = x, CubicSpline(x.times, x.values.T)

    def covers(self, times: F64) -> NDArray[np.bool_]:
        place = (times - self._x.start) * self._x.rate
        inside = (place >= 1) & (place < self._x.size - 2)
        return np.asarray(inside & self._x.valid[np.clip(place.astype(np.int64), 0, self._x.size - 1)])

    def __call__(self, times: F64, order: int = 0) -> F64:
        return np.asarray(self._spline(times, order))


def couple(x: Track, y: Track, lag: float, drift: float, centre: float, rotation: bool) -> Coupling | None:
    """The coupling nearest to t + lag + drift * (t - centre); None where less than four seconds or so overlap.

    x, y: filtered alike. rotation: whether the map is a rotation times a gain (three channels each).
    """
    from scipy.spatial.transform import Rotation

    reference = _Reference(x)
    t = y.times
    inside = y.valid & reference.covers(t + lag + drift * (t - centre))
    batch = max(1, int(_BATCH * y.rate))
    if inside.sum() < (_LAGGED + 6) * batch:
        return None
    t, target = t[inside], y.values.T[inside]
    at = float(t.mean())
    lag, away = lag + drift * (at - centre), t - at
    weights = np.ones(len(t))
    heard = reference(t + lag + drift * away)
    heard = heard - heard.mean(axis=0)
    moment, gain = target.T @ heard, 1.0
    matrix = nearest_rotation(moment) if rotation else moment @ symmetric_inverse(heard.T @ heard)
    local = np.ones(max(1, int(_LOCAL * y.rate)))
    power = np.convolve((target**2).sum(axis=1), local, "same")
    inflation = 1.0
    for turn in range(_ROUNDS):
        heard = reference(t + lag + drift * away)
        slope = reference(t + lag + drift * away, 1)
        turned = heard @ matrix.T
        # Each channel rests where it rests: what is fitted is what happens about the mean.
        turned = turned - np.average(turned, axis=0, weights=weights)
        aim = target - np.average(target, axis=0, weights=weights)
        if rotation:
            gain = float((weights[:, None] * aim * turned).sum() / (weights[:, None] * turned * turned).sum())
            fitted, moved = gain * turned, gain * slope @ matrix.T
        else:
            fitted, moved = turned, slope @ matrix.T
        residual = aim - fitted
        # Not from the first turn on: where the clocks are still apart, what moves fastest looks worst.
        if turn >= 2:
            energy = np.convolve((residual**2).sum(axis=1), local, "same")
            weights = (_TAILS + 1) / (_TAILS + energy / usual_energy(energy, power))
        jacobian = _jacobian(moved, away, fitted, turned, heard, rotation)
        weighted = jacobian * weights[:, None, None]
        normal = np.einsum("tci,tcj->ij", weighted, jacobian)
        scores = np.einsum("tci,tc->ti", weighted, residual)
        spread = spread_of_scores(scores, batch)
        # The prior weighs what the data's own spread says it does.
        inflation = max(float(spread[1, 1] / max(normal[1, 1], 1e-300)), 1e-300)
        prior = np.zeros_like(normal)
        prior[1, 1] = inflation / PRIOR_DRIFT**2
        right = scores.sum(axis=0)
        right[1] -= prior[1, 1] * drift
        step = np.linalg.lstsq(normal + prior, right, rcond=1e-12)[0]
        ahead = float(np.clip(step[0], -_LONGEST_STEP, _LONGEST_STEP))
        lag, drift = lag + ahead, drift + float(np.clip(step[1], -_LARGEST_DRIFT, _LARGEST_DRIFT))
        if rotation:
            matrix = Rotation.from_rotvec(step[2:5]).as_matrix() @ matrix
        else:
            matrix = matrix + step[2:].reshape(matrix.shape)
        if turn > 4 and abs(ahead) < _CLOSE:
            break
    bent = gain * reference(t + lag + drift * away, 2) @ matrix.T
    inverse = symmetric_inverse(
        normal - _second_order(residual * weights[:, None], bent, moved, fitted, away, rotation, normal)
    )
    told = (weights[:, None] * moved**2).sum(axis=1)[: len(t) // batch * batch].reshape(-1, batch).sum(axis=1)
    moments = effective_count(told)
    free = inverse @ spread @ inverse * _small_sample(moments, normal.shape[0])
    # What the data alone say of the clock, then what a crystal may do.
    clock = symmetric_inverse(symmetric_inverse(free[:2, :2]) + np.diag([0.0, PRIOR_DRIFT**-2]))
    whole = float((weights[:, None] * aim**2).sum())
    return Coupling(
        lag=lag,
        drift=drift,
        centre=at,
        cov=clock,
        matrix=matrix * (gain if rotation else 1.0),
        gain=gain,
        rotation_cov=free[2:5, 2:5] if rotation else None,
        explained=1 - float((weights[:, None] * residual**2).sum()) / max(whole, 1e-300),
        moments=moments,
    )


def usual_energy(energy: F64, power: F64) -> F64:
    """What residuals are where nothing is wrong: noise, and more where more happens, for no model is perfect."""
    busy = power >= np.median(power)
    share = float(np.median(energy[busy] / np.maximum(power[busy], 1e-300)))
    return np.asarray(np.maximum(float(np.median(energy)), 1e-300) + share * power)


def misfit(x: Track, y: Track, clock: Coupling, linear: Coupling) -> float:
    """Share of the power of y that x does not explain, by the clock of one coupling and the matrix of another."""
    reference = _Reference(x)
    at = clock.on_reference(y.times)
    both = y.valid & reference.covers(at)
    if not both.any():
        return 1.0
    heard, target = reference(at[both]) @ linear.matrix.T, y.values.T[both]
    heard, target = heard - heard.mean(axis=0), target - target.mean(axis=0)
    return float(((target - heard) ** 2).sum() / max(float((target**2).sum()), 1e-300))


def symmetric_inverse(matrix: F64) -> F64:
    """Of a symmetric matrix whose rows have different units; what it does not determine comes out huge, not zero."""
    scale = 1 / np.sqrt(np.maximum(np.abs(np.diag(matrix)), 1e-300))
    values, vectors = np.linalg.eigh(matrix * scale[:, None] * scale)
    values = np.maximum(values, 1e-9)
    return np.asarray((vectors / values) @ vectors.T * scale[:, None] * scale)


def larger(least: F64, other: F64) -> F64:
    """The smallest covariance that is no less than `least` along the axes that it shares with the other."""
    root = np.linalg.cholesky(least + 1e-9 * np.diag(np.diag(least)) + 1e-24 * np.eye(len(least)))
    back = np.linalg.inv(root)
    values, vectors = np.linalg.eigh(back @ other @ back.T)
    turned = root @ vectors
    return np.asarray((turned * np.maximum(values, 1.0)) @ turned.T)


def _jacobian(moved: F64, away: F64, fitted: F64, turned: F64, heard: F64, rotation: bool) -> F64:
    """d fitted / d (lag, drift, then rotation vector and gain, or the matrix row by row), `(n, q, parameters)`."""
    clock = [moved[:, :, None], (moved * away[:, None])[:, :, None]]
    heard = heard - heard.mean(axis=0)
    if rotation:
        return np.concatenate([*clock, -cross_matrices(fitted), turned[:, :, None]], axis=2)
    q, p = moved.shape[1], heard.shape[1]
    rows = np.zeros((len(heard), q, q, p))
    for i in range(q):
        rows[:, i, i] = heard
    return np.concatenate([*clock, rows.reshape(len(heard), q, q * p)], axis=2)


def _second_order(residual: F64, bent: F64, moved: F64, fitted: F64, away: F64, rotation: bool, normal: F64) -> F64:
    """What the residual makes of the second derivatives of the fitted track.

    Both tracks are noisy: the noise of the reference looks like information in J^T J, and this takes it out again.
    residual: times its weights. Shapes `(n, q)`.
    """
    out = np.zeros_like(normal)
    along = (residual * bent).sum(axis=1)
    out[0, 0], out[0, 1], out[1, 1] = along.sum(), (along * away).sum(), (along * away * away).sum()
    if rotation:
        turning = np.cross(moved, residual)  # residual . (e x moved) = e . (moved x residual)
        out[0, 2:5], out[1, 2:5] = turning.sum(axis=0), (turning * away[:, None]).sum(axis=0)
        # residual . (e_j x (e_k x f)) = residual_k f_j - delta_jk (residual . f), made symmetric.
        mixed = fitted.T @ residual
        out[2:5, 2:5] = (mixed + mixed.T) / 2 - np.trace(mixed) * np.eye(3)
    return np.triu(out) + np.triu(out, 1).T


def spread_of_scores(scores: F64, batch: int) -> F64:
    """Covariance of the sum of scores that depend on their neighbours."""
    count = len(scores) // batch
    sums = scores[: count * batch].reshape(count, batch, -1).sum(axis=1)
    spread = sums.T @ sums
    for k in range(1, _LAGGED + 1):
        lagged = sums[k:].T @ sums[:-k]
        spread += (1 - k / (_LAGGED + 1)) * (lagged + lagged.T)
    # The sums that are left over at the end count as the others do.
    return np.asarray(spread * len(scores) / (count * batch))


def effective_count(parts: F64) -> float:
    """How many equal parts would scatter as these do; 0 for none."""
    return float(parts.sum() ** 2 / max(float((parts**2).sum()), 1e-300)) if parts.size else 0.0


def _small_sample(count: float, parameters: int) -> float:
    """By how much a variance from `count` batches is too small.

    Parameters take away from the residual; and the spread itself is estimated, over a bandwidth that is a fixed share
    of the batches (Kiefer and Vogelsang 2005, table 1, Bartlett kernel: 1.96 + 2.9694 b + 0.416 b^2).
    """
    share = min(1.0, (_LAGGED + 1) / max(count, 1.0))
    return float(count / max(count - parameters, 1.0) * ((1.96 + 2.9694 * share + 0.416 * share**2) / 1.96) ** 2)


@dataclass(frozen=True, eq=False)
class Coherence:
    """squared: magnitude squared at `frequencies`, without its bias. power: of both tracks. inside: the band looked at.

    information: nats that one track holds about the other, in all.
    """

    frequencies: F64
    squared: F64
    power: F64
    inside: NDArray[np.bool_]
    information: float

    @property
    def main(self) -> float:
        """Of what is strong in both tracks: the squared coherence weighted by their power, over the band looked at."""
        inside = self.inside
        return float((self.squared * self.power)[inside].sum() / max(float(self.power[inside].sum()), 1e-300))


def coherence(x: Track, y: Track, found: Coupling, low: float, high: float) -> Coherence:
    """How far y is what the coupling makes of x, from `low` to `high` Hz; x and y before any filter."""
    t = y.times
    mapped = found.on_reference(t)
    reference = _Reference(x)
    both = y.valid & reference.covers(mapped)
    length = max(16, min(int(_WINDOW * y.rate), 2 * int(both.sum()) // (_LEAST_WINDOWS + 1)))
    turned = _continued(np.where(both, found.matrix @ reference(mapped).T, 0.0), both, length // 2)
    target = _continued(np.where(both, y.values, 0.0), both, length // 2)
    held = np.abs(_continued(both[None].astype(np.float64), both, length // 2)[0] - 1) < 0.5
    taper = np.hanning(length)
    starts = windows_of(held, length)
    powers = np.zeros(len(starts))
    bins = length // 2 + 1
    one, two, both_power = np.zeros(bins), np.zeros(bins), np.zeros(bins)
    for k, s in enumerate(starts):
        a, b = fft.rfft(turned[:, s : s + length] * taper), fft.rfft(target[:, s : s + length] * taper)
        one += (np.abs(a) ** 2).sum(axis=0)
        two += (np.abs(b) ** 2).sum(axis=0)
        both_power += (np.conj(a) * b).real.sum(axis=0)
        powers[k] = np.sqrt((turned[:, s : s + length] ** 2).sum() * (target[:, s : s + length] ** 2).sum())
    frequencies = fft.rfftfreq(length, 1 / y.rate)
    one, two, both_power = (_smoothed(v) for v in (one, two, both_power))
    raw = np.clip(both_power, 0, None) ** 2 / np.maximum(one * two, 1e-300)
    # Moments between long stillness are few windows. Half overlapping Hann windows count for 0.56 each; smoothing joins
    # three bins; each channel adds one.
    busy = effective_count(powers)
    independent = max(busy * 0.56 * 3 * target.shape[0], 1.01)
    squared = np.clip((raw - 1 / independent) / (1 - 1 / independent), 0.0, 0.9999)
    inside = (frequencies >= low) & (frequencies <= high)
    squared[~inside] = 0.0
    seconds = float(both.sum() / y.rate) * busy / max(len(starts), 1)
    information = float(-np.log1p(-squared).sum() * frequencies[1] * seconds * target.shape[0])
    return Coherence(frequencies, squared, np.sqrt(np.maximum(one * two, 1e-300)), inside, information)


def _continued(values: F64, valid: NDArray[np.bool_], more: int) -> F64:
    """From the first valid sample to the last, reflected about both by `more` samples: what happens at an end then lies
    in the middle of a window and not where it fades out."""
    known = np.flatnonzero(valid)
    if known.size < 2:
        return values
    inner = values[:, known[0] : known[-1] + 1]
    return np.asarray(np.pad(inner, ((0, 0), (min(more, inner.shape[1] - 1),) * 2), mode="reflect", reflect_type="odd"))


def _smoothed(values: F64) -> F64:
    taps = np.array([0.25, 0.5, 0.75, 0.5, 0.25])
    padded = np.concatenate([values[2:0:-1], values, values[-2:-4:-1]])
    return np.convolve(padded, taps / taps.sum(), "valid")


def innovations(x: Track, y: Track, mapped: Callable[[F64], F64], matrix: F64, high: float) -> float:
    """Nats that x holds about what is new in y: what its own past does not tell.

    A smooth swell is like any other swell; what of it cannot be told from its past is not. Counts moments by how much
    happens in them, so that one event weighs as one. mapped: times of y to times of x. matrix: channels of x to those
    of y, but for a common gain.
    """
    step = max(1, int(y.rate / (2.5 * high)))  # to hardly more samples than the band holds
    at = mapped(y.times)
    reference = _Reference(x)
    both = (y.valid & reference.covers(at))[::step]
    target = y.values[:, ::step]
    heard = matrix @ np.where(both, reference(at[::step]).T, 0.0)
    taps = prediction_error(target, both)
    # Only what came before: near an end, a filter that looks ahead would invent what it sees.
    whole = np.convolve(both, np.ones(len(taps)))[: both.size] > len(taps) - 0.5
    if whole.sum() < 2 * len(taps):
        return 0.0
    target, fitted = (
        np.stack([np.convolve(channel - channel[both].mean(), taps)[: both.size][whole] for channel in values])
        for values in (target, heard)
    )
    fitted = fitted * float((fitted * target).sum()) / max(float((fitted**2).sum()), 1e-300)
    nats = 0.0
    for made, was in zip(fitted, target, strict=True):
        power = float((was**2).sum())
        moments = np.abs(made * was)
        left = max(float(((was - made) ** 2).sum()) / max(power, 1e-300), 1e-6)
        nats -= 0.5 * effective_count(moments) * np.log(left)
    # Every parameter that was fitted takes half a nat on average where there is nothing.
    return max(0.0, nats - (4 if matrix.shape == (3, 3) else matrix.size) / 2)


def prediction_error(values: F64, valid: NDArray[np.bool_]) -> F64:
    """What leaves of `(channels, n)` only what their last samples do not tell (Yule and Walker), `(order + 1,)`."""
    from scipy.linalg import solve_toeplitz

    centred = np.where(valid, values - values[:, valid].mean(axis=1, keepdims=True), 0.0) if valid.any() else values
    n = centred.shape[1]
    lags = np.array([(centred[:, k:] * centred[:, : n - k]).sum() for k in range(min(_ORDER, n - 1) + 1)])
    lags[0] = lags[0] * (1 + _RIDGE) + 1e-300
    return np.concatenate([[1.0], -solve_toeplitz(lags[:-1], lags[1:])])


def weighted(x: Track, y: Track, how: Coherence) -> tuple[Track, Track]:
    """Both tracks so that their plain correlation weighs frequencies by C / (1 - C), C the squared coherence."""
    squared = np.where(how.squared > 0.02, how.squared, 0.0)
    power = octave_mean(how.frequencies, how.power, 0.25)
    weight = np.sqrt(squared) / (1 - squared) / power
    top = float(weight.max())
    if top <= 0:
        return x, y
    gain = np.sqrt(weight / top)

    def amplitude(frequencies: F64) -> F64:
        return np.asarray(np.interp(frequencies, how.frequencies, gain))

    return shaped(x, amplitude), shaped(y, amplitude)
