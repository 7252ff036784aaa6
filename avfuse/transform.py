"""Maps of space: x_ref = T(x), as clocks are maps of time.

Rigid, Similarity, Affine, Homography   points of one frame -> points of another, by a matrix
Fundamental                             points of one picture -> lines of another on which they lie
Camera                                  points in space -> pixels, with the lens's distortion

All are called on `(n, d)` points, compose with `@` (neighbours cancel: T_ref_cam @ T_cam_imu) and have `inverse()`.
Source: Hartley and Zisserman, Multiple View Geometry, 2nd ed., chapters 2, 6 and 9.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from avfuse.errors import StreamError

F64 = NDArray[np.float64]

_ORTHOGONAL = 1e-6  # by which R^T R may differ from the identity
_DISTORTIONS = (0, 4, 5, 8, 12, 14)  # coefficients, in OpenCV's order
_UNDISTORT = (100, 1e-12)  # rounds and change of a normalised coordinate that end the search


@dataclass(frozen=True, eq=False)
class Homography:
    """Lines stay lines. matrix: `(d + 1, d + 1)` on homogeneous coordinates, its last entry 1 where it can be."""

    kind: ClassVar[str] = "homography"
    matrix: F64

    def __post_init__(self) -> None:
        matrix = np.array(self.matrix, np.float64)
        if matrix.shape not in ((3, 3), (4, 4)) or not np.isfinite(matrix).all():
            raise StreamError(
                f"{type(self).__name__}: matrix of shape {matrix.shape}; expected a finite (3, 3) for the plane or "
                "(4, 4) for space"
            )
        matrix.flags.writeable = False
        object.__setattr__(self, "matrix", matrix)
        self._check()

    def _check(self) -> None:
        # Columns and rows of size 1: a shift of kilometres does not make a rotation singular.
        balanced = self.matrix / np.maximum(np.abs(self.matrix).max(axis=0), 1e-300)
        balanced = balanced / np.maximum(np.abs(balanced).max(axis=1, keepdims=True), 1e-300)
        if abs(np.linalg.det(balanced)) < 1e-14:
            raise StreamError(f"{type(self).__name__}: its matrix is singular; expected one that has an inverse")
        last = self.matrix[-1, -1]
        if last not in (0.0, 1.0) and abs(last) > 1e-12 * np.abs(self.matrix).max():
            object.__setattr__(self, "matrix", _frozen(self.matrix / last))

    @property
    def dimension(self) -> int:
        return len(self.matrix) - 1

    def __call__(self, points: ArrayLike) -> F64:
        """Where points `(n, d)`, or one `(d,)`, come to lie; infinite where the map takes them there."""
        x = points_of(points, self.dimension, type(self).__name__)
        made = x @ self.matrix[:-1, :-1].T + self.matrix[:-1, -1]
        weight = x @ self.matrix[-1, :-1] + self.matrix[-1, -1]
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(made / weight[..., None])

    def inverse(self) -> Self:
        try:
            return type(self)(np.asarray(np.linalg.inv(self.matrix), np.float64))
        except np.linalg.LinAlgError:
            raise StreamError(f"{type(self).__name__}: this matrix has no inverse") from None

    def __matmul__(self, other: Homography) -> Homography:
        """First `other`, then this: of the narrower kind of the two that holds both."""
        if not isinstance(other, Homography):
            return NotImplemented
        if other.dimension != self.dimension:
            raise StreamError(
                f"{self.kind} of {self.dimension} dimensions after {other.kind} of {other.dimension}: they do not meet"
            )
        wider = min(type(self), type(other), key=_ORDER.index) if type(self) is not type(other) else type(self)
        return wider(self.matrix @ other.matrix)


@dataclass(frozen=True, eq=False)
class Affine(Homography):
    """Parallels stay parallel: x_ref = A x + t."""

    kind: ClassVar[str] = "affine"

    def _check(self) -> None:
        super()._check()
        d = self.dimension
        if not np.allclose(self.matrix[-1], np.eye(d + 1)[-1], rtol=0, atol=1e-9):
            raise StreamError(f"{type(self).__name__}: last row {self.matrix[-1].tolist()}; expected zeros and a one")

    @property
    def translation(self) -> F64:
        return self.matrix[:-1, -1]


@dataclass(frozen=True, eq=False)
class Similarity(Affine):
    """Angles stay: x_ref = scale * R x + t."""

    kind: ClassVar[str] = "similarity"

    def _check(self) -> None:
        super()._check()
        d, linear, scale = self.dimension, self.matrix[:-1, :-1], self.scale
        if not (
            scale > 0 and np.allclose(linear.T @ linear, scale**2 * np.eye(d), rtol=0, atol=_ORTHOGONAL * scale**2)
        ):
            raise StreamError(f"{type(self).__name__}: its axes are skewed, stretched or mirrored; expected a rotation")

    @classmethod
    def from_parts(cls, rotation: ArrayLike, translation: ArrayLike, scale: float = 1.0) -> Self:
        """rotation `(d, d)`, translation `(d,)`."""
        r, t = np.asarray(rotation, np.float64), np.asarray(translation, np.float64)
        if r.ndim != 2 or r.shape[0] != r.shape[1] or t.shape != r.shape[:1]:
            raise StreamError(f"{cls.__name__}: rotation {r.shape} and translation {t.shape}; expected (d, d) and (d,)")
        matrix = np.eye(len(r) + 1)
        matrix[:-1, :-1], matrix[:-1, -1] = scale * r, t
        return cls(matrix)

    @property
    def scale(self) -> float:
        determinant = float(np.linalg.det(self.matrix[:-1, :-1]))
        return float(np.sign(determinant) * abs(determinant) ** (1 / self.dimension))

    @property
    def rotation(self) -> F64:
        return np.asarray(self.matrix[:-1, :-1] / self.scale)


@dataclass(frozen=True, eq=False)
class Rigid(Similarity):
    """Distances stay: x_ref = R x + t."""

    kind: ClassVar[str] = "rigid"

    def _check(self) -> None:
        super()._check()
        if abs(self.scale - 1) > _ORTHOGONAL:
            raise StreamError(f"Rigid: a scale of {self.scale:g}; expected 1 (Similarity has one)")

    @property
    def rotation(self) -> F64:
        return self.matrix[:-1, :-1]

    def inverse(self) -> Rigid:
        return Rigid.from_parts(self.rotation.T, -self.rotation.T @ self.translation)


_ORDER: list[type[Homography]] = [Homography, Affine, Similarity, Rigid]


@dataclass(frozen=True, eq=False)
class Fundamental:
    """x_ref^T F x_mov = 0 for the two pixels of one point. matrix: `(3, 3)`, of norm 1."""

    kind: ClassVar[str] = "fundamental"
    matrix: F64

    def __post_init__(self) -> None:
        matrix = np.array(self.matrix, np.float64)
        size = float(np.linalg.norm(matrix)) if matrix.shape == (3, 3) else np.nan
        if not (np.isfinite(size) and size > 0):
            raise StreamError(f"{type(self).__name__}: matrix of shape {matrix.shape}; expected a finite (3, 3), not 0")
        object.__setattr__(self, "matrix", _frozen(matrix / size))

    def __call__(self, points: ArrayLike) -> F64:
        """Lines `(n, 3)` of the reference, a x + b y + c = 0 with a^2 + b^2 = 1, on which points `(n, 2)` lie."""
        x = points_of(points, 2, type(self).__name__)
        lines = x @ self.matrix[:, :2].T + self.matrix[:, 2]
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(lines / np.hypot(lines[..., 0], lines[..., 1])[..., None])

    def inverse(self) -> Self:
        return type(self)(self.matrix.T)


@dataclass(frozen=True, eq=False)
class Essential(Fundamental):
    """The same for rays (x, y, 1) of cameras whose intrinsics are taken out: E = [t]_x R."""

    kind: ClassVar[str] = "essential"

    def poses(self) -> tuple[Rigid, Rigid, Rigid, Rigid]:
        """The four rigid maps, moving -> reference, that it may come from, their translations of length 1; points lie
        in front of both cameras in one of them (Hartley and Zisserman, result 9.19)."""
        u, _, vt = np.linalg.svd(self.matrix)
        u, vt = u * np.sign(np.linalg.det(u)), vt * np.sign(np.linalg.det(vt))
        w = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
        a, b = u @ w @ vt, u @ w.T @ vt
        t = u[:, 2]
        return (Rigid.from_parts(a, t), Rigid.from_parts(a, -t), Rigid.from_parts(b, t), Rigid.from_parts(b, -t))


@dataclass(frozen=True, eq=False)
class Camera:
    """Points in space to pixels; x right, y down, z forward; (0, 0) is the middle of the first pixel.

    matrix: `(3, 3)` intrinsics K. size: (width, height) in pixels, or None. distortion: none, or OpenCV's 4, 5, 8, 12
    or 14 coefficients (k1, k2, p1, p2, k3, ...); of the 4 of a `fisheye` lens, k1 to k4 (Kannala and Brandt 2006).
    pose: T_camera_frame, of the frame that points are given in; `camera @ T` puts another one in front.
    """

    kind: ClassVar[str] = "camera"
    matrix: F64
    size: tuple[int, int] | None = None
    distortion: F64 = field(default_factory=lambda: np.zeros(0))
    fisheye: bool = False
    pose: Rigid = field(default_factory=lambda: Rigid(np.eye(4)))

    def __post_init__(self) -> None:
        k, d = np.array(self.matrix, np.float64), np.array(self.distortion, np.float64).ravel()
        if k.shape != (3, 3) or not np.isfinite(k).all() or not (k[0, 0] > 0 and k[1, 1] > 0):
            raise StreamError(f"Camera: matrix {k.tolist()}; expected a (3, 3) with positive focal lengths")
        if not np.allclose(k[[1, 2, 2, 2], [0, 0, 1, 2]], [0, 0, 0, 1]):
            raise StreamError(f"Camera: matrix {k.tolist()}; expected zeros below its diagonal and a last row 0 0 1")
        if len(d) not in ((4,) if self.fisheye else _DISTORTIONS) or not np.isfinite(d).all():
            expected = "4" if self.fisheye else "0, 4, 5, 8, 12 or 14"
            raise StreamError(f"Camera: {len(d)} distortion coefficients; expected {expected} finite ones")
        if self.size is not None and not (len(self.size) == 2 and min(self.size) > 0):
            raise StreamError(f"Camera: size {self.size!r}; expected (width, height) in pixels")
        object.__setattr__(self, "matrix", _frozen(k))
        object.__setattr__(self, "distortion", _frozen(d))

    def __call__(self, points: ArrayLike) -> F64:
        """Pixels `(n, 2)` of points `(n, 3)`; NaN for those that are not in front."""
        x = self.pose(points_of(points, 3, "Camera"))
        front = x[..., 2] > 0
        with np.errstate(divide="ignore", invalid="ignore"):
            flat = np.where(front[..., None], x[..., :2] / x[..., 2:], np.nan)
        if self.fisheye:
            flat = _bent_fisheye(flat, self.distortion)
        elif self.distortion.size:
            flat = bent(flat, self.distortion)
        return np.asarray(flat @ self.matrix[:2, :2].T + self.matrix[:2, 2])

    def rays(self, pixels: ArrayLike) -> F64:
        """Directions `(n, 3)` of length 1, in the frame that points are given in, along which pixels look; NaN where no
        ray is bent onto a pixel. They start at `centre`."""
        p = points_of(pixels, 2, "Camera.rays")
        k = self.matrix
        y = (p[..., 1] - k[1, 2]) / k[1, 1]
        x = (p[..., 0] - k[0, 2] - k[0, 1] * y) / k[0, 0]
        flat = np.stack([x, y], axis=-1)
        if self.fisheye:
            flat = _straight_fisheye(flat, self.distortion)
        elif self.distortion.size:
            flat = _straight(flat, self.distortion)
        seen = np.concatenate([flat, np.ones((*flat.shape[:-1], 1))], axis=-1)
        seen /= np.linalg.norm(seen, axis=-1, keepdims=True)
        return np.asarray(seen @ self.pose.rotation)

    @property
    def centre(self) -> F64:
        """Where the camera is, in the frame that points are given in, `(3,)`."""
        return self.pose.inverse().translation

    def inverse(self) -> Rays:
        return Rays(self)

    def __matmul__(self, other: Rigid) -> Camera:
        """The same camera, its points given in another frame: camera @ T_camera_frame."""
        if not isinstance(other, Rigid):
            return NotImplemented
        made = self.pose @ other
        assert isinstance(made, Rigid)
        return replace(self, pose=made)

    def inside(self, pixels: ArrayLike) -> NDArray[np.bool_]:
        """Which pixels lie in the picture; raises StreamError where its size is not known."""
        if self.size is None:
            raise StreamError("Camera: its size is not known; give size=(width, height)")
        p = points_of(pixels, 2, "Camera.inside")
        return np.asarray((p >= -0.5).all(axis=-1) & (p < np.array(self.size) - 0.5).all(axis=-1))

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": "camera",
            "matrix": self.matrix.tolist(),
            "size": list(self.size) if self.size else None,
            "distortion": self.distortion.tolist(),
            "fisheye": self.fisheye,
            "pose": self.pose.matrix.tolist(),
        }


@dataclass(frozen=True, eq=False)
class Rays:
    """Pixels to the directions along which they look: the inverse of a camera."""

    camera: Camera

    def __call__(self, pixels: ArrayLike) -> F64:
        return self.camera.rays(pixels)

    def inverse(self) -> Camera:
        return self.camera


Transform = Rigid | Similarity | Affine | Homography | Fundamental | Essential | Camera
_KINDS: dict[str, type[Homography] | type[Fundamental]] = {
    c.kind: c for c in (Rigid, Similarity, Affine, Homography, Fundamental, Essential)
}


def transform_from_json(document: Mapping[str, Any]) -> Transform:
    """The transform whose `kind` and `matrix` a document states. Raises StreamError for what is none."""
    kind = document.get("kind")
    if kind == "camera":
        size = document.get("size")
        return Camera(
            np.array(document["matrix"], np.float64),
            (int(size[0]), int(size[1])) if size else None,
            np.array(document.get("distortion") or [], np.float64),
            bool(document.get("fisheye")),
            Rigid(np.array(document["pose"], np.float64)) if document.get("pose") is not None else Rigid(np.eye(4)),
        )
    if kind not in _KINDS:
        raise StreamError(f"a transform of kind {kind!r}; expected one of {', '.join([*_KINDS, 'camera'])}")
    return _KINDS[kind](np.array(document["matrix"], np.float64))  # type: ignore[return-value]


def points_of(points: ArrayLike, dimension: int, called: str) -> F64:
    """`(..., dimension)` float64. Raises StreamError for other shapes."""
    x = np.asarray(points, np.float64)
    if x.ndim < 1 or x.shape[-1] != dimension:
        raise StreamError(f"{called}: points of shape {x.shape}; expected (n, {dimension})")
    return x


def _frozen(values: F64) -> F64:
    values = np.array(values, np.float64)
    values.flags.writeable = False
    return values


def bent(flat: F64, coefficients: F64) -> F64:
    """What a lens makes of normalised coordinates `(..., 2)`: radial and tangential terms, thin prism and tilt, in
    OpenCV's order (Brown 1966; Heikkila and Silven 1997; calib3d's documentation)."""
    c = np.zeros(14)
    c[: len(coefficients)] = coefficients
    x, y = flat[..., 0], flat[..., 1]
    r2 = x * x + y * y
    radial = (1 + r2 * (c[0] + r2 * (c[1] + r2 * c[4]))) / (1 + r2 * (c[5] + r2 * (c[6] + r2 * c[7])))
    made = np.stack(
        [
            x * radial + 2 * c[2] * x * y + c[3] * (r2 + 2 * x * x) + r2 * (c[8] + r2 * c[9]),
            y * radial + c[2] * (r2 + 2 * y * y) + 2 * c[3] * x * y + r2 * (c[10] + r2 * c[11]),
        ],
        axis=-1,
    )
    if c[12] == 0 and c[13] == 0:
        return made
    tilt = _tilt(c[12], c[13])
    lifted = made @ tilt[:, :2].T + tilt[:, 2]
    return np.asarray(lifted[..., :2] / lifted[..., 2:])


def _tilt(about_x: float, about_y: float) -> F64:
    cx, sx, cy, sy = np.cos(about_x), np.sin(about_x), np.cos(about_y), np.sin(about_y)
    turn = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]]) @ np.array([[1, 0, 0], [0, cx, sx], [0, -sx, cx]])
    project = np.array([[turn[2, 2], 0, -turn[0, 2]], [0, turn[2, 2], -turn[1, 2]], [0, 0, 1]])
    return np.asarray(project @ turn)


def _straight(flat: F64, coefficients: F64) -> F64:
    """Newton's search for what `bent` made these of, its slope taken by differences; NaN where it does not end."""
    x, step = flat.copy(), 1e-7
    for _ in range(_UNDISTORT[0]):
        missed = bent(x, coefficients) - flat
        slopes = [(bent(x + step * e, coefficients) - bent(x - step * e, coefficients)) / (2 * step) for e in np.eye(2)]
        a, c, b, d = slopes[0][..., 0], slopes[0][..., 1], slopes[1][..., 0], slopes[1][..., 1]
        with np.errstate(divide="ignore", invalid="ignore"):
            area = a * d - b * c
            change = np.stack(
                [(d * missed[..., 0] - b * missed[..., 1]) / area, (a * missed[..., 1] - c * missed[..., 0]) / area],
                axis=-1,
            )
        # Far outside, a radial polynomial turns back: short steps stay on the branch that begins in the middle.
        change = np.clip(np.nan_to_num(change), -0.5, 0.5)
        x = x - change
        if not change.size or np.abs(change).max() < _UNDISTORT[1]:
            break
    good = np.isfinite(flat).all(axis=-1) & (np.abs(bent(x, coefficients) - flat).max(axis=-1, initial=0.0) < 1e-8)
    return np.where(good[..., None], x, np.nan)


