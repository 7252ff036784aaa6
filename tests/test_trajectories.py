"""Trajectories, trackers and cameras: laws on simulated bodies, and real recordings."""

from __future__ import annotations

import csv
import itertools
import tomllib
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.transform import Rotation

import avfuse
from avfuse.clock import ClockMap
from avfuse.errors import StreamError
from avfuse.simulation.motions import simulate_motions
from avfuse.simulation.trackers import simulate_imus, simulate_trackers
from avfuse.spatial.bodies.board_adjustment import BoardTrack, _Adjustment
from avfuse.spatial.bodies.cameras import _board_pose, average_poses, calibrate_cameras, track_board
from avfuse.spatial.bodies.hand_eye import calibrate_hand_eye
from avfuse.spatial.bodies.lever_arm import estimate_lever_arm
from avfuse.spatial.bodies.poses import Poses
from avfuse.spatial.bodies.rotation import calibrate_rotation
from avfuse.spatial.bodies.trajectories import (
    absolute_errors,
    align_trajectories,
    nearest_times,
    relative_errors,
    transformed,
    umeyama,
)
from avfuse.stream import Stream
from avfuse.transform import Camera, Rigid, Similarity

TURN = Rotation.from_rotvec([0.3, -0.5, 1.1]).as_matrix()


def path(seed: int = 0, duration: float = 20.0, rate: float = 50.0) -> tuple[np.ndarray, np.ndarray]:
    pair = simulate_trackers(
        np.random.default_rng(seed), duration=duration, rates=(rate, rate), turn_noise=0.0, shift_noise=0.0
    )
    return np.asarray(pair.reference.times), np.asarray(pair.reference.values)


def seen_again(seed: int, scale: float, offset: float, noise: float = 0.002):
    """The same body in another frame, on another clock, at another rate."""
    times, values = path(seed)
    whole = Poses(times, values[:, :3], Rotation.from_quat(values[:, 3:]))
    at = whole.at(np.arange(times[0] + 1, times[-1] - 1, 1 / 30))
    rng = np.random.default_rng([seed, 1])
    t = Similarity.from_parts(TURN, [1.0, -2.0, 0.5], scale).inverse()
    places = t(at.positions) + rng.normal(0, noise / scale, (len(at), 3))
    turns = Rotation.from_matrix(t.rotation.copy()) * at.rotations
    return (times, values), (at.times - offset, np.hstack([places, turns.as_quat()]))


def test_clock_and_scale_are_found_together():
    reference, moving = seen_again(1, 2.5, 0.3)
    found = align_trajectories(reference, moving, scale=True)
    assert found.transform.status == "aligned"
    assert found.clock.offset == pytest.approx(0.3, abs=2e-3)
    assert found.transform.transform.scale == pytest.approx(2.5, abs=0.01)
    assert_allclose(found.transform.transform.rotation, TURN, atol=2e-3)
    assert found.absolute.rmse[0] < 0.006
    assert found.absolute.rmse[1] < 0.01


def test_delay_moves_the_offset():
    reference, (times, values) = seen_again(2, 1.0, 0.1)
    one = align_trajectories(reference, (times, values))
    two = align_trajectories(reference, (times - 0.5, values))
    assert two.clock.offset - one.clock.offset == pytest.approx(0.5, abs=1e-4)
    assert_allclose(two.transform.transform.matrix, one.transform.transform.matrix, atol=1e-5)


def test_intervals_of_maps_and_offsets_hold():
    inside = []
    for seed in range(30):
        reference, moving = seen_again(seed, 1.0, 0.0, noise=0.01)
        # The offset is free, but known well enough that it need not be searched for.
        from avfuse.spatial.bodies import trajectories

        one, two = Poses.of(reference, "", ""), Poses.of(moving, "", "")
        found = trajectories._solved(one, two, 0.01, False, True)
        turn = Rotation.from_matrix(TURN @ found.transform.rotation.T).as_rotvec()
        e = np.concatenate([turn, np.array([1.0, -2.0, 0.5]) - found.transform.translation, [-found.offset]])
        inside.append(np.abs(e) < 1.96 * np.sqrt(np.diag(found.cov)))
    assert 0.90 <= np.mean(inside) <= 0.99


def test_positions_on_a_line_are_degenerate():
    times = np.arange(0, 10, 0.02)
    values = np.zeros((len(times), 7))
    values[:, 0], values[:, 6] = np.sin(times), 1.0
    assert align_trajectories((times, values), (times, values), offset=0.0).transform.status == "degenerate"


