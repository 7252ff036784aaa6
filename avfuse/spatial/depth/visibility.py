"""Which points of a cloud a camera sees, and where things end before what lies behind them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from avfuse._kernels import visibility as kernels
from avfuse.errors import StreamError
from avfuse.transform import Camera, Rigid, _tilt, points_of

F64 = NDArray[np.float64]

_NEARER = 0.1  # share of its depth by which something must be nearer to hide a point
_ALL_AROUND, _BESIDE = 2, 3  # cells looked at on every side, for what hides a point and for where things end
_BORDER = 64  # pixels of each side of the picture whose rays tell how far a lens sees
_FARTHEST = 10.0  # flat coordinates looked through where no ray reaches the border
_RADII = 256
_BEYOND = 1.15  # of that, where the lens still bends outwards: points come into view as the pose changes


@dataclass(frozen=True, eq=False)
class Lens:
    """A camera as the kernels take it. values: `(30,)`. size: (width, height)."""

    values: F64
    size: tuple[int, int]

    def project(self, points: F64, pose: Rigid) -> F64:
        """Pixels `(n, 2)` of points `(n, 3)` through T_camera_points; NaN for those that it cannot show."""
        return np.asarray(kernels.project(points, _rows(pose), self.values))

    def pose_slopes(self, points: F64, pose: Rigid, slopes: F64, blocks: NDArray[np.int64], count: int) -> F64:
        """How sums over points change with (rotation vector, translation) of the pose, `(count, 6)`; slopes: `(n, 2)`,
        how each point's share changes with its pixel."""
        return np.asarray(kernels.pose_slopes(points, _rows(pose), self.values, slopes, blocks, count))

    def moves(self, points: F64, pose: Rigid) -> F64:
        """How the pixels of points `(n, 3)` change with (rotation vector, translation) of the pose, `(n, 2, 6)`."""
        each, n = np.arange(len(points)), len(points)
        sides = [self.pose_slopes(points, pose, np.tile(side, (n, 1)), each, n) for side in ([1.0, 0.0], [0.0, 1.0])]
        return np.stack(sides, axis=1)


def lens_of(camera: Camera) -> Lens:
    """The camera without its pose. Raises StreamError where its size is not known."""
    if camera.size is None:
        raise StreamError("Camera: its size is not known; give size=(width, height)")
    width, height = camera.size
    k, values = camera.matrix, np.zeros(30)
    values[:5] = k[0, 0], k[0, 1], k[0, 2], k[1, 1], k[1, 2]
    values[5] = camera.fisheye
    values[7 : 7 + len(camera.distortion)] = camera.distortion
    values[21:] = (np.eye(3) if camera.fisheye else _tilt(values[19], values[20])).ravel()
    across, down = np.linspace(0, width - 1, _BORDER), np.linspace(0, height - 1, _BORDER)
    sides = [np.stack([across, np.full(_BORDER, y)], axis=1) for y in (0, height - 1)]
    sides += [np.stack([np.full(_BORDER, x), down], axis=1) for x in (0, width - 1)]
    rays = Camera(k, camera.size, camera.distortion, camera.fisheye).rays(np.concatenate(sides))
    flat = rays[:, :2] / rays[:, 2:]
    far = float(np.nanmax(np.linalg.norm(flat, axis=1), initial=0.0)) or _FARTHEST
    # A polynomial that turns back would show what is far outside in the middle of the picture.
    radii = np.linspace(0, _BEYOND * far, _RADII)
    values[6] = np.inf
    line = kernels.project(np.stack([radii, np.zeros(_RADII), np.ones(_RADII)], axis=1), np.eye(3, 4), values)[:, 0]
    turns = np.flatnonzero(np.diff(line) <= 0)
    values[6] = radii[turns[0] if turns.size else -1] ** 2
    return Lens(values, camera.size)


@dataclass(frozen=True, eq=False)
class Grid:
    """Cells of the picture, and of a margin about it, that hold about one point each."""

    cell: float
    columns: int
    rows: int
    margin: float

    @classmethod
    def over(cls, positions: F64, size: tuple[int, int], margin: float = 0.0) -> Grid:
        width, height = size[0] + 2 * margin, size[1] + 2 * margin
        with np.errstate(invalid="ignore"):
            inside = (positions >= -margin).all(axis=1) & (positions < np.array(size) + margin).all(axis=1)
        cell = max(1.0, float(np.sqrt(width * height / max(int(inside.sum()), 1))))
        return cls(cell, int(np.ceil(width / cell)), int(np.ceil(height / cell)), margin)

    def visible(self, positions: F64, depths: F64) -> NDArray[np.bool_]:
        shifted = positions + self.margin
        return np.asarray(kernels.visible(shifted, depths, self.cell, self.columns, self.rows, _ALL_AROUND, _NEARER))

    def standing_out(self, positions: F64, depths: F64) -> tuple[F64, NDArray[np.int64]]:
        """Of points that are seen: 0 on a plane, near 1 where a thing ends before what lies far behind; and which point
        lies behind there."""
        shifted = positions + self.margin
        found = kernels.standing_out(shifted, depths, self.cell, self.columns, self.rows, _BESIDE)
        return np.asarray(found[0]), np.asarray(found[1])


def visible_points(points: ArrayLike, camera: Camera) -> NDArray[np.bool_]:
    """Which points `(n, 3)` the camera sees: those in its picture that no others surround that are nearer by a tenth.

    A z-buffer whose cells hold one point each, in which ground that slants away does not hide itself. Raises
    StreamError for other shapes, and where the camera's size is not known.
    """
    cloud = np.ascontiguousarray(points_of(points, 3, "visible_points"))
    lens = lens_of(camera)
    positions = lens.project(cloud, camera.pose)
    grid = Grid.over(positions, lens.size)
    inside = camera.inside(positions)
    return inside & grid.visible(positions, np.ascontiguousarray(camera.pose(cloud)[:, 2]))


def _rows(pose: Rigid) -> F64:
    return np.ascontiguousarray(pose.matrix[:3])
