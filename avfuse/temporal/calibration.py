"""Figures that turn evidence into probabilities and standard deviations.

They were fitted on simulated rooms (460 pairs for the lobes, 230 for the standard deviation, 290 more for its last
figure) and on 420 unrelated pairs; `python -m benchmarks honest` checks them on other seeds, and its tables are in
docs/accuracy.md.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

# Conditional logit over the lobes of one correlation: heights of the plain, the onset-weighted and the band-wise
# onset-weighted correlation against their maxima, and whether the lobe is inverted. The peakier the plain
# correlation, the less room for doubt.
LOBE_WEIGHTS = np.array([0.0, 4.5, 5.8, -5.0])
LOBE_PEAKINESS = 0.28

# Logit of a match: constant, log of the peak over its null, log of the features' score over 5, which unrelated
# pairs seldom reach. Lines found by waveform alone count as 5.
MATCH_WEIGHTS = np.array([-14.5, 17.0, 12.0])

# Logit of an event that was recorded together, against a jingle that both merely contain: the share of the lively time
# that takes part, where it turns and how fast. True pairs take part by 0.77-0.99 where their noise allows an answer,
# jingles by 0.17-0.61.
SHARE_MIDDLE, SHARE_WIDTH = 0.60, 0.03

# Standard deviation of the lag: noise, and what reverberation bends. The second is log-linear in the scatter of the
# bands (us), the peakiness of the plain correlation and the coherence.
STD_NOISE = 1.3
STD_REVERBERATION = np.array([3.87, 0.64, -1.38, -1.21])


def lobe_probabilities(features: NDArray[np.float64], peakiness: float) -> NDArray[np.float64]:
    """Probability of each lobe, `(lobes,)`, from `(lobes, 4)` features; they sum to 1.

    peakiness: highest value of the plain correlation over its root mean square.
    """
    score = features @ LOBE_WEIGHTS * math.exp(LOBE_PEAKINESS * (math.log(peakiness) - 2.5))
    p = np.exp(score - score.max())
    return np.asarray(p / p.sum())


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-min(max(x, -40.0), 40.0)))


def match_probability(peak: float, score: float, wave: bool) -> float:
    """Probability that two sounds share what their correlation shows."""
    mel = 5.0 if wave else min(max(score, 4.0), 30.0)
    return _logistic(float(MATCH_WEIGHTS @ np.array([1.0, math.log(max(peak, 1e-3)), math.log(mel / 5)])))


def spread_probability(share: float) -> float:
    """Probability that what is shared is the event and not a jingle, from the share of the time that takes part."""
    return _logistic((share - SHARE_MIDDLE) / SHARE_WIDTH)


def widening(noise_std: float, band_scatter: float, peakiness: float, coherence: float) -> float:
    """Factor from the standard deviation by noise alone (s) to one that also covers reverberation."""
    x = np.array([1.0, math.log(max(band_scatter * 1e6, 1e-3)), math.log(max(peakiness, 1.0)), coherence])
    bent = 1e-6 * math.exp(float(STD_REVERBERATION @ x))
    return math.hypot(STD_NOISE * noise_std, bent) / max(noise_std, 1e-12)
