"""Cameras that watched one moving board: where each is from another, by poses of the board at the same moments.

Cameras rarely fire together: each has its own frame times, and the board's pose in one is taken, between its frames, at
the moments of the other. Each such moment tells the pose of one camera from the other; robust means of these (by the
likelihood of Student's distribution: Lange, Little and Taylor 1989) are brought together over all pairs. Where the
corners are known that told the poses, all is then adjusted to them at once (`avfuse.spatial.bodies.board_adjustment`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from avfuse.errors import StreamError
from avfuse.spatial.bodies.board_adjustment import BoardTrack, adjust_cameras
from avfuse.spatial.bodies.poses import Poses, matrices_of
from avfuse.stream import Stream
from avfuse.transform import Camera, Rigid
from avfuse.transform_estimate import TransformEstimate

F64 = NDArray[np.float64]

_FREEDOM = 4.0  # of Student's distribution
_ROUNDS = 100
_INSIDE = 16.8  # squared distance within which 99 % of six normal numbers lie
_FEWEST = 8  # poses in a mean
_APART = 20.0  # degrees by which half of the poses differ that tell nothing
_LAGS, _NATS = 12, 8.0  # steps each way; by which a lag must fit better than none
_CORNERS = 6  # of a board, at least, that tell its pose
_REPROJECTED = 2.0  # pixels, root of the mean square, beyond which a pose is not believed


def average_poses(poses: ArrayLike) -> TransformEstimate:
    """Robust mean of rigid poses `(n, 4, 4)` or `(n, 7)`, in the order in which they were measured, n >= 8.

    The covariance of (rotation vector, translation) is that of the mean, neighbours being taken to err alike (Newey and
    West 1987). `no_match` where they do not agree on one pose. Raises StreamError for fewer and for what are no poses.
    """
    matrices = matrices_of(poses, "poses", "average_poses")
    n = len(matrices)
    if n < _FEWEST:
        raise StreamError(f"average_poses: {n} poses; expected at least {_FEWEST}")
    turns, shifts = Rotation.from_matrix(matrices[:, :3, :3]), matrices[:, :3, 3]
    # Begin with the pose that lies in the middle of most others.
    quaternions = turns.as_quat()
    apart = 2 * np.arccos(np.minimum(np.abs(quaternions @ quaternions.T), 1.0))
    far = np.linalg.norm(shifts[:, None] - shifts, axis=2)
    typical = np.median(apart, axis=1) / max(float(np.median(apart)), 1e-12)
    middle = int(np.argmin(typical + np.median(far, axis=1) / max(float(np.median(far)), 1e-12)))
    turn, shift = turns[middle], shifts[middle]
    spread = np.diag(np.repeat([max(np.median(apart[middle]), 1e-9) ** 2, max(np.median(far[middle]), 1e-9) ** 2], 3))
    for _ in range(_ROUNDS):
        e = np.concatenate([(turns * turn.inv()).as_rotvec(), shifts - shift], axis=1)
        squared = (e @ np.linalg.inv(spread) * e).sum(axis=1)
        weight = (_FREEDOM + 6) / (_FREEDOM + squared)
        step = weight @ e / weight.sum()
        turn, shift = Rotation.from_rotvec(step[:3]) * turn, shift + step[3:]
        e = e - step
        new = (e * weight[:, None]).T @ e / n
        # No direction is known without end, however alike the poses are.
        new += np.diag(1e-9 * np.repeat([new[:3, :3].trace(), new[3:, 3:].trace()], 3) + 1e-24)
        settled = np.abs(new - spread).max() < 1e-5 * np.abs(new).max()
        spread = new
        if settled:
            break
    inside = squared < _INSIDE
    typical_turn = np.degrees(np.median(np.linalg.norm(e[:, :3], axis=1)))
    residuals = np.linalg.norm(e[:, 3:], axis=1)
    said = {"kind": "rigid", "poses": n, "turn": float(np.radians(typical_turn)), "shift": float(np.median(residuals)),
            "scatter": float(np.linalg.slogdet(spread)[1])}  # fmt: skip
    if typical_turn > _APART or inside.mean() < 0.5:
        return TransformEstimate(
            "no_match", inliers=inside, residuals=residuals, diagnostics=said,
            message=f"half of the poses differ by {typical_turn:.0f} degrees or more from their mean; expected one",
        )  # fmt: skip
    pulls = e * weight[:, None]
    meat = pulls.T @ pulls
    lags = int(np.ceil(n ** (1 / 3)))
    for lag in range(1, lags + 1):
        across = pulls[lag:].T @ pulls[:-lag]
        meat += (1 - lag / (lags + 1)) * (across + across.T)
    values, vectors = np.linalg.eigh(meat)
    meat = vectors @ np.diag(np.maximum(values, 0.05 * max(float(values[-1]), 1e-300) * 1e-6)) @ vectors.T
    # The share of the second derivatives that Student's likelihood leaves of the weights.
    curvature = (weight * (1 - 2 * squared / 6 / (_FREEDOM + squared))).sum()
    cov = meat / curvature**2 * (n / (n - 1 - lags / 2))
    answer = Rigid.from_parts(turn.as_matrix(), shift)
    return TransformEstimate("aligned", answer, cov, inside, residuals, 0.999, diagnostics=said)


def calibrate_cameras(
    views: Mapping[str, Stream | tuple[ArrayLike, ArrayLike]], *, reference: str | None = None,
    gap: float | None = None, max_lag: float = 0.25,
) -> dict[str, TransformEstimate]:  # fmt: skip
    """Where cameras are that saw one moving board, or any body: T_reference_camera of each.

    views: by name, poses T_camera_board over time on one clock, as a pose Stream or (times, poses). Where all are
        tracks of one board (`track_board`), cameras, lags and the board's path are adjusted to all corners at once.
    reference: name of the camera in whose frame the others are told; None takes the first.
    gap: seconds between two frames of one camera, at most, between which the board's pose is taken; None takes five
        median steps.
    max_lag: seconds by which a camera's stamps may be late against another's; where the board moved, the lag is found
        at which the pairs agree best, and told in `diagnostics["lag"]` (t_reference = t + lag). 0 takes stamps as they
        are.
    Every pair of cameras counts. Covariances allow for pairs that share what they saw. A camera that never saw the
    board together with the others is a `no_match`. `diagnostics["error_px"]`, of an adjustment: the root of the mean
    square of what corners are off, along an axis.
    Raises StreamError for fewer than two views, and for what are no poses.
    """
    called = "calibrate_cameras"
    if len(views) < 2:
        raise StreamError(f"{called}: {len(views)} views; expected at least two")
    names = list(views)
    root = names[0] if reference is None else reference
    if root not in views:
        raise StreamError(f"{called}: reference {root!r}; expected one of {', '.join(names)}")
    seen = {name: Poses.of(view, f"view {name!r}", called) for name, view in views.items()}
    if not (np.isfinite(max_lag) and max_lag >= 0):
        raise StreamError(f"{called}: max_lag {max_lag!r}; expected seconds, 0 for none")
    pairs = [(one, two) for k, one in enumerate(names) for two in names[k + 1 :]]
    lags = _lags(root, seen, pairs, gap, max_lag) if max_lag else dict.fromkeys(names, 0.0)
    late = {name: replace(poses, times=poses.times + lags[name]) for name, poses in seen.items()}
    found = {pair: _pair(late[pair[0]], late[pair[1]], gap) for pair in pairs}
    edges = {pair: mean for pair, mean in found.items() if mean is not None and mean.answer is not None}
    placed = _placed(root, names, edges)
    answers, cov = _together(root, placed, edges)
    said_of_all: dict[str, Any] = {}
    tracks = {name: view for name, view in views.items() if isinstance(view, BoardTrack)}
    if len(tracks) == len(views) and answers:
        order = [root, *answers]
        adjusted = adjust_cameras(
            [tracks[name] for name in order], [Rigid(np.eye(4)), *answers.values()],
            np.array([lags[name] for name in order]), max_lag,
        )  # fmt: skip
        answers, cov = dict(zip(order, adjusted.cameras, strict=True)), dict(zip(order, adjusted.cov, strict=True))
        lags = lags | dict(zip(order, adjusted.lags.tolist(), strict=True))
        said_of_all = {"error_px": adjusted.error_px}
    made: dict[str, TransformEstimate] = {}
    for name in names:
        if name == root:
            made[name] = TransformEstimate("aligned", Rigid(np.eye(4)), np.zeros((6, 6)), confidence=1.0)
        elif name in answers:
            met = [edge for pair, edge in edges.items() if name in pair]
            moments = sum(edge.diagnostics["poses"] for edge in met)
            said = {"kind": "rigid", "pairs": len(met), "moments": moments, "lag": lags[name]} | said_of_all
            confidence = min(edge.confidence for edge in met)
            made[name] = TransformEstimate("aligned", answers[name], cov[name], confidence=confidence, diagnostics=said)
        else:
            made[name] = TransformEstimate(
                "no_match", diagnostics={"kind": "rigid"},
                message=f"{name} saw the board at fewer than {_FEWEST} of the moments at which others did, or no one "
                "pose fits them",
            )  # fmt: skip
    return made


def track_board(
    picture: Stream, board: Any, camera: Camera, *, times: ArrayLike | None = None, inverted: bool = False
) -> BoardTrack:
    """Poses T_camera_board of a ChArUco board in a film, a pose Stream of the frames in which it is seen, with corners.

    board: a cv2.aruco.CharucoBoard; its unit is that of the poses. camera: with its distortion, no fisheye lens.
    times: `(frames,)` seconds, of the frames where the film's own are not those of the camera's clock.
    inverted: the board was printed white on black.
    Raises StreamError where no frame shows six corners or more, and for times that are not as many as frames.
    """
    import cv2

    if picture.kind != "picture":
        raise StreamError(f"track_board: a stream of {picture.kind}; expected a picture")
    if camera.fisheye:
        raise StreamError("track_board: a fisheye camera; expected one with OpenCV's other distortion, or none")
    detector = cv2.aruco.CharucoDetector(board)
    corners = np.asarray(board.getChessboardCorners(), np.float64)
    given = None if times is None else np.asarray(times, np.float64)
    lens = camera.distortion if camera.distortion.size else None
    kept: list[tuple[float, F64]] = []
    told: list[tuple[F64, F64]] = []
    count = 0
    for stamps, frames in picture.blocks(1.0):
        for stamp, frame in zip(stamps, frames, strict=True):
            grey = (
                frame[..., 0] if frame.shape[-1] == 1 else cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY)
            )
            found, index, _, _ = detector.detectBoard(255 - grey if inverted else grey)
            when = stamp if given is None else given[count] if count < len(given) else np.nan
            count += 1
            if index is not None and len(index) >= _CORNERS and np.isfinite(when):
                points, pixels = corners[np.ravel(index)], np.reshape(found, (-1, 2)).astype(np.float64)
                pose = _board_pose(points, pixels, camera.matrix, lens)
                if pose is not None:
                    kept.append((float(when), pose))
                    told.append((points, pixels))
    if given is not None and len(given) != count:
        raise StreamError(f"track_board: {len(given)} times for {count} frames; expected as many")
    if not kept:
        raise StreamError(f"track_board: none of {count} frames shows {_CORNERS} corners of the board or more")
    return BoardTrack(
        "pose", "pose", np.stack([p for _, p in kept]), times=np.array([t for t, _ in kept]), camera=camera,
        corners=tuple(told),
    )  # fmt: skip


def _board_pose(points: F64, pixels: F64, matrix: F64, lens: F64 | None) -> F64 | None:
    """x y z qx qy qz qw of a flat board (IPPE: Collins and Bartoli 2014; least squares), None where it fits badly."""
    import cv2

    if np.linalg.matrix_rank(points - points.mean(axis=0), tol=1e-6 * np.abs(points).max()) < 2:
        return None
    found, turns, shifts, _ = cv2.solvePnPGeneric(points, pixels, matrix, lens, flags=cv2.SOLVEPNP_IPPE)
    if not found:
        return None
    turn, shift = cv2.solvePnPRefineLM(points, pixels, matrix, lens, turns[0], shifts[0])
    again = cv2.projectPoints(points, turn, shift, matrix, lens)[0].reshape(-1, 2)
    if not np.sqrt(((again - pixels) ** 2).sum(axis=1).mean()) < _REPROJECTED:
        return None
    return np.concatenate([np.ravel(shift), Rotation.from_rotvec(np.ravel(turn)).as_quat()])


def _lags(
    root: str, seen: Mapping[str, Poses], pairs: Sequence[tuple[str, str]], gap: float | None, most: float
) -> dict[str, float]:
    """Seconds to be added to each camera's stamps: what pairs agree on best, over all pairs by least squares."""
    others = [name for name in seen if name != root]
    rows, values = [], []
    for one, two in pairs:
        lag = _lag(seen[one], seen[two], gap, most)
        if lag is not None:
            rows.append([float(name == two) - float(name == one) for name in others])
            values.append(lag)
    solved = np.linalg.lstsq(np.array(rows), np.array(values), rcond=None)[0] if rows else np.zeros(len(others))
    return {root: 0.0} | dict(zip(others, solved.tolist(), strict=True))


