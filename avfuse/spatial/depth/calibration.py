"""Where a LiDAR or depth camera sits beside a camera, from what both see anyway: no target, no marker.

The pose is the one at which pictures and points tell most of each other (normalised information distance: Koide et al.
2023, General, single-shot, target-less and automatic LiDAR-camera extrinsic calibration toolbox; Pandey et al. 2015),
and at which things end where the picture has edges (Levinson and Thrun 2013). A grid of rotations is looked through in
blurred pictures, its minima are followed into sharp ones, and points that become hidden are left out as the pose moves.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from avfuse.cores import on_cores
from avfuse.errors import StreamError
from avfuse.spatial.depth.pose_box import PoseBox, moved
from avfuse.spatial.depth.views import GROUPS, Comparison, Look, View, look
from avfuse.spatial.depth.visibility import Lens, lens_of
from avfuse.transform import Camera, Rigid, points_of
from avfuse.transform_estimate import TransformEstimate

F64 = NDArray[np.float64]
Frame = tuple[ArrayLike, ArrayLike, ArrayLike | None]

_COARSE = 0.012  # radians: blur of the first search
_STEPS = (0.0175, 0.0175, 0.03)  # radians, about the camera's axes: its grid
_FINE = (1.5, 0.2)  # the last blur: pixels, or this share of the pixels between points where that is more
_SAMPLE = ((3000, 14000), (6000, 36000))  # points of a view at least, of all views: in the search, and after it
_SHARPER, _ABOUT = 2.5, (3, 3, 1)  # of the second grid, about the minima of the first; its steps to each side
_KEPT = (6, 3, 4, 3)  # candidates of the first grid, after it, of the second grid, after it
_WORTH = 0.35  # share of the best one's gain over the middle of the grid below which a candidate is dropped
_ROUNDS = (5, 0.1)  # times that hidden points are looked for again, pixels of change that end it
_HESSIAN = 1.5  # last blurs: step of the differences that curvature is taken from
_SEARCHED = ("intensity", "contrast", "facing", "bends", "edges")
_FITTED = ("intensity", "contrast", "bends", "edges")
# Until the data weigh them. Shade and bends go with brightness less surely, and are many.
_WEIGHTS = {"intensity": 1.0, "contrast": 1.0, "facing": 0.15, "bends": 0.15, "edges": 1.0}
_FAR = 0.05  # radians by which poses differ that the answer must beat
_LEAST = 150  # points in view below which nothing is said
_ONE_COLOUR = 1.0  # brightness steps of standard deviation
_NATS, _TIMES = 15.0, 3.5  # by which the answer must beat poses far from it, and standard errors of that
_AMBIGUOUS = (8.0, 2.5)  # the same, of another minimum
_SMALL_SAMPLE = 1.04  # of a standard deviation from GROUPS groups (Student's quantile beside the normal one)


def calibrate_depth(
    frames: Sequence[Frame],
    camera: Camera,
    start: Rigid,
    *,
    max_rotation: float = 0.07,
    max_translation: float = 0.15,
) -> TransformEstimate:
    """T_camera_lidar, sought about a rough guess in frames that a camera and a LiDAR or depth camera took together.

    frames: (picture `(h, w)` or `(h, w, c)`, points `(n, 3)` in metres in the sensor's own frame, intensities `(n,)` or
        None), several of different places if possible. Points that are not finite are left out.
    camera: its matrix and distortion hold for all pictures; its pose is not used.
    start: T_camera_lidar, within max_rotation (radians, about each axis) and max_translation (metres, along each).

    The estimate maps points of the sensor into the camera's frame. `cov`: of (rotation vector, translation), from the
    curvature and from leaving out groups of blocks of the pictures in turn. Refused: `degenerate` where there is too
    little to see, `no_match` where pictures and points tell no more of each other than at other poses, `ambiguous`
    where several poses are as good. Raises StreamError for arrays that do not fit.
    """
    if not (0 < max_rotation <= 0.5 and 0 < max_translation < np.inf):
        raise StreamError(
            f"calibrate_depth: max_rotation {max_rotation!r}, max_translation {max_translation!r}; expected 0 to 0.5 "
            "rad and a positive number of metres"
        )
    if not isinstance(start, Rigid) or start.dimension != 3:
        raise StreamError(f"calibrate_depth: start is {start!r}; expected a Rigid of space, T_camera_lidar")
    views = _views(frames, camera)
    lively = [v for v in views if float(v.picture.std()) > _ONE_COLOUR]
    if not lively:
        return _refusal("degenerate", "every picture is of one colour: nothing in them can be compared with points")
    focal = float(np.sqrt(camera.matrix[0, 0] * camera.matrix[1, 1]))
    margin = max_rotation * focal
    looks = on_cores(lambda v: look(v, start, margin, _most(0, len(lively))), lively)
    return _Calibration(lively, looks, start, focal, np.array([max_rotation, max_translation])).estimate()


def _views(frames: Sequence[Frame], camera: Camera) -> list[View]:
    if not len(frames):
        raise StreamError("calibrate_depth: no frames; expected pairs of a picture and points")
    made: list[View] = []
    lens: Lens | None = None
    for k, frame in enumerate(frames):
        if len(frame) != 3:
            raise StreamError(f"frame {k}: {len(frame)} things; expected (picture, points, intensities or None)")
        picture = np.asarray(frame[0])
        if (
            picture.dtype.kind not in "uif"
            or picture.ndim not in (2, 3)
            or picture.shape[2:] not in ((), (1,), (3,), (4,))
        ):
            raise StreamError(
                f"frame {k}: picture of {picture.dtype} and shape {picture.shape}; expected numbers, (h, w) or "
                "(h, w, c) with 1, 3 or 4 channels"
            )
        if min(picture.shape[:2]) < 16:
            raise StreamError(f"frame {k}: picture of shape {picture.shape}; expected 16 x 16 pixels or more")
        size = (picture.shape[1], picture.shape[0])
        if camera.size is not None and tuple(camera.size) != size:
            raise StreamError(f"frame {k}: picture of {size[0]} x {size[1]} pixels; the camera's have {camera.size}")
        if lens is None:
            lens = lens_of(Camera(camera.matrix, size, camera.distortion, camera.fisheye))
        elif lens.size != size:
            raise StreamError(f"frame {k}: picture of {size}; the first one has {lens.size}")
        grey = picture.astype(np.float32)
        grey = grey if grey.ndim == 2 else grey[..., : min(3, grey.shape[2])].mean(axis=2)
        if not np.isfinite(grey).all():
            raise StreamError(f"frame {k}: its picture holds NaN or infinite values; expected finite ones")
        # Any range of brightness to that of 8 bits, in which the constants are stated.
        if picture.dtype != np.uint8:
            low, high = np.percentile(grey, (0.5, 99.5))
            grey = np.clip((grey - low) * (255 / max(high - low, 1e-12)), 0, 255) if high > low else 0 * grey
        points = points_of(frame[1], 3, f"frame {k}")  # type: ignore[arg-type]
        if points.ndim != 2:
            raise StreamError(f"frame {k}: points of shape {points.shape}; expected (n, 3)")
        whole = np.isfinite(points).all(axis=1)
        intensities = None
        if frame[2] is not None:
            intensities = np.asarray(frame[2], np.float64)
            if intensities.shape != points.shape[:1]:
                raise StreamError(f"frame {k}: {len(points)} points, intensities of shape {intensities.shape}")
            whole &= np.isfinite(intensities)
            intensities = intensities[whole]
        made.append(
            View(np.ascontiguousarray(grey, np.float32), np.ascontiguousarray(points[whole]), intensities, lens)
        )
    if len({v.intensities is None for v in made}) > 1:
        raise StreamError("calibrate_depth: some frames have intensities and some have none; expected all or none")
    return made


def _most(stage: int, views: int) -> int:
    least, all_views = _SAMPLE[stage]
    return max(least, all_views // views)


def _refusal(status: Any, message: str, **more: Any) -> TransformEstimate:
    return TransformEstimate(status, message=message, diagnostics={"kind": "rigid", **more})


@dataclass(frozen=True, eq=False)
class _Cost:
    """Sum over looks and channels of weight * points * distance, by the numbers of a box."""

    comparison: Comparison
    scale: F64
    box: PoseBox

    def at(self, x: F64) -> float:
        return float(np.nansum(self.comparison.distances(self.box.pose(x)) * self.scale))

    def slopes(self, x: F64) -> tuple[float, F64]:
        values, slopes = self.comparison.slopes(self.box.pose(x))
        return float(np.nansum(values * self.scale)), self.box.gradient(x, np.einsum("kcd,kc->d", slopes, self.scale))

    def descend(self, x: F64, most: int) -> tuple[float, F64]:
        from scipy.optimize import minimize

        units = 1e3 / max(float(self.scale.sum()), 1e-12)

        def function(at: F64) -> tuple[float, F64]:
            value, slope = self.slopes(at)
            over, over_slope = self.box.beyond(at)
            return units * value + over, units * slope + over_slope

        found = minimize(function, x, jac=True, method="L-BFGS-B", options={"maxiter": most})
        return float(found.fun) / units, np.asarray(found.x)


@dataclass(frozen=True, eq=False)
class _Curvature:
    """At one pose, by channel: `hessians` and the `scatter` of slopes, `(c, 6, 6)`; weights that make both alike."""

    hessians: F64
    slopes: F64

    @property
    def weights(self) -> F64:
        """By which each channel's distance is worth nats: as of a log-likelihood, its curvature is its slope's
        variance (the information equality)."""
        scatter = np.array([_scatter(self.slopes[:, c]) for c in range(self.slopes.shape[1])])
        curved = np.trace(self.hessians, axis1=1, axis2=2)
        spread = np.trace(scatter, axis1=1, axis2=2)
        made = np.maximum(curved, 0) / np.where(spread > 0, spread, 1)
        return np.asarray(np.where(spread > 0, made, 0.0))

    def of(self, weights: F64) -> tuple[F64, F64]:
        return np.einsum("cij,c->ij", self.hessians, weights), _scatter(np.einsum("gci,c->gi", self.slopes, weights))


def _scatter(without: F64) -> F64:
    """Variance of a sum, from what it is with each of the groups left out (Efron's jackknife)."""
    away = without - without.mean(axis=0)
    return np.asarray((len(without) - 1) / len(without) * away.T @ away)


class _Calibration:
    def __init__(self, views: list[View], looks: list[Look], start: Rigid, focal: float, limits: F64) -> None:
        self.views, self.looks, self.from_start, self.focal = views, looks, looks, focal
        moves = [one.view.lens.moves(one.channels[0].points, start) for one in looks if one.channels]
        self.box = PoseBox.about(start, np.concatenate([np.zeros((0, 2, 6)), *moves]), np.repeat(limits, 3))
        apart = float(np.median([one.spacing for one in looks]))
        self.fine = max(_FINE[0], _FINE[1] * apart)

    def estimate(self) -> TransformEstimate:
        count = sum(one.count for one in self.looks)
        names = sorted({c.name for one in self.looks for c in one.channels} & set(_FITTED))
        facts: dict[str, Any] = {"points": count, "frames": len(self.looks), "channels": names}
        if count < _LEAST:
            inside = "none" if count == 0 else f"only {count}"
            return _refusal(
                "degenerate",
                f"{inside} of the points lie in the pictures at the start; expected {_LEAST} or more: check the "
                "start, which maps points into the camera's frame (z ahead), and the camera",
                **facts,
            )
        if not names:
            return _refusal(
                "degenerate", "the points show no structure: equal intensities and nothing that ends", **facts
            )
        candidates = self._search()
        x, candidates = self._settle(candidates, _WEIGHTS)
        curvature = self._curvature(x)
        weights = dict(zip(_FITTED, curvature.weights, strict=True))
        if not any(weights.values()):
            return _refusal("no_match", "pictures and points tell no more of each other than at other poses", **facts)
        x, candidates = self._settle([x, *candidates], weights)
        curvature = self._curvature(x)
        return self._judged(x, candidates, curvature, np.array([weights[n] for n in _FITTED]), facts)

    def _cost(self, looks: Sequence[Look], blur: float, names: Sequence[str], weights: dict[str, float]) -> _Cost:
        counts = np.array([float(one.count) for one in looks])
        return _Cost(Comparison(looks, blur, names), counts[:, None] * [weights[n] for n in names], self.box)

    def _search(self) -> list[F64]:
        """Minima of a grid of rotations in blurred pictures, followed to the last blur but for the sharpest."""
        from scipy.ndimage import minimum_filter

        blur = _COARSE * self.focal
        cost = self._cost(self.looks, blur, _SEARCHED, _WEIGHTS)
        most = self.box.limits[0]
        axes = [np.arange(-int(most / step), int(most / step) + 1) * step for step in _STEPS]
        grid = np.array(list(itertools.product(*axes)))
        values = np.array(on_cores(lambda turn: cost.at(self._turned(turn)), grid)).reshape([len(a) for a in axes])
        middle = float(np.median(values))
        least = np.flatnonzero((minimum_filter(values, 3, mode="nearest") == values).ravel())
        found = [(float(values.ravel()[i]), self._turned(grid[i])) for i in least]
        candidates = _distinct(found, 0.0, _KEPT[0], middle)
        candidates = _distinct(self._descended(cost, candidates), 2 * blur, _KEPT[1], middle)
        # Broad trends of range and light pull the minima of blurred pictures aside: look about them in sharper ones.
        blur /= _SHARPER
        cost = self._cost(self.looks, blur, _SEARCHED, _WEIGHTS)
        steps = [np.arange(-n, n + 1) * step / _SHARPER for n, step in zip(_ABOUT, _STEPS, strict=True)]
        about = [x + self._turned(np.array(turn)) for x in candidates[: _KEPT[1]] for turn in itertools.product(*steps)]
        found = list(zip(on_cores(cost.at, about), about, strict=True))
        candidates = [*candidates, *_distinct(found, 2 * blur, _KEPT[2], None)]
        while True:
            candidates = _distinct(self._descended(cost, candidates), 2 * blur, _KEPT[3], None)
            if blur < 2 * self.fine:
                return candidates
            blur = max(blur / 2, self.fine)
            cost = self._cost(self.looks, blur, _FITTED, _WEIGHTS)

    @staticmethod
    def _descended(cost: _Cost, candidates: list[F64]) -> list[tuple[float, F64]]:
        return on_cores(lambda x: cost.descend(x, 12), candidates)

    def _turned(self, turn: F64) -> F64:
        return self.box.coordinates(np.concatenate([turn, np.zeros(3)]))

    def _look(self, x: F64) -> list[Look]:
        pose, most = self.box.pose(x), _most(1, len(self.views))
        return on_cores(lambda v: look(v, pose, 2 * self.fine, most), self.views)

    def _settle(self, candidates: list[F64], weights: dict[str, float]) -> tuple[F64, list[F64]]:
        """Candidates at the last blur, the best one first and apart; points hidden at each are looked for anew."""
        found = [self._cost(self._look(x), self.fine, _FITTED, weights).descend(x, 10)[1] for x in candidates]
        # Costs of other points do not compare: all are judged by those that the start shows, its margin included.
        judge = self._cost(self.from_start, self.fine, _FITTED, weights)
        best, *others = sorted(found, key=judge.at)
        for _ in range(_ROUNDS[0]):
            looks = self._look(best)
            cost = self._cost(looks, self.fine, _FITTED, weights)
            before, best = best, cost.descend(best, 20)[1]
            if np.linalg.norm(best - before) < _ROUNDS[1]:
                break
        self.looks = self._look(best)
        apart = 4 * self.fine
        return best, [x for x in others if np.linalg.norm(x - best) > apart]

    def _curvature(self, x: F64) -> _Curvature:
        """At the pose of x, in the numbers of the box about that pose."""
        pose, axes = self.box.pose(x), self.box.axes
        comparison = Comparison(self.looks, self.fine, _FITTED)
        counts = np.array([float(one.count) for one in self.looks])

        def slopes(at: Rigid, without: int | None = None) -> F64:
            return np.asarray(np.einsum("kcd,k->cd", comparison.slopes(at, without)[1], counts) @ axes)

        step = _HESSIAN * self.fine
        ends = [moved(pose, sign * step * axis) for axis in axes.T for sign in (1, -1)]
        at_ends = on_cores(slopes, ends)
        hessians = np.array([(at_ends[2 * k] - at_ends[2 * k + 1]) / (2 * step) for k in range(6)]).transpose(1, 0, 2)
        without = on_cores(lambda g: slopes(pose, g), range(GROUPS))
        return _Curvature((hessians + hessians.transpose(0, 2, 1)) / 2, np.array(without))

    def _judged(
        self, x: F64, others: list[F64], curvature: _Curvature, weights: F64, facts: dict[str, Any]
    ) -> TransformEstimate:
        pose = self.box.pose(x)
        far = [moved(pose, _FAR * np.array([np.cos(a), np.sin(a), 0, 0, 0, 0])) for a in np.arange(8) * np.pi / 4]
        beaten = self._beaten(pose, [*far, *(self.box.pose(o) for o in others)], weights)
        by_nats, by_times = beaten[: len(far)].min(axis=0)
        facts |= {
            "distances": dict(zip(_FITTED, self._distances(pose), strict=True)),
            "weights": dict(zip(_FITTED, weights.tolist(), strict=True)),
            "nats": float(by_nats), "standard_errors": float(by_times),
            "candidates": beaten[len(far) :].tolist(), "pose": pose,
        }  # fmt: skip
        if by_nats < _NATS or by_times < _TIMES:
            return _refusal(
                "no_match",
                f"pictures and points tell hardly more of each other here than {np.degrees(_FAR):.0f} degrees away "
                f"({by_nats:.0f} nats, {by_times:.1f} standard errors): are they of the same place and moment, and is "
                "the start near enough?",
                **facts,
            )
        rivals = [
            o for o, (nats, times) in zip(others, beaten[len(far) :], strict=True)
            if nats < _AMBIGUOUS[0] or times < _AMBIGUOUS[1]
        ]  # fmt: skip
        if rivals:
            poses = [pose, *(self.box.pose(o) for o in rivals)]
            return TransformEstimate(
                "ambiguous", candidates=tuple(poses), diagnostics={"kind": "rigid", **facts},
                message=f"{len(poses)} poses are about as good: add frames of other places, or start nearer",
            )  # fmt: skip
        hessian, scatter = curvature.of(weights)
        values, vectors = np.linalg.eigh(hessian)
        weak = "add frames with things near and far, at all sides of the picture"
        if values[0] <= 0:
            return _refusal("degenerate", f"the frames leave one direction of the pose open: {weak}", **facts)
        inverse = self.box.axes @ (vectors / values) @ vectors.T
        cov = _SMALL_SAMPLE**2 * inverse @ scatter @ inverse.T
        if (np.sqrt(np.diag(cov)) > self.box.limits).any():
            return _refusal("degenerate", f"the pose is known no better than the start: {weak}", **facts)
        if (np.abs(self.box.axes @ x) >= 0.999 * self.box.limits).any():
            return _refusal(
                "no_match",
                "the best pose lies at the end of what was searched: start nearer, or widen max_rotation or "
                "max_translation",
                **facts,
            )
        # Nats are those of blocks as they scatter, which are not independent altogether: a quarter of them counts.
        confidence = float(1 / (1 + np.exp(-beaten[:, 0] / 4).sum()))
        return TransformEstimate("aligned", pose, cov, confidence=confidence, diagnostics={"kind": "rigid", **facts})

    def _distances(self, pose: Rigid) -> list[float]:
        found = Comparison(self.looks, self.fine, _FITTED).distances(pose)
        return [float(c[np.isfinite(c)].mean()) if np.isfinite(c).any() else float("nan") for c in found.T]

    def _beaten(self, pose: Rigid, others: list[Rigid], weights: F64) -> F64:
        """By how many nats, and standard errors of that, the pose is better than others, `(n, 2)`."""
        comparison = Comparison(self.looks, self.fine, _FITTED)
        scale = np.array([float(one.count) for one in self.looks])[:, None] * weights

        def costs(at: Rigid) -> F64:
            whole = np.nansum(comparison.distances(at) * scale)
            return np.concatenate([[whole], np.nansum(comparison.without(at) * scale, axis=(1, 2))])

        here, *there = on_cores(costs, [pose, *others])
        made = []
        for other in there:
            more = other - here
            made.append((more[0], more[0] / max(float(np.sqrt(_scatter(more[1:, None])[0, 0])), 1e-12)))
        return np.array(made)


def _distinct(found: list[tuple[float, F64]], apart: float, most: int, middle: float | None) -> list[F64]:
    """The best ones, none within `apart` of a better one, none that gains too little on the middle of the grid."""
    ordered = sorted(found, key=lambda item: item[0])
    kept: list[F64] = []
    for value, x in ordered:
        if middle is not None and middle - value < _WORTH * (middle - ordered[0][0]):
            continue
        if all(np.linalg.norm(x - other) > apart for other in kept):
            kept.append(x)
    return kept[:most] or [ordered[0][1]]
