"""Which of two contradicting sets of comparisons is right, and how sure that is.

Cut the comparisons that were kept at one place: what comes off could lie elsewhere, were the ones that were cut wrong.
Those that were left out and lead across the cut say where. Bayes' rule weighs the two: the stated confidences, and
that comparisons which are wrong for no common reason do not agree by chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avfuse.clock import ClockMap
from avfuse.temporal.adjustment import SIGMAS, Clocks, Comparisons, bars_missed, misfit
from avfuse.temporal.graph import F64, Cut, Tree, cut_labels, cuts, side_of, spanning_tree

Mask = NDArray[np.bool_]

# What wrong comparisons that agree are worth, in nats each: they scatter over a second at least, two that agree
# within 6 ms are no coincidence. Where both sides agree among themselves one of them has a common cause (a chorus
# that comes twice), and numbers say less.
_AGREEMENT, _COMMON_CAUSE = 5.0, 1.0
# Comparisons of one recording may be wrong together, so that agreement in loops leaves this share of the doubt.
_TOGETHER = 0.01
# Loops that show more wrong comparisons than the confidences admit count as much as this many that were in order.
_PRIOR_COMPARISONS = 20.0
_EDGE = 1e-9  # no stated confidence is nearer to 0 or 1


@dataclass(frozen=True, eq=False)
class Rival:
    """Another place of the nodes that `moves` marks, D T_n instead of T_n, that left-out comparisons agree on.

    odds: natural logarithm, of the place they have now against this one.
    """

    moves: Mask
    by: ClockMap
    odds: float


@dataclass(frozen=True, eq=False)
class Weighed:
    """One cut: the kept edges it cuts, the probability that they are right, and what else fits."""

    edges: NDArray[np.int64]
    sure: float
    rivals: tuple[Rival, ...]


def trusted(c: Comparisons, kept: Mask, kinds: NDArray[np.int64]) -> F64:
    """Log odds of the stated confidences, less where loops show more wrong comparisons of that kind than stated.

    kinds: number of the kind of evidence of each.
    """
    count = int(c.ends.max()) + 1
    tree = spanning_tree(count, c.ends, -c.confidence)
    checked = cut_labels(tree, c.ends) != 0
    confidence = np.clip(c.confidence, _EDGE, 1 - _EDGE)
    for kind in np.unique(kinds):
        own = kinds == kind
        tested = own & checked
        excess = float((tested & ~kept).sum() - np.sum(1 - confidence[tested]))
        if excess > 0:
            ceiling = 1 - excess / (_PRIOR_COMPARISONS + float(tested.sum()))
            confidence[own] = np.minimum(confidence[own], ceiling)
    return np.asarray(np.log(confidence / (1 - confidence)))


def weigh(c: Comparisons, clocks: Clocks, kept: Mask, trust: F64) -> list[Weighed]:
    """Every cut of the kept comparisons that others contradict, and every bridge.

    trust: log odds of each comparison. The kept ones join all nodes.
    """
    inner = np.flatnonzero(kept)
    count = int(c.ends.max()) + 1
    tree = spanning_tree(count, c.ends[:, inner], -trust[inner])
    out = np.flatnonzero(~kept)
    missed = misfit(c, clocks)
    found = []
    for cut in cuts(tree, c.ends[:, inner], trust[inner]):
        across = out[_crossing(cut, tree, c.ends[:, out])]
        edges = inner[cut.edges]
        # The others have their doubt from `settled_trust`.
        if len(edges) > 1 and not len(across):
            continue
        found.append(_weigh_cut(c, clocks, tree, cut, edges, across, missed.time, missed.at, trust))
    return found


def _crossing(cut: Cut, tree: Tree, ends: NDArray[np.int64]) -> Mask:
    return side_of(cut, tree, ends[0]) ^ side_of(cut, tree, ends[1])


def _weigh_cut(
    c: Comparisons,
    clocks: Clocks,
    tree: Tree,
    cut: Cut,
    edges: NDArray[np.int64],
    across: NDArray[np.int64],
    time: F64,
    at: F64,
    trust: F64,
) -> Weighed:
    own = float(trust[edges].sum())
    doubts = [own + (len(edges) - 1) * _AGREEMENT]
    nodes = np.arange(len(tree.order))
    moves = side_of(cut, tree, nodes)
    if moves[0]:
        moves = ~moves
    rivals = []
    if len(across):
        # By what the nodes that come off must move so that each left-out comparison is met.
        shift = np.where(moves[c.ends[1, across]], -time[across], time[across])
        for group in _agreeing(c, across, shift, at[across], trust):
            odds = own - float(trust[across[group]].sum())
            common = min(len(edges), len(group)) > 1
            odds += (len(edges) - len(group)) * (_COMMON_CAUSE if common else _scatter(c, across[group], shift[group]))
            best = across[group[int(np.argmax(trust[across[group]]))]]
            rivals.append(Rival(moves, _moving_by(c, clocks, best, moves), odds))
    wrong = sum(float(np.exp(-r.odds)) for r in rivals)
    alone = float(np.exp(-doubts[0]))
    sure = 1 / (1 + wrong + alone)
    if len(edges) > 1:
        sure = min(sure, 1 - _TOGETHER * float(1 / (1 + np.exp(trust[edges].max()))))
    return Weighed(edges, sure, tuple(rivals))


def _scatter(c: Comparisons, edges: NDArray[np.int64], shift: F64) -> float:
    """What chance agreement costs where wrong comparisons scatter by as much as these miss."""
    return float(np.log1p(np.min(np.abs(shift) / c.bar[edges])))


def _agreeing(c: Comparisons, edges: NDArray[np.int64], shift: F64, at: F64, trust: F64) -> list[NDArray[np.int64]]:
    """Groups of edges that ask for the same shift, the most trusted group first; every edge is in one group."""
    groups = []
    left = np.arange(len(edges))
    # Each counts for something, however little it is trusted.
    worth = np.maximum(trust[edges], 0.1) + _AGREEMENT
    apart = np.hypot(c.bar[edges][:, None], c.bar[edges])
    drift = np.hypot(c.drift_std[edges][:, None], c.drift_std[edges])
    apart += SIGMAS * drift * np.abs(at[:, None] - at)
    near = np.abs(shift[:, None] - shift) <= apart
    while len(left):
        inside = near[np.ix_(left, left)]
        best = int(np.argmax(inside @ worth[left]))
        groups.append(left[inside[best]])
        left = left[~inside[best]]
    return groups


def _moving_by(c: Comparisons, clocks: Clocks, edge: int, moves: Mask) -> ClockMap:
    """The map of the root's time that makes an edge fit by moving the end that comes off."""
    a, b = c.ends[:, edge].tolist()
    e = ClockMap(float(c.offset[edge]), float(c.drift[edge]))
    here, there = clocks.map(a) @ e, clocks.map(b)
    return here @ there.inverse() if moves[b] else there @ here.inverse()