def _lag(one: Poses, two: Poses, gap: float | None, most: float) -> float | None:
    """What is added to the stamps of `two`; 0 where nothing tells it, None where they never saw the board together."""
    grid = np.linspace(-most, most, 2 * _LAGS + 1)
    costs, count = np.full(len(grid), np.inf), 0
    for k, lag in enumerate(grid):
        found = _pair(one, replace(two, times=two.times + lag), gap)
        if found is not None:
            costs[k], count = found.diagnostics["scatter"], max(count, found.diagnostics["poses"])
    if not np.isfinite(costs[_LAGS]):
        return None
    k = int(np.argmin(costs))
    told = count * (costs[_LAGS] - costs[k]) / 2 > _NATS
    if not (told and 0 < k < len(grid) - 1 and np.isfinite(costs[k - 1 : k + 2]).all()):
        return 0.0
    bend = max(float(costs[k - 1] - 2 * costs[k] + costs[k + 1]), 1e-12)
    return float(grid[k] + (grid[1] - grid[0]) * np.clip((costs[k - 1] - costs[k + 1]) / (2 * bend), -1, 1))


def _pair(one: Poses, two: Poses, gap: float | None) -> TransformEstimate | None:
    """T_one_two by what both saw; at the moments of the one that has more to tell between frames of the other."""
    best: F64 | None = None
    for a, b, swapped in ((one, two, False), (two, one, True)):
        there = a.known(b.times, gap)
        if there.sum() < _FEWEST or (best is not None and there.sum() <= len(best)):
            continue
        at = a.at(b.times[there])
        turns = at.rotations * b.rotations[there].inv()
        made = np.tile(np.eye(4), (len(turns), 1, 1))
        made[:, :3, :3] = turns.as_matrix()
        made[:, :3, 3] = at.positions - turns.apply(b.positions[there])
        best = np.asarray(np.linalg.inv(made) if swapped else made, np.float64)
    return None if best is None else average_poses(best)


