"""Rooms and streets of painted rectangles, seen by a camera and a LiDAR or depth camera on one rig.

Paint is patches, stripes and stains; what it reflects of the LiDAR's infrared goes with its brightness, but not surely:
every patch is another material. Pictures have shade, blur and noise; ranges have noise, and intensities fall with range
and with the angle at which a surface is met.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from avfuse._kernels.ranging import cast
from avfuse.errors import StreamError
from avfuse.transform import Camera, Rigid

F64 = NDArray[np.float64]
Frame = tuple[NDArray[np.uint8], F64, F64 | None]

_TEXEL = 0.02  # metres
_SUN = np.array([0.35, 0.5, 0.79])  # direction to the light, in the world: x ahead, y left, z up
_SKY = 225.0
# A LiDAR's x looks ahead, y left, z up; a camera's z looks ahead, x right, y down.
_CAMERA_AXES = np.array([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]])


@dataclass(frozen=True, eq=False)
class RangedScene:
    """frames: (picture `(h, w)` uint8, points `(n, 3)` metres, intensities `(n,)` or None). truth: T_camera_lidar."""

    frames: list[Frame]
    camera: Camera
    truth: Rigid


@dataclass(frozen=True, eq=False)
class _World:
    """Rectangles with the brightness and the infrared reflectance painted on each, `(rows, columns)` of 0 to 1."""

    corners: F64
    sides: F64
    bright: list[F64]
    infrared: list[F64]

    @property
    def normals(self) -> F64:
        made = np.cross(self.sides[:, 0], self.sides[:, 1])
        return np.asarray(made / np.linalg.norm(made, axis=1, keepdims=True))

    def painted(self, paint: list[F64], which: NDArray[np.int32], at: F64) -> F64:
        found = np.zeros(len(which))
        for k in np.unique(which[which >= 0]):
            mine = which == k
            rows, columns = paint[k].shape
            i = np.minimum((at[mine, 1] * rows).astype(np.int64), rows - 1)
            j = np.minimum((at[mine, 0] * columns).astype(np.int64), columns - 1)
            found[mine] = paint[k][i, j]
        return found


def ranged_scene(
    rng: np.random.Generator,
    *,
    frames: int = 5,
    place: Literal["room", "street"] = "room",
    sensor: Literal["lidar", "depth"] = "lidar",
    noise: float = 3.0,
    related: bool = True,
    size: tuple[int, int] = (640, 480),
) -> RangedScene:
    """Frames of a rig that stands at several spots of one place.

    sensor: a LiDAR of 64 lines with intensities, or a depth camera without. noise: brightness steps of the picture;
    ranges have 1 cm. related False: the pictures are those of another place. Raises StreamError for no frames.
    """
    if frames < 1 or min(size) < 16:
        raise StreamError(f"ranged_scene: {frames} frames of {size}; expected one or more of at least 16 x 16 pixels")
    world = _room(rng) if place == "room" else _street(rng)
    seen = world if related else _room(rng) if place == "room" else _street(rng)
    width, height = size
    focal = 0.85 * width
    matrix = np.array([[focal, 0, width / 2 - 3.7], [0, 1.003 * focal, height / 2 + 2.9], [0, 0, 1]])
    camera = Camera(matrix, size, np.array([-0.08, 0.03, 0.0004, -0.0007, 0.0]))
    axes = _CAMERA_AXES if sensor == "lidar" else np.eye(3)
    truth = Rigid.from_parts(_turn(rng.normal(0, 0.02, 3)) @ axes, rng.uniform(-0.15, 0.15, 3))
    made, rays = [], _rays(camera)
    for _ in range(frames):
        # Where the rig stands: T_world_sensor.
        if place == "room":
            spot, about = np.array([*rng.uniform(-1.2, 1.2, 2), rng.uniform(1.0, 1.6)]), rng.uniform(0, 2 * np.pi)
        else:
            spot, about = np.array([rng.uniform(-15, 5), rng.uniform(-2, 2), 1.8]), rng.normal(0, 0.2)
        rig = _turn(np.array([0, 0, about])) @ _turn(rng.normal(0, 0.03, 3))
        stands = Rigid.from_parts(rig if sensor == "lidar" else rig @ _CAMERA_AXES.T, spot)
        points, intensities = _ranges(world, stands, sensor, rng)
        looks = Rigid((stands @ truth.inverse()).matrix)
        picture = _picture(seen, rays, looks, noise, rng)
        made.append((picture, points, intensities))
    return RangedScene(made, camera, truth)


def _rays(camera: Camera) -> F64:
    """Directions `(4, h, w, 3)` of four rays to a pixel."""
    assert camera.size is not None
    width, height = camera.size
    columns, rows = np.meshgrid(np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64))
    shifts = [(dx, dy) for dx in (-0.25, 0.25) for dy in (-0.25, 0.25)]
    return np.stack([camera.rays(np.stack([columns + dx, rows + dy], axis=-1)) for dx, dy in shifts])


def _picture(world: _World, rays: F64, pose: Rigid, noise: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """What the camera sees along its rays, from T_world_camera."""
    from scipy.ndimage import gaussian_filter

    shape = rays.shape[1:3]
    lit = 0.55 + 0.45 * np.abs(world.normals @ _SUN)
    total = np.zeros(shape)
    for directions in rays:
        which, _, at = cast(pose.translation, directions.reshape(-1, 3) @ pose.rotation.T, world.corners, world.sides)
        seen = 235.0 * world.painted(world.bright, which, at) * lit[which]
        total += np.where(which >= 0, seen, _SKY).reshape(shape)
    picture = gaussian_filter(total / len(rays), 0.6) + rng.normal(0, noise, shape)
    return np.asarray(np.clip(np.round(picture), 0, 255), np.uint8)


def _ranges(
    world: _World, pose: Rigid, sensor: Literal["lidar", "depth"], rng: np.random.Generator
) -> tuple[F64, F64 | None]:
    """Points in the sensor's frame, from T_world_sensor."""
    if sensor == "lidar":
        up, about = np.radians(np.linspace(-24, 16, 64)), np.radians(np.arange(-55, 55, 0.2))
        up, about = (a.ravel() for a in np.meshgrid(up, about, indexing="ij"))
        directions = np.stack([np.cos(up) * np.cos(about), np.cos(up) * np.sin(about), np.sin(up)], axis=1)
    else:
        x, y = np.meshgrid(np.linspace(-0.7, 0.7, 200), np.linspace(-0.5, 0.5, 150))
        directions = np.stack([x.ravel(), y.ravel(), np.ones(x.size)], axis=1)
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    turned = directions @ pose.rotation.T
    which, far, at = cast(pose.translation, turned, world.corners, world.sides)
    hit = (which >= 0) & (far < 80.0)
    far = np.where(hit, far, 0.0) + rng.normal(0, 0.01, len(far))
    points = directions[hit] * far[hit, None]
    if sensor == "depth":
        return points, None
    met = np.abs(np.einsum("ij,ij->i", turned, world.normals[which]))
    back = world.painted(world.infrared, which, at) * np.sqrt(met) * np.minimum(1.0, np.sqrt(5.0 / np.maximum(far, 1)))
    back = 200.0 * back * rng.gamma(60.0, 1 / 60.0, len(back)) + rng.normal(0, 2.0, len(back))
    return points, np.clip(np.round(back[hit]), 0, 255)


