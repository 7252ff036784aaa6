"""Images and video brought onto another frame."""

from __future__ import annotations

import numpy as np
import pytest

import avfuse
from avfuse.errors import StreamError
from avfuse.simulation.images import image_pair
from avfuse.stream import Stream
from avfuse.transform import Affine, Fundamental, Homography, Rigid, Similarity
from avfuse.warping import warp, warp_picture

SHIFT = Rigid(np.array([[1, 0, 3], [0, 1, 2], [0, 0, 1.0]]))
RAMP = np.arange(48, dtype=np.uint8).reshape(6, 8)


def test_pixels_go_where_the_transform_says_and_the_rest_is_masked():
    found = warp(RAMP, SHIFT, (12, 9))
    assert found.shape == (9, 12)
    assert found.dtype == np.uint8
    for y in range(6):
        for x in range(8):
            assert found[y + 2, x + 3] == RAMP[y, x]
    assert found.count() == RAMP.size
    assert not found.data[found.mask].any()


@pytest.mark.parametrize("shape", [(6, 8), (6, 8, 1), (6, 8, 3), (6, 8, 4), (6, 8, 7)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64, np.float32, np.float64, bool])
def test_types_and_channels_stay(shape, dtype):
    image = np.random.default_rng(0).integers(0, 2, shape).astype(dtype)
    found = warp(image, Rigid(np.eye(3)))
    assert found.dtype == image.dtype
    np.testing.assert_array_equal(found.data, image)
    assert found.count() == image.size


def test_a_warp_and_its_inverse_leave_the_middle():
    pair = image_pair(np.random.default_rng(0), size=(120, 160), noise=0.0)
    there = warp(pair.moving, pair.truth, (160, 120))
    shown = ~there.mask
    assert np.abs(there - pair.reference)[shown].mean() < 2.5
    back = warp(there.filled(0), pair.truth.inverse(), (160, 120))
    assert np.abs(back - pair.moving)[40:80, 50:110].mean() < 4


def test_what_lies_behind_the_horizon_is_masked():
    bent = Homography(np.array([[1, 0, 0], [0, 1, 0], [0.2, 0, 1.0]]))
    found = warp(np.full((20, 20), 9, np.uint8), bent, (40, 40))
    back = bent.inverse()
    y, x = np.nonzero(~found.mask)
    places = back(np.stack([x, y], axis=1).astype(float))
    assert ((places > -0.51) & (places < 19.51)).all()
    assert found.mask.any()
    assert (found.compressed() == 9).all()


def test_absent_pixels_are_masked():
    image = np.ones((6, 8), np.float32)
    image[2, 3] = np.nan
    found = warp(image, Rigid(np.eye(3)))
    assert found.mask[2, 3]
    assert found.count() >= image.size - 9
    assert np.isfinite(found.data).all()


def test_frames_are_warped_with_their_times():
    frames = np.stack([np.full((6, 8, 3), k, np.uint8) for k in range(1, 5)])
    moved = warp_picture(Stream("picture", "picture", frames, rate=2.0, start=1.5), SHIFT, (12, 9))
    ((times, values),) = list(moved.blocks(10.0))
    np.testing.assert_allclose(times, [1.5, 2.0, 2.5, 3.0])
    assert values.shape == (4, 9, 12, 3)
    assert (values[:, 2:8, 3:11] == np.arange(1, 5)[:, None, None, None]).all()
    assert not values[:, :2].any()
    assert (moved.facts["width"], moved.facts["height"]) == (12, 9)


def test_a_film_is_warped_as_it_is_decoded(shared):
    picture = avfuse.read(shared / "picture" / "flipping_a_pancake.mkv")["picture"]
    moved = warp_picture(picture, Similarity.from_parts(np.eye(2), [5.0, 0.0], 0.5), (200, 100))
    assert moved.lazy
    assert moved.duration == picture.duration
    times, frames = next(moved.blocks(0.5))
    own_times, own = next(picture.blocks(0.5))
    np.testing.assert_array_equal(times, own_times)
    assert frames.shape == (len(own), 100, 200, 3)
    np.testing.assert_array_equal(
        frames[0], warp(own[0], Similarity.from_parts(np.eye(2), [5.0, 0.0], 0.5), (200, 100)).filled(0)
    )


@pytest.mark.parametrize(
    ("image", "transform", "size"),
    [
        (np.zeros(4), SHIFT, None),
        (np.zeros((0, 4)), SHIFT, None),
        (np.array([["a"]]), SHIFT, None),
        (RAMP, Rigid(np.eye(4)), None),
        (RAMP, Fundamental(np.diag([1.0, 1, 0])), None),
        (RAMP, SHIFT, (0, 4)),
        (RAMP, SHIFT, (40000, 4)),
    ],
)
def test_what_cannot_be_warped_is_named(image, transform, size):
    with pytest.raises(StreamError, match="warp: ") as caught:
        warp(image, transform, size)
    assert "\n" not in str(caught.value)


def test_only_pictures_are_warped():
    with pytest.raises(StreamError, match="expected a picture"):
        warp_picture(Stream.from_samples(np.zeros(100, np.float32), rate=8000.0), Affine(np.eye(3)))
