"""Least squares over a network of clocks: one (offset, log rate) per node from weighted comparisons.

Clock n maps its own time to the root's, T_n(t) = o_n + exp(r_n) t. A comparison E of a (reference) and b (moving) says
T_b = T_a E. Corrections are made on the root's side, T_n <- D_n T_n with D_n(u) = u + p_n + q_n (u - u0): then what
a comparison misses at the root's time u, where it is most certain, changes by (p_b - p_a) + (q_b - q_a) (u - u0), the
same seen from either end, and the normal matrix is a graph Laplacian whose weights are 2 x 2 blocks. Times are counted
from the middle u0 of all comparisons and rates in ppm, so that hours, years and epochs are equally well conditioned.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from avfuse.alignment import ClockEdge, Node
from avfuse.clock import ClockMap
from avfuse.temporal.graph import F64, Ints, Tree

_PPM = 1e-6
# Less than any comparison means: evidence without error still leaves the matrix with digits to spare.
_LEAST_STD, _LEAST_DRIFT_STD = 1e-8, 1e-11
# Several sources at different places are weighted differently by every pair, so that loops of true comparisons miss
# by what sound takes for a metre or two, and a source that moves looks like drift: a comparison is wrong only beyond
# these, or 5 of its own sigma if larger.
TOLERANCE, RATE_TOLERANCE = 0.006, 20e-6
SIGMAS = 5.0
_DENSE = 600  # unknowns up to which dense factorisation is faster


@dataclass(frozen=True, eq=False)
class Comparisons:
    """Edges as arrays, `(m,)` each; ends `(2, m)` of (reference, moving).

    centre: time of the moving clock at which an edge is most certain; there offset and drift are uncorrelated.
    std: seconds, of the mapped time there. drift_std: of the log rate.
    bar, rate_bar: beyond which the edge is wrong, seconds and dimensionless.
    """

    ends: Ints
    offset: F64
    drift: F64
    centre: F64
    std: F64
    drift_std: F64
    confidence: F64
    bar: F64
    rate_bar: F64

    @classmethod
    def of(cls, edges: Sequence[ClockEdge], index: dict[Node, int]) -> Comparisons:
        ends = np.array([[index[e.reference] for e in edges], [index[e.moving] for e in edges]])
        offset, drift = np.array([[e.map.offset, e.map.drift] for e in edges]).T
        cov = np.array([e.cov for e in edges], np.float64)
        known = cov[:, 1, 1] > 0
        centre = np.where(known, -cov[:, 0, 1] / np.where(known, cov[:, 1, 1], 1.0), 0.0)
        # What is left at the centre; of a variance far away from it float64 keeps only so many digits.
        variance = np.maximum(cov[:, 0, 0] + centre * cov[:, 0, 1], 2 * np.finfo(float).eps * cov[:, 0, 0])
        # Seconds half way between both clocks: the same from either end.
        std = np.maximum(np.sqrt(np.maximum(variance, 0.0) / (1 + drift)), _LEAST_STD)
        drift_std = np.maximum(np.sqrt(np.maximum(cov[:, 1, 1], 0.0)) / (1 + drift), _LEAST_DRIFT_STD)
        bar = np.maximum(TOLERANCE, SIGMAS * std)
        rate_bar = np.maximum(SIGMAS * drift_std, np.minimum(bar / std * drift_std, RATE_TOLERANCE))
        confidence = np.array([e.confidence for e in edges], np.float64)
        return cls(ends, offset, drift, centre, std, drift_std, confidence, bar, rate_bar)

    def map(self, edge: int) -> ClockMap:
        return ClockMap(float(self.offset[edge]), float(self.drift[edge]))


@dataclass(frozen=True, eq=False)
class Clocks:
    """offset [s] and log rate of every node, `(n,)`; node 0 is the root, (0, 0)."""

    offset: F64
    log_rate: F64

    @property
    def drift(self) -> F64:
        return np.expm1(self.log_rate)

    def map(self, node: int) -> ClockMap:
        return ClockMap(float(self.offset[node]), float(np.expm1(self.log_rate[node])))

    def moved(self, which: NDArray[np.bool_], by: ClockMap) -> Clocks:
        """The clocks D T_n of the nodes that `which` marks, for a map D of the root's time."""
        offset = self.offset + by.offset + by.drift * self.offset
        return Clocks(
            np.where(which, offset, self.offset), np.where(which, self.log_rate + np.log1p(by.drift), self.log_rate)
        )


