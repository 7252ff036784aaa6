"""Along a line that two sounds share: which maximum is the direct sound; lag and drift to the limit of the noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from avfuse.temporal import calibration
from avfuse.temporal.coarse import Line
from avfuse.temporal.evidence import MOST_WINDOWS, Evidence, Onsets, choose_windows, gather, gather_onsets
from avfuse.temporal.focus import Lobe, correlation, find_lobes
from avfuse.temporal.hearing import Heard
from avfuse.temporal.refine import cells_of, refine

_APART = 4e-3  # seconds by which a lobe may lie off the line before frames of 64 ms miss much of it
_DRIFT_UNKNOWN = 10e-6


def find_arrivals(sharp: Evidence, onsets: Onsets) -> tuple[list[Lobe], float]:
    """Maxima within reach of the line, and the highest value of the onsets over their root mean square."""
    plain, broad, fine = (correlation(s) for s in (sharp.spectra.sum(axis=0), onsets.broad, onsets.fine.sum(axis=0)))
    return find_lobes(plain, broad, fine), float(np.abs(fine).max() / max(float(np.sqrt(np.mean(fine**2))), 1e-12))


def weigh_lobes(sharp: Evidence, onsets: Onsets) -> tuple[list[Lobe], NDArray[np.float64]]:
    """Maxima within reach of the line, the most probable first, and their probabilities."""
    lobes, sharpness = find_arrivals(sharp, onsets)
    probabilities = calibration.lobe_probabilities(lobes, sharpness)
    order = np.argsort(-probabilities)
    return [lobes[k] for k in order], probabilities[order]


def settle_along(
    a: Heard,
    b: Heard,
    sharp: Evidence,
    onsets: Onsets,
    chosen: Lobe,
    *,
    drift: float = 0.0,
    most: int = MOST_WINDOWS,
) -> calibration.Settled:
    """Lag and drift from all frames alike and from onsets, whichever states less; where the two disagree both say less.

    All frames alike are best without a room, onsets within one. drift: taken where the evidence does not tell it.
    most: see `choose_windows`.
    """
    line, lag, sign = sharp.line, chosen.lag, chosen.sign
    if abs(lag) > _APART:
        line, lag = Line(line.lag + lag, line.drift, line.centre, line.score), 0.0
        windows = choose_windows(a, b, line, most)
        sharp, onsets = gather(a, b, line, windows, with_null=False), gather_onsets(a, b, line, windows)
    # Twice, since the first step moves the frames that the second one compares.
    first = refine(cells_of(sharp, sign=sign), lag=lag).line
    again = cells_of(gather(a, b, first, choose_windows(a, b, first, most), with_null=False), sign=sign)
    rising = cells_of(onsets, sign=sign)
    settled = calibration.settle(refine(again), refine(rising, lag=lag))
    if settled.cov[1, 1] > _DRIFT_UNKNOWN**2:
        flat = Line(line.lag_at(settled.line.centre) + lag, drift, settled.line.centre, line.score)
        windows = choose_windows(a, b, flat, most)
        still = (gather(a, b, flat, windows, with_null=False), gather_onsets(a, b, flat, windows))
        settled = calibration.settle(*(refine(cells_of(e, sign=sign), with_drift=False) for e in still))
    return settled
