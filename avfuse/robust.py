"""Models from correspondences of which many are wrong: one locally optimised RANSAC, the same for every model.

`consensus` finds the model with the least summed loss (MSAC of Torr and Zisserman 2000, or MAGSAC++ of Barath et al.
2020), improved locally whenever a sample gives a better one (Chum, Matas and Kittler 2003) and at last with Tukey's
biweight; `spread` says how well it is known; `log_chance` whether as many would agree by chance.

Everything is drawn from one seed and runs in one thread, without the interpreter's lock: the same input gives the same
bits, whatever else runs beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

from avfuse._kernels import robust as kernels
from avfuse.errors import StreamError

F64 = NDArray[np.float64]
Rng = int | np.random.Generator | None
Score = Literal["msac", "magsac"]

_MISSED = 1e-4  # probability that a sample without outliers has not been drawn when the search ends
_MOST = 100_000  # samples
_RIVAL, _RIVAL_MISSED, _RIVAL_MOST = 0.8, 1e-2, 20_000  # share of the winner's gain that makes another model a rival
_RAW = 0.3  # share of a model's gain that a sample of it already has
_APART = 4.0  # thresholds between what two models say of the same points, from which on they are different
_WIDE = 2.0  # thresholds at which the biweight of the last fit ends
_WIDE_LINE, _SIGMAS = 1.5, 3.5  # the same of distances from a line, at most, and the standard deviations that it takes
_TABLE = 256  # steps of tabulated losses
_MIXED = 30  # rounds in which noise is told from what lies evenly
_KEPT_GAIN = 0.95  # of the search's gain that the last fit must keep
_NONE = np.zeros(0)


@dataclass(frozen=True)
class Estimator:
    """What the loop needs of a model: six kernels (see `avfuse._kernels.robust`) and its sizes.

    sample: correspondences that determine it. models: the most that one sample gives. entries: of a model.
    free: its parameters. dimensions: of one distance, 2 for points of the plane, 1 for points off a line.
    """

    name: str
    solve: Callable[..., Any]
    residuals: Callable[..., Any]
    normal: Callable[..., Any]
    tangent: Callable[..., Any]
    retract: Callable[..., Any]
    sample: int
    models: int
    entries: int
    free: int
    dimensions: int
    upgrade: Callable[..., Any] = field(default=kernels.nothing)

    @cached_property
    def compiled(self) -> tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]:
        """`search`, `refined` and `scattered` for this estimator."""
        parts = kernels.compiled(
            self.solve, self.residuals, self.normal, self.tangent, self.retract, self.upgrade
        )  # fmt: skip
        return parts[0], parts[1], parts[2]

    @property
    def sizes(self) -> NDArray[np.int64]:
        return np.array([self.sample, self.free, self.models], np.int64)

    def squared(self, model: F64, data: F64) -> F64:
        """Squared distances of the columns of `data`, `(n,)`."""
        found = np.empty(data.shape[1])
        self.residuals(model, data, 0, data.shape[1], found)
        return found

    def moved(self, model: F64, step: F64) -> F64:
        """The model a step of its free parameters away."""
        found = np.empty(self.entries)
        self.retract(model, step, found)
        return found


@dataclass(frozen=True, eq=False)
class Consensus:
    """model: `(entries,)`. gain: correspondences less the summed loss. rival: another model that explains nearly as
    much of other correspondences, or None. draws: samples that were drawn. reach: distance up to which correspondences
    took part in the last fit."""

    model: F64
    gain: float
    rival: F64 | None
    draws: int
    reach: float


def seed_of(rng: Rng) -> np.random.Generator:
    """None is the seed 0: equal input gives equal output."""
    if isinstance(rng, np.random.Generator):
        return rng
    if rng is None or (isinstance(rng, int | np.integer) and not isinstance(rng, bool) and rng >= 0):
        return np.random.default_rng(0 if rng is None else int(rng))
    raise StreamError(f"rng: {rng!r}; expected None, a whole number from 0 on or a numpy Generator")


def consensus(
    estimator: Estimator,
    data: F64,
    threshold: float,
    *,
    scores: F64 | None = None,
    rng: Rng = None,
    score: Score = "msac",
    least: int = 0,
    rivals: bool = True,
) -> Consensus | None:
    """The model that most of the columns of `data` agree with, or None where no sample gave any.

    threshold: distance at which a correspondence counts no more, in the units of the estimator's distances.
    scores: `(n,)`, higher for correspondences to try first (PROSAC), or None. least: correspondences that a model of
    any worth agrees with, which bounds how long is searched for one. rivals: whether another model is looked for.
    """
    random = seed_of(rng)
    n = data.shape[1]
    # Columns in random order, so that the first few are a fair sample of them all.
    shuffled = random.permutation(n)
    mixed = np.ascontiguousarray(data[:, shuffled])
    order = np.zeros(0, np.int64)
    if scores is not None:
        place = np.empty(n, np.int64)
        place[shuffled] = np.arange(n)
        order = place[np.argsort(-scores, kind="stable")]
    losses, weights = loss_tables(score, estimator.dimensions)
    state = random.integers(1, 2**63, 1).astype(np.uint64)
    search, refine, _ = estimator.compiled
    square = threshold * threshold
    model = np.zeros(estimator.entries)
    most = int(min(kernels.draws_needed(least, n, estimator.sample, _MISSED), _MOST)) if least else _MOST
    cost, draws, _ = search(
        mixed, estimator.sizes, square, losses, weights, order, np.inf, most, _MISSED, state, model
    )  # fmt: skip
    if not model.any():
        return None
    gain = n - cost
    model, reach = _settled(estimator, refine, model, mixed, square, losses, weights)
    if not rivals:
        return Consensus(model, gain, None, int(draws), reach)
    # Who else? Among those that are nowhere near this model.
    left = np.ascontiguousarray(mixed[:, estimator.squared(model, mixed) > _WIDE**2 * square])
    rival = None
    least = _RIVAL * gain
    if left.shape[1] > max(least, estimator.sample):
        most = kernels.draws_needed(int(least), left.shape[1], estimator.sample, _RIVAL_MISSED)
        other = np.zeros(estimator.entries)
        # A sample's own model, not yet refined, explains less than it will.
        bound = left.shape[1] - _RAW * least
        left_cost, _, _ = search(
            left, estimator.sizes, square, losses, weights, np.zeros(0, np.int64), bound, int(min(most, _RIVAL_MOST)),
            _RIVAL_MISSED, state, other,
        )  # fmt: skip
        if left.shape[1] - left_cost >= least and other.any():
            other, _ = _settled(estimator, refine, other, left, square, losses, weights)
            first = mixed[:, estimator.squared(model, mixed) <= square]
            if np.median(estimator.squared(other, np.ascontiguousarray(first))) > _APART**2 * square:
                rival = other
    return Consensus(model, gain, rival, int(draws), reach)


def settled(estimator: Estimator, model: F64, data: F64, threshold: float) -> tuple[F64, float]:
    """A model fitted anew to the columns of `data`, from where it is, and its reach (see `Consensus`)."""
    losses, weights = loss_tables("msac", estimator.dimensions)
    return _settled(estimator, estimator.compiled[1], model.copy(), data, threshold**2, losses, weights)


def _settled(
    estimator: Estimator, refine: Callable[..., Any], model: F64, data: F64, square: float, losses: F64, weights: F64
) -> tuple[F64, float]:
    """The model after its last fit: by the search's loss to its end, then by a biweight that has no edge."""
    count = data.shape[1]
    cost = refine(model, np.inf, data, square, losses, weights, estimator.free, 30, 1e-9)
    best = model.copy()
    reach = _reach(estimator, estimator.squared(model, data), square)
    wide, falling = loss_tables("biweight", estimator.dimensions)
    refine(best, np.inf, data, reach**2, wide, falling, estimator.free, 50, 1e-10)
    kept = count - np.minimum(estimator.squared(best, data) / square, 1.0).sum()
    before = count - np.minimum(estimator.squared(model, data) / square, 1.0).sum()
    return best if np.isfinite(cost) and kept >= _KEPT_GAIN * before else model, reach


