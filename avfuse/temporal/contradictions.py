"""Which of two contradicting sets of comparisons is right, and how sure that is.

Cut the comparisons that were kept at one place: what comes off could lie elsewhere, were the ones that were cut wrong.
Those that were left out and lead across the cut say where. Bayes' rule weighs the two: the stated confidences, and
that comparisons which are wrong for no common reason do not agree by chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import lgamma

import numpy as np
from numpy.typing import NDArray

from avfuse.clock import ClockMap
from avfuse.temporal.adjustment import SIGMAS, Clocks, Comparisons, Misfit, bars_missed, misfit
from avfuse.temporal.graph import F64, cut_labels, cuts, depth_first

Mask = NDArray[np.bool_]

# Wrong comparisons scatter, and seldom agree with each other by chance; but they may have a common cause (a chorus that
# comes twice), with this probability. So agreement never counts for more than its inverse.
_COMMON_CAUSE = 0.01
# Comparisons of one recording may be wrong together, so that agreement in loops leaves this share of the doubt.
_TOGETHER = 0.01
# Where loops show more wrong comparisons than the confidences admit, none is trusted more than they allow: the share
# that was wrong, and twice its standard deviation, as if this many more had been tested and were in order.
_PRIOR_COMPARISONS = 30.0
_EDGE = 1e-9  # no stated confidence is nearer to 0 or 1


@dataclass(frozen=True, eq=False)
class Rival:
    """Another place of the nodes that `moves` marks: the one that left-out comparisons like `edge` agree on.

    odds: natural logarithm, of the place they have now against this one.
    """

    moves: Mask
    edge: int
    odds: float

    def by(self, c: Comparisons, clocks: Clocks) -> ClockMap:
        """The map D of the root's time that takes the nodes there: D T_n instead of T_n."""
        return moving_by(c, clocks, self.edge, bool(self.moves[c.ends[1, self.edge]]))


@dataclass(frozen=True, eq=False)
class Weighed:
    """One cut: the kept edges it cuts, the probability that they are right, and what else fits."""

    edges: NDArray[np.int64]
    sure: float
    rivals: tuple[Rival, ...]


def trusted(c: Comparisons, kept: Mask, kinds: NDArray[np.int64], tested: Mask) -> F64:
    """Log odds of the stated confidences, less where loops show more wrong comparisons of that kind than stated.

    kinds: number of the kind of evidence of each. tested: those that lie in loops (see `in_loops`).
    """
    confidence = np.clip(c.confidence, _EDGE, 1 - _EDGE)
    for kind in np.unique(kinds):
        own = kinds == kind
        loops = own & tested
        doubt = 1 - confidence[loops]
        # Only what is no coincidence: twice the deviation of the number that was to be expected.
        excess = float((loops & ~kept).sum() - doubt.sum() - 2 * np.sqrt(np.sum(doubt * (1 - doubt))))
        if excess > 0:
            count = _PRIOR_COMPARISONS + float(loops.sum())
            share = excess / count
            share += 2 * float(np.sqrt(share * (1 - share) / count))
            confidence[own] = np.minimum(confidence[own], 1 - share)
    return np.asarray(np.log(confidence / (1 - confidence)))


def in_loops(c: Comparisons) -> Mask:
    """Which comparisons others could contradict: all that are no bridges."""
    return np.asarray(cut_labels(depth_first(int(c.ends.max()) + 1, c.ends), c.ends) != 0)


def weigh(c: Comparisons, clocks: Clocks, kept: Mask, trust: F64, below: float) -> list[Weighed]:
    """Every cut of the kept comparisons that others contradict with odds that may be below a bound, and every bridge.

    trust: log odds of each comparison. The kept ones join all nodes.
    """
    inner = np.flatnonzero(kept)
    tree = depth_first(len(clocks.offset), c.ends[:, inner])
    missed = misfit(c, clocks)
    worth = np.maximum(trust, _LEAST_WORTH)
    found = []
    seen: set[bytes] = set()
    for moves in cuts(tree, cut_labels(tree, c.ends[:, inner]), trust[inner]):
        key = moves.tobytes()
        if key in seen:
            continue
        seen.add(key)
        crossing = moves[c.ends[0]] ^ moves[c.ends[1]]
        edges, across = np.flatnonzero(crossing & kept), np.flatnonzero(crossing & ~kept)
        if len(edges) > 1:
            # The others have their doubt from `settled_trust`.
            if not len(across):
                continue
            least = worth[edges].sum() - worth[across].sum()
            if len(across) > 1:
                least += np.log(_COMMON_CAUSE)
            if least > below:
                continue
        found.append(_weigh_cut(c, missed, moves, edges, across, trust))
    return found


_LEAST_WORTH = 0.1  # every comparison counts for something, however little it is trusted


