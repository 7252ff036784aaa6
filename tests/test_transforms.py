"""Transforms from correspondences: laws, refusals, intervals, real pictures."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.transform import Rotation

from avfuse import Camera, Rigid, StreamError
from avfuse.simulation.scenes3d import KINDS, Correspondences, simulate_correspondences
from avfuse.spatial import (
    estimate_affine,
    estimate_essential,
    estimate_fundamental,
    estimate_homography,
    estimate_pose,
    estimate_rigid,
    estimate_similarity,
)
from avfuse.transform_estimate import TransformEstimate

MAPS = ("homography", "affine", "similarity", "rigid", "similarity-3d", "rigid-3d")
PLANE = (estimate_homography, estimate_affine, estimate_similarity, estimate_rigid)
PAIRS = (*PLANE, estimate_fundamental)


def find(kind: str, made: Correspondences, **options) -> TransformEstimate:
    if kind == "pose":
        return estimate_pose(made.reference, made.moving, camera=made.camera, **options)
    if kind == "essential":
        return estimate_essential(made.reference, made.moving, cameras=made.camera, **options)
    if kind.endswith("3d"):
        options.setdefault("threshold", 4 * made.noise)
    name = kind.removesuffix("-3d")
    called = {f.__name__: f for f in PAIRS}[f"estimate_{name}"]
    return called(made.reference, made.moving, **options)


def errors(kind: str, found: TransformEstimate, made: Correspondences) -> np.ndarray:
    """Of what a covariance is stated for: the truth in the coordinates about the estimate."""
    a, b = found.transform.matrix, made.truth.matrix
    if kind == "homography":
        return (b / b[2, 2] - a / a[2, 2]).ravel()[:8]
    if kind == "affine":
        return (b - a)[:2].ravel()
    if kind in ("fundamental", "essential"):
        return (b * np.sign(np.sum(a * b)) - a).ravel()
    d = len(a) - 1
    turn = b[:d, :d] @ np.linalg.inv(a[:d, :d])
    growth = np.linalg.det(turn) ** (1 / d)
    turn = turn / growth
    angles = [np.arctan2(turn[1, 0], turn[0, 0])] if d == 2 else Rotation.from_matrix(turn).as_rotvec()
    parts = [*angles, *(b - a)[:d, d]]
    return np.array([*parts, np.log(growth)] if kind.startswith("similarity") else parts)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("outliers", [0.2, 0.6])
def test_the_truth_is_found_among_outliers(kind, outliers):
    for seed in range(3):
        made = simulate_correspondences(kind, np.random.default_rng(seed), count=300, outliers=outliers)
        found = find(kind, made)
        assert found.status == "aligned", found.message
        assert found.transform.kind == made.truth.kind
        assert np.mean(found.inliers[made.right]) > 0.95
        away = errors(kind, found, made)
        # As far from the truth as its covariance says, on the space in which it varies.
        values, axes = np.linalg.eigh(found.cov)
        used = values > 1e-9 * values.max() if kind in ("fundamental", "essential") else values > 0
        assert np.all(np.abs(axes.T[used] @ away) < 6 * np.sqrt(values[used]))


@pytest.mark.parametrize("kind", KINDS)
def test_the_mask_is_that_of_the_transform_returned(kind):
    made = simulate_correspondences(kind, np.random.default_rng(3), outliers=0.5)
    found = find(kind, made)
    assert found.residuals.shape == found.inliers.shape == made.right.shape
    limit = 4 * made.noise if kind.endswith("3d") else 3.0
    assert_array_equal(found.inliers, found.residuals <= limit)
    if kind in MAPS or kind == "pose":
        mapped = found.transform(made.moving)
        mapped = made.camera(mapped) if kind == "pose" else mapped
        assert_allclose(
            found.residuals[found.inliers], np.linalg.norm(mapped - made.reference, axis=1)[found.inliers], atol=1e-9
        )
    elif kind == "fundamental":
        lines = found.transform(made.moving)
        off = np.abs(np.sum(lines[:, :2] * made.reference, axis=1) + lines[:, 2])
        assert np.all((found.residuals <= off + 1e-9)[found.inliers])
        # On their line, and behind a camera: half of the outliers there.
        assert np.isinf(found.residuals).any()


@pytest.mark.parametrize("kind", KINDS)
def test_equal_input_gives_equal_bits_and_scores_only_help(kind):
    made = simulate_correspondences(kind, np.random.default_rng(4), outliers=0.5)
    one, two = find(kind, made), find(kind, made, rng=0)
    assert_array_equal(one.transform.matrix, two.transform.matrix)
    assert_array_equal(one.cov, two.cov)
    helped = find(kind, made, scores=made.right.astype(float), rng=np.random.default_rng(9))
    assert_allclose(
        helped.transform.matrix, one.transform.matrix, rtol=0.05, atol=0.05 * np.abs(one.transform.matrix).max()
    )
    assert helped.diagnostics["draws"] <= one.diagnostics["draws"]


@pytest.mark.parametrize("kind", MAPS[1:])
def test_swapping_the_sides_inverts_the_map(kind):
    made = simulate_correspondences(kind, np.random.default_rng(5), outliers=0.4, noise=0.1)
    there = find(kind, made)
    back = find(kind, dataclasses.replace(made, reference=made.moving, moving=made.reference))
    x = made.moving[made.right]
    assert_allclose(back.transform(there.transform(x)), x, atol=0.2 if "3d" not in kind else 0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_without_noise_the_truth_comes_out_exactly(kind):
    made = simulate_correspondences(kind, np.random.default_rng(6), count=60, outliers=0.3, noise=0.0)
    found = find(kind, made, threshold=0.01)
    assert found.status == "aligned", found.message
    assert np.abs(errors(kind, found, made)).max() < 1e-6 * max(np.abs(made.truth.matrix).max(), 1)


@pytest.mark.parametrize("kind", KINDS)
def test_more_noise_is_told(kind):
    stds = []
    for noise in (0.2, 0.8):
        made = simulate_correspondences(kind, np.random.default_rng(7), outliers=0.0, noise=noise)
        stds.append(np.sqrt(np.trace(find(kind, made, **({"threshold": 0.03} if "3d" in kind else {})).cov)))
    assert 2.5 < stds[1] / stds[0] < 6.5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "count", "outliers"),
    [(k, n, o) for k in (*MAPS, "pose") for n, o in ((300, 0.3), (15, 0.0))]
    + [(k, 300, o) for k in ("fundamental", "essential") for o in (0.0, 0.3)],
)
def test_intervals_hold(kind, count, outliers):
    held, best = [], []
    for seed in range(150):
        made = simulate_correspondences(kind, np.random.default_rng(seed), count=count, outliers=outliers, noise=0.6)
        found = find(kind, made)
        if found.status != "aligned":
            continue
        away = errors(kind, found, made)
        if kind in ("fundamental", "essential"):
            free = 7 if kind == "fundamental" else 5
            values, axes = np.linalg.eigh(found.cov)
            within = np.abs(axes.T[-free:] @ away) < 1.96 * np.sqrt(values[-free:])
            held.extend(within)
            best.append(within[0])
        else:
            held.extend(np.abs(away) < 1.96 * found.std)
    # Parameters of one estimate go together: about 300 independent ones leave 1.3 % of chance.
    assert 0.91 < np.mean(held) < 0.985
    # Also in the direction that is known best, into which steps along the others bend.
    assert not best or np.mean(best) > 0.89


# What is refused


@pytest.mark.parametrize("kind", KINDS)
def test_unrelated_points_are_refused(kind):
    for seed in range(6):
        rng = np.random.default_rng(100 + seed)
        made = simulate_correspondences(kind, rng, count=int(rng.integers(12, 60)), outliers=1.0)
        found = find(kind, made)
        assert found.status in ("no_match", "degenerate")
        with pytest.raises(Exception, match=found.status):
            _ = found.transform


@pytest.mark.parametrize("kind", KINDS)
def test_too_few_are_degenerate(kind):
    made = simulate_correspondences(kind, np.random.default_rng(8), count=20, outliers=0.0)
    for count in (0, 1, 2):
        few = dataclasses.replace(made, reference=made.reference[:count], moving=made.moving[:count])
        found = find(kind, few)
        assert found.status == "degenerate"
        assert f"{count} correspondences" in found.message


@pytest.mark.parametrize("called", PAIRS)
def test_points_in_one_place_are_degenerate(called):
    x = np.full((30, 2), 7.0)
    assert called(x, x).status == "degenerate"
    rng = np.random.default_rng(1)
    assert called(x, rng.uniform(0, 100, (30, 2))).status == "degenerate"
    assert called(rng.uniform(0, 100, (30, 2)), x).status in ("degenerate", "no_match")


@pytest.mark.parametrize("called", [estimate_homography, estimate_affine, estimate_fundamental])
def test_points_in_one_line_are_degenerate(called):
    t = np.linspace(0, 600, 40)
    line = np.column_stack([t, 0.5 * t + 3])
    found = called(line + np.random.default_rng(1).normal(0, 0.3, line.shape), line)
    assert found.status == "degenerate"
    assert "line" in found.message


@pytest.mark.parametrize("called", [estimate_homography, estimate_affine])
def test_a_line_among_outliers_is_degenerate(called):
    rng = np.random.default_rng(2)
    t = rng.uniform(0, 600, 100)
    line = np.column_stack([t, 0.5 * t + 3])
    mov = np.concatenate([line, rng.uniform(0, 600, (60, 2))])
    ref = np.concatenate([line + rng.normal(0, 0.5, line.shape), rng.uniform(0, 600, (60, 2))])
    assert called(ref, mov).status == "degenerate"


def test_two_points_in_the_plane_are_enough_to_turn_but_a_line_in_space_is_not():
    t = np.linspace(0, 10, 30)[:, None]
    flat = t * [3.0, 1.0]
    assert estimate_rigid(flat * [1, -1] * 40, flat * 40).status in ("aligned", "no_match")
    assert estimate_rigid(flat * 40 + [5, 6], flat * 40).status == "aligned"
    line = t * [3.0, 1.0, 2.0]
    for called in (estimate_rigid, estimate_similarity):
        assert called(line + 1.0, line, threshold=0.05).status == "degenerate"


@pytest.mark.parametrize("kind", ["fundamental", "essential"])
@pytest.mark.parametrize("seed", range(4))
def test_noise_of_many_points_makes_no_depth_of_a_flat_scene(kind, seed):
    rng = np.random.default_rng([3, seed])
    made = simulate_correspondences(kind, rng, count=800, outliers=0.0, noise=1.0, planar=1.0)
    assert find(kind, made).status == "degenerate"


@pytest.mark.parametrize("kind", ["fundamental", "essential"])
def test_a_flat_scene_or_a_camera_that_only_turned_is_degenerate(kind):
    made = simulate_correspondences(kind, np.random.default_rng(9), outliers=0.3, noise=0.5, planar=1.0)
    found = find(kind, made)
    assert found.status == "degenerate"
    assert "estimate_homography" in found.message
    camera = made.camera
    rng = np.random.default_rng(3)
    rays = camera.rays(rng.uniform((0, 0), camera.size, (400, 2)))
    turn = Rigid.from_parts(Rotation.from_rotvec([0.05, -0.1, 0.02]).as_matrix(), np.zeros(3))
    pixels = camera(turn(rays)) + rng.normal(0, 0.5, (400, 2))
    turned = dataclasses.replace(made, reference=pixels, moving=camera(rays))
    assert find(kind, turned).status == "degenerate"


def test_a_plane_and_some_more_tell_the_fundamental_matrix():
    """Most samples of seven lie on the plane: they are completed from off it."""
    good = 0
    for seed in range(8):
        made = simulate_correspondences(
            "fundamental", np.random.default_rng(seed), outliers=0.3, noise=0.5, planar=0.85
        )  # fmt: skip
        found = find("fundamental", made)
        good += found.status == "aligned" and np.mean(found.inliers[made.right]) > 0.95
    assert good >= 7


def test_two_planes_alike_are_ambiguous():
    parts = [simulate_correspondences("homography", np.random.default_rng(s), count=150, outliers=0.0) for s in (1, 2)]
    found = estimate_homography(*(np.concatenate([getattr(p, n) for p in parts]) for n in ("reference", "moving")))
    assert found.status == "ambiguous"
    assert len(found.candidates) == 2
    for part, candidate in zip(parts, sorted(found.candidates, key=lambda c: _away(c, parts[0])), strict=True):
        assert _away(candidate, part) < 1.0


def _away(candidate, part):
    return np.median(np.linalg.norm(candidate(part.moving) - part.clean, axis=1))


def test_a_small_plane_seen_from_afar_is_ambiguous_and_a_near_one_is_not():
    camera = Camera(np.array([[600.0, 0, 320], [0, 600, 240], [0, 0, 1]]), (640, 480))
    rng = np.random.default_rng(1)
    board = np.column_stack([rng.uniform(-0.5, 0.5, (60, 2)), np.zeros(60)])
    turn = Rotation.from_euler("xyz", [0.4, 0.3, 0.2]).as_matrix()
    for away, status in ((25.0, "ambiguous"), (2.0, "aligned")):
        pose = Rigid.from_parts(turn, [0.1, 0.1, away])
        found = estimate_pose(camera(pose(board)) + rng.normal(0, 0.7, (60, 2)), board, camera=camera)
        assert found.status == status, found.message
    found = estimate_pose(camera(pose(board)), board, camera=camera, threshold=0.1)
    assert_allclose(found.transform.matrix, pose.matrix, atol=1e-6)


def test_a_camera_with_a_lens_on_a_rig():
    rng = np.random.default_rng(2)
    mount = Rigid.from_parts(Rotation.from_euler("xyz", [0.1, 1.2, -0.3]).as_matrix(), [0.1, 0.2, 0.3])
    for camera in (
        Camera(np.array([[500.0, 0, 320], [0, 520, 240], [0, 0, 1]]), (640, 480), np.array([-0.3, 0.1, 1e-3, 1e-3, 0])),
        Camera(
            np.array([[300.0, 0, 320], [0, 300, 240], [0, 0, 1]]), (640, 480), np.array([0.1, 0, 0, 0]), fisheye=True
        ),
    ):
        rig = dataclasses.replace(camera, pose=mount)
        pose = Rigid.from_parts(Rotation.random(random_state=4).as_matrix(), [1.0, -2.0, 0.5])
        pixels = rng.uniform((20, 20), (620, 460), (80, 2))
        points = pose.inverse()(rig.centre + rig.rays(pixels) * rng.uniform(2, 6, (80, 1)))
        pixels[::4] = rng.uniform((0, 0), (640, 480), (20, 2))
        found = estimate_pose(pixels, points, camera=rig)
        assert_allclose(found.transform.matrix, pose.matrix, atol=1e-6)
        assert_allclose((rig @ found.transform)(points[1]), pixels[1], atol=1e-3)


def test_cameras_of_their_own_and_the_four_poses():
    one = Camera(np.array([[600.0, 0, 320], [0, 600, 240], [0, 0, 1]]), (640, 480), np.array([-0.2, 0.05, 0, 0]))
    made = simulate_correspondences("pose", np.random.default_rng(3), count=200, outliers=0.0, noise=0.0, camera=one)
    other = Camera(np.array([[900.0, 0, 500], [0, 900, 400], [0, 0, 1]]))
    found = estimate_essential(made.reference, other(made.moving), cameras=(one, other), threshold=0.5)
    truth = made.motion
    near = [p for p in found.transform.poses() if np.allclose(p.rotation, truth.rotation, atol=1e-5)]
    direction = truth.translation / np.linalg.norm(truth.translation)
    assert any(np.allclose(p.translation, direction, atol=1e-4) for p in near)


def test_points_too_far_for_parallax_agree_with_an_essential_matrix():
    rng = np.random.default_rng(5)
    camera = Camera(np.array([[600.0, 0, 320], [0, 600, 240], [0, 0, 1]]))
    motion = Rigid.from_parts(Rotation.from_rotvec([0.02, -0.1, 0.03]).as_matrix(), np.array([1.0, 0.1, 0.1]))
    rays = camera.rays(rng.uniform((80, 60), (560, 420), (300, 2)))
    points = rays * np.where(np.arange(300) < 150, rng.uniform(4, 10, 300), 1e6)[:, None]
    moving, reference = (camera(p) + rng.normal(0, 0.5, (300, 2)) for p in (points, motion(points)))
    found = estimate_essential(reference, moving, cameras=camera)
    # Noise puts half of the far ones beyond infinity, by no more than itself.
    assert found.status == "aligned"
    assert np.mean(found.inliers) > 0.98


def test_what_would_lie_behind_a_camera_does_not_agree_with_an_essential_matrix():
    made = simulate_correspondences("essential", np.random.default_rng(2), count=200, outliers=0.0, noise=0.3)
    found = estimate_essential(made.reference, made.moving, cameras=made.camera)
    (pose,) = [p for p in found.transform.poses() if np.allclose(p.rotation, made.motion.rotation, atol=0.02)
               and p.translation @ made.motion.translation > 0]  # fmt: skip
    rays = made.camera.rays(made.moving)
    # On the line, but beyond where a point infinitely far is seen.
    behind = made.camera(rays @ pose.rotation.T - 0.4 * pose.translation)
    off = np.linalg.norm(behind - made.camera(rays @ pose.rotation.T), axis=1) > 30
    reference = np.where(off[:, None] & (np.arange(200) < 60)[:, None], behind, made.reference)
    moved = np.any(reference != made.reference, axis=1)
    again = estimate_essential(reference, made.moving, cameras=made.camera)
    assert moved.sum() > 20
    assert not again.inliers[moved].any()
    assert np.mean(again.inliers[~moved]) > 0.95


@pytest.mark.parametrize("called", PAIRS)
@pytest.mark.parametrize(
    ("reference", "moving", "options", "message"),
    [
        (np.zeros((9, 2)), np.zeros((8, 2)), {}, "as many points"),
        (np.zeros((9, 4)), np.zeros((9, 4)), {}, "expected"),
        (np.zeros(9), np.zeros(9), {}, "expected"),
        (np.full((9, 2), np.nan), np.zeros((9, 2)), {}, "9 points that are not finite"),
        ("points", np.zeros((9, 2)), {}, "numbers"),
        (np.zeros((9, 2)), np.zeros((9, 2)), {"threshold": 0.0}, "threshold"),
        (np.zeros((9, 2)), np.zeros((9, 2)), {"threshold": np.nan}, "threshold"),
        (np.random.default_rng(1).normal(0, 50, (9, 2)),) * 2 + ({"scores": np.zeros(3)}, "scores"),
        (np.random.default_rng(1).normal(0, 50, (9, 2)),) * 2 + ({"rng": -3}, "rng"),
    ],
)
def test_what_does_not_fit_is_one_line(called, reference, moving, options, message):
    with pytest.raises(StreamError, match=message) as caught:
        called(reference, moving, **options)
    assert "\n" not in str(caught.value)


def test_points_in_space_need_a_threshold():
    for called in (estimate_rigid, estimate_similarity):
        with pytest.raises(StreamError, match="threshold"):
            called(np.zeros((9, 3)), np.zeros((9, 3)))
    with pytest.raises(StreamError, match="shape"):
        estimate_rigid(np.zeros((9, 3)), np.zeros((9, 2)), threshold=1.0)
    with pytest.raises(StreamError, match="Camera"):
        estimate_pose(np.zeros((9, 2)), np.zeros((9, 3)), camera=np.eye(3))
    with pytest.raises(StreamError, match="9 pixels and 8 points"):
        estimate_pose(np.zeros((9, 2)), np.zeros((8, 3)), camera=Camera(np.diag([500.0, 500, 1])))
    with pytest.raises(StreamError, match="Camera"):
        estimate_essential(np.zeros((9, 2)), np.zeros((9, 2)), cameras=np.eye(3))


def test_an_estimate_goes_to_json():
    made = simulate_correspondences("homography", np.random.default_rng(1))
    entry = estimate_homography(made.reference, made.moving).to_json("a", "b")
    assert entry["kind"] == "homography"
    assert np.array(entry["cov"]).shape == (8, 8)
    refused = estimate_rigid(np.zeros((1, 3)), np.zeros((1, 3)), threshold=1.0).to_json("a", "b")
    assert refused["kind"] == "rigid"
