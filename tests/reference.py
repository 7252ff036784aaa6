"""Slow, obvious twins of the kernels."""

from __future__ import annotations

import numpy as np

# Resampling


def polyphase(values, taps, origins, advance, first, periods):
    """Twin of avfuse._kernels.resampling.polyphase."""
    found = np.empty((len(values), periods * len(taps) * 4))
    for c, row in enumerate(values.astype(np.float64)):
        for k in range(found.shape[1]):
            p, rest = divmod(k, len(taps) * 4)
            g, r = divmod(rest, 4)
            at = first + p * advance + origins[g]
            found[c, k] = np.dot(taps[g, r], row[at : at + taps.shape[2]])
    return found


def interpolated(values, taps, starts, phases, weights):
    """Twin of avfuse._kernels.resampling.interpolated."""
    found = np.empty((len(values), len(starts)))
    for k, (start, phase, weight) in enumerate(zip(starts, phases, weights, strict=True)):
        row = (1 - weight) * taps[phase].astype(np.float64) + weight * taps[phase + 1]
        found[:, k] = values[:, start : start + taps.shape[1]] @ row
    return found
