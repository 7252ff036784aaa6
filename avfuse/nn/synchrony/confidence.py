"""From evidence to probability: how far a match stands out from chance, and how often what stands out so is right."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

_SUREST = 0.997  # recordings are not all like those that were held out
_EXCEEDING = 0.3  # of chance maxima tell the tail
# Evidence is the negative logarithm of how many maxima as high chance makes, so that a slope of 1 and a middle near 5
# are what theory says; held-out recordings move them as far as they can.
_MIDDLE, _MIDDLE_STD = 5.0, 2.0
_LOG_SLOPE_STD = 0.5

F64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Tail:
    """How high chance reaches: maxima where nothing can match, their excess over a threshold exponential.

    Whatever correlations are made of, maxima of many have such tails (Gumbel's domain; Karlin and Altschul 1990 count
    chance matches of sequences so). The scale is known from `count` maxima only: what is predicted is a Lomax law.
    """

    threshold: float
    scale: float
    share: float
    count: int

    @classmethod
    def of(cls, maxima: ArrayLike) -> Tail:
        """From at least one maximum."""
        m = np.sort(np.asarray(maxima, np.float64))
        threshold = float(np.quantile(m, 1.0 - _EXCEEDING))
        excess = m[m > threshold] - threshold
        if not len(excess):
            return cls(threshold, 1e-9, 1.0 / len(m), 1)
        return cls(threshold, max(float(excess.mean()), 1e-9), len(excess) / len(m), len(excess))

    def evidence(self, height: float, tries: float) -> float:
        """Minus the logarithm of how many maxima of `tries` chance lifts to `height`."""
        return -math.log(max(tries, 1.0) * self.share) + self.apart(max(height - self.threshold, 0.0))

    def apart(self, distance: float) -> float:
        """Minus the logarithm of how often a maximum exceeds another level by so much more."""
        return self.count * math.log1p(max(distance, 0.0) / (self.count * self.scale))


@dataclass(frozen=True)
class MatchProbability:
    """Logistic in the evidence, and never above `surest`."""

    middle: float
    slope: float
    surest: float

    def __call__(self, evidence: float) -> float:
        return self.surest / (1.0 + math.exp(-min(max(self.slope * (evidence - self.middle), -40.0), 40.0)))

    @classmethod
    def fit(cls, right: ArrayLike, wrong: ArrayLike, trials: int) -> MatchProbability:
        """From evidence of answers that are right and of ones that are wrong, both as likely.

        trials: of unrelated ones that were independent. Without an error in n nobody knows a rate below about 1 / n
        (Laplace's rule of succession): it bounds what is ever claimed.
        """
        from scipy.optimize import minimize

        r, w = np.asarray(right, np.float64), np.asarray(wrong, np.float64)
        balance = len(w) / max(len(r), 1)

        def cost(parameters: F64) -> float:
            middle, slope = parameters[0], math.exp(parameters[1])
            missed = np.logaddexp(0.0, -slope * (r - middle)).sum() * min(balance, 1.0)
            accepted = np.logaddexp(0.0, slope * (w - middle)).sum()
            prior = ((middle - _MIDDLE) / _MIDDLE_STD) ** 2 / 2 + (parameters[1] / _LOG_SLOPE_STD) ** 2 / 2
            return float(missed + accepted + prior)

        found = minimize(cost, np.array([_MIDDLE, 0.0]), method="Nelder-Mead").x
        return cls(float(found[0]), float(math.exp(found[1])), min(_SUREST, 1.0 - 1.0 / (trials + 2.0)))
