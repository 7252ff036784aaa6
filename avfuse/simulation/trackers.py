"""Two trackers on one body, each telling noisy poses in a world and on a clock of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from avfuse.errors import StreamError
from avfuse.stream import Stream
from avfuse.transform import Rigid

F64 = NDArray[np.float64]
Turning = Literal["free", "planar", "still"]


@dataclass(frozen=True, eq=False)
class TrackerPair:
    """reference, moving: pose streams. truth: T_ref_mov, on the body. offset: t_ref = t_moving + offset [s]."""

    reference: Stream
    moving: Stream
    truth: Rigid
    offset: float


def simulate_trackers(
    rng: np.random.Generator, *, duration: float = 30.0, rates: tuple[float, float] = (50.0, 30.0),
    turn_noise: float = 0.003, shift_noise: float = 0.002, outliers: float = 0.0, turning: Turning = "free",
    related: bool = True,
) -> TrackerPair:  # fmt: skip
    """turn_noise: radians, shift_noise: metres, one sigma. outliers: share of wild poses of the moving tracker.
    turning: `planar` bodies turn about the upright axis and stay level, `still` ones neither turn nor move.
    related: False moves the second tracker on its own."""
    if turning not in get_args(Turning):
        raise StreamError(f"simulate_trackers: turning {turning!r}; expected one of {', '.join(get_args(Turning))}")
    truth = Rigid.from_parts(Rotation.random(random_state=rng).as_matrix(), rng.uniform(-0.3, 0.3, 3))
    world = Rigid.from_parts(Rotation.random(random_state=rng).as_matrix(), rng.uniform(-2, 2, 3))
    offset = float(rng.uniform(-2, 2))
    paths = [_path(rng, turning)]
    paths.append(paths[0] if related else _path(rng, turning))
    made = []
    for k, (path, rate) in enumerate(zip(paths, rates, strict=True)):
        times = np.arange(0.0, duration, 1 / rate) + rng.uniform(0, 1 / rate)
        turns, places = path(times if k == 0 else times + offset)
        if k == 1:
            places = places + turns.apply(truth.translation.copy())
            turns = turns * Rotation.from_matrix(truth.rotation.copy())
            turns, places = Rotation.from_matrix(world.rotation.copy()) * turns, world(places)
        n = len(times)
        turns = turns * Rotation.from_rotvec(rng.normal(0, turn_noise, (n, 3)))
        places = places + rng.normal(0, shift_noise, (n, 3))
        if k == 1 and outliers:
            wild = rng.random(n) < outliers
            turns = Rotation.from_matrix(
                np.where(wild[:, None, None], Rotation.random(n, random_state=rng).as_matrix(), turns.as_matrix())
            )
            places = places + wild[:, None] * rng.normal(0, 0.5, (n, 3))
        values = np.concatenate([places, turns.as_quat()], axis=1)
        made.append(Stream("pose", "pose", values, times=times))
    return TrackerPair(made[0], made[1], truth, offset)


@dataclass(frozen=True, eq=False)
class ImuPair:
    """rates, accelerations: of the reference and of the moving, rad/s and m/s^2. poses: of the reference's body.
    truth: T_ref_mov, on the body. offset: t_ref = t_moving + offset [s]."""

    rates: tuple[Stream, Stream]
    accelerations: tuple[Stream, Stream]
    poses: Stream
    truth: Rigid
    offset: float


def simulate_imus(
    rng: np.random.Generator, *, duration: float = 30.0, rates: tuple[float, float] = (200.0, 125.0),
    rate_noise: float = 0.01, force_noise: float = 0.05, pose_noise: tuple[float, float] = (0.002, 0.001),
    turning: Turning = "free", related: bool = True,
) -> ImuPair:  # fmt: skip
    """Two inertial sensors apart on one body, each with biases, noise and a clock of its own; and a tracker of poses.

    rate_noise: rad/s, force_noise: m/s^2, pose_noise: radians and metres, one sigma of each sample. turning, related:
    as of `simulate_trackers`."""
    if turning not in get_args(Turning):
        raise StreamError(f"simulate_imus: turning {turning!r}; expected one of {', '.join(get_args(Turning))}")
    truth = Rigid.from_parts(Rotation.random(random_state=rng).as_matrix(), rng.uniform(-0.3, 0.3, 3))
    offset = float(rng.uniform(-2, 2))
    paths = [_path(rng, turning)]
    paths.append(paths[0] if related else _path(rng, turning))
    step, up = 1e-3, np.array([0.0, 0.0, 9.81])  # seconds, short beside any wave; m/s^2
    turned: list[Stream] = []
    felt: list[Stream] = []
    for k, (path, rate) in enumerate(zip(paths, rates, strict=True)):
        times = np.arange(0.0, duration, 1 / rate) + rng.uniform(0, 1 / rate)
        at = times if k == 0 else times + offset
        mount = Rigid(np.eye(4)) if k == 0 else truth
        seen = []
        for late in (-step, 0.0, step):
            body, places = path(at + late)
            seen.append(
                (body * Rotation.from_matrix(mount.rotation.copy()), places + body.apply(mount.translation.copy()))
            )
        spin = (seen[0][0].inv() * seen[2][0]).as_rotvec() / (2 * step)
        pushed = (seen[0][1] - 2 * seen[1][1] + seen[2][1]) / step**2
        force = seen[1][0].inv().apply(pushed + up)
        for made, kind, unit, values, noise, bias in (
            (turned, "rotation_rate", "rad/s", spin, rate_noise, 0.01),
            (felt, "acceleration", "m/s^2", force, force_noise, 0.1),
        ):
            values = values + rng.normal(0, bias, 3) + rng.normal(0, noise, values.shape)
            made.append(Stream(kind, kind, values, times=times, unit=unit))  # type: ignore[arg-type]
    times = np.arange(0.0, duration, 0.02)
    body, places = paths[0](times)
    body = body * Rotation.from_rotvec(rng.normal(0, pose_noise[0], (len(times), 3)))
    places = places + rng.normal(0, pose_noise[1], places.shape)
    poses = Stream("pose", "pose", np.concatenate([places, body.as_quat()], axis=1), times=times)
    return ImuPair((turned[0], turned[1]), (felt[0], felt[1]), poses, truth, offset)


class _path:
    """Sums of slow waves."""

    def __init__(self, rng: np.random.Generator, turning: Turning) -> None:
        self.rates = rng.uniform(0.1, 0.8, (6, 6)) * 2 * np.pi
        self.phases = rng.uniform(0, 2 * np.pi, (6, 6))
        self.sizes = np.repeat([0.35, 0.3], 3)[:, None] * rng.uniform(0.3, 1.0, (6, 6))
        if turning == "planar":
            self.sizes[[0, 1, 5]] = 0.0
        elif turning == "still":
            self.sizes[:] = 0.0

    def __call__(self, times: F64) -> tuple[Rotation, F64]:
        waves = (self.sizes * np.sin(times[:, None, None] * self.rates + self.phases)).sum(axis=2)
        return Rotation.from_rotvec(waves[:, :3]), waves[:, 3:]