def test_other_bodies_are_no_match():
    one, two = path(3), path(4)
    assert align_trajectories(one, two).transform.status != "aligned"


def test_errors_do_not_see_the_frame_but_relative_ones_do_not_need_it():
    times, values = path(5)
    rng = np.random.default_rng(0)
    noisy = values + np.hstack([rng.normal(0, 0.01, (len(times), 3)), rng.normal(0, 0.003, (len(times), 4))])
    moved = transformed(noisy, Rigid.from_parts(TURN, [1.0, 2.0, 3.0]))
    assert_allclose(relative_errors(values, moved).translation, relative_errors(values, noisy).translation, atol=1e-9)
    back = umeyama(values[:, :3], moved[:, :3, 3])
    assert absolute_errors(values, transformed(moved, back)).rmse[0] < 1.001 * absolute_errors(values, noisy).rmse[0]


def test_times_are_paired_with_the_nearest():
    pairs = nearest_times([0.0, 1.0, 2.0, 3.0], [0.004, 1.5, 2.99], within=0.02)
    assert_array_equal(pairs, [[0, 0], [3, 2]])


def read(shared, name):
    table = np.loadtxt(shared / "motion" / f"freiburg1_xyz-{name}.txt")
    return table[:, 0] - 1305031098.0, table[:, 1:]


# What evo 1.38 says of the same pairs (python -m benchmarks space runs it): rmse of translation [m] and rotation [rad],
# absolute and from pose to pose, without and with a scale.
EVO = {
    ("rgbdslam", False): (0.013470088849733684, 0.03591363307214646, 0.005764370848928316, 0.0061717139386166815),
    ("rgbdslam", True): (0.013389384904168201, 0.03591363307214646, 0.00580569456312165, 0.0061717139386166815),
    ("rgbdslam_drift", False): (0.01347011895136829, 0.035913683419093574, 0.005764378833030759, 0.006171720485841649),
    ("rgbdslam_drift", True): (0.013389416164851113, 0.035913683419093574, 0.005805702363735914, 0.006171720485841649),
}


@pytest.mark.parametrize(("name", "scale"), list(EVO))
def test_errors_are_those_of_evo(shared, name, scale):
    (t, reference), (u, moving) = read(shared, "groundtruth"), read(shared, name)
    pairs = nearest_times(t, u)
    reference, moving = reference[pairs[:, 0]], moving[pairs[:, 1]]
    moved = transformed(moving, umeyama(reference[:, :3], moving[:, :3], scale=scale))
    whole, steps = absolute_errors(reference, moved), relative_errors(reference, moved)
    assert_allclose([*whole.rmse, *steps.rmse], EVO[name, scale], rtol=0, atol=1e-6)


def test_an_offset_put_into_a_real_trajectory_comes_out(shared):
    reference, (times, values) = read(shared, "groundtruth"), read(shared, "rgbdslam")
    # The motion itself is found by `estimate_motion`; here the joint fit from near by.
    from avfuse.spatial.bodies.trajectories import _solved

    one = Poses.of(reference, "", "")
    offsets = []
    for late in (0.0, 0.037):
        found = _solved(one, Poses.of((times + late, values), "", ""), -late + 0.01, False, True)
        offsets.append(found.offset)
    assert offsets[0] - offsets[1] == pytest.approx(0.037, abs=0.002)


# --- trackers on one body --------------------------------------------------------------------------------------------


def tracker_errors(found, truth):
    turn = Rotation.from_matrix(truth.rotation @ found.rotation.T).as_rotvec()
    return np.concatenate([turn, truth.translation - found.translation])


@pytest.mark.slow
def test_hand_eye_finds_the_clock_too():
    pair = simulate_trackers(np.random.default_rng(1))
    found = calibrate_hand_eye(pair.reference, pair.moving)
    assert found.clock.offset == pytest.approx(pair.offset, abs=1e-3)
    assert found.clock.offset != pair.offset
    e = tracker_errors(found.transform.transform, pair.truth)
    assert (np.abs(e) < 5 * found.transform.std).all()


def test_hand_eye_holds_its_intervals_with_wild_poses():
    inside = []
    for seed in range(12):
        pair = simulate_trackers(np.random.default_rng(seed), outliers=0.1 * (seed % 2), duration=10.0)
        found = calibrate_hand_eye(pair.reference, pair.moving, offset=pair.offset).transform
        e = tracker_errors(found.transform, pair.truth)
        assert np.degrees(np.linalg.norm(e[:3])) < 0.3
        assert np.linalg.norm(e[3:]) < 0.005
        inside.append(np.abs(e) < 1.96 * found.std)
    assert np.mean(inside) > 0.85


