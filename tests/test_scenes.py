"""Silent films of one happening from two places: laws on simulated views, strangers, halves of real films."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

import avfuse
from avfuse.features.light import PictureFeatures, grey_frames, picture_features
from avfuse.simulation.views import TwoViews, two_views
from avfuse.stream import Recording, Stream
from avfuse.temporal.scenes import compare_pictures


@pytest.fixture(scope="module")
def views() -> TwoViews:
    return two_views(240.0, np.random.default_rng(1), people=1, lights=False, rates=(15.0, 12.5), noise=2.0)


@pytest.fixture(scope="module")
def shown(views) -> tuple[PictureFeatures, PictureFeatures]:
    return picture_features(views.reference), picture_features(views.moving)


def test_cameras_at_different_places_are_placed_within_their_interval(views, shown):
    found = compare_pictures(*shown)
    middle = float(found.diagnostics["middle"])
    std = float(found.std_at(middle))
    assert abs(float(found.map(middle)) - float(views.truth(middle))) < 4 * std < 0.3
    assert found.evidence == ("picture",)


def test_swapping_the_films_inverts_the_map(shown):
    there, back = compare_pictures(*shown), compare_pictures(*shown[::-1])
    times = np.linspace(0, 200, 3)
    assert_allclose((back.map @ there.map)(times), times, atol=1e-9)


def test_a_later_start_moves_the_offset(shown):
    one, two = shown
    later = replace(two, times=two.times - 2.5)
    assert compare_pictures(one, later).offset - compare_pictures(one, two).offset == pytest.approx(2.5, abs=1e-3)


def test_films_of_different_happenings_are_refused():
    apart = two_views(60.0, np.random.default_rng(3), rates=(15.0, 12.5), related=False)
    found = compare_pictures(picture_features(apart.reference), picture_features(apart.moving))
    assert found.status in ("no_match", "ambiguous")


def test_a_brief_film_is_told(shown):
    one, two = shown
    keep = two.times < 5
    values = {f.name: getattr(two, f.name) for f in fields(two)}
    per_frame = {name: v[keep] for name, v in values.items() if isinstance(v, np.ndarray) and len(v) == len(keep)}
    brief = replace(two, **per_frame)
    found = compare_pictures(one, brief)
    assert found.status == "degenerate"
    assert "moving shows" in found.message


def test_align_places_silent_cameras(views):
    recordings = [Recording("hall", (views.reference,)), Recording("stage", (views.moving,))]
    found = avfuse.align(recordings, reference="hall").clocks["stage"]
    assert found.evidence == ("picture",)
    assert abs(float(found.map(90.0)) - float(views.truth(90.0))) < 4 * float(found.std_at(90.0)) < 0.3


def halves(path: Path) -> tuple[PictureFeatures, PictureFeatures]:
    """The left half of a film, and the right one mirrored, every fifth frame lost, 1.7 s earlier on its own clock."""
    frames = list(grey_frames(avfuse.read(path).of_kind("picture")[0]))
    times, images = np.array([t for t, _ in frames]), np.stack([image for _, image in frames])
    half = images.shape[2] // 2
    keep = np.flatnonzero(np.arange(len(times)) % 5 != 2)
    left = Stream("picture", "picture", np.ascontiguousarray(images[:, :, :half]), times=times)
    right = Stream("picture", "picture", np.ascontiguousarray(images[keep][:, :, :half:-1]), times=times[keep] - 1.7)
    return picture_features(left), picture_features(right)


@pytest.mark.parametrize("name", ["VID00003-20100701-2204.avi", "VID00003-20100701-2204.mpg"])
def test_two_halves_of_fireworks(shared, name):
    found = compare_pictures(*halves(shared / "picture" / name))
    middle = float(found.diagnostics["middle"])
    assert abs(float(found.map(middle)) - middle - 1.7) < 4 * float(found.std_at(middle)) < 0.1


def test_one_event_in_two_encodings(shared):
    one, two = (
        picture_features(avfuse.read(shared / "picture" / f"VID00003-20100701-2204.{kind}").of_kind("picture")[0])
        for kind in ("avi", "mpg")
    )
    found = compare_pictures(one, two)
    # Its frames are those of the other one frame later, as their pixels tell.
    assert float(found.map(20.0)) - 20.0 == pytest.approx(0.0333, abs=0.02)


def test_films_of_different_places_are_refused(shared):
    films = [
        picture_features(avfuse.read(path).of_kind("picture")[0])
        for path in (shared / "picture" / "VID00003-20100701-2204.mpg", shared / "picture" / "nasa_13013.mp4",
                     shared / "motion" / "karma.mp4", shared / "picture" / "flipping_a_pancake.mkv")
    ]  # fmt: skip
    for k, one in enumerate(films):
        for two in films[k + 1 :]:
            assert compare_pictures(one, two).status != "aligned"
