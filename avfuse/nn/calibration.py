"""Probabilities that mean what they say, and the right not to answer: both fitted on data that were not trained on."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_softmax, softmax
from scipy.stats import beta

from avfuse.errors import StreamError

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Calibration:
    """What is done to a head's output before anybody reads it.

    temperature: logits are divided by it; of regressions, 1 sigma is multiplied by it. It changes no order of classes.
    threshold: answers of a lower confidence are withheld; None withholds nothing.
    risk: share of wrong answers among those given, an upper bound at `certainty`; None where no threshold was asked.
    answered: share of the held-out data that gets an answer.
    """

    temperature: float = 1.0
    threshold: float | None = None
    risk: float | None = None
    certainty: float = 0.95
    answered: float = 1.0


def fit_temperature(logits: F64, labels: NDArray[np.int64]) -> float:
    """The temperature at which held-out labels are most probable (Guo et al., On calibration of modern neural networks,
    2017, section 4.2).

    logits: (n, classes) with labels (n,), or (n, labels) with labels (n, labels) of 0 or 1. Raises StreamError for
    shapes that do not fit, and where there is nothing to fit to.
    """
    logits, labels = np.asarray(logits, np.float64), np.asarray(labels)
    if logits.ndim != 2 or labels.shape not in ((len(logits),), logits.shape) or not len(logits):
        raise StreamError(
            f"temperature: logits {logits.shape}, labels {labels.shape}; expected (n, k) and (n,) or (n, k)"
        )

    def cost(log_temperature: float) -> float:
        scaled = logits / math.exp(log_temperature)
        if labels.ndim == 1:
            return float(-log_softmax(scaled, axis=1)[np.arange(len(labels)), labels].mean())
        return float(np.logaddexp(0.0, np.where(labels > 0, -scaled, scaled)).mean())

    # Beyond these bounds the labels are all right, or no better than chance: nothing more can be said.
    return math.exp(minimize_scalar(cost, bounds=(math.log(0.05), math.log(20.0)), method="bounded").x)


def fit_spread(means: F64, stds: F64, targets: F64) -> float:
    """What stated standard deviations must be multiplied by for held-out targets to be most probable, if Gaussian."""
    if not (np.shape(means) == np.shape(stds) == np.shape(targets)) or not np.size(means):
        raise StreamError(
            f"spread: means {np.shape(means)}, stds {np.shape(stds)}, targets {np.shape(targets)}; expected one shape"
        )
    return float(np.sqrt(np.mean(((np.asarray(targets) - means) / stds) ** 2)))


def probabilities(logits: F64, temperature: float = 1.0, *, exclusive: bool = True) -> F64:
    """(n, classes) that sum to 1; or, not exclusive, of each label for itself."""
    scaled = np.asarray(logits, np.float64) / temperature
    return np.asarray(softmax(scaled, axis=-1) if exclusive else expit(scaled))


def calibration_error(confidence: F64, right: NDArray[np.bool_], bins: int = 15) -> float:
    """Expected calibration error: |stated - true| over bins of equal numbers, weighted by them (Guo et al., eq. 3)."""
    order = np.argsort(confidence, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return float(sum(len(p) * abs(confidence[p].mean() - right[p].mean()) for p in parts) / len(order))


def fit_threshold(
    confidence: F64, right: NDArray[np.bool_], risk: float, *, certainty: float = 0.95
) -> tuple[float, float, float] | None:
    """The lowest confidence at which answers are wrong in at most `risk` of cases, with probability `certainty`.

    Returns (threshold, its bound of the risk, share answered), or None where no threshold is good enough on these data.
    Geifman and El-Yaniv, Selective classification for deep neural networks, 2017: candidates are halved, and each is
    bounded from above by Clopper and Pearson at certainty shared among them.
    """
    if not (0.0 < risk < 1.0 and 0.0 < certainty < 1.0):
        raise StreamError(f"threshold: risk {risk!r}, certainty {certainty!r}; expected both within 0 ... 1")
    order = np.argsort(-np.asarray(confidence), kind="stable")
    sorted_confidence, wrong = np.asarray(confidence)[order], np.cumsum(~np.asarray(right)[order])
    # What may be answered are whole groups of equal confidence.
    ends = np.flatnonzero(np.append(np.diff(sorted_confidence) < 0, True)) if len(order) else np.zeros(0, np.int64)
    tries = max(1, math.ceil(math.log2(max(len(ends), 2))))
    best: tuple[float, float, float] | None = None
    low, high = 0, len(ends) - 1
    while low <= high:
        middle = (low + high) // 2
        count = int(ends[middle]) + 1
        bound = upper_bound(int(wrong[ends[middle]]), count, 1.0 - (1.0 - certainty) / (tries + 1))
        if bound <= risk:
            best = (float(sorted_confidence[ends[middle]]), bound, count / len(order))
            low = middle + 1
        else:
            high = middle - 1
    return best


def upper_bound(wrong: int, count: int, certainty: float) -> float:
    """Share of wrong ones that is not exceeded with probability `certainty` (Clopper and Pearson, 1934)."""
    return 1.0 if wrong >= count else float(beta.ppf(certainty, wrong + 1, count - wrong))
