"""When things that are heard to hit were seen to, finer than frames: by what stops or turns round, all at one time.

All blows are laid over each other around their sounds. Frames fall on them at other moments each time, so that
together they show one blow much finer than the frame rate does; what else moves averages out. Two ways then tell the
time of contact, and their mean is taken:

    rest    what changes in the time before, twice, less what has changed from before to after: nothing where things
            pass by, less than nothing where they start, most where they stop or turn round
    kink    where two parabolas meet that fit best, for all that blows have in common: that is told from everything
            else by a generalised eigenproblem of covariances, as event-related components are in
            electroencephalograms (de Cheveigne and Parra 2014)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avfuse.features.light import PictureFeatures

_REACH = 0.75  # seconds from where it is expected that a contact is looked for: movements around blows take as long
_BEFORE = 0.03  # seconds before and after a time that are compared, or a frame
_APART = 0.1  # seconds; closer than this, what stops is one
_STANDS_OUT = 5.0  # standard deviations of what is found at other times
_ALIKE = 0.7  # of the strongest: what stops or starts as much at another time may be what is heard as well
_AROUND = 0.16  # seconds to either side of contact that are looked at finely
_WIDE, _MIDDLE, _NARROW = 0.12, 0.09, 0.05  # seconds to either side that parabolas must fit
_NEAR, _STEP = 0.03, 0.001  # seconds to either side that are tried then, and their distance
_BUMP, _GAP = 0.01, 0.6  # seconds: how fine what blows have in common is taken to be; share of gaps between frames
_BESIDE = 0.0025  # seconds by which what either way tells is beside the contact, however often it is seen
_UNSEEN = 0.35  # standard deviation of a contact, of the gap between frames that it may lie in
_CELLS, _COMPONENTS = 300, (2, 4, 6)
_SHRINK = 0.05  # of the covariance of what they do not have in common towards one of equal cells
_KEPT = np.array([-0.5, -0.25, 0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5])  # share of velocity that is turned round
_LEAST = 1e-3  # of the scatter that components are scaled to
_LIKE = 0.3  # of what blows have in common that one must show
_SURE = 5.0  # standard deviations by which a cell surely has a kink
_FOLDS = 10
_EVENTS = 5
_MOST, _MOST_WIDE = 600, 150  # blows that are looked at, finely and at all

Float = NDArray[np.float64]
Index = NDArray[np.intp]


@dataclass(frozen=True)
class Contacts:
    """offset: seconds, sound minus picture. std: of it, by leaving blows out and by how two ways to tell it differ.

    rivals: offsets at which nearly as much stops, or starts, with every blow. events: blows that were seen.
    down: how far down the picture they are seen, 0 to 1.
    """

    offset: float
    std: float
    rivals: tuple[float, ...]
    events: int
    down: float


@dataclass(frozen=True, eq=False)
class _Fold:
    """Frames around blows. since: (n,) seconds after the sound. frame, event: (n,) their numbers. count: of blows."""

    since: Float
    frame: Index
    event: Index
    count: int

    def some(self, kept: NDArray[np.bool_]) -> _Fold:
        present, event = np.unique(self.event[kept], return_inverse=True)
        return _Fold(self.since[kept], self.frame[kept], np.asarray(event), len(present))

    def centred(self, values: Float) -> Float:
        """(n, k) against the mean of their own blow: what only passes by at that time is no matter."""
        number = np.bincount(self.event, minlength=self.count)
        sums = np.zeros((self.count, values.shape[1]))
        np.add.at(sums, self.event, values)
        return np.asarray(values - (sums / number[:, None])[self.event])


def time_contacts(picture: PictureFeatures, heard: Float, offset: float, unseen: NDArray[np.bool_]) -> Contacts | None:
    """The offset of blows heard at `heard` (seconds), from a rough one; None where too few are seen, or none stops.

    unseen: (n,) frames that say nothing of movement.
    """
    period = picture.period
    fold = _folded(picture.times, _some(heard, _MOST_WIDE) - offset, _REACH + _AROUND, unseen)
    if fold.count < _EVENTS:
        return None
    steps = np.arange(-_REACH, _REACH + 1e-9, 0.01)
    resting = _rests(_cells(picture, fold), fold, steps, period)
    resting -= np.median(resting)
    if resting.max() < _STANDS_OUT * 1.48 * float(np.median(np.abs(resting))):
        return None
    first = float(steps[np.argmax(resting)])
    # What is struck may be seen to start at its sound, and stop later.
    much = np.abs(resting)
    also = (much >= _ALIKE * resting.max()) & ((np.abs(steps - first) > _APART) | (resting < 0.0))
    highest = [
        k for k in np.flatnonzero(also) if much[k] == much[max(0, k - 5) : k + 6][also[max(0, k - 5) : k + 6]].max()
    ]
    rivals = tuple(offset - float(steps[k]) for k in highest)
    offset -= first

    fold = _folded(picture.times, _some(heard, _MOST) - offset, max(_AROUND, 4.0 * period), unseen)
    every = _cells(picture, fold)
    like = _alike(every, fold, period)
    if 2 * np.count_nonzero(like) < fold.count or np.count_nonzero(like) < _EVENTS:
        return None
    fold, every = fold.some(like[fold.event]), every[like[fold.event]]
    steps = np.arange(-_NEAR, _NEAR + 1e-9, _STEP)
    resting = np.stack([_rests(every[m], fold.some(m), steps, period) for m in _folds(fold)])
    rests = _lowest(steps, -resting)
    seen, _ = _in_common(every, fold, period)
    widths = (max(_WIDE, 3.0 * period), max(_MIDDLE, 2.6 * period), max(_NARROW, 2.2 * period))
    scores = np.stack([_kinks(seen, fold, steps, width) for width in widths])  # (widths, counts, 1 + folds, steps)
    kinks = _lowest(steps, scores.sum(axis=(0, 1)))
    # Widths disagree where other kinks are near, as where something thin comes to lie on one cell after another.
    each = _lowest(steps, scores[:, :, 0].reshape(-1, len(steps)))
    vague = float(np.mean((each - kinks[0]) ** 2))
    unsure = _jackknife(kinks) + vague + _BESIDE**2, _jackknife(rests) + _BESIDE**2
    share = unsure[1] / (unsure[0] + unsure[1])
    lag = float(share * kinks[0] + (1.0 - share) * rests[0])
    differ = share * (1.0 - share) * float(kinks[0] - rests[0]) ** 2
    variance = share * unsure[0] + differ + (_UNSEEN * _gap(fold.since, period)) ** 2
    down = _place(every, fold, lag, widths[1], picture.grid)
    if down is None:
        return None
    return Contacts(offset - lag, math.sqrt(variance), rivals, fold.count, down)


def _folds(fold: _Fold) -> list[NDArray[np.bool_]]:
    """Frames of all blows, then those without a tenth of them each."""
    group = fold.event % _FOLDS
    return [group >= 0, *(group != k for k in range(min(_FOLDS, fold.count)))]


def _jackknife(values: Float) -> float:
    """Variance of the first of `values`, found from all, by the others, found without a part each."""
    parts = values[1:]
    return float((len(parts) - 1) / len(parts) * np.sum((parts - parts.mean()) ** 2))


def _some(times: Float, most: int) -> Float:
    return times if len(times) <= most else times[np.linspace(0, len(times) - 1, most).astype(int)]


def _folded(times: Float, blows: Float, wide: float, unseen: NDArray[np.bool_]) -> _Fold:
    first, last = np.searchsorted(times, blows - wide), np.searchsorted(times, blows + wide)
    since, frame, event, count = [], [], [], 0
    for blow, a, b in zip(blows, first, last, strict=True):
        if a >= 1 and b < len(times) and b - a >= 4 and not unseen[a:b].any():
            since.append(times[a:b] - blow)
            frame.append(np.arange(a, b))
            event.append(np.full(b - a, count))
            count += 1
    if not count:
        return _Fold(np.zeros(0), np.zeros(0, np.intp), np.zeros(0, np.intp), 0)
    return _Fold(np.concatenate(since), np.concatenate(frame), np.concatenate(event), count)


def _cells(picture: PictureFeatures, fold: _Fold) -> Float:
    """(n, fine cells): brightness against the whole picture's, and against the mean about the same blow."""
    values = picture.detail[fold.frame].astype(np.float64)
    return fold.centred(values - np.median(values, axis=1, keepdims=True))


