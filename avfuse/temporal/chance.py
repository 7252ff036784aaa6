"""Whether a text fits its sound better than the same words in another order do.

Any text has a best path through any sound. So the words of a section are shuffled (its phones, where the words are
few), and the best path of each shuffled text is found: same sounds, same number, same pauses allowed. By how many of
their standard deviations the true order is better than these is a permutation test. What it gains over them, against
what the frames could give at most, tells of single words: 1 where every frame holds the likeliest token there is, 0
where they fit like chance.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from avfuse.errors import WeakAlignmentError
from avfuse.temporal.speech_confidence import MANY
from avfuse.temporal.viterbi import PAUSE, Chain, chain_path, ctc_chain, speech_chain

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Scores = NDArray[np.floating]

_SHUFFLES = 64  # of all sections together
_FEWEST, _MOST = 4, 16  # of each


def shuffles_for(sections: int) -> int:
    """How many shuffled texts each section is compared with: many sections tell of chance together."""
    return max(_FEWEST, min(_MOST, -(-_SHUFFLES // sections)))


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

    def chain(self) -> Chain:
        flat = np.concatenate(self.columns)
        if self.ctc:
            assert self.pause is not None
            return ctc_chain(flat, self.pause)
        sizes = np.array([len(c) for c in self.columns])
        owners = np.repeat(np.arange(len(self.columns)), sizes)
        return speech_chain(flat, owners, np.repeat(self.words, sizes), self.pause, self.hurry)

    def shuffled(self, rng: np.random.Generator) -> Units:
        """Words in another order; where they are few, phones, which leaves the words their numbers of phones. What
        stands between words stays in its place."""
        groups = np.split(np.arange(len(self.words)), np.flatnonzero(np.diff(self.words)) + 1)
        movable = [k for k, group in enumerate(groups) if self.words[group[0]] >= 0]
        if len(movable) >= MANY:
            placed = dict(zip(movable, rng.permutation(movable), strict=True))
            order = np.concatenate([groups[placed.get(k, k)] for k in range(len(groups))])
            return replace(self, columns=tuple(self.columns[k] for k in order), words=self.words[order])
        order, said = np.arange(len(self.words)), np.flatnonzero(self.words >= 0)
        order[said] = rng.permutation(said)
        return replace(self, columns=tuple(self.columns[k] for k in order))


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


def fit(scores: Scores, units: Units, rng: np.random.Generator, shuffles: int = _MOST) -> Fit:
    """The best path, beside those of `shuffles` shuffled texts. Raises WeakAlignmentError where no path is possible."""
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
    kinds = {int(c[0]) for c, word in zip(units.columns, units.words, strict=True) if word >= 0}
    for _ in range(shuffles if len(kinds) > 1 and len(units.words) > 2 else 0):
        other = units.shuffled(rng).chain()
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
