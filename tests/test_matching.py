"""Matches of descriptors: laws, what is refused, real pictures."""

from __future__ import annotations

import itertools
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from avfuse.errors import StreamError
from avfuse.spatial import Matches, match_descriptors, match_guided
from avfuse.spatial.correspondences import matching
from avfuse.transform import Fundamental, Homography, Rigid


@pytest.fixture
def pictures():
    """Bits, floats: 300 descriptors each, of which 200 are the same but for noise, in another order."""
    rng = np.random.default_rng(1)
    bits = rng.integers(0, 256, (300, 32), np.uint8)
    floats = rng.standard_normal((300, 128)).astype(np.float32)
    order = rng.permutation(300)[:200]
    strangers = rng.integers(0, 256, (100, 32), np.uint8)
    other_bits = np.concatenate([bits[order] ^ (rng.random((200, 32)) < 0.3).astype(np.uint8), strangers])
    other_floats = np.concatenate([floats[order], rng.standard_normal((100, 128), np.float32)])
    other_floats += 0.3 * rng.standard_normal(other_floats.shape, np.float32)
    return order, (bits, other_bits), (floats, other_floats)


@pytest.mark.parametrize(("which", "metric"), [(1, None), (1, "l2"), (2, None), (2, "l2"), (2, "cosine")])
def test_what_is_the_same_is_found_and_nothing_else(pictures, which, metric):
    order = pictures[0]
    found = match_descriptors(*pictures[which], metric=metric, ratio=0.8)
    expected = np.stack([order, np.arange(200)], axis=1)
    np.testing.assert_array_equal(found.pairs, expected[np.argsort(order)])


@pytest.mark.parametrize("which", [1, 2])
def test_swapping_the_sets_swaps_mutual_pairs(pictures, which):
    a, b = pictures[which]
    there, back = match_descriptors(a, b), match_descriptors(b, a)
    assert len(there) > 200
    order = np.argsort(back.pairs[:, 1])
    np.testing.assert_array_equal(there.pairs, back.pairs[order, ::-1])
    np.testing.assert_array_equal(there.distances, back.distances[order])


@pytest.mark.parametrize("which", [1, 2])
def test_a_stricter_ratio_keeps_some_of_the_same(pictures, which):
    a, b = pictures[which]
    sets = [{tuple(p) for p in match_descriptors(a, b, ratio=r).pairs} for r in (0.3, 0.8, 0.98, None)]
    assert all(fewer <= more for fewer, more in itertools.pairwise(sets))
    assert 0 < len(sets[0]) < len(sets[-1])


def test_whole_numbers_in_bytes_are_told_by_the_metric():
    rng = np.random.default_rng(2)
    a, b = rng.integers(0, 200, (50, 128), np.uint8), rng.integers(0, 200, (60, 128), np.uint8)
    found = match_descriptors(a, b, metric="l2")
    expected = match_descriptors(a.astype(np.float32), b.astype(np.float64))
    np.testing.assert_array_equal(found.pairs, expected.pairs)
    np.testing.assert_array_equal(found.distances, expected.distances)
    i, j = found.pairs.T
    np.testing.assert_array_equal(found.distances, np.linalg.norm(a[i].astype(int) - b[j], axis=1))


def test_equal_ones_are_no_match_by_ratio_and_the_first_without():
    twins = np.full((3, 4), 7, np.uint8)
    assert len(match_descriptors(twins, twins, ratio=1.0)) == 0
    np.testing.assert_array_equal(match_descriptors(twins, twins).pairs, [[0, 0]])
    np.testing.assert_array_equal(match_descriptors(twins, twins, mutual=False).pairs, [[0, 0], [1, 0], [2, 0]])


