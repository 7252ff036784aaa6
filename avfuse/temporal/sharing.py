"""How evenly what two sounds share is spread over the time that could share it: an event is, a jingle is not."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from avfuse.temporal.evidence import Evidence, Onsets
from avfuse.temporal.focus import Lobe, in_band
from avfuse.temporal.hearing import RATE
from avfuse.temporal.refine import BIN_WORTH, ONSET_WORTH

_MOMENTS = 5.0  # half seconds of sound above both floors that say something about evenness


def share_of_time(evidence: Evidence, onsets: Onsets, chosen: Lobe) -> float:
    """Share of the lively time that agrees with `chosen`, by all frames alike or by onsets, whichever says more.

    1 where all half seconds contribute alike, 1 / their number where one carries everything.
    """
    return max(_taking_part(evidence, chosen), _rising_together(onsets, chosen))


def _taking_part(evidence: Evidence, chosen: Lobe) -> float:
    """Of all the time, or of that in which both sounds rise above their floors."""
    band = in_band(evidence.spectra.shape[1])
    value = _along(evidence.spectra, chosen)[:, band].sum(axis=1) / evidence.frames
    noise = float(np.mean([((null[:, band].real.sum(axis=1) / evidence.frames) ** 2).mean() for null in evidence.null]))
    everywhere = _evenness(value, np.ones_like(value), noise)
    # Between impacts there is only noise to compare.
    both = np.sqrt(_above_floor(evidence.power_reference, band) * _above_floor(evidence.power_moving, band))
    return max(everywhere, _evenness(value, both, noise)) if both.sum() >= _MOMENTS else everywhere


def _rising_together(onsets: Onsets, chosen: Lobe) -> float:
    """Of the time in which sound rises at both: decays and pauses are not asked."""
    band = in_band(onsets.fine.shape[1])
    mass, square = (v[:, band].sum(axis=1, dtype=np.float64) for v in (onsets.mass, onsets.square))
    weight = np.minimum(mass, 4 * mass.mean())
    mass = np.maximum(mass, 1e-12)
    value = _along(onsets.fine, chosen)[:, band].sum(axis=1) / mass
    noise = square / mass**2 / (2 * ONSET_WORTH * BIN_WORTH)
    return _evenness(value, weight, float(np.average(noise, weights=weight + 1e-30)))


def _along(spectra: NDArray[np.complex64], lobe: Lobe) -> NDArray[np.float64]:
    """What of `spectra`, `(groups, bins)`, agrees with the lobe: real parts after its delay is taken out."""
    f = np.linspace(0, RATE / 2, spectra.shape[1])
    return np.asarray(lobe.sign * (spectra * np.exp(2j * np.pi * f * lobe.lag)).real)


def _evenness(value: NDArray[np.float64], weight: NDArray[np.float64], noise: float) -> float:
    """Weighted (sum)^2 / sum of squares against its largest possible value, with the noise taken out."""
    squares = float((weight * value**2).sum())
    power = max(squares - float(weight.sum()) * noise, 0.1 * squares, 1e-30)
    return float(min(1.0, max(float((weight * value).sum()), 0.0) ** 2 / (weight.sum() * power)))


def _above_floor(power: NDArray[np.float32], band: NDArray[np.bool_]) -> NDArray[np.float64]:
    """0 where a group is as quiet as the quietest fifth, 1 where it holds twice that power or more."""
    total = power[:, band].sum(axis=1, dtype=np.float64)
    return np.asarray(np.clip(total / max(float(np.quantile(total, 0.2)), 1e-30) - 1, 0, 1))
