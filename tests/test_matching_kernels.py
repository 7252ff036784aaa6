"""Matching against its plain twin: every distance, sorted by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import reference
from hypothesis import example, given, settings
from hypothesis import strategies as st

from avfuse._kernels import lanes
from avfuse._kernels import matching as kernels
from avfuse.spatial.correspondences import matching
from avfuse.spatial.correspondences.matching import match_descriptors, match_guided
from avfuse.transform import Affine, Fundamental, Homography

pytestmark = pytest.mark.kernel

SEEDS = st.integers(0, 2**32 - 1)
RATIOS = st.sampled_from([None, 0.7, 0.9, 1.0])


def binary(rng, count, length):
    """Few values make many ties; now and then rows are copied, and bits are mostly set or mostly not."""
    found = rng.integers(0, rng.choice([2, 4, 256]), (count, length), np.uint8)
    if rng.random() < 0.3:
        found |= rng.integers(0, 256, (count, length), np.uint8)
    return repeated(rng, found)


def floats(rng, count, length, kind):
    if rng.random() < 0.4:
        found = rng.integers(0, 3, (count, length)).astype(kind)
    else:
        found = rng.standard_normal((count, length)).astype(kind) * kind(10.0 ** rng.integers(-12, 12))
    found[(found == 0).all(axis=1)] += 1
    return repeated(rng, found)


def repeated(rng, rows):
    return rows[rng.integers(0, len(rows), len(rows))] if rng.random() < 0.5 else rows


def compare(found, expected):
    np.testing.assert_array_equal(found.pairs, expected[0])
    np.testing.assert_array_equal(found.distances, expected[1])


@given(SEEDS, st.integers(1, 40), st.integers(1, 70), st.integers(1, 20), RATIOS, st.booleans())
@settings(max_examples=100, deadline=None)
@example(1, 1, 1, 1, 1.0, True)
@example(2, 2, 513, 2, 0.9, True)
@example(3, 130, 3, 8, 0.9, True)
def test_bits_as_every_distance_tells(seed, rows, columns, length, ratio, mutual):
    rng = np.random.default_rng(seed)
    a, b = binary(rng, rows, length), binary(rng, columns, length)
    found = match_descriptors(a, b, ratio=ratio, mutual=mutual)
    compare(found, reference.matches(a, b, "hamming", ratio, mutual))


@given(SEEDS, st.integers(1, 20), st.sampled_from([1, 2, 511, 512, 513, 1300]), st.booleans(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_nearest_of_rows_and_columns(seed, rows, columns, want_second, want_columns):
    """Ties, too, that no ratio lets through: copies lie anywhere, their bits more or less the same."""
    rng = np.random.default_rng(seed)
    length = int(rng.integers(1, 17))
    a, b = binary(rng, rows, length), rng.integers(0, 256, (columns, length), np.uint8)
    for _ in range(3):
        copied = rng.integers(0, columns, rows)
        b[copied] = a ^ np.packbits(rng.random((rows, 8 * length)) < rng.choice([0.0, 0.02, 0.1]), axis=1)
    planes = kernels.bit_planes(matching._words(b), 8 * length)
    light = kernels.lightness(planes, 8 * length, (8 * length + 1).bit_length())
    best, near, second, column_best, column_near = kernels.nearest_binary(
        matching._words(a), planes, light, columns, want_second, want_columns
    )
    costs = reference.descriptor_costs(a, b, "hamming")
    np.testing.assert_array_equal(best, costs.argmin(axis=1))
    np.testing.assert_array_equal(near, costs.min(axis=1))
    if want_second:
        np.testing.assert_array_equal(second, np.sort(costs, axis=1)[:, 1] if columns > 1 else -1)
    if want_columns:
        np.testing.assert_array_equal(column_best, costs.argmin(axis=0))
        np.testing.assert_array_equal(column_near, costs.min(axis=0))


@given(
    SEEDS, st.integers(1, 40), st.integers(1, 90), st.integers(1, 20), RATIOS, st.booleans(),
    st.sampled_from(["l2", "cosine"]), st.sampled_from([np.float32, np.float64]), st.sampled_from([8, 16, 1024]),
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_floats_as_every_distance_tells(seed, rows, columns, length, ratio, mutual, metric, kind, block):
    """However the products are cut into blocks."""
    rng = np.random.default_rng(seed)
    a, b = floats(rng, rows, length, kind), floats(rng, columns, length, kind)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matching, "_BLOCK", block)
        found = match_descriptors(a, b, metric=metric, ratio=ratio, mutual=mutual)
    compare(found, reference.matches(a, b, metric, ratio, mutual))


@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_what_float32_cannot_tell_apart_is_measured(metric):
    """Neighbours that differ by less than a product's rounding: the twin's order, not the product's."""
    rng = np.random.default_rng(4)
    centre = rng.standard_normal(32) + 3
    a = centre + 1e-9 * rng.standard_normal((20, 32))
    b = centre + 1e-9 * rng.standard_normal((90, 32))
    for ratio, mutual in itertools.product((None, 0.9), (False, True)):
        found = match_descriptors(a, b, metric=metric, ratio=ratio, mutual=mutual)
        compare(found, reference.matches(a, b, metric, ratio, mutual))
    rough = (a.astype(np.float32) @ b.T.astype(np.float32)).argmax(axis=1)
    assert (rough != reference.matches(a, b, metric, None, False)[0][:, 1]).any()


