"""Soft alignment of two streams in time, learned without a single labelled frame.

Two encoders bring both streams into one space, where each moment of one attends to all moments of the other. They are
trained such that some path that only moves on, in both, has little cost: soft dynamic time warping (Cuturi and Blondel
2017) over the negative logarithm of the attention, so that no encoder can make all moments alike to get away cheaply
(Hadji, Derpanis and Jepson, Representation learning via global temporal alignment and cycle-consistency, 2021). The two
need not be of one kind, though one encoder for both learns most easily; what was not learned is refused.

What is read out is the expected time under all such paths. How far it comes back to where it started when it is
followed there and back (after Dwibedi et al., Temporal cycle-consistency learning, 2019), and how widely paths spread,
tell how sure a moment is; how much cheaper the paths are than after turning one stream about tells whether there is a
match at all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from avfuse.clock import WarpPath
from avfuse.errors import StreamError
from avfuse.nn.synchrony.confidence import MatchProbability
from avfuse.stream import Stream
from avfuse.temporal.warp import WarpEstimate

STEP = 0.05  # seconds
SHORTEST = 4.0  # seconds that can be told from chance
_MOST = 3000  # steps; costs are a full table
_DIM, _WIDTH = 32, 64
_GAMMA = 0.3  # nats by which paths may cost more and still count
_TURN = 1.2  # nats that a step in one of the two alone costs: tempo 1 is the likeliest
_KNOTS = 0.2  # seconds
_NEAR = 0.05  # seconds: what a confidence at a knot speaks of, see `WarpPath.confidence_at`
_TURNS = (0.3, 0.4, 0.5, 0.6, 0.7)  # shares of its length by which the reference is turned about
_MEMORY = 0.5  # seconds over which moments are alike
_ACCEPT = 0.95
_SUREST = 0.985
_SLOWEST = 1e-3  # reference seconds to a moving one: what stands still all but stands still
_RATE = 3e-3
_BATCH = 6
_WIDEST = 10.0  # times _GAMMA, when training begins
_NOISE = 0.3  # of the std of each channel, added in training

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Pair = tuple[Stream, Stream]


class MomentEncoder(nn.Module):
    """(B, T, channels) on steps of 50 ms -> (B, T, dim) of length 1: what happens around each moment."""

    def __init__(self, channels: int, dim: int = _DIM, width: int = _WIDTH) -> None:
        super().__init__()
        self.near = nn.Conv1d(channels, width, 5, padding=2)
        self.wide = nn.Conv1d(width, width, 5, padding=4, dilation=2)
        self.out = nn.Conv1d(width, dim, 1)

    def forward(self, values: Tensor) -> Tensor:
        x = functional.gelu(self.near(values.transpose(1, 2)))
        x = x + functional.gelu(self.wide(x))
        return functional.normalize(self.out(x).transpose(1, 2), dim=2)


class SoftAligner(nn.Module):
    """Encoders and what turns their attention into a map. channels: of reference, of moving. shared: one for both.

    match: evidence -> probability; std_scale: by how much scatter on held-out pairs exceeds what is read off the paths.
    """

    def __init__(self, channels: tuple[int, int], *, shared: bool = False) -> None:
        super().__init__()
        if shared and channels[0] != channels[1]:
            raise StreamError(f"SoftAligner: {channels[0]} and {channels[1]} channels; one encoder needs the same")
        self.channels = channels
        self.reference = MomentEncoder(channels[0])
        self.moving = self.reference if shared else MomentEncoder(channels[1])
        self.log_scale = nn.Parameter(torch.tensor(10.0).log())
        self.match: MatchProbability | None = None
        self.std_scale = 1.0

    def similarity(self, reference: Tensor, moving: Tensor) -> Tensor:
        """(B, T_moving, T_reference) logits of both attentions, of values `(B, T, channels)`."""
        scale = self.log_scale.exp().clamp(max=50.0)
        found: Tensor = scale * self.moving(moving) @ self.reference(reference).transpose(1, 2)
        return found

    def forward(self, reference: Tensor, moving: Tensor, gamma: float = _GAMMA) -> Tensor:
        """(B,) nats a step of the cheapest paths: what training makes small."""
        costs = costs_of(self.similarity(reference, moving))
        return path_cost(costs, gamma) / (costs.shape[1] + costs.shape[2])


def costs_of(similarity: Tensor) -> Tensor:
    """(B, n, m): minus the mean log attention of moment i to j and of j to i, over that of evenly spread attention."""
    n, m = similarity.shape[1:]
    there = similarity.log_softmax(dim=2) + math.log(m)
    back = similarity.log_softmax(dim=1) + math.log(n)
    return -(there + back) / 2


def path_cost(costs: Tensor, gamma: float = _GAMMA) -> Tensor:
    """(B,) soft minimum over all monotone paths from corner to corner of the sum of costs `(B, n, m)`.

    Cuturi and Blondel 2017, equation 1, row by row of diagonals; steps in one of the two alone cost `_TURN` more, and
    a diagonal one counts its cell twice, so that a path's weight does not depend on how it goes. Its gradient with
    respect to the costs is how often paths pass each cell.
    """
    batch, n, m = costs.shape
    far = costs.new_full((batch, 1), 1e9)
    # Diagonal k holds cells (i, k - i); row i of it at place i + 1, with a wall at either end.
    skewed = costs.new_full((batch, n, n + m), 1e9)
    rows = torch.arange(n, device=costs.device)
    columns = rows[:, None] + torch.arange(m, device=costs.device)[None, :]
    skewed = skewed.scatter(2, columns[None].expand(batch, -1, -1), costs)
    before = torch.cat([far.expand(-1, 1), 2.0 * skewed[:, :1, 0], far.expand(-1, n - 1)], dim=1)
    earlier = far.expand(-1, n + 1)
    for k in range(1, n + m - 1):
        here = skewed[:, :, k]
        options = torch.stack(
            [earlier[:, :-1] + 2.0 * here, before[:, :-1] + here + _TURN, before[:, 1:] + here + _TURN], dim=0
        )
        now = -gamma * torch.logsumexp(-options / gamma, dim=0)
        earlier, before = before, torch.cat([far, now.clamp(max=1e9)], dim=1)
    return before[:, n]


def passing(costs: Tensor) -> Tensor:
    """(B, n, m): how much paths dwell on each cell: the gradient of their cost."""
    with torch.enable_grad():
        given = costs.detach().double().requires_grad_(True)
        return torch.autograd.grad(path_cost(given).sum(), given)[0]


def learn_soft_alignment(
    pairs: Sequence[Pair],
    *,
    shared: bool = False,
    held_out: float = 0.25,
    steps: int = 200,
    rng: np.random.Generator | int = 0,
    progress: Callable[[float, str], None] | None = None,
) -> SoftAligner:
    """An aligner from pairs `(reference, moving)` of which each is two streams of the same course, at whatever tempo.

    Streams hold numbers `(n, channels)`, at any rates or times; both begin and end together. shared: both are of one
    kind, and one encoder does for both: what is alike then is alike from the start. held_out: share of the
    pairs that are not trained on; they set when the aligner refuses, and how sure it is of a moment.
    Raises StreamError for fewer than four pairs, and for streams that do not fit. On equal input and rng the result is
    the same; where there is nothing to learn, the aligner refuses everything.
    """
    tell = progress or (lambda share, what: None)
    if len(pairs) < 4 or not 0.0 < held_out < 1.0:
        raise StreamError(
            f"learn_soft_alignment: {len(pairs)} pairs, share held out {held_out!r}; expected four pairs or more, and "
            "a share between 0 and 1"
        )
    rng = np.random.default_rng(rng)
    ready = [(moments(a)[1], moments(b)[1]) for a, b in pairs]
    channels = {(a.shape[1], b.shape[1]) for a, b in ready}
    if len(channels) > 1:
        raise StreamError(f"learn_soft_alignment: {sorted(channels)} channels; expected the same in all pairs")
    order = rng.permutation(len(ready))
    kept = max(2, round(held_out * len(ready)))
    testing, training = [ready[k] for k in order[:kept]], [ready[k] for k in order[kept:]]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**31)))
        model = SoftAligner(channels.pop(), shared=shared)
    optimiser = torch.optim.AdamW(model.parameters(), lr=_RATE, weight_decay=1e-2)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = _RATE * (0.5 + 0.5 * math.cos(math.pi * step / steps)) + 1e-5
        reference, moving = _batch(training, rng)
        # At first all paths near the diagonal count, until some moments are known by which to tell them apart.
        loss = model(reference, moving, _GAMMA * _WIDEST ** (1.0 - min(1.0, 2.0 * step / steps))).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        tell(0.8 * step / steps, f"step {step + 1} of {steps}, loss {float(loss.detach()):.3f}")
    model.eval()
    _calibrate(model, testing, rng)
    return model


def _batch(training: Sequence[tuple[F32, F32]], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Some pairs, `(B, T, channels)` each, at one length: at somewhat another tempo, and noisier, than they were."""
    chosen = [training[k] for k in rng.choice(len(training), _BATCH, replace=len(training) < _BATCH)]
    made = []
    for part in (0, 1):
        count = round(float(np.mean([len(pair[part]) for pair in chosen])))
        rows = []
        for pair in chosen:
            values = pair[part]
            at = np.linspace(0.0, len(values) - 1.0, count)
            low = np.minimum(at.astype(np.int64), len(values) - 2)
            share = (at - low).astype(np.float32)[:, None]
            rows.append(values[low] * (1 - share) + values[low + 1] * share)
        noisy = np.stack(rows)
        noisy += _NOISE * rng.standard_normal(noisy.shape, np.float32)
        made.append(torch.as_tensor(noisy))
    return made[0], made[1]


