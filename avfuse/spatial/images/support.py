"""Whether two images that were laid over each other really show the same: an account by tiles.

A transform that is right makes small pieces of the images fit where they lie, each by itself. So every tile of the
reference is compared with the moving image at all shifts of a few pixels. In images that have nothing in common the
best shift is anywhere; in ones that have, it is near none in most tiles. Tiles did not take part in finding the
transform one by one, which makes the count a test of it. A tile that fits elsewhere nearly as well, as one that shows
a straight edge or a pattern does, says nothing and is not counted: black bars and frames meet in any two pictures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avfuse.spatial.images.appearance import F32, F64, Level
from avfuse.spatial.images.refinement import Target

_TILES = (24, 16)  # pixels of a side; the second where the first gives too few
_REACH = 6  # pixels of shifts that are tried, each way
_NEAR = 1.5  # pixels from none that count as none
_ELSEWHERE = 3.5  # pixels from none that are another place
_UNIQUE, _AS_WELL = 0.85, 0.95  # of a tile's best fit: above these, another place, or its own, is as good
_FEW = 20  # tiles
_TEXTURE = 0.3  # of the median energy of tiles, below which one shows nothing


@dataclass(frozen=True, eq=False)
class Support:
    """tiles: how many have something in both images that tells where it lies; near: how many of them fit best where
    they lie. repeating: how many fit there, and elsewhere as well. chance: share that would fit by chance."""

    tiles: int
    near: int
    repeating: int
    chance: float

    @property
    def share(self) -> float:
        return self.near / self.tiles if self.tiles else 0.0

    @property
    def evidence(self) -> float:
        """Natural logarithm of how much likelier so many are if they fit than if they fall anywhere."""
        return _evidence(self.tiles, self.near, self.chance)

    @property
    def loose(self) -> float:
        """The same with tiles that fit elsewhere as well: what patterns that repeat have."""
        return _evidence(self.tiles + self.repeating, self.near + self.repeating, self.chance)


def _evidence(n: int, k: int, chance: float) -> float:
    if not n or k <= n * chance:
        return 0.0
    p = min(k / n, 1 - 0.5 / n)
    return float(k * np.log(p / chance) + (n - k) * np.log((1 - p) / (1 - chance)))


def support_of(target: Target, moving: Level, matrix: F64) -> Support:
    """matrix: pixels of `moving` -> of the target."""
    found = target.seen(moving, matrix)
    if found is None:
        return Support(0, 0, 0, 1.0)
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
        return Support(0, 0, 0, chance)
    power = np.array([[s[place] for s in spreads] for place in places])
    textured = (power > _TEXTURE * np.median(power, axis=0)).all(axis=1) & (power > 1e-6 * area).all(axis=1)
    # Light and dark are exchanged, where the whole says so.
    inverted = len(own) == 1 and float((own * seen)[:, both].sum()) < 0
    away = np.hypot(*np.mgrid[-reach : reach + 1, -reach : reach + 1])
    here, elsewhere = away <= _NEAR, away > _ELSEWHERE
    near = missed = repeating = 0
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
        own_place, highest = float(fit[here].max()), float(fit.max())
        if own_place == highest:
            unique = float(fit[elsewhere].max()) < _UNIQUE * highest
            near, repeating = near + unique, repeating + (not unique)
        else:
            missed += own_place < _AS_WELL * highest
    return Support(near + missed, near, repeating, chance)
