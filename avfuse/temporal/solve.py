"""One consistent clock per recording from pairwise evidence.

Every edge says t_reference = offset + (1 + drift) * t_moving with a covariance. Gauss-Newton on the offset and
the log rate of every node, weighted by the edges' covariances; edges that contradict the rest are let go by
graduated non-convexity (Yang et al. 2020, "Graduated non-convexity for robust spatial perception"): at first
all count, then the bar is lowered until only what fits within its own stated error remains.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from avfuse.alignment import Candidate, ClockEdge, ClockEstimate, Node
from avfuse.clock import ClockMap
from avfuse.errors import StreamError

F64 = NDArray[np.float64]

# Several sources at different places are weighted differently by every pair, so that loops of true edges miss
# by what sound takes for a metre or two: an edge is wrong only beyond this, or 5 of its own sigma if larger.
_TOLERANCE = 0.006
_SIGMAS = 5.0
_SURE = 0.9  # confidence below which no clock is stated


def solve_clocks(edges: Iterable[ClockEdge], *, references: Sequence[Node] = ()) -> dict[Node, ClockEstimate]:
    """Clock of every node on the reference of its island.

    references: nodes to map to, each for the island it belongs to; islands without one take their first node
        in sorted order. The order of the edges changes nothing.
    Returns `reference` for each reference node and `aligned` for the others, `reference` naming the recording
    that they map to; `confidence` is that of the best chain of agreeing edges.
    Raises StreamError where an edge joins a node with itself.
    """
    ordered = sorted(edges, key=lambda e: (e.reference, e.moving, e.evidence, e.map.offset))
    for edge in ordered:
        if edge.reference == edge.moving:
            raise StreamError(f"ClockEdge {edge.reference}: joins a node with itself; expected two nodes")
    found: dict[Node, ClockEstimate] = {}
    for island in _islands(ordered):
        root = next((node for node in references if node in island), min(island))
        found |= _solve_island(root, island, [e for e in ordered if e.reference in island])
    return found


def _islands(edges: Sequence[ClockEdge]) -> list[set[Node]]:
    neighbours: dict[Node, set[Node]] = defaultdict(set)
    for e in edges:
        neighbours[e.reference].add(e.moving)
        neighbours[e.moving].add(e.reference)
    left, found = set(neighbours), []
    while left:
        island, frontier = set(), [min(left)]
        while frontier:
            node = frontier.pop()
            if node not in island:
                island.add(node)
                frontier.extend(neighbours[node] - island)
        found.append(island)
        left -= island
    return found


def _solve_island(root: Node, island: set[Node], edges: list[ClockEdge]) -> dict[Node, ClockEstimate]:
    nodes = sorted(island - {root})
    index = {node: k for k, node in enumerate(nodes)}
    state = _tree(root, island, edges)
    whiten = [_whitener(e.cov) for e in edges]
    weights = np.ones(len(edges))
    misses = np.array([_miss(e, state) for e in edges])
    # Graduated: the bar starts above the worst miss and falls by 1.4 a round to the tolerance of each edge.
    bars = np.array([_bar(e) for e in edges])
    level = max(1.0, float((misses / bars).max()))
    while True:
        for _ in range(3):
            state, normal = _step(nodes, index, state, edges, whiten, weights)
        misses = np.array([_miss(e, state) for e in edges]) / bars
        if level <= 1.0:
            break
        # Truncated least squares seen through a smooth bar (GNC-TLS, eq. 12-14).
        weights = np.clip((level / np.maximum(misses, 1e-12)) ** 2, 0, 1) ** 2
        weights *= np.array([0.05 + 0.95 * e.confidence for e in edges])
        level = max(level / 1.4, 1.0) if level > 1.0001 else 1.0
    kept = misses <= 1.0
    if not _spans(root, island, [e for e, k in zip(edges, kept, strict=True) if k]):
        # What holds the island together must stay, even where a loop contradicts it.
        kept |= _backbone(root, edges, misses)
    for _ in range(4):
        state, normal = _step(nodes, index, state, edges, whiten, kept.astype(float))
    return _read_out(root, nodes, index, state, normal, edges, whiten, kept)


def _tree(root: Node, island: set[Node], edges: list[ClockEdge]) -> dict[Node, ClockMap]:
    """A first answer along the most trustworthy tree (Prim's algorithm)."""
    state = {root: ClockMap()}
    while len(state) < len(island):
        best: tuple[tuple[float, float], Node, ClockMap] | None = None
        for e in edges:
            if (e.reference in state) == (e.moving in state):
                continue
            trust = (e.confidence, -float(e.cov[0, 0]))
            if best is None or trust > best[0]:
                if e.reference in state:
                    best = (trust, e.moving, state[e.reference] @ e.map)
                else:
                    best = (trust, e.reference, state[e.moving] @ e.map.inverse())
        if best is None:
            break
        state[best[1]] = best[2]
    return state


def _whitener(cov: F64) -> F64:
    """W with W cov W^T = 1; drift is scaled first, since its square is near the smallest float64 differences."""
    scale = np.array([1.0, 1e-6])
    scaled = cov / np.outer(scale, scale) + np.diag([1e-18, 1e-12])
    inverse: F64 = np.linalg.inv(np.linalg.cholesky(scaled)) / scale
    return inverse


def _residual(edge: ClockEdge, state: Mapping[Node, ClockMap]) -> F64:
    """(offset, log rate) by which the nodes miss the edge."""
    reference, moving = state[edge.reference], state[edge.moving]
    return np.array(
        [
            moving.offset - reference.offset - (1 + reference.drift) * edge.map.offset,
            np.log1p(moving.drift) - np.log1p(reference.drift) - np.log1p(edge.map.drift),
        ]
    )


def _centre(edge: ClockEdge) -> float:
    """Moving time at which the edge is most certain: there offset and drift are uncorrelated."""
    return float(-edge.cov[0, 1] / edge.cov[1, 1]) if edge.cov[1, 1] > 0 else 0.0


def _miss(edge: ClockEdge, state: Mapping[Node, ClockMap]) -> float:
    """Seconds by which the nodes miss the edge where it is most certain."""
    offset, rate = _residual(edge, state)
    return abs(float(offset + rate * _centre(edge)))


def _bar(edge: ClockEdge) -> float:
    at = _centre(edge)
    variance = edge.cov[0, 0] + 2 * at * edge.cov[0, 1] + at * at * edge.cov[1, 1]
    return max(_TOLERANCE, _SIGMAS * float(np.sqrt(max(variance, 0.0))))


def _step(
    nodes: list[Node],
    index: Mapping[Node, int],
    state: dict[Node, ClockMap],
    edges: list[ClockEdge],
    whiten: list[F64],
    weights: F64,
) -> tuple[dict[Node, ClockMap], F64]:
    """One Gauss-Newton step; returns the new state and the normal matrix over (offset, log rate)."""
    n = 2 * len(nodes)
    normal, right = np.zeros((n, n)), np.zeros(n)
    for e, w, weight in zip(edges, whiten, weights, strict=True):
        if weight <= 1e-9:
            continue
        rows = np.zeros((2, n))
        if e.moving in index:
            rows[:, 2 * index[e.moving] : 2 * index[e.moving] + 2] = np.eye(2)
        if e.reference in index:
            rate = 1 + state[e.reference].drift
            rows[:, 2 * index[e.reference] : 2 * index[e.reference] + 2] = [[-1.0, -rate * e.map.offset], [0.0, -1.0]]
        rows = w @ rows
        normal += weight * rows.T @ rows
        right -= weight * rows.T @ (w @ _residual(e, state))
    # Drift counts in ppm inside the solve, so that the matrix is well conditioned.
    scale = np.tile([1.0, 1e-6], len(nodes))
    change = scale * np.linalg.lstsq(normal * np.outer(scale, scale), right * scale, rcond=1e-15)[0]
    new = dict(state)
    for node, k in index.items():
        old = state[node]
        new[node] = ClockMap(
            old.offset + float(change[2 * k]), float(np.expm1(np.log1p(old.drift) + change[2 * k + 1]))
        )
    return new, normal


def _spans(root: Node, island: set[Node], edges: list[ClockEdge]) -> bool:
    return any(root in found and found == island for found in _islands(edges)) or len(island) == 1


def _backbone(root: Node, edges: list[ClockEdge], misses: F64) -> NDArray[np.bool_]:
    """The tree of smallest misses (Kruskal's algorithm)."""
    group: dict[Node, Node] = {}

    def find(node: Node) -> Node:
        while group.get(node, node) != node:
            node = group[node]
        return node

    keep = np.zeros(len(edges), bool)
    for k in np.argsort(misses, kind="stable"):
        a, b = find(edges[k].reference), find(edges[k].moving)
        if a != b:
            group[a] = b
            keep[k] = True
    return keep


def _read_out(
    root: Node,
    nodes: list[Node],
    index: Mapping[Node, int],
    state: Mapping[Node, ClockMap],
    normal: F64,
    edges: list[ClockEdge],
    whiten: list[F64],
    kept: NDArray[np.bool_],
) -> dict[Node, ClockEstimate]:
    inliers = [(e, w) for e, w, k in zip(edges, whiten, kept, strict=True) if k]
    scale = np.tile([1.0, 1e-6], len(nodes))
    cov = np.linalg.pinv(normal * np.outer(scale, scale), rcond=1e-15, hermitian=True) * np.outer(scale, scale)
    # Loops that close worse than stated widen every interval (the Birge ratio), they never narrow one.
    freedom = 2 * (len(inliers) - len(nodes))
    chi2 = sum(float(np.sum((w @ _residual(e, state)) ** 2)) for e, w in inliers)
    widening = max(1.0, chi2 / freedom) if freedom > 0 else 1.0
    rejected = [e for e, k in zip(edges, kept, strict=True) if not k]
    weighed, others_fit = _weigh_contradictions([e for e, _ in inliers], rejected)
    confidence = _chains(root, weighed)
    rivals = [_tree(root, {root, *nodes}, fit) for fit in others_fit]
    found = {
        root: ClockEstimate("reference", ClockMap(), np.zeros((2, 2)), 1.0, reference=root[0]),
    }
    for node in nodes:
        k = index[node]
        block = cov[2 * k : 2 * k + 2, 2 * k : 2 * k + 2] * widening
        rate = 1 + state[node].drift
        block = block * np.outer([1.0, rate], [1.0, rate])  # from log rate to drift
        against = [e for e, keep in zip(edges, kept, strict=True) if not keep and node in (e.reference, e.moving)]
        message = None
        if against:
            others = sorted({(e.moving if e.reference == node else e.reference)[0] for e in against})
            message = f"the direct comparison with {', '.join(others)} disagrees with the others and was left out"
        evidence = tuple(sorted({e.evidence for e, _ in inliers if node in (e.reference, e.moving)}))
        sure = confidence.get(node, 0.0)
        if sure < _SURE:
            share = (1 - sure) / max(len(rivals), 1)
            found[node] = ClockEstimate(
                "ambiguous",
                confidence=sure,
                candidates=(
                    Candidate(state[node].offset, state[node].drift, sure),
                    *(Candidate(other[node].offset, other[node].drift, share) for other in rivals if node in other),
                ),
                message="comparisons with other recordings contradict each other and nothing tells which is wrong; "
                "add a recording that more of them heard, or align fewer"
                if rivals
                else "the chain of comparisons that leads to the reference is not sure enough",
                evidence=evidence,
                reference=root[0],
            )
            continue
        found[node] = ClockEstimate(
            "aligned",
            state[node],
            block,
            confidence.get(node, 0.0),
            message=message,
            evidence=evidence,
            reference=root[0],
        )
    return found


def _weigh_contradictions(
    kept: list[ClockEdge], rejected: list[ClockEdge]
) -> tuple[list[ClockEdge], list[list[ClockEdge]]]:
    """Edges with the confidence that contradictions leave them, and the sets of edges that fit as well.

    Where an edge was rejected and only one chain of kept edges speaks against it, any link of that chain may be
    the wrong one instead: Bayes' rule on the stated confidences.
    """
    found, others = list(kept), []
    for wrong in rejected:
        if not _joined(wrong.reference, wrong.moving, kept):
            continue
        for k, e in enumerate(kept):
            rest = [other for j, other in enumerate(kept) if j != k]
            if not _joined(wrong.reference, wrong.moving, rest):
                for_it = e.confidence * (1 - wrong.confidence)
                against = (1 - e.confidence) * wrong.confidence
                share = (for_it + 1e-6) / (for_it + against + 2e-6)
                found[k] = replace(found[k], confidence=min(found[k].confidence, share))
                if share < _SURE:
                    others.append([*rest, wrong])
    return found, others


def _joined(a: Node, b: Node, edges: list[ClockEdge]) -> bool:
    return any(a in island and b in island for island in _islands(edges))


def _chains(root: Node, edges: list[ClockEdge]) -> dict[Node, float]:
    """Confidence of every node: that of its most trustworthy chain of edges to the root (Dijkstra)."""
    best, done = {root: 1.0}, set[Node]()
    while len(done) < len(best):
        node = max((n for n in best if n not in done), key=lambda n: (best[n], n))
        done.add(node)
        for e in edges:
            if node in (e.reference, e.moving):
                other = e.moving if e.reference == node else e.reference
                best[other] = max(best.get(other, 0.0), best[node] * e.confidence)
    return best
