"""A camera that turns before a far scene, its rows read one after the other, and a gyroscope on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avfuse.clock import ClockMap
from avfuse.errors import StreamError
from avfuse.simulation.motions import MARGIN, MOTION_RATE, Motion, motion_rates
from avfuse.stream import Stream

F64 = NDArray[np.float64]
Image = NDArray[np.uint8]

_AROUND = 1500  # pixels of the scene around the horizon, a quarter as many cells of random brightness
_GRAIN = 2.0  # grey levels of each frame's own noise


@dataclass(frozen=True, eq=False)
class TurningCamera:
    """What a camera saw and what the gyroscope on it measured.

    truth: gyroscope -> picture, where a frame's time is that of its middle row. matrix: v_camera = matrix @ v_gyro.
    readout: seconds from the first row to the last. focal: in widths.
    """

    picture: Stream
    gyro: Stream
    truth: ClockMap
    matrix: F64
    readout: float
    focal: float


def simulate_turning_camera(
    duration: float,
    rng: np.random.Generator,
    *,
    readout: float = 0.016,
    rate: float = 30.0,
    gyro_rate: float = 200.0,
    size: tuple[int, int] = (320, 180),
    motion: Motion = "hand",
    strength: float = 0.5,
    noise_db: float = -20.0,
    focal: float | None = None,
) -> TurningCamera:
    """A film of `duration` seconds, grey `(n, height, width)`, and the gyroscope on the camera, for all but a tenth.

    readout: seconds; negative where the last row is read first, 0 for a global shutter. size: (width, height).
    strength: rad/s rms about the strongest axis. noise_db: of the gyroscope over the motion. focal: in widths; None
    draws 0.7 to 1.1. Axes, offset, drift and bias are drawn. Raises StreamError where rows take longer than a frame.
    """
    if abs(readout) > 1 / rate:
        raise StreamError(f"simulate_turning_camera: rows take {readout} s at {rate} fps; expected 1/rate at most")
    from scipy.interpolate import CubicSpline
    from scipy.spatial.transform import Rotation, Slerp

    focal = float(rng.uniform(0.7, 1.1)) if focal is None else focal
    rates = strength * motion_rates(motion, duration + 2 * MARGIN, 5.0, rng)
    grid = np.arange(rates.shape[1]) / MOTION_RATE - MARGIN
    truth = ClockMap(float(rng.uniform(-0.3, 0.4) * min(duration, 10.0)), float(rng.normal(0, 20e-6)))
    matrix = Rotation.random(random_state=int(rng.integers(2**31))).as_matrix()

    own = np.arange(int(0.9 * duration * gyro_rate)) / gyro_rate
    values = CubicSpline(grid, rates.T)(truth(own)) @ matrix
    level = max(float(np.sqrt((rates**2).mean())), 0.02) * 10 ** (noise_db / 20)
    values = values + level * rng.standard_normal(values.shape) + 0.01 * rng.standard_normal(3)
    gyro = Stream("rotation_rate", "rotation_rate", values, times=own, unit="rad/s", channels=("x", "y", "z"))

    steps = Rotation.from_rotvec((rates[:, 1:] + rates[:, :-1]).T / 2 / MOTION_RATE).as_matrix()
    turns = np.empty((len(grid), 3, 3))  # world <- camera
    turns[0] = np.eye(3)
    for k, step in enumerate(steps):
        turns[k + 1] = turns[k] @ step
    where = Slerp(grid, Rotation.from_matrix(turns))
    times = np.arange(int(duration * rate)) / rate
    height = size[1]
    rows = readout * ((np.arange(height) + 0.5) / height - 0.5)
    scene = _scene(rng)
    frames = [_frame(scene, where(t + rows).as_matrix(), size, focal * max(size), rng) for t in times]
    return TurningCamera(Stream("picture", "picture", np.stack(frames), times=times), gyro, truth, matrix, readout,
                         focal)  # fmt: skip


def _scene(rng: np.random.Generator) -> Image:
    """All around, longitude by latitude: fine and coarse patches of brightness."""
    import cv2

    size = (_AROUND, _AROUND // 2)
    layers = [
        cv2.resize(rng.random((size[1] // cell, size[0] // cell)).astype(np.float32), size,
                   interpolation=cv2.INTER_CUBIC)
        for cell in (5, 20, 60)
    ]  # fmt: skip
    mixed = 0.5 * layers[0] + 0.3 * layers[1] + 0.2 * layers[2]
    return np.asarray(np.clip(20 + 215 * mixed, 0, 255), np.uint8)


def _frame(scene: Image, turns: F64, size: tuple[int, int], focal: float, rng: np.random.Generator) -> Image:
    """turns: world <- camera of every row, `(height, 3, 3)`; focal: pixels."""
    import cv2

    width, height = size
    x = (np.arange(width) + 0.5 - width / 2) / focal
    y = (np.arange(height) + 0.5 - height / 2) / focal
    columns = turns.astype(np.float32)[..., None]  # (height, world axis, camera axis, 1)
    rays = columns[:, :, 0] * x.astype(np.float32) + columns[:, :, 1] * y.astype(np.float32)[:, None, None]
    rays = rays + columns[:, :, 2]  # (height, world axis, width)
    around = np.arctan2(rays[:, 0], rays[:, 2]) * np.float32(_AROUND / (2 * np.pi)) + np.float32(_AROUND / 2)
    level = np.arctan2(rays[:, 1], np.hypot(rays[:, 0], rays[:, 2]))
    level = level * np.float32(_AROUND / (2 * np.pi)) + np.float32(_AROUND / 4)
    seen = cv2.remap(scene, around, level, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    noisy = seen + np.float32(_GRAIN) * rng.standard_normal(seen.shape, dtype=np.float32)
    return np.asarray(np.clip(noisy, 0, 255), np.uint8)
