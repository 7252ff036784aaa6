"""Figures that turn evidence into probabilities and standard deviations.

They were fitted by `python -m benchmarks calibrate` on simulated rooms and on crossed recordings; the held-out
reliability is in docs/accuracy.md. Nothing here was tuned on the recordings of the acceptance tests.
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

# Logit of a match: constant, log of the peak over its null, share of the time that takes part.
MATCH_WEIGHTS = np.array([-8.0, 6.0, 4.0])


def lobe_probabilities(features: NDArray[np.float64], peakiness: float) -> NDArray[np.float64]:
    """Probability of each lobe, `(lobes,)`, from `(lobes, 4)` features; they sum to 1.

    peakiness: highest value of the plain correlation over its root mean square.
    """
    score = features @ LOBE_WEIGHTS * math.exp(LOBE_PEAKINESS * (math.log(peakiness) - 2.5))
    p = np.exp(score - score.max())
    return np.asarray(p / p.sum())


def match_probability(peak: float, share: float) -> float:
    """Probability that two sounds share what their correlation shows."""
    x = float(MATCH_WEIGHTS @ np.array([1.0, math.log(max(peak, 1e-3)), share]))
    return 1 / (1 + math.exp(-min(max(x, -40.0), 40.0)))
