"""Offset and drift to the limit of the noise, with a covariance that also sees reverberation.

Maximum likelihood for delay: cross spectra over both magnitudes, weighted by coherence / (1 - coherence^2)
(Hannan and Thomson 1973; Knapp and Carter 1976, eq. 39), here in cells of half a second and 125 Hz, because speech
comes and goes. Newton's method on (lag, drift) about the middle of the evidence, where the two are uncorrelated.

Reflections bend the phase of each band alike at all times. By how much more than noise the bands disagree tells how
much, and bands are then weighted as the studies of a random-effects meta-analysis (DerSimonian and Laird 1986).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avfuse.temporal.coarse import Line
from avfuse.temporal.evidence import Evidence, Onsets
from avfuse.temporal.hearing import RATE

F64 = NDArray[np.float64]

_BAND = 125.0  # Hz that share one weight
_LOWEST, _HIGHEST = 47.0, 7500.0  # Hz: below lie rumble and hum, above the transition of the resampling filter folds
# 75 % overlap of Hann windows: a frame is worth about this share of an independent one; likewise a bin.
FRAME_WORTH, BIN_WORTH = 0.52, 0.67
ONSET_WORTH = 0.26  # 87.5 % overlap
_CLEAR = 4.0  # standard deviations above none from which a cell's own coherence is believed
_TOGETHER = 12  # groups whose lag is looked at as one
_AROUND = 2  # bands on both sides, and one group, that tell of a cell's coherence


@dataclass(frozen=True, eq=False)
class Cells:
    """Mean phase vectors of two sounds along `line`, for `refine`.

    times: `(groups,)` seconds of the moving sound. mean: `(groups, bins)` complex, at most 1 in size, within the bands
    used. omega: `(bins,)` rad/s. looks: `(groups, bands)` how many independent values each cell averages.
    """

    line: Line
    times: F64
    mean: NDArray[np.complex128]
    omega: F64
    looks: F64


def cells_of(evidence: Evidence | Onsets, *, sign: int = 1) -> Cells:
    """sign: -1 where the match is inverted."""
    bins = evidence.spectra.shape[1]
    width = _BAND / (RATE / 2 / (bins - 1))
    first = round(_LOWEST / _BAND * width)
    bands = int((_HIGHEST - _LOWEST) / _BAND)
    use = slice(first, first + round(bands * width))
    size: F64
    if isinstance(evidence, Evidence):
        power = evidence.power_reference[:, use] + evidence.power_moving[:, use]
        size = np.sqrt(evidence.power_reference[:, use].astype(np.float64) * evidence.power_moving[:, use])
        mean = evidence.cross[:, use] / np.maximum(size, 1e-30)
        mean[power.sum(axis=1) < 1e-9] = 0
        looks = np.repeat(FRAME_WORTH * evidence.frames[:, None].astype(np.float64), bands, axis=1)
    else:
        size = evidence.mass[:, use].astype(np.float64)
        mean = evidence.fine[:, use] / np.maximum(size, 1e-30)
        square = evidence.square[:, use].astype(np.float64)
        looks = ONSET_WORTH * _per_band(size**2, bands) / np.maximum(_per_band(square, bands), 1e-30)
    omega = np.pi * np.arange(bins)[use] / (bins - 1) * RATE
    looks = np.maximum(looks, 0.05) * BIN_WORTH * width
    return Cells(evidence.line, evidence.times, np.asarray(sign * mean, np.complex128), omega, looks)


def _per_band(values: F64, bands: int) -> F64:
    return np.asarray(values.reshape(len(values), bands, -1).mean(axis=2))


@dataclass(frozen=True, eq=False)
class Refined:
    """line: centred on the evidence. cov: diagonal `(2, 2)` of (lag at the centre, drift); of the lag noise alone.

    bent: seconds, 1 sigma, that reflections bend the lag by, from how bands disagree beyond noise; what the same does
    to the drift is in `cov`. wander: seconds, 1 sigma, by which the lag leaves the line for seconds on end.
    coherence: mean magnitude-squared coherence where it was weighted. drift_known: drift was estimated.
    """

    line: Line
    cov: F64
    bent: float
    coherence: float
    drift_known: bool
    wander: float = 0.0


def refine(cells: Cells, *, lag: float = 0.0, with_drift: bool = True) -> Refined:
    """Newton steps from `lag` seconds beside `cells.line`; expects to start inside the right lobe."""
    bands = cells.looks.shape[1]
    told = _Bands(np.ones(bands), np.zeros(bands))
    state = (lag, 0.0, float(cells.times.mean()))
    state = _newton(cells, told, state, with_drift, 5)
    for _ in range(2):
        told = _tell_bands(cells, told.lag, state)
    state = _newton(cells, told, state, with_drift, 4)
    told = _tell_bands(cells, told.lag, state)
    weight, slope, bend = _cells(cells, told, state)
    lag, drift, centre = state
    lateness = cells.times - centre
    band_lag, variance = _studies(slope, bend)
    scatter = slope - bend * band_lag
    if with_drift:
        # Bands disagree about the drift too, where what is heard changes with time.
        tilted = lateness[:, None]
        band_drift, drift_variance = _studies(tilted * scatter, tilted**2 * bend)
        change, drift_variance_left = pooled(band_drift, drift_variance)
        drift += change
    else:
        drift_variance_left = 0.0
    # What scatters from one cell to the next about its band is noise; a band takes one degree of freedom.
    groups, total = len(lateness), max(float(bend.sum()), 1e-30)
    noise = float((scatter**2).sum()) / total**2 * groups / max(groups - 1, 1)
    per_band = bend.sum(axis=0)
    bent = math.sqrt(_between(band_lag, variance) * float((per_band**2).sum())) / total
    line = cells.line
    sharp = Line(line.lag_at(centre) + lag, line.drift + drift, centre, line.score)
    gamma2 = float(np.average(_squared_coherence(weight), weights=weight + 1e-30))
    wander = _wander(cells.times, slope.sum(axis=1), bend.sum(axis=1), noise * total)
    if with_drift:
        # What wanders from one end to the other tilts the line.
        drift_variance_left += 12 * wander**2 / max(float(np.ptp(cells.times)), 1.0) ** 2
    return Refined(sharp, np.diag([noise, drift_variance_left]), bent, gamma2, with_drift, wander)


def _wander(times: F64, slope: F64, bend: F64, unit: float) -> float:
    """By how much the lags of stretches of six seconds scatter beyond noise, where that is beyond doubt.

    slope, bend: of every group. unit: variance of the lag times the bend that tells it.
    """
    stretch = np.concatenate([[0], np.cumsum(np.diff(times) > 1.0)])
    runs = np.concatenate([np.arange(np.count_nonzero(stretch == k)) // _TOGETHER for k in range(stretch[-1] + 1)])
    label = np.unique(stretch * (len(times) + 1) + runs, return_inverse=True)[1]
    score, weight = np.bincount(label, slope), np.bincount(label, np.maximum(bend, 0))
    says = weight > 0.02 * weight.max(initial=0.0)
    count = int(np.count_nonzero(says))
    if count < 6:
        return 0.0
    lag, variance = score[says] / weight[says], unit / weight[says]
    excess = float((lag**2 / variance).sum()) - count
    # Five standard deviations of chi squared: noise alone never gets there.
    if excess < 5 * math.sqrt(2 * count):
        return 0.0
    w = 1 / variance
    return math.sqrt(excess / float(w.sum() - (w**2).sum() / w.sum()))


State = tuple[float, float, float]  # lag, drift, and the time about which the two are uncorrelated


@dataclass(frozen=True, eq=False)
class _Bands:
    """trust: factor for the weight of each band. lag: seconds by which it is off, for its coherence to be seen."""

    trust: F64
    lag: F64


def _newton(cells: Cells, bands: _Bands, state: State, with_drift: bool, steps: int) -> State:
    lag, drift, centre = state
    for step in range(steps):
        _, cell_slope, cell_bend = _cells(cells, bands, (lag, drift, centre))
        slope, bend = cell_slope.sum(axis=1), cell_bend.sum(axis=1)
        if bend.sum() <= 0:
            break
        if step < 3:
            # The middle of what counts, so that lag and drift come out uncorrelated.
            moved = float(np.average(cells.times, weights=np.maximum(bend, 0)))
            lag, centre = lag + drift * (moved - centre), moved
        lateness = cells.times - centre
        tilt = (bend * lateness).sum()
        information = np.array([[bend.sum(), tilt], [tilt, (bend * lateness**2).sum()]])
        score = np.array([slope.sum(), (slope * lateness).sum()])
        if with_drift:
            change = np.linalg.lstsq(information, score, rcond=None)[0]
        else:
            change = np.array([score[0] / information[0, 0], 0.0])
        change = np.clip(change, -1e-4, 1e-4)
        lag, drift = lag + float(change[0]), drift + float(change[1])
        if np.all(np.abs(change) < 1e-11):
            break
    return lag, drift, centre


def _cells(cells: Cells, bands: _Bands, state: State) -> tuple[F64, F64, F64]:
    """Weight, slope and bend of the log-likelihood over lag, `(groups, bands)`."""
    lag, drift, centre = state
    turned = cells.mean * np.exp(1j * np.outer(lag + drift * (cells.times - centre), cells.omega))
    shape = (*cells.looks.shape, -1)
    # Weighed as if its band were not bent: weights that fall with the bending would draw the lag to whatever agrees.
    straight = turned.real
    if bands.lag.any():
        turn = np.repeat(bands.lag, turned.shape[1] // len(bands.lag)) * cells.omega
        straight = straight * np.cos(turn) - turned.imag * np.sin(turn)
    weight = _coherence(straight.reshape(shape).mean(axis=2), cells.looks)
    weight = weight / (1 - weight**2) * bands.trust
    looks = cells.looks / cells.looks.mean()
    slope = -looks * weight * (cells.omega * turned.imag).reshape(shape).sum(axis=2)
    bend = looks * weight * (cells.omega**2 * straight).reshape(shape).sum(axis=2)
    return weight, slope, bend


def _studies(slope: F64, bend: F64) -> tuple[F64, F64]:
    """Lag of each band, and its variance by noise: one over its share of the information, at the scale of all bands."""
    groups = len(slope)
    per_band = bend.sum(axis=0)
    says = per_band > 1e-3 * per_band.max(initial=0.0)
    per_band = np.where(says, per_band, math.inf)  # no lag, and no weight
    lag = slope.sum(axis=0) / per_band
    scatter = float(((slope - bend * lag)[:, says] ** 2).sum()) * groups / max(groups - 1, 1)
    return lag, np.where(says, scatter / max(float(bend[:, says].sum()), 1e-30) / per_band, math.inf)


def _between(value: F64, variance: F64) -> float:
    """Variance between bands beyond noise (DerSimonian and Laird 1986, eq. 9)."""
    says = np.isfinite(variance)
    if np.count_nonzero(says) < 3:
        return 0.0
    value, weight = value[says], 1 / np.maximum(variance[says], 1e-30)
    mean = np.average(value, weights=weight)
    excess = float((weight * (value - mean) ** 2).sum()) - (len(value) - 1)
    return max(0.0, excess / float(weight.sum() - (weight**2).sum() / weight.sum()))


def pooled(value: F64, variance: F64) -> tuple[float, float]:
    """Mean over bands, weighted by noise and what lies between them, and its variance (ibid., eq. 10)."""
    says = np.isfinite(variance)
    if not says.any():
        return 0.0, 1.0
    weight = 1 / np.maximum(variance[says] + _between(value, variance), 1e-30)
    return float(np.average(value[says], weights=weight)), 1 / float(weight.sum())


def _tell_bands(cells: Cells, known: F64, state: State) -> _Bands:
    """Trust: what the noise of each band is of noise and bending together. Lag: as far as it is beyond noise."""
    _, slope, bend = _cells(cells, _Bands(np.ones(len(known)), known), state)
    lag, variance = _studies(slope, bend)
    between = _between(lag, variance)
    tiny = 1e-24  # s^2: identical sounds have no variance at all
    trust = np.where(np.isfinite(variance), 1 / (1 + between / (variance + tiny)), 0.0)
    middle = cells.omega.reshape(len(lag), -1).mean(axis=1)
    return _Bands(trust, np.clip((1 - trust) * lag, -1 / middle, 1 / middle))


def _coherence(in_band: F64, looks: F64) -> F64:
    """Coherence of every cell: its own where that is beyond doubt, else what its neighbours and its band tell.

    A weight that came from the cell's own noise would make noise look like evidence: the interval would be too
    narrow by several times.
    """
    noise = 1 / (2 * looks)
    near, count = _neighbours(in_band)
    near_noise = noise / count
    mean = np.average(in_band, axis=0, weights=looks.mean(axis=1))[None]
    value = np.where(in_band > _CLEAR * np.sqrt(noise), in_band, near)
    spread = np.maximum(((value - mean) ** 2).mean(axis=0)[None] - near_noise, 0)
    own = spread / (spread + near_noise)
    drawn = own * value + (1 - own) * np.maximum(mean, 0)
    error = np.sqrt(own**2 * near_noise + (1 - own) ** 2 * noise / len(in_band))
    # Nothing below one standard deviation counts, everything above two.
    return np.asarray(np.clip(drawn * np.clip(drawn / error - 1, 0, 1), 0.0, 0.9995))


def _neighbours(values: F64) -> tuple[F64, F64]:
    """Mean over the cells around each, itself left out, and how many those are."""
    groups, bands = values.shape
    total, count = -values, np.full(values.shape, -1.0)
    for g in (-1, 0, 1):
        for b in range(-_AROUND, _AROUND + 1):
            here = (slice(max(-g, 0), groups - max(g, 0)), slice(max(-b, 0), bands - max(b, 0)))
            there = (slice(max(g, 0), groups - max(-g, 0)), slice(max(b, 0), bands - max(-b, 0)))
            total[here] += values[there]
            count[here] += 1
    return total / count, count


def _squared_coherence(ratio: F64) -> F64:
    """Coherence^2 from coherence / (1 - coherence^2)."""
    r = np.maximum(ratio, 1e-12)
    gamma = (np.sqrt(1 + 4 * r * r) - 1) / (2 * r)
    return np.asarray(gamma * gamma)