def _gap(since: Float, period: float) -> float:
    """Most seconds of a blow on which no frame falls: little, unless blows keep time with the frames."""
    places = np.sort(since % period)
    return max(float(np.diff(places).max(initial=0.0)), float(places[0] + period - places[-1]))


def _bumps(since: Float, wide: float, width: float) -> Float:
    """(n, k) of a smooth basis over `wide` seconds to either side."""
    centres = np.arange(-wide, wide + width, width)
    return np.asarray(np.exp(-0.5 * ((since[:, None] - centres) / width) ** 2))


def _mean(every: Float, fold: _Fold, period: float) -> tuple[Float, Float, Index]:
    """(weights, common, most): mean over blows, as weights (k, cells) of bumps and (n, cells); cells that show most."""
    wide = float(np.abs(fold.since).max())
    bumps = fold.centred(_bumps(fold.since, wide, max(_BUMP, _GAP * _gap(fold.since, period))))
    n, k = bumps.shape
    weights = np.linalg.solve(bumps.T @ bumps + 1e-2 * n / k * np.eye(k), bumps.T @ every)
    common = bumps @ weights
    share = np.sum(common**2, axis=0) / (np.sum((every - common) ** 2, axis=0) + 1e-2 * n)
    return weights, common, np.argsort(share)[-_CELLS:]


