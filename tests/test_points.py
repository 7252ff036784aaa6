"""Clouds on clouds: laws on simulated scans, and a real pair with a stated transform."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.transform import Rotation

from avfuse.errors import StreamError
from avfuse.io.points import read_points
from avfuse.simulation.scans import simulate_scans
from avfuse.spatial.clouds.registration import register_points
from avfuse.transform import Rigid


def errors(found: Rigid, truth: Rigid) -> np.ndarray:
    """(rotation vector, translation) that the covariance is of."""
    turn = Rotation.from_matrix(truth.rotation @ found.rotation.T).as_rotvec()
    return np.concatenate([turn, truth.translation - found.translation])


@pytest.fixture(scope="module")
def street():
    return simulate_scans(np.random.default_rng(4), place="street")


def test_a_street_is_found_within_its_interval(street):
    found = register_points(street.reference, street.moving)
    assert found.status == "aligned"
    e = errors(found.transform, street.truth)
    assert np.abs(e[:3]).max() < np.radians(0.05)
    assert np.abs(e[3:]).max() < 0.005
    assert (np.abs(e) < 4 * found.std).all()
    assert found.inliers.shape == found.residuals.shape == (len(street.moving),)
    assert found.inliers.mean() > 0.8


def test_any_turn_is_found_without_a_start():
    pair = simulate_scans(np.random.default_rng(2), place="street", turned=2.5, apart=2.0)
    found = register_points(pair.reference, pair.moving)
    assert found.status == "aligned"
    assert np.degrees(np.linalg.norm(errors(found.transform, pair.truth)[:3])) < 0.1


def test_swapping_the_clouds_inverts_the_map(street):
    there = register_points(street.reference, street.moving).transform
    back = register_points(street.moving, street.reference).transform
    assert_allclose((there @ back).matrix, np.eye(4), atol=5e-3)


def test_moving_a_frame_moves_the_answer(street):
    """Far from the origin too, where maps that grow with coordinates lose digits."""
    shift = Rigid.from_parts(Rotation.from_rotvec([0.02, -0.01, 0.05]).as_matrix(), [400.0, 500.0, 20.0])
    plain = register_points(street.reference, street.moving)
    moved = register_points(shift(street.reference), street.moving, start=shift @ plain.transform)
    assert_allclose((shift.inverse() @ moved.transform).matrix, plain.transform.matrix, atol=2e-3)


def test_units_do_not_matter(street):
    metres = register_points(street.reference, street.moving).transform
    millimetres = register_points(1e3 * street.reference, 1e3 * street.moving).transform
    assert_allclose(millimetres.rotation, metres.rotation, atol=1e-4)
    assert_allclose(millimetres.translation / 1e3, metres.translation, atol=2e-3)


def test_threads_change_nothing(street):
    one, four = (register_points(street.reference, street.moving, threads=n) for n in (1, 4))
    assert_array_equal(one.transform.matrix, four.transform.matrix)
    assert_array_equal(one.cov, four.cov)


def test_more_noise_is_told():
    stds = []
    for noise in (0.005, 0.05):
        pair = simulate_scans(np.random.default_rng(9), noise=noise)
        stds.append(register_points(pair.reference, pair.moving).std)
    assert (stds[1] > 2 * stds[0]).all()


@pytest.mark.slow
def test_intervals_hold():
    inside = []
    for seed in range(40):
        place = ("room", "street")[seed % 2]
        pair = simulate_scans(np.random.default_rng([seed, 7]), place=place, noise=0.02, turned=0.3)
        found = register_points(pair.reference, pair.moving, start=pair.truth)
        inside.append(np.abs(errors(found.transform, pair.truth)) < 1.96 * found.std)
    assert 0.90 <= np.mean(inside) <= 0.99


@pytest.mark.parametrize(
    ("place", "said"), [("corridor", "shifts along"), ("plain", "turns about"), ("ball", "turns about")]
)
def test_what_slides_is_degenerate(place, said):
    pair = simulate_scans(np.random.default_rng(5), place=place)
    found = register_points(pair.reference, pair.moving)
    assert found.status == "degenerate"
    assert said in found.message
    assert "\n" not in found.message


def test_a_corridor_says_along_which_way():
    pair = simulate_scans(np.random.default_rng(5), place="corridor")
    assert "shifts along (1.00, " in register_points(pair.reference, pair.moving).message


@pytest.mark.parametrize("place", ["street", "room"])
def test_other_places_are_refused(place):
    pair = simulate_scans(np.random.default_rng(3), place=place, related=False)
    assert register_points(pair.reference, pair.moving).status in ("no_match", "ambiguous")


def test_a_place_that_repeats_itself_is_ambiguous():
    """A box looks the same turned half around."""
    rng = np.random.default_rng(1)
    faces = []
    for axis in range(3):
        for sign in (-1, 1):
            face = rng.uniform(-1, 1, (1500, 3)) * [3.0, 2.0, 1.0]
            face[:, axis] = sign * (3.0, 2.0, 1.0)[axis]
            faces.append(face)
    box = np.concatenate(faces)
    turn = Rigid.from_parts(Rotation.from_rotvec([0.0, 0.0, 1.2]).as_matrix(), [0.5, 0.2, 0.1])
    found = register_points(box[::2], turn.inverse()(box[1::2]))
    assert found.status == "ambiguous"
    assert len(found.candidates) >= 2


def test_the_real_pair(shared):
    folder = shared / "geometry" / "lidar_pair"
    reference, moving = (read_points(folder / f"{n}.ply").points for n in ("target", "source"))
    stated = np.loadtxt(folder / "T_target_source.txt")
    u, _, vt = np.linalg.svd(stated[:3, :3])
    truth = Rigid.from_parts(u @ vt, stated[:3, 3])
    found = register_points(reference, moving)
    assert found.status == "aligned"
    e = errors(found.transform, truth)
    assert np.degrees(np.linalg.norm(e[:3])) < 0.1
    assert np.linalg.norm(e[3:]) < 0.03


def test_real_scans_of_other_places_are_refused(shared):
    one = read_points(shared / "geometry" / "lidar_pair" / "target.ply").points
    other = read_points(shared / "geometry" / "lidar_camera" / "calib.pcd").points
    assert register_points(one, other).status == "no_match"


@pytest.mark.parametrize(
    ("reference", "options", "said"),
    [
        (np.zeros((100, 2)), {}, "expected .n, 3."),
        (np.zeros((5, 3)), {}, "has 5 points; expected at least 30"),
        (np.full((100, 3), np.nan), {}, "100 of 100 points of reference are NaN"),
        (np.random.default_rng(0).normal(size=(100, 3)), {"voxel": -1.0}, "voxel -1.0"),
        (np.random.default_rng(0).normal(size=(100, 3)), {"voxel": 50.0}, "voxel 50 leaves"),
        (np.random.default_rng(0).normal(size=(100, 3)), {"method": "best"}, "method 'best'"),
        (np.random.default_rng(0).normal(size=(100, 3)), {"neighbours": 2}, "neighbours 2"),
        (np.random.default_rng(0).normal(size=(100, 3)), {"robust": 0.0}, "robust 0.0"),
        (np.random.default_rng(0).normal(size=(100, 3)), {"start": np.eye(4)}, "expected a Rigid"),
    ],
)
def test_bad_input_is_told_in_one_line(reference, options, said):
    moving = np.random.default_rng(1).normal(size=(100, 3))
    with pytest.raises(StreamError, match=said) as caught:
        register_points(reference, moving, **options)
    assert "\n" not in str(caught.value)


def test_points_that_are_all_one_are_degenerate():
    assert register_points(np.ones((100, 3)), np.random.default_rng(0).normal(size=(100, 3))).status == "degenerate"