@dataclass(frozen=True, eq=False)
class Misfit:
    """What the clocks miss each comparison by: seconds of the root, log rate; and the root's time where."""

    time: F64
    rate: F64
    at: F64


def misfit(c: Comparisons, clocks: Clocks) -> Misfit:
    a, b = c.ends
    drift = clocks.drift
    reference = c.offset + c.centre + c.drift * c.centre
    there = clocks.offset[b] + c.centre + drift[b] * c.centre
    here = clocks.offset[a] + reference + drift[a] * reference
    rate = clocks.log_rate[b] - clocks.log_rate[a] - np.log1p(c.drift)
    return Misfit(there - here, rate, here + 0.5 * (there - here))


def bars_missed(c: Comparisons, clocks: Clocks) -> F64:
    """By how many of its bars the clocks miss each comparison."""
    missed = misfit(c, clocks)
    return np.hypot(missed.time / c.bar, missed.rate / c.rate_bar)


def along(tree: Tree, c: Comparisons) -> Clocks:
    """The clocks that meet every comparison of a tree."""
    offset, log_rate = np.zeros(len(tree.order)), np.zeros(len(tree.order))
    for node in tree.order[1:].tolist():
        k, parent = int(tree.edge[node]), int(tree.parent[node])
        e = c.map(k) if int(c.ends[1, k]) == node else c.map(k).inverse()
        rate = float(np.expm1(log_rate[parent]))
        offset[node] = offset[parent] + e.offset + rate * e.offset
        log_rate[node] = log_rate[parent] + np.log1p(e.drift)
    return Clocks(offset, log_rate)


Factor = Callable[[F64], F64]


@dataclass(frozen=True, eq=False)
class Normal:
    """The normal matrix over (p_1 .. p_n, q_1 .. q_n in ppm), factorised; the root has none.

    solve: `(2 n,)` or `(2 n, k)` right-hand sides.
    """

    solve: Factor
    middle: float
    nodes: int

    @cached_property
    def inverse(self) -> F64:
        """`(2, n + 1, 2, n + 1)` of (p, q) of all nodes, the root's zero; for small networks."""
        n = self.nodes
        found = np.zeros((2, n + 1, 2, n + 1))
        found[:, 1:, :, 1:] = self.solve(np.eye(2 * n)).reshape(2, n, 2, n)
        return found

    def _blocks(self, a: Ints, b: Ints) -> F64:
        """`(k, 2, 2)` blocks of the inverse between nodes a and b."""
        if 2 * self.nodes <= _DENSE:
            return np.asarray(self.inverse[:, a, :, b])
        found = np.zeros((len(a), 2, 2))
        order = np.argsort(b, kind="stable")
        # Columns of few nodes at a time: the whole inverse may not fit into memory.
        columns, starts = np.unique(b[order], return_index=True)
        ends = np.append(starts[1:], len(order))
        for first in range(0, len(columns), 256):
            some = columns[first : first + 256]
            right = np.zeros((2, self.nodes + 1, 2, len(some)))
            right[:, some, :, np.arange(len(some))] = np.eye(2)
            solved = np.zeros_like(right)
            solved[:, 1:] = self.solve(right[:, 1:].reshape(2 * self.nodes, -1)).reshape(2, self.nodes, 2, -1)
            solved[:, :, :, some == 0] = 0.0
            for k, (start, end) in enumerate(zip(starts[first : first + 256], ends[first : first + 256], strict=True)):
                which = order[start:end]
                found[which] = solved[:, a[which], :, k]
        return found

    def covariances(self, clocks: Clocks) -> F64:
        """`(n + 1, 2, 2)` of (offset, drift) of every clock, the root's zero."""
        nodes = np.arange(self.nodes + 1)
        # From (p, q) about the middle to the offset at the node's own time 0, and its drift.
        turn = np.zeros((self.nodes + 1, 2, 2))
        turn[:, 0, 0] = 1.0
        turn[:, 0, 1] = (clocks.offset - self.middle) * _PPM
        turn[:, 1, 1] = np.exp(clocks.log_rate) * _PPM
        found = turn @ self._blocks(nodes, nodes) @ turn.transpose(0, 2, 1)
        return np.asarray((found + found.transpose(0, 2, 1)) / 2)

    def variances(self, ends: Ints, at: F64) -> tuple[F64, F64]:
        """Of what the clocks say about the time `at` between the two ends of each edge, and about the rate."""
        a, b = ends
        blocks = self._blocks(np.concatenate([a, b, a, b]), np.concatenate([a, b, b, a])).reshape(4, -1, 2, 2)
        between = blocks[0] + blocks[1] - blocks[2] - blocks[3]
        x = (at - self.middle) * _PPM
        time = between[:, 0, 0] + x * (between[:, 0, 1] + between[:, 1, 0]) + x**2 * between[:, 1, 1]
        return time, between[:, 1, 1] * _PPM**2