def test_hand_eye_of_poses_without_times():
    pair = simulate_trackers(np.random.default_rng(3), rates=(5.0, 5.0), turn_noise=0.0, shift_noise=0.0)
    a = Poses.of(pair.reference, "", "")
    both = a.at(np.asarray(pair.moving.times) + pair.offset)
    known = a.known(np.asarray(pair.moving.times) + pair.offset)
    x, world = pair.truth, Rigid.from_parts(TURN, [1.0, 2.0, 3.0])
    one = [
        Rigid.from_parts(r.as_matrix(), p) for r, p in zip(both.rotations[known], both.positions[known], strict=True)
    ]
    two = [world.inverse() @ p @ x for p in one]
    found = calibrate_hand_eye(one, two)
    assert_allclose(found.transform.transform.matrix, x.matrix, atol=1e-6)
    assert_allclose(found.world.matrix, world.matrix, atol=1e-6)
    back = calibrate_hand_eye(two, one)
    assert_allclose(back.transform.transform.matrix, x.inverse().matrix, atol=1e-6)


@pytest.mark.parametrize(("turning", "said"), [("planar", "one axis only"), ("still", "hardly turned")])
def test_motion_that_does_not_tell_is_degenerate(turning, said):
    pair = simulate_trackers(np.random.default_rng(2), turning=turning)
    found = calibrate_hand_eye(pair.reference, pair.moving, offset=pair.offset).transform
    assert found.status == "degenerate"
    assert said in found.message


def test_trackers_on_two_bodies_are_no_match():
    pair = simulate_trackers(np.random.default_rng(2), related=False)
    assert calibrate_hand_eye(pair.reference, pair.moving, offset=pair.offset).transform.status == "no_match"


def test_rotation_between_gyroscopes():
    pair = simulate_motions(20.0, np.random.default_rng(1))
    found = calibrate_rotation(pair.reference, pair.moving)
    assert found.rotation.status == "aligned"
    e = Rotation.from_matrix(pair.matrix @ found.rotation.matrix.T).as_rotvec()
    assert np.degrees(np.linalg.norm(e)) < 0.5
    assert (np.abs(e) < 4 * np.sqrt(np.diag(found.rotation.cov))).all()
    assert found.agreeing > 0.9
    assert found.transform is None


def test_a_sensor_that_was_knocked_keeps_the_rotation_of_most_seconds():
    pair = simulate_motions(30.0, np.random.default_rng(2))
    values = np.array(pair.moving.values)
    late = np.asarray(pair.moving.times) > 19.0
    values[late] = values[late] @ TURN.T
    found = calibrate_rotation(pair.reference, replace(pair.moving, values=values))
    e = Rotation.from_matrix(pair.matrix @ found.rotation.matrix.T).magnitude()
    assert np.degrees(e) < 1.0
    assert 0.6 < found.agreeing < 0.9


def test_turning_about_one_axis_is_told():
    pair = simulate_motions(20.0, np.random.default_rng(1), motion="turntable")
    found = calibrate_rotation(pair.reference, pair.moving)
    assert found.rotation.status == "degenerate"
    assert "one axis" in found.rotation.message
    assert found.axes[1] < 0.1 * found.axes[2]


@pytest.mark.parametrize("by", ["rates", "poses"])
@pytest.mark.parametrize("seed", [1, 2])
def test_accelerometers_tell_the_lever_arm(by, seed):
    pair = simulate_imus(np.random.default_rng(seed))
    reference = pair.poses if by == "poses" else pair.rates[0]
    felt = (None if by == "poses" else pair.accelerations[0], pair.accelerations[1])
    found = calibrate_rotation(reference, pair.rates[1], accelerations=felt)
    e = tracker_errors(found.transform.transform, pair.truth)
    assert np.degrees(np.linalg.norm(e[:3])) < 0.5
    assert np.linalg.norm(e[3:]) < 0.005
    assert (np.abs(e) < 4 * found.transform.std).all()


