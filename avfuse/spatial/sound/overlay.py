"""Sound on the picture: how an array stands to a camera, and at which pixel a direction is seen.

The microphones and the lens are at two places. A source at distance d in direction u from the array is seen by the
camera along R u + t / d, with T_camera_array = (R, t): what is not known of d moves the pixel along a line, by
parallax, and is part of the ellipse. At f = 1000 pixels a baseline of 0.1 m moves a source at 2 m by 50 pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.transform import Rotation

from avfuse.errors import StreamError
from avfuse.rotations import cross_matrices, nearest_rotation
from avfuse.spatial.sound.sources import SoundSource
from avfuse.spatial.sound.steering import F64, angles_of, direction_of
from avfuse.transform import Camera, Rigid
from avfuse.transform_estimate import TransformEstimate, TransformStatus

NEAR_AND_FAR = (0.5, 10.0)  # metres of a source of which nothing is known
_CHOSEN = 5.9915  # 95 % of two dimensions, chi squared
_ROUNDS = 50
_CAUCHY = 2.4  # standard deviations where a residual begins to count less
_SPREAD = np.radians(4.0)  # directions that turn less than this about their mean tell no rotation
_STARTS = 20
_ALIKE = 1.15  # root mean square of residuals of two answers that fit alike


@dataclass(frozen=True, eq=False)
class SoundPixel:
    """Where a source is seen.

    pixel: `(2,)`; NaN where it is not in front of the camera. cov: `(2, 2)` pixels^2. inside: of the picture, where its
    size is known. near, far: `(2,)` pixels of the nearest and the farthest distance.
    """

    pixel: F64
    cov: F64
    inside: bool
    near: F64
    far: F64

    def ellipse(self, *, within: float = 0.95) -> tuple[float, float, float]:
        """Half axes, the long one first, and the angle of the long one from +x towards +y, radians, of the ellipse that
        holds the truth with this probability."""
        scale = -2 * np.log(1 - within)
        values, vectors = np.linalg.eigh(self.cov)
        long, short = np.sqrt(np.maximum(scale * values[::-1], 0.0))
        return float(long), float(short), float(np.arctan2(vectors[1, 1], vectors[0, 1]))

    def distance_of(self, pixel: ArrayLike) -> float:
        """Of another pixel from this one, in standard deviations of the ellipse."""
        off = np.asarray(pixel, np.float64) - self.pixel
        return float(np.sqrt(off @ np.linalg.solve(self.cov, off)))


def sound_pixels(
    sources: SoundSource | Sequence[SoundSource],
    camera: Camera,
    *,
    array: Rigid | TransformEstimate | None = None,
    distance: float | tuple[float, float] | None = None,
) -> list[SoundPixel]:
    """Where sources are seen, each with its ellipse.

    camera: takes points of the array's frame to pixels, by its own pose or, in its place, by `array`: T_camera_array,
    or its estimate, whose covariance then counts. distance: metres of the sources from the array, or the nearest and
    the farthest they may be; None takes that of the source where the array could tell, else 0.5 to 10 m.
    Raises StreamError for distances that are none, WeakAlignmentError where the estimate is a refusal.
    """
    given = [sources] if isinstance(sources, SoundSource) else list(sources)
    pose: object
    pose_cov = np.zeros((6, 6))
    if isinstance(array, TransformEstimate):
        if array.transform.kind != "rigid":
            raise StreamError(f"array: an estimate of kind {array.transform.kind}; expected a rigid T_camera_array")
        pose = array.transform
        pose_cov = np.zeros((6, 6)) if array.cov is None else array.cov
    else:
        pose = array
    if pose is None:
        pose = camera.pose
    assert isinstance(pose, Rigid)
    camera = replace(camera, pose=Rigid(np.eye(4)))
    return [_seen(one, camera, pose, pose_cov, *_distances(one, distance)) for one in given]


def _distances(source: SoundSource, distance: float | tuple[float, float] | None) -> tuple[float, float]:
    """1 / distance: its mean and standard deviation, the range taken as even in 1 / distance."""
    if distance is None:
        if source.distance is not None and source.bend_std is not None:
            return 1 / source.distance, source.bend_std
        distance = NEAR_AND_FAR
    near, far = (distance, distance) if isinstance(distance, (int, float)) else distance
    if not (0 < near <= far):
        raise StreamError(f"distance: {distance!r} m; expected a positive one, or the nearest and the farthest")
    return (1 / near + 1 / far) / 2, (1 / near - 1 / far) / np.sqrt(12)


def _seen(source: SoundSource, camera: Camera, pose: Rigid, pose_cov: F64, bend: float, bend_std: float) -> SoundPixel:
    def pixel(given: F64) -> F64:
        """given: azimuth, elevation, 1 / distance, rotation vector, shift."""
        turn = Rotation.from_rotvec(given[3:6]).as_matrix() @ pose.rotation
        ray = turn @ direction_of(given[0], given[1]) + (pose.translation + given[6:9]) * given[2]
        return camera(ray)

    mean = np.concatenate([[source.azimuth, source.elevation, bend], np.zeros(6)])
    cov = np.zeros((9, 9))
    cov[:2, :2], cov[2, 2], cov[3:, 3:] = source.cov, bend_std**2, pose_cov
    # Where a direction is bent onto a pixel, its slope changes over the ellipse: points at its edge, not a slope, tell.
    # Third-degree cubature (Arasaratnam and Haykin 2009): exact where the map is a polynomial of the third degree.
    values, vectors = np.linalg.eigh(cov)
    used = values > 1e-18
    ways = (vectors[:, used] * np.sqrt(values[used])).T
    at = pixel(mean)
    points = np.array([pixel(mean + s * np.sqrt(len(ways)) * way) for way in ways for s in (1.0, -1.0)]).reshape(-1, 2)
    nowhere = np.full(2, np.nan)
    if not (np.isfinite(at).all() and np.isfinite(points).all()):
        return SoundPixel(nowhere, np.full((2, 2), np.nan), False, nowhere, nowhere)
    off = points - at
    spread = off.T @ off / max(len(off), 1)
    ends = [
        pixel(np.concatenate([mean[:2], [b], mean[3:]])) for b in (bend + 1.7 * bend_std, max(bend - 1.7 * bend_std, 0))
    ]
    inside = camera.size is None or bool(camera.inside(at))
    return SoundPixel(at, spread + 1e-6 * np.eye(2), inside, ends[0], ends[1])


def calibrate_array(
    directions: ArrayLike,
    pixels: ArrayLike,
    camera: Camera,
    *,
    cov: ArrayLike | None = None,
    pixel_std: float = 2.0,
    translation: ArrayLike | None = None,
    translation_std: float = 0.0,
    distances: ArrayLike | None = None,
    mirror: ArrayLike | None = None,
) -> TransformEstimate:
    """How an array stands to a camera, T_camera_array, from a source that both followed.

    The camera's own pose does not count.

    directions: `(n, 2)` azimuth and elevation, or `(n, 3)` unit vectors, at n moments; pixels: `(n, 2)`, where the
    camera saw the source then. cov: `(n, 2, 2)` of azimuth and elevation, rad^2 (2 degrees where None). pixel_std: by
    which the pixels err. translation: `(3,)` metres of the array in the camera's frame as measured with a ruler, with
    its standard deviation `translation_std`; (0, 0, 0) where None, which is an array at the lens. distances: `(n,)`
    metres of the source from the array; without them and with a baseline, 0.5 to 10 m are provided for. mirror:
    normal `(3,)` of a plane array, to tell by the camera on which side of it the source was: both sides are tried.

    Only the rotation is estimated, robustly; the translation is that given. Returns `aligned`; `degenerate` where the
    source hardly moved; `ambiguous` where both sides of a plane array fit; `no_match` where most fits no rotation.
    Raises StreamError for arrays that do not fit each other.
    """
    towards, seen, cov_of = _checked(directions, pixels, cov)
    shift = np.zeros(3) if translation is None else np.asarray(translation, np.float64)
    if shift.shape != (3,) or not np.isfinite(shift).all():
        raise StreamError(f"translation: {translation!r}; expected three numbers, metres")
    usable = np.asarray(np.isfinite(towards).all(axis=1) & np.isfinite(seen).all(axis=1))
    rays = replace(camera, pose=Rigid(np.eye(4))).rays(seen)
    usable = np.asarray(usable & np.isfinite(rays).all(axis=1))
    if usable.sum() < 3:
        return _refused("degenerate", f"{int(usable.sum())} usable pairs of direction and pixel; expected at least 3")
    bend, bend_std = _bends(distances, len(towards), shift, translation_std)
    spread = _ray_cov(camera, rays, pixel_std)
    sides = [towards]
    if mirror is not None:
        normal = np.asarray(mirror, np.float64)
        normal = normal / np.linalg.norm(normal)
        sides.append(towards - 2 * (towards @ normal)[:, None] * normal)
    answers: list[_Answer] = []
    for side in sides:
        turned = _turned_cov(side if mirror is None else towards, cov_of)
        if len(answers) == 1:
            flip = np.eye(3) - 2 * np.outer(normal, normal)
            turned = flip @ turned @ flip
        answers.append(_rotation(side, rays, turned, spread, shift, bend, bend_std, usable))
    return _best_side(answers, shift, translation_std, usable)


@dataclass(frozen=True, eq=False)
class _Answer:
    status: TransformStatus
    message: str | None
    rotation: F64
    cov: F64
    residuals: F64
    inliers: np.ndarray
    size: float


def _checked(directions: ArrayLike, pixels: ArrayLike, cov: ArrayLike | None) -> tuple[F64, F64, F64]:
    d, p = np.asarray(directions, np.float64), np.asarray(pixels, np.float64)
    if d.ndim != 2 or d.shape[1] not in (2, 3):
        raise StreamError(f"directions: shape {d.shape}; expected (n, 2) angles or (n, 3) vectors")
    if p.shape != (len(d), 2):
        raise StreamError(f"pixels: shape {p.shape} for {len(d)} directions; expected ({len(d)}, 2)")
    c = np.tile(np.radians(2.0) ** 2 * np.eye(2), (len(d), 1, 1)) if cov is None else np.asarray(cov, np.float64)
    if c.shape == (2, 2):
        c = np.tile(c, (len(d), 1, 1))
    if c.shape != (len(d), 2, 2) or not np.isfinite(c).all():
        raise StreamError(f"cov: shape {c.shape} for {len(d)} directions; expected finite ({len(d)}, 2, 2)")
    if d.shape[1] == 2:
        return direction_of(d[:, 0], d[:, 1]), p, c
    with np.errstate(invalid="ignore", divide="ignore"):
        return d / np.linalg.norm(d, axis=1, keepdims=True), p, c


def _bends(distances: ArrayLike | None, n: int, shift: F64, shift_std: float) -> tuple[F64, F64]:
    """1 / distance of every moment and its standard deviation."""
    if distances is None:
        near, far = NEAR_AND_FAR
        return np.full(n, (1 / near + 1 / far) / 2), np.full(n, (1 / near - 1 / far) / np.sqrt(12))
    d = np.asarray(distances, np.float64)
    if d.shape != (n,) or not (d > 0).all():
        raise StreamError(f"distances: shape {d.shape} for {n} directions; expected ({n},) positive metres")
    return 1 / d, np.zeros(n)


def _turned_cov(towards: F64, cov: F64) -> F64:
    """`(n, 3, 3)` covariance of unit vectors, of that of their azimuth and elevation."""
    azimuth, elevation = angles_of(towards)
    by_azimuth = np.stack([-np.sin(azimuth), np.cos(azimuth), 0 * azimuth], axis=1) * np.cos(elevation)[:, None]
    by_elevation = np.stack(
        [-np.sin(elevation) * np.cos(azimuth), -np.sin(elevation) * np.sin(azimuth), np.cos(elevation)], axis=1
    )
    ways = np.stack([by_azimuth, by_elevation], axis=2)
    return np.asarray(ways @ cov @ ways.transpose(0, 2, 1))


def _ray_cov(camera: Camera, rays: F64, pixel_std: float) -> F64:
    """`(n, 3, 3)` by what the pixels err; of the middle of the picture, as good as anywhere."""
    angle = pixel_std / float(np.sqrt(camera.matrix[0, 0] * camera.matrix[1, 1]))
    across = np.eye(3) - rays[:, :, None] * rays[:, None, :]
    return np.asarray(angle**2 * across)


def _rotation(
    towards: F64, rays: F64, cov: F64, ray_cov: F64, shift: F64, bend: F64, bend_std: F64, usable: np.ndarray
) -> _Answer:
    """R with R u + t / d along the rays: all pairs as starts, then reweighted least squares (Cauchy)."""
    index = np.flatnonzero(usable)
    best, height = np.eye(3), np.inf
    for i, j in _starts(towards, index):
        turn = _from_two(towards[[i, j]], rays[[i, j]], shift, bend[[i, j]])
        cost = -float(np.median(np.sum(_along(turn, towards, shift, bend)[index] * rays[index], axis=1)))
        if cost < height:
            best, height = turn, cost
    # All distances are likely wrong the same way: half of what is not known of them is one number for all.
    own_std, common_std = bend_std / np.sqrt(2), float(np.mean(bend_std)) / np.sqrt(2)
    bears = common_std > 0 and float(np.linalg.norm(shift)) > 0
    common = 0.0
    for _ in range(_ROUNDS):
        z, off, inverse = _standard(best, towards, rays, cov, ray_cov, shift, bend + common, own_std)
        # Robust by the size of what most do: stated covariances may be too small.
        scale = max(1.0, float(np.median(z[index])) / 1.177)
        weight = np.where(usable, 1 / (1 + (z / scale / _CAUCHY) ** 2), 0.0)
        ways = _ways(best, towards, shift)
        information = np.einsum("n,nij,nik,nkl->jl", weight, ways, inverse, ways)
        right = -np.einsum("n,nij,nik,nk->j", weight, ways, inverse, off)
        _prior(information, right, common, common_std if bears else 0.0)
        step = np.linalg.solve(information + 1e-9 * np.trace(information) * np.eye(4), right)
        best = Rotation.from_rotvec(step[:3]).as_matrix() @ best
        common += float(step[3])
        if np.linalg.norm(step[:3]) < 1e-9:
            break
    z, off, inverse = _standard(best, towards, rays, cov, ray_cov, shift, bend + common, own_std)
    scale = max(1.0, float(np.median(z[index])) / 1.177)
    inliers = usable & (z < np.sqrt(_CHOSEN) * 1.25 * scale)
    pull = (z / scale / _CAUCHY) ** 2
    weight = np.where(usable, 1 / (1 + pull), 0.0)
    ways = _ways(best, towards, shift)
    pulls = np.einsum("n,nij,nik,nk->nj", weight, ways, inverse, off)
    slopes = np.einsum("n,nij,nik,nkl->jl", weight * np.maximum(1 - weight * pull, 0.4), ways, inverse, ways)
    _prior(slopes, np.zeros(4), 0.0, common_std if bears else 0.0)
    stated = scale**2 * np.linalg.inv(slopes + 1e-9 * np.trace(slopes) * np.eye(4))
    # Errors of moments that follow each other hang together (one reflection, one bias): sums of runs, not of moments.
    runs = np.array([pulls[k : k + 4].sum(axis=0) for k in range(0, len(pulls), 4)])
    if len(runs) >= 8:
        inverse_slopes = stated / scale**2
        scattered = inverse_slopes @ (runs.T @ runs) @ inverse_slopes * (len(runs) / (len(runs) - 4))
        stated = np.maximum(1.0, np.trace(scattered[:3, :3]) / np.trace(stated[:3, :3])) * stated
    values = np.linalg.eigvalsh(np.cov(towards[inliers].T)) if inliers.sum() > 2 else np.zeros(3)
    status: TransformStatus = "aligned"
    message = None
    if inliers.sum() < max(3, 0.4 * usable.sum()) or scale > 6:
        status = "no_match"
        message = "most pairs fit no rotation: is it the same source, on one clock, and is the lens right?"
    elif np.sqrt(max(values[-1], 0)) < _SPREAD:
        status = "degenerate"
        message = "the source hardly moved, so the turn about its direction is open; let it move over the whole picture"
    angles = np.arccos(np.clip(np.sum(_along(best, towards, shift, bend + common) * rays, axis=1), -1, 1))
    size = float(np.sqrt(np.mean(np.minimum(z[index], 6.0) ** 2)))
    return _Answer(status, message, best, stated[:3, :3], angles, inliers, size)


def _ways(turn: F64, towards: F64, shift: F64) -> F64:
    """`(n, 3, 4)`: of R u + t / d when R turns by a small vector, and when 1 / d changes."""
    return np.concatenate([-cross_matrices(towards @ turn.T), np.tile(shift[:, None], (len(towards), 1, 1))], axis=2)


def _prior(information: F64, right: F64, common: float, std: float) -> None:
    """What is known of the common error of 1 / distance; nothing is to be learnt of it where std is 0."""
    information[3, 3] += 1 / std**2 if std > 0 else 1e12
    right[3] -= common / std**2 if std > 0 else 0.0


def _starts(towards: F64, index: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of moments whose directions lie well apart, evenly over all."""
    picked = index[np.unique(np.linspace(0, len(index) - 1, min(len(index), 24)).astype(int))]
    pairs = list(combinations(picked, 2))
    pairs.sort(key=lambda pair: abs(abs(float(towards[pair[0]] @ towards[pair[1]])) - 0.2))
    return [(int(i), int(j)) for i, j in pairs[:: max(1, len(pairs) // _STARTS)] + pairs[:_STARTS]]


def _from_two(towards: F64, rays: F64, shift: F64, bend: F64) -> F64:
    """Rotation that takes two directions to two rays (Kabsch), its parallax taken off as from the first answer."""
    aims = rays
    turn = np.eye(3)
    for _ in range(2):
        turn = nearest_rotation(aims.T @ towards)
        # R u = ray * length - t / d, with the length that keeps |R u| = 1.
        b = shift * bend[:, None]
        along = np.sum(rays * b, axis=1)
        length = along + np.sqrt(np.maximum(along**2 + 1 - np.sum(b**2, axis=1), 1e-9))
        aims = rays * length[:, None] - b
    return np.asarray(turn)


def _along(turn: F64, towards: F64, shift: F64, bend: F64) -> F64:
    made = towards @ turn.T + shift * bend[:, None]
    return np.asarray(made / np.linalg.norm(made, axis=1, keepdims=True))


def _standard(
    turn: F64, towards: F64, rays: F64, cov: F64, ray_cov: F64, shift: F64, bend: F64, bend_std: F64
) -> tuple[F64, F64, F64]:
    """Residuals in standard deviations `(n,)`, as vectors across the rays `(n, 3)`, and inverse covariances."""
    made = towards @ turn.T + shift * bend[:, None]
    size = np.linalg.norm(made, axis=1)
    off = made / size[:, None] - rays
    whole = turn @ cov @ turn.T / size[:, None, None] ** 2 + ray_cov
    whole = whole + (shift[:, None] * shift) * (bend_std**2)[:, None, None]
    # A direction has two ways to err; the third, along the ray, is given one that lets nothing through.
    across = np.eye(3) - rays[:, :, None] * rays[:, None, :]
    inverse = across @ np.linalg.inv(across @ whole @ across + rays[:, :, None] * rays[:, None, :]) @ across
    z = np.sqrt(np.maximum(np.einsum("ni,nij,nj->n", off, inverse, off), 0.0))
    z = np.where(np.sum(made * rays, axis=1) > 0, z, 1e3)
    return np.nan_to_num(z, nan=1e3), np.nan_to_num(off), np.nan_to_num(inverse)


def _best_side(answers: list[_Answer], shift: F64, shift_std: float, usable: np.ndarray) -> TransformEstimate:
    ranked = sorted(answers, key=lambda one: (one.status != "aligned", one.size))
    best = ranked[0]
    poses = [Rigid.from_parts(one.rotation, shift) for one in ranked]
    told = {"kind": "rigid", "side": answers.index(best), "size": best.size}
    if best.status != "aligned":
        return TransformEstimate(best.status, message=best.message, residuals=best.residuals, diagnostics=told)
    if len(ranked) > 1 and ranked[1].status == "aligned" and ranked[1].size < _ALIKE * best.size:
        return TransformEstimate(
            "ambiguous", message="both sides of the plane array fit; let the source rise and fall, too",
            candidates=tuple(poses), residuals=best.residuals, diagnostics=told,
        )  # fmt: skip
    cov = np.zeros((6, 6))
    cov[:3, :3], cov[3:, 3:] = best.cov, shift_std**2 * np.eye(3)
    share = float(best.inliers.sum() / usable.sum())
    return TransformEstimate(
        "aligned",
        poses[0],
        cov,
        best.inliers,
        best.residuals,
        confidence=min(0.99, 0.5 + 0.5 * share),
        diagnostics=told,
    )


def _refused(status: TransformStatus, message: str) -> TransformEstimate:
    return TransformEstimate(status, message=message, diagnostics={"kind": "rigid"})
