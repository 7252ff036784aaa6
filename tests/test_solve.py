"""Laws of solve_clocks: many pairwise comparisons, one consistent answer."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from avfuse.alignment import ClockEdge, ClockEstimate, Node
from avfuse.clock import ClockMap
from avfuse.errors import StreamError
from avfuse.temporal import solve_clocks

TIMES = np.array([0.0, 30.0, 600.0])


def node(k: int) -> Node:
    return f"r{k}", "sound"


def covariance(std: float = 1e-4, drift_std: float = 1e-6, middle: float = 15.0) -> np.ndarray:
    """Of a comparison that is most certain at `middle` seconds of the moving recording."""
    back = np.array([[1.0, -middle], [0.0, 1.0]])
    return back @ np.diag([std**2, drift_std**2]) @ back.T


def edge(
    reference: int, moving: int, clock: ClockMap, cov: np.ndarray | None = None, confidence: float = 0.999
) -> ClockEdge:
    return ClockEdge(
        node(reference), node(moving), clock, covariance() if cov is None else cov, confidence, evidence="sound"
    )


def random_clocks(rng: np.random.Generator, count: int) -> list[ClockMap]:
    """Device time -> event time."""
    return [
        ClockMap(*pair) for pair in zip(rng.uniform(-500, 500, count), rng.uniform(-1e-4, 1e-4, count), strict=True)
    ]


def random_graph(rng: np.random.Generator, count: int, extra: int) -> list[tuple[int, int]]:
    """A random tree over `count` nodes and `extra` further pairs, in random directions and order."""
    tree = [(int(rng.integers(k)), k) for k in range(1, count)]
    others = [pair for pair in combinations(range(count), 2) if pair not in tree]
    pairs = tree + [others[k] for k in rng.permutation(len(others))[:extra]]
    return [pairs[k] if rng.random() < 0.5 else pairs[k][::-1] for k in rng.permutation(len(pairs))]


def exact(clocks: list[ClockMap], pairs: list[tuple[int, int]]) -> list[ClockEdge]:
    return [edge(a, b, clocks[a].inverse() @ clocks[b]) for a, b in pairs]


def assert_true(found: dict[Node, ClockEstimate], clocks: list[ClockMap], root: int = 0, atol: float = 1e-9) -> None:
    for k, clock in enumerate(clocks):
        truth = clocks[root].inverse() @ clock
        np.testing.assert_allclose(found[node(k)].map(TIMES), truth(TIMES), rtol=0, atol=atol, err_msg=str(k))


@pytest.mark.parametrize("seed", range(8))
def test_comparisons_that_agree_are_met_exactly(seed):
    rng = np.random.default_rng(seed)
    clocks = random_clocks(rng, 7)
    found = solve_clocks(exact(clocks, random_graph(rng, 7, extra=seed)))
    assert_true(found, clocks)
    assert found[node(0)].status == "reference"
    assert {found[node(k)].status for k in range(1, 7)} == {"aligned"}
    assert {e.reference for e in found.values()} == {"r0"}


def test_the_order_of_comparisons_does_not_matter():
    rng = np.random.default_rng(3)
    clocks = random_clocks(rng, 6)
    edges = [
        edge(a, b, ClockMap(m.offset + rng.normal(0, 1e-3), m.drift + rng.normal(0, 1e-6)))
        for a, b in random_graph(rng, 6, 6)
        for m in [clocks[a].inverse() @ clocks[b]]
    ]
    first = solve_clocks(edges)
    for seed in range(5):
        again = solve_clocks([edges[k] for k in np.random.default_rng(seed).permutation(len(edges))])
        for name in first:
            np.testing.assert_allclose(again[name].map(TIMES), first[name].map(TIMES), rtol=0, atol=1e-9)
            np.testing.assert_allclose(again[name].std_at(TIMES), first[name].std_at(TIMES), rtol=1e-6)


def test_a_comparison_means_the_same_read_the_other_way_round():
    rng = np.random.default_rng(4)
    clocks = random_clocks(rng, 5)
    edges = [
        edge(a, b, ClockMap(m.offset + rng.normal(0, 1e-4), m.drift))
        for a, b in random_graph(rng, 5, 4)
        for m in [clocks[a].inverse() @ clocks[b]]
    ]
    there, back = solve_clocks(edges), solve_clocks([e.inverse() for e in edges])
    for name in there:
        # To first order: the rest is nothing beside the stated error.
        assert np.all(np.abs(back[name].map(TIMES) - there[name].map(TIMES)) <= 1e-3 * there[name].std_at(TIMES))
        np.testing.assert_allclose(back[name].std_at(TIMES), there[name].std_at(TIMES), rtol=1e-3, atol=1e-12)


def test_another_reference_tells_the_same_times():
    rng = np.random.default_rng(5)
    clocks = random_clocks(rng, 6)
    edges = exact(clocks, random_graph(rng, 6, 3))
    found = solve_clocks(edges, references=[node(4)])
    assert found[node(4)].status == "reference"
    assert {e.reference for e in found.values()} == {"r4"}
    assert_true(found, clocks, root=4)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("wrong_by", [-40.0, 0.5, 3.0])
def test_one_wrong_comparison_among_many_is_let_go_and_named(seed, wrong_by):
    """Even where it claims more confidence than all others."""
    rng = np.random.default_rng(seed)
    clocks = random_clocks(rng, 6)
    pairs = list(combinations(range(6), 2))
    edges = exact(clocks, pairs)
    k = int(rng.integers(len(pairs)))
    (a, b), right = pairs[k], edges[k].map
    edges[k] = edge(a, b, ClockMap(right.offset + wrong_by, right.drift), confidence=0.99999)
    found = solve_clocks(edges)
    assert_true(found, clocks, atol=1e-6)
    for one, other in ((a, b), (b, a)):
        if one != 0:  # the reference has nothing to say
            assert f"r{other}" in (found[node(one)].message or "")
    for untouched in set(range(6)) - {a, b}:
        assert found[node(untouched)].message is None


def test_a_triangle_that_contradicts_itself_is_not_stated_with_confidence():
    """Three comparisons, one of them wrong by two seconds, and nothing tells which: nobody may be sure."""
    clocks = [ClockMap(0.0), ClockMap(5.0), ClockMap(9.0)]
    edges = exact(clocks, [(0, 1), (1, 2)])
    edges.append(edge(0, 2, ClockMap(11.0)))
    found = solve_clocks(edges)
    for k in (1, 2):
        assert found[node(k)].status == "ambiguous"
        assert found[node(k)].message


def test_what_alone_holds_a_recording_stays_even_if_a_loop_contradicts_it():
    rng = np.random.default_rng(6)
    clocks = random_clocks(rng, 5)
    edges = exact(clocks, [*combinations(range(4), 2), (3, 4)])
    found = solve_clocks(edges)
    assert_true(found, clocks)
    assert set(found) == {node(k) for k in range(5)}


def test_islands_have_references_of_their_own():
    rng = np.random.default_rng(7)
    clocks = random_clocks(rng, 6)
    edges = exact(clocks, [(0, 1), (1, 2), (0, 2), (4, 3), (5, 3)])
    found = solve_clocks(edges)
    assert [found[node(k)].reference for k in range(6)] == ["r0", "r0", "r0", "r3", "r3", "r3"]
    assert [found[node(k)].status for k in (0, 3)] == ["reference", "reference"]
    chosen = solve_clocks(edges, references=[node(5), node(1)])
    assert [chosen[node(k)].reference for k in range(6)] == ["r1", "r1", "r1", "r5", "r5", "r5"]
    for k in (3, 4):
        truth = clocks[5].inverse() @ clocks[k]
        np.testing.assert_allclose(chosen[node(k)].map(TIMES), truth(TIMES), rtol=0, atol=1e-9)


def test_variances_add_along_a_chain():
    for length in (1, 2, 5):
        edges = [edge(k, k + 1, ClockMap(), covariance(1e-4, 1e-6, 0.0)) for k in range(length)]
        found = solve_clocks(edges)[node(length)]
        np.testing.assert_allclose(found.cov, length * covariance(1e-4, 1e-6, 0.0), rtol=1e-4, atol=1e-16)


def test_drift_of_one_link_reaches_through_the_offset_of_the_next():
    """r2 starts 1000 s after r1, so that 1 ppm of doubt between r0 and r1 is a millisecond of doubt at r2."""
    edges = [
        edge(0, 1, ClockMap(), covariance(1e-5, 1e-6, 0.0)),
        edge(1, 2, ClockMap(1000.0), covariance(1e-5, 1e-9, 0.0)),
    ]
    found = solve_clocks(edges)
    assert float(found[node(2)].std_at(0.0)) == pytest.approx(1e-3, rel=1e-2)


def test_comparisons_that_agree_narrow_the_answer():
    for count in (1, 4, 9):
        edges = [edge(0, 1, ClockMap(3.0), covariance(1e-4, 1e-6, 20.0)) for _ in range(count)]
        found = solve_clocks(edges)[node(1)]
        assert float(found.std_at(20.0)) == pytest.approx(1e-4 / np.sqrt(count), rel=1e-3)
        assert found.drift_std == pytest.approx(1e-6 / np.sqrt(count), rel=1e-3)


def test_a_loop_that_misses_widens_the_answer():
    """The loop misses by 20 of its stated sigma, still too little to tell a wrong comparison from odd sound paths."""
    tight = covariance(2e-5, 1e-6, 0.0)
    clocks = [(0, 1, 0.0), (1, 2, 0.0), (0, 2, 0.0)]
    stated, missed = [
        solve_clocks(
            [edge(a, b, ClockMap(offset + (wrong if (a, b) == (0, 2) else 0.0)), tight) for a, b, offset in clocks]
        )
        for wrong in (0.0, 7e-4)
    ]
    for k in (1, 2):
        assert missed[node(k)].status == "aligned"
        assert float(missed[node(k)].std_at(0.0)) > 5 * float(stated[node(k)].std_at(0.0))
        assert abs(float(missed[node(k)].map(0.0))) < 3 * float(missed[node(k)].std_at(0.0))


def test_intervals_hold_the_truth_as_often_as_they_say():
    inside = []
    for seed in range(500):
        rng = np.random.default_rng(seed)
        clocks = random_clocks(rng, 5)
        edges = []
        for a, b in random_graph(rng, 5, extra=int(rng.integers(0, 5))):
            truth = clocks[a].inverse() @ clocks[b]
            middle = float(rng.uniform(10, 50))
            cov = covariance(float(rng.uniform(1e-5, 3e-4)), float(rng.uniform(1e-7, 3e-6)), middle)
            miss = np.linalg.cholesky(cov) @ rng.standard_normal(2)
            edges.append(edge(a, b, ClockMap(truth.offset + miss[0], truth.drift + miss[1]), cov))
        solved = solve_clocks(edges)
        for k, clock in enumerate(clocks[1:], 1):
            found, truth = solved[node(k)], clocks[0].inverse() @ clock
            inside.append(np.abs(found.map(TIMES) - truth(TIMES)) <= 1.96 * found.std_at(TIMES))
    assert 0.93 <= np.mean(inside) <= 0.97


def test_confidence_is_that_of_the_best_chain():
    edges = [
        edge(0, 1, ClockMap(), confidence=0.9),
        edge(1, 2, ClockMap(), confidence=0.8),
        edge(0, 2, ClockMap(), confidence=0.6),
        edge(2, 3, ClockMap(), confidence=1.0),
    ]
    found = solve_clocks(edges)
    assert [found[node(k)].confidence for k in range(4)] == pytest.approx([1.0, 0.9, 0.72, 0.72])


def test_kinds_of_evidence_are_listed():
    edges = [
        edge(0, 1, ClockMap(2.0)),
        ClockEdge(node(0), node(1), ClockMap(2.0), covariance(), 0.99, "container"),
        ClockEdge(node(1), node(2), ClockMap(2.0), covariance(), 0.99, "picture"),
    ]
    found = solve_clocks(edges)
    assert set(found[node(1)].evidence) >= {"sound", "container"}
    assert "picture" in found[node(2)].evidence


def test_evidence_without_error_is_believed():
    """A container's own sync or a simulation may state no doubt at all."""
    found = solve_clocks([edge(0, 1, ClockMap(2.0, 1e-5), np.zeros((2, 2))), edge(1, 2, ClockMap(1.0))])
    np.testing.assert_allclose(found[node(1)].map(TIMES), ClockMap(2.0, 1e-5)(TIMES), atol=1e-9)


def test_no_comparisons_give_no_clocks():
    assert solve_clocks([]) == {}


def test_a_node_cannot_be_compared_with_itself():
    with pytest.raises(StreamError, match="r2"):
        solve_clocks([edge(0, 1, ClockMap()), edge(2, 2, ClockMap(1.0))])