def test_stated_errors_of_lever_arms_are_those_made():
    z = []
    for seed in range(20):
        pair = simulate_imus(np.random.default_rng([7, seed]))
        arm = estimate_lever_arm(*pair.rates, pair.accelerations, ClockMap(pair.offset, 0.0), pair.truth.rotation)
        z.extend((arm.place - pair.truth.translation) / np.sqrt(np.diag(arm.cov)))
    assert np.mean(np.abs(z) < 1.96) >= 0.9
    assert 0.5 < np.sqrt(np.mean(np.square(z))) < 1.3


@pytest.mark.parametrize(("turning", "related"), [("planar", True), ("free", False)])
def test_a_lever_arm_that_is_not_told_is_refused(turning, related):
    pair = simulate_imus(np.random.default_rng(3), turning=turning, related=related)
    clock = ClockMap(pair.offset, 0.0)
    for reference, felt in ((pair.rates[0], pair.accelerations[0]), (pair.poses, None)):
        arm = estimate_lever_arm(reference, pair.rates[1], (felt, pair.accelerations[1]), clock, pair.truth.rotation)
        assert arm.place is None
        assert arm.message


def test_accelerations_that_do_not_fit_are_told():
    pair = simulate_imus(np.random.default_rng(1), duration=10.0)
    one, two = pair.accelerations
    for reference, moving, given, said in (
        (*pair.rates, (one, two, two), "two streams"),
        (*pair.rates, (None, two), "accelerations of reference: None"),
        (*pair.rates, (one, replace(two, unit="g")), "in g; expected"),
        (*pair.rates, (one, pair.rates[1]), "rotation_rate"),
        (pair.poses, pair.rates[1], (one, two), "its poses tell them"),
        (pair.poses, pair.poses, (None, two), "moving is a stream of pose"),
        (*pair.rates, (one, Stream("norm", "acceleration", np.ones((500, 1)), rate=100.0)), "expected x, y, z"),
    ):
        with pytest.raises(StreamError, match=said):
            calibrate_rotation(reference, moving, accelerations=given)


# --- cameras ---------------------------------------------------------------------------------------------------------


def views(seed: int, lag: float = 0.0, noise: float = 0.002):
    """Two cameras that see a body at moments of their own."""
    times, values = path(seed)
    whole = Poses(times, values[:, :3] + [0.0, 0.0, 2.0], Rotation.from_quat(values[:, 3:]))
    truth = Rigid.from_parts(TURN, [0.5, 0.1, -0.2])
    rng = np.random.default_rng([seed, 3])
    made = {}
    for name, pose, late in (("left", Rigid(np.eye(4)), 0.0), ("right", truth.inverse(), lag)):
        at = whole.at(np.sort(rng.uniform(times[0], times[-1], 200)))
        turns = Rotation.from_matrix(pose.rotation.copy()) * at.rotations
        turns = turns * Rotation.from_rotvec(rng.normal(0, noise, (len(at), 3)))
        made[name] = (
            at.times + late,
            np.hstack([pose(at.positions) + rng.normal(0, noise, (len(at), 3)), turns.as_quat()]),
        )
    return made, truth


def test_cameras_that_fire_apart():
    made, truth = views(1)
    found = calibrate_cameras(made)["right"]
    e = tracker_errors(found.transform, truth)
    assert np.degrees(np.linalg.norm(e[:3])) < 0.2
    assert np.linalg.norm(e[3:]) < 0.005
    back = calibrate_cameras(made, reference="right")["left"]
    assert_allclose((back.transform @ found.transform).matrix, np.eye(4), atol=2e-3)


def test_stamps_that_are_late_are_found():
    made, truth = views(2, lag=0.08)
    found = calibrate_cameras(made)["right"]
    assert found.diagnostics["lag"] == pytest.approx(-0.08, abs=0.005)
    late = calibrate_cameras(made, max_lag=0.0)["right"]
    assert np.linalg.norm(tracker_errors(found.transform, truth)) < np.linalg.norm(
        tracker_errors(late.transform, truth)
    )
    assert late.std[3:].max() > 2 * found.std[3:].max()


def test_a_camera_that_saw_nothing_in_common_is_refused():
    made, _ = views(3)
    times, values = made["right"]
    assert calibrate_cameras(made | {"right": (times + 100.0, values)})["right"].status == "no_match"