@pytest.mark.parametrize("size", [1e-60, 1e-30, 1e30, 1e60])
def test_the_unit_does_not_matter(size):
    rng = np.random.default_rng(3)
    a, b = rng.standard_normal((80, 16)), rng.standard_normal((70, 16))
    expected = match_descriptors(a, b, ratio=0.9)
    found = match_descriptors(size * a, size * b, ratio=0.9)
    assert len(found) > 5
    np.testing.assert_array_equal(found.pairs, expected.pairs)
    np.testing.assert_allclose(found.distances, size * expected.distances)


@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_lengths_of_all_sizes_in_one_set(metric):
    """The rounding of the longest does not hide the shortest."""
    rng = np.random.default_rng(4)
    a = rng.standard_normal((60, 8)) * 10.0 ** rng.integers(-20, 20, (60, 1))
    found = match_descriptors(a, a[::-1], metric=metric)
    np.testing.assert_array_equal(found.pairs, np.stack([np.arange(60), np.arange(60)[::-1]], axis=1))
    np.testing.assert_array_equal(found.distances, 0)


@pytest.mark.parametrize(("kind", "length"), [(np.uint8, 32), (np.float32, 16)])
def test_memory_is_that_of_the_inputs(kind, length):
    """No matrix of 20,000 x 20,000, which would be 400 MB at a byte each."""
    rng = np.random.default_rng(5)
    a = rng.integers(0, 256, (20_000, length)).astype(kind)
    match_descriptors(a[:2000], a[:2000], ratio=0.9)
    tracemalloc.start()
    match_descriptors(a, a[::-1].copy(), ratio=0.9)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40e6


def test_calls_at_once_leave_blas_its_threads(monkeypatch):
    from threadpoolctl import threadpool_info

    monkeypatch.setattr(matching, "_PAIRS_A_THREAD", 1)
    monkeypatch.setattr(matching, "cores", lambda: 3)
    rng = np.random.default_rng(8)
    a = rng.standard_normal((200, 16)).astype(np.float32)
    expected = match_descriptors(a, a[::-1])
    before = threadpool_info()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: match_descriptors(a, a[::-1]), range(40)))
    assert threadpool_info() == before
    for one in found:
        np.testing.assert_array_equal(one.pairs, expected.pairs)


def test_results_of_tensors_and_nothing():
    torch = pytest.importorskip("torch")
    a = torch.randn(20, 8, requires_grad=True)
    found = match_descriptors(a, a.flip(0))
    np.testing.assert_array_equal(found.pairs[:, 1], np.arange(20)[::-1])
    half = match_descriptors(a.half(), a.half())
    np.testing.assert_array_equal(half.distances, 0)


@pytest.mark.parametrize("nothing", [None, [], np.zeros((0, 32), np.uint8), np.zeros((0, 128), np.float32)])
def test_nothing_matches_nothing(nothing):
    some = np.ones((3, 32), np.uint8)
    for pair in ((nothing, some), (some, nothing), (nothing, nothing)):
        found = match_descriptors(*pair, ratio=0.8)
        assert isinstance(found, Matches)
        assert found.pairs.shape == (0, 2)
        assert found.pairs.dtype == np.int64
        assert found.distances.shape == (0,)


BYTES, FLOATS = np.ones((3, 32), np.uint8), np.ones((3, 128), np.float32)


