"""One consistent clock per recording from pairwise evidence.

Every edge says t_reference = offset + (1 + drift) * t_moving with a covariance; some are wrong, by anything. Per
island of nodes that edges join:

    start       least absolute misses by iteratively reweighted least squares: convex, no single edge is trusted
    outliers    graduated non-convexity (Yang et al. 2020, "Graduated non-convexity for robust spatial perception"):
                the bar beyond which an edge counts for nothing falls to what its own error explains
    repair      where the comparisons that were left out agree better with each other than those that hold a node, or
                a group that hangs by one or two edges, it is placed anew                        (contradictions)
    answer      Gauss-Newton over what is left, weighted by the covariances                      (adjustment)
    doubt       what else would fit, weighed by Bayes' rule, and what loops confirm              (contradictions)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avfuse.alignment import Candidate, ClockEdge, ClockEstimate, Node
from avfuse.clock import ClockMap
from avfuse.cores import one_blas_thread
from avfuse.errors import StreamError
from avfuse.temporal.adjustment import (
    SIGMAS,
    Clocks,
    Comparisons,
    Normal,
    adjust,
    along,
    bars_missed,
    explain,
    misfit,
    step,
)
from avfuse.temporal.contradictions import Rival, Weighed, improves, in_loops, moving_by, settled_trust, trusted, weigh
from avfuse.temporal.graph import F64, best_chains, cheapest_tree, components, support

Mask = NDArray[np.bool_]

_SURE = 0.9  # confidence below which no clock is stated
# Log odds against another place beyond which nobody need weigh it, and below which a person is told of it.
_NEGLIGIBLE, _LIKELY = 15.0, 5.0


def solve_clocks(edges: Iterable[ClockEdge], *, references: Sequence[Node] = ()) -> dict[Node, ClockEstimate]:
    """Clock of every node on the reference of its island.

    references: nodes to map to, each for the island it belongs to; islands without one take their first node
        in sorted order. The order of the edges changes nothing, nor does which way round any of them is given.
    Returns `reference` for each reference node and `aligned` for the others, `reference` naming the recording
    that they map to; `ambiguous`, with the places that fit, where comparisons contradict each other and nothing
    tells which is wrong. `confidence` is that of the best chain of comparisons to the reference, each confirmed
    by the loops it closes or doubted for what contradicts it. The main island is that of the first of `references`
    or, without any, the largest; estimates of other islands say so in their message.
    Raises StreamError where an edge joins a node with itself.
    """
    ordered = sorted(edges, key=_order)
    for edge in ordered:
        if edge.reference == edge.moving:
            raise StreamError(f"ClockEdge {edge.reference}: joins a node with itself; expected two nodes")
    if not ordered:
        return {}
    nodes = sorted({node for e in ordered for node in (e.reference, e.moving)})
    index = {node: k for k, node in enumerate(nodes)}
    ends = np.array([[index[e.reference] for e in ordered], [index[e.moving] for e in ordered]])
    island_of = components(len(nodes), ends)
    islands = [[node for node, k in zip(nodes, island_of, strict=True) if k == i] for i in range(island_of.max() + 1)]
    roots = [next((node for node in references if node in set(island)), island[0]) for island in islands]
    given = [island_of[index[node]] for node in references if node in index]
    main = given[0] if given else max(range(len(islands)), key=lambda i: len(islands[i]))
    found: dict[Node, ClockEstimate] = {}
    # Matrices of a few hundred rows gain nothing from threads of BLAS, and on a busy machine wait 100 times longer;
    # those of a few rows start no threads.
    with one_blas_thread() if len(nodes) > 40 else nullcontext():
        for i, (root, island) in enumerate(zip(roots, islands, strict=True)):
            own = [e for e, at in zip(ordered, island_of[ends[0]], strict=True) if at == i]
            apart = None
            if i != main:
                apart = f"shares nothing with {roots[main][0]}; forms a group of its own, on the clock of {root[0]}"
            found |= _solve_island(root, island, own, apart)
    return found


def _order(edge: ClockEdge) -> tuple[object, ...]:
    """The same for every order of the edges, and next to the same for every direction."""
    ends = sorted((edge.reference, edge.moving))
    return (*ends, edge.evidence, edge.confidence, edge.reference, edge.map.offset, edge.map.drift, *edge.cov.flat)


@dataclass(frozen=True, eq=False)
class _Solution:
    clocks: Clocks
    normal: Normal
    kept: Mask


def _solve_island(
    root: Node, island: list[Node], edges: list[ClockEdge], apart: str | None
) -> dict[Node, ClockEstimate]:
    nodes = [root, *(node for node in island if node != root)]
    c = Comparisons.of(edges, {node: k for k, node in enumerate(nodes)})
    names = sorted({e.evidence for e in edges})
    kinds = np.array([names.index(e.evidence) for e in edges])
    tested = in_loops(c)
    solution = _repaired(c, kinds, tested, _settled(c, _start(c)))
    trust = trusted(c, solution.kept, kinds, tested)
    weighed = weigh(c, solution.clocks, solution.kept, trust, below=_NEGLIGIBLE)
    return _read_out(nodes, edges, c, solution, trust, weighed, apart)


def _start(c: Comparisons) -> Clocks:
    """Least absolute misses, each in units of its own bar; then the bar falls to one."""
    count = int(c.ends.max()) + 1
    clocks = along(cheapest_tree(count, c.ends, -c.confidence), c)
    clocks, _ = adjust(c, clocks, np.ones(c.ends.shape[1], bool), steps=2)
    missed = bars_missed(c, clocks)
    if missed.max() <= 1.0:
        return clocks  # nothing is wrong
    share = np.maximum(c.confidence, 0.05)
    for _ in range(20):
        # Below a tenth of the bar as of least squares, so that the weights stay finite.
        clocks = _reweighted(c, clocks, share / np.maximum(missed, 0.1))
        before, missed = missed, bars_missed(c, clocks)
        if np.all(np.abs(missed - before) < 0.05 * np.maximum(missed, 1.0)):
            break
    level = float(np.clip(missed.max(), 1.0, 20.0))
    while True:
        clocks = _at_level(c, clocks, level)
        if level <= 1.0:
            return clocks
        level = max(level / 1.4, 1.0)


def _at_level(c: Comparisons, clocks: Clocks, level: float) -> Clocks:
    """Geman and McClure's weights at one step of the graduation (Yang et al. 2020, eq. 12)."""
    weight = 1 / (1 + (bars_missed(c, clocks) / level) ** 2) ** 2
    return _reweighted(c, clocks, weight * np.maximum(c.confidence, 0.05))