def settled_trust(c: Comparisons, kept: Mask, trust: F64, weighed: Sequence[Weighed]) -> F64:
    """Probability of every kept comparison (others 0), after loops confirmed or contradicted it."""
    inner = np.flatnonzero(kept)
    alone = 1 / (1 + np.exp(-trust[inner]))
    tree = spanning_tree(int(c.ends.max()) + 1, c.ends[:, inner], -trust[inner])
    labels = cut_labels(tree, c.ends[:, inner])
    sure = np.where(labels == 0, alone, 1 - _TOGETHER * (1 - alone))
    # In a loop the least trusted other edge could be wrong by just as much.
    for label in np.unique(labels[labels != 0]):
        group = np.flatnonzero(labels == label)
        if len(group) < 2:
            continue
        least, second = np.sort(trust[inner[group]])[:2]
        partner = np.where(trust[inner[group]] == least, second, least)
        both = 1 / (1 + np.exp(-(trust[inner[group]] + partner + _AGREEMENT)))
        sure[group] = np.minimum(sure[group], both)
    found = np.zeros(len(kept))
    found[inner] = sure
    for w in weighed:
        found[w.edges] = np.minimum(found[w.edges], w.sure)
    return found


def improves(c: Comparisons, trust: F64, before: Clocks, after: Clocks) -> bool:
    """Whether less has to be called wrong (the cost of truncated least squares)."""
    worth = np.maximum(trust, 0.1) + _AGREEMENT

    def cost(clocks: Clocks) -> float:
        return float(worth @ np.minimum(bars_missed(c, clocks) ** 2, 1.0))

    return cost(after) < cost(before) - 1e-6