@pytest.mark.parametrize(
    ("a", "b", "how", "says"),
    [
        (BYTES, FLOATS, {}, "uint8, b of float32"),
        (FLOATS, BYTES, {}, "float32, b of uint8"),
        (FLOATS, BYTES, {"metric": "hamming"}, "a: descriptors of float32; Hamming"),
        (BYTES, BYTES[:, :16], {}, "length 32, b of length 16"),
        (FLOATS, FLOATS[:, :64], {}, "length 128, b of length 64"),
        (BYTES.astype(np.int32), BYTES, {}, "a has descriptors of int32"),
        (BYTES.astype(np.int32), BYTES.astype(np.int32), {}, "a: descriptors of int32"),
        (BYTES > 0, BYTES > 0, {}, "packbits"),
        (BYTES[0], BYTES, {}, r"a: descriptors of shape \(32,\)"),
        (BYTES, BYTES[None], {}, r"b: descriptors of shape \(1, 3, 32\)"),
        (BYTES, np.zeros((3, 0), np.uint8), {}, r"b: descriptors of shape \(3, 0\)"),
        (FLOATS + 1j, FLOATS, {}, "a: descriptors of complex"),
        ([["a"]], FLOATS, {}, "a: descriptors of <U1"),
        ([[1.0], [1.0, 2.0]], FLOATS, {}, "a: no array"),
        (np.where(np.eye(3, 128) > 0, np.nan, 1.0), FLOATS, {}, "a: row 0 holds NaN"),
        (FLOATS, np.diag([1.0, np.inf, 1.0]) @ FLOATS * 1e38, {}, "b: row"),
        (FLOATS.astype(float) * 1e71, FLOATS, {}, "a: row 0 holds"),
        (FLOATS, FLOATS * [[1], [0], [1]], {"metric": "cosine"}, "b: row 1 is zero"),
        (BYTES, BYTES, {"metric": "l1"}, "metric 'l1'; expected one of hamming, l2, cosine"),
        (BYTES, BYTES, {"ratio": 0.0}, "ratio 0.0"),
        (BYTES, BYTES, {"ratio": 1.1}, "ratio 1.1"),
        (BYTES, BYTES, {"ratio": np.nan}, "ratio nan"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_what_cannot_be_compared_is_told_in_a_line(a, b, how, says):
    with pytest.raises(StreamError, match=says) as told:
        match_descriptors(a, b, **how)
    assert "\n" not in str(told.value)


POINTS = np.arange(6.0).reshape(3, 2)
STILL = Homography(np.eye(3))


@pytest.mark.parametrize(
    ("points", "geometry", "distance", "says"),
    [
        (POINTS[:2], STILL, 3.0, "expected one of each of 3 descriptors"),
        (POINTS[:, :1], STILL, 3.0, r"reference_points: points of shape \(3, 1\)"),
        (POINTS * np.nan, STILL, 3.0, "reference_points: row 0 is"),
        (POINTS, Rigid(np.eye(4)), 3.0, "Homography of the plane"),
        (POINTS, np.eye(3), 3.0, "Homography of the plane"),
        (POINTS, STILL, 0.0, "distance 0.0"),
        (POINTS, STILL, np.nan, "distance nan"),
    ],
)
def test_guides_that_do_not_fit_are_told_in_a_line(points, geometry, distance, says):
    with pytest.raises(StreamError, match=says) as told:
        match_guided(BYTES, BYTES, points, POINTS, geometry, distance=distance)
    assert "\n" not in str(told.value)


def test_guided_by_all_that_is_allowed_is_unguided(pictures):
    rng = np.random.default_rng(6)
    for a, b in pictures[1:]:
        x, y = rng.uniform(0, 100, (len(a), 2)), rng.uniform(0, 100, (len(b), 2))
        found = match_guided(a, b, x, y, STILL, distance=1000.0, ratio=0.9)
        expected = match_descriptors(a, b, ratio=0.9)
        np.testing.assert_array_equal(found.pairs, expected.pairs)
        np.testing.assert_array_equal(found.distances, expected.distances)


@pytest.mark.parametrize("kind", ["homography", "fundamental"])
def test_a_guide_tells_repeated_texture_apart(kind):
    """Twenty windows of one wall look alike; where they must lie tells which is which."""
    rng = np.random.default_rng(7)
    y = np.stack(np.meshgrid(np.arange(3, 253, 50.0), np.arange(7, 167, 40.0)), axis=-1).reshape(-1, 2)
    if kind == "homography":
        geometry = Homography([[1.1, 0.1, 20], [-0.05, 0.9, 10], [1e-4, 2e-4, 1]])
        x = geometry(y)
    else:
        # A camera that goes sideways and looks on: rows stay rows. All windows have heights of their own.
        geometry = Fundamental([[0.0, 0, 0], [0, 0, -1], [0, 1, 0]])
        y[:, 1] += np.arange(20) * 2.0
        x = y + np.stack([rng.uniform(5, 30, 20), np.zeros(20)], axis=1)
    order = rng.permutation(20)
    look = rng.integers(0, 256, (1, 32), np.uint8).repeat(20, axis=0)
    assert len(match_descriptors(look, look, ratio=0.9)) == 0
    found = match_guided(look, look, x[order], y, geometry, distance=0.5, ratio=0.9)
    np.testing.assert_array_equal(found.pairs, np.stack([np.arange(20), order], axis=1))
    # The other way round the same pairs.
    back = match_guided(look, look, y, x[order], geometry.inverse(), distance=0.5, ratio=0.9)
    np.testing.assert_array_equal(back.pairs[:, ::-1][np.argsort(back.pairs[:, 1])], found.pairs)


def test_points_at_infinity_have_no_candidates():
    geometry = Homography([[1.0, 0, 0], [0, 1, 0], [0.1, 0, 1]])
    y = np.array([[-10.0, 5.0], [0.0, 0.0]])
    found = match_guided(BYTES[:2], BYTES[:2], np.zeros((2, 2)), y, geometry, distance=5.0)
    np.testing.assert_array_equal(found.pairs, [[0, 1]])


def test_an_epipole_leaves_everything_open():
    """Of the point that the other camera itself is, no line is known."""
    geometry = Fundamental([[0.0, -1, 50], [1, 0, -50], [-50, 50, 0]])  # straight on, towards (50, 50)
    y = np.array([[50.0, 50.0], [80.0, 50.0]])
    x = np.array([[90.0, 50.0], [50.0, 90.0]])
    found = match_guided(BYTES[:2], BYTES[:2], x, y, geometry, distance=2.0)
    np.testing.assert_array_equal(found.pairs, [[0, 1]])


@pytest.mark.parametrize("detector", ["ORB_create", "SIFT_create"])
@pytest.mark.parametrize("scene", ["boat", "leuven"])
def test_real_pictures_match_as_opencv_does_it_and_where_they_should(detector, scene, shared):
    import cv2

    found = []
    for name in ("img1.png", "img2.png"):
        picture = cv2.imread(str(shared / "images" / scene / name), cv2.IMREAD_GRAYSCALE)
        found.append(getattr(cv2, detector)(1500).detectAndCompute(picture, None))
    (keys_a, a), (keys_b, b) = found
    x, y = (cv2.KeyPoint_convert(keys).astype(float) for keys in (keys_a, keys_b))
    kind = cv2.NORM_HAMMING if a.dtype == np.uint8 else cv2.NORM_L2
    ours = match_descriptors(a, b, ratio=0.8, mutual=False)
    pairs = [m for m, n in cv2.BFMatcher(kind).knnMatch(a, b, k=2) if m.distance < 0.8 * n.distance]
    np.testing.assert_array_equal(ours.pairs, [(m.queryIdx, m.trainIdx) for m in pairs])
    np.testing.assert_allclose(ours.distances, [m.distance for m in pairs], rtol=1e-6)
    store = cv2.FileStorage(str(shared / "images" / scene / "H1to2p.xml"), cv2.FILE_STORAGE_READ)
    geometry = Homography(store.getNode("H12").mat()).inverse()  # of the second picture's points in the first
    best = match_descriptors(a, b, ratio=0.8)
    right = np.linalg.norm(geometry(y[best.pairs[:, 1]]) - x[best.pairs[:, 0]], axis=1) < 4
    assert right.mean() > 0.8
    guided = match_guided(a, b, x, y, geometry, distance=4.0, ratio=0.8)
    assert len(guided) > right.sum()
