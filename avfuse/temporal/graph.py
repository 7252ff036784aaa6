"""Graphs of comparisons: what hangs together, and what hangs together by how little.

Nodes are integers; an edge is the pair (ends[0, k], ends[1, k]), and several edges may join the same two nodes.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]


def neighbours(count: int, ends: Ints) -> list[list[tuple[int, int]]]:
    """(edge, other node) of every node."""
    found: list[list[tuple[int, int]]] = [[] for _ in range(count)]
    for k, (a, b) in enumerate(ends.T.tolist()):
        found[a].append((k, b))
        found[b].append((k, a))
    return found


def components(count: int, ends: Ints) -> Ints:
    """Number of the connected component of every node; that of node 0 is 0, the others come in order of nodes."""
    beside = neighbours(count, ends)
    found = np.full(count, -1)
    number = 0
    for first in range(count):
        if found[first] >= 0:
            continue
        found[first] = number
        frontier = [first]
        while frontier:
            for _, other in beside[frontier.pop()]:
                if found[other] < 0:
                    found[other] = number
                    frontier.append(other)
        number += 1
    return found


@dataclass(frozen=True, eq=False)
class Tree:
    """A spanning tree rooted at node 0.

    order: nodes, parents first. parent, edge: of every node, -1 at the root.
    first, last: places in depth-first order, so that the subtree of v are the nodes u with
        first[v] <= first[u] < last[v].
    """

    order: Ints
    parent: Ints
    edge: Ints
    first: Ints
    last: Ints

    def below(self, top: int, nodes: Ints) -> Mask:
        """Which of the nodes lie in the subtree of `top`."""
        place = self.first[nodes]
        return np.asarray((place >= self.first[top]) & (place < self.last[top]))


def spanning_tree(count: int, ends: Ints, cost: F64) -> Tree:
    """The tree of least cost (Prim's algorithm) of a connected graph; ties by the order of the edges."""
    beside = neighbours(count, ends)
    parent, edge = np.full(count, -1), np.full(count, -1)
    order: list[int] = []
    heap = [(-np.inf, -1, 0, -1)]
    done = np.zeros(count, bool)
    while heap:
        _, k, node, origin = heapq.heappop(heap)
        if done[node]:
            continue
        done[node] = True
        parent[node], edge[node] = origin, k
        order.append(node)
        for e, other in beside[node]:
            if not done[other]:
                heapq.heappush(heap, (float(cost[e]), e, other, node))
    size = np.ones(count, np.int64)
    for node in reversed(order[1:]):
        size[parent[node]] += size[node]
    first = np.zeros(count, np.int64)
    free = first.copy()  # the next place within each subtree
    for node in order:
        if parent[node] >= 0:
            first[node] = free[parent[node]]
            free[parent[node]] += size[node]
        free[node] = first[node] + 1
    return Tree(np.array(order), parent, edge, first, first + size)


def cut_labels(tree: Tree, ends: Ints) -> NDArray[np.uint64]:
    """A label for every edge: 0 for bridges, equal for two edges that together cut the graph.

    Random labels of the cycle space (Pritchard and Thurimella 2011, "Fast computation of small cuts via cycle space
    sampling"): a tree edge bears the exclusive or of the labels of all cycles that pass it. 64 bits make a
    coincidence as good as impossible; the labels are the same in every run.
    """
    count = len(tree.order)
    loose = np.ones(ends.shape[1], bool)
    loose[tree.edge[tree.order[1:]]] = False
    labels = np.zeros(ends.shape[1], np.uint64)
    labels[loose] = np.random.default_rng(0).integers(1, 2**63, int(loose.sum()), dtype=np.uint64)
    node = np.zeros(count, np.uint64)
    for side in ends:
        np.bitwise_xor.at(node, side[loose], labels[loose])
    for v in tree.order[:0:-1]:
        node[tree.parent[v]] ^= node[v]
        labels[tree.edge[v]] = node[v]
    return labels


@dataclass(frozen=True, eq=False)
class Cut:
    """One or two edges without which the nodes of `tops`' subtrees (of one, or of one but not the other) come off,
    or a single node with all its edges."""

    edges: Ints
    tops: tuple[int, ...]
    single: bool = False


_CLASS = 48  # edges of one cycle that are tried in pairs; the least trusted ones


def cuts(tree: Tree, ends: Ints, trust: F64) -> Iterator[Cut]:
    """Every bridge, every pair of edges that cut the graph together, and every node by itself."""
    labels = cut_labels(tree, ends)
    top = np.full(ends.shape[1], -1)
    top[tree.edge[tree.order[1:]]] = tree.order[1:]
    for k in np.flatnonzero(labels == 0):
        yield Cut(np.array([k]), (int(top[k]),))
    by_label = np.lexsort((trust, labels))
    groups = np.split(by_label, np.flatnonzero(np.diff(labels[by_label])) + 1)
    for group in groups:
        if labels[group[0]] == 0 or len(group) < 2:
            continue
        weakest = group[:_CLASS]
        for i, k in enumerate(weakest):
            for other in weakest[:i]:
                yield Cut(np.array([k, other]), tuple(int(t) for t in (top[k], top[other]) if t >= 0))
    for node, beside in enumerate(neighbours(len(tree.order), ends)):
        if len(beside) > 2:  # fewer are bridges and pairs already
            yield Cut(np.array([k for k, _ in beside]), (node,), single=True)


def side_of(cut: Cut, tree: Tree, nodes: Ints) -> Mask:
    """Which of the nodes come off; node 0 may be among them."""
    if cut.single:
        return np.asarray(nodes == cut.tops[0])
    found = np.zeros(len(nodes), bool)
    for top in cut.tops:
        found ^= tree.below(top, nodes)
    return found


def best_chains(count: int, ends: Ints, trust: F64) -> F64:
    """Largest product of trust along any chain from node 0 to every node (Dijkstra's algorithm)."""
    beside = neighbours(count, ends)
    best = np.zeros(count)
    heap = [(-1.0, 0)]
    best[0] = 1.0
    done = np.zeros(count, bool)
    while heap:
        value, node = heapq.heappop(heap)
        if done[node]:
            continue
        done[node] = True
        for k, other in beside[node]:
            through = -value * float(trust[k])
            if not done[other] and through > best[other]:
                best[other] = through
                heapq.heappush(heap, (-through, other))
    return best
