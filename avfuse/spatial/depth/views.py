"""Frames of a camera and a depth sensor, compared through a pose by what each tells of the other.

Each comparison is of one quantity of the points with one of the picture, by their normalised information distance:

intensity   with brightness: how much of the sensor's light comes back
contrast    with contrast: the same, less what lies around; range, angle and shade fall out
facing      with brightness, where there is no intensity: which way a surface looks, as shade goes with that
bends       with gradients, where there is no intensity: how far a surface bends
edges       with gradients: how far a thing stands out before what lies behind it, where it ends
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from avfuse._kernels.information import entropies
from avfuse.spatial.depth.visibility import Grid, Lens
from avfuse.spatial.images.information import JointInformation
from avfuse.transform import Rigid

F64 = NDArray[np.float64]
F32 = NDArray[np.float32]

BINS = 16
GROUPS = 32  # of blocks, each left out once for the covariance
_AROUND = 24  # points beside each one from which its contrast is taken
_STANDS_OUT = 0.05  # share of inverse depth from which a point counts as the end of a thing
_NORMAL = 50  # points of which a normal is made
_BLOCKS = 12  # blocks across a picture whose points stand or fall together
_DARK = 4.0  # brightness steps added before logarithms


class View:
    """One picture and one cloud. picture: `(h, w)` float32. points: `(n, 3)`, finite. intensities: `(n,)` or None."""

    def __init__(self, picture: F32, points: F64, intensities: F64 | None, lens: Lens) -> None:
        self.picture, self.points, self.intensities, self.lens = picture, points, intensities, lens
        self._image = lru_cache(maxsize=32)(self._made)

    def image(self, kind: str, blur: float, around: float) -> tuple[F32, int]:
        """The picture's `brightness`, `contrast` or `edges`, blurred by pixels, and how often it was halved."""
        return self._image(kind, blur, around)

    def _made(self, kind: str, blur: float, around: float) -> tuple[F32, int]:
        import cv2

        image: NDArray[Any] = self.picture
        if kind == "contrast":
            image = np.log(image + np.float32(_DARK))
            image = image - cv2.GaussianBlur(image, (0, 0), around)
        elif kind == "edges":
            smooth = cv2.GaussianBlur(image, (0, 0), 1.0)
            dx, dy = cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
            image = np.log(np.hypot(dx, dy) + np.float32(_DARK))
        halvings = max(0, int(np.log2(max(blur / 2, 1))))
        scale = 1 << halvings
        if halvings:
            height, width = image.shape
            image = cv2.copyMakeBorder(image, 0, -height % scale, 0, -width % scale, cv2.BORDER_REPLICATE)
            image = cv2.resize(image, None, fx=1 / scale, fy=1 / scale, interpolation=cv2.INTER_AREA)
        return np.asarray(cv2.GaussianBlur(image, (0, 0), blur / scale), np.float32), halvings


@dataclass(frozen=True, eq=False)
class Channel:
    """values: `(n,)` of 0 to BINS - 1, of points `(n, 3)`.

    groups: `(n,)`, of blocks. seen: `(n, 2)`, where they were in the picture.
    """

    name: str
    kind: str
    values: F64
    points: F64
    groups: NDArray[np.int64]
    seen: F64


@dataclass(frozen=True, eq=False)
class Look:
    """What a view shows at one pose: its channels. around: pixels over which contrasts are taken; spacing: pixels
    between points; count: points in the picture."""

    view: View
    channels: tuple[Channel, ...]
    around: float
    spacing: float
    count: int