def estimate_soft_warp(model: SoftAligner, reference: Stream, moving: Stream) -> WarpEstimate:
    """Elastic map that puts `moving` on the time of `reference`: t_ref = m(t_moving); both begin and end together.

    The confidence at a knot is the probability that the map is within 50 ms there.
    Raises StreamError for streams that do not fit the model, and for one that was not learned.
    """
    if model.match is None:
        raise StreamError("this aligner has not been held against pairs it was not trained on: learn it first")
    start_a, a = moments(reference)
    start_b, b = moments(moving)
    for role, values, channels in (("reference", a, model.channels[0]), ("moving", b, model.channels[1])):
        if values.shape[1] != channels:
            raise StreamError(f"{role}: {values.shape[1]} channels; this aligner was learned for {channels}")
        if len(values) * STEP < SHORTEST:
            lasts = f"lasts {len(values) * STEP:.1f} s; at least {SHORTEST:g} s are needed"
            return WarpEstimate("degenerate", message=f"{role} {lasts}", evidence=("attention",))
        if not np.ptp(values, axis=0).max() > 1e-6:
            return WarpEstimate("degenerate", message=f"{role} never changes", evidence=("attention",))
    found = _read_out(model, a, b)
    confidence = model.match(found.evidence)
    seen = {"evidence": found.evidence, "flat": found.flat, "cycle": found.cycle}
    if confidence < _ACCEPT:
        refused = confidence < 0.5
        return WarpEstimate(
            "no_match" if refused else "ambiguous", None, 1.0 - confidence if refused else confidence,
            "along no path that moves on do the two attend to each other more than by chance" if refused
            else "the two attend to each other along a path hardly more than by chance",
            ("attention",), seen,
        )  # fmt: skip
    told = confidence * _within(np.maximum(model.std_scale, 1.0) * found.std)
    path = WarpPath(start_b + found.knots, start_a + found.values, np.minimum(told, _SUREST))
    return WarpEstimate("aligned", path, confidence, None, ("attention",), seen)


