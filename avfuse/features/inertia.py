"""What moved bodies feel, from where they were: rotation rate, velocity and the parts of specific force of poses."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from avfuse.errors import StreamError
from avfuse.stream import Stream

F64 = NDArray[np.float64]

_SMOOTH, _SAVGOL = 0.35, 5  # seconds of poses, and how many of them at least, that tell an acceleration
_GAP = 5.0  # steps without a pose that are a gap


def rotation_rate(stream: Stream) -> Stream:
    """Rotation rate in the body's own frame, rad/s `(n - 1, 3)`, at the middle between samples.

    stream: orientations `(n, 4)` qx qy qz qw, or poses `(n, 7)` x y z qx qy qz qw. Samples with NaN or at one time with
    the one before are left out. Raises StreamError for other shapes and quaternions of length 0.
    """
    from scipy.spatial.transform import Rotation

    times, values = _whole(stream, {"orientation": 4, "pose": 7})
    quaternions = values[:, -4:]
    if len(quaternions) and not (np.linalg.norm(quaternions, axis=1) > 1e-6).all():
        raise StreamError(f"Stream {stream.name!r}: quaternions of length 0; expected qx qy qz qw in the last columns")
    turns = Rotation.from_quat(quaternions)
    rates = (turns[:-1].inv() * turns[1:]).as_rotvec() / np.diff(times)[:, None]
    middle = (times[:-1] + times[1:]) / 2
    return Stream(stream.name, "rotation_rate", rates, times=middle, unit="rad/s", channels=("x", "y", "z"))


def velocity(stream: Stream) -> Stream:
    """Velocity of poses in the frame that they are given in, `(n - 1, 3)` per second, at the middle between samples."""
    times, values = _whole(stream, {"pose": 7})
    speeds = np.diff(values[:, :3], axis=0) / np.diff(times)[:, None]
    middle = (times[:-1] + times[1:]) / 2
    return Stream(stream.name, "other", speeds, times=middle, unit="m/s", channels=("x", "y", "z"))


def force_parts(stream: Stream) -> Stream:
    """What the specific force R^T (p'' - g) on a body is made of, in the body's own frame.

    `(n, 12)` of poses: R^T p'', R^T e_x, R^T e_y, R^T e_z; of orientations the last nine of these. An accelerometer on
    the body measures a linear map of them, whatever the direction of gravity g in the frame of the poses, and however
    it is mounted. Even steps at the poses' own rate; NaN across gaps.
    """
    from scipy.signal import savgol_filter
    from scipy.spatial.transform import Rotation

    times, values = _whole(stream, {"orientation": 4, "pose": 7})
    step = float(np.median(np.diff(times)))
    grid = np.arange(times[0], times[-1], step)
    signs = np.cumprod(np.sign(np.concatenate([[1.0], (values[1:, -4:] * values[:-1, -4:]).sum(axis=1)])) + 0.0)
    values[:, -4:] *= np.where(signs == 0, 1.0, signs)[:, None]
    even = np.stack([np.interp(grid, times, column) for column in values.T], axis=1)
    length = np.linalg.norm(even[:, -4:], axis=1)
    matrices = Rotation.from_quat(np.where(length[:, None] > 1e-6, even[:, -4:], [0.0, 0.0, 0.0, 1.0])).as_matrix()
    parts = [matrices.reshape(len(grid), 9)]
    window = int(_SMOOTH / step) // 2 * 2 + 1
    if stream.kind == "pose":
        if not _SAVGOL < window <= len(grid):
            raise StreamError(
                f"Stream {stream.name!r}: poses every {step:.3g} s; expected {_SMOOTH / _SAVGOL:.2g} or less"
            )
        pushed = savgol_filter(even[:, :3], window, 3, deriv=2, delta=step, axis=0)
        parts.insert(0, np.einsum("nji,nj->ni", matrices, pushed))
    made = np.hstack(parts)
    after = np.clip(np.searchsorted(times, grid), 1, len(times) - 1)
    made[times[after] - times[after - 1] > _GAP * step] = np.nan
    return Stream(stream.name, "other", made, times=grid)


def _whole(stream: Stream, widths: dict[str, int]) -> tuple[F64, F64]:
    if stream.kind not in widths:
        raise StreamError(f"Stream {stream.name!r} is of kind {stream.kind}; expected {' or '.join(widths)}")
    parts = list(stream.blocks(60.0))
    times = np.concatenate([t for t, _ in parts]) if parts else np.zeros(0)
    values = np.concatenate([np.asarray(v, np.float64) for _, v in parts]) if parts else np.zeros((0, 0))
    if values.ndim != 2 or values.shape[1] != widths[stream.kind]:
        raise StreamError(
            f"Stream {stream.name!r}: {stream.kind} of shape {values.shape}; expected (n, {widths[stream.kind]})"
        )
    keep = np.isfinite(values).all(axis=1)
    keep[1:] &= np.diff(times) > 0
    if keep.sum() < 2:
        raise StreamError(f"Stream {stream.name!r}: {int(keep.sum())} usable samples; expected two or more")
    return times[keep], values[keep]
