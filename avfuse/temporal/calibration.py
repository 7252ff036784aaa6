"""Figures that turn evidence into probabilities and standard deviations.

They were fitted on simulated pairs without a room and in three kinds of rooms (480 for the lobes, 420 for the standard
deviations, 160 for a match) and on 900 lines of unrelated pairs. `python -m benchmarks calibrate` fits them again;
`python -m benchmarks honest` judges them on other seeds, and its tables are in docs/accuracy.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avfuse.temporal.coarse import Line
from avfuse.temporal.focus import Lobe
from avfuse.temporal.refine import Refined

# Conditional logit over the lobes of one correlation: heights of the onset-weighted and of the band-wise onset-weighted
# correlation against their maxima, and whether the lobe is inverted. The height without weights says nothing more. The
# further the band-wise maximum stands out, the less room for doubt.
LOBE_WEIGHTS = np.array([2.6, 9.0, -6.0])
LOBE_SHARPNESS = 0.6

# Logit of a match: constant, log of the peak over its null (unrelated pairs reach 2.5), log of the features' score over
# 5 (they reach 6.6, true pairs start at 6). Lines found by waveform alone count as 5.
MATCH_WEIGHTS = np.array([-16.5, 16.0, 36.0])
MATCH_SCORES = (5.0, 20.0)

# Logit of a match of a few seconds within more: log of the local peak over what unrelated pairs seldom reach.
LOCAL_MIDDLE, LOCAL_WEIGHT = 3.8, 16.0

# Logit of an event that was recorded together, against a jingle that both merely contain: the share of the lively time
# that takes part, where it turns and how fast. True pairs take part by 0.74-1 where their noise allows an answer,
# jingles by 0.6 at most, but where little else overlaps.
SHARE_MIDDLE, SHARE_WIDTH = 0.65, 0.025

# What scatter between cells and between bands says of the standard deviation misses: groups share frames, neighbouring
# bands reflections. The floor is what interpolation and rounding leave.
STD_NOISE, STD_BENT, STD_FLOOR = 1.2, 1.15, 0.04e-6
STD_DRIFT = 1.4


PRIOR_DRIFT = 50e-6  # 1 sigma of ordinary crystals against each other


@dataclass(frozen=True, eq=False)
class Settled:
    """line: centred on the evidence. cov: diagonal `(2, 2)` of (lag at the centre, drift), everything included.

    coherence: see `Refined`. drift_known: drift was estimated.
    """

    line: Line
    cov: NDArray[np.float64]
    coherence: float
    drift_known: bool


def settle(plain: Refined, onset: Refined) -> Settled:
    """The more certain of two estimates from one pair; their disagreement beyond both widens the interval."""
    better, other = sorted((plain, onset), key=lambda r: _variance(r, r.line.centre))
    at = better.line.centre
    line = other.line
    apart = np.array([line.lag_at(at) - better.line.lag, line.drift - better.line.drift])
    own, others = (np.array([_variance(r, at), STD_DRIFT**2 * r.cov[1, 1]]) for r in (better, other))
    cov = np.diag(own + np.maximum(0.0, apart**2 - own - others))
    return Settled(better.line, cov, better.coherence, better.drift_known)


def _variance(refined: Refined, at: float) -> float:
    """Of the lag at a time: noise, reflections, and a clock that is no line."""
    away = at - refined.line.centre
    noise = refined.cov[0, 0] + away**2 * refined.cov[1, 1]
    return float(STD_NOISE**2 * noise + (STD_BENT * refined.bent) ** 2 + refined.wander**2 + STD_FLOOR**2)


def lobe_probabilities(lobes: Sequence[Lobe], sharpness: float) -> NDArray[np.float64]:
    """Probability of each lobe; they sum to 1.

    sharpness: highest value of the band-wise onset-weighted correlation over its root mean square.
    """
    features = np.array([[lobe.broad, lobe.fine, float(lobe.sign < 0)] for lobe in lobes])
    score = features @ LOBE_WEIGHTS * math.exp(LOBE_SHARPNESS * (math.log(sharpness) - 2.5))
    p = np.exp(score - score.max())
    return np.asarray(p / p.sum())


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-min(max(x, -40.0), 40.0)))


def match_probability(peak: float, local: float, score: float, wave: bool) -> float:
    """Probability that two sounds share what their correlation shows, all along or for a few seconds."""
    low, high = MATCH_SCORES
    mel = low if wave else min(max(score, low), high)
    throughout = float(MATCH_WEIGHTS @ np.array([1.0, math.log(max(peak, 1e-3)), math.log(mel / low)]))
    somewhere = LOCAL_WEIGHT * math.log(max(local, 1e-3) / LOCAL_MIDDLE)
    return _logistic(max(throughout, somewhere))


def spread_probability(share: float) -> float:
    """Probability that what is shared is the event and not a jingle, from the share of the time that takes part."""
    return _logistic((share - SHARE_MIDDLE) / SHARE_WIDTH)


# Logit of a path within 50 ms: constant, log of how distinct it is from what lies beside it, log of the standard
# deviation of its smoothing over 10 ms. Simulated rooms and instruments are not all there is: never above the last.
WARP_LOCAL = np.array([-1.38, -4.71, -2.21])
WARP_SUREST = 0.985


def local_confidence(distinct: NDArray[np.float64], std: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probability that a warping path is within 50 ms; see `warp.distinctness`."""
    logs = np.log(np.clip(distinct, 0.05, 1.2)), np.log(np.maximum(std, 1e-4) / 0.01)
    logit = WARP_LOCAL[0] + WARP_LOCAL[1] * logs[0] + WARP_LOCAL[2] * logs[1]
    return np.asarray(np.minimum(1 / (1 + np.exp(-logit)), WARP_SUREST))


# Logit of two takes of one piece, in the log of `warp._unlikeness`. Unrelated pairs of 15-120 s go down to 0.77 (the
# same ten words by one speaker in another order), true pairs in noise 1 dB below them up to 0.67. The shorter they are
# the more chance can do: 0.49 at 16 s, 0.54 at 7 s, of 260.
SAME_MIDDLE, SAME_WEIGHT = 0.76, 28.0
SAME_LONG, SAME_SHORTER = 40.0, 0.5  # seconds; how fast the middle falls below them


def same_piece_probability(unlike: float, duration: float) -> float:
    """Probability that performances of `duration` seconds are takes of one piece; see `warp.estimate_warp`."""
    short = max(0.0, math.sqrt(SAME_LONG / duration) - 1)
    return _logistic(-SAME_WEIGHT * (math.log(max(unlike, 1e-6) / SAME_MIDDLE) + SAME_SHORTER * short))
