"""Elastic time: a performance on the time of another one of the same piece.

features   chroma and onsets of both sounds, or what the caller gives                       (avfuse.features)
path       dynamic time warping                                                            (dtw.py)
map        smooth, rising, finer than a frame                                              (tempo.py)
decide     is the path better than what lies beside it: here
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from avfuse._kernels.warp import windowed_distances
from avfuse.alignment import Status
from avfuse.clock import WarpPath
from avfuse.errors import StreamError, WeakAlignmentError
from avfuse.features.pitch import harmony
from avfuse.stream import Stream
from avfuse.temporal import calibration
from avfuse.temporal.dtw import LIMITED, CellPath, Steps, exact_path, multiscale_path
from avfuse.temporal.tempo import Smooth, sample, smooth_map

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

SHORTEST = 4.0  # seconds that can be told from chance
_WINDOW = 3.0  # seconds over which the path is compared with what lies beside it
_NEAR, _FAR = 0.4, 12.0  # seconds beside the path
_BESIDE = 0.1  # seconds from one neighbour to the next
_ACCEPT = 0.98
_SECTION = 120.0  # seconds


@dataclass(frozen=True, eq=False)
class WarpEstimate:
    """How the time of a performance bends onto that of another one, or why that cannot be said.

    status: `aligned`; `ambiguous` (the moving one fits at several places of the reference); `no_match` (both hold
        something, and not the same); `degenerate` (nothing happens in one of them).
    path: the map, None for refusals; read it as `.map`, which raises WeakAlignmentError where there is none.
    confidence: probability of what `status` says: that the two are takes of the same thing, or that they are not. How
        sure the map is at a time is `map.confidence_at(t)`.
    """

    status: Status
    path: WarpPath | None = None
    confidence: float = 0.0
    message: str | None = None
    evidence: tuple[str, ...] = ()
    diagnostics: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.status not in get_args(Status):
            raise StreamError(f"WarpEstimate: status {self.status!r}; expected one of {', '.join(get_args(Status))}")
        if (self.status == "aligned") != (self.path is not None):
            raise StreamError(f"WarpEstimate: status {self.status!r} with path {self.path}; only answers carry a path")

    @property
    def map(self) -> WarpPath:
        """The map moving -> reference. Raises WeakAlignmentError, with the reason, where there is none."""
        if self.path is None:
            raise WeakAlignmentError(f"{self.status}: {self.message or 'there is no map'}")
        return self.path


def estimate_warp(
    reference: Stream, moving: Stream, *, subsequence: bool = False, steps: Steps = LIMITED, exact: bool = False
) -> WarpEstimate:
    """Elastic map that puts `moving` on the time of `reference`: t_ref = m(t_moving), rising, at any tempo.

    reference, moving: sounds, or both `feature` streams `(n, dims)` at one even rate, scaled such that equal distances
        count equally.
    subsequence: the whole of `moving` lies anywhere within `reference`; otherwise both begin and end together.
    steps: what the path may do; see `Steps`. By default the tempo of one is between half and twice that of the other.
    exact: search all paths, also where minutes take a second longer and hours minutes; otherwise long ones are first
        compared coarsely (`multiscale_path`).
    Raises StreamError for other kinds of streams, and for features that are not finite or do not match.
    """
    a, b = prepared(reference, moving)
    for role, features in (("reference", a), ("moving", b)):
        reason = _nothing_happens(features)
        if reason is not None:
            return WarpEstimate("degenerate", message=f"{role} {reason}", evidence=(features.kind,))
    swapped = not subsequence and _size(b) > _size(a)
    if swapped:  # swapping the two then gives exactly the inverse
        a, b = b, a
    search = exact_path if exact else multiscale_path
    try:
        found = search(a.frames, b.frames, steps=steps, subsequence=subsequence)
    except WeakAlignmentError as error:
        return WarpEstimate("no_match", message=str(error), evidence=(a.kind,))
    unlike = _unlikeness(a, b, found.cells, steps)
    passed = (found.cells[-1] - found.cells[0] + 1) / a.rate
    confidence = calibration.same_piece_probability(unlike, float(passed.min()))
    smooth = smooth_map(a.frames, b.frames, a.rate, found.cells)
    seen = {"cost": found.cost / len(found.cells), "radius": found.radius, "unlike": unlike, "std": smooth.std}
    if confidence < _ACCEPT:
        status: Status = "no_match" if confidence < 0.5 else "ambiguous"
        sure = 1 - confidence if status == "no_match" else confidence
        return WarpEstimate(status, None, sure, _doubt(confidence), (a.kind,), seen)
    elsewhere = _elsewhere(found, len(b.frames)) if subsequence else None
    if elsewhere is not None:
        message = (
            f"it fits at several places of the reference: ending at {a.start + found.cells[-1, 1] / a.rate:.1f} s, and "
            f"nearly as well at {a.start + elsewhere / a.rate:.1f} s; cut the reference to the part that is meant"
        )
        return WarpEstimate("ambiguous", None, confidence / 2, message, (a.kind,), seen)
    told = calibration.local_confidence(distinctness(a.frames, b.frames, a.rate, smooth), smooth.std)
    cells = np.stack([a.start + found.cells[:, 1] / a.rate, b.start + found.cells[:, 0] / b.rate], axis=1)
    path = WarpPath(b.start + smooth.knots, a.start + smooth.values, told, cells)
    return WarpEstimate("aligned", path.inverse() if swapped else path, confidence, None, (a.kind,), seen)


@dataclass(frozen=True, eq=False)
class Features:
    """frames: `(n, dims)`, the first at `start` seconds, `rate` Hz."""

    frames: F32
    rate: float
    start: float
    kind: str


def prepared(reference: Stream, moving: Stream) -> tuple[Features, Features]:
    kinds = {reference.kind, moving.kind}
    if kinds not in ({"sound"}, {"feature"}):
        raise StreamError(
            f"Streams {reference.name!r} and {moving.name!r}: {reference.kind} and {moving.kind}; "
            "expected two sounds or two feature streams"
        )
    a, b = features_of(reference), features_of(moving)
    if a.rate != b.rate or a.frames.shape[1] != b.frames.shape[1]:
        raise StreamError(
            f"Streams {reference.name!r} and {moving.name!r}: {a.frames.shape[1]} features at {a.rate:g} Hz and "
            f"{b.frames.shape[1]} at {b.rate:g} Hz; expected the same for both"
        )
    return a, b


def features_of(stream: Stream) -> Features:
    kind = str(stream.kind)
    stream = harmony(stream) if stream.kind == "sound" else stream
    if stream.rate is None or stream.lazy:
        raise StreamError(f"Stream {stream.name!r}: features at uneven times; expected an even rate in Hz")
    frames = np.asarray(stream.values, np.float32)
    frames = frames[:, None] if frames.ndim == 1 else frames
    if frames.ndim != 2 or not np.isfinite(frames).all():
        raise StreamError(f"Stream {stream.name!r}: features of shape {frames.shape}; expected finite (n, dims)")
    return Features(frames, stream.rate, stream.start, kind)


def _nothing_happens(features: Features) -> str | None:
    """Why these features cannot be placed at all, or None."""
    lasts = len(features.frames) / features.rate
    if lasts < SHORTEST:
        return f"lasts {lasts:.2f} s; at least {SHORTEST:g} s are needed"
    if not np.ptp(features.frames, axis=0).max() > 1e-6 * max(float(np.abs(features.frames).max()), 1e-6):
        return "is silent, or the same all along: nothing in it marks a time"
    return None


def _size(features: Features) -> tuple[int, float, float]:
    return len(features.frames), float(features.frames.sum(dtype=np.float64)), features.start


def distinctness(reference: F32, moving: F32, rate: float, smooth: Smooth) -> F64:
    """Squared distance of the two along the map, over the least beside it, in windows around its knots: `(knots,)`.

    Beside: the moving frames against what the map gives 0.4 to 12 s earlier and later, on the same course. Below 1
    where the map is better than anything there. 1 where nothing is to be heard.
    """
    first, last = round(smooth.knots[0] * rate), round(min(smooth.knots[-1] * rate, len(moving) - 1))
    frames = np.arange(first, last + 1)
    b = moving[first : last + 1]
    a = sample(reference, np.interp(frames / rate, smooth.knots, smooth.values) * rate)
    centres = np.clip(np.round((smooth.knots - smooth.knots[0]) * rate).astype(np.int64), 0, len(b) - 1)
    half = max(1, round(_WINDOW * rate / 2))
    beside = np.unique(np.round(np.arange(_NEAR, _FAR + _BESIDE / 2, _BESIDE) * rate).astype(np.int64))
    x, y = np.ascontiguousarray(a.T), np.ascontiguousarray(b.T)
    on = windowed_distances(x, y, np.zeros(1, np.int64), centres, half)
    least = windowed_distances(x, y, np.concatenate([beside, -beside]), centres, half)
    floor = 1e-3 * float(np.mean(x * x) + np.mean(y * y)) * len(x) + 1e-30
    known = np.isfinite(least) & np.isfinite(on)
    return np.where(known, (np.where(known, on, 0) + floor) / (np.where(known, least, 0) + floor), 1.0)


def _unlikeness(a: Features, b: Features, cells: NDArray[np.int64], steps: Steps) -> float:
    """How far the two are from alike along a path: about 1 for what is unrelated, towards 0 for the same thing.

    The path's cost over that of the cheapest path when the reference is turned about, so that its later part comes
    first, times the same ratio of how distinct the paths are. What is turned about has the same sounds, rhythm and
    density, so that nothing but order tells them apart; long pieces are compared in three sections.
    """
    frames = round(_SECTION * a.rate)
    span = int(cells[-1, 0] - cells[0, 0]) + 1
    middles = [0.5] if span <= frames else [frames / 2 / span, 0.5, 1 - frames / 2 / span]
    costs, distinct = np.zeros(3), [np.zeros(0)] * 3
    for middle in middles:
        from_row = cells[0, 0] + middle * span - frames / 2
        k, last = np.searchsorted(cells[:, 0], [from_row, from_row + frames - 1]).clip(0, len(cells) - 1)
        part_a = a.frames[cells[k, 1] : cells[last, 1] + 1]
        part_b = b.frames[cells[k, 0] : cells[last, 0] + 1]
        for turn, share in enumerate((0.0, 1 / 2, 1 / 3)):
            turned = np.roll(part_a, -round(share * len(part_a)), axis=0)
            found = exact_path(turned, part_b, steps=steps)
            costs[turn] += found.cost
            told = distinctness(turned, part_b, a.rate, smooth_map(turned, part_b, a.rate, found.cells))
            distinct[turn] = np.append(distinct[turn], told)
    typical = [float(np.median(d)) for d in distinct]
    tiny = 1e-9 * len(cells)
    return float((costs[0] + tiny) / (costs[1:].min() + tiny) * typical[0] / min(typical[1:]))


def _doubt(confidence: float) -> str:
    if confidence < 0.5:
        return "both hold something, but along no path is it the same; check that they are takes of one piece"
    return "the two are alike for a part of the time or in a manner only, which may be chance or another piece"


def _elsewhere(found: CellPath, frames: int) -> int | None:
    """Another reference frame where a path over the whole of the moving frames ends nearly as cheaply, or None."""
    ends = found.ends
    best = int(np.argmin(ends))
    away = np.abs(np.arange(len(ends)) - best) * found.scale > frames / 2
    rivals = np.where(away, ends, np.inf)
    other = int(np.argmin(rivals))
    # Against what ends anywhere: sounds of one kind have much in common.
    usual = float(np.median(ends[np.isfinite(ends)]))
    near = rivals[other] - ends[best] < 0.35 * (usual - ends[best])
    return other * found.scale if away.any() and near else None
