"""Laws of the graphs behind solve_clocks, against what removing edges and nodes one by one shows."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avfuse.temporal.graph import best_chains, cheapest_tree, components, cut_labels, cuts, depth_first, support


@st.composite
def connected(draw: st.DrawFn) -> tuple[int, np.ndarray]:
    """A connected graph, with several edges between the same nodes now and then."""
    count = draw(st.integers(2, 9))
    tree = [(draw(st.integers(0, k - 1)), k) for k in range(1, count)]
    pairs = st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)).filter(lambda p: p[0] != p[1])
    edges = draw(st.permutations(tree + draw(st.lists(pairs, max_size=10))))
    return count, np.array(edges).T


def reached(count: int, edges: list[tuple[int, int]]) -> set[int]:
    """Nodes that hang together with node 0, the slow way."""
    found = {0}
    while more := {b for a, b in [*edges, *(e[::-1] for e in edges)] if a in found} - found:
        found |= more
    return found


def without(ends: np.ndarray, *gone: int) -> list[tuple[int, int]]:
    return [(int(a), int(b)) for k, (a, b) in enumerate(ends.T) if k not in gone]


@settings(max_examples=60)
@given(connected())
def test_labels_tell_bridges_and_pairs_that_cut(graph):
    count, ends = graph
    labels = cut_labels(depth_first(count, ends), ends)
    assert np.array_equal(labels != 0, cut_labels(cheapest_tree(count, ends, np.ones(ends.shape[1])), ends) != 0)
    for k in range(ends.shape[1]):
        assert (labels[k] == 0) == (len(reached(count, without(ends, k))) < count)
    for j, k in combinations(range(ends.shape[1]), 2):
        if labels[j] and labels[k]:
            assert (labels[j] == labels[k]) == (len(reached(count, without(ends, j, k))) < count)


@settings(max_examples=60)
@given(connected())
def test_cuts_are_all_bridges_pairs_and_nodes_with_what_hangs_by_them(graph):
    count, ends = graph
    tree = depth_first(count, ends)
    labels = cut_labels(tree, ends)
    found = {frozenset(np.flatnonzero(off).tolist()) for off in cuts(tree, labels, np.ones(ends.shape[1]))}
    everything = set(range(count))
    for k in np.flatnonzero(labels == 0):
        assert frozenset(everything - reached(count, without(ends, int(k)))) in found
    for j, k in combinations(range(ends.shape[1]), 2):
        if labels[j] and labels[j] == labels[k]:
            assert frozenset(everything - reached(count, without(ends, j, k))) in found
    for v in range(1, count):
        # What no longer reaches the root when a node goes hangs by it.
        left = [e for e in without(ends) if v not in e]
        assert frozenset(everything - reached(count, left)) in found
    assert all(off and 0 not in off for off in found)


@settings(max_examples=60)
@given(connected(), st.data())
def test_trees_and_chains_are_the_best_ones(graph, data):
    count, ends = graph
    trust = np.array(data.draw(st.lists(st.floats(0.1, 1.0), min_size=ends.shape[1], max_size=ends.shape[1])))
    tree = cheapest_tree(count, ends, -np.log(trust))
    assert sorted(tree.order) == list(range(count))
    for node in tree.order[1:]:
        assert {int(node), int(tree.parent[node])} == set(ends[:, tree.edge[node]].tolist())
    # Kruskal's algorithm, and Bellman and Ford's.
    total, kept = 0.0, []
    for k in np.argsort(-trust, kind="stable"):
        if components(count, ends[:, [*kept, k]]).max() < components(count, ends[:, kept]).max():
            kept.append(int(k))
            total -= float(np.log(trust[k]))
    assert -np.log(trust[tree.edge[tree.order[1:]]]).sum() == pytest.approx(total)
    best = np.eye(count)[0]
    for _ in range(count):
        for (a, b), p in zip(ends.T, trust, strict=True):
            best[a], best[b] = max(best[a], best[b] * p), max(best[b], best[a] * p)
    np.testing.assert_allclose(best_chains(count, ends, trust), best)


def test_components_are_numbered_from_the_first_node():
    np.testing.assert_array_equal(components(5, np.array([[3, 4], [1, 0]])), [0, 1, 2, 1, 0])


@settings(max_examples=60)
@given(connected())
def test_an_edge_helps_to_place_what_can_be_left_out_on_the_way_to_it(graph):
    count, ends = graph
    for (a, b), (helps_a, helps_b) in zip(ends.T.tolist(), support(count, ends).T.tolist(), strict=True):
        for node, other, helps in ((a, b, helps_a), (b, a, helps_b)):
            left = [e for e in without(ends) if node not in e]
            assert helps == (node != 0 and other in reached(count, left))
