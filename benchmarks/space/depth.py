"""Where a LiDAR or depth camera sits beside a camera: errors, intervals, refusals, the basin, and what a look costs.

No peer that pip installs does this from plain arrays; direct_visual_lidar_calibration needs ROS. Times are of whatever
else this machine did meanwhile; that of one distance is its own on the processor, of one thread.
"""

from __future__ import annotations

import json
import time
from collections import Counter

import numpy as np

from avfuse.io.points import read_points
from avfuse.reporting.tables import Table, percent
from avfuse.simulation.ranging import RangedScene, ranged_scene
from avfuse.spatial import JointInformation, calibrate_depth, calibration_basin
from avfuse.spatial.depth.basin import difference
from avfuse.spatial.depth.pose_box import moved
from avfuse.spatial.depth.visibility import lens_of
from avfuse.transform import Camera, Rigid
from avfuse.transform_estimate import TransformEstimate
from benchmarks.options import SHARED, Options
from benchmarks.tables import Goals

_OFF = np.array([np.radians(3)] * 3 + [0.1] * 3)
_POINTS = 120_000
_CONDITIONS = (("street", "lidar", True), ("room", "lidar", True), ("street", "depth", True), ("room", "depth", True))
_UNRELATED = (("street", "lidar", False), ("room", "lidar", False))


def tables(options: Options, goals: Goals) -> list[Table]:
    made = [_evaluation(options, goals), _simulated(options, goals)]
    if (SHARED / "geometry" / "lidar_camera").is_dir():
        made.append(_real(options, goals))
    return made


def _evaluation(options: Options, goals: Goals) -> Table:
    """One information distance at 120 k points, of a picture of HD size."""
    rng = np.random.default_rng(options.seed)
    image = rng.uniform(0, 255, (1080, 1920)).astype(np.float32)
    # In the order in which a LiDAR of 240 lines gives them.
    y, x = (a.ravel() for a in np.meshgrid(np.linspace(-1.6, 1.6, 240), np.linspace(-3, 3, 500), indexing="ij"))
    points = np.stack([x, y, np.full(_POINTS, 6.0)], axis=1)
    matrix = np.array([[1800.0, 0, 960], [0, 1800, 540], [0, 0, 1]])
    lens = lens_of(Camera(matrix, (1920, 1080), np.array([-0.1, 0.02, 0, 0])))
    pose, joint = Rigid(np.eye(4)), JointInformation(rng.uniform(0, 1, _POINTS), image)
    positions = lens.project(points, pose)
    blocks = np.zeros(_POINTS, np.int64)
    calls = {
        "information distance": lambda: joint.distance(positions),
        "the same, points projected first": lambda: joint.distance(lens.project(points, pose)),
        "distance and slopes by pixels": lambda: joint.slopes(positions),
        "distance and slopes by the pose": lambda: lens.pose_slopes(
            points, pose, np.asarray(joint.slopes(lens.project(points, pose))[1], np.float64), blocks, 1
        ),
    }
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    # One after the other, as a search asks for them: nothing here is compared with another.
    for name, call in calls.items():
        for _ in range(options.pick(100, 500)):
            began = time.thread_time()
            call()
            seconds[name].append(time.thread_time() - began)
    rows = [(n, f"{1e3 * np.median(s):.2f}", f"{1e3 * np.min(s):.2f}") for n, s in seconds.items()]
    median = float(np.median(seconds["information distance"]))
    goals.add("information distance, 120 k points: <= 0.6 ms", f"{1e3 * median:.2f} ms", median <= 0.6e-3)
    return Table(f"One look at {_POINTS} points, one thread", ("what", "median [ms]", "least [ms]"), rows)