def moments(stream: Stream) -> tuple[float, F32]:
    """Seconds of the first moment, and `(steps, channels)` on steps of 50 ms: each channel about its mean, in its std.

    Raises StreamError for sound and pictures (take features of them), text, NaN, and what is longer than 150 s.
    """
    if stream.kind in ("sound", "picture", "text"):
        raise StreamError(
            f"Stream {stream.name!r}: {stream.kind}; expected numbers (n, channels): take features of it first"
        )
    blocks = list(stream.blocks(60.0))
    times = np.concatenate([t for t, _ in blocks])
    values = np.concatenate([v for _, v in blocks]).astype(np.float64).reshape(len(times), -1)
    if not np.isfinite(values).all() or len(times) < 2:
        raise StreamError(
            f"Stream {stream.name!r}: {len(times)} values, of which some are NaN; expected finite numbers"
        )
    count = int((times[-1] - times[0]) / STEP + 1e-6) + 1
    if count > _MOST:
        raise StreamError(
            f"Stream {stream.name!r}: {count * STEP:.0f} s; expected {_MOST * STEP:.0f} s or less: cut it"
        )
    # Means over each step, by the integral of straight lines between samples: any rate and jitter gives the same.
    total = np.concatenate(
        [np.zeros((1, values.shape[1])), np.cumsum(np.diff(times)[:, None] * (values[1:] + values[:-1]) / 2, axis=0)]
    )
    edges = np.clip(times[0] + (np.arange(count + 1) - 0.5) * STEP, times[0], times[-1])
    sums = np.stack([_integral(edges, times, values[:, c], total[:, c]) for c in range(values.shape[1])], axis=1)
    widths = np.maximum(np.diff(edges), 1e-9)[:, None]
    means = np.diff(sums, axis=0) / widths
    spread = means.std(axis=0)
    means = (means - means.mean(axis=0)) / np.maximum(spread, 1e-3 * float(spread.max()) + 1e-12)
    return float(times[0]), means.astype(np.float32)