def look(view: View, pose: Rigid, margin: float, most: int | None = None) -> Look:
    """The points that a view shows, margin pixels about the picture included, and their values; at most so many."""
    lens = view.lens
    positions = lens.project(view.points, pose)
    grid = Grid.over(positions, lens.size, margin)
    depths = np.ascontiguousarray(pose(view.points)[:, 2])
    seen = np.flatnonzero(grid.visible(positions, depths))
    positions, depths, points = positions[seen], depths[seen], view.points[seen]
    inside = int(((positions >= 0) & (positions <= np.array(lens.size) - 1)).all(axis=1).sum())
    cell = max(lens.size) / _BLOCKS
    columns = int(np.ceil((lens.size[0] + 2 * margin) / cell))
    blocks = ((positions[:, 1] + margin) // cell * columns + (positions[:, 0] + margin) // cell).astype(np.int64)
    # Blocks go round the groups in an order of their own, so that a group is not a column of the picture.
    groups = np.random.default_rng(len(points)).permutation(int(blocks.max(initial=0)) + 1)[blocks] % GROUPS
    around = 1.4 * float(np.sqrt(_AROUND / np.pi)) * grid.cell / 2
    channels: list[Channel] = []
    if len(points) > _AROUND:
        keep = np.arange(len(points))
        if most is not None and len(points) > most:
            keep = np.linspace(0, len(points) - 1, most).astype(np.int64)

        kept = np.ascontiguousarray(points[keep])

        def channel(name: str, kind: str, values: F64, at: F64 = kept) -> Channel:
            return Channel(name, kind, values[keep], at, groups[keep], positions[keep])

        if view.intensities is not None:
            given = view.intensities[seen]
            channels.append(channel("intensity", "brightness", equalised(given)))
            logs = np.log(given - given.min() + _DARK)
            beside = cKDTree(positions).query(positions[keep], _AROUND)[1]
            contrast = np.zeros(len(points))
            contrast[keep] = logs[keep] - logs[beside].mean(axis=1)
            channels.append(channel("contrast", "contrast", equalised(contrast)))
        else:
            facing, bends = _shape(points)
            channels.append(channel("facing", "brightness", facing))
            channels.append(channel("bends", "edges", equalised(bends)))
        out, behind = grid.standing_out(positions, depths)
        channels.append(
            channel(
                "edges",
                "edges",
                np.minimum(np.floor(BINS * out), BINS - 1),
                np.ascontiguousarray(_ends(points, out, behind)[keep]),
            )
        )
    return Look(view, tuple(c for c in channels if np.ptp(c.values) > 0), around, grid.cell, inside)


def equalised(values: F64) -> F64:
    """Ranks in steps of 0 to BINS - 1 that hold about as many each."""
    limits = np.quantile(values, np.arange(1, BINS) / BINS)
    return np.searchsorted(limits, values, side="right").astype(np.float64)


def _ends(points: F64, out: F64, behind: NDArray[np.int64]) -> F64:
    """Where things end: half a step of the sensor beyond the last point that hit them, for that is where they end on
    average; other points as they are."""
    moved = points.copy()
    last = np.flatnonzero(out > _STANDS_OUT)
    near, far = points[last], points[behind[last]]
    lengths = np.linalg.norm(near, axis=1, keepdims=True)
    between = near / lengths + far / np.linalg.norm(far, axis=1, keepdims=True)
    moved[last] = between * (lengths / np.linalg.norm(between, axis=1, keepdims=True))
    return moved


def _shape(points: F64) -> tuple[F64, F64]:
    """Of the surface about each point: which of BINS directions it looks into, and how far it bends."""
    beside = points[cKDTree(points).query(points, _NORMAL)[1]]
    away = beside - beside.mean(axis=1, keepdims=True)
    spreads, axes = np.linalg.eigh(np.einsum("nki,nkj->nij", away, away))
    normals = axes[:, :, 0]
    normals *= -np.sign(np.einsum("ni,ni->n", normals, points))[:, None]  # the side that looks at the sensor
    bends = spreads[:, 0] / np.maximum(spreads.sum(axis=1), 1e-12)
    centres = [normals[0]]
    apart = np.full(len(points), np.inf)
    for _ in range(BINS - 1):
        apart = np.minimum(apart, ((normals - centres[-1]) ** 2).sum(axis=1))
        centres.append(normals[int(np.argmax(apart))])
    middles = np.array(centres)
    labels = np.zeros(len(points), np.int64)
    for _ in range(12):
        labels = np.argmax(normals @ middles.T, axis=1)
        for k in np.unique(labels):
            mean = normals[labels == k].sum(axis=0)
            middles[k] = mean / max(float(np.linalg.norm(mean)), 1e-12)
    return labels.astype(np.float64), bends


class Comparison:
    """Looks compared with their pictures at one blur, to be asked at many poses.

    names: of the channels, the columns of what is found.
    """

    def __init__(self, looks: Sequence[Look], blur: float, names: Sequence[str]) -> None:
        self.blur, self.names = blur, tuple(names)
        self._parts: list[tuple[int, int, Channel, JointInformation, int, Lens]] = []
        for k, one in enumerate(looks):
            for channel in one.channels:
                if channel.name not in self.names:
                    continue
                image, halvings = one.view.image(channel.kind, blur, max(one.around, 3 * blur))
                places = (channel.seen + 0.5) / (1 << halvings) - 0.5
                joint = JointInformation(channel.values, _spread(image, places), bins=BINS)
                self._parts.append((k, self.names.index(channel.name), channel, joint, halvings, one.view.lens))
        self._looks = len(looks)

    def _placed(self, pose: Rigid) -> Iterator[tuple[int, int, Channel, JointInformation, F64]]:
        """Looks, channels, and where their points are in the channel's picture; points of several are placed once."""
        placed: dict[int, F64] = {}
        for k, c, channel, joint, halvings, lens in self._parts:
            if id(channel.points) not in placed:
                placed[id(channel.points)] = lens.project(channel.points, pose)
            yield k, c, channel, joint, _scaled(placed[id(channel.points)], halvings)

    def distances(self, pose: Rigid) -> F64:
        """Information distances, `(looks, channels)`; NaN where a look has no such channel."""
        found = np.full((self._looks, len(self.names)), np.nan)
        for k, c, _, joint, positions in self._placed(pose):
            found[k, c] = joint.distance(positions)
        return found

    def without(self, pose: Rigid) -> F64:
        """Distances with each group of blocks left out, `(GROUPS, looks, channels)`."""
        found = np.full((GROUPS, self._looks, len(self.names)), np.nan)
        for k, c, channel, joint, positions in self._placed(pose):
            whole = joint.histogram(positions)
            for g in range(GROUPS):
                own, seen, both = entropies(
                    whole - joint.histogram(np.where((channel.groups == g)[:, None], positions, np.nan))
                )
                found[g, k, c] = 2.0 - (own + seen) / both if both > 1e-12 else 1.0
        return found

    def slopes(self, pose: Rigid, without: int | None = None) -> tuple[F64, F64]:
        """Distances, and how they change with the pose, `(looks, channels, 6)`. without: a group of blocks that is left
        out."""
        found = np.full((self._looks, len(self.names)), np.nan)
        slopes = np.zeros((self._looks, len(self.names), 6))
        for (k, c, channel, joint, positions), (*_, halvings, lens) in zip(
            self._placed(pose), self._parts, strict=True
        ):
            if without is not None:
                positions = np.where((channel.groups == without)[:, None], np.nan, positions)
            found[k, c], by_pixel = joint.slopes(positions)
            by_pixel = np.asarray(by_pixel, np.float64) / (1 << halvings)
            blocks = np.zeros(len(by_pixel), np.int64)
            slopes[k, c] = lens.pose_slopes(channel.points, pose, by_pixel, blocks, 1)[0]
        return found, slopes


def _scaled(positions: F64, halvings: int) -> F64:
    return (positions + 0.5) / (1 << halvings) - 0.5 if halvings else positions


def _spread(image: F32, places: F64) -> F32:
    """Greys in steps that hold about as many of the places each, so that a bright sky does not take most of them."""
    height, width = image.shape
    inside = ((places >= 0) & (places <= [width - 1, height - 1])).all(axis=1)
    at = np.round(places[inside]).astype(np.int64)
    greys = image[at[:, 1], at[:, 0]] if len(at) else image.ravel()
    limits, first = np.unique(np.quantile(greys, np.linspace(0, 1, 4 * BINS + 1)), return_index=True)
    if len(limits) < 2:
        return np.zeros_like(image)
    return np.interp(image, limits, first * (BINS - 1) / (4 * BINS)).astype(np.float32)