def test_means_of_poses_leave_wild_ones_out():
    rng = np.random.default_rng(0)
    inside = []
    for _ in range(60):
        turns = Rotation.from_rotvec(rng.normal(0, 0.02, (60, 3))) * Rotation.from_matrix(TURN)
        poses = np.hstack([rng.normal(0, 0.01, (60, 3)), turns.as_quat()])
        poses[:9] = np.hstack([rng.normal(0, 1.0, (9, 3)), Rotation.random(9, random_state=rng).as_quat()])
        poses = poses[rng.permutation(60)]
        found = average_poses(poses)
        inside.append(np.abs(tracker_errors(found.transform, Rigid.from_parts(TURN, np.zeros(3)))) < 1.96 * found.std)
    assert found.inliers.sum() < 56
    assert 0.9 <= np.mean(inside) <= 0.99


def test_poses_that_do_not_agree_are_no_match():
    rng = np.random.default_rng(0)
    poses = np.hstack([rng.normal(size=(40, 3)), Rotation.random(40, random_state=rng).as_quat()])
    assert average_poses(poses).status == "no_match"


CORNERS = np.array([[0.054 * x, 0.054 * y, 0.0] for y in range(4) for x in range(3)]) - [0.054, 0.081, 0.0]


def board_tracks(seed: int, lag: float = 0.0, noise: float = 0.3, moving: float = 1.0, wild: float = 0.0):
    """Three cameras about a board that is waved; the second one's stamps are late."""
    rng = np.random.default_rng([seed, 5])
    waves = rng.uniform(0.2, 0.7, (6, 2)), rng.uniform(0, 2 * np.pi, (6, 2)), np.repeat([0.1, 0.35], 3)[:, None]
    made, truth = {}, {}
    for k, name in enumerate(("left", "middle", "right")):
        turn = Rotation.from_euler("yxz", [0.5 - 0.5 * k, 0.1 * k - 0.1, 0.2 * k])
        truth[name] = Rigid.from_parts(turn.as_matrix(), [0, 0, 1.0] - turn.apply([0, 0, 1.0 + 0.1 * k]))
        lens = Camera(np.array([[700.0, 0, 640], [0, 700, 360], [0, 0, 1]]), (1280, 720), [0.1, -0.1, 0.001, 0, 0.02])
        times = np.arange(0, 12, 0.1) + rng.uniform(0, 0.1) + rng.uniform(-0.01, 0.01, 120)
        values, corners = [], []
        for t in times:
            move = moving * (waves[2] * np.sin(2 * np.pi * waves[0] * t + waves[1])).sum(axis=1)
            at = move[:3] + np.array([0.0, 0.0, 1.0])
            there = Rigid.from_parts(Rotation.from_rotvec(move[3:]).as_matrix(), at)
            pose = truth[name].inverse() @ there
            pixels = lens(pose(CORNERS)) + rng.normal(0, noise, (12, 2))
            if rng.uniform() < wild:
                pixels[rng.integers(12)] += 30.0
            found = _board_pose(CORNERS, pixels, lens.matrix, lens.distortion)
            values.append(np.full(7, np.nan) if found is None else found)
            corners.append((CORNERS, pixels))
        kept = np.isfinite(np.array(values)).all(axis=1)
        made[name] = BoardTrack(
            "pose", "pose", np.array(values)[kept], times=times[kept] + lag * (k == 1), camera=lens,
            corners=tuple(c for c, keep in zip(corners, kept, strict=True) if keep),
        )  # fmt: skip
    return made, {name: truth["left"].inverse() @ pose for name, pose in truth.items()}


def test_corners_tell_more_than_poses_and_intervals_hold():
    inside, ours, theirs = [], [], []
    for seed in range(8):
        made, truth = board_tracks(seed, lag=0.06, wild=0.05)
        found = calibrate_cameras(made)
        assert found["middle"].diagnostics["lag"] == pytest.approx(-0.06, abs=0.002)
        means = calibrate_cameras({name: (track.times, track.values) for name, track in made.items()})
        for name in ("middle", "right"):
            error = tracker_errors(found[name].transform, truth[name])
            inside.append(np.abs(error) < 1.96 * found[name].std)
            ours.append(error)
            theirs.append(tracker_errors(means[name].transform, truth[name]))
    assert np.std(ours) < 0.6 * np.std(theirs)
    assert 0.9 <= np.mean(inside) <= 0.99


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_a_board_that_stands_still_tells_no_lag(noise):
    made, truth = board_tracks(1, moving=0.0, lag=0.1, noise=noise)
    found = calibrate_cameras(made)
    assert abs(found["middle"].diagnostics["lag"]) < 0.25
    for name in ("middle", "right"):
        assert np.degrees(np.linalg.norm(tracker_errors(found[name].transform, truth[name])[:3])) < 1.0