def _integral(at: F64, times: F64, values: F64, total: F64) -> F64:
    k = np.clip(np.searchsorted(times, at, side="right") - 1, 0, len(times) - 2)
    since = at - times[k]
    slope = (values[k + 1] - values[k]) / np.maximum(times[k + 1] - times[k], 1e-12)
    return np.asarray(total[k] + since * (values[k] + slope * since / 2))


@dataclass(frozen=True, eq=False)
class _ReadOut:
    """knots, values, std: `(k,)` seconds from the first moment of moving, of reference; 1 sigma.

    evidence: nats, see `_evidence`. flat: entropy of the attention over that of an even one.
    cycle: seconds by which attention there and back misses, root mean square.
    """

    knots: F64
    values: F64
    std: F64
    evidence: float
    flat: float
    cycle: float


@torch.no_grad()
def _read_out(model: SoftAligner, reference: F32, moving: F32) -> _ReadOut:
    similarity = model.similarity(torch.as_tensor(reference)[None], torch.as_tensor(moving)[None])
    costs = costs_of(similarity)
    n, m = costs.shape[1:]
    dwell = passing(costs)[0].numpy()
    there = dwell / dwell.sum(axis=1, keepdims=True)  # (moving, reference)
    steps_b, steps_a = (np.arange(count, dtype=np.float64) * STEP for count in (n, m))
    expected = there @ steps_a
    # Neighbouring moments err together, and paths take them for so many witnesses.
    spread = math.sqrt(_MEMORY / STEP) * np.sqrt(np.maximum(there @ steps_a**2 - expected**2, 0.0) + (STEP / 4) ** 2)
    back = dwell / dwell.sum(axis=0, keepdims=True)
    off = np.abs(there @ (back.T @ steps_b) - steps_b)
    # Attention itself knows no order.
    to, fro = (similarity[0].softmax(dim=d).numpy().astype(np.float64) for d in (1, 0))
    cycle = to @ (fro.T @ steps_b) - steps_b
    entropy = float(-(to * np.log(to + 1e-12)).sum(axis=1).mean() / math.log(m))
    knots = np.linspace(0.0, float(steps_b[-1]), max(2, round(float(steps_b[-1]) / _KNOTS) + 1))
    values = _smooth(steps_b, expected, knots)
    std = np.hypot(_smooth(steps_b, spread, knots), _smooth(steps_b, off, knots))
    values = np.maximum.accumulate(values - _SLOWEST * knots) + _SLOWEST * knots
    return _ReadOut(
        knots, values, std, _evidence(costs), entropy, float(np.sqrt(np.mean(cycle**2)))
    )  # fmt: skip


