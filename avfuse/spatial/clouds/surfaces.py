"""A cloud as a surface: thinned by voxels, in the order of a k-d tree, with a normal at each point."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from avfuse._kernels import points as kernels
from avfuse._kernels.kd_tree import kd_build, kd_nearest, kd_normals
from avfuse.errors import StreamError

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

LEAF = 16
_ENOUGH = 11000  # points that a cloud is thinned to where no voxel is given
_SHARE = 8  # of the cubes are counted
_PLANE = 0.2  # planarity that makes a plane trusted wholly
_MOST_CUBES = 1 << 21  # along an axis


@dataclass(frozen=True, eq=False)
class Surface:
    """points, normals `(n, 3)`. planarity: `(n,)`, 0 on a line or in a ball, 1 on a plane. spacing: of neighbours.
    rough: how far they lie off their planes. rank: where in this order each point given lies."""

    points: F64
    normals: F64
    planarity: F64
    spacing: float
    rough: float
    boxes: F64
    nodes: I64
    rank: I64

    @cached_property
    def trust(self) -> F64:
        """In each point's plane, 0 to 1. The neighbours of a point may all lie on one line that a scanner drew; a plane
        through them could turn about it at will, and so scans would be pulled onto each other's lines."""
        return np.asarray(np.minimum(self.planarity / _PLANE, 1.0))

    def __len__(self) -> int:
        return len(self.points)

    @cached_property
    def radius(self) -> float:
        """Root of the mean square distance from the middle."""
        away = self.points - kernels.extent(self.points)[2]
        # No product of vectors: the library's threads would be woken for it, and its sums depend on their number.
        return float(np.sqrt((away * away).sum() / len(away)))

    def nearest(self, queries: F64, limit: float, guess: I64 | None = None) -> tuple[I64, F64]:
        """Index of the nearest point, -1 where none is within `limit`, and its squared distance."""
        found: tuple[I64, F64] = kd_nearest(
            self.points, self.boxes, self.nodes, queries,
            np.full(len(queries), -1) if guess is None else guess, limit**2,
        )  # fmt: skip
        return found


@dataclass(frozen=True, eq=False)
class Cloud:
    """What was given: points `(n, 3)`, their lowest and highest corner, and their mean."""

    points: F64
    low: F64
    high: F64
    mean: F64

    @classmethod
    def of(cls, points: ArrayLike, argument: str, called: str, least: int) -> Cloud:
        """Raises StreamError for other shapes, too few points and any that is not finite."""
        given = np.asarray(points)
        if given.ndim != 2 or given.shape[1] != 3 or given.dtype.kind not in "fiu":
            raise StreamError(
                f"{called}: {argument} of shape {given.shape} and type {given.dtype}; expected (n, 3) points"
            )
        x = np.ascontiguousarray(given, np.float64)
        if len(x) < least:
            raise StreamError(f"{called}: {argument} has {len(x)} points; expected at least {least}")
        low, high, mean = kernels.extent(x)
        if not np.isfinite(mean).all():
            bad = int(len(x) - np.isfinite(x).all(axis=1).sum())
            raise StreamError(
                f"{called}: {bad} of {len(x)} points of {argument} are NaN or infinite; expected finite ones, leave "
                "those out with points[numpy.isfinite(points).all(axis=1)]"
            )
        return cls(x, low, high, mean)

    def check_voxel(self, size: float, argument: str, called: str) -> None:
        if size and float((self.high - self.low).max()) / size >= _MOST_CUBES:
            raise StreamError(
                f"{called}: voxel {size:g} over {argument}, which is {(self.high - self.low).max():g} wide"
            )

    def thinned(self, size: float) -> tuple[F64, I64]:
        """Means of the points in each cube of `size`, about the cloud's own mean, and the cube of each point."""
        if not size:
            return self.points - self.mean, np.arange(len(self.points))
        means, cube = kernels.voxel_means(self.points, size, self.low)
        return means - self.mean, cube


def fitting_voxel(cloud: Cloud) -> float:
    """The cube, to two digits, that leaves about 11,000 points of a cloud; 0 for a cloud that has no more."""
    if len(cloud.points) <= 1.25 * _ENOUGH:
        return 0.0
    widest = float((cloud.high - cloud.low).max())
    if widest == 0.0:
        return 0.0
    # Between a line's power, 1, and a surface's, 2; then by what was counted.
    size, power = widest / 400, 1.5
    known: list[tuple[float, float]] = []
    for _ in range(3):
        count = max(float(kernels.voxel_count(cloud.points, size, cloud.low, _SHARE)), 1.0)
        known.append((math.log(size), math.log(count)))
        if len(known) > 1 and known[-1][0] != known[-2][0]:
            slope = (known[-1][1] - known[-2][1]) / (known[-1][0] - known[-2][0])
            power = min(max(-slope, 0.5), 3.0)
        size = max(size * (count / _ENOUGH) ** (1 / power), widest / (_MOST_CUBES - 1))
    digits = 1 - math.floor(math.log10(size))
    return round(size, digits)


def surface_of(points: F64, neighbours: int) -> Surface:
    """points: `(n, 3)`, more than `neighbours`."""
    order, boxes, nodes = kd_build(points, LEAF)
    sorted_ = points[order]
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    normals, planarity, rough, apart = kd_normals(sorted_, boxes, nodes, neighbours, 0, len(nodes))
    return Surface(sorted_, normals, planarity, float(np.median(apart)), float(np.median(rough)), boxes, nodes, rank)
