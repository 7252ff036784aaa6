"""Offset and drift to the limit of the noise, with a covariance that also sees reverberation.

Maximum likelihood for delay: cross spectra over both magnitudes, weighted by coherence / (1 - coherence^2)
(Hannan and Thomson 1973; Knapp and Carter 1976, eq. 39), here in cells of half a second and 125 Hz, because speech
comes and goes. Newton's method on (lag, drift) about the middle of the evidence, where the two are uncorrelated.

Reflections bend the phase of each band alike at all times. By how much more than noise the bands disagree tells how
much, and bands are then weighted as the studies of a random-effects meta-analysis (DerSimonian and Laird 1986).
"""

from __future__ import annotations

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
    """line: centred on the evidence. cov: `(2, 2)` of (lag at the centre, drift), noise alone.

    bent: seconds, 1 sigma, that reflections bend the lag by, from how bands disagree beyond noise.
    coherence: mean magnitude-squared coherence where it was weighted. drift_known: drift was estimated.
    """

    line: Line
    cov: F64
    bent: float
    coherence: float
    drift_known: bool


def refine(cells: Cells, *, lag: float = 0.0, with_drift: bool = True) -> Refined:
    """Newton steps from `lag` seconds beside `cells.line`; expects to start inside the right lobe."""
    trust = np.ones(cells.looks.shape[1])
    state = (lag, 0.0, float(cells.times.mean()))
    state = _newton(cells, trust, state, with_drift, 6)
    trust = _trust(cells, state)
    state = _newton(cells, trust, state, with_drift, 3)
    lag, drift, centre = state
    weight, slope, bend = _cells(cells, trust, state)
    lateness = cells.times - centre
    ones = np.stack([np.ones_like(lateness), lateness], axis=1)
    inverse = np.linalg.pinv(np.einsum("gb,gi,gj->ij", bend, ones, ones), rcond=1e-18)
    # What scatters from one cell to the next is noise.
    cov = inverse @ np.einsum("gb,gi,gj->ij", slope**2, ones, ones) @ inverse
    between = _between(slope, bend)
    per_band = bend.sum(axis=0)
    bent = float(np.sqrt(between * (per_band**2).sum()) / max(per_band.sum(), 1e-30))
    line = cells.line
    sharp = Line(line.lag + line.drift * (centre - line.centre) + lag, line.drift + drift, centre, line.score)
    gamma2 = _squared_coherence(weight)
    return Refined(sharp, cov, bent, float(np.average(gamma2, weights=weight + 1e-30)), with_drift)


State = tuple[float, float, float]  # lag, drift, and the time about which the two are uncorrelated


def _newton(cells: Cells, trust: F64, state: State, with_drift: bool, steps: int) -> State:
    lag, drift, centre = state
    for step in range(steps):
        _, cell_slope, cell_bend = _cells(cells, trust, (lag, drift, centre))
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


def _cells(cells: Cells, trust: F64, state: State) -> tuple[F64, F64, F64]:
    """Weight, slope and bend of the log-likelihood over lag, `(groups, bands)`."""
    lag, drift, centre = state
    turned = cells.mean * np.exp(1j * np.outer(lag + drift * (cells.times - centre), cells.omega))
    shape = (*cells.looks.shape, -1)
    weight = _coherence(turned.real.reshape(shape).mean(axis=2), cells.looks)
    weight = weight / (1 - weight**2) * trust
    looks = cells.looks / cells.looks.mean()
    slope = -looks * weight * (cells.omega * turned.imag).reshape(shape).sum(axis=2)
    bend = looks * weight * (cells.omega**2 * turned.real).reshape(shape).sum(axis=2)
    return weight, slope, bend


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


def _between(slope: F64, bend: F64) -> float:
    """Variance between the lags of bands beyond noise (DerSimonian and Laird 1986, eq. 9)."""
    per_band = bend.sum(axis=0)
    use = per_band > 1e-3 * per_band.max(initial=0.0)
    if np.count_nonzero(use) < 3:
        return 0.0
    lag = slope.sum(axis=0)[use] / per_band[use]
    variance = (slope**2).sum(axis=0)[use] / per_band[use] ** 2
    weight = 1 / np.maximum(variance, 1e-18)
    mean = np.average(lag, weights=weight)
    excess = float((weight * (lag - mean) ** 2).sum()) - (len(lag) - 1)
    return max(0.0, excess / float(weight.sum() - (weight**2).sum() / weight.sum()))


def _trust(cells: Cells, state: State) -> F64:
    """Factor for the weight of each band: what its noise is of noise and bending together."""
    _, slope, bend = _cells(cells, np.ones(cells.looks.shape[1]), state)
    between = _between(slope, bend)
    per_band = np.maximum(bend.sum(axis=0), 1e-30)
    variance = (slope**2).sum(axis=0) / per_band**2
    tiny = 1e-24  # s^2: identical sounds have no variance at all
    return np.asarray((variance + tiny) / (variance + between + tiny))


def _squared_coherence(ratio: F64) -> F64:
    """Coherence^2 from coherence / (1 - coherence^2)."""
    r = np.maximum(ratio, 1e-12)
    gamma = (np.sqrt(1 + 4 * r * r) - 1) / (2 * r)
    return np.asarray(gamma * gamma)
