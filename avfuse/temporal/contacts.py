"""When things that are heard to hit were seen to, finer than frames: by the kink in how the picture goes there.

All blows are laid over each other around their sounds. Frames fall on them at other moments each time, so that
together they show one blow much finer than the frame rate does. What the blows have in common is told from everything
else that moves by a generalised eigenproblem of covariances, as event-related components are in electroencephalograms
(de Cheveigne and Parra 2014). On its way to the blow and from it the picture changes smoothly; at the blow itself its
velocity is lost or turned round, all of it at one time: that time is where two parabolas meet that fit best.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avfuse.features.light import PictureFeatures

_WIDE, _MIDDLE, _NARROW = 0.12, 0.09, 0.05  # seconds to either side that parabolas must fit
_FAR = 0.09  # seconds from where it is expected that a kink is looked for
_NEAR, _STEP = 0.03, 0.001  # seconds, and seconds between times that are tried, once it is known roughly
_BUMP = 0.01  # seconds: how fine what blows have in common is taken to be
_CELLS, _COMPONENTS = 300, (2, 4, 6)
_SHRINK = 0.05  # of the covariance of what they do not have in common towards one of equal cells
_KEPT = np.array([-0.5, -0.25, 0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5])  # share of velocity that is turned round
_FOLDS = 10
_LIKE = 0.3  # of what blows have in common that one must show
_EVENTS = 8
_MOST = 600  # blows that are looked at

Float = NDArray[np.float64]
Index = NDArray[np.intp]


@dataclass(frozen=True)
class Contacts:
    """offset: seconds, sound minus picture. std: of it, by leaving blows out and by other windows.

    events: blows that were seen. down: how far down the picture they are seen, 0 to 1. sharpness: how much better the
    picture is explained by two parabolas that meet than by one, in nepers of its scatter.
    """

    offset: float
    std: float
    events: int
    down: float
    sharpness: float


@dataclass(frozen=True, eq=False)
class _Fold:
    """Frames around blows. since: (n,) seconds after the sound. frame, event: (n,) their numbers. count: of blows."""

    since: Float
    frame: Index
    event: Index
    count: int

    def centred(self, values: Float) -> Float:
        """(n, k) against the mean of their own blow: what only passes by at that time is no matter."""
        number = np.bincount(self.event, minlength=self.count)
        sums = np.zeros((self.count, values.shape[1]))
        np.add.at(sums, self.event, values)
        return np.asarray(values - (sums / number[:, None])[self.event])


def time_contacts(picture: PictureFeatures, heard: Float, offset: float, unseen: NDArray[np.bool_]) -> Contacts | None:
    """The offset of blows heard at `heard` (seconds), from a rough one; None where too few are seen.

    unseen: (n,) frames that say nothing of movement.
    """
    wide = max(_WIDE, 3.0 * picture.period)
    windows = (wide, max(_MIDDLE, 2.6 * picture.period), max(_NARROW, 2.2 * picture.period))
    if len(heard) > _MOST:
        heard = heard[np.linspace(0, len(heard) - 1, _MOST).astype(int)]
    for steps in (np.arange(-_FAR, _FAR + 1e-9, 2 * _STEP), np.arange(-_NEAR, _NEAR + 1e-9, _STEP)):
        fold = _folded(picture.times, heard - offset, wide, unseen)
        if fold.count < _EVENTS:
            return None
        every = _cells(picture, fold)
        seen, common = _in_common(every, fold, wide)
        # What does not go as the others do is another sound, or hidden.
        going, expected = (np.bincount(fold.event, (part * common).sum(axis=1)) for part in (seen, common))
        like = going > _LIKE * expected
        if 2 * np.count_nonzero(like) < fold.count or np.count_nonzero(like) < _EVENTS:
            return None
        kept = like[fold.event]
        fold = _Fold(fold.since[kept], fold.frame[kept], (np.cumsum(like) - 1)[fold.event[kept]], int(like.sum()))
        seen, every = seen[kept], every[kept]
        used = windows[:1] if len(steps) > 2 * _NEAR / _STEP + 2 else windows
        scores = np.stack([_scores(seen, fold, steps, width) for width in used])  # (windows, counts, 1 + folds, steps)
        lags = _lowest(steps, scores.sum(axis=(0, 1)))
        offset -= float(lags[0])
    one = _lowest(steps, scores[:, :, 0].reshape(-1, len(steps)))
    folds = len(lags) - 1
    jackknife = (folds - 1) / folds * float(np.sum((lags[1:] - lags[1:].mean()) ** 2))
    spread = float(np.mean((one - lags[0]) ** 2))
    down = _place(every, fold, float(lags[0]), windows[1], picture.grid)
    sharpness = -float(scores[:, :, 0].mean(axis=(0, 1)).min())
    return Contacts(offset, math.sqrt(jackknife + spread), fold.count, down, sharpness)


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


def _in_common(every: Float, fold: _Fold, wide: float) -> tuple[Float, Float]:
    """(seen, common), each (n, components): the mixtures of cells that blows have most in common, and that of them."""
    from scipy import linalg

    centres = np.linspace(-wide, wide, round(2 * wide / _BUMP) + 1)
    bumps = fold.centred(np.exp(-0.5 * ((fold.since[:, None] - centres) / _BUMP) ** 2))
    n, k = bumps.shape
    common = bumps @ np.linalg.solve(bumps.T @ bumps + 1e-2 * n / k * np.eye(k), bumps.T @ every)
    own = every - common
    share = np.sum(common**2, axis=0) / (np.sum(own**2, axis=0) + 1e-2 * n)
    cells = np.argsort(share)[-_CELLS:]
    between, within = common[:, cells].T @ common[:, cells] / n, own[:, cells].T @ own[:, cells] / n
    within += (_SHRINK * np.trace(within) / len(cells) + 1e-2) * np.eye(len(cells))
    most = min(max(_COMPONENTS), len(cells))
    _, mixtures = linalg.eigh(between, within, subset_by_index=[len(cells) - most, len(cells) - 1])
    mixtures = mixtures[:, ::-1]
    return every[:, cells] @ mixtures, common[:, cells] @ mixtures


def _scores(seen: Float, fold: _Fold, steps: Float, width: float) -> Float:
    """(counts, 1 + folds, steps): nepers of scatter a component that two parabolas leave, against one: the first are of
    all blows, the others without a fold of them."""
    inside = np.abs(fold.since) < width
    present = np.unique(fold.event[inside])
    fold = _Fold(fold.since[inside], fold.frame[inside], np.searchsorted(present, fold.event[inside]), len(present))
    seen = fold.centred(seen[inside])
    group = fold.event % _FOLDS
    folds = [group == k for k in range(min(_FOLDS, fold.count))]

    def grams(columns: Float) -> Float:
        each = np.stack([columns[some].T @ columns[some] for some in folds])
        return np.asarray(np.concatenate([[each.sum(axis=0)], each.sum(axis=0) - each]))

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


def _place(every: Float, fold: _Fold, lag: float, width: float, grid: tuple[int, int]) -> float:
    """How far down the picture velocity is lost, 0 to 1: middle of the cells that the kink takes part in."""
    since = (fold.since - lag) / width
    columns = fold.centred(np.stack([np.maximum(since, 0.0), since, since**2], axis=1))
    inverse = np.linalg.inv(columns.T @ columns)
    kinks = inverse @ columns.T @ every
    scatter = np.sqrt(np.mean((every - columns @ kinks) ** 2, axis=0) * inverse[0, 0]) + 1e-9
    sure = np.where(np.abs(kinks[0]) > 4.0 * scatter, kinks[0] ** 2, 0.0)
    rows = sure.reshape(-1, 2 * grid[1]).sum(axis=1)
    if rows.sum() <= 0.0:
        return 0.5
    return float(rows @ (np.arange(len(rows)) + 0.5) / rows.sum() / len(rows))
