"""A picture against a sensor on its camera, frame by frame: for what turns faster than frames can follow.

What a picture turned by from one frame to the next is what the sensor measured between the two, at any frame rate: a
vibration that is too fast for the frames comes out as a beat, and which one depends on the lag (aliasing, undone by the
sensor's own samples). Both are whitened over frames and compared at every lag, whatever linear map relates their axes,
by the nats that one holds about the other (Gelfand and Yaglom 1959); the best lag is then refined on the samples
themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from avfuse.features.flow import ImageMotion
from avfuse.rotations import nearest_rotation
from avfuse.temporal.calibration import PRIOR_DRIFT
from avfuse.temporal.coupling import (
    Coupling,
    effective_count,
    larger,
    prediction_error,
    spread_of_scores,
    symmetric_inverse,
)
from avfuse.temporal.tracks import bridged, native_rate, track_of

F64 = NDArray[np.float64]
Flags = NDArray[np.bool_]

_FINER = 4.0  # times the rate of frames: what is kept of the sensor
_PHASES = 16  # lags that are tried from one frame to the next
_REGULAR = 0.1  # of the usual time between frames, by which others may differ
_FEWEST = 30.0  # frames in common, weighted
_BUSY = 3.0  # times the usual new motion, from which a frame counts less
_GUESS = 4.5  # nats that nine coefficients find where there is nothing
_EVEN = 0.3  # effective count over count, of what is spread evenly
_ROUNDS, _CLOSE, _LONGEST_STEP = 30, 1e-7, 0.5  # the last in times from frame to frame
_TAILS = 4.0  # degrees of freedom of the weights of frames
_BATCH = 0.5  # seconds of scores that are summed before their covariance is taken
_LONGEST = 60.0  # seconds of a picture: over longer ones clocks run apart by a part of a lag


class Turned:
    """What a sensor turned by between two of its moments; highest: Hz of what is kept of it."""

    def __init__(self, times: F64, values: F64, highest: float) -> None:
        from scipy.interpolate import CubicSpline

        cutoff = min(0.45 * native_rate(times), highest)
        track = track_of(times, values, 5 * cutoff, cutoff)
        self._track, self._rate = track, CubicSpline(track.times, track.values.T)
        self._angle = self._rate.antiderivative()

    def known(self, start: F64, end: F64) -> Flags:
        track = self._track
        missing = np.concatenate([[0], np.cumsum(~track.valid)])
        one, two = (np.floor((t - track.start) * track.rate).astype(np.int64) for t in (start, end))
        inside = (one >= 1) & (two < track.size - 2)
        one, two = (np.clip(k, 0, track.size - 2) for k in (one, two))
        return np.asarray(inside & (missing[two + 2] == missing[one]))

    def between(self, start: F64, end: F64) -> F64:
        return np.asarray(self._angle(end) - self._angle(start))

    def rate(self, times: F64) -> F64:
        return np.asarray(self._rate(times))


@dataclass(frozen=True, eq=False)
class FrameMatch:
    """coupling: the picture as a linear map of the sensor. nats: that one holds about the other at the best lag, and
    other: at the best one further than a frame away, both as far as what tells them is spread over the recording."""

    coupling: Coupling
    nats: float
    other: float


@dataclass(frozen=True, eq=False)
class _New:
    """What is new in every frame: times `(n,)` of its middle, values `(n, 3)` rad after `taps`, weights `(n,)`."""

    times: F64
    values: F64
    weights: F64
    taps: F64
    apart: float


def match_frames(seen: ImageMotion, times: F64, values: F64, max_offset: float | None = None) -> FrameMatch | None:
    """Where a picture fits a sensor best; None where they have too little in common to tell.

    times `(n,)`, values `(n, 3)`: rotation rates of the sensor, rad/s. max_offset: seconds, both ways.
    """
    new = _new(seen)
    if new is None or native_rate(times) * new.apart < 1:
        return None
    lags, nats = _nats(new, times, values)
    if max_offset is not None:
        inside = np.abs(lags) <= max_offset
        lags, nats = lags[inside], nats[inside]
    if not nats.size:
        return None
    best = int(nats.argmax())
    away = np.abs(lags - lags[best]) > new.apart
    other = float(nats[away].max()) if away.any() else 0.0
    refined = _refine(new, Turned(times, values, _FINER / new.apart), float(lags[best]))
    if refined is None:
        return None
    coupling, even = refined
    return FrameMatch(coupling, float(nats[best]) * even, max(other, 0.0) * even)


def _new(seen: ImageMotion) -> _New | None:
    apart = float(np.median(seen.apart))
    middle = np.asarray(seen.rate.times)
    turned = np.asarray(seen.rate.values) * seen.apart[:, None]
    good = np.isfinite(turned).all(axis=1) & (np.abs(seen.apart / apart - 1) < _REGULAR)
    turned = np.where(good[:, None], turned, 0.0)
    if good.sum() < _FEWEST:
        return None
    taps = prediction_error(turned.T, good)
    rest = turned[good].mean(axis=0)
    values = np.stack([np.convolve(channel, taps)[: len(turned)] for channel in (turned - rest).T], axis=1)
    whole = np.convolve(good, np.ones(len(taps)))[: len(turned)] > len(taps) - 0.5
    # Frames that follow each other without a gap, for taps reach back over them.
    whole[1:] &= np.diff(middle) < 1.5 * apart
    size = np.linalg.norm(values, axis=1)
    usual = float(np.median(size[whole])) if whole.any() else 0.0
    if usual <= 0:
        return None
    weights = np.where(whole, 1 / (1 + (size / (_BUSY * usual)) ** 2), 0.0)
    if middle[-1] - middle[0] > _LONGEST:
        weights = weights * _busiest(middle, weights * size**2)
    return _New(middle, values, weights, taps, apart)


def _busiest(times: F64, energy: F64) -> Flags:
    """The minute in which most happens."""
    total = np.concatenate([[0.0], np.cumsum(energy)])
    ends = np.searchsorted(times, times + _LONGEST)
    first = int(np.argmax(total[ends] - total[: len(times)]))
    inside = np.zeros(len(times), np.bool_)
    inside[first : ends[first]] = True
    return inside


def _nats(new: _New, times: F64, values: F64) -> tuple[F64, F64]:
    """Lags `(m,)` at which enough is in common, sensor time less picture time, and nats at each.

    The sensor between the frames of a lag, whitened as frames are, is a filter over its own samples; covariances over
    frames at all lags are then correlations with trains of impulses at the frames.
    """
    step = new.apart / _PHASES
    cutoff = min(0.45 * native_rate(times), _FINER / new.apart)
    track = track_of(times, values, 1 / step, cutoff)
    spaced = np.zeros(_PHASES * (len(new.taps) - 1) + 1)
    spaced[::_PHASES] = new.taps
    between = np.full(_PHASES + 1, step)
    between[[0, -1]] /= 2
    response = np.convolve(spaced, between)
    half = _PHASES // 2
    heard = np.stack([np.convolve(channel, response)[half : half + track.size] for channel in bridged(track)])
    known = np.convolve(~track.valid, np.ones(len(response)))[half : half + track.size] < 0.5
    known[: len(response)] = False
    heard = np.where(known, heard, 0.0)
    use = new.weights > 0
    at, weights, seen = new.times[use], new.weights[use], new.values[use]
    place = np.round((at - at[0]) / step).astype(np.int64)
    size = int(place[-1]) + 1
    n = fft.next_fast_len(track.size + size, real=True)

    def train(amplitudes: F64) -> NDArray[np.complex128]:
        return np.asarray(np.conj(fft.rfft(np.bincount(place, amplitudes, minlength=n))))

    def lagged(left: NDArray[np.complex128], right: NDArray[np.complex128]) -> F64:
        product = fft.irfft(left * right, n)
        return np.concatenate([product[n - size + 1 :], product[: track.size]])

    plain, seen_trains = train(weights), [train(weights * channel) for channel in seen.T]
    flat, heard_bins = fft.rfft(known.astype(np.float64), n), fft.rfft(heard, n)
    count = lagged(flat, plain)
    enough = np.flatnonzero(count > _FEWEST)
    count = count[enough]

    def means(left: NDArray[np.complex128], right: NDArray[np.complex128]) -> F64:
        return lagged(left, right)[enough] / count

    def matrices(entries: list[list[F64]]) -> F64:
        return np.asarray(np.array(entries).transpose(2, 0, 1))

    mean_heard = np.array([means(bins, plain) for bins in heard_bins]).T
    mean_seen = np.array([means(flat, right) for right in seen_trains]).T
    cross = matrices([[means(bins, right) for right in seen_trains] for bins in heard_bins])
    one = matrices([[means(fft.rfft(a * b, n), plain) for b in heard] for a in heard])
    two = matrices([[means(flat, train(weights * a * b)) for b in seen.T] for a in seen.T])
    cross -= mean_heard[:, :, None] * mean_seen[:, None, :]
    one -= mean_heard[:, :, None] * mean_heard[:, None, :]
    two -= mean_seen[:, :, None] * mean_seen[:, None, :]
    correlations = np.linalg.svd(_inverse_root(one) @ cross @ _inverse_root(two), compute_uv=False)
    nats = -0.5 * count * np.log1p(-(np.minimum(correlations, 0.9999) ** 2)).sum(axis=1) - _GUESS
    lags = (enough - (size - 1)) * step + track.start - at[0]
    return lags, nats


def _inverse_root(matrices: F64) -> F64:
    """Of symmetric `(n, 3, 3)`; axes about which nothing happens say nothing."""
    values, vectors = np.linalg.eigh(matrices)
    floor = np.maximum(values[:, -1:] * 1e-6, 1e-300)
    return np.asarray((vectors / np.sqrt(np.maximum(values, floor))[:, None, :]) @ vectors.transpose(0, 2, 1))


class _Heard:
    """The sensor between frames, whitened as they are, at a clock; of the frames `use` of all."""

    def __init__(self, new: _New, turned: Turned, lag: float) -> None:
        self._turned, self._taps = turned, new.taps
        self._starts, self._ends = new.times - new.apart / 2, new.times + new.apart / 2
        reach = len(new.taps)
        known = turned.known(self._starts + lag - new.apart, self._ends + lag + new.apart)
        self.use = (new.weights > 0) & (np.convolve(known, np.ones(reach))[: len(known)] > reach - 0.5)
        self.centre = float(new.times[self.use].mean()) if self.use.any() else 0.0

    def at(self, lag: float, drift: float) -> tuple[F64, F64, F64]:
        """What it turned by `(n, 3)`, and its slopes over lag and drift."""
        one, two = self._starts - self.centre, self._ends - self.centre
        start, end = self._starts + lag + drift * one, self._ends + lag + drift * two
        slow, fast = self._turned.rate(start), self._turned.rate(end)
        return (
            self._filtered(self._turned.between(start, end)),
            self._filtered(fast - slow),
            self._filtered(fast * two[:, None] - slow * one[:, None]),
        )

    def _filtered(self, values: F64) -> F64:
        return np.stack([np.convolve(v, self._taps)[: len(v)] for v in values.T], axis=1)[self.use]


def _refine(new: _New, turned: Turned, lag: float) -> tuple[Coupling, float] | None:
    """Lag, drift and map near `lag` by Gauss-Newton with Student weights, and how evenly what tells them is spread."""
    sensor = _Heard(new, turned, lag)
    if sensor.use.sum() < _FEWEST:
        return None
    aim, start, drift = new.values[sensor.use], lag, 0.0
    # What is busy counts less while lags are searched; here, what is not explained does, for weights that follow the
    # picture alone would bend the fit.
    weights, precision = np.ones(len(aim)), np.eye(3)
    matrix: F64 = np.zeros((3, 3))
    prior = np.zeros((11, 11))
    prior[1, 1] = PRIOR_DRIFT**-2

    def products(one: F64, two: F64) -> F64:
        return np.asarray(np.einsum("tc,cd,td->t", one, precision, two))

    for turn in range(_ROUNDS):
        heard, *slopes = sensor.at(lag, drift)
        heard = heard - np.average(heard, axis=0, weights=weights)
        target = aim - np.average(aim, axis=0, weights=weights)
        if turn == 0:
            matrix = np.asarray(np.linalg.lstsq(heard, target, rcond=1e-6)[0].T, np.float64)
        residual = target - heard @ matrix.T
        if turn >= 1:
            weights = (_TAILS + 1) / (_TAILS + products(residual, residual) / 3)
        noise = (residual * weights[:, None]).T @ residual / weights.sum()
        precision = np.linalg.inv(noise + (1e-9 * np.trace(noise) + 1e-300) * np.eye(3))
        jacobian = np.zeros((len(heard), 3, len(prior)))
        for k, slope in enumerate(slopes):
            jacobian[:, :, k] = slope @ matrix.T
        for axis in range(3):
            jacobian[:, axis, 2 + 3 * axis : 5 + 3 * axis] = heard
        whitened = np.einsum("cd,tdp->tcp", precision, jacobian) * weights[:, None, None]
        normal = np.einsum("tcp,tcq->pq", whitened, jacobian)
        scores = np.einsum("tcp,tc->tp", whitened, residual)
        right = scores.sum(axis=0)
        right[1] -= prior[1, 1] * drift
        step = symmetric_inverse(normal + prior) @ right
        ahead = float(np.clip(step[0], -_LONGEST_STEP * new.apart, _LONGEST_STEP * new.apart))
        lag, drift, matrix = lag + ahead, drift + float(step[1]), matrix + step[2:].reshape(3, 3)
        if abs(lag - start) > new.apart:
            return None
        if turn > 3 and abs(ahead) < _CLOSE:
            break
    batch = max(1, round(_BATCH / new.apart))
    pulls = scores @ symmetric_inverse(normal)
    free = larger(pulls.T @ pulls, spread_of_scores(pulls, batch))
    told = products(jacobian[:, :, 0], jacobian[:, :, 0]) * weights
    told = told[: len(told) // batch * batch].reshape(-1, batch).sum(axis=1)
    searched = new.weights[sensor.use]
    even = effective_count(np.abs(products(heard @ matrix.T, target)) * searched) / float(searched.sum())
    missed, whole = (float((products(v, v) * weights).sum()) for v in (residual, target))
    rotation = nearest_rotation(matrix)
    gain = max(float(np.trace(rotation.T @ matrix)) / 3, 1e-300)
    coupling = Coupling(
        lag=lag,
        drift=drift,
        centre=sensor.centre,
        cov=symmetric_inverse(symmetric_inverse(free[:2, :2]) + np.diag([0.0, PRIOR_DRIFT**-2])),
        matrix=gain * rotation,
        gain=gain,
        rotation_cov=_rotation_cov(matrix / gain, rotation, free[2:, 2:] / gain**2),
        explained=1 - missed / max(whole, 1e-300),
        moments=effective_count(told),
    )
    return coupling, min(1.0, even / _EVEN)


def _rotation_cov(matrix: F64, rotation: F64, cov: F64) -> F64:
    """Of the vector of the rotation nearest to a matrix whose nine entries, row by row, have that covariance; what the
    matrix is besides a rotation counts as uncertain too."""
    jacobian = np.zeros((3, 9))
    for entry in range(9):
        unit = np.zeros(9)
        unit[entry] = 1.0
        skew = unit.reshape(3, 3) @ rotation.T
        jacobian[:, entry] = [skew[2, 1] - skew[1, 2], skew[0, 2] - skew[2, 0], skew[1, 0] - skew[0, 1]]
    jacobian /= 2
    return np.asarray(jacobian @ cov @ jacobian.T + float(((matrix - rotation) ** 2).mean()) * np.eye(3))
