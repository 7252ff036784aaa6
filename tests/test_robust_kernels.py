"""The robust loop's kernels against their twins: random numbers, losses, distances, derivatives, minimal solvers."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.spatial.transform import Rotation

from avfuse._kernels import epipolar, essential, planar, polynomial, pose, robust, similar

pytestmark = pytest.mark.kernel

SEEDS = st.integers(0, 2**32 - 1)
FEW = settings(max_examples=10)


@given(st.integers(1, 2**64 - 1))
@FEW
def test_random_numbers_are_those_of_the_twin(seed):
    state = np.array([seed], np.uint64)
    for _ in range(5):
        expected, seed = reference.xorshift(seed)
        assert robust.uniform(state) == expected
        assert int(state[0]) == seed


def test_random_numbers_are_even():
    state = np.array([7], np.uint64)
    made = np.array([robust.uniform(state) for _ in range(4000)])
    counts = np.histogram(made, 20, (0, 1))[0]
    assert np.sum((counts - 200) ** 2 / 200) < 43.8  # chi-square of 19, p = 0.001


@given(SEEDS, st.integers(2, 7))
@FEW
def test_a_sample_has_no_doubles(seed, count):
    sample = np.zeros(count, np.int64)
    robust.draw(np.array([seed + 1], np.uint64), count, count, sample)
    assert sorted(sample) == list(range(count))


@given(SEEDS, st.booleans())
@FEW
def test_losses_are_those_of_the_twin(seed, tabulated):
    rng = np.random.default_rng(seed)
    model, data = np.append(rng.normal(size=8), 5.0), rng.normal(size=(4, 300))
    losses = np.linspace(0, 1, 9) ** 2 if tabulated else np.zeros(0)
    squared = np.empty(300)
    cost = robust.cost_of(planar.homography_residuals, model, data, 0.5, losses, np.inf, np.inf, squared)
    assert cost == pytest.approx(reference.summed_loss(squared, 0.5, losses))
    assert robust.cost_of(planar.homography_residuals, model, data, 0.5, losses, 0.9 * cost, np.inf, squared) == np.inf


@given(SEEDS)
@FEW
def test_distances_of_maps_are_those_of_the_twin(seed):
    rng = np.random.default_rng(seed)
    squared = np.empty(7)
    data = rng.normal(size=(4, 7))
    matrix = rng.normal(size=(3, 3))
    planar.homography_residuals(matrix.ravel().copy(), data, 0, 7, squared)
    assert_allclose(squared, reference.mapped_distances(matrix, data), rtol=1e-9)
    matrix[2] = 0, 0, 1
    similar.residuals2(matrix[:2].ravel().copy(), data, 0, 7, squared)
    assert_allclose(squared, reference.mapped_distances(matrix, data), rtol=1e-9)
    space = rng.normal(size=(6, 7))
    rows = rng.normal(size=(3, 4))
    similar.residuals3(rows.ravel().copy(), space, 0, 7, squared)
    assert_allclose(squared, reference.mapped_distances(np.vstack([rows, [0, 0, 0, 1]]), space), rtol=1e-9)


@given(SEEDS)
@FEW
def test_distances_of_views_are_those_of_the_twin(seed):
    rng = np.random.default_rng(seed)
    squared = np.empty(7)
    data = np.vstack([rng.normal(size=(4, 7)), rng.uniform(0.5, 2, (2, 7))])
    matrix = rng.normal(size=(3, 3))
    epipolar.epipolar_residuals(matrix.ravel().copy(), data, 0, 7, squared)
    assert_allclose(squared, reference.sampson_distances(matrix, data), rtol=1e-9)
    seen, rows = rng.normal(size=(9, 7)), rng.normal(size=(3, 4))
    pose.pose_residuals(rows.ravel().copy(), seen, 0, 7, squared)
    assert_allclose(squared, reference.projected_distances(rows, seen), rtol=1e-9)


@given(SEEDS)
@FEW
def test_distances_of_rays_are_those_of_the_twin(seed):
    data, matrix, _, rows = _views(seed, 12)
    rng = np.random.default_rng(seed)
    # Half of them anywhere, a quarter far away: nearly parallel rays.
    data[:2, 6:] += rng.normal(0, 1, (2, 6))
    far = np.column_stack([data[2:4, :3].T, np.ones(3)]) @ rows[:, :3].T
    data[:2, :3] = far[:, :2].T / far[:, 2] + rng.normal(0, 0.01, (2, 3))
    data[4:] = rng.uniform(0.5, 2, (2, 12))
    shift = rows[:, 3] / np.linalg.norm(rows[:, 3])
    squared = np.empty(12)
    essential.essential_residuals(np.concatenate([matrix.ravel(), shift]), data, 0, 12, squared)
    expected = reference.ray_distances(matrix, rows[:, :3], shift, data)
    assert_allclose(squared, expected, rtol=1e-6, atol=1e-20)


def _cross(t):
    return np.array([[0, -t[2], t[1]], [t[2], 0, -t[0]], [-t[1], t[0], 0]])


def _views(seed, n=9):
    """Two cameras that see points without noise: data of epipolar estimators, essential matrix, points, pose."""
    rng = np.random.default_rng(seed)
    turn, shift = Rotation.from_rotvec(rng.normal(0, 0.2, 3)).as_matrix(), rng.normal(0, 1, 3)
    points = rng.uniform((-2, -2, 5), (2, 2, 9), (n, 3))
    there = points @ turn.T + shift
    data = np.vstack([there[:, :2].T / there[:, 2], points[:, :2].T / points[:, 2], np.ones((2, n))])
    matrix = _cross(shift) @ turn
    return np.ascontiguousarray(data), matrix / np.linalg.norm(matrix), points, np.column_stack([turn, shift])


def _models(kind, seed):
    rng = np.random.default_rng(seed)
    turn = Rotation.random(random_state=seed % 2**31).as_matrix()
    if kind == "homography":
        return planar, "homography", np.eye(3).ravel() + rng.normal(0, 0.1, 9), 8, rng.normal(size=(4, 8))
    if kind in ("fundamental", "essential"):
        data, matrix, *_ = _views(seed)
        if kind == "fundamental":
            u, s, vt = np.linalg.svd(matrix + rng.normal(0, 0.2, (3, 3)))
            matrix = (u * [s[0], s[1], 0]) @ vt
            matrix /= np.linalg.norm(matrix)
        data[:4] += rng.normal(0, 0.05, (4, data.shape[1]))
        if kind == "fundamental":
            return epipolar, "epipolar", matrix.ravel(), 7, data
        return essential, "essential", np.concatenate([matrix.ravel(), np.linalg.svd(matrix)[0][:, 2]]), 5, data
    if kind == "pose":
        _, _, points, rows = _views(seed)
        data = np.vstack([rng.normal(size=(2, len(points))), points.T, rng.normal(1, 0.3, (4, len(points)))])
        return pose, "pose", rows.ravel(), 6, data
    free, d = {"affine": (6, 2), "similarity": (4, 2), "rigid": (3, 2), "similarity-3d": (7, 3), "rigid-3d": (6, 3)}[
        kind
    ]
    if d == 2:
        turn = turn[:2, :2] / np.sqrt(abs(np.linalg.det(turn[:2, :2])))
        turn = Rotation.from_rotvec([0, 0, rng.uniform(-3, 3)]).as_matrix()[:2, :2]
    rows = np.column_stack([turn, rng.normal(size=d)])
    return similar, "similar", rows.ravel(), free, rng.normal(size=(2 * d, 8))


def _signed(kind, model, data):
    """Distances with their signs, whose squares add up to the twins'."""
    if kind in ("fundamental", "essential"):
        matrix = model[:9].reshape(3, 3)
        ref, mov = np.vstack([data[:2], np.ones(data.shape[1])]), np.vstack([data[2:4], np.ones(data.shape[1])])
        line, back = matrix @ mov, matrix.T @ ref
        return np.sum(ref * line, axis=0) / np.sqrt(np.sum(line[:2] ** 2 + back[:2] ** 2, axis=0))
    if kind == "pose":
        there = model.reshape(3, 4) @ np.vstack([data[2:5], np.ones(data.shape[1])])
        p, q = there[0] / there[2] - data[0], there[1] / there[2] - data[1]
        return np.concatenate([data[5] * p + data[6] * q, data[7] * p + data[8] * q])
    d = len(data) // 2
    matrix = model.reshape(-1, d + 1)
    there = matrix @ np.vstack([data[d:], np.ones(data.shape[1])])
    return (there[:d] / (there[d] if len(there) > d else 1.0) - data[:d]).ravel()