def _simulated(options: Options, goals: Goals) -> Table:
    rows, z_all = [], []
    for place, sensor, related in (*_CONDITIONS, *_UNRELATED):
        turned, shifted, z, seconds = [], [], [], []
        statuses = Counter[str]()
        for k in range(options.pick(1, 3)):
            rng = np.random.default_rng([options.seed, k, place == "room", sensor == "depth", related])
            scene = ranged_scene(rng, place=place, sensor=sensor, related=related)  # type: ignore[arg-type]
            began = time.perf_counter()
            found = calibrate_depth(scene.frames, scene.camera, moved(scene.truth, rng.uniform(-_OFF, _OFF)))
            seconds.append(time.perf_counter() - began)
            statuses[found.status] += 1
            if found.answer is not None:
                a, b, c = _errors(found, scene)
                turned.append(a)
                shifted.append(b)
                z.extend(np.abs(c))
        aligned, total = statuses["aligned"], sum(statuses.values())
        name = f"{place}, {sensor}" + ("" if related else ", picture of another place")
        rows.append(
            (name, total, aligned, total - aligned,
             f"{np.median(turned):.3f} / {max(turned):.3f}" if turned else "-",
             f"{100 * np.median(shifted):.1f} / {100 * max(shifted):.1f}" if shifted else "-",
             percent(int(np.sum(np.array(z) < 1.96)), len(z)) if z else "-", f"{np.median(seconds):.0f}")
        )  # fmt: skip
        if not related:
            goals.add(f"{name}: refused", f"{total - aligned} of {total}", aligned == 0)
        elif sensor == "lidar":
            z_all += z
            worst = f"{max(turned):.3f} deg, {100 * max(shifted):.1f} cm, {aligned} of {total}" if turned else "none"
            met = aligned == total and max(turned) <= 0.1 and max(shifted) <= 0.02
            goals.add(f"{name}: all within 0.1 degrees and 2 cm", worst, met)
    held = float(np.mean(np.array(z_all) < 1.96)) if z_all else 0.0
    goals.add("95 % intervals of the pose hold 93-97 %", f"{100 * held:.0f} %", 0.93 <= held <= 0.97)
    return Table(
        "Simulated rigs, five frames, from up to 3 degrees about and 10 cm along each axis away",
        ("scene", "rigs", "aligned", "refused", "rotation, median / worst [deg]", "position, median / worst [cm]",
         "intervals hold", "seconds"),
        rows,
    )  # fmt: skip


def _errors(found: TransformEstimate, scene: RangedScene) -> tuple[float, float, np.ndarray]:
    turned, shifted = difference(found.transform, scene.truth)  # type: ignore[arg-type]
    z = np.concatenate([turned, shifted]) / found.std
    return float(np.degrees(np.linalg.norm(turned))), float(np.linalg.norm(shifted)), z


def _real(options: Options, goals: Goals) -> Table:
    frames, camera, stated = lidar_camera()
    rows = []
    for degrees, metres in ((1.0, 0.05), (2.0, 0.1), (3.0, 0.1)):
        basin = calibration_basin(
            frames, camera, stated, rotation=np.radians(degrees), translation=metres, starts=options.pick(2, 12),
            rng=options.seed,
        )  # fmt: skip
        where = "-"
        if basin.answer is not None:
            turned, shifted = difference(basin.answer.transform, stated)  # type: ignore[arg-type]
            std = basin.answer.std
            where = f"{np.degrees(np.linalg.norm(turned)):.2f} deg, {100 * np.linalg.norm(shifted):.1f} cm"
            where += f" (1 sigma {np.degrees(np.linalg.norm(std[:3])):.2f}, {100 * np.linalg.norm(std[3:]):.1f})"
        statuses = Counter(e.status for e in basin.estimates)
        rows.append(
            (f"{degrees:g} deg, {100 * metres:g} cm", len(basin.starts),
             percent(int(basin.same.sum()), len(basin.same)), basin.astray,
             len(basin.starts) - statuses["aligned"], where)
        )  # fmt: skip
    goals.add("lidar_camera, +-3 degrees and +-10 cm: basin reported", rows[-1][2], True)
    goals.add("lidar_camera: starts that answer something else", str(rows[-1][3]), rows[-1][3] == 0)
    return Table(
        "Basin: one real sweep and one picture (lidar_camera)",
        ("starts off by up to, each axis", "starts", "come to one answer", "answer another", "refused",
         "that answer from the stated pose"),
        rows,
    )  # fmt: skip


def lidar_camera() -> tuple[list, Camera, Rigid]:  # type: ignore[type-arg]
    import cv2

    folder = SHARED / "geometry" / "lidar_camera"
    cloud, image = read_points(folder / "calib.pcd"), cv2.imread(str(folder / "calib.png"))
    inside = json.loads((folder / "center_camera-intrinsic.json").read_text())["center_camera-intrinsic"]["param"]
    name = "top_center_lidar-to-center_camera-extrinsic"
    stated = np.array(json.loads((folder / f"{name}.json").read_text())[name]["param"]["sensor_calib"]["data"])
    u, _, vt = np.linalg.svd(stated[:3, :3])
    camera = Camera(
        np.array(inside["cam_K"]["data"]), (inside["img_dist_w"], inside["img_dist_h"]),
        np.array(inside["cam_dist"]["data"])[0],
    )  # fmt: skip
    return [(image, cloud.points, cloud.fields["intensity"])], camera, Rigid.from_parts(u @ vt, stated[:3, 3])