def test_slopes_of_the_adjustment_are_those_of_its_residuals():
    made, truth = board_tracks(2, lag=0.04)
    lags = np.array([0.0, -0.03, 0.01])
    problem = _Adjustment(list(made.values()), lags, 0.25)
    poses = list(truth.values())
    path = problem.start_at(poses)
    _, slopes = problem._jacobian(poses, lags, path, slice(0, None))
    _, prior = problem._priors(lags, path)
    rng = np.random.default_rng(0)
    for _ in range(4):
        step = 1e-6 * rng.normal(size=slopes.shape[1])
        there, back = (problem._moved(poses, lags, path, sign * step) for sign in (1, -1))
        assert_allclose(
            (problem._residuals(*there) - problem._residuals(*back)) / 2, slopes @ step, atol=1e-8, rtol=1e-5
        )
        assert_allclose((problem._priors(*there[1:])[0] - problem._priors(*back[1:])[0]) / 2, prior @ step, atol=1e-8)


@pytest.mark.slow
def test_real_cameras_around_a_board(shared):
    import cv2

    folder = shared / "geometry" / "charuco_4cam"
    stated = tomllib.loads((folder / "camera_array.toml").read_text())["cameras"]
    with (folder / "calibration" / "extrinsic" / "timestamps.csv").open() as file:
        rows = list(csv.DictReader(file))
    side = 0.054
    board = cv2.aruco.CharucoBoard(
        (4, 5), side, 0.75 * side, cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_4X4_1000)
    )
    seen = {}
    for c in range(4):
        camera = Camera(np.array(stated[str(c)]["matrix"]), (1280, 720), np.array(stated[str(c)]["distortions"]))
        times = [
            float(r["frame_time"]) for r in sorted(rows, key=lambda r: int(r["frame_index"])) if int(r["cam_id"]) == c
        ]
        film = avfuse.read(folder / "calibration" / "extrinsic" / f"cam_{c}.mp4")["picture"]
        seen[f"cam_{c}"] = track_board(film, board, camera, times=times, inverted=True)
    poses = {c: Rigid.from_parts(stated[str(c)]["rotation"], stated[str(c)]["translation"]) for c in range(4)}
    # What is stated took stamps as they are: so taken, every pair is as stated.
    found = calibrate_cameras(seen, max_lag=0.0)
    for one, two in itertools.combinations(range(4), 2):
        between = found[f"cam_{one}"].transform.inverse() @ found[f"cam_{two}"].transform
        e = tracker_errors(between, poses[one] @ poses[two].inverse())
        assert np.degrees(np.linalg.norm(e[:3])) < 1.5
        assert np.linalg.norm(e[3:]) < 0.03
    # Those of cam_1 are late: with lags, all corners fit far better.
    late = calibrate_cameras(seen)
    assert late["cam_1"].diagnostics["lag"] == pytest.approx(-0.12, abs=0.01)
    assert late["cam_1"].diagnostics["error_px"] < 0.5 * found["cam_1"].diagnostics["error_px"]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: align_trajectories(3, 4), "expected a pose Stream"),  # type: ignore[arg-type]
        (lambda: align_trajectories(([0, 1], np.zeros((2, 6))), path()), r"expected \(n,\) and \(n, 7\)"),
        (lambda: align_trajectories(([0, 2, 1], np.ones((3, 7))), path()), "do not rise"),
        (lambda: align_trajectories((np.arange(9.0), np.zeros((9, 7))), path()), "quaternions of length 0"),
        (lambda: relative_errors(np.ones((3, 7)), np.ones((3, 7)), step=3), "step 3 over 3 poses"),
        (lambda: absolute_errors(np.ones((3, 7)), np.ones((2, 7))), "3 and 2 poses"),
        (lambda: nearest_times([], [1.0]), "not empty"),
        (lambda: calibrate_cameras({"one": path()}), "1 views"),
        (lambda: average_poses(np.ones((3, 7))), "3 poses; expected at least 8"),
        (lambda: calibrate_hand_eye(np.ones((3, 7)), np.ones((3, 7))), "at least 6"),
        (lambda: calibrate_hand_eye(np.ones((9, 7)), path()), "only one of reference and moving has times"),
        (lambda: calibrate_hand_eye(2 * np.tile(np.eye(4), (9, 1, 1)), np.ones((9, 7))), "no rigid poses"),
    ],
)
def test_bad_input_is_told_in_one_line(call, said):
    with pytest.raises(StreamError, match=said) as caught:
        call()
    assert "\n" not in str(caught.value)