@pytest.mark.parametrize("threads", [2, 3, 7])
@pytest.mark.parametrize("metric", ["hamming", "l2", "cosine"])
def test_threads_change_nothing(threads, metric, monkeypatch):
    rng = np.random.default_rng(5)
    a, b = (rng.integers(0, 2, (n, 2), np.uint8) + np.uint8(metric == "cosine") for n in (60, 50))
    monkeypatch.setattr(matching, "_PAIRS_A_THREAD", 1)
    monkeypatch.setattr(matching, "cores", lambda: threads)
    assert len(matching._shares(60, 50)) == threads
    monkeypatch.setattr(matching, "_BLOCK", 8)
    compare(match_descriptors(a, b, metric=metric), reference.matches(a, b, metric, None, True))


def geometry_of(rng, kind):
    if kind == "fundamental":
        return Fundamental(rng.standard_normal((3, 3)) * [[1, 1, 50], [1, 1, 50], [50, 50, 2500]])
    if kind == "level":
        return Fundamental(np.array([[0.0, 0, 0], [0, 0, -1], [0, 1, 0.5]]))
    matrix = np.eye(3)
    matrix[:2, :2] += 0.3 * rng.standard_normal((2, 2))
    matrix[:2, 2] = rng.uniform(-10, 10, 2)
    if kind == "affine":
        return Affine(matrix)
    matrix[2, :2] = 1e-4 * rng.standard_normal(2)
    return Homography(matrix)


@given(
    SEEDS, st.integers(1, 60), st.integers(1, 60), st.floats(0.1, 60), RATIOS, st.booleans(),
    st.sampled_from(["hamming", "l2", "cosine"]), st.sampled_from(["homography", "affine", "fundamental", "level"]),
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_guided_as_every_pair_tells(seed, rows, columns, distance, ratio, mutual, metric, kind):
    rng = np.random.default_rng(seed)
    if metric == "hamming":
        a, b = binary(rng, rows, 3), binary(rng, columns, 3)
    else:
        a, b = floats(rng, rows, 5, np.float32), floats(rng, columns, 5, np.float32)
    geometry = geometry_of(rng, kind)
    x, y = rng.uniform(0, 100, (rows, 2)), rng.uniform(0, 100, (columns, 2))
    if rng.random() < 0.3:
        x, y = np.round(x / 20) * 20, np.round(y / 20) * 20
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matching, "_POINTS_AT_ONCE", 7)
        found = match_guided(a, b, x, y, geometry, distance=distance, metric=metric, ratio=ratio, mutual=mutual)
    allowed = reference.guided_pairs(geometry, x, y, distance)
    compare(found, reference.matches(a, b, metric, ratio, mutual, allowed))


@given(SEEDS, st.integers(1, 8))
@settings(max_examples=40, deadline=None)
def test_planes_hold_the_bits_and_their_number(seed, length):
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 600))
    rows = binary(rng, count, length)
    bits, height = 8 * length, (8 * length + 1).bit_length()
    planes = kernels.bit_planes(matching._words(rows), bits)
    blocks = -(-count // lanes.LANES)
    unpacked = np.unpackbits(planes.view(np.uint8), bitorder="little").reshape(blocks, bits + 1, lanes.LANES)
    assert not unpacked[:, -1].any()
    found = unpacked[:, :-1].transpose(0, 2, 1).reshape(-1, bits)
    expected = np.unpackbits(matching._words(rows).view(np.uint8), axis=1, bitorder="little")[:, :bits]
    np.testing.assert_array_equal(found[:count], expected)
    assert not found[count:].any()
    light = np.unpackbits(kernels.lightness(planes, bits, height).view(np.uint8), bitorder="little")
    numbers = (light.reshape(blocks, height, -1).astype(int) << np.arange(height)[:, None]).sum(axis=1).ravel()
    np.testing.assert_array_equal(2**height - 1 - numbers[:count], expected.sum(axis=1))


@given(SEEDS)
@settings(max_examples=30, deadline=None)
def test_what_is_foreseen_is_reached(seed):
    """By two columns of each row and a row of each column at least, else it would be wrong to look no further."""
    rng = np.random.default_rng(seed)
    rows, columns = int(rng.integers(1, 6)), int(rng.integers(1, 200))
    products = rng.standard_normal((rows, columns)).astype(np.float32)
    row_half, column_half = (rng.random(n).astype(np.float32) for n in (rows, columns))
    row_needs, column_needs = np.full(rows, -np.inf, np.float32), np.full(columns, -np.inf, np.float32)
    kernels.foresee_rows(products, column_half, np.full(rows, 1e-3), row_needs)
    kernels.foresee_columns(products, row_half, np.full(columns, 1e-3), column_needs)
    assert ((products - column_half >= row_needs[:, None]).sum(axis=1) >= min(2, columns)).all()
    assert ((products - row_half[:, None] >= column_needs).sum(axis=0) >= 1).all()
    best = (products - row_half[:, None]).max(axis=0)
    np.testing.assert_allclose(column_needs, best - 2e-3, atol=1e-6)