KINDS = ("homography", "affine", "similarity", "rigid", "similarity-3d", "rigid-3d", "fundamental", "essential", "pose")


@pytest.mark.parametrize("kind", KINDS)
@given(seed=SEEDS)
@settings(max_examples=5)
def test_normal_equations_are_those_of_numeric_derivatives(kind, seed):
    room, name, model, free, data = _models(kind, seed)
    if kind == "homography":
        data[2:] *= 0.3  # in front of the horizon
    normal = similar.similar_normal if name == "similar" else getattr(room, f"{name}_normal")
    tangent, retract = (
        getattr(similar if name == "pose" else room, f"{'similar' if name == 'pose' else name}_{what}")
        for what in ("tangent", "retract")
    )
    m = len(model)
    ambient, slope, moves = np.empty((m, m)), np.empty(m), np.zeros((m, free))
    normal(model.copy(), np.ascontiguousarray(data), np.ones(data.shape[1]), ambient, slope)
    tangent(model.copy(), moves)
    columns = []
    for k in range(free):
        sides = []
        for sign in (1e-6, -1e-6):
            step, moved = np.zeros(free), np.empty(m)
            step[k] = sign
            retract(model.copy(), step, moved)
            sides.append(_signed(kind, moved, data))
        columns.append((sides[0] - sides[1]) / 2e-6)
    jacobian, errors = np.stack(columns, axis=1), _signed(kind, model, data)
    size = np.abs(jacobian).max() + 1e-9
    assert_allclose(moves.T @ ambient @ moves, jacobian.T @ jacobian, atol=1e-5 * size**2 * len(errors))
    assert_allclose(
        moves.T @ slope, jacobian.T @ errors, atol=1e-5 * size * len(errors) * (np.abs(errors).max() + 1e-9)
    )  # fmt: skip


