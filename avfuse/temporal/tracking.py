"""Where a clock breaks: the lag is followed through the whole overlap, and may jump.

A recorder that drops frames, pauses or restarts moves everything after it to another lag. Features tell the lag of
every second to 10 ms among all lags that some part of the sound supports, then waveforms tell that of every half
second to 0.03 ms. Both times the path with the largest total correlation is taken (Viterbi 1967): it may drift at
little cost, and jump anywhere at a fixed one, which solves the change-point problem with a penalty for each change
exactly (Jackson et al. 2005, "An algorithm for optimal partitioning of data on an interval").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from avfuse._kernels.tracking import best_path, lag_products
from avfuse.cores import on_cores
from avfuse.temporal.bending import bent_lines, medians
from avfuse.temporal.coarse import Line, lag_points, normalise
from avfuse.temporal.evidence import FRAME, HOP, gather, paired_frames
from avfuse.temporal.focus import LAGS, correlation
from avfuse.temporal.hearing import FRAME_RATE, RATE, Heard

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

SMALLEST = 6e-3  # seconds; smaller changes of the lag are sources at other places, which a metre or two explains
_RETURNING = 30e-3  # seconds; a lag that comes back to where it was, from no farther, is a source too
_SAME_LEVEL = 1.5e-3
_PIECE = 60.0  # seconds of the moving sound that are searched in all of the reference
_CREDIBLE = 6.5  # score of a lag of a piece; unrelated features reach 6.6
_AROUND = 0.6  # seconds of lag on both sides of a credible one that are followed
_MOST_RANGES = 40  # of lags that are followed: memory
_CLIP = 8.0  # standard deviations; no moment speaks for more
# In standard deviations of one second or half second; chance rises to about 4 among so many lags.
_ROUGH_STEP, _ROUGH_JUMP = 6.0, 14.0
_FINE_STEP, _FINE_JUMP, _FINE_STEPS = 1.0, 24.0, 3
_FIT = 30.0  # seconds on both sides that tell how the lag drifts
_STRAIGHT = 4e-3  # seconds that features may scatter about a straight line
_SHORT = 20.0  # seconds compared along one line; what is left of drift moves little meanwhile
_NEAR = 0.6e-3  # seconds about a line within which short frames may agree
_CURVED = 1e-3  # seconds by which a stretch must leave the common drift to have one of its own
_FEW = 16  # half seconds at an end of a stretch that tell its lag there
_SOUGHT = 2.0  # seconds on both sides of a jump of the path in which the break is looked for
_WEAK = 0.6  # share of the usual agreement below which a piece is compared along other drifts
_DRIFTS = np.arange(-1000e-6, 1001e-6, 200e-6)
_SURE = 2.0  # standard deviations of a half second that tells its lag
_LEAST = 12.0  # sum of standard deviations without which a stretch is chance


@dataclass(frozen=True, eq=False)
class Path:
    """The lag of every half second: times, lags `(groups,)` seconds; strength in standard deviations of no match."""

    times: F64
    lags: F64
    strength: F64


@dataclass(frozen=True, eq=False)
class Stretch:
    """A part of the moving sound, from `begin` to `end` seconds, that lies on one line of the reference.

    begin_std, end_std: standard deviations (s) of those places; 0 at the ends of what both heard, and where only the
        drift changes. rest: seconds, 1 sigma, by which the lag wanders about the line.
    """

    begin: float
    end: float
    line: Line
    begin_std: float = 0.0
    end_std: float = 0.0
    rest: float = 0.0


def wanders(a: Heard, b: Heard, line: Line) -> bool:
    """Whether features leave `line` for seconds on end: a look that costs little beside finding the line."""
    low = min(line.lag_at(0.0), line.lag_at(b.duration)) - _AROUND
    high = max(line.lag_at(0.0), line.lag_at(b.duration)) + _AROUND
    rough = _rough_path(a, b, [(low, high)])
    off = np.abs(rough.lags - (line.lag + line.drift * (rough.times - line.centre))) > 1.6 / FRAME_RATE
    off &= rough.strength > 0  # where only one of the two goes on, the path leads anywhere
    # Two seconds that agree on another lag.
    return bool(np.any(off[1:] & off[:-1] & (np.abs(np.diff(rough.lags)) < 1.5 / FRAME_RATE)))


def follow(a: Heard, b: Heard, line: Line, *, low: float, high: float, smallest: float = SMALLEST) -> list[Stretch]:
    """Stretches of `b`, in order, each on a line of its own of `a`; one where the clock does not break.

    line: one that part of the sound supports. low, high: seconds between which lags are looked for. smallest: seconds
    of lag that count as a break.
    """
    points, _ = lag_points(a, b, low=low, high=high, length=_PIECE)
    credible = sorted((-score, lag) for _, _, lag, score in points if score > _CREDIBLE)
    lags = [line.lag_at(0.0), line.lag_at(b.duration), *(lag for _, lag in credible)]
    while len(ranges := _merged([(lag - _AROUND, lag + _AROUND) for lag in sorted(lags)])) > _MOST_RANGES:
        lags.pop()
    rough = _rough_path(a, b, ranges)
    path = _fine_path(a, b, rough)
    if not len(path.times):
        return []
    parts, drift = _parts(path, smallest)
    half = (FRAME + 15 * HOP) / RATE / 2
    found = [
        Stretch(float(path.times[p][0]) - half, float(path.times[p][-1]) + half, _fit(path, p, drift)) for p in parts
    ]
    for k, (before, after) in enumerate(pairwise(parts)):
        lines = _ends_at(path, before, found[k].line), _begins_at(path, after, found[k + 1].line)
        end, begin, std = _place(a, b, found[k], found[k + 1], lines)
        found[k] = replace(found[k], end=end, end_std=std)
        found[k + 1] = replace(found[k + 1], begin=begin, begin_std=std)
    return [piece for stretch, p in zip(found, parts, strict=True) for piece in _bent(path, p, stretch)]


def _bent(path: Path, part: slice, stretch: Stretch) -> list[Stretch]:
    """The stretch, or its pieces where its drift changes."""
    at, lag = medians(path.times[part], path.lags[part], path.strength[part])
    lines = bent_lines(at, lag, stretch.line)
    if len(lines) == 1:
        return [stretch]
    edges = [stretch.begin, *(piece.end for piece in lines[:-1]), stretch.end]
    pieces = [
        Stretch(begin, end, piece.line, rest=piece.rest)
        for (begin, end), piece in zip(pairwise(edges), lines, strict=True)
    ]
    pieces[0] = replace(pieces[0], begin_std=stretch.begin_std)
    pieces[-1] = replace(pieces[-1], end_std=stretch.end_std)
    return pieces


def _merged(ranges: list[tuple[float, float]]) -> list[tuple[float, float]]:
    found: list[tuple[float, float]] = []
    for low, high in ranges:
        if found and low <= found[-1][1]:
            found[-1] = (found[-1][0], max(high, found[-1][1]))
        else:
            found.append((low, high))
    return found


def _rough_path(a: Heard, b: Heard, ranges: Sequence[tuple[float, float]]) -> Path:
    """By features, one lag a second, within `ranges` (seconds, in order, apart)."""
    first = np.array([int(np.floor(low * FRAME_RATE)) for low, _ in ranges])
    counts = [int(np.ceil((high - low) * FRAME_RATE)) + 1 for low, high in ranges]
    reference, moving = on_cores(normalise, (a, b))
    blocks = max(1, len(moving) // FRAME_RATE)
    scores = np.concatenate(
        [_products(reference, moving, start, count, blocks) for start, count in zip(first, counts, strict=True)], axis=1
    )
    # Against what wrong lags reach at the same time; where nothing sounds, nothing speaks.
    scale = 1.4826 * np.median(np.abs(scores), axis=1)
    scale = np.maximum(scale, 0.3 * np.median(scale)) + np.float32(1e-9)
    scores = _limited(scores / scale[:, None])
    columns = best_path(scores, np.zeros(blocks, np.int64), 1, _ROUGH_STEP, _ROUGH_JUMP)
    lags = np.concatenate([start + np.arange(count) for start, count in zip(first, counts, strict=True)])
    strength: F64 = scores[np.arange(blocks), columns].astype(np.float64)
    times: F64 = np.arange(blocks, dtype=np.float64) + 0.5
    return Path(times, np.asarray(lags[columns] / FRAME_RATE, np.float64), strength)


def _limited(scores: NDArray[np.floating]) -> F32:
    """No moment may speak for more than others do; its lags keep their proportions."""
    return np.asarray(scores * np.minimum(1.0, _CLIP / (np.abs(scores).max(axis=1, keepdims=True) + 1e-9)), np.float32)


def _products(
    reference: NDArray[np.floating], moving: NDArray[np.floating], first: int, count: int, blocks: int
) -> F32:
    """`lag_products` in bounded memory: features of hours are kept in half precision."""
    parts = []
    for low in range(0, blocks, 600):
        some = min(600, blocks - low)
        start = low * FRAME_RATE + first  # frame of the reference that the first one meets at the first lag
        begin = max(0, start)
        part = reference[begin : max(begin, start + some * FRAME_RATE + count)].astype(np.float32)
        ours = moving[low * FRAME_RATE : (low + some) * FRAME_RATE].astype(np.float32)
        parts.append(lag_products(part, ours, np.full(some, start - begin), count, FRAME_RATE))
    return np.concatenate(parts)


def _fine_path(a: Heard, b: Heard, rough: Path) -> Path:
    """By waveforms, one lag each half second, within 32 ms of the rough one."""
    compared = on_cores(lambda short: _compared(a, b, *short), _short_lines(rough))
    pieces = [p for p in compared if p is not None]
    if not pieces:
        return Path(np.zeros(0), np.zeros(0), np.zeros(0))
    scale = float(np.median(np.concatenate([p.heights.std(axis=1) for p in pieces]))) + 1e-12
    highest, lowest = (np.concatenate([f(p.heights, axis=1) for p in pieces]) for f in (np.max, np.min))
    # Wired the other way round, what agrees correlates downwards.
    scale *= 1 if float(np.where(highest >= -lowest, highest, lowest).sum()) >= 0 else -1
    path = _through_pieces(pieces, scale)
    # Pieces along which little agrees may drift far more than the features showed.
    means = np.array([path.strength[_inside(path, p)].mean() for p in pieces])
    weak = means < _WEAK * np.median(means)
    pieces = [_steeper(a, b, p, scale) if lost else p for p, lost in zip(pieces, weak, strict=True)]
    return _through_pieces(pieces, scale) if weak.any() else path


@dataclass(frozen=True, eq=False)
class _Piece:
    """A piece of the moving sound compared along `line`. heights: `(groups, lags)` of its correlation functions."""

    low: float
    high: float
    line: Line
    times: F64
    heights: F32


def _compared(a: Heard, b: Heard, low: float, high: float, line: Line) -> _Piece | None:
    first = max(int(low * RATE), int(np.ceil(-line.lag_at(low) * RATE)))
    # A frame more than it lasts, so that the next piece begins where this one ended.
    last = min(int(high * RATE) + FRAME - HOP, b.count, int(a.count - line.lag_at(high) * RATE))
    if last - first < FRAME + 3 * HOP:
        return None
    evidence = gather(a, b, line, [(first, last - first)], with_null=False)
    heights = correlation(evidence.spectra) / np.sqrt(evidence.frames).astype(np.float32)[:, None]
    return _Piece(low, high, line, evidence.times, heights)


def _through_pieces(pieces: Sequence[_Piece], scale: float) -> Path:
    heights = np.concatenate([p.heights for p in pieces])
    heights = _limited(heights / np.float32(scale))
    moved = np.zeros(len(heights), np.int64)
    start = 0
    for before, after in pairwise(pieces):
        start += len(before.times)
        moved[start] = round((after.line.lag_at(after.low) - before.line.lag_at(after.low)) / _GRID)
    columns = best_path(heights, moved, _FINE_STEPS, _FINE_STEP, _FINE_JUMP)
    lags = np.concatenate([p.line.lag + p.line.drift * (p.times - p.line.centre) for p in pieces])
    strength = heights[np.arange(len(columns)), columns].astype(float)
    return Path(np.concatenate([p.times for p in pieces]), lags + LAGS[columns], strength)


def _inside(path: Path, piece: _Piece) -> NDArray[np.bool_]:
    return np.asarray((path.times >= piece.times[0]) & (path.times <= piece.times[-1]))


def _steeper(a: Heard, b: Heard, piece: _Piece, scale: float) -> _Piece:
    """The piece compared along the drift at which most agrees."""
    middle = (piece.low + piece.high) / 2
    found, most = piece, -np.inf
    for drift in _DRIFTS:
        line = Line(piece.line.lag_at(middle), float(drift), middle, 0.0)
        other = _compared(a, b, piece.low, piece.high, line)
        if other is None:
            continue
        agrees = float(_through_pieces([other], scale).strength.sum())
        if agrees > most:
            found, most = other, agrees
    return found


_GRID = float(LAGS[1] - LAGS[0])


def _short_lines(rough: Path) -> list[tuple[float, float, Line]]:
    """(begin, end, line) of pieces within which the rough path does not jump."""
    jumps = np.flatnonzero(np.abs(np.diff(rough.lags)) > 1.5 / FRAME_RATE) + 1
    found = []
    for start, end in zip([0, *jumps], [*jumps, len(rough.lags)], strict=True):
        pieces = max(1, round((end - start) / _SHORT))
        edges = np.linspace(start, end, pieces + 1).astype(int)
        for first, last in pairwise(edges):
            near = slice(max(start, first - int(_FIT)), min(end, last + int(_FIT)))
            found.append((float(first), float(last), _through(rough, slice(first, last), near)))
    return found


def _through(rough: Path, here: slice, near: slice) -> Line:
    """A line through the rough lags: sloped where those around lie on one, else level."""
    times, lags = rough.times[near], rough.lags[near]
    centre = float(rough.times[here].mean())
    if len(times) >= _SHORT:
        slope, lag = np.polyfit(times - centre, lags, 1)
        if float(np.sqrt(np.mean((lags - lag - slope * (times - centre)) ** 2))) < _STRAIGHT:
            return Line(float(lag), float(slope), centre, 0.0)
    return Line(float(np.median(rough.lags[here])), 0.0, centre, 0.0)


def _parts(path: Path, smallest: float) -> tuple[list[slice], float]:
    """Groups between breaks, and the drift of most."""
    jumps = np.flatnonzero(np.abs(np.diff(path.lags)) >= smallest) + 1
    parts = [slice(int(i), int(j)) for i, j in pairwise([0, *jumps, len(path.times)])]
    parts = _in_order(path, [p for p in parts if path.strength[p].sum() > _LEAST])
    drift = _common_drift(path, parts)
    return _without_sources(path, parts, drift), drift


def _in_order(path: Path, parts: list[slice]) -> list[slice]:
    """Those stretches that follow each other on both clocks and together weigh most: time does not go back."""
    half = 0.25
    begins = [path.times[p][0] - half + path.lags[p][0] for p in parts]
    ends = [path.times[p][-1] + half + path.lags[p][-1] for p in parts]
    weights = [float(path.strength[p].sum()) for p in parts]
    total, before = list(weights), [-1] * len(parts)
    for k in range(len(parts)):
        for j in range(k):
            # What the moving sound has beside may cover up to half of a stretch.
            late = max(0.0, ends[j] - begins[k])
            if late < (ends[k] - begins[k]) / 2 and total[j] + weights[k] > total[k]:
                total[k], before[k] = total[j] + weights[k], j
    kept, k = [], int(np.argmax(total)) if parts else -1
    while k >= 0:
        kept.append(parts[k])
        k = before[k]
    return kept[::-1]


def _common_drift(path: Path, parts: list[slice]) -> float:
    """The drift of most stretches: first the median slope over ten seconds or more, then what aligns most lags."""
    slopes = []
    for p in parts:
        times, lags = (v[path.strength[p] > _SURE] for v in (path.times[p], path.lags[p]))
        half = len(times) // 2
        if half >= 10:
            slopes += list((lags[half : 2 * half] - lags[:half]) / (times[half : 2 * half] - times[:half]))
    return _aligning_drift(path, parts, float(np.median(slopes))) if slopes else 0.0


def _aligning_drift(path: Path, parts: list[slice], drift: float) -> float:
    """The drift near `drift` along which most half seconds of each stretch have equal lags (Hough 1962).

    Sources that take turns have a few lags each; a fit through all of them would tilt with who talks when.
    """
    near = [path.strength[p] > _SURE for p in parts]
    chosen = [(path.times[p][k], path.lags[p][k]) for p, k in zip(parts, near, strict=True) if k.sum() >= 20]
    for reach in (2 * _SAME_LEVEL, _SAME_LEVEL / 4):
        if not chosen:
            break
        longest = max(float(times[-1] - times[0]) for times, _ in chosen)
        step = _GRID / longest
        slopes = drift + step * np.arange(-int(reach / _GRID), int(reach / _GRID) + 1)
        counts = np.array([sum(_concentration(times, lags, d) for times, lags in chosen) for d in slopes])
        best = int(np.argmax(counts))
        drift = float(np.average(slopes, weights=np.maximum(counts - 0.9 * counts[best], 0)))
    return drift


def _concentration(times: F64, lags: F64, drift: float) -> float:
    """Sum of squares of a histogram of lags freed from the drift, with bins of two columns that overlap by half."""
    columns = np.round((lags - drift * (times - times.mean())) / _GRID).astype(np.int64)
    counts = np.bincount(columns - columns.min() + 1, minlength=3)
    return float(np.sum((counts[1:] + counts[:-1]).astype(float) ** 2))


def _level(path: Path, part: slice, drift: float) -> float:
    sure = path.strength[part] >= np.median(path.strength[part])
    return float(np.median((path.lags[part] - drift * path.times[part])[sure]))


def _without_sources(path: Path, parts: list[slice], drift: float) -> list[slice]:
    """Stretches between which the lag goes and comes back by a few metres' worth of sound are one."""
    parts = list(parts)
    k = 0
    while k < len(parts):
        level = _level(path, parts[k], drift)
        for later in range(len(parts) - 1, k + 1, -1):
            between = [_level(path, p, drift) for p in parts[k + 1 : later]]
            if abs(_level(path, parts[later], drift) - level) < _SAME_LEVEL and all(
                abs(other - level) < _RETURNING for other in between
            ):
                parts[k : later + 1] = [slice(parts[k].start, parts[later].stop)]
                break
        else:
            k += 1
    return parts


