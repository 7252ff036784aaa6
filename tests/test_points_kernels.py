"""Loops over points against their plain twins."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from test_read_points import packed

from avfuse._kernels import points as kernels
from avfuse._kernels.kd_tree import kd_build, kd_nearest, kd_normals

pytestmark = pytest.mark.kernel

SEEDS = st.integers(0, 2**32 - 1)


def cloud(rng, n, kind):
    """Scattered, in a plane, on few places (many ties), or on a line."""
    x = rng.normal(size=(n, 3)) * [3.0, 2.0, 1.0]
    if kind == "plane":
        x[:, 2] = 0.1 * x[:, 0]
    elif kind == "ties":
        x = rng.integers(0, 3, (n, 3)).astype(float)
    elif kind == "line":
        x = x[:, :1] * [1.0, 2.0, -1.0]
    return x


KINDS = st.sampled_from(["scattered", "plane", "ties", "line"])


def tree(points, leaf):
    order, boxes, nodes = kd_build(points, leaf)
    assert_array_equal(np.sort(order), np.arange(len(points)))
    return points[order], boxes, nodes


@given(st.binary(max_size=300), st.integers(1, 4))
def test_what_was_packed_comes_back(data, times):
    whole = data * times
    out = kernels.lzf_unpack(np.frombuffer(packed(whole), np.uint8), len(whole))
    assert out.tobytes() == whole == reference.lzf_unpacked(packed(whole), len(whole))


@given(st.binary(max_size=60), st.integers(0, 200))
def test_no_packed_data_write_outside(data, size):
    assert len(kernels.lzf_unpack(np.frombuffer(data, np.uint8), size)) <= size


@given(SEEDS, st.integers(1, 80), KINDS, st.floats(0.05, 3.0))
@settings(max_examples=60)
def test_means_of_cubes(seed, n, kind, size):
    x = cloud(np.random.default_rng(seed), n, kind)
    low, high, mean = kernels.extent(x)
    assert_array_equal(low, x.min(axis=0))
    assert_array_equal(high, x.max(axis=0))
    assert_allclose(mean, x.mean(axis=0), atol=1e-12)
    expected = reference.voxel_means(x, size, low)
    with np.errstate(over="ignore"):  # without the JIT hashes wrap around with a warning
        means, cube = kernels.voxel_means(x, size, low)
        count = kernels.voxel_count(x, size, low, 1)
    assert_allclose(means, expected, rtol=0, atol=1e-12)
    for k in range(len(expected)):
        assert_allclose(x[cube == k].mean(axis=0), expected[k], atol=1e-12)
    assert count == len(expected)


@given(SEEDS, st.integers(1, 60), st.integers(1, 20), KINDS, st.integers(1, 16), st.floats(0.01, 30.0))
@settings(max_examples=80)
def test_nearest_points_are_the_nearest(seed, n, m, kind, leaf, limit):
    rng = np.random.default_rng(seed)
    points, boxes, nodes = tree(cloud(rng, n, kind), leaf)
    queries = rng.normal(size=(m, 3)) * 3 if kind != "ties" else rng.integers(0, 5, (m, 3)) / 2
    guess = rng.integers(-1, n, m)
    index, squared = kd_nearest(points, boxes, nodes, queries, guess, limit)
    assert_allclose(squared, reference.nearest_points(points, queries, limit), rtol=1e-12)
    assert_array_equal(index < 0, np.isinf(squared))
    met = index >= 0
    assert_allclose(((points[index[met]] - queries[met]) ** 2).sum(axis=1), squared[met], rtol=1e-12)
    # Of points as near as each other the first, whatever is looked up beside a query and whatever was guessed.
    order = rng.permutation(m)
    assert_array_equal(kd_nearest(points, boxes, nodes, queries[order], np.full(m, -1), limit)[0], index[order])


@given(SEEDS, st.integers(8, 60), st.sampled_from(["scattered", "plane"]), st.integers(4, 8), st.integers(1, 16))
@settings(max_examples=60)
def test_planes_through_neighbours(seed, n, kind, k, leaf):
    points, boxes, nodes = tree(cloud(np.random.default_rng(seed), n, kind), leaf)
    normals, planarity, rough, spacing = kd_normals(points, boxes, nodes, k, 0, len(nodes))
    for i, (values, vectors) in enumerate(reference.neighbour_planes(points, k)):
        assert_allclose(planarity[i], (values[1] - values[0]) / values[2], atol=1e-6)
        assert_allclose(rough[i], np.sqrt(max(values[0], 0)), atol=1e-6)
        if values[1] - values[0] > 1e-3 * values[2]:
            assert abs(normals[i] @ vectors[:, 0]) == pytest.approx(1, abs=1e-6)
    apart = np.sqrt(((points[:, None] - points) ** 2).sum(axis=2))
    assert_allclose(spacing, np.sort(apart, axis=1)[:, 1], atol=1e-12)
    # Leaves by parts are the leaves of the whole.
    half = len(nodes) // 2
    parts = [kd_normals(points, boxes, nodes, k, a, b)[0] for a, b in ((0, half), (half, len(nodes)))]
    assert_array_equal(np.concatenate(parts), normals)


@given(SEEDS, st.integers(1, 40), st.integers(1, 40), st.sampled_from([0.0, 1e-3, 0.1]), st.sampled_from([0.0, 0.3]))
@settings(max_examples=60)
def test_normal_equations(seed, m, n, thin, usual):
    rng = np.random.default_rng(seed)
    points, moved = rng.normal(size=(m, 3)), rng.normal(size=(n, 3))
    normals, turned = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in rng.normal(size=(2, max(m, n), 3)))
    match, squared = rng.integers(-1, m, n), rng.random(n)
    trust, own = rng.random(m), rng.random(n)
    weight = kernels.pair_weights(points, normals, trust, moved, own, match, squared, 1.0, usual)
    expected = reference.pair_weights(points, normals, trust, moved, own, match, squared, 1.0, usual)
    assert_allclose(weight, expected, atol=1e-12)
    edges = np.array([0, n // 2, n]) + 5
    made = kernels.plane_terms(points, normals, moved, turned[:n], match, weight, thin, 5, edges)
    for got, wanted in zip(
        made, reference.plane_terms(points, normals, moved, turned[:n], match, weight, thin), strict=True
    ):
        assert_allclose(got.sum(axis=0), wanted, rtol=1e-9, atol=1e-9)


@given(SEEDS, st.integers(1, 30), st.integers(0, 30))
def test_distances_off_planes(seed, m, n):
    rng = np.random.default_rng(seed)
    points, normals, given_ = rng.normal(size=(m, 3)), rng.normal(size=(m, 3)), rng.normal(size=(n, 3))
    match, rotation, translation = rng.integers(-1, m, n), rng.normal(size=(3, 3)), rng.normal(size=3)
    arguments = (points, normals, match, given_, rotation, translation)
    assert_allclose(kernels.plane_distances(*arguments), reference.plane_distances(*arguments), atol=1e-12)