def _smooth(times: F64, values: F64, knots: F64) -> F64:
    """Straight lines from knot to knot that meet the values best (least squares)."""
    k = np.clip(np.searchsorted(knots, times, side="right") - 1, 0, len(knots) - 2)
    share = (times - knots[k]) / (knots[k + 1] - knots[k])
    basis = np.zeros((len(times), len(knots)))
    basis[np.arange(len(times)), k] = 1 - share
    basis[np.arange(len(times)), k + 1] += share
    bend = np.diff(np.eye(len(knots)), 2, axis=0) * 0.3
    normal = basis.T @ basis + bend.T @ bend + 1e-9 * np.eye(len(knots))
    return np.asarray(np.linalg.solve(normal, basis.T @ values))


@torch.no_grad()
def _costs(model: SoftAligner, reference: F32, moving: F32) -> Tensor:
    return costs_of(model.similarity(torch.as_tensor(reference)[None], torch.as_tensor(moving)[None]))


@torch.no_grad()
def _evidence(costs: Tensor) -> float:
    """By how many nats paths are cheaper than the cheapest when the reference is turned about.

    What is turned about has the same moments, and only their order differs; it is taken at several places, and
    backwards.
    """
    m = costs.shape[2]
    turned = [torch.roll(costs, round(share * m), dims=2) for share in _TURNS]
    turned += [t.flip(2) for t in (costs, *turned[::2])]
    found = path_cost(torch.cat([costs, *turned]).double()).numpy()
    # Neighbouring moments say the same once more.
    return float(found[1:].min() - found[0]) * STEP / _MEMORY


def _within(std: F64) -> F64:
    return np.array([math.erf(_NEAR / (math.sqrt(2.0) * max(s, 1e-6))) for s in std])


def _calibrate(model: SoftAligner, testing: Sequence[tuple[F32, F32]], rng: np.random.Generator) -> None:
    """How much evidence is enough, from held-out pairs and from the same ones mixed up, whole and in parts."""
    right, wrong = [], []
    misses, stated = [], []
    least = round(SHORTEST / STEP)
    for k, (a, b) in enumerate(testing):
        found = _read_out(model, a, b)
        right.append(found.evidence)
        stated.append(float(np.mean(found.std**2)))
        misses.append(_there_and_back(model, a, b, found))
        for j, (other, _) in enumerate(testing):
            if j == k:
                continue
            for _ in range(2):
                count = int(rng.integers(least, max(least + 1, min(len(other), len(b)) + 1)))
                i, l = (int(rng.integers(max(1, len(x) - count + 1))) for x in (other, b))
                wrong.append(_evidence(_costs(model, other[i : i + count], b[l : l + count])))
        wrong.append(_evidence(_costs(model, a[::-1].copy(), b)))
    model.match = MatchProbability.fit(right, wrong, trials=10 * len(testing))
    model.std_scale = max(1.0, math.sqrt(float(np.mean(misses)) / max(float(np.mean(stated)), 1e-12)))


def _there_and_back(model: SoftAligner, reference: F32, moving: F32, found: _ReadOut) -> float:
    """Variance of one map, by how far the map one way and the map the other way miss each other."""
    dwell = passing(_costs(model, reference, moving))[0].numpy()
    back = (dwell / dwell.sum(axis=0, keepdims=True)).T @ (np.arange(len(moving)) * STEP)
    returned = np.interp(found.values, np.arange(len(reference)) * STEP, back)
    return float(np.mean((returned - found.knots) ** 2) / 2)
