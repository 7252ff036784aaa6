"""From how far away `calibrate_depth` comes to one answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from avfuse.errors import StreamError
from avfuse.spatial.depth.calibration import Frame, calibrate_depth
from avfuse.spatial.depth.pose_box import moved
from avfuse.transform import Camera, Rigid
from avfuse.transform_estimate import TransformEstimate

F64 = NDArray[np.float64]

_SAME = (np.radians(0.1), 0.02)  # radians and metres, or five standard deviations where that is more


@dataclass(frozen=True, eq=False)
class Basin:
    """What became of calibrations from several starts.

    rotation, translation: by how much starts were off at most, radians about each axis and metres along each. starts:
    the poses begun from. estimates: what came of each. same: `(n,)` bool, those that came to `answer`: the one that
    most others agree with, None where none answered.
    """

    rotation: float
    translation: float
    starts: tuple[Rigid, ...]
    estimates: tuple[TransformEstimate, ...]
    same: NDArray[np.bool_]
    answer: TransformEstimate | None

    @property
    def share(self) -> float:
        """Of all starts, how many came to the one answer."""
        return float(self.same.mean())

    @property
    def astray(self) -> int:
        """How many answered something else: refusals are none of these."""
        return sum(e.status == "aligned" for e in self.estimates) - int(self.same.sum())


def calibration_basin(
    frames: Sequence[Frame],
    camera: Camera,
    near: Rigid,
    *,
    rotation: float,
    translation: float,
    starts: int = 10,
    rng: np.random.Generator | int | None = 0,
) -> Basin:
    """Calibrations from starts off `near` by up to rotation (radians) about and translation (metres) along each axis.

    frames, camera: as of `calibrate_depth`. Raises StreamError for no starts and for negative sizes.
    """
    if starts < 1 or rotation < 0 or translation < 0:
        raise StreamError(
            f"calibration_basin: {starts} starts off by {rotation!r} rad and {translation!r} m; expected one or more, "
            "and no negative sizes"
        )
    rng = np.random.default_rng(rng)
    limits = np.repeat([rotation, translation], 3)
    begun = tuple(moved(near, rng.uniform(-limits, limits)) for _ in range(starts))
    found = tuple(calibrate_depth(frames, camera, start) for start in begun)
    agrees = np.array([[_agree(a, b) for b in found] for a in found])
    most = int(np.argmax(agrees.sum(axis=1)))
    answer = found[most] if agrees[most].any() else None
    return Basin(rotation, translation, begun, found, agrees[most], answer)


def _agree(a: TransformEstimate, b: TransformEstimate) -> bool:
    if not (isinstance(a.answer, Rigid) and isinstance(b.answer, Rigid)):
        return False
    turned, shifted = difference(a.answer, b.answer)
    std = np.maximum(a.std, b.std)
    return bool(
        np.linalg.norm(turned) <= max(_SAME[0], 5 * float(np.linalg.norm(std[:3])))
        and np.linalg.norm(shifted) <= max(_SAME[1], 5 * float(np.linalg.norm(std[3:])))
    )


def difference(a: Rigid, b: Rigid) -> tuple[F64, F64]:
    """(rotation vector, translation) with R_a = exp(r) R_b and t_a = t_b + d."""
    vector = Rotation.from_matrix(a.rotation @ b.rotation.T).as_rotvec()
    return np.asarray(vector), np.asarray(a.translation - b.translation)
