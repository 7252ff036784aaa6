"""Many recordings jointly: what wrong comparisons do to `solve_clocks`, whether its intervals hold, and its time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avfuse.alignment import ClockEdge
from avfuse.clock import ClockMap
from avfuse.temporal import solve_clocks
from benchmarks.rows import Row

DURATION = 1800.0  # seconds of every recording
TIMES = np.array([0.0, DURATION / 2, DURATION])
Pairs = list[tuple[int, int]]
F64 = NDArray[np.float64]


def random_pairs(rng: np.random.Generator, nodes: int, edges: int) -> Pairs:
    """A random tree, so that all hang together, and further pairs."""
    tree = [(int(rng.integers(k)), k) for k in range(1, nodes)]
    taken = set(tree)
    others = [(a, b) for b in range(nodes) for a in range(b) if (a, b) not in taken]
    return tree + [others[k] for k in rng.permutation(len(others))[: max(0, edges - len(tree))]]


def chain(rng: np.random.Generator, nodes: int, edges: int) -> Pairs:
    """Each with the one before, and some with the one before that."""
    skips = [(k - 2, k) for k in range(2, nodes)]
    return [(k - 1, k) for k in range(1, nodes)] + [skips[k] for k in rng.permutation(len(skips))[: edges - nodes + 1]]


def star(rng: np.random.Generator, nodes: int, edges: int) -> Pairs:
    """Each with the first, and some with each other."""
    others = [(a, b) for b in range(2, nodes) for a in range(1, b)]
    return [(0, k) for k in range(1, nodes)] + [others[k] for k in rng.permutation(len(others))[: edges - nodes + 1]]


@dataclass(frozen=True)
class Design:
    """A network and what is wrong with it.

    wrong: share of the edges. clustered: they are all edges of few recordings. low, high: seconds that they are off;
    drifts, that their drifts are off and not their offsets. boast: wrong ones state 0.99999, right ones 0.9.
    soft: share of edges of 30 ms, and of edges of 1 microsecond. unknown: share of edges without a drift.
    paths: seconds of systematic differences of every edge, beyond what is stated.
    """

    name: str
    nodes: int = 100
    edges: int = 3000
    wrong: float = 0.3
    pairs: Callable[[np.random.Generator, int, int], Pairs] = random_pairs
    clustered: bool = False
    low: float = 1.0
    high: float = 100.0
    drifts: bool = False
    boast: bool = False
    confidence: tuple[float, float] = (0.99, 0.9999)
    soft: float = 0.0
    unknown: float = 0.0
    paths: float = 0.0
    epoch: float = 0.0


def make(design: Design, rng: np.random.Generator) -> tuple[list[ClockEdge], list[ClockMap], NDArray[np.bool_]]:
    """Edges in random order and directions, the clocks of recordings on the event, and which edges are wrong."""
    starts = [ClockMap(-design.epoch * (k % 2)) for k in range(design.nodes)]  # own time -> time since its first stamp
    clocks = [ClockMap(float(rng.uniform(-600, 600)), float(rng.uniform(-1e-4, 1e-4))) @ start for start in starts]
    pairs = design.pairs(rng, design.nodes, design.edges)
    pairs = [pairs[k] if rng.random() < 0.5 else pairs[k][::-1] for k in rng.permutation(len(pairs))]
    wrong = np.zeros(len(pairs), bool)
    if design.clustered:
        for bad in 1 + rng.permutation(design.nodes - 1):
            if wrong.mean() >= design.wrong:
                break
            wrong |= [bad in pair for pair in pairs]
    else:
        wrong[rng.permutation(len(pairs))[: round(design.wrong * len(pairs))]] = True
    made = []
    for (a, b), off in zip(pairs, wrong, strict=True):
        kind = rng.random()
        std = 30e-3 if kind < design.soft else 1e-6 if kind < 2 * design.soft else float(10 ** rng.uniform(-5, -3))
        drift_std = 50e-6 if rng.random() < design.unknown else float(10 ** rng.uniform(-7, -5.5))
        truth = clocks[a].inverse() @ clocks[b]
        middle = float(starts[b].inverse()(rng.uniform(0, DURATION)))
        back = np.array([[1.0, -middle], [0.0, 1.0]])
        miss = back @ (rng.standard_normal(2) * (std, drift_std))
        offset, drift = truth.offset + miss[0], truth.drift + miss[1]
        offset += rng.uniform(-design.paths, design.paths)
        if off and design.drifts:
            change = float(rng.choice([-1, 1]) * rng.uniform(20e-6, 200e-6))
            offset, drift = offset - change * middle, drift + change
        elif off:
            offset += float(rng.choice([-1, 1]) * np.exp(rng.uniform(np.log(design.low), np.log(design.high))))
        confidence = float(1 - np.exp(rng.uniform(*sorted(np.log1p([-c for c in design.confidence])))))
        if design.boast:
            confidence = 0.99999 if off else 0.9
        cov = back @ np.diag([std**2, drift_std**2]) @ back.T
        made.append(ClockEdge((f"r{a:03}", "sound"), (f"r{b:03}", "sound"), ClockMap(offset, drift), cov, confidence,
                              "sound"))  # fmt: skip
    return made, clocks, wrong


def joint_row(design: Design, seed: int, index: int) -> Row:
    """How one network is solved, judged at both ends and in the middle of every recording."""
    rng = np.random.default_rng([seed, index])
    edges, clocks, _ = make(design, rng)
    began = time.perf_counter()
    found = solve_clocks(edges)
    seconds = time.perf_counter() - began
    scores, errors, sure, refused, held = [], [], [], 0, 0
    for k, clock in enumerate(clocks[1:], 1):
        estimate = found[f"r{k:03}", "sound"]
        times = TIMES + design.epoch * (k % 2)
        if estimate.status != "aligned":
            refused += 1
            truth = (clocks[0].inverse() @ clock)(times)
            held += any(np.abs(c.map(times) - truth).max() < 0.01 for c in estimate.candidates)
            continue
        error = np.abs(estimate.map(times) - (clocks[0].inverse() @ clock)(times))
        scores.append((error / estimate.std_at(times)).tolist())
        errors.append(float(error.max()))
        sure.append(estimate.confidence)
    return {"scores": scores, "errors": errors, "sure": sure, "refused": refused, "held": held, "seconds": seconds}