def _placed(root: str, names: list[str], edges: Mapping[tuple[str, str], TransformEstimate]) -> dict[str, Rigid]:
    """T_root_camera along the surest pairs, nearest first."""
    placed = {root: Rigid(np.eye(4))}
    while True:
        open_ = [
            (float(np.trace(e.cov)), k)
            for k, e in edges.items()
            if e.cov is not None and (k[0] in placed) != (k[1] in placed)
        ]
        if not open_:
            return placed
        one, two = min(open_)[1]
        between = edges[one, two].transform
        assert isinstance(between, Rigid)
        made = placed[one] @ between if one in placed else placed[two] @ between.inverse()
        assert isinstance(made, Rigid)
        placed[two if one in placed else one] = made


def _together(
    root: str, placed: Mapping[str, Rigid], edges: Mapping[tuple[str, str], TransformEstimate]
) -> tuple[dict[str, Rigid], dict[str, F64]]:
    """Least squares over all pairs, and covariances."""
    free = [name for name in placed if name != root]
    poses = dict(placed)
    used = {k: e for k, e in edges.items() if k[0] in placed and k[1] in placed}
    if not free:
        return {}, {}
    at = {name: slice(6 * k, 6 * k + 6) for k, name in enumerate(free)}
    information = np.zeros((6 * len(free), 6 * len(free)))
    for _ in range(20):
        information[:], pull = 0.0, np.zeros(6 * len(free))
        for (one, two), edge in used.items():
            a, b, measured = poses[one], poses[two], edge.transform
            assert edge.cov is not None
            model = a.inverse() @ b
            assert isinstance(measured, Rigid)
            assert isinstance(model, Rigid)
            r, t = measured.rotation @ model.rotation.T, measured.translation - model.translation
            residual = np.concatenate([Rotation.from_matrix(r).as_rotvec(), t])
            weight = np.linalg.inv(edge.cov)
            # b' = exp(r) b turns the model by R_a^T r, and a' by minus that; a turn of a also swings b about it.
            turn = a.rotation.T
            jb, ja = np.zeros((6, 6)), np.zeros((6, 6))
            jb[:3, :3], jb[3:, 3:] = turn, turn
            ja[:3, :3], ja[3:, 3:] = -turn, -turn
            x, y, z = b.translation - a.translation
            ja[3:, :3] = turn @ np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
            parts = [(at[name], j) for name, j in ((one, ja), (two, jb)) if name != root]
            for where, j in parts:
                pull[where] += j.T @ weight @ residual
                for other, k in parts:
                    information[where, other] += j.T @ weight @ k
        step = np.linalg.solve(information, pull)
        for name in free:
            turn_, shift = step[at[name]][:3], step[at[name]][3:]
            poses[name] = Rigid.from_parts(
                Rotation.from_rotvec(turn_).as_matrix() @ poses[name].rotation, poses[name].translation + shift
            )
        if np.abs(step).max() < 1e-12:
            break
    # Pairs of n cameras share what each saw: no more than n - 1 of them tell of their own.
    shared = len(used) / len(free)
    cov = np.asarray(np.linalg.inv(information) * shared, np.float64)
    return {name: poses[name] for name in free}, {name: cov[at[name], at[name]] for name in free}
