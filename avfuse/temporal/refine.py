"""Offset and drift to the limit of the noise, with a covariance that also sees reverberation.

Maximum likelihood for delay: cross spectra over both magnitudes, weighted by coherence / (1 - coherence^2)
(Hannan and Thomson 1973; Knapp and Carter 1976, eq. 39), here per half second and quarter kilohertz, because
speech comes and goes. Newton's method on (lag, drift) about the middle of the evidence, where the two are
uncorrelated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avfuse.temporal.coarse import Line
from avfuse.temporal.evidence import BINS, Evidence
from avfuse.temporal.hearing import RATE

F64 = NDArray[np.float64]

_BAND = 16  # bins that share one weight, 125 Hz
_LOWEST = 6  # bins below 47 Hz carry rumble and hum
_HIGHEST = 960  # bins above 7.5 kHz lie in the transition of the resampling filter, where sound folds
# 75 % overlap of Hann windows: a frame is worth about this share of an independent one.
_WORTH = 0.52


@dataclass(frozen=True, eq=False)
class Refined:
    """line: centred on the evidence. cov: `(2, 2)` of (lag at the centre, drift), noise alone.

    coherence: mean magnitude-squared coherence where it was weighted. drift_known: drift was estimated.
    band_scatter: seconds by which bands of 125 Hz disagree about the lag.
    """

    line: Line
    cov: F64
    coherence: float
    drift_known: bool
    band_scatter: float


def refine(evidence: Evidence, *, sign: int = 1, with_drift: bool = True) -> Refined:
    """Newton steps from `evidence.line`; expects to start inside the right lobe."""
    omega = np.pi * np.arange(BINS) / (BINS - 1) * RATE
    times = evidence.times
    bands = (_HIGHEST - _LOWEST) // _BAND
    use = slice(_LOWEST, _LOWEST + bands * _BAND)
    omega = omega[use]
    size = np.sqrt(evidence.power_reference[:, use].astype(np.float64) * evidence.power_moving[:, use])
    c = sign * evidence.cross[:, use] / np.maximum(size, 1e-30)
    power = (evidence.power_reference[:, use] + evidence.power_moving[:, use]).sum(axis=1)
    c[power < 1e-9] = 0
    frames = evidence.frames.astype(np.float64)
    lag, drift = 0.0, 0.0
    weight = np.ones((len(times), bands))
    centre = float(times.mean())
    for step in range(8):
        lateness = times - centre
        turned = c * np.exp(1j * np.outer(lag + drift * lateness, omega))
        in_band = turned.real.reshape(len(times), bands, _BAND).mean(axis=2)
        coherence = _coherence(in_band, frames)
        weight = coherence / (1 - coherence**2) * frames[:, None]
        per_bin = np.repeat(weight, _BAND, axis=1)
        slope = -(per_bin * omega * turned.imag).sum(axis=1)
        bend = (per_bin * omega**2 * np.maximum(turned.real, 0)).sum(axis=1)
        if bend.sum() <= 0:
            break
        if step < 3:
            # The middle of what counts, so that lag and drift come out uncorrelated.
            moved = float(np.average(times, weights=np.maximum(bend, 0)))
            lag, lateness, centre = lag + drift * (moved - centre), times - moved, moved
        information = np.array(
            [[bend.sum(), (bend * lateness).sum()], [(bend * lateness).sum(), (bend * lateness**2).sum()]]
        )
        score = np.array([slope.sum(), (slope * lateness).sum()])
        if with_drift:
            change = np.linalg.lstsq(information, score, rcond=None)[0]
        else:
            change = np.array([score[0] / information[0, 0], 0.0])
        change = np.clip(change, -1e-4, 1e-4)
        lag, drift = lag + float(change[0]), drift + float(change[1])
        if abs(change[0]) < 1e-10 and abs(change[1]) * evidence.span < 1e-10:
            break
    lateness = times - centre
    turned = c * np.exp(1j * np.outer(lag + drift * lateness, omega))
    return _finish(evidence, turned, omega, weight, lateness, centre, lag, drift, with_drift)


def _coherence(in_band: F64, frames: F64) -> F64:
    """Coherence per group and band from noisy means: drawn towards the band's mean over time, then limited."""
    noise = 1 / (2 * _WORTH * _BAND * 0.67 * np.maximum(frames, 1))[:, None]
    mean = np.average(in_band, axis=0, weights=frames)[None]
    spread = np.maximum(((in_band - mean) ** 2).mean(axis=0)[None] - noise, 0)
    drawn = (spread * in_band + noise * np.maximum(mean, 0)) / (spread + noise)
    return np.asarray(np.clip(drawn, 0.0, 0.9995))


def _finish(
    evidence: Evidence,
    turned: NDArray[np.complex128],
    omega: F64,
    weight: F64,
    lateness: F64,
    centre: float,
    lag: float,
    drift: float,
    with_drift: bool,
) -> Refined:
    groups, bands = weight.shape
    per_bin = np.repeat(weight, _BAND, axis=1)
    slope = -(per_bin * omega * turned.imag).reshape(groups, bands, _BAND).sum(axis=2)
    bend = (per_bin * omega**2 * np.maximum(turned.real, 0)).reshape(groups, bands, _BAND).sum(axis=2)
    ones = np.stack([np.ones_like(lateness), lateness], axis=1)
    information = np.einsum("gb,gi,gj->ij", bend, ones, ones)
    inverse = np.linalg.pinv(information, rcond=1e-18)
    # What scatters from one half second and band to the next is noise.
    cov = inverse @ np.einsum("gb,gi,gj->ij", slope**2, ones, ones) @ inverse
    # Reflections bend the phase of each band alike at all times: what is left there tells of reverberation.
    band_bend = np.maximum(bend.sum(axis=0), 1e-30)
    band_lag = slope.sum(axis=0) / band_bend
    line = evidence.line
    sharp = Line(line.lag + line.drift * (centre - line.centre) + lag, line.drift + drift, centre, line.score)
    gamma2 = _squared_coherence(weight / np.maximum(evidence.frames[:, None], 1))
    return Refined(
        sharp,
        cov,
        float(np.average(gamma2, weights=weight + 1e-30)),
        with_drift,
        float(np.sqrt(np.average(band_lag**2, weights=band_bend))),
    )


def _squared_coherence(ratio: F64) -> F64:
    """Coherence^2 from coherence / (1 - coherence^2)."""
    r = np.maximum(ratio, 1e-12)
    gamma = (np.sqrt(1 + 4 * r * r) - 1) / (2 * r)
    return np.asarray(gamma * gamma)
