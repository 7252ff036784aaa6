"""Forced alignment: the likeliest way of given tokens, in order, through scores of every frame (Viterbi 1967).

Chain          the states in order, and which of them may be left out
ctc_chain      blanks between tokens, as in connectionist temporal classification (Graves et al. 2006)
speech_chain   every token for at least one frame, pauses between words where they help
chain_path     the best path through a chain: exact, in memory that grows like (frames x states)^(2/3)
ctc_path       tokens of every frame, as torchaudio.functional.forced_align gives them
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from avfuse._kernels import viterbi as kernels
from avfuse.errors import StreamError, WeakAlignmentError
from avfuse.transcript import checked_scores

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
PAUSE = -1  # owner of a state that belongs to no token


@dataclass(frozen=True, eq=False)
class Chain:
    """columns: `(states,)` column of the scores that each state takes. skips: `(states,)` what is added on arriving at
    a state when the one before it is left out, -inf where it may not be. owners: `(states,)` which of the given tokens
    a state belongs to, or PAUSE. loose: the first and the last state may be left out.
    """

    columns: NDArray[np.uint32]
    skips: F64
    owners: I64
    loose: bool

    @property
    def shortest(self) -> int:
        """Frames that are needed at least."""
        return int(self._before(self.skips)[-1 - self._loose()]) + 1

    def earliest(self) -> I64:
        return self._before(self.skips)

    def latest(self, frames: int) -> I64:
        # Turned round, what was skipped on arriving at s is skipped on arriving at s - 2.
        turned = np.full(len(self.skips), -np.inf)
        turned[2:] = self.skips[2:][::-1]
        return np.asarray(frames - 1 - self._before(turned)[::-1])

    def _loose(self) -> int:
        return int(self.loose and len(self.columns) > 1)

    def _before(self, skips: F64) -> I64:
        needed = np.asarray(kernels.frames_before(skips), np.int64)
        if self._loose():
            needed[1:] = kernels.frames_before(skips[1:])
        return needed


def ctc_chain(tokens: Sequence[int] | I64, blank: int) -> Chain:
    """blank, token, blank, ..., token, blank: a blank may be left out but between two equal tokens."""
    given = np.asarray(tokens, np.int64)
    columns = np.full(2 * len(given) + 1, blank, np.uint32)
    columns[1::2] = given
    skips = np.full(len(columns), -np.inf)
    skips[3::2] = np.where(given[1:] != given[:-1], 0.0, -np.inf)
    owners = np.full(len(columns), PAUSE)
    owners[1::2] = np.arange(len(given))
    return Chain(columns, skips, owners, True)


def speech_chain(columns: I64, owners: I64, words: I64, pause: int | None, hurry: float = -np.inf) -> Chain:
    """States in a row; where the word changes, and at both ends, a pause that may be left out.

    columns, owners, words: of every state. pause: its column; None for no pauses. hurry: what is added when a state is
    left out within a word; -inf where none may be.
    """
    if pause is None:
        skips = np.full(len(columns), hurry)
        skips[:2] = -np.inf
        return Chain(columns.astype(np.uint32), skips, owners, False)
    opens = np.append(True, words[1:] != words[:-1])  # the first state of a word has a pause before it
    at = np.arange(len(columns)) + np.cumsum(opens)
    size = len(columns) + int(opens.sum()) + 1
    all_columns, all_owners = np.full(size, pause, np.uint32), np.full(size, PAUSE)
    all_columns[at], all_owners[at] = columns, owners
    skips = np.full(size, -np.inf)
    skips[at[~opens]] = hurry
    skips[at[opens]] = 0.0
    # After a word's first state comes its second: the pause was before, and the first may not be left out with it.
    second = np.flatnonzero(opens[:-1] & ~opens[1:]) + 1
    skips[at[second]] = -np.inf
    skips[:2] = -np.inf
    return Chain(all_columns, skips, all_owners, True)


def chain_path(scores: NDArray[np.floating], chain: Chain) -> tuple[I64, float]:
    """The state of every frame on the path with the highest sum of scores, and that sum.

    scores: `(frames, tokens)`, float32 or float64; sums are made in the same type. Sums are kept every
    (4 frames x states)^(1/3) frames; between these only states within reach of the path are summed again, so that
    memory grows like (frames x states)^(2/3) and nothing is left out. Equal sums: stay, else go on, else skip.
    Raises WeakAlignmentError where the frames are too few for the chain, or every path holds a score of -inf.
    """
    frames, states = len(scores), len(chain.columns)
    if frames < chain.shortest:
        raise WeakAlignmentError(f"{frames} frames for tokens that need at least {chain.shortest}")
    scores = np.ascontiguousarray(scores)
    skips = chain.skips.astype(scores.dtype)
    every = max(1, round((4.0 * frames * states) ** (1 / 3)))
    rows = kernels.kept_rows(scores, chain.columns, skips, chain.earliest(), chain.latest(frames), every)
    ends = rows[-1, 2:]
    state = states - 1
    if chain.loose and states > 1 and not ends[-1] > ends[-2]:
        state -= 1
    total = float(ends[state])
    if not total > -np.inf:
        raise WeakAlignmentError("every path holds a token that its frame rules out (a score of -inf)")
    path = np.zeros(frames, np.int64)
    path[-1], last = state, frames - 1
    for k in range((frames - 1) // every, -1, -1):
        if k * every < last:
            state = kernels.trace(scores, chain.columns, skips, rows[k], k * every, last, state, path)
            last = k * every
    return path, total


def ctc_path(emissions: ArrayLike, tokens: ArrayLike, *, blank: int = 0) -> I64:
    """Token of every frame on the best path of connectionist temporal classification.

    emissions: `(frames, tokens)` log probabilities. tokens: `(n,)` in order, without blanks. Returns `(frames,)`: what
    `torchaudio.functional.forced_align` returns first, which however stays where going on and skipping are equally good
    and both better; that shows in float32, whose sums are often equal. Give float64 for long recordings.
    Raises StreamError for shapes and tokens that do not fit, WeakAlignmentError for fewer frames than are needed.
    """
    scores, given = checked_scores(emissions), np.asarray(tokens)
    if given.ndim != 1 or not given.size or given.dtype.kind not in "iu":
        raise StreamError(f"tokens: {given.dtype} of shape {given.shape}; expected (n,) whole numbers, at least one")
    count = scores.shape[1]
    for what, value in (("blank", blank), ("tokens", int(given.min())), ("tokens", int(given.max()))):
        if not 0 <= value < count:
            raise StreamError(f"{what}: {value}; the emissions have columns 0 to {count - 1}")
    if (given == blank).any():
        raise StreamError(f"tokens: hold the blank, {blank}; give the tokens alone")
    chain = ctc_chain(given, blank)
    return chain.columns[chain_path(scores, chain)[0]].astype(np.int64)