def _room(rng: np.random.Generator) -> _World:
    length, width, height = rng.uniform(6, 8), rng.uniform(5, 7), rng.uniform(2.6, 3.2)
    low = np.array([-length / 2, -width / 2, 0.0])
    surfaces = _box(low, np.array([length, width, height]), 6)
    for _ in range(10):
        side = rng.uniform([0.3, 0.3, 0.4], [1.0, 1.0, 2.0])
        where = rng.uniform(low[:2], -low[:2] - side[:2])
        # Nothing stands where the rig does.
        if np.all(where < 1.6) and np.all(where + side[:2] > -1.6):
            where = np.where(rng.random(2) < 0.5, low[:2], -low[:2] - side[:2])
        surfaces += _box(np.array([*where, 0.0]), side, 5)
    return _painted(surfaces, rng, (0.15, 0.8))


def _street(rng: np.random.Generator) -> _World:
    corner = np.array([-30.0, -15.0, 0.0])
    surfaces = [(corner, np.array([[90.0, 0, 0], [0, 30.0, 0]]))]
    for side in (-1, 1):
        x = -30.0
        while x < 55:
            length, deep, height = rng.uniform(6, 12), rng.uniform(3, 5), rng.uniform(4, 9)
            y = side * rng.uniform(7.0, 9.0)
            surfaces += _box(np.array([x, min(y, y + side * deep), 0.0]), np.array([length, deep, height]), 5)
            x += length + rng.uniform(0.0, 4.0)
    for _ in range(14):
        x, y = rng.uniform(-8, 35), rng.choice([-1, 1]) * rng.uniform(3.6, 5.2)
        car = rng.random() < 0.6
        size = rng.uniform([3.5, 1.6, 1.3], [4.8, 1.9, 2.2]) if car else np.array([0.2, 0.2, rng.uniform(3, 7)])
        surfaces += _box(np.array([x, y - size[1] / 2, 0.0]), size, 5)
    return _painted(surfaces, rng, (0.3, 2.0))


def _box(corner: F64, size: F64, faces: int) -> list[tuple[F64, F64]]:
    """Faces of a box: its sides, its top, and its floor as the sixth."""
    x, y, z = np.diag(size)
    made = [(corner, np.stack([x, z])), (corner + y, np.stack([x, z])), (corner, np.stack([y, z]))]
    made += [(corner + x, np.stack([y, z])), (corner + z, np.stack([x, y])), (corner, np.stack([x, y]))]
    return made[:faces]


def _painted(surfaces: list[tuple[F64, F64]], rng: np.random.Generator, patches: tuple[float, float]) -> _World:
    bright, infrared = [], []
    for _, sides in surfaces:
        length, tall = np.linalg.norm(sides, axis=1)
        texel = max(_TEXEL, float(np.sqrt(length * tall / 2e6)))
        shape = max(2, round(tall / texel)), max(2, round(length / texel))
        grey = float(rng.uniform(0.25, 0.9))
        a, b = np.full(shape, grey), np.full(shape, _reflected(grey, rng))
        for _ in range(min(400, 3 + round(length * tall / patches[1] ** 2 * 3))):
            across, up = rng.uniform(*patches, 2) / texel
            i, j = rng.uniform(-up, shape[0]), rng.uniform(-across, shape[1])
            spot = slice(max(0, round(i)), max(0, round(i + up))), slice(max(0, round(j)), max(0, round(j + across)))
            grey = float(rng.uniform(0.1, 1.0))
            a[spot], b[spot] = grey, _reflected(grey, rng)
        bright.append(a)
        infrared.append(b)
    return _World(np.array([c for c, _ in surfaces]), np.array([s for _, s in surfaces]), bright, infrared)


def _reflected(grey: float, rng: np.random.Generator) -> float:
    """Infrared that a material of this brightness gives back."""
    return float(np.clip(0.15 + 0.7 * grey**1.3 + rng.normal(0, 0.15), 0.05, 1.0))


def _turn(vector: F64) -> F64:
    from scipy.spatial.transform import Rotation

    return np.asarray(Rotation.from_rotvec(vector).as_matrix())