def _bent_fisheye(flat: F64, k: F64) -> F64:
    r = np.linalg.norm(flat, axis=-1)
    angle = np.arctan(r)
    a2 = angle**2
    bent_angle = angle * (1 + a2 * (k[0] + a2 * (k[1] + a2 * (k[2] + a2 * k[3]))))
    return np.asarray(flat * np.where(r > 1e-12, bent_angle / np.maximum(r, 1e-12), 1.0)[..., None])


def _straight_fisheye(flat: F64, k: F64) -> F64:
    r = np.linalg.norm(flat, axis=-1)
    angle = r.copy()
    for _ in range(_UNDISTORT[0]):
        a2 = angle**2
        missed = angle * (1 + a2 * (k[0] + a2 * (k[1] + a2 * (k[2] + a2 * k[3])))) - r
        slope = 1 + a2 * (3 * k[0] + a2 * (5 * k[1] + a2 * (7 * k[2] + a2 * 9 * k[3])))
        change = np.clip(missed / np.where(np.abs(slope) > 1e-9, slope, 1e-9), -0.3, 0.3)
        angle = angle - change
        if not change.size or np.abs(change).max() < _UNDISTORT[1]:
            break
    seen = (np.abs(angle) < np.pi / 2) & (angle >= 0)
    scale = np.where(r > 1e-12, np.tan(angle) / np.maximum(r, 1e-12), 1.0)
    return np.asarray(np.where(seen[..., None], flat * scale[..., None], np.nan))
