"""What a camera sees of points: kernels against their twins, and laws of hidden points and ends of things."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from avfuse._kernels import ranging as ray_kernels
from avfuse._kernels import visibility as kernels
from avfuse.errors import StreamError
from avfuse.spatial import visible_points
from avfuse.spatial.depth.pose_box import PoseBox, left_jacobian, moved
from avfuse.spatial.depth.visibility import Grid, lens_of
from avfuse.transform import Camera, Rigid

MATRIX = np.array([[500.0, 1.5, 300.0], [0.0, 510.0, 240.0], [0.0, 0.0, 1.0]])
LENSES = {
    "plain": Camera(MATRIX, (640, 480)),
    "bent": Camera(MATRIX, (640, 480), np.array([-0.2, 0.05, 0.001, -0.002, 0.01])),
    "tilted": Camera(
        MATRIX, (640, 480), np.array([-0.1, 0.02, 0.001, 0.002, 0, 0.01, 0, 0, 1e-3, 0, 0, 1e-3, 0.01, -0.02])
    ),
    "prism": Camera(
        MATRIX, (640, 480), np.array([-0.1, 0.02, 0.001, 0.002, 0.01, 0.02, -0.01, 0.001, 1e-3, 1e-4, -2e-3, 3e-4])
    ),
    "fisheye": Camera(MATRIX, (640, 480), np.array([0.1, -0.02, 0.003, 0.001]), True),
}
POSE = Rigid.from_parts(Rotation.from_rotvec([0.1, 0.2, -0.1]).as_matrix(), [0.1, 0.2, 0.3])
SEEDS = st.integers(0, 2**32 - 1)


def cloud(seed: int, n: int = 40) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.column_stack([rng.uniform(-2, 2, (n, 2)), rng.uniform(-1, 6, n)])


def scattered(seed: int, n: int = 40) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.uniform(-5, 65, (n, 2)), rng.choice([1.0, 1.5, 3.0], n) * rng.uniform(1.0, 1.2, n)


@pytest.mark.kernel
@pytest.mark.parametrize("name", LENSES)
@settings(max_examples=20)
@given(seed=SEEDS)
def test_points_go_through_the_lens_as_through_the_camera(name: str, seed: int) -> None:
    camera, points = LENSES[name], cloud(seed)
    lens = lens_of(camera)
    found, expected = lens.project(points, POSE), (camera @ POSE)(points)
    x = POSE(points)
    shown = (x[:, 2] > 0) & (((x[:, :2] / x[:, 2:]) ** 2).sum(axis=1) <= lens.values[6])
    np.testing.assert_allclose(found[shown], expected[shown], atol=1e-8)
    assert np.isnan(found[~shown]).all()


@pytest.mark.kernel
@pytest.mark.parametrize("name", LENSES)
@settings(max_examples=20)
@given(seed=SEEDS)
def test_slopes_by_the_pose_are_those_of_differences(name: str, seed: int) -> None:
    lens, points = lens_of(LENSES[name]), cloud(seed)
    slopes = np.random.default_rng(seed).normal(size=(len(points), 2))
    # Near the end of what a lens shows, a small change takes a point out of it.
    x = POSE(points)
    with np.errstate(divide="ignore", invalid="ignore"):
        inside = (x[:, 2] > 0.3) & (((x[:, :2] / x[:, 2:]) ** 2).sum(axis=1) < 0.95 * lens.values[6])
    slopes[~inside] = 0
    expected = reference.pose_slopes(points[inside], lambda p, c: lens.project(p, moved(POSE, c)), slopes[inside])
    blocks = np.random.default_rng(seed).integers(0, 3, len(points))
    found = lens.pose_slopes(points, POSE, slopes, blocks, 3)
    np.testing.assert_allclose(found.sum(axis=0), expected, rtol=1e-5, atol=1e-3)
    alone = lens.pose_slopes(points[blocks == 1], POSE, slopes[blocks == 1], np.zeros(sum(blocks == 1), np.int64), 1)
    np.testing.assert_allclose(found[1], alone[0], rtol=1e-12, atol=1e-9)


@pytest.mark.kernel
@settings(max_examples=30)
@given(seed=SEEDS, cell=st.sampled_from([5.0, 9.0, 20.0]), reach=st.integers(1, 3))
def test_hidden_points_are_those_of_the_twin(seed: int, cell: float, reach: int) -> None:
    positions, depths = scattered(seed)
    grid = (positions, depths, cell, int(60 / cell), int(60 / cell), reach)
    np.testing.assert_array_equal(kernels.visible(*grid, 0.1), reference.visible(*grid, 0.1))


@pytest.mark.kernel
@settings(max_examples=30)
@given(seed=SEEDS, cell=st.sampled_from([5.0, 9.0, 20.0]), reach=st.integers(1, 3))
def test_points_that_stand_out_are_those_of_the_twin(seed: int, cell: float, reach: int) -> None:
    positions, depths = scattered(seed)
    grid = (positions, depths, cell, int(60 / cell), int(60 / cell), reach)
    found, expected = kernels.standing_out(*grid), reference.standing_out(*grid)
    np.testing.assert_allclose(found[0], expected[0], atol=1e-12)
    np.testing.assert_array_equal(found[1], expected[1])


@pytest.mark.kernel
@settings(max_examples=20)
@given(seed=SEEDS)
def test_rays_meet_the_rectangles_of_the_twin(seed: int) -> None:
    rng = np.random.default_rng(seed)
    turns = Rotation.random(6, random_state=int(rng.integers(2**31))).as_matrix()
    sides = turns[:, :2] * rng.uniform(0.5, 4, (6, 2, 1))
    corners, origin, directions = rng.normal(0, 3, (6, 3)), rng.normal(0, 1, 3), rng.normal(0, 1, (20, 3))
    which, far, at = ray_kernels.cast(origin, directions, corners, sides)
    expected = reference.cast(origin, directions, corners, sides)
    np.testing.assert_array_equal(which, expected[0])
    np.testing.assert_allclose(far, expected[1], rtol=1e-9)
    np.testing.assert_allclose(at, expected[2], atol=1e-9)


def test_a_lens_that_bends_back_shows_nothing_beyond() -> None:
    # x (1 - 0.4 x^2) turns back at 0.91: what is at 60 degrees would come to lie in the picture again.
    camera = Camera(np.array([[300.0, 0, 320], [0, 300, 240], [0, 0, 1]]), (640, 480), np.array([-0.4, 0, 0, 0.0]))
    aside = np.array([[1.58, 0.0, 1.0]])
    assert camera.inside(camera(aside)).all()
    assert np.isnan(lens_of(camera).project(aside, Rigid(np.eye(4)))).all()
    assert np.isfinite(lens_of(camera).project([[0.8, 0.0, 1.0]] @ np.eye(3), Rigid(np.eye(4)))).all()


def test_a_wall_is_hidden_by_a_board_and_ground_hides_nothing() -> None:
    camera = Camera(np.array([[200.0, 0, 100], [0, 200, 100], [0, 0, 1]]), (200, 200))
    x, y = (a.ravel() for a in np.meshgrid(np.linspace(-0.45, 0.45, 60), np.linspace(-0.45, 0.45, 60)))
    wall, board = np.stack([5 * x, 5 * y, np.full(x.size, 5.0)], 1), np.stack([x, y, np.full(x.size, 2.0)], 1)
    board = board[(np.abs(board[:, :2]) < 0.3).all(axis=1)]
    seen = visible_points(np.concatenate([wall, board]), camera)
    behind = (np.abs(wall[:, :2] / 5) < 0.12).all(axis=1)
    beside = (np.abs(wall[:, :2] / 5) > 0.2).any(axis=1)
    assert not seen[: len(wall)][behind].any()
    assert seen[: len(wall)][beside].all()
    assert seen[len(wall) :].all()
    down = np.radians(np.linspace(2, 24, 40))
    d, about = (a.ravel() for a in np.meshgrid(1.5 / np.tan(down), np.linspace(-0.4, 0.4, 60)))
    ground = np.stack([d * np.tan(about), np.full(d.size, 1.5), d], 1)
    shown = camera.inside(camera(ground))
    assert shown.sum() > 1500
    assert visible_points(ground, camera)[shown].mean() > 0.99


def test_planes_do_not_stand_out_and_boards_end() -> None:
    u, v = (a.ravel() for a in np.meshgrid(np.arange(5, 95, 3.0), np.arange(5, 95, 3.0)))
    positions, grid = np.stack([u, v], 1), Grid(3.0, 33, 33, 0.0)
    slanted = 1 / (0.02 + 0.003 * u + 0.001 * v)
    assert np.abs(grid.standing_out(positions, slanted)[0]).max() < 1e-9
    board = (np.abs(u - 50) < 12) & (np.abs(v - 50) < 12)
    out, behind = grid.standing_out(positions, np.where(board, 2.0, 8.0))
    rim = board & ((np.abs(u - 50) > 8) | (np.abs(v - 50) > 8))
    assert (out[rim] > 0.3).all()
    np.testing.assert_array_equal(out[~rim], 0)
    assert not board[behind[rim]].any()


def test_numbers_of_a_box_move_pixels_by_one_each() -> None:
    lens, points = lens_of(LENSES["bent"]), cloud(3, 300) + np.array([0.0, 0.0, 6.0])
    moves = lens.moves(points, POSE)
    box = PoseBox.about(POSE, moves, np.array([0.1] * 3 + [0.2] * 3))
    seen = np.isfinite(lens.project(points, POSE)).all(axis=1)
    for k in range(6):
        step = 1e-3 * np.eye(6)[k]
        change = (lens.project(points, box.pose(step)) - lens.project(points, POSE))[seen] / 1e-3
        assert np.sqrt((change**2).sum() / len(points)) == pytest.approx(1, abs=0.02)
    x = np.array([3.0, -2, 1, 0.5, 4, -1])
    np.testing.assert_allclose(box.coordinates(box.axes @ x), x)


def test_left_jacobian_is_that_of_differences() -> None:
    r, step = np.array([0.3, -0.2, 0.4]), 1e-6
    for k in range(3):
        d = step * np.eye(3)[k]
        turned = Rotation.from_rotvec(r + d) * Rotation.from_rotvec(r).inv()
        np.testing.assert_allclose(turned.as_rotvec() / step, left_jacobian(r)[:, k], atol=1e-5)


def test_a_camera_of_unknown_size_is_refused() -> None:
    with pytest.raises(StreamError, match="size is not known"):
        visible_points(np.zeros((3, 3)), Camera(MATRIX))
    with pytest.raises(StreamError, match=r"expected \(n, 3\)"):
        visible_points(np.zeros((3, 2)), LENSES["plain"])