def normal_matrix(c: Comparisons, missed: Misfit, middle: float, weight: F64, rate_weight: F64) -> Normal:
    """weight, rate_weight: of the comparisons, 1 / s^2 and per unit of log rate squared."""
    n = int(c.ends.max())
    x = (missed.at - middle) * _PPM
    q = weight * x
    blocks = (weight, q, q * x + rate_weight * _PPM**2)
    solve = _dense(n, c.ends, blocks) if 2 * n <= _DENSE else _sparse(n, c.ends, blocks)
    return Normal(solve, middle, n)


def _dense(n: int, ends: Ints, blocks: tuple[F64, F64, F64]) -> Factor:
    a, b = ends
    cells = np.concatenate([a * (n + 1) + b, b * (n + 1) + a, a * (n + 1) + a, b * (n + 1) + b])
    matrix = np.empty((2 * n, 2 * n))
    places = ((slice(0, n), slice(0, n)), (slice(0, n), slice(n, None)), (slice(n, None), slice(n, None)))
    for values, (rows, columns) in zip(blocks, places, strict=True):
        laplacian = np.bincount(cells, np.concatenate([-values, -values, values, values]), (n + 1) ** 2)
        matrix[rows, columns] = laplacian.reshape(n + 1, n + 1)[1:, 1:]
    matrix[n:, :n] = matrix[:n, n:]
    scale = 1 / np.sqrt(np.diag(matrix))
    scaled = matrix * scale[:, None] * scale

    def solve(right: F64) -> F64:
        shape = scale.reshape(-1, *[1] * (right.ndim - 1))
        return np.asarray(shape * np.linalg.solve(scaled, shape * right))

    return solve


def _sparse(n: int, ends: Ints, blocks: tuple[F64, F64, F64]) -> Factor:
    from scipy.sparse import block_array, coo_array
    from scipy.sparse.linalg import splu

    a, b = ends
    rows, columns = np.concatenate([a, b, a, b]), np.concatenate([b, a, a, b])
    kept = (rows > 0) & (columns > 0)
    parts = [
        coo_array((np.concatenate([-v, -v, v, v])[kept], (rows[kept] - 1, columns[kept] - 1)), shape=(n, n)).tocsc()
        for v in blocks
    ]
    matrix = block_array([[parts[0], parts[1]], [parts[1], parts[2]]], format="csc")
    scale = 1 / np.sqrt(matrix.diagonal())
    cells = matrix.tocoo()
    scaled = coo_array((cells.data * scale[cells.row] * scale[cells.col], (cells.row, cells.col)), shape=matrix.shape)
    # Symmetric and positive definite: ordered for few new entries, no pivoting.
    factor = splu(scaled.tocsc(), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})

    def solve(right: F64) -> F64:
        shape = scale.reshape(-1, *[1] * (right.ndim - 1))
        return np.asarray(shape * factor.solve(shape * right))

    return solve


def middle_of(missed: Misfit) -> float:
    return float(np.median(missed.at))


