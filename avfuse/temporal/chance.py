"""Whether a text fits its sound better than the same phones in another order do.

Any text has a best path through any sound. So the phones of a section are shuffled, and the best path of each
shuffled text is found: same sounds, same number, same pauses allowed. What the true order gains over these, against
what the frames could give at most, is the evidence: 1 where every frame holds the likeliest token there is, 0 where the
text fits like chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avfuse.errors import WeakAlignmentError
from avfuse.temporal.viterbi import PAUSE, Chain, chain_path, ctc_chain, speech_chain

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Scores = NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Units:
    """The phones of a section in order, as columns of its scores.

    columns: one array of columns for each unit. words: `(units,)` index of its word; -1 for what stands between words.
    pause: column of silence or of the blank, None where there is none. ctc: blanks between all units. hurry: what
    leaving out a column within a word costs, -inf where none may be.
    """

    columns: tuple[I64, ...]
    words: I64
    pause: int | None
    ctc: bool = False
    hurry: float = -np.inf

    def chain(self, order: I64 | None = None) -> Chain:
        """order: which unit stands where; words keep their numbers of units."""
        columns = self.columns if order is None else [self.columns[k] for k in order]
        flat = np.concatenate(columns)
        if self.ctc:
            assert self.pause is not None
            return ctc_chain(flat, self.pause)
        sizes = np.array([len(c) for c in columns])
        owners = np.repeat(np.arange(len(columns)), sizes)
        return speech_chain(flat, owners, np.repeat(self.words, sizes), self.pause, self.hurry)


@dataclass(frozen=True, eq=False)
class Fit:
    """first, last: `(units,)` frames of each unit, -1 for one that was left out. gained, possible: `(frames,)` score of
    the path, and of the best tokens of all, above the mean of the shuffled texts. spread: standard deviation of the
    shuffled texts' sums; 0 where the units cannot be shuffled.
    """

    first: I64
    last: I64
    gained: F64
    possible: F64
    spread: float


def fit(scores: Scores, units: Units, rng: np.random.Generator, shuffles: int) -> Fit:
    """The best path, beside those of shuffled texts. Raises WeakAlignmentError where no path is possible."""
    chain = units.chain()
    path, _ = chain_path(scores, chain)
    frames = np.arange(len(path))
    owners = chain.owners[path]
    first, last = np.full(len(units.words), -1), np.full(len(units.words), -1)
    said = np.flatnonzero(owners != PAUSE)
    last[owners[said]] = said
    first[owners[said][::-1]] = said[::-1]
    own = scores[frames, chain.columns[path]].astype(np.float64)
    free = scores.max(axis=1).astype(np.float64)
    others = []
    for order in _orders(units, rng, shuffles):
        other = units.chain(order)
        try:
            way, _ = chain_path(scores, other)
        except WeakAlignmentError:
            continue  # more repeated tokens than the frames allow
        others.append(scores[frames, other.columns[way]].astype(np.float64))
    if not others:
        return Fit(first, last, np.zeros(len(own)), free - own, 0.0)
    usual = np.mean(others, axis=0)
    sums = np.array([other.sum() for other in others])
    return Fit(first, last, own - usual, free - usual, float(sums.std(ddof=1)) if len(sums) > 1 else 0.0)


def _orders(units: Units, rng: np.random.Generator, count: int) -> Sequence[I64]:
    """Shuffled units, what stands between words left in its place; none where all are alike."""
    movable = np.flatnonzero(units.words >= 0)
    kinds = np.unique([units.columns[k][0] for k in movable])
    if len(movable) < 3 or len(kinds) < 2:
        return []
    orders = []
    for _ in range(count):
        order = np.arange(len(units.words))
        order[movable] = rng.permutation(movable)
        orders.append(order)
    return orders