def _reach(estimator: Estimator, squared: F64, square: float) -> float:
    """The distance at which the biweight of the last fit ends: two thresholds between points.

    Near a line, outliers lie along all of it: there it is no more than what noise needs, by the standard deviation of
    those that agree among others that lie evenly, as MLESAC tells them apart (Torr and Zisserman 2000).
    """
    threshold = float(np.sqrt(square))
    if estimator.dimensions > 1:
        return _WIDE * threshold
    near = squared[squared < _WIDE**2 * square]
    variance, share, even = square / 9, 0.5, 1 / (2 * _WIDE * threshold)
    for _ in range(_MIXED):
        inside = share / np.sqrt(2 * np.pi * variance) * np.exp(-near / (2 * variance))
        belongs = inside / (inside + (1 - share) * even)
        agree = float(belongs.sum())
        if not agree > estimator.free:
            return _WIDE_LINE * threshold
        share = min(agree / len(near), 1 - 1e-6)
        variance = max(float(belongs @ near) / (agree - estimator.free), 1e-12 * square)
    return min(_SIGMAS * float(np.sqrt(variance)), _WIDE_LINE * threshold)


@lru_cache(maxsize=16)
def loss_tables(kind: str, dimensions: int) -> tuple[F64, F64]:
    """A loss and the weight that goes with it, at squares of distances from 0 to the threshold's; none for MSAC.

    `magsac`: marginalised over noise levels up to threshold / k, k the 99 % quantile of a chi of as many dimensions
    (Barath et al. 2020, equations 6 and 9). `biweight`: Tukey's.
    """
    if kind == "msac":
        return _NONE, _NONE
    u = np.linspace(0.0, 1.0, _TABLE + 1)
    if kind == "biweight":
        return 1 - (1 - u) ** 3, (1 - u) ** 2
    if kind != "magsac":
        raise StreamError(f"score: {kind!r}; expected 'msac' or 'magsac'")
    # One dimension has no finite weight at 0; two are the least that make sense of the integral.
    d = max(dimensions, 2)
    k = math.sqrt(2 * float(special.gammaincinv(d / 2, 0.99)))
    x, a = u * k * k / 2, (d - 1) / 2
    tail = special.gamma(a) * (special.gammaincc(a, x) - special.gammaincc(a, k * k / 2))
    below = special.gamma(a + 1) * special.gammainc(a + 1, x)
    loss = below / 2 + x / 2 * tail
    return np.asarray(loss / loss[-1]), np.asarray(tail / tail[0])