def _rests(every: Float, fold: _Fold, steps: Float, period: float) -> Float:
    """(steps,): how much of the change before each time is lost or undone after it."""
    wide = float(np.abs(fold.since).max())
    weights, _, cells = _mean(every, fold, period)
    aside, fine = max(_BEFORE, period), max(_BUMP, _GAP * _gap(fold.since, period))
    before, now, after = (_bumps(steps + d, wide, fine) @ weights[:, cells] for d in (-aside, 0.0, aside))
    return np.asarray(2.0 * np.abs(now - before).sum(axis=1) - np.abs(after - before).sum(axis=1))


def _alike(every: Float, fold: _Fold, period: float) -> NDArray[np.bool_]:
    """(count,): blows that go as the others do; the rest are other sounds, or hidden."""
    seen, common = _in_common(every, fold, period)
    going, expected = (np.bincount(fold.event, (part * common).sum(axis=1)) for part in (seen, common))
    return np.asarray(going > _LIKE * expected)


def _in_common(every: Float, fold: _Fold, period: float) -> tuple[Float, Float]:
    """(seen, common), each (n, components): the mixtures of cells that blows have most in common, and that of them."""
    from scipy import linalg

    _, common, cells = _mean(every, fold, period)
    own, common = every[:, cells] - common[:, cells], common[:, cells]
    between, within = common.T @ common / len(own), own.T @ own / len(own)
    within += (_SHRINK * np.trace(within) / len(cells) + 1e-2) * np.eye(len(cells))
    most = min(max(_COMPONENTS), len(cells))
    _, mixtures = linalg.eigh(between, within, subset_by_index=[len(cells) - most, len(cells) - 1])
    return every[:, cells] @ mixtures[:, ::-1], common @ mixtures[:, ::-1]


