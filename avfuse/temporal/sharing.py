"""How evenly what two sounds share is spread over the time that could share it: an event is, a jingle is not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from avfuse.temporal.evidence import Evidence, Onsets
from avfuse.temporal.focus import Lobe, in_band
from avfuse.temporal.hearing import RATE
from avfuse.temporal.refine import BIN_WORTH, ONSET_WORTH

_MOMENTS = 5.0  # half seconds that say something: about evenness, or of a source
_AROUND = 3  # half seconds that are looked at together
_CLEAR = 4.0  # standard deviations of noise
_ALONE, _SELDOM = 0.4, 0.05


def share_of_time(evidence: Evidence, onsets: Onsets, lobes: Sequence[Lobe]) -> float:
    """Share of the lively time that agrees with `lobes`, by all frames alike or by onsets, whichever says more.

    1 where all half seconds contribute alike, 1 / their number where one carries everything. In each half second the
    lobe counts that is strongest around it: who talks where changes with time.
    """
    return max(_taking_part(evidence, lobes), _rising_together(onsets, lobes))


def sources_of(evidence: Evidence, lobes: Sequence[Lobe]) -> NDArray[np.float64]:
    """Share of the telling time in which a lobe is heard and the first one is not, `(lobes,)`; 0 for echoes.

    An echo is heard with its sound, always; sources at other places take turns.
    """
    band = in_band(evidence.spectra.shape[1])
    around = _around(_along_each(evidence.spectra, lobes, band) / evidence.frames)
    noise = np.sqrt(_AROUND * _noise(evidence, band))
    strongest = around.argmax(axis=0)
    telling = around.max(axis=0) > _CLEAR * noise
    found = np.zeros(len(lobes))
    for k in range(1, len(lobes)):
        alone = (around[0] < _ALONE * around[k]) & (around[k] - around[0] > _CLEAR * noise)
        count = np.count_nonzero(telling & (strongest == k) & alone)
        if count >= max(_MOMENTS, _SELDOM * np.count_nonzero(telling)):
            found[k] = count / np.count_nonzero(telling)
    return found


def _taking_part(evidence: Evidence, lobes: Sequence[Lobe]) -> float:
    """Of all the time, or of that in which both sounds rise above their floors."""
    band = in_band(evidence.spectra.shape[1])
    value = _strongest(_along_each(evidence.spectra, lobes, band)) / evidence.frames
    noise = _noise(evidence, band)
    everywhere = _evenness(value, np.ones_like(value), noise)
    # Between impacts there is only noise to compare.
    both = np.sqrt(_above_floor(evidence.power_reference, band) * _above_floor(evidence.power_moving, band))
    return max(everywhere, _evenness(value, both, noise)) if both.sum() >= _MOMENTS else everywhere


def _rising_together(onsets: Onsets, lobes: Sequence[Lobe]) -> float:
    """Of the time in which sound rises at both: decays and pauses are not asked."""
    band = in_band(onsets.fine.shape[1])
    mass, square = (v[:, band].sum(axis=1, dtype=np.float64) for v in (onsets.mass, onsets.square))
    weight = np.minimum(mass, 4 * mass.mean())
    mass = np.maximum(mass, 1e-12)
    value = _strongest(_along_each(onsets.fine, lobes, band)) / mass
    noise = square / mass**2 / (2 * ONSET_WORTH * BIN_WORTH)
    return _evenness(value, weight, float(np.average(noise, weights=weight + 1e-30)))


def _along_each(spectra: NDArray[np.complex64], lobes: Sequence[Lobe], band: NDArray[np.bool_]) -> NDArray[np.float64]:
    """What of `spectra`, `(groups, bins)`, agrees with each lobe, `(lobes, groups)`: real parts without its delay."""
    f = np.linspace(0, RATE / 2, spectra.shape[1])[band]
    turns = np.array([lobe.sign * np.exp(2j * np.pi * f * lobe.lag) for lobe in lobes])
    inside = np.asarray(spectra[:, band], np.complex128)
    return np.array([(inside * turn).real.sum(axis=1) for turn in turns])


def _around(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums over each half second and its neighbours."""
    found = values.copy()
    found[:, 1:] += values[:, :-1]
    found[:, :-1] += values[:, 1:]
    return found


def _strongest(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each half second the lobe that is strongest around it, so that its own noise hardly chooses."""
    return np.asarray(values[_around(values).argmax(axis=0), np.arange(values.shape[1])])


def _noise(evidence: Evidence, band: NDArray[np.bool_]) -> float:
    """Variance of what frames that do not belong together add up to."""
    return float(np.mean([((null[:, band].real.sum(axis=1) / evidence.frames) ** 2).mean() for null in evidence.null]))


def _evenness(value: NDArray[np.float64], weight: NDArray[np.float64], noise: float) -> float:
    """Weighted (sum)^2 / sum of squares against its largest possible value, with the noise taken out."""
    squares = float((weight * value**2).sum())
    power = max(squares - float(weight.sum()) * noise, 0.1 * squares, 1e-30)
    return float(min(1.0, max(float((weight * value).sum()), 0.0) ** 2 / (weight.sum() * power)))


def _above_floor(power: NDArray[np.float32], band: NDArray[np.bool_]) -> NDArray[np.float64]:
    """0 where a group is as quiet as the quietest fifth, 1 where it holds twice that power or more."""
    total = power[:, band].sum(axis=1, dtype=np.float64)
    return np.asarray(np.clip(total / max(float(np.quantile(total, 0.2)), 1e-30) - 1, 0, 1))