@dataclass(frozen=True, eq=False)
class Spread:
    """cov: `(free, free)` of the model's free parameters. sigma: standard deviation of a distance's coordinate."""

    cov: F64
    sigma: float


def spread(estimator: Estimator, model: F64, data: F64, reach: float) -> Spread | None:
    """How well a settled model is known, or None where the correspondences near it leave part of it free.

    The covariance of an M-estimator (Huber 1981, section 7.6) whose weights end at `reach`, of independent errors of
    one size; widened as Student's t of few correspondences is.
    """
    square = reach**2
    squared = estimator.squared(model, data)
    near = squared < square
    d, p = estimator.dimensions, estimator.free
    freedom = d * int(near.sum()) - p
    if freedom < 1:
        return None
    ambient, slope = np.zeros((estimator.entries, estimator.entries)), np.zeros(estimator.entries)
    estimator.normal(model, data, near.astype(np.float64), ambient, slope)
    moves = np.zeros((estimator.entries, p))
    estimator.tangent(model, moves)
    information = moves.T @ ambient @ moves
    scale = np.sqrt(np.diag(information))
    if not (np.isfinite(scale).all() and scale.min() > 0):
        return None
    try:
        inverse = np.linalg.inv(information / np.outer(scale, scale))
    except np.linalg.LinAlgError:
        return None
    if not (np.isfinite(inverse).all() and np.linalg.eigvalsh(inverse).min() > 0):
        return None
    u = squared[near] / square
    variance = float(np.sum((1 - u) ** 4 * squared[near])) / freedom
    # How a fit follows its data: the mean slope of what the biweight makes of an error.
    follows = max(float(np.mean((1 - u) ** 2 - 4 * u * (1 - u) / d)), 0.1)
    student = (float(special.stdtrit(freedom, 0.975)) / 1.96) ** 2
    cov = inverse / np.outer(scale, scale) * variance / follows**2 * student
    if d == 1:
        found = student * _scattered(estimator, model, data, moves, squared, square)
        if not np.isfinite(found).all():
            return None
        cov = _wider(cov, found)
    return Spread(cov, float(np.sqrt(variance) / follows))


