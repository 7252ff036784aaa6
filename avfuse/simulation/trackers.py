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
