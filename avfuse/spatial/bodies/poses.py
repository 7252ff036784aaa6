"""Poses over time: where a body was and how it was turned, between the moments at which that was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicHermiteSpline
from scipy.spatial.transform import Rotation

from avfuse.errors import StreamError
from avfuse.stream import Stream
from avfuse.transform import Rigid

F64 = NDArray[np.float64]

_GAP = 5.0  # median steps without a pose that are a gap


@dataclass(frozen=True, eq=False)
class Poses:
    """times: `(n,)` seconds, rising. positions: `(n, 3)`. rotations: body -> the frame poses are given in."""

    times: F64
    positions: F64
    rotations: Rotation

    def __len__(self) -> int:
        return len(self.times)

    @classmethod
    def of(cls, given: Stream | tuple[ArrayLike, ArrayLike], argument: str, called: str) -> Poses:
        """given: a pose stream, `(n, 7)` x y z qx qy qz qw, or (times `(n,)`, poses `(n, 7)` or `(n, 4, 4)`).

        Samples with NaN or at one time with the one before are left out. Raises StreamError for anything else, and for
        fewer than three.
        """
        if isinstance(given, Stream):
            if given.kind != "pose":
                raise StreamError(f"{called}: {argument} is a stream of {given.kind}; expected one of pose")
            parts = list(given.blocks(60.0))
            times = np.concatenate([t for t, _ in parts]) if parts else np.zeros(0)
            values = np.concatenate([np.asarray(v, np.float64) for _, v in parts]) if parts else np.zeros((0, 7))
        else:
            try:
                times, values = (np.asarray(x, np.float64) for x in given)
            except (TypeError, ValueError):
                raise StreamError(
                    f"{called}: {argument} is {type(given).__name__}; expected a pose Stream or (times, poses)"
                ) from None
        n = len(times) if times.ndim == 1 else -1
        if values.shape == (n, 4, 4):
            values = _rows(values, argument, called)
        if values.shape != (n, 7):
            raise StreamError(
                f"{called}: {argument} has times {times.shape} and poses {values.shape}; expected (n,) and (n, 7) "
                "x y z qx qy qz qw or (n, 4, 4)"
            )
        keep = np.isfinite(times) & np.isfinite(values).all(axis=1)
        times, values = times[keep], values[keep]
        if (np.diff(times) < 0).any():
            raise StreamError(f"{called}: the times of {argument} do not rise; sort its poses by time")
        fresh = np.ones(len(times), bool)
        fresh[1:] = np.diff(times) > 0
        times, values = times[fresh], values[fresh]
        if len(times) < 3:
            raise StreamError(f"{called}: {argument} has {len(times)} usable poses; expected at least 3")
        if not (np.linalg.norm(values[:, 3:], axis=1) > 1e-6).all():
            raise StreamError(f"{called}: {argument} has quaternions of length 0; expected qx qy qz qw")
        return cls(times, values[:, :3], Rotation.from_quat(values[:, 3:]))

    @property
    def step(self) -> float:
        return float(np.median(np.diff(self.times)))

    @property
    def stream(self) -> Stream:
        values = np.concatenate([self.positions, self.rotations.as_quat()], axis=1)
        return Stream("pose", "pose", values, times=self.times)

    def known(self, times: F64, gap: float | None = None) -> NDArray[np.bool_]:
        """Which of `times` lie between two poses that are not further apart than `gap` seconds (five median steps)."""
        after = np.clip(np.searchsorted(self.times, times), 1, len(self.times) - 1)
        short = self.times[after] - self.times[after - 1] <= (_GAP * self.step if gap is None else gap)
        inside = (times >= self.times[0]) & (times <= self.times[-1])
        exact = (times == self.times[after]) | (times == self.times[after - 1])
        return np.asarray(inside & (short | exact))

    def at(self, times: F64) -> Poses:
        """At other times within: positions by cubics with the slopes of three neighbours, rotations along the arc."""
        times = np.clip(times, self.times[0], self.times[-1])
        return Poses(times, self.curve(times), self.turned(times))

    @property
    def curve(self) -> CubicHermiteSpline:
        return CubicHermiteSpline(self.times, self.positions, np.gradient(self.positions, self.times, axis=0))

    def turned(self, times: F64) -> Rotation:
        after = np.clip(np.searchsorted(self.times, times), 1, len(self.times) - 1)
        before = after - 1
        part = (times - self.times[before]) / (self.times[after] - self.times[before])
        arc = (self.rotations[before].inv() * self.rotations[after]).as_rotvec()
        return self.rotations[before] * Rotation.from_rotvec(arc * part[:, None])


def matrices_of(poses: ArrayLike | Sequence[Rigid], argument: str, called: str) -> F64:
    """`(n, 4, 4)` of poses given as such, as `(n, 7)` x y z qx qy qz qw, or as Rigids. Raises StreamError for else."""
    if isinstance(poses, (list, tuple)) and poses and all(isinstance(p, Rigid) for p in poses):
        return np.stack([p.matrix for p in poses])
    try:
        values = np.array(poses, np.float64)  # a copy: SciPy's rotations take no array that is read only
    except (TypeError, ValueError):
        values = np.zeros(0)
    if values.ndim == 3 and values.shape[1:] == (4, 4):
        _rows(values, argument, called)
        return values
    if values.ndim != 2 or values.shape[1] != 7 or not np.isfinite(values).all():
        raise StreamError(
            f"{called}: {argument} of shape {values.shape}; expected finite poses (n, 7) x y z qx qy qz qw or (n, 4, 4)"
        )
    if not (np.linalg.norm(values[:, 3:], axis=1) > 1e-6).all():
        raise StreamError(f"{called}: {argument} has quaternions of length 0; expected qx qy qz qw")
    made = np.tile(np.eye(4), (len(values), 1, 1))
    made[:, :3, :3], made[:, :3, 3] = Rotation.from_quat(values[:, 3:]).as_matrix(), values[:, :3]
    return made


def _rows(matrices: F64, argument: str, called: str) -> F64:
    """`(n, 7)` of `(n, 4, 4)`; rows of NaN stay."""
    whole = np.isfinite(matrices).all(axis=(1, 2))
    turns = matrices[whole, :3, :3]
    skew = np.abs(turns @ turns.transpose(0, 2, 1) - np.eye(3)).max(initial=0.0)
    if skew > 1e-4 or (len(turns) and np.linalg.det(turns).min() < 0):
        raise StreamError(
            f"{called}: matrices of {argument} are no rigid poses; expected rotations in their first rows"
        )
    made = np.full((len(matrices), 7), np.nan)
    made[whole, :3] = matrices[whole, :3, 3]
    if whole.any():
        made[whole, 3:] = Rotation.from_matrix(turns).as_quat()
    return made
