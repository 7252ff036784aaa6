"""The likeliest way through a chain of states (Viterbi): sums kept in rows apart, steps found again between them.

A state may stay, go to the next one, or go to the one after that at a price `skips[s]` of arriving at s, -inf where
s - 1 may not be left out. Rows of sums have two cells of -inf before state 0. Equal sums: stay, else go on, else skip.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def frames_before(skips):
    """How many frames a way that may begin in state 0 needs before it can be in each state."""
    needed = np.zeros(len(skips), np.int64)
    for s in range(1, len(skips)):
        needed[s] = needed[s - 1] + 1
        if s > 1 and skips[s] > -np.inf:
            needed[s] = min(needed[s], needed[s - 2] + 1)
    return needed


@njit(cache=True, nogil=True)
def kept_rows(scores, columns, skips, earliest, latest, every):
    """Sums of the likeliest ways to every state at frames 0, every, 2 every, ..., and at the last frame.

    scores: `(frames, tokens)`. columns: unsigned, the token of each state. earliest, latest: first and last frame at
    which a state can lie on a whole way, neither ever falling; what lies outside of them in a row means nothing.
    """
    frames, count = scores.shape[0], len(columns)
    rows = np.full(((frames - 1) // every + 2, count + 2), -np.inf, scores.dtype)
    before = np.full(count + 2, -np.inf, scores.dtype)
    after = np.full(count + 2, -np.inf, scores.dtype)
    low, high = 0, 0
    while high < count and earliest[high] <= 0:
        after[high + 2] = scores[0, columns[high]]
        high += 1
    rows[0] = after
    for t in range(1, frames):
        before, after = after, before
        while high < count and earliest[high] <= t:
            high += 1
        while low < count and latest[low] < t:
            low += 1
        now = scores[t]
        # Unsigned indices cannot be negative: without the wraparound of Python's the loop vectorises.
        for s in range(np.uint64(low), np.uint64(high)):
            best = before[s + np.uint64(2)]
            one = before[s + np.uint64(1)]
            two = before[s] + skips[s]
            best = one if one > best else best
            best = two if two > best else best
            after[s + np.uint64(2)] = best + now[columns[s]]
        if t % every == 0:
            rows[t // every] = after
    rows[-1] = after
    return rows


@njit(cache=True, nogil=True)
def trace(scores, columns, skips, row, first, last, state, path):
    """Fills path[first:last] with the states of the likeliest way to `state` at frame `last`; returns path[first].

    row: kept sums at frame `first`. Only states from which `state` can be reached in time are looked at.
    """
    span = last - first
    lowest = max(0, state - 2 * span)
    steps = np.zeros((span, state - lowest + 1), np.uint8)
    before = row[lowest : state + 3].copy()
    after = np.full(len(before), -np.inf, scores.dtype)
    for k in range(span):
        t = first + 1 + k
        for s in range(max(lowest, state - 2 * (last - t)), state + 1):
            best = before[s - lowest + 2]
            one = before[s - lowest + 1]
            two = before[s - lowest] + skips[s]
            step = 0
            if one > best:
                best, step = one, 1
            if two > best:
                best, step = two, 2
            steps[k, s - lowest] = step
            after[s - lowest + 2] = best + scores[t, columns[s]]
        before, after = after, before
    for k in range(span - 1, -1, -1):
        state -= int(steps[k, state - lowest])
        path[first + k] = state
    return state