def _weigh_cut(
    c: Comparisons, missed: Misfit, moves: Mask, edges: NDArray[np.int64], across: NDArray[np.int64], trust: F64
) -> Weighed:
    worth = np.maximum(trust, _LEAST_WORTH)
    # By what the nodes that come off must move so that each left-out comparison is met.
    sign = np.where(moves[c.ends[1, across]], -1.0, 1.0)
    shift, tilt = sign * missed.time[across], sign * missed.rate[across]
    rivals = []
    for group in _agreeing(c, across, shift, tilt, missed.at[across], worth):
        others = across[group]
        middle = group[int(np.argmax(trust[others]))]
        best = across[middle]
        size = missed.time[best], missed.rate[best]
        of = len(edges) + len(across)
        ours = _agreement(c, edges, missed.time[edges], missed.rate[edges], size, of)
        theirs = _agreement(c, others, shift[group] - shift[middle], tilt[group] - tilt[middle], size, of)
        rivals.append(Rival(moves, int(best), float(worth[edges].sum() - worth[others].sum() + ours - theirs)))
    own = float(trust[edges].sum())
    if len(edges) > 1:
        own -= float(np.log(_COMMON_CAUSE))
    # exp(700) is near the largest float.
    sure = 1 / (1 + sum(np.exp(np.clip(-odds, -700, 700)) for odds in (own, *(r.odds for r in rivals))))
    if len(edges) > 1:
        sure = min(sure, 1 - _TOGETHER / (1 + np.exp(trust[edges].max())))
    return Weighed(edges, float(sure), tuple(rivals))


def _agreement(
    c: Comparisons, edges: NDArray[np.int64], time: F64, rate: F64, size: tuple[float, float], of: int
) -> float:
    """Nats for comparisons that agree as closely as they do, were they wrong and scattered over `size`.

    time, rate: what they differ by; size: seconds and log rate. of: how many they are the best agreeing ones of.
    """
    if len(edges) < 2:
        return 0.0
    near = np.maximum(c.std[edges], np.abs(time)), np.maximum(c.drift_std[edges], np.abs(rate))
    each = np.log1p(np.hypot(size[0] / (2 * near[0]), size[1] / (2 * near[1])))
    # One of them is free to lie anywhere; and among many some agree by chance.
    choices = lgamma(of + 1) - lgamma(len(edges) + 1) - lgamma(of - len(edges) + 1)
    chance = min(float(each.max() - each.sum()) + choices, 0.0)
    return float(-np.log(np.exp(chance) + _COMMON_CAUSE))


def _agreeing(
    c: Comparisons, edges: NDArray[np.int64], shift: F64, tilt: F64, at: F64, worth: F64
) -> list[NDArray[np.int64]]:
    """Groups of edges that ask for the same shift, the most trusted group first; every edge is in one group."""
    if not len(edges):
        return []
    apart = np.hypot(c.bar[edges][:, None], c.bar[edges])
    drift = np.hypot(c.drift_std[edges][:, None], c.drift_std[edges])
    near = np.abs(shift[:, None] - shift) <= apart + SIGMAS * drift * np.abs(at[:, None] - at)
    near &= np.abs(tilt[:, None] - tilt) <= np.hypot(c.rate_bar[edges][:, None], c.rate_bar[edges])
    by_itself = near.sum(0) == 1
    groups = [np.array([k]) for k in np.flatnonzero(by_itself)]
    left = np.flatnonzero(~by_itself)
    while len(left):
        inside = near[np.ix_(left, left)]
        best = int(np.argmax(inside @ (worth[edges[left]] - np.log(_COMMON_CAUSE))))
        groups.append(left[inside[best]])
        left = left[~inside[best]]
    return groups


def moving_by(c: Comparisons, clocks: Clocks, edge: int, moving: bool) -> ClockMap:
    """The map of the root's time that makes an edge fit by taking its moving or else its reference end elsewhere."""
    a, b = c.ends[:, edge].tolist()
    here, there = clocks.map(a) @ c.map(edge), clocks.map(b)
    return here @ there.inverse() if moving else there @ here.inverse()


def settled_trust(c: Comparisons, kept: Mask, trust: F64, weighed: Sequence[Weighed]) -> F64:
    """Probability of every kept comparison (others 0), after loops confirmed or contradicted it."""
    inner = np.flatnonzero(kept)
    alone = 1 / (1 + np.exp(-trust[inner]))
    labels = cut_labels(depth_first(int(c.ends.max()) + 1, c.ends[:, inner]), c.ends[:, inner])
    sure = np.where(labels == 0, alone, 1 - _TOGETHER * (1 - alone))
    # In a loop the least trusted other edge could be wrong by just as much.
    for label in np.unique(labels[labels != 0]):
        group = np.flatnonzero(labels == label)
        if len(group) < 2:
            continue
        least, second = np.sort(trust[inner[group]])[:2]
        partner = np.where(trust[inner[group]] == least, second, least)
        both = 1 / (1 + np.exp(-(trust[inner[group]] + partner - np.log(_COMMON_CAUSE))))
        sure[group] = np.minimum(sure[group], both)
    found = np.zeros(len(kept))
    found[inner] = sure
    for w in weighed:
        found[w.edges] = np.minimum(found[w.edges], w.sure)
    return found


def improves(c: Comparisons, trust: F64, before: Clocks, after: Clocks) -> bool:
    """Whether less has to be called wrong (the cost of truncated least squares)."""
    worth = np.maximum(trust, _LEAST_WORTH) - np.log(_COMMON_CAUSE)

    def cost(clocks: Clocks) -> float:
        return float(worth @ np.minimum(bars_missed(c, clocks) ** 2, 1.0))

    return cost(after) < cost(before) - 1e-6