def _fit(path: Path, part: slice, drift: float) -> Line:
    """A stretch drifts as all do, where nothing speaks against it; its lag is that of most half seconds."""
    times, lags = path.times[part], path.lags[part]
    weight = np.maximum(path.strength[part], 0.0) + 1e-3
    span = float(times[-1] - times[0])
    centre = float(np.average(times, weights=weight))
    slope = drift
    if span > 5.0:
        own = _least_deviations(times, lags, weight, drift)
        if abs(own - drift) * span > _CURVED:
            slope = _aligning_drift(path, [part], own) if span > _SHORT else own
    level = lags - slope * (times - centre)
    columns = np.round((level - level.min()) / _GRID).astype(np.int64) + 1
    counts = np.bincount(columns, weights=weight, minlength=3)
    smooth = counts + np.concatenate([counts[1:], [0.0]]) + np.concatenate([[0.0], counts[:-1]])
    mode = int(np.argmax(smooth))
    near = np.abs(columns - mode) <= 1
    return Line(float(np.average(level[near], weights=weight[near])), slope, centre, float(path.strength[part].mean()))


def _least_deviations(times: F64, lags: F64, weight: F64, slope: float) -> float:
    """Slope of the line with the least absolute deviations, by reweighting."""
    late = times - np.average(times, weights=weight)
    lag = float(np.median(lags - slope * late))
    for _ in range(20):
        w = weight / np.maximum(np.abs(lags - lag - slope * late), 2 * _GRID)
        middle, mean = np.average(late, weights=w), np.average(lags, weights=w)
        slope = float(np.sum(w * (late - middle) * (lags - mean)) / np.sum(w * (late - middle) ** 2))
        lag = float(np.average(lags - slope * late, weights=w))
    return slope


