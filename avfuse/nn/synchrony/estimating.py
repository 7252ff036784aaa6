"""Where one stream lies on the clock of another, as a synchroniser that was learned tells it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from avfuse.alignment import Candidate, ClockEdge, ClockEstimate, Node
from avfuse.clock import ClockMap
from avfuse.errors import StreamError
from avfuse.nn.synchrony.confidence import Tail
from avfuse.nn.synchrony.network import Synchroniser
from avfuse.nn.synchrony.tracks import STEP, Track, track_of
from avfuse.stream import Stream
from avfuse.temporal.calibration import PRIOR_DRIFT

SHORTEST = 3.0  # seconds; below, chance goes with anything
_ACCEPT = 0.95
# No answer is stated surer: of 12 on films of another seed one was wrong, whatever held-out recordings had said
# (`python -m benchmarks fusion --part synchrony`).
_SUREST = 0.9
_LEAST = 2.0  # seconds that must meet
_APART = 0.36  # seconds: a further peak this close belongs to the first
_TEMPER = 0.7  # of log likelihood ratios: correlations of real places have heavier tails than noise
_LARGEST = 300.0  # a log likelihood ratio beyond this says no more
_FAR = 120.0  # seconds beyond what is asked for in which rivals are looked for
_FINER, _REACH = 8, 60  # steps of 5 ms, so many to either side
_PART = 2.0  # seconds that are left out at a time
_NEAR = 4.0  # nats below the best that a rival is told of
_SCATTERED = 0.08  # seconds beyond which parts do not agree on a lag

F64 = NDArray[np.float64]
Single = NDArray[np.float32]
Bool = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Found:
    """The best lag (seconds, first minus second) and how it stands out.

    evidence: nats, see `Tail.evidence`. std: seconds, by the scatter of parts. rivals: other lags that come near.
    """

    lag: float
    evidence: float
    std: float
    rivals: tuple[float, ...]
    meeting: float


def estimate_synchrony(
    model: Synchroniser, reference: Stream, moving: Stream, *, max_offset: float | None = None
) -> ClockEstimate:
    """Offset that puts `moving` on the clock of `reference`: t_ref = offset + t_moving.

    reference, moving: streams of the two kinds that the model was learned for, either way round, of one recording or
    of two. max_offset: seconds, searched both ways; None searches every overlap.
    Raises StreamError for other kinds, and for a model that was never held against recordings it had not seen.
    """
    if {reference.kind, moving.kind} != set(model.kinds) or (reference.kind == moving.kind) != (
        len(set(model.kinds)) == 1
    ):
        raise StreamError(
            f"Streams {reference.name!r} and {moving.name!r}: {reference.kind} and {moving.kind}; this synchroniser "
            f"was learned for {model.kinds[0]} and {model.kinds[1]}"
        )
    return compare_tracks(model, track_of(reference), track_of(moving), max_offset=max_offset)


def compare_tracks(
    model: Synchroniser, reference: Track, moving: Track, *, max_offset: float | None = None
) -> ClockEstimate:
    """The same from tracks, which are made once for each stream."""
    if max_offset is not None and not max_offset >= 0.0:
        raise StreamError(f"max_offset {max_offset!r} s; expected a number that is not negative, or None")
    if model.match is None:
        raise StreamError(
            "this synchroniser has not been held against recordings it was not trained on: learn it first"
        )
    for role, track in (("reference", reference), ("moving", moving)):
        lasts = track.steps * STEP
        idle = f"lasts {lasts:.1f} s; at least {SHORTEST:g} s are needed" if lasts < SHORTEST else track.idle
        if idle is not None:
            return ClockEstimate("degenerate", message=f"{role} ({track.kind}) {idle}", evidence=("synchrony",))
    turned = reference.kind != model.kinds[0]
    first, second = (moving, reference) if turned else (reference, moving)
    far = math.inf if max_offset is None else max_offset
    found = search(
        model.embed(first)[:, 0], model.embed(second), first.valid, second.valid,
        lead=first.first - second.first, low=-far, high=far,
    )  # fmt: skip
    if found is None:
        return ClockEstimate(
            "degenerate", evidence=("synchrony",),
            message=f"the two meet for less than {_LEAST:g} s within the offsets that were asked for",
        )  # fmt: skip
    if turned:
        found = replace(found, lag=-found.lag, rivals=tuple(-r for r in found.rivals))
    return judged(model, found, (moving.start, moving.end))


def judged(model: Synchroniser, found: Found, span: tuple[float, float]) -> ClockEstimate:
    """What a search says, by what held-out recordings say of such evidence."""
    assert model.match is not None
    std = math.hypot(model.std_scale * found.std, model.std_floor)
    confidence = model.match(found.evidence)
    if found.std > _SCATTERED:
        confidence = min(confidence, 0.6)
    seen = {"evidence": found.evidence, "meeting": found.meeting, "best": found.lag}
    if confidence < 0.5:
        return ClockEstimate(
            "no_match", confidence=1.0 - confidence, evidence=("synchrony",), span=span, diagnostics=seen,
            message="at no offset do the two go together more than chance, or the footage is unlike what was learned",
        )  # fmt: skip
    if confidence < _ACCEPT:
        rest = (1.0 - confidence) / max(len(found.rivals), 1)
        candidates = (Candidate(found.lag, 0.0, confidence), *(Candidate(r, 0.0, rest) for r in found.rivals))
        return ClockEstimate(
            "ambiguous", candidates=candidates, confidence=confidence, evidence=("synchrony",), span=span,
            diagnostics=seen, message="the offset that fits best does not stand out from chance, or from others",
        )  # fmt: skip
    middle = sum(span) / 2
    cov = np.array([[std**2 + (PRIOR_DRIFT * middle) ** 2, -(PRIOR_DRIFT**2) * middle], [0.0, PRIOR_DRIFT**2]])
    cov[1, 0] = cov[0, 1]
    stated = min(confidence, _SUREST)
    return ClockEstimate(
        "aligned", ClockMap(found.lag), cov, stated, span=span, drift_known=False, evidence=("synchrony",),
        diagnostics=seen,
    )  # fmt: skip


def synchrony_edge(estimate: ClockEstimate, reference: Node, moving: Node) -> ClockEdge:
    """An answer as evidence between two streams, for `solve_clocks`.

    reference, moving: nodes `(recording, stream)`. Raises WeakAlignmentError where the estimate is a refusal.
    """
    clock = estimate.map
    if not isinstance(clock, ClockMap) or estimate.cov is None:
        raise StreamError("synchrony_edge: a clock in segments; expected what `estimate_synchrony` answers")
    return ClockEdge(reference, moving, clock, estimate.cov, estimate.confidence, "synchrony")


def search(
    heard: Single, seen: Single, heard_valid: Bool, seen_valid: Bool, *, lead: int, low: float, high: float
) -> Found | None:
    """Lags from `low` to `high` seconds; None where the two meet nowhere for long enough.

    heard: `(m, D)`. seen: `(n, places, D)`, both as `Synchroniser.embed` makes them. lead: steps by which heard begins
    later than seen.

    What chance makes of these very streams is told by heard run backwards: it has the same spectrum and values, and
    belongs nowhere. How many of its maxima come up to the best lag is the evidence; and the best lag must stand
    out from every other one as well, asked for or not, or whatever repeats itself would do.
    """
    n, m = len(seen), len(heard)
    size = fft.next_fast_len(n + m, real=True)
    shifts = np.arange(-n + 1, m)
    lags = (shifts + lead) * STEP
    spectrum = fft.rfft(heard_valid.astype(np.float64), size) * np.conj(fft.rfft(seen_valid.astype(np.float64), size))
    overlap = np.round(fft.irfft(spectrum, size)[shifts % size])
    least = _LEAST / STEP
    enough = max(least, 0.35 * min(heard_valid.sum(), seen_valid.sum()))
    asked = (lags >= low - 1e-9) & (lags <= high + 1e-9) & (overlap >= (least if np.isfinite(high) else enough))
    kept = asked | ((overlap >= enough) & (lags > low - _FAR) & (lags < high + _FAR))
    if np.count_nonzero(asked) < 3:
        return None
    shifts, lags, overlap, asked = shifts[kept], lags[kept], overlap[kept], asked[kept]
    around = max(n, m)
    forwards = fft.rfft(heard, size, axis=0)
    backwards = fft.rfft(heard[::-1], around, axis=0)
    places = seen.shape[1]
    total, chance = np.zeros(len(shifts)), np.zeros(around)
    peaks = np.zeros((places, len(shifts)), np.float32)
    scale = np.sqrt(min(n, m) / np.maximum(overlap, 1.0))
    for p in range(places):
        there = seen[:, p]
        back = fft.irfft((backwards * np.conj(fft.rfft(there, around, axis=0))).sum(axis=1), around)
        spread = math.sqrt(float(np.mean(back.astype(np.float64) ** 2))) + 1e-9
        ahead = fft.irfft((forwards * np.conj(fft.rfft(there, size, axis=0))).sum(axis=1), size)[shifts % size]
        peaks[p] = ahead * scale / spread
        total += _likelihood(peaks[p])
        chance += _likelihood(back / spread)
    score, null = np.log(total / places), np.log(chance / places)
    candidates = np.flatnonzero(asked)
    best = int(candidates[np.argmax(score[candidates])])
    away = np.abs(lags - lags[best]) > _APART
    block = round(_APART / STEP)
    tail = Tail.of(_maxima(null, block))
    evidence = tail.evidence(float(score[best]), len(candidates) / block)
    if away.any():
        evidence = min(evidence, tail.apart(float(score[best] - score[away].max())))
    tops = [k for k in candidates if away[k] and score[k] == score[max(0, k - block) : k + block + 1].max()]
    near = sorted((k for k in tops if score[k] > score[best] - _NEAR), key=lambda k: -score[k])[:3]
    weights = np.maximum(peaks[:, best], 0.0) ** 2
    weights = np.where(weights > 0.25 * weights.max(), np.sqrt(weights), 0.0)
    part = np.einsum("tpd,p->td", seen, weights.astype(np.float32))
    fine, std = _fine(heard, part, int(shifts[best]))
    return Found(
        lead * STEP + fine, evidence, std, tuple(float(lags[k]) for k in near), float(overlap[best]) * STEP
    )  # fmt: skip


def _likelihood(standing: NDArray[np.floating]) -> F64:
    """Ratio of a match's likelihood to chance's, of correlations in their standard deviation."""
    z = np.maximum(standing.astype(np.float64), 0.0)
    return np.asarray(np.exp(np.minimum(_TEMPER * z**2 / 2, _LARGEST)))


def _maxima(curve: F64, block: int) -> F64:
    count = max(1, len(curve) // block)
    return np.array([part.max() for part in np.array_split(curve, count)])


def _fine(heard: Single, seen: Single, shift: int) -> tuple[float, float]:
    """Lag in seconds between the steps around `shift`, and its std by leaving out a part at a time."""
    n, m = len(seen), len(heard)
    size = fft.next_fast_len(n + m, real=True)
    b = fft.irfft(fft.rfft(seen, size, axis=0), size * _FINER, axis=0)[: n * _FINER]
    a = fft.irfft(fft.rfft(heard, size, axis=0), size * _FINER, axis=0)[: m * _FINER]
    centre = shift * _FINER
    first, last = max(0, -centre), min(len(b), len(a) - centre)
    shifts = np.arange(-_REACH, _REACH + 1)
    padded = np.pad(a, ((_REACH, _REACH), (0, 0)))
    count = int(np.clip((last - first) * STEP / _FINER / _PART, 3, 40))
    parts = np.zeros((count, len(shifts)))
    for k, block in enumerate(np.array_split(np.arange(first, last), count)):
        if not len(block):
            continue
        low, high = block[0] + centre, block[-1] + 1 + centre
        for j, s in enumerate(shifts + _REACH):
            parts[k, j] = float(np.vdot(b[block[0] : block[-1] + 1], padded[low + s : high + s]))
    total = parts.sum(axis=0)
    left = np.array([_top(total - part, shifts) for part in parts])
    std = math.sqrt((count - 1) / count * float(np.sum((left - left.mean()) ** 2)))
    return (centre + _top(total, shifts)) * STEP / _FINER, std * STEP / _FINER


def _top(curve: F64, shifts: NDArray[np.int64]) -> float:
    """The highest of a curve, between its samples by a parabola."""
    k = int(np.clip(np.argmax(curve), 1, len(curve) - 2))
    below, here, above = curve[k - 1 : k + 2]
    bend = below - 2 * here + above
    return float(shifts[k] + (np.clip(0.5 * (below - above) / bend, -1.0, 1.0) if bend < 0 else 0.0))