@given(SEEDS)
@FEW
def test_minimal_solvers_of_views_hold_the_truth(seed):
    data, matrix, points, rows = _views(seed % 1000)
    seven, ten = np.zeros((3, 9)), np.zeros((10, 12))
    true = np.concatenate([matrix.ravel(), rows[:, 3] / np.linalg.norm(rows[:, 3])])
    poses = np.zeros((4, 12))
    seen = np.vstack([data[:2], points.T, np.ones((4, len(points)))])
    for solve, count, made, columns, truth in (
        (epipolar.fundamental_solve, 7, seven, data, matrix.ravel()),
        (essential.essential_solve, 5, ten, data, true),
        (pose.pose_solve, 3, poses, seen, rows.ravel()),
    ):
        found = made[: solve(columns, np.arange(count), made)]
        # A fundamental matrix has no sign; an essential one comes with the pose that has the points in front.
        away = [min(np.abs(f - truth).max(), np.abs(f + truth).max() if count == 7 else 9.0) for f in found]
        assert min(away, default=9.0) < 1e-3
        # And nothing else: every solution fits its sample.
        for f in found:
            squared = np.empty(columns.shape[1])
            if count == 3:
                pose.pose_residuals(f, columns, 0, count, squared)
            else:
                epipolar.epipolar_residuals(f[:9], columns, 0, count, squared)
            assert squared[:count].max() < 1e-8


@pytest.mark.parametrize(
    ("solve", "count", "kind"),
    [
        (planar.homography_solve, 4, "homography"),
        (similar.affine_solve, 3, "affine"),
        (similar.similarity2_solve, 2, "similarity"),
        (similar.rigid2_solve, 2, "rigid"),
        (similar.similarity3_solve, 3, "similarity-3d"),
        (similar.rigid3_solve, 3, "rigid-3d"),
    ],
)
@pytest.mark.parametrize("seed", range(4))
def test_minimal_solvers_of_maps_hold_the_truth(solve, count, kind, seed):
    _, _, model, _, data = _models(kind, seed)
    d = len(data) // 2
    data[:d] += _signed(kind, model, data).reshape(d, -1)
    found = np.zeros((1, len(model)))
    assert solve(data, np.arange(count), found) == 1
    scale = model[-1] / found[0, -1] if kind == "homography" else 1.0
    assert_allclose(found[0] * scale, model, atol=1e-6)


def test_a_homography_turns_no_triangle_over():
    moving = np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]])
    crossed = moving[[0, 2, 1, 3]]
    assert (
        planar.homography_solve(np.ascontiguousarray(np.vstack([crossed.T, moving.T])), np.arange(4), np.zeros((1, 9)))
        == 0
    )


@given(SEEDS, st.integers(1, 10))
@FEW
def test_real_roots_are_those_of_numpy(seed, degree):
    made = np.random.default_rng(seed).normal(size=degree + 1)
    roots = np.empty(degree + 2)
    found = roots[: polynomial.real_roots(made, roots)]
    expected = np.roots(made[::-1])
    expected = np.sort(expected[np.abs(expected.imag) < 1e-9].real)
    assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


@given(SEEDS, st.integers(1, 8))
@FEW
def test_null_spaces_are_orthonormal_and_taken_to_zero(seed, rows):
    made = np.random.default_rng(seed).normal(size=(rows, 9))
    basis = np.zeros((9 - rows, 9))
    assert polynomial.null_space(made.copy(), basis) == 9 - rows
    assert_allclose(basis @ basis.T, np.eye(9 - rows), atol=1e-9)
    assert_allclose(made @ basis.T, 0, atol=1e-8)
