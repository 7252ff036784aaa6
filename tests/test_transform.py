"""Maps of space: laws of composition, inverses, lenses against OpenCV's, what is refused."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.spatial.transform import Rotation

import avfuse
from avfuse import Affine, Camera, Essential, Fundamental, Homography, Rigid, Similarity, StreamError, TransformEstimate
from avfuse.transform import transform_from_json
from avfuse.transform_estimate import transform_estimate_from_json


def rigid(seed: int, dimension: int = 3) -> Rigid:
    rng = np.random.default_rng(seed)
    if dimension == 3:
        turn = Rotation.random(random_state=seed).as_matrix()
    else:
        c, s = np.cos(seed), np.sin(seed)
        turn = np.array([[c, -s], [s, c]])
    return Rigid.from_parts(turn, rng.standard_normal(dimension))


def some(kind: str, dimension: int, seed: int = 3) -> Homography:
    rng = np.random.default_rng(seed)
    one = rigid(seed, dimension)
    if kind == "rigid":
        return one
    if kind == "similarity":
        return Similarity.from_parts(one.rotation, one.translation, 2.5)
    matrix = np.array(one.matrix) + 0.1 * rng.standard_normal(one.matrix.shape)
    if kind == "affine":
        matrix[-1] = np.eye(dimension + 1)[-1]
        return Affine(matrix)
    matrix[-1, :-1] *= 0.05
    return Homography(matrix)


KINDS = [(k, d) for k in ("rigid", "similarity", "affine", "homography") for d in (2, 3)]


@pytest.mark.parametrize(("kind", "dimension"), KINDS)
def test_the_inverse_takes_back(kind, dimension):
    made, x = some(kind, dimension), np.random.default_rng(1).uniform(-1, 1, (20, dimension))
    assert made.kind == kind
    assert_allclose(made.inverse()(made(x)), x, atol=1e-9)
    assert type(made.inverse()) is type(made)


@pytest.mark.parametrize(("kind", "dimension"), KINDS)
def test_composing_is_doing_one_after_the_other(kind, dimension):
    a, b, x = (
        some(kind, dimension, 4),
        some("similarity", dimension, 5),
        np.random.default_rng(2).uniform(-1, 1, (9, dimension)),
    )
    assert_allclose((a @ b)(x), a(b(x)), atol=1e-9)
    assert (a @ b).kind == ("similarity" if kind == "rigid" else kind)
    assert (b @ a).kind == ("similarity" if kind == "rigid" else kind)


def test_one_point_is_taken_as_many_are():
    made = rigid(1)
    assert_allclose(made(np.array([1.0, 2.0, 3.0])), made(np.array([[1.0, 2.0, 3.0]]))[0])


@pytest.mark.parametrize("away", [1e3, 5e6, 1e9])
def test_frames_may_lie_far_apart(away):
    made = Rigid.from_parts(rigid(2).rotation, [away, -away, 10.0])
    assert_allclose(made.inverse()(made([[1.0, 2.0, 3.0]])), [[1.0, 2.0, 3.0]], atol=1e-12 * away + 1e-9)


def test_parts_of_a_similarity():
    made = some("similarity", 3)
    assert made.scale == pytest.approx(2.5)
    assert_allclose(made.rotation @ made.rotation.T, np.eye(3), atol=1e-12)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Rigid(np.diag([2.0, 2, 2, 1])), "scale"),
        (lambda: Rigid(np.diag([-1.0, 1, 1, 1])), "mirrored"),
        (lambda: Similarity(np.diag([2.0, 1, 1])), "stretched"),
        (lambda: Affine(np.array([[1.0, 0, 0], [0, 1, 0], [0.1, 0, 1]])), "last row"),
        (lambda: Homography(np.zeros((3, 3))), "singular"),
        (lambda: Homography(np.eye(5)), r"\(5, 5\)"),
        (lambda: Homography(np.full((3, 3), np.nan)), "finite"),
        (lambda: Fundamental(np.zeros((3, 3))), "not 0"),
        (lambda: rigid(1)(np.zeros((4, 2))), r"\(n, 3\)"),
        (lambda: rigid(1) @ rigid(1, 2), "do not meet"),
        (lambda: Camera(np.eye(3), distortion=np.zeros(3)), "3 distortion coefficients"),
        (lambda: Camera(np.diag([0.0, 1, 1])), "focal"),
        (lambda: Camera(np.eye(3)).inside([[0, 0]]), "size is not known"),
    ],
)
def test_what_is_none_is_refused(make, says):
    with pytest.raises(StreamError, match=says):
        make()


K = np.array([[800.0, 0, 330], [0, 790, 250], [0, 0, 1]])
LENSES = {
    "none": np.zeros(0),
    "4": np.array([-0.3, 0.1, 1e-3, -2e-3]),
    "5": np.array([-0.33, 0.046, -0.004, 0.004, 0.067]),
    "8": np.array([0.1, -0.05, 1e-3, 1e-3, 0.01, 0.05, -0.02, 0.003]),
    "12": np.array([0.1, -0.05, 1e-3, 1e-3, 0.01, 0.05, -0.02, 0.003, 1e-3, -2e-3, 2e-3, 1e-3]),
    "14": np.array([0.1, -0.05, 1e-3, 1e-3, 0.01, 0.05, -0.02, 0.003, 1e-3, -2e-3, 2e-3, 1e-3, 0.02, -0.03]),
}


def in_front(n: int = 50) -> np.ndarray:
    rng = np.random.default_rng(6)
    return np.column_stack([rng.uniform(-1, 1, (n, 2)) * [0.8, 0.6], np.ones(n)]) * rng.uniform(1, 5, (n, 1))


@pytest.mark.parametrize("lens", LENSES)
def test_lenses_bend_as_opencv_does(lens):
    camera, x = Camera(K, (640, 480), LENSES[lens]), in_front()
    expected = cv2.projectPoints(x, np.zeros(3), np.zeros(3), K, LENSES[lens] if lens != "none" else None)[0][:, 0]
    assert_allclose(camera(x), expected, atol=1e-7)


@pytest.mark.parametrize("lens", LENSES)
def test_rays_are_what_pixels_look_along(lens):
    camera, x = Camera(K, (640, 480), LENSES[lens]) @ rigid(7), rigid(7).inverse()(in_front())
    away = x - camera.centre
    assert_allclose(camera.rays(camera(x)), away / np.linalg.norm(away, axis=1, keepdims=True), atol=1e-8)
    assert_allclose(camera.inverse()(camera(x)), camera.rays(camera(x)))


def test_a_fisheye_bends_as_opencv_does_and_back():
    k = np.array([0.05, -0.01, 0.002, -0.0005])
    camera, x = Camera(K, (640, 480), k, fisheye=True), in_front() * [2, 2, 1]
    expected = cv2.fisheye.projectPoints(x[:, None], np.zeros(3), np.zeros(3), K, k)[0][:, 0]
    assert_allclose(camera(x), expected, atol=1e-7)
    assert_allclose(camera.rays(camera(x)), x / np.linalg.norm(x, axis=1, keepdims=True), atol=1e-8)


def test_what_lies_behind_has_no_pixel():
    assert np.isnan(Camera(K)(np.array([[0.0, 0, -1]]))).all()


@given(st.integers(0, 1000))
def test_four_poses_of_an_essential_matrix_hold_the_true_one(seed):
    truth = rigid(seed)
    t = truth.translation / np.linalg.norm(truth.translation)
    cross = np.array([[0, -t[2], t[1]], [t[2], 0, -t[0]], [-t[1], t[0], 0]])
    poses = Essential(cross @ truth.rotation).poses()
    assert min(np.abs(p.rotation - truth.rotation).max() + np.abs(p.translation - t).max() for p in poses) < 1e-9


def test_a_point_lies_on_its_epipolar_line_and_back():
    truth = rigid(11)
    t = truth.translation
    cross = np.array([[0, -t[2], t[1]], [t[2], 0, -t[0]], [-t[1], t[0], 0]])
    inverse = np.linalg.inv(K)
    made = Fundamental(inverse.T @ cross @ truth.rotation @ inverse)
    x = in_front()
    moved = truth(x)
    one, two = Camera(K)(x), (moved @ K.T)[:, :2] / moved[:, 2:]
    homogeneous = np.column_stack([two, np.ones(len(two))])
    assert_allclose((made(one) * homogeneous).sum(axis=1), 0, atol=1e-6)
    assert_allclose(np.hypot(*made(one)[:, :2].T), 1)
    back = np.column_stack([one, np.ones(len(one))])
    assert_allclose((made.inverse()(two) * back).sum(axis=1), 0, atol=1e-6)


@pytest.mark.parametrize(
    "made",
    [rigid(1), some("homography", 2), Essential(np.diag([1.0, 1, 0])), Camera(K, (640, 480), LENSES["5"]) @ rigid(2)],
)
def test_json_keeps_transforms(made):
    document = made.to_json() if isinstance(made, Camera) else {"kind": made.kind, "matrix": made.matrix.tolist()}
    back = transform_from_json(json.loads(json.dumps(document)))
    assert type(back) is type(made)
    assert_allclose(back.matrix, made.matrix)
    if isinstance(made, Camera):
        assert_allclose(back(made.pose.inverse()(in_front())), made(made.pose.inverse()(in_front())))


def test_estimates_go_to_json_and_back():
    made = TransformEstimate("aligned", rigid(1), np.eye(6) * 1e-4, confidence=0.97)
    entry = json.loads(json.dumps(made.to_json("cam", "lidar")))
    assert (entry["kind"], entry["reference"], entry["moving"]) == ("rigid", "cam", "lidar")
    back = transform_estimate_from_json(entry)
    assert_allclose(back.transform.matrix, made.transform.matrix)
    assert_allclose(back.std, made.std)


def test_asking_a_refusal_for_its_transform_tells_why():
    refused = TransformEstimate("degenerate", message="all points lie on one line")
    with pytest.raises(avfuse.WeakAlignmentError, match="all points lie on one line"):
        _ = refused.transform
    with pytest.raises(StreamError, match="only answers"):
        TransformEstimate("aligned")
