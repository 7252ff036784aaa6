"""Graphs of comparisons: what hangs together, and what hangs together by how little.

Nodes are integers; an edge is the pair (ends[0, k], ends[1, k]), and several edges may join the same two nodes.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
Name = TypeVar("Name", bound=Hashable)


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


def groups_of(names: Sequence[Name], pairs: Iterable[tuple[Name, Name]]) -> list[set[Name]]:
    """Names that pairs join, in the order of their first members."""
    index = {name: k for k, name in enumerate(names)}
    ends = np.array([(index[a], index[b]) for a, b in pairs], np.int64).reshape(-1, 2).T
    found: dict[int, set[Name]] = {}
    for name, number in zip(names, components(len(names), ends).tolist(), strict=True):
        found.setdefault(number, set()).add(name)
    return list(found.values())


@dataclass(frozen=True, eq=False)
class Tree:
    """A spanning tree rooted at node 0.

    order: nodes, parents first. parent, edge: of every node, -1 at the root.
    """

    order: Ints
    parent: Ints
    edge: Ints


def cheapest_tree(count: int, ends: Ints, cost: F64) -> Tree:
    """The tree of least cost (Prim's algorithm) of a connected graph; ties by the order of the edges."""
    beside = neighbours(count, ends)
    costs = cost.tolist()
    parent, edge = np.full(count, -1), np.full(count, -1)
    order: list[int] = []
    heap = [(-np.inf, -1, 0, -1)]
    done = [False] * count
    while heap:
        _, k, node, origin = heapq.heappop(heap)
        if done[node]:
            continue
        done[node] = True
        parent[node], edge[node] = origin, k
        order.append(node)
        for e, other in beside[node]:
            if not done[other]:
                heapq.heappush(heap, (costs[e], e, other, node))
    return Tree(np.array(order), parent, edge)


@dataclass(frozen=True, eq=False)
class DepthFirst(Tree):
    """A tree whose other edges all lead to ancestors, so that it tells where the graph may be cut.

    place: of every node in `order`. last: the subtree of v is order[place[v] : last[v]].
    low: least place that an edge reaches from the subtree of v, but for the edge to its parent (Tarjan 1972).
    """

    place: Ints
    last: Ints
    low: Ints

    def below(self, top: int) -> Ints:
        return self.order[self.place[top] : self.last[top]]


def depth_first(count: int, ends: Ints) -> DepthFirst:
    """Of a connected graph."""
    beside = neighbours(count, ends)
    parent, edge, place = [-1] * count, [-1] * count, [-1] * count
    low, last = [0] * count, [0] * count
    order = [0]
    place[0] = 0
    stack = [(0, iter(beside[0]))]
    while stack:
        node, left = stack[-1]
        for k, other in left:
            if place[other] < 0:
                parent[other], edge[other] = node, k
                place[other] = low[other] = len(order)
                order.append(other)
                stack.append((other, iter(beside[other])))
                break
            if k != edge[node]:
                low[node] = min(low[node], place[other])
        else:
            stack.pop()
            last[node] = len(order)
            if stack:
                above = stack[-1][0]
                low[above] = min(low[above], low[node])
    return DepthFirst(*(np.array(v) for v in (order, parent, edge, place, last, low)))


def support(count: int, ends: Ints) -> Mask:
    """`(2, edges)`: whether an edge helps to place each of its ends, from node 0 of a connected graph.

    It does where its other end is reached from node 0 by a way that does not pass this one.
    """
    tree = depth_first(count, ends)
    found = np.ones(ends.shape, bool)
    for k, pair in enumerate(ends.T.tolist()):
        above, below = sorted(pair, key=lambda node: tree.place[node])
        child = below
        while tree.parent[child] != above:
            child = tree.parent[child]
        found[pair.index(above), k] = tree.low[child] < tree.place[above]
    return found


def cut_labels(tree: Tree, ends: Ints) -> NDArray[np.uint64]:
    """A label for every edge: 0 for bridges, equal for two edges that together cut the graph.

    Random labels of the cycle space (Pritchard and Thurimella 2011, "Fast computation of small cuts via cycle space
    sampling"): a tree edge bears the exclusive or of the labels of all cycles that pass it. 64 bits make a
    coincidence as good as impossible; the labels are the same in every run.
    """
    loose = np.ones(ends.shape[1], bool)
    loose[tree.edge[tree.order[1:]]] = False
    labels = np.zeros(ends.shape[1], np.uint64)
    labels[loose] = np.random.default_rng(0).integers(1, 2**63, int(loose.sum()), dtype=np.uint64)
    node = np.zeros(len(tree.order), np.uint64)
    for side in ends:
        np.bitwise_xor.at(node, side[loose], labels[loose])
    for v in tree.order[:0:-1]:
        node[tree.parent[v]] ^= node[v]
        labels[tree.edge[v]] = node[v]
    return labels


_CLASS = 48  # edges of one cycle that are tried in pairs; the least trusted ones


def cuts(tree: DepthFirst, labels: NDArray[np.uint64], trust: F64) -> Iterator[Mask]:
    """Which nodes come off, never the root, at every place where the graph hangs by little.

    Every bridge; every pair of edges that cut the graph together; every node with what hangs by it; and what hangs
    by one node, without it.
    """
    count = len(tree.order)
    top = np.full(len(labels), -1)
    top[tree.edge[tree.order[1:]]] = tree.order[1:]

    def off(*tops: int) -> Mask:
        found = np.zeros(count, bool)
        for v in tops:
            if v >= 0:
                found[tree.below(v)] ^= True
        return found

    for k in np.flatnonzero(labels == 0):
        yield off(int(top[k]))
    by_label = np.lexsort((trust, labels))
    for group in np.split(by_label, np.flatnonzero(np.diff(labels[by_label])) + 1):
        if len(group) < 2 or labels[group[0]] == 0:
            continue
        weakest = group[:_CLASS]
        for i, k in enumerate(weakest):
            for other in weakest[:i]:
                yield off(int(top[k]), int(top[other]))
    children: list[list[int]] = [[] for _ in range(count)]
    for v in tree.order[1:].tolist():
        children[tree.parent[v]].append(v)
    for v in range(count):
        hanging = [u for u in children[v] if tree.low[u] >= tree.place[v]]
        # A bridge comes off already.
        lobes = [u for u in hanging if labels[tree.edge[u]] != 0]
        yield from (off(u) for u in lobes)
        if v:
            yield off(v, *(u for u in children[v] if u not in hanging))


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
