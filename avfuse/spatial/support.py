"""Whether two images that were laid over each other really show the same: an account by tiles.

A transform that is right makes small pieces of the images fit where they lie, each by itself. So every tile of the
reference is compared with the moving image at all shifts of a few pixels. In images that have nothing in common the
best shift is anywhere; in ones that have, it is near none in most tiles. Tiles did not take part in finding the
transform one by one, which makes the count a test of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avfuse.spatial.appearance import F32, F64, Level
from avfuse.spatial.refinement import Target

_TILES = (24, 16)  # pixels of a side; the second where the first gives too few
_REACH = 6  # pixels of shifts that are tried, each way
_NEAR = 1.5  # pixels from none that count as none
_FEW = 20  # tiles
_TEXTURE = 0.3  # of the median energy of tiles, below which one shows nothing


@dataclass(frozen=True, eq=False)
class Support:
    """tiles: how many have something in both images; near: how many of them fit best where they lie. chance: share that
    would do so by chance. shifts: `(tiles, 2)` where each fits best. middles: `(tiles, 2)` pixels of the level.
    heights: `(tiles,)` correlation where it lies."""

    tiles: int
    near: int
    chance: float
    shifts: F64
    middles: F64
    heights: F64

    @property
    def share(self) -> float:
        return self.near / self.tiles if self.tiles else 0.0

    @property
    def evidence(self) -> float:
        """Natural logarithm of how much likelier so many are if they fit than if they fall anywhere."""
        n, k = self.tiles, self.near
        if not n or self.share <= self.chance:
            return 0.0
        p = min(self.share, 1 - 0.5 / n)
        return float(k * np.log(p / self.chance) + (n - k) * np.log((1 - p) / (1 - self.chance)))


def support_of(target: Target, moving: Level, matrix: F64) -> Support:
    """matrix: pixels of `moving` -> of the target."""
    found = target.seen(moving, matrix)
    if found is None:
        return Support(0, 0, 1.0, np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0))
    account = _account(target.field, *found, _TILES[0])
    return account if account.tiles >= _FEW else _account(target.field, *found, _TILES[1])


def _account(own: F32, seen: F32, both: NDArray[np.bool_], side: int) -> Support:
    import cv2

    h, w = both.shape
    reach, chance = _REACH, float(np.pi * _NEAR**2 / (2 * _REACH + 1) ** 2)

    def sums(values: F32, size: int) -> F32:
        """Over squares that begin at each pixel."""
        return np.asarray(cv2.boxFilter(values, cv2.CV_32F, (size, size), anchor=(0, 0), normalize=False))

    whole = sums(both.astype(np.float32), side + 2 * reach) > (side + 2 * reach) ** 2 - 0.5
    tops = np.arange(reach, h - reach - side + 1, side)
    lefts = np.arange(reach, w - reach - side + 1, side)
    area = float(side * side)
    spreads = []  # of each field about its mean, in every square
    for field in (own, seen):
        spread = np.zeros((h, w), np.float32)
        for f in field:
            spread += sums(f * f, side) - np.square(sums(f, side)) / np.float32(area)
        spreads.append(np.maximum(spread, 0))
    places = [(int(t), int(s)) for t in tops for s in lefts if whole[t - reach, s - reach]]
    if not places:
        return Support(0, 0, chance, np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0))
    power = np.array([[s[place] for s in spreads] for place in places])
    textured = (power > _TEXTURE * np.median(power, axis=0)).all(axis=1) & (power > 1e-6 * area).all(axis=1)
    # Light and dark are exchanged, where the whole says so.
    inverted = len(own) == 1 and float((own * seen)[:, both].sum()) < 0
    shifts, middles, heights = [], [], []
    for (top, left), good in zip(places, textured, strict=True):
        if not good:
            continue
        total = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
        for a, b in zip(own, seen, strict=True):
            piece = a[top : top + side, left : left + side]
            piece = np.ascontiguousarray(piece - piece.mean())
            around = np.ascontiguousarray(b[top - reach : top + side + reach, left - reach : left + side + reach])
            total += cv2.matchTemplate(around, piece, cv2.TM_CCORR)
        around = spreads[1][top - reach : top + reach + 1, left - reach : left + reach + 1]
        fit = total / np.sqrt(np.maximum(around * spreads[0][top, left], 1e-12 * area * area))
        if inverted:
            fit = -fit
        row, column = np.unravel_index(int(np.argmax(fit)), fit.shape)
        shifts.append((column - reach, row - reach))
        middles.append((left + (side - 1) / 2, top + (side - 1) / 2))
        heights.append(float(fit[reach, reach]))
    away = np.array(shifts, float).reshape(-1, 2)
    near = int((np.hypot(away[:, 0], away[:, 1]) <= _NEAR).sum())
    return Support(len(away), near, chance, away, np.array(middles).reshape(-1, 2), np.array(heights))