def _ends_at(path: Path, part: slice, line: Line) -> Line:
    return _level_near(path, slice(max(part.start, part.stop - _FEW), part.stop), line)


def _begins_at(path: Path, part: slice, line: Line) -> Line:
    return _level_near(path, slice(part.start, min(part.stop, part.start + _FEW)), line)


def _level_near(path: Path, few: slice, line: Line) -> Line:
    """`line` as it is at an end of its stretch, where sources elsewhere may be heard."""
    off = path.lags[few] - (line.lag + line.drift * (path.times[few] - line.centre))
    return replace(line, lag=line.lag + float(np.median(off)))


def _place(a: Heard, b: Heard, before: Stretch, after: Stretch, lines: tuple[Line, Line]) -> tuple[float, float, float]:
    """Where one stretch ends and the next begins, seconds of `b`, and the standard deviation of that.

    What `b` lacks is skipped: both places are one. What `b` has beside (a lag that falls) lies between the two.
    """
    middle = (before.end + after.begin) / 2
    # The reference stands still for so long.
    beside = max(0.0, lines[0].lag_at(middle) - lines[1].lag_at(middle))
    low = max(before.begin, before.end - _SOUGHT, 0.0)
    high = min(after.end, after.begin + _SOUGHT, b.duration)
    first, last = int(low * RATE), int(high * RATE)
    hop, size = 128, 1024
    if last - first < size + 8 * hop:
        return before.end, max(after.begin, before.end), max(high - low, 0.1)
    times, agrees = _agreement(a, b, lines, first, last - first, size, hop)
    so_far = np.concatenate([[0.0], np.cumsum(agrees[0])])
    still_to_come = np.concatenate([np.cumsum(agrees[1][::-1])[::-1], [0.0]])
    edges = np.concatenate([times - hop / RATE / 2, [times[-1] + hop / RATE / 2]])
    begins = np.searchsorted(edges, edges + beside)
    usable = begins < len(edges)
    if not usable.any():
        return before.end, max(after.begin, before.end + beside), _SOUGHT
    total = so_far[usable] + still_to_come[begins[usable]]
    likely = np.exp(total - total.max())
    likely /= likely.sum()
    at = edges[usable]
    best = float(np.sum(likely * at))
    spread = float(np.sqrt(np.sum(likely * (at - best) ** 2) + (size / RATE / 4) ** 2))
    return best, best + beside, spread


