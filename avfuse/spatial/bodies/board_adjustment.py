"""Cameras around a moving board, adjusted together: the board's path, the cameras and their clocks at once.

Poses of a flat board, taken one by one, err with the lens and lean where few pixels tell its tilt; means of them keep
that. Here every corner counts by its pixels (bundle adjustment: Triggs et al. 2000). The board's path is a cubic spline
over time (Furgale, Barfoot and Sibley 2012), so that frames of cameras that do not fire together fall on one path, and
stamps that are late shift along it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.interpolate import BSpline
from scipy.sparse.linalg import SuperLU, splu
from scipy.spatial.transform import Rotation

from avfuse.rotations import cross_matrices
from avfuse.stream import Stream
from avfuse.transform import Camera, Rigid

F64 = NDArray[np.float64]

_FREEDOM = 4.0  # of Student's distribution, of corners
_ROUNDS, _SETTLED = 40, 1e-2  # of the fit; a change of twice the log-likelihood that ends it
_PART = 50_000  # corners whose slopes are held at once
_BLOCKS = 20  # parts of a recording whose errors are taken to be their own


@dataclass(frozen=True, eq=False)
class BoardTrack(Stream):
    """Poses T_camera_board of a board, with the corners that told each of them.

    camera: that saw it. corners: per pose, (points `(k, 3)` on the board, pixels `(k, 2)`).
    """

    camera: Camera = field(default_factory=lambda: Camera(np.eye(3)))
    corners: tuple[tuple[F64, F64], ...] = ()


@dataclass(frozen=True, eq=False)
class Adjusted:
    """cameras: T_first_camera of all. lags: `(n,)` seconds, t_first = t + lag. cov: `(n, 6, 6)` of (rotation vector,
    translation), zero for the first. error_px: root of the mean square of what corners are off, along an axis."""

    cameras: list[Rigid]
    lags: F64
    cov: F64
    error_px: float


def adjust_cameras(tracks: Sequence[BoardTrack], cameras: Sequence[Rigid], lags: F64, max_lag: float) -> Adjusted:
    """The first camera stays where it is. cameras: T_first_camera to begin with. max_lag: seconds by which a lag may be
    off where nothing tells it; 0 leaves the lags as they are."""
    return _Adjustment(tracks, lags, max_lag).solved(cameras)


class _Adjustment:
    """Unknowns: 6 of each camera but the first, their lags, then 6 of each knot: a shift, and a rotation
    vector before its quaternion. Between knots quaternions are added by weight, and made of length 1 again."""

    def __init__(self, tracks: Sequence[BoardTrack], lags: F64, max_lag: float) -> None:
        self.tracks, self.begin, self.max_lag = tracks, np.asarray(lags, np.float64), max_lag
        self.free = max_lag > 0
        sizes = [[len(pixels) for _, pixels in track.corners] for track in tracks]
        #: Of each corner: its camera, its moment by that camera's clock, its place on the board, its pixel.
        self.which = np.repeat(np.arange(len(tracks)), [sum(s) for s in sizes])
        self.times = np.concatenate([np.repeat(_times(t), s) for t, s in zip(tracks, sizes, strict=True)])
        self.points = np.concatenate([points for t in tracks for points, _ in t.corners])
        self.pixels = np.concatenate([pixels for t in tracks for _, pixels in t.corners])
        self.parts = [slice(k, k + _PART) for k in range(0, len(self.pixels), _PART)]
        self.step = min(float(np.median(np.diff(np.unique(_times(t))))) for t in tracks)
        slack = 2 * max_lag + self.step
        late = self.times + self.begin[self.which]
        self.start = float(late.min() - slack)
        self.count = int(np.ceil((late.max() + slack - self.start) / self.step)) + 3
        self.knots = self.start + self.step * (np.arange(self.count + 4) - 3.0)
        self.fixed = 7 * (len(tracks) - 1)
        self.bends = sparse.diags_array(
            [-1.0, 3.0, -3.0, 1.0], offsets=[0, 1, 2, 3], shape=(self.count - 3, self.count)
        ).tocsr()  # type: ignore[call-overload]

    def solved(self, cameras: Sequence[Rigid]) -> Adjusted:
        poses, lags, path = list(cameras), self.begin.copy(), self.start_at(cameras)
        residual = self._residuals(poses, lags, path)
        for _ in range(2):
            # Twice: the noise of pixels is known once most corners fit.
            self.sigma = max(1.4826 * float(np.median(np.abs(residual))), 1e-3)
            poses, lags, path = self._descended(poses, lags, path)
            residual = self._residuals(poses, lags, path)
        cov = self._covariance(poses, lags, path)
        return Adjusted(poses, lags, cov, float(np.sqrt((residual**2).mean())))

    def start_at(self, cameras: Sequence[Rigid]) -> F64:
        """Knots `(n, 7)` that run through the poses, wild ones left out; and how much they bend."""
        times, values = [], []
        for track, camera, lag in zip(self.tracks, cameras, self.begin, strict=True):
            poses = np.asarray(track.values)
            turns = Rotation.from_matrix(camera.rotation.copy()) * Rotation.from_quat(poses[:, 3:])
            times.append(_times(track) + lag)
            values.append(np.hstack([camera(poses[:, :3]), turns.as_quat()]))
        order = np.argsort(np.concatenate(times), kind="stable")
        at, wanted = np.concatenate(times)[order], np.concatenate(values)[order]
        # q and -q are one turn: the sign that goes on from the last one.
        signs = np.where((wanted[1:, 3:] * wanted[:-1, 3:]).sum(axis=1) < 0, -1.0, 1.0)
        wanted[1:, 3:] *= np.cumprod(signs)[:, None]
        basis = BSpline.design_matrix(at, self.knots, 3)
        smooth = 1e-2 * self.bends.T @ self.bends
        weight = np.ones(len(at))
        for _ in range(10):
            scaled = basis.multiply(weight[:, None]).tocsr()
            path = _factored(basis.T @ scaled + smooth).solve(scaled.T @ wanted)
            away = basis @ path - wanted
            squared = sum(
                (part**2).sum(axis=1) / max(float(np.median((part**2).sum(axis=1))), 1e-18)
                for part in (away[:, :3], away[:, 3:])
            )
            weight = (_FREEDOM + 6) / (_FREEDOM + squared)
        path[:, 3:] /= np.linalg.norm(path[:, 3:], axis=1, keepdims=True)
        # How unevenly the board moves, by the poses: the path may bend as much between them.
        self.bend = np.sqrt(((self.bends @ path) ** 2).mean(axis=0))
        self.bend = np.repeat([max(self.bend[:3].max(), 1e-9), max(self.bend[3:].max(), 1e-9)], [3, 4])
        self.smooth = sparse.kron(self.bends, sparse.diags_array(1 / self.bend), format="csr")
        return np.asarray(path)

    def _at(self, lags: F64, part: slice) -> tuple[NDArray[np.int64], F64, F64]:
        """Of each corner: knots `(n, 4)` that its moment lies among, their weights, and how those change with time."""
        times = np.clip(self.times[part] + lags[self.which[part]], self.knots[3], self.knots[-4] - 1e-9 * self.step)
        first = np.clip(((times - self.start) / self.step).astype(np.int64), 0, self.count - 4)
        u = ((times - self.start) / self.step - first)[:, None]
        one = 1 - u
        weights = np.hstack([one**3, 3 * u**3 - 6 * u**2 + 4, 3 * one**3 - 6 * one**2 + 4, u**3]) / 6
        slopes = np.hstack([-(one**2), 3 * u**2 - 4 * u, -(3 * one**2 - 4 * one), u**2]) / (2 * self.step)
        return first[:, None] + np.arange(4), weights, slopes

    def _residuals(self, poses: Sequence[Rigid], lags: F64, path: F64) -> F64:
        made = []
        for part in self.parts:
            which, weights, _ = self._at(lags, part)
            at = (weights[:, :, None] * path[which]).sum(axis=1)
            world = Rotation.from_quat(at[:, 3:]).apply(self.points[part]) + at[:, :3]
            made.append((self._projected(poses, world, part)[0] - self.pixels[part]).ravel())
        return np.concatenate(made)

    def _projected(self, poses: Sequence[Rigid], world: F64, part: slice) -> tuple[F64, F64]:
        """Pixels `(n, 2)` and how they change with points in the camera's frame, `(n, 2, 3)`."""
        import cv2

        seen, slopes = np.empty((len(world), 2)), np.empty((len(world), 2, 3))
        for k, (track, pose) in enumerate(zip(self.tracks, poses, strict=True)):
            own = self.which[part] == k
            if not own.any():
                continue
            there = (world[own] - pose.translation) @ pose.rotation
            # A board that a step has thrown behind the camera costs much, and is told no slope.
            there[:, 2] = np.maximum(there[:, 2], 1e-6)
            lens = track.camera.distortion if track.camera.distortion.size else None
            pixels, jacobian = cv2.projectPoints(there, np.zeros(3), np.zeros(3), track.camera.matrix, lens)[:2]
            seen[own], slopes[own] = pixels.reshape(-1, 2), jacobian[:, 3:6].reshape(-1, 2, 3)
        return seen, slopes

    def _jacobian(self, poses: Sequence[Rigid], lags: F64, path: F64, part: slice) -> tuple[F64, sparse.csr_array]:
        which, weights, rates = self._at(lags, part)
        camera = self.which[part]
        at = (weights[:, :, None] * path[which]).sum(axis=1)
        quick = (rates[:, :, None] * path[which]).sum(axis=1)
        length = np.linalg.norm(at[:, 3:], axis=1)
        q = at[:, 3:] / length[:, None]
        turned = Rotation.from_quat(q).apply(self.points[part])
        world = turned + at[:, :3]
        pixels, slopes = self._projected(poses, world, part)
        turns = np.stack([p.rotation for p in poses])[camera]
        by_world = slopes @ turns.transpose(0, 2, 1)  # (n, 2, 3)
        # A change e of a unit quaternion q turns by twice the vector part of e q*.
        x, y, z, w = q.T
        vector = 2 * np.stack(
            [np.stack([w, -z, y, -x], 1), np.stack([z, w, -x, -y], 1), np.stack([-y, x, w, -z], 1)], 1
        )
        by_quaternion = by_world @ -cross_matrices(turned) @ vector / length[:, None, None]  # (n, 2, 4)
        n = len(world)
        by_turn = by_quaternion[:, None] @ _spun(path[:, 3:])[which]  # (n, 4, 2, 3)
        by_knot = np.concatenate([np.broadcast_to(by_world[:, None], by_turn.shape), by_turn], axis=3)
        knots = (by_knot * weights[:, :, None, None]).transpose(0, 2, 1, 3).reshape(n, 2, 24)
        columns = (self.fixed + 6 * which[:, :, None] + np.arange(6)).reshape(n, 24)
        away = world - np.stack([p.translation for p in poses])[camera]
        own = np.concatenate([by_world @ cross_matrices(away), -by_world], axis=2)
        late = by_world @ quick[:, :3, None] + by_quaternion @ quick[:, 3:, None]
        own = np.concatenate([own, late if self.free else 0 * late], axis=2) * (camera > 0)[:, None, None]
        place = 7 * np.maximum(camera - 1, 0)[:, None] + np.arange(7)
        values = np.concatenate([own, knots], axis=2)  # (n, 2, 31)
        places = np.repeat(np.hstack([place, columns])[:, None], 2, axis=1)
        shape = (2 * n, self.fixed + 6 * self.count)
        made = sparse.csr_array((values.ravel(), places.ravel(), np.arange(0, 62 * n + 1, 31)), shape=shape)
        return (pixels - self.pixels[part]).ravel(), made

    def _priors(self, lags: F64, path: F64) -> tuple[F64, sparse.csr_array]:
        """In their own noise: that the path bends no more than it does, that lags are short, or stay."""
        bends = ((self.bends @ path) / self.bend).ravel()
        knots = np.zeros((self.count, 7, 6))
        knots[:, :3, :3], knots[:, 3:, 3:] = np.eye(3), _spun(path[:, 3:])
        smooth = self.smooth @ sparse.block_diag(list(knots), format="csr")
        lag = np.full(len(lags) - 1, 1 / self.max_lag if self.free else 1.0)
        # Of the seven unknowns of a camera its lag is the last.
        rows = sparse.csr_array((lag, (np.arange(len(lag)), 7 * np.arange(len(lag)) + 6)), (len(lag), self.fixed))
        made = sparse.block_diag([rows, smooth], format="csr")
        return np.concatenate([lags[1:] / self.max_lag if self.free else 0 * lag, bends]), sparse.csr_array(made)

    def _cost(self, poses: Sequence[Rigid], lags: F64, path: F64) -> float:
        """Less the logarithm of Student's likelihood, twice."""
        squared = (self._residuals(poses, lags, path).reshape(-1, 2) ** 2).sum(axis=1) / self.sigma**2
        prior = self._priors(lags, path)[0]
        return float((_FREEDOM + 2) * np.log1p(squared / _FREEDOM).sum() + (prior**2).sum())

    def _normal(self, poses: Sequence[Rigid], lags: F64, path: F64) -> tuple[sparse.csc_array, F64]:
        """Second derivatives, and the pull of all."""
        prior, slope = self._priors(lags, path)
        information, pull = slope.T @ slope, -(slope.T @ prior)
        for part in self.parts:
            residual, jacobian = self._jacobian(poses, lags, path, part)
            weighed = sparse.csr_array(jacobian.multiply(self._weights(residual)[:, None]))
            information = information + jacobian.T @ weighed
            pull = pull - weighed.T @ residual
        return sparse.csc_array(information), pull

    def _weights(self, residual: F64) -> F64:
        squared = (residual.reshape(-1, 2) ** 2).sum(axis=1) / self.sigma**2
        return np.asarray(np.repeat((_FREEDOM + 2) / (_FREEDOM + squared), 2) / self.sigma**2)

    def _descended(self, poses: list[Rigid], lags: F64, path: F64) -> tuple[list[Rigid], F64, F64]:
        """Levenberg and Marquardt's steps on the robust cost."""
        cost, damping = self._cost(poses, lags, path), 1e-4
        for _ in range(_ROUNDS):
            information, pull = self._normal(poses, lags, path)
            diagonal = sparse.diags_array(information.diagonal())
            while damping < 1e8:
                step = _factored(information + damping * diagonal).solve(pull)
                there = self._moved(poses, lags, path, step)
                now = self._cost(*there)
                if now < cost:
                    break
                damping *= 10
            else:
                return poses, lags, path
            (poses, lags, path), damping = there, max(damping / 10, 1e-9)
            settled = cost - now < _SETTLED
            cost = now
            if settled:
                break
        return poses, lags, path

    def _moved(self, poses: list[Rigid], lags: F64, path: F64, step: F64) -> tuple[list[Rigid], F64, F64]:
        moves = step[: self.fixed].reshape(-1, 7)
        made = [poses[0]]
        for pose, move in zip(poses[1:], moves, strict=True):
            turn = Rotation.from_rotvec(move[:3]).as_matrix() @ pose.rotation
            made.append(Rigid.from_parts(turn, pose.translation + move[3:6]))
        knots = step[self.fixed :].reshape(-1, 6)
        turns = Rotation.from_rotvec(knots[:, 3:]) * Rotation.from_quat(path[:, 3:])
        quaternions = turns.as_quat()
        quaternions *= np.where((quaternions * path[:, 3:]).sum(axis=1) < 0, -1.0, 1.0)[:, None]
        return made, lags + np.concatenate([[0.0], moves[:, 6]]), np.hstack([path[:, :3] + knots[:, :3], quaternions])

    def _covariance(self, poses: list[Rigid], lags: F64, path: F64) -> F64:
        """By the scatter of what parts of the recording pull (sandwich), the path solved for in each."""
        information = self._normal(poses, lags, path)[0]
        unit = np.zeros((information.shape[0], self.fixed))
        unit[: self.fixed] = np.eye(self.fixed)
        inverse = _factored(information).solve(unit)
        moments = self.times + lags[self.which]
        edges = np.quantile(moments, np.linspace(0, 1, _BLOCKS + 1))
        block = np.clip(np.searchsorted(edges, moments, side="right") - 1, 0, _BLOCKS - 1)
        sums = np.zeros((_BLOCKS, self.fixed))
        for part in self.parts:
            residual, jacobian = self._jacobian(poses, lags, path, part)
            pulls = jacobian.multiply((self._weights(residual) * residual)[:, None]) @ inverse
            np.add.at(sums, np.repeat(block[part], 2), pulls)
        across = sums[1:].T @ sums[:-1]
        # Never less than the noise of pixels alone makes it.
        whole = (sums.T @ sums + 0.5 * (across + across.T)) * (_BLOCKS / (_BLOCKS - 1))
        root = np.linalg.cholesky(inverse[: self.fixed])
        back = np.linalg.inv(root)
        values, vectors = np.linalg.eigh(back @ whole @ back.T)
        root = root @ vectors
        whole = root @ np.diag(np.maximum(values, 1.0)) @ root.T
        cov = np.zeros((len(poses), 6, 6))
        for k in range(1, len(poses)):
            cov[k] = whole[7 * k - 7 : 7 * k - 1, 7 * k - 7 : 7 * k - 1]
        return cov


def _factored(matrix: sparse.sparray) -> SuperLU:
    """Of a symmetric one: its order by that, and no rows exchanged, keep the factors as sparse as it is."""
    options = {"SymmetricMode": True}
    return splu(sparse.csc_array(matrix), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=options)


def _times(track: Stream) -> F64:
    assert track.times is not None
    return np.asarray(track.times, np.float64)


def _spun(quaternions: F64) -> F64:
    """`(n, 4, 3)`: how quaternions x y z w change with a rotation vector before them."""
    x, y, z, w = quaternions.T / 2
    return np.stack(
        [np.stack([w, z, -y], 1), np.stack([-z, w, x], 1), np.stack([y, -x, w], 1), np.stack([-x, -y, -z], 1)], 1
    )