def _reweighted(c: Comparisons, clocks: Clocks, weight: F64) -> Clocks:
    # Nothing is let go entirely: every node must keep a place.
    weight = np.maximum(weight / weight.max(), 1e-9)
    return step(c, clocks, weight / c.bar**2, weight / c.rate_bar**2)[0]


def _settled(c: Comparisons, clocks: Clocks) -> _Solution:
    """The least squares answer near a first one, and what it rests on."""
    kept = bars_missed(c, clocks) <= 1.0
    for _ in range(8):
        clocks, kept = _joined(c, clocks, kept)
        clocks, normal = adjust(c, clocks, kept)
        missed = misfit(c, clocks)
        # A precise comparison may lie beyond its bar only because its ends are not known better.
        slack, rate_slack = np.zeros(len(kept)), np.zeros(len(kept))
        out = np.flatnonzero(~kept)
        if len(out):
            time, rate = normal.variances(c.ends[:, out], missed.at[out])
            slack[out], rate_slack[out] = SIGMAS**2 * time, SIGMAS**2 * rate
        now = np.hypot(
            missed.time / np.sqrt(c.bar**2 + slack), missed.rate / np.sqrt(c.rate_bar**2 + rate_slack)
        ) <= 1.0  # fmt: skip
        if np.array_equal(now, kept):
            break
        kept = now
    else:
        clocks, kept = _joined(c, clocks, kept)
        clocks, normal = adjust(c, clocks, kept)
    return _Solution(clocks, normal, kept)


def _joined(c: Comparisons, clocks: Clocks, kept: Mask) -> tuple[Clocks, Mask]:
    """What came off is placed by its most trusted comparison: it must stay, even where a loop contradicts it."""
    count = len(clocks.offset)
    part = components(count, c.ends[:, kept])
    while part.max() > 0:
        missed = bars_missed(c, clocks)
        # Only what leads to the root's part, so that one side stays where it is.
        a, b = part[c.ends]
        across = np.flatnonzero((a == 0) != (b == 0))
        k = int(across[np.lexsort((missed[across], -c.confidence[across]))[0]])
        outer = int(max(a[k], b[k]))
        clocks = clocks.moved(part == outer, moving_by(c, clocks, k, bool(b[k] == outer)))
        kept = kept.copy()
        kept[k] = True
        part[part == outer] = 0
        part = np.unique(part, return_inverse=True)[1]
    return clocks, kept