def _agreement(
    a: Heard, b: Heard, lines: tuple[Line, Line], first: int, count: int, size: int, hop: int
) -> tuple[F64, list[F64]]:
    """Log-likelihood of each short frame for each line, from its phase-only cross spectrum."""
    band = np.zeros(size // 2 + 1)
    band[round(150 / RATE * size) : round(6000 / RATE * size)] = 1.0
    omega = np.pi * np.arange(size // 2 + 1) / (size // 2)
    reach = round(_NEAR * RATE)
    found = []
    for line in lines:
        x, y, late, times = paired_frames(a, b, line, (first, count), size, hop)
        cross = x * np.conj(y)
        phase = band * cross / (np.abs(cross) + 1e-12 + 1e-3 * np.abs(cross).mean())
        curve = np.fft.irfft(phase * np.exp(1j * omega * late[:, None]), axis=1) * size / 2 / band.sum()
        # Sources at several places scatter about the line by so much.
        found.append(np.abs(np.concatenate([curve[:, -reach:], curve[:, : reach + 1]], axis=1)).max(axis=1))
    # Means of n phases scatter by 1 / sqrt(2 n); neighbouring frames share 7/8 of their sound.
    noise = 1 / np.sqrt(2 * band.sum() * 0.6)
    worth = hop / size * 1.5
    # The line that does not fit shows what chance reaches; where neither reaches more, nothing is told.
    chance = float(np.quantile(np.minimum(found[0], found[1]), 0.9))
    expected = np.maximum(np.maximum(found[0], found[1]) - chance, 0.0)
    return times, [np.asarray(worth * expected * (v - chance) / noise**2) for v in found]
