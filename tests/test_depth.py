"""Calibration of a depth sensor beside a camera: simulated truth, refusals, bad input, a real sweep."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np
import pytest

import avfuse
from avfuse.errors import StreamError, WeakAlignmentError
from avfuse.io.points import read_points
from avfuse.simulation.ranging import RangedScene, ranged_scene
from avfuse.spatial import calibrate_depth, calibration_basin
from avfuse.spatial.depth.basin import difference
from avfuse.spatial.depth.pose_box import moved
from avfuse.transform import Camera, Rigid

START = np.array([0.03, -0.04, 0.02, 0.08, -0.05, 0.06])  # 3.1 degrees and 11 cm
ASIDE = Rigid.from_parts([[0, -1, 0], [0, 0, -1], [1, 0, 0]], [0.0, 0.0, 0.0])


@functools.cache
def scene(seed: int = 3, frames: int = 3, sensor: str = "lidar", related: bool = True) -> RangedScene:
    return ranged_scene(
        np.random.default_rng(seed), frames=frames, place="street", sensor=sensor, related=related, size=(480, 360)
    )


def errors(found: Rigid, truth: Rigid) -> tuple[float, float]:
    turned, shifted = difference(found, truth)
    return float(np.degrees(np.linalg.norm(turned))), float(np.linalg.norm(shifted))


@pytest.mark.slow
@pytest.mark.parametrize("sign", [1, -1])
def test_a_lidar_is_found_beside_a_camera(sign: int) -> None:
    made = scene()
    found = calibrate_depth(made.frames, made.camera, moved(made.truth, sign * START))
    turned, shifted = errors(found.transform, made.truth)
    assert turned < 0.15
    assert shifted < 0.03
    assert found.confidence > 0.99
    z = np.concatenate(difference(found.transform, made.truth)) / found.std
    assert np.abs(z).max() < 4


@pytest.mark.slow
def test_a_gain_of_the_picture_and_units_of_intensity_do_not_matter() -> None:
    made = scene(frames=2)
    start = moved(made.truth, 0.3 * START)
    changed = [(40.0 + 0.5 * image.astype(np.float64), points, 7.0 * back) for image, points, back in made.frames]
    one, other = calibrate_depth(made.frames, made.camera, start), calibrate_depth(changed, made.camera, start)
    turned, shifted = errors(one.transform, other.transform)
    assert turned < 0.1
    assert shifted < 0.02


@pytest.mark.slow
def test_pictures_of_another_place_are_refused() -> None:
    made = scene(related=False)
    found = calibrate_depth(made.frames, made.camera, moved(made.truth, START))
    assert found.status in ("no_match", "ambiguous", "degenerate")
    assert found.message
    with pytest.raises(WeakAlignmentError):
        _ = found.transform


@pytest.mark.slow
def test_shuffled_intensities_are_not_matched() -> None:
    made, rng = scene(frames=2), np.random.default_rng(1)
    flat = [(rng.permuted(image.ravel()).reshape(image.shape), p, i) for image, p, i in made.frames]
    assert calibrate_depth(flat, made.camera, made.truth).status in ("no_match", "degenerate")


def test_pictures_of_one_colour_are_degenerate() -> None:
    made = scene(frames=1)
    found = calibrate_depth([(np.full((360, 480), 128, np.uint8), *made.frames[0][1:])], made.camera, made.truth)
    assert found.status == "degenerate"
    assert "one colour" in (found.message or "")


@pytest.mark.parametrize("kind", ["behind", "few", "none"])
def test_too_few_points_in_view_are_degenerate(kind: str) -> None:
    image, points, back = scene(frames=1).frames[0]
    chosen = {"behind": points * [-1, 1, 1], "few": points[:50], "none": points[:0]}[kind]
    found = calibrate_depth([(image, chosen, back[: len(chosen)])], scene(frames=1).camera, scene(frames=1).truth)
    assert found.status == "degenerate"
    assert "points lie in the pictures" in (found.message or "")


def test_points_without_structure_are_degenerate() -> None:
    made = scene(frames=1)
    y, z = (a.ravel() for a in np.meshgrid(np.linspace(-3, 3, 80), np.linspace(-2, 2, 60)))
    wall = np.stack([np.full(y.size, 5.0), y, z], axis=1)
    found = calibrate_depth([(made.frames[0][0], wall, np.full(len(wall), 9.0))], made.camera, ASIDE)
    assert found.status == "degenerate"
    assert "no structure" in (found.message or "")


def test_points_that_are_not_finite_are_left_out() -> None:
    made = scene(frames=1)
    image, points, back = made.frames[0]
    holes = np.concatenate([np.full((40, 3), np.nan), points[:60]])
    found = calibrate_depth([(image, holes, np.concatenate([np.zeros(40), back[:60]]))], made.camera, made.truth)
    assert found.status == "degenerate"  # 60 points are too few, and NaN is no error


def test_arrays_that_do_not_fit_are_refused_in_one_line() -> None:
    made = scene(frames=1)
    image, points, back = made.frames[0]
    holed = np.where(np.arange(480) == 3, np.nan, image.astype(np.float64))
    bad = {
        "no frames": [],
        "things": [(image, points)],
        "1, 3 or 4 channels": [(np.zeros((360, 480, 5)), points, back)],
        "shape (360,)": [(np.zeros(360), points, back)],
        "16 x 16": [(np.zeros((4, 4)), points, back)],
        "camera's have": [(np.zeros((100, 100)), points, back)],
        "NaN or infinite": [(holed, points, back)],
        "expected (n, 3)": [(image, points[:, :2], back)],
        "intensities of shape": [(image, points, back[:-1])],
        "all or none": [(image, points, back), (image, points, None)],
    }
    for words, frames in bad.items():
        with pytest.raises(StreamError) as caught:
            calibrate_depth(frames, made.camera, made.truth)
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)
    for more in ({"max_rotation": 0.0}, {"max_translation": -1.0}):
        with pytest.raises(StreamError, match="max_rotation"):
            calibrate_depth(made.frames, made.camera, made.truth, **more)
    with pytest.raises(StreamError, match="expected a Rigid"):
        calibrate_depth(made.frames, made.camera, np.eye(4))  # type: ignore[arg-type]
    with pytest.raises(StreamError, match="starts off by"):
        calibration_basin(made.frames, made.camera, made.truth, rotation=0.1, translation=0.1, starts=0)


def test_a_simulated_scene_shows_in_the_picture_what_the_lidar_hit() -> None:
    made = scene(frames=2)
    for image, points, back in made.frames:
        seen = (made.camera @ made.truth)(points)
        inside = made.camera.inside(np.nan_to_num(seen, nan=-9))
        at = np.round(seen[inside]).astype(int)
        assert np.corrcoef(image[at[:, 1], at[:, 0]], back[inside])[0, 1] > 0.3


def lidar_camera(shared: Path) -> tuple[list, Camera, Rigid]:
    import cv2

    folder = shared / "geometry" / "lidar_camera"
    cloud, image = read_points(folder / "calib.pcd"), cv2.imread(str(folder / "calib.png"))

    def stated(name: str, *keys: str) -> np.ndarray:
        made = json.loads((folder / name).read_text())
        for key in keys:
            made = made[key]
        return np.array(made["data"])

    inside = ("center_camera-intrinsic.json", "center_camera-intrinsic", "param")
    camera = Camera(stated(*inside, "cam_K"), (1920, 1200), stated(*inside, "cam_dist")[0])
    name = "top_center_lidar-to-center_camera-extrinsic"
    matrix = stated(f"{name}.json", name, "param", "sensor_calib")
    u, _, vt = np.linalg.svd(matrix[:3, :3])
    truth = Rigid.from_parts(u @ vt, matrix[:3, 3])
    return [(image, cloud.points, cloud.fields["intensity"])], camera, truth


@pytest.mark.slow
def test_a_real_sweep_comes_to_what_is_stated(shared: Path) -> None:
    frames, camera, stated = lidar_camera(shared)
    found = calibrate_depth(frames, camera, moved(stated, START))
    turned, shifted = errors(found.transform, stated)
    assert turned < 0.4  # one sweep, a statement of unknown quality
    assert shifted < 0.15


@pytest.mark.slow
def test_a_real_sweep_in_a_mirrored_picture_is_refused(shared: Path) -> None:
    frames, camera, stated = lidar_camera(shared)
    image, points, back = frames[0]
    found = calibrate_depth([(image[::-1], points, back)], camera, stated)
    assert found.status != "aligned"


def test_asked_for_from_the_package() -> None:
    assert avfuse.spatial.calibrate_depth is calibrate_depth