def _scattered(estimator: Estimator, model: F64, data: F64, moves: F64, squared: F64, square: float) -> F64:
    """The covariance by how much what each correspondence says differs (Huber's sandwich), each as if it had not taken
    part in the fit (MacKinnon and White 1985).

    A band about a line lets outliers in that sit where no inlier does, and which then weigh more than any: errors of
    one size for all would be a poor guess.
    """
    p = estimator.free
    _, _, scatter = estimator.compiled
    slopes, products, inverse = np.zeros((p, p)), np.zeros((p, p)), np.zeros((p, p))
    for _ in range(2):
        scatter(model, data, moves, squared, square, estimator.dimensions, inverse, slopes, products)
        try:
            inverse = np.ascontiguousarray(np.linalg.inv(slopes))
        except np.linalg.LinAlgError:
            return np.full((p, p), np.inf)
    return np.asarray(inverse @ products @ inverse)


def _wider(cov: F64, other: F64) -> F64:
    """The first covariance, stretched in those directions in which the other one is larger."""
    scale = np.sqrt(np.diag(cov))
    root = np.linalg.cholesky(cov / np.outer(scale, scale)) * scale[:, None]
    inverse = np.linalg.inv(root)
    values, vectors = np.linalg.eigh(inverse @ other @ inverse.T)
    made = root @ vectors
    return np.asarray((made * np.maximum(values, 1.0)) @ made.T)


def clumping(errors: F64, positions: F64) -> float:
    """By how much the variance of a fit grows because errors of neighbours go together; 1 where they do not.

    errors `(n, d)`, positions `(n, k)`. A lens's distortion, a plane that is none, or corners found in the same blob:
    what sums of errors over cells of the plane vary by, over what they would if errors were independent.
    """
    n = len(errors)
    cells = int(np.clip(np.sqrt(n / 8), 1, 6))
    if cells < 2:
        return 1.0
    place = np.zeros(n, np.int64)
    for column in positions.T[:2]:
        order = np.argsort(column, kind="stable")
        rank = np.empty(n, np.int64)
        rank[order] = np.arange(n)
        place = place * cells + rank * cells // n
    sums = np.stack([np.bincount(place, e, cells ** min(positions.shape[1], 2)) for e in errors.T])
    total = float(np.sum(errors**2))
    if not total > 0:
        return 1.0
    ratio = float(np.sum(sums**2)) / total
    # Sums of squares of independent cells scatter as a chi-square does.
    filled = sums.size
    return ratio if ratio > 1 + 3 * np.sqrt(2 / filled) else 1.0


def log_chance(n: int, agree: int, estimator: Estimator, share: float) -> float:
    """Logarithm to base 10 of the number of models that as many of `n` unrelated correspondences would agree with
    (Moisan and Stival 2004). share: probability that one of them lies within the threshold of a model."""
    s = estimator.sample
    if agree <= s:
        return np.inf
    lg = math.lgamma
    choose = lg(n + 1) - lg(n - agree + 1) - lg(s + 1) - lg(agree - s + 1)  # C(n, agree) C(agree, s)
    alpha = math.log(min(max(share, 1e-300), 1.0))
    return (math.log(estimator.models * (n - s)) + choose + (agree - s) * alpha) / math.log(10)


def least_agreeing(n: int, estimator: Estimator, share: float, chance: float) -> int:
    """The fewest of `n` correspondences whose agreement has a `log_chance` of at most `chance`; n where none do."""
    low, high = estimator.sample, n
    while high - low > 1:
        middle = (low + high) // 2
        if log_chance(n, middle, estimator, share) <= chance:
            high = middle
        else:
            low = middle
    return high