def _repaired(c: Comparisons, kinds: NDArray[np.int64], tested: Mask, solution: _Solution) -> _Solution:
    """Places anew what fits better elsewhere, until nothing does."""
    for _ in range(2 * len(solution.clocks.offset)):
        trust = trusted(c, solution.kept, kinds, tested)
        rivals = [r for w in weigh(c, solution.clocks, solution.kept, trust, below=0.0) for r in w.rivals if r.odds < 0]
        if not rivals:
            break
        rivals.sort(key=lambda r: (r.odds, r.edge))
        # All that do not touch each other at once; if that makes it worse, one at a time, the clearest first.
        for tried in (_disjoint(c, rivals), *([r] for r in rivals[:_TRIES])):
            clocks = solution.clocks
            for rival in tried:
                clocks = clocks.moved(rival.moves, rival.by(c, solution.clocks))
            for _ in range(3):
                clocks = _at_level(c, clocks, 1.0)
            better = _settled(c, clocks)
            if improves(c, trust, solution.clocks, better.clocks):
                solution = better
                break
        else:
            break
    return solution


_TRIES = 8


def _disjoint(c: Comparisons, rivals: Sequence[Rival]) -> list[Rival]:
    """Rivals that move nodes no other one moves or leans on."""
    taken = np.zeros(int(c.ends.max()) + 1, bool)
    found = []
    for rival in rivals:
        ends = c.ends[:, rival.edge]
        if not (taken & rival.moves).any() and not taken[ends].any():
            found.append(rival)
            taken |= rival.moves
            taken[ends] = True
    return found


def _read_out(
    nodes: list[Node],
    edges: list[ClockEdge],
    c: Comparisons,
    solution: _Solution,
    trust: F64,
    weighed: list[Weighed],
    apart: str | None,
) -> dict[Node, ClockEstimate]:
    kept = solution.kept
    clocks, normal, wider = explain(c, solution.clocks, solution.normal, kept)
    covs = normal.covariances(clocks) * wider
    inner = np.flatnonzero(kept)
    sure = best_chains(len(nodes), c.ends[:, inner], settled_trust(c, kept, trust, weighed)[inner])
    evidence: list[set[str]] = [set() for _ in nodes]
    against: list[set[str]] = [set() for _ in nodes]
    helps = np.zeros(c.ends.shape, bool)
    helps[:, inner] = support(len(nodes), c.ends[:, inner])
    for edge, keep, pair, of_use in zip(edges, kept, c.ends.T.tolist(), helps.T.tolist(), strict=True):
        if keep:
            for node, placed in zip(pair, of_use, strict=True):
                if placed:
                    evidence[node].add(edge.evidence)
        else:
            a, b = pair
            against[a].add(edge.moving[0])
            against[b].add(edge.reference[0])
    name = nodes[0][0]
    found = {nodes[0]: ClockEstimate("reference", ClockMap(), np.zeros((2, 2)), 1.0, message=apart, reference=name)}
    for k, node in enumerate(nodes[1:], 1):
        kinds = tuple(sorted(evidence[k]))
        confidence = float(sure[k])
        if confidence < _SURE:
            rivals = [r for w in weighed for r in w.rivals if r.moves[k] and r.odds < _LIKELY]
            if rivals:
                reason = (
                    "comparisons with other recordings contradict each other and nothing tells which is wrong; "
                    "add a recording that more of them heard, or align fewer"
                )
            else:
                reason = "the chain of comparisons that leads to the reference is not sure enough"
                if not kept.all():
                    reason += (
                        f"; nothing confirms all of it, and {int((~kept).sum())} of {len(kept)} comparisons here "
                        "contradict the others"
                    )
            found[node] = ClockEstimate(
                "ambiguous",
                confidence=confidence,
                candidates=_candidates(c, solution.clocks, k, confidence, rivals),
                message=_both(apart, reason),
                evidence=kinds,
                reference=name,
            )
            continue
        left_out = (
            f"the direct comparison with {', '.join(sorted(against[k]))} disagrees with the others and was left out"
            if against[k]
            else None
        )
        found[node] = ClockEstimate(
            "aligned",
            clocks.map(k),
            covs[k],
            confidence,
            message=_both(apart, left_out),
            evidence=kinds,
            reference=name,
        )
    return found


def _both(apart: str | None, message: str | None) -> str | None:
    return "; ".join(filter(None, (apart, message))) or None


_MOST = 4  # other places that are told


def _candidates(
    c: Comparisons, clocks: Clocks, node: int, confidence: float, rivals: Sequence[Rival]
) -> tuple[Candidate, ...]:
    """The place of a node and, of what the others fit, the likeliest, sharing the doubt."""
    likeliest = {r.edge: r for r in sorted(rivals, key=lambda r: -r.odds)}
    ranked = sorted(likeliest.values(), key=lambda r: (r.odds, r.edge))[:_MOST]
    weight = np.exp(-np.clip([r.odds for r in ranked], -50, 50))
    shares = (1 - confidence) * weight / weight.sum() if ranked else weight
    first = clocks.map(node)
    others = [r.by(c, clocks) @ first for r in ranked]
    return (
        Candidate(first.offset, first.drift, confidence),
        *(Candidate(m.offset, m.drift, float(s)) for m, s in zip(others, shares, strict=True)),
    )