def _kinks(seen: Float, fold: _Fold, steps: Float, width: float) -> Float:
    """(counts, 1 + folds, steps): nepers of scatter a component that two parabolas leave, against one: the first are of
    all blows, the others without a fold of them."""
    inside = np.abs(fold.since) < width
    fold = fold.some(inside)
    seen = fold.centred(seen[inside])
    kept = _folds(fold)

    def grams(columns: Float) -> Float:
        """Of columns of time and what is seen; that has a scatter, at least a little, where a drawing has no noise."""
        least = np.r_[np.zeros(columns.shape[1] - seen.shape[1]), np.full(seen.shape[1], _LEAST * len(columns))]
        return np.asarray(np.stack([columns[some].T @ columns[some] for some in kept]) + np.diag(least))

    def left(gram: Float, gone: int) -> Float:
        """Grams of what the first `gone` columns leave of the others."""
        a, b = gram[:, :gone, :gone], gram[:, :gone, gone:]
        a = a + 1e-9 * np.trace(a, axis1=1, axis2=2)[:, None, None] * np.eye(gone)
        return np.asarray(gram[:, gone:, gone:] - np.swapaxes(b, 1, 2) @ np.linalg.solve(a, b))

    one = left(grams(np.concatenate([fold.centred(np.stack([fold.since, fold.since**2], 1) / width), seen], axis=1)), 2)
    counts = [c for c in _COMPONENTS if c <= seen.shape[1]]
    before = [np.linalg.slogdet(one[:, :c, :c])[1] for c in counts]
    out = np.empty((len(counts), len(one), len(steps)))
    for k, step in enumerate(steps):
        since = (fold.since - step) / width
        early, late = np.minimum(since, 0.0), np.maximum(since, 0.0)
        columns = fold.centred(np.stack([early**2, late**2, early, late], axis=1))
        gram = left(grams(np.concatenate([columns, seen], axis=1)), 2)
        for j, c in enumerate(counts):
            rest = gram[:, 2 : 2 + c, 2 : 2 + c]
            lines = gram[:, :2, 2 : 2 + c]  # (folds, 2, c): of early and late with what is seen
            inner = lines @ np.linalg.solve(rest, np.swapaxes(lines, 1, 2))
            share = np.zeros(len(gram))
            for turned in _KEPT:
                line = np.array([1.0, -turned])
                length = line @ gram[:, :2, :2] @ line
                share = np.maximum(share, (line @ inner @ line) / np.maximum(length, 1e-12))
            out[j, :, k] = (np.linalg.slogdet(rest)[1] + np.log(np.maximum(1.0 - share, 1e-9)) - before[j]) / c
    return out


def _lowest(steps: Float, scores: Float) -> Float:
    """(n,): where each row of scores `(n, steps)` is lowest, between steps."""
    k = np.clip(np.argmin(scores, axis=1), 1, len(steps) - 2)
    rows = np.arange(len(scores))
    below, here, above = (scores[rows, k + d] for d in (-1, 0, 1))
    bend = below - 2.0 * here + above
    aside = np.where(bend > 0.0, 0.5 * (below - above) / np.maximum(bend, 1e-12), 0.0)
    return np.asarray(steps[k] + np.clip(aside, -1.0, 1.0) * (steps[1] - steps[0]))


def _place(every: Float, fold: _Fold, lag: float, width: float, grid: tuple[int, int]) -> float | None:
    """How far down the picture velocity is lost, 0 to 1: middle of the cells that surely have a kink; None without."""
    since = (fold.since - lag) / width
    columns = fold.centred(np.stack([np.maximum(since, 0.0), since, since**2], axis=1))
    inverse = np.linalg.pinv(columns.T @ columns)
    kinks = inverse @ columns.T @ every
    scatter = np.sqrt(np.mean((every - columns @ kinks) ** 2, axis=0) * inverse[0, 0]) + 1e-9
    sure = np.where(np.abs(kinks[0]) > _SURE * scatter, kinks[0] ** 2, 0.0)
    rows = sure.reshape(-1, 2 * grid[1]).sum(axis=1)
    return float(rows @ (np.arange(len(rows)) + 0.5) / rows.sum() / len(rows)) if rows.sum() > 0.0 else None