def step(c: Comparisons, clocks: Clocks, weight: F64, rate_weight: F64) -> tuple[Clocks, Normal]:
    """One Gauss-Newton step."""
    missed = misfit(c, clocks)
    middle = middle_of(missed)
    normal = normal_matrix(c, missed, middle, weight, rate_weight)
    n = normal.nodes
    a, b = c.ends
    p = weight * missed.time
    q = p * (missed.at - middle) * _PPM + rate_weight * _PPM * missed.rate
    right = np.concatenate([(np.bincount(a, v, n + 1) - np.bincount(b, v, n + 1))[1:] for v in (p, q)])
    shift, tilt = np.pad(normal.solve(right).reshape(2, n), ((0, 0), (1, 0)))
    tilt *= _PPM
    offset = clocks.offset + shift + tilt * (clocks.offset - middle)
    # A start that is wrong by hours must not turn a clock backwards.
    log_rate = clocks.log_rate + np.log1p(np.clip(tilt, -0.5, 1.0))
    return Clocks(offset, log_rate), normal


def adjust(
    c: Comparisons, clocks: Clocks, kept: NDArray[np.bool_], odd: tuple[float, float] = (0.0, 0.0), steps: int = 3
) -> tuple[Clocks, Normal]:
    """Least squares over the comparisons that are kept, each weighted by its own covariance.

    odd: variances of time and of log rate that every comparison has beyond its own.
    """
    weight, rate_weight = kept / (c.std**2 + odd[0]), kept / (c.drift_std**2 + odd[1])
    for _ in range(steps):
        clocks, normal = step(c, clocks, weight, rate_weight)
    return clocks, normal


_UNKNOWN_DRIFT = 20e-6  # sigma beyond which a drift is no measurement and must not vouch for the errors stated


def explain(c: Comparisons, clocks: Clocks, normal: Normal, kept: NDArray[np.bool_]) -> tuple[Clocks, Normal, float]:
    """Widens what is stated where loops close worse than it; nothing is ever narrowed.

    Loops that miss beyond chance show what every comparison has besides its own error: sound takes other paths to
    every pair. That adds a variance, of time and of rate, just large enough to explain the misses (Mandel and Paule
    1970; DerSimonian and Kacker 2007, "Random-effects model for meta-analysis", eq. 6). What is left is a common
    factor (the Birge ratio), the third thing returned.
    """
    if kept.sum() <= normal.nodes:
        return clocks, normal, 1.0  # no loops
    odd = np.zeros(2)
    measured = kept & (c.drift_std < _UNKNOWN_DRIFT)
    for _ in range(12):
        missed = misfit(c, clocks)
        held, rate_held = normal.variances(c.ends, missed.at)
        parts: list[tuple[F64, F64, float]] = []
        for use, value, std, fit in ((kept, missed.time, c.std, held), (measured, missed.rate, c.drift_std, rate_held)):
            variance = std[use] ** 2 + odd[len(parts)]
            parts.append((value[use] ** 2, variance, max(float(np.sum(1 - fit[use] / variance)), 0.0)))
        again = False
        for k, (square, variance, freedom) in enumerate(parts):
            chi2 = float(np.sum(square / variance))
            if freedom > 0.5 and chi2 > (_by_chance(freedom) if odd[k] == 0 else 1.01 * freedom):
                # Newton's method on chi2(odd) = freedom; it comes from below, for chi2 is convex.
                odd[k] += (chi2 - freedom) / float(np.sum(square / variance**2))
                again = True
        if not again:
            break
        clocks, normal = adjust(c, clocks, kept, (float(odd[0]), float(odd[1])), steps=2)
    freedom = sum(part[2] for part in parts)
    chi2 = sum(float(np.sum(part[0] / part[1])) for part in parts)
    return clocks, normal, max(1.0, chi2 / freedom) if freedom > 0.5 else 1.0


def _by_chance(freedom: float) -> float:
    """What chi2 exceeds once in a hundred times (Wilson and Hilferty 1931)."""
    return freedom * (1 - 2 / (9 * freedom) + 2.326 * float(np.sqrt(2 / (9 * freedom)))) ** 3
