"""Loops that follow a lag which drifts and jumps."""

from __future__ import annotations

import numpy as np
from numba import njit

_VECTORISED = {"reassoc", "contract"}


@njit(cache=True, nogil=True, fastmath=_VECTORISED)
def lag_products(reference, moving, first, lags, block):
    """Inner products of blocks of one sequence with another one, over lags.

    reference: `(n, width)`, moving: `(m, width)` float32. first: `(blocks,)` lag of column 0 for each block.
    lags: columns. block: frames in a block; frame f of block k is frame k * block + f of `moving`, and meets frame
    k * block + f + first[k] + l of `reference` in column l; beyond the ends there is nothing.
    Returns `(blocks, lags)` float32.
    """
    n, width = reference.shape
    m = moving.shape[0]
    out = np.zeros((first.shape[0], lags), np.float32)
    a, b = reference.reshape(-1), moving.reshape(-1)
    for k in range(first.shape[0]):
        for l in range(lags):
            shift = first[k] + l
            start = max(k * block, -shift)
            stop = min((k + 1) * block, m, n - shift)
            if stop <= start:
                continue
            # Slices, because indices with an offset keep the loop from vectorising.
            u = a[(start + shift) * width : (stop + shift) * width]
            v = b[start * width : stop * width]
            total = np.float32(0.0)
            for i in range(v.shape[0]):
                total += u[i] * v[i]
            out[k, l] = total
    return out


@njit(cache=True, nogil=True)
def best_path(scores, moved, steps, step_cost, jump_cost):
    """The path of lags with the largest total score (Viterbi 1967), which may drift, and jump anywhere.

    scores: `(groups, lags)` float32. moved: `(groups,)` columns by which a path that stays falls from one group to the
    next. steps: columns that the path may move beside that, at `step_cost` each; any other move costs `jump_cost`.
    Returns the column of every group, `(groups,)` int64. Of equal paths the one that stays is taken.
    """
    groups, lags = scores.shape
    # 0 is a jump; s + 1 a move by s - steps.
    came = np.zeros((groups, lags), np.uint8)
    best = np.zeros(groups, np.int64)
    value, new = np.zeros(lags, np.float32), np.zeros(lags, np.float32)
    for k in range(lags):
        value[k] = scores[0, k]
    for g in range(1, groups):
        top = 0
        for k in range(lags):
            if value[k] > value[top]:
                top = k
        best[g - 1] = top
        jumped = value[top] - np.float32(jump_cost)
        for k in range(lags):
            new[k] = jumped
        for away in range(steps + 1):
            cost = np.float32(step_cost * away)
            for side in range(2 if away > 0 else 1):
                step = away if side == 0 else -away
                # Column k of this group is reached from column k + back of the last one.
                back = moved[g] - step
                for k in range(max(0, -back), min(lags, lags - back)):
                    from_there = value[k + back] - cost
                    if from_there > new[k] or (away == 0 and from_there == new[k]):
                        new[k] = from_there
                        came[g, k] = step + steps + 1
        for k in range(lags):
            new[k] += scores[g, k]
        value, new = new, value
    k = 0
    for other in range(lags):
        if value[other] > value[k]:
            k = other
    path = np.zeros(groups, np.int64)
    for g in range(groups - 1, -1, -1):
        path[g] = k
        if g > 0:
            k = best[g - 1] if came[g, k] == 0 else k + moved[g] - (np.int64(came[g, k]) - steps - 1)
    return path
