"""Laws of dense registration: what it finds, how sure it is, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from avfuse.errors import StreamError
from avfuse.simulation.images import draw_scene, image_pair
from avfuse.spatial import register_images
from avfuse.spatial.images.appearance import grey_of
from avfuse.spatial.images.phase import estimate_shift
from avfuse.spatial.images.registration import _parameters
from avfuse.transform import Similarity

LOOKS = ("same", "light", "inverted", "edges", "remapped")
MODELS = ("translation", "rigid", "similarity", "affine", "homography")
SMALL = {"size": (150, 200)}


def pair_of(seed, **options):
    return image_pair(np.random.default_rng(seed), **(SMALL | options))


def patterned(seed, values):
    return values + np.random.default_rng(seed).normal(0, 3, values.shape)


@pytest.mark.parametrize("look", LOOKS)
def test_known_maps_are_found_however_the_camera_sees(look):
    for seed in range(3):
        pair = pair_of(seed, look=look)
        found = register_images(pair.reference, pair.moving)
        assert found.status == "aligned", found.message
        assert pair.corner_error(found.transform) < (0.3 if look != "edges" else 1.0)


@pytest.mark.parametrize("model", MODELS)
def test_every_model_finds_its_own_kind(model):
    turn = 0.0 if model == "translation" else 5.0
    pair = pair_of(7, kind=model, turn=turn)
    found = register_images(pair.reference, pair.moving, model=model)
    assert found.transform.kind == ("rigid" if model == "translation" else model)
    assert pair.corner_error(found.transform) < 0.3
    assert found.cov.shape == (len(_parameters(found.transform.matrix, model)),) * 2


def test_any_turn_and_scales_of_up_to_two_are_found():
    for seed in range(4):
        pair = pair_of(seed, turn=180.0, stretch=0.6)
        found = register_images(pair.reference, pair.moving)
        assert pair.corner_error(found.transform) < 0.3


def test_swapping_the_images_inverts_the_map():
    pair = pair_of(2)
    there = register_images(pair.reference, pair.moving).transform
    back = register_images(pair.moving, pair.reference).transform
    points = np.array([[0, 0], [199, 0], [0, 149], [199, 149.0]])
    np.testing.assert_allclose((back @ there)(points), points, atol=0.05)


def test_gain_and_channels_and_type_do_not_matter():
    pair = pair_of(4)
    expected = register_images(pair.reference, pair.moving).transform.matrix
    colour = np.repeat(pair.moving[..., None] * 17.0 - 400, 3, axis=2)
    coded = np.clip(pair.reference, 0, 255).astype(np.uint8)
    np.testing.assert_allclose(register_images(coded, colour).transform.matrix, expected, atol=0.02)


def test_sizes_may_differ():
    import cv2

    pair = pair_of(3)
    small = cv2.resize(pair.moving, (100, 75), interpolation=cv2.INTER_AREA)
    found = register_images(pair.reference, small).transform
    # Pixel (0, 0) of the small image covers (0, 0) to (1, 1) of the large one.
    doubled = Similarity(np.array([[2, 0, 0.5], [0, 2, 0.5], [0, 0, 1.0]]))
    corners = np.array([[0, 0], [99, 0], [0, 74], [99, 74.0]])
    np.testing.assert_allclose(found(corners), (pair.truth @ doubled)(corners), atol=0.2)


def test_what_is_absent_is_left_out():
    pair = pair_of(5)
    pair.reference[:60, :80] = np.nan
    pair.moving[100:, 120:] = np.nan
    found = register_images(pair.reference, pair.moving)
    assert pair.corner_error(found.transform) < 0.3


def test_intervals_hold_the_truth():
    inside = []
    for look in ("same", "remapped"):
        for seed in range(15):
            pair = pair_of(100 + seed, look=look, noise=6.0)
            found = register_images(pair.reference, pair.moving)
            away = _parameters(found.transform.matrix, "similarity") - _parameters(pair.truth.matrix, "similarity")
            inside.extend(np.abs(away) < 1.96 * found.std)
    assert 0.88 <= np.mean(inside) <= 1.0


def test_more_noise_is_more_doubt():
    quiet, loud = (register_images(*(pair_of(6, noise=n).reference, pair_of(6, noise=n).moving)) for n in (1.0, 12.0))
    assert (loud.std > 1.5 * quiet.std).all()


def test_equal_input_gives_equal_output():
    pair = pair_of(1)
    one, two = (register_images(pair.reference, pair.moving) for _ in range(2))
    assert (one.transform.matrix == two.transform.matrix).all()
    assert (one.cov == two.cov).all()


def test_images_that_have_nothing_in_common_are_refused():
    for seed in range(3):
        found = register_images(pair_of(seed).reference, pair_of(seed + 50).moving)
        assert found.status == "no_match"
        assert found.answer is None
        assert "\n" not in found.message


def test_noise_is_refused():
    rng = np.random.default_rng(0)
    assert register_images(rng.normal(size=(100, 120)), rng.normal(size=(100, 120))).status == "no_match"


Y, X = np.mgrid[:160, :200]


@pytest.mark.parametrize("period", [8, 20, 40])
@pytest.mark.parametrize("model", ["translation", "similarity"])
def test_patterns_that_repeat_are_ambiguous(period, model):
    one, two = (
        patterned(d, 127 + 100 * np.sign(np.sin(2 * np.pi * (X + d) / period) * np.sin(2 * np.pi * Y / period)))
        for d in (0, 3)
    )
    found = register_images(one, two, model=model)
    assert found.status == "ambiguous"
    assert len(found.candidates) > 1


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (np.full((160, 200), 7), "one colour"),
        (np.zeros((160, 200), np.uint8), "one colour"),
        (patterned(0, 127 + 100 * np.sin(X / 3)), "one direction"),
        (np.random.default_rng(0).uniform(size=(20, 20)), "pixels"),
        (np.where((X < 10) & (Y < 10), X, np.nan), "shows something"),
    ],
)
def test_what_cannot_tell_is_degenerate(values, says):
    scene = pair_of(0).reference
    for one, two in ((values, scene), (scene, values)):
        found = register_images(one, two)
        assert found.status == "degenerate"
        assert says in found.message


def test_something_round_does_not_tell_its_turn():
    ring = 100 + 50 * np.cos(np.hypot(X - 100, Y - 80) / 3)
    found = register_images(patterned(0, ring), patterned(1, ring))
    assert found.status in ("ambiguous", "degenerate", "no_match")


SCENE = np.zeros((64, 64))


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (np.zeros((0, 5)), "shape"),
        (np.zeros(5), "shape"),
        (np.zeros((64, 64, 40)), "shape"),
        (np.zeros((2, 64, 64, 3)), "shape"),
        (np.full((64, 64), np.nan), "finite"),
        (np.array([["a", "b"]]), "type"),
        (None, "type"),
        (np.zeros((64, 64), complex), "type"),
        ([[1, 2], [3]], "lengths"),
    ],
)
def test_what_is_no_image_is_named(image, says):
    for arguments, called in (((image, SCENE), "reference"), ((SCENE, image), "moving")):
        with pytest.raises(StreamError, match=f"{called}: .*{says}") as caught:
            register_images(*arguments)
        assert "\n" not in str(caught.value)


def test_other_models_are_named():
    with pytest.raises(StreamError, match="expected one of translation, rigid"):
        register_images(SCENE, SCENE, model="elastic")


def test_a_shift_is_found_to_a_hundredth_though_it_wraps_round():
    scene = draw_scene(np.random.default_rng(0), (240, 300))
    for x, y in ((12, -7), (-90, 60)):
        top, left = max(0, -y), max(0, -x)
        one, two = scene[top : top + 150, left : left + 180], scene[top + y : top + y + 150, left + x : left + x + 180]
        found = estimate_shift(grey_of(one, "one"), grey_of(two, "two"))
        assert (found.x, found.y) == pytest.approx((x, y), abs=0.05)
        assert found.score > 0.9


# Real images


@pytest.mark.parametrize(("scene", "last", "most"), [("leuven", 4, 1.5), ("bikes", 3, 1.5), ("boat", 3, 2.5)])
def test_real_pairs_lie_where_their_homographies_say(shared, scene, last, most):
    import cv2

    moving = cv2.imread(str(shared / "images" / scene / "img1.png"))
    h, w = moving.shape[:2]
    corners = np.array([[0, 0], [w - 1, 0], [0, h - 1], [w - 1, h - 1.0]])
    for k in (2, last):
        reference = cv2.imread(str(shared / "images" / scene / f"img{k}.png"))
        stored = cv2.FileStorage(str(shared / "images" / scene / f"H1to{k}p.xml"), cv2.FILE_STORAGE_READ)
        truth = stored.getNode(f"H1{k}").mat()
        there = cv2.perspectiveTransform(corners[None], truth)[0]
        found = register_images(reference, moving, model="homography")
        assert found.status == "aligned", found.message
        assert np.linalg.norm(found.transform(corners) - there, axis=1).mean() < most


def test_real_images_of_different_things_are_refused(shared):
    import cv2

    boat, bikes, leuven = (
        cv2.imread(str(shared / "images" / s / "img1.png"))[::2, ::2] for s in ("boat", "bikes", "leuven")
    )
    for one, two in ((boat, bikes), (bikes, leuven), (leuven, boat)):
        assert register_images(one, two, model="homography").status == "no_match"


def test_black_bars_are_nothing_in_common(shared):
    import cv2

    framed = []
    for scene in ("boat", "bikes"):
        image = cv2.imread(str(shared / "images" / scene / "img1.png"))
        framed.append(np.zeros((240, 320, 3), np.uint8))
        framed[-1][30:210] = cv2.resize(image, (320, 180), interpolation=cv2.INTER_AREA)
    assert register_images(*framed, model="translation").status == "no_match"


# The command


def avfuse(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "avfuse", *map(str, arguments)], capture_output=True, text=True, check=False
    )


@pytest.fixture
def files(tmp_path):
    import cv2

    pair = pair_of(8)
    for name in ("reference", "moving"):
        cv2.imwrite(str(tmp_path / f"{name}.png"), getattr(pair, name).astype(np.uint8))
    cv2.imwrite(str(tmp_path / "flat.png"), np.full((100, 100), 9, np.uint8))
    (tmp_path / "broken.png").write_bytes(b"no image")
    return pair, tmp_path


def test_the_command_tells_writes_and_warps(files):
    import cv2

    pair, folder = files
    done = avfuse(
        "register", folder / "reference.png", folder / "moving.png", "--json", "-o", folder / "found.json",
        "--warp", folder / "warped.png",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document == json.loads((folder / "found.json").read_text())
    assert document["format"] == "avfuse.transform/1"
    entry = document["transforms"]["moving->reference"]
    assert (entry["status"], entry["kind"]) == ("aligned", "similarity")
    assert pair.corner_error(Similarity(np.array(entry["matrix"]))) < 0.3
    warped = cv2.imread(str(folder / "warped.png"), cv2.IMREAD_UNCHANGED).astype(float)
    shown = warped > 0
    assert warped.shape == pair.reference.shape
    assert np.abs(warped - pair.reference)[shown].mean() < 6
    assert shown.mean() > 0.7


def test_the_command_prints_for_people_and_refuses_with_three(files):
    _, folder = files
    done = avfuse("register", folder / "reference.png", folder / "moving.png", "--model", "rigid")
    assert "aligned" in done.stdout or done.returncode == 3
    refused = avfuse("register", folder / "reference.png", folder / "flat.png", "--warp", folder / "no.png")
    assert refused.returncode == 3
    assert "degenerate" in refused.stdout
    assert "one colour" in refused.stdout
    assert not (folder / "no.png").exists()


@pytest.mark.parametrize(
    "arguments",
    [("absent.png",), ("broken.png",), ("reference.png", "--model", "elastic"), ("reference.png", "--warp", "out.txt")],
)
def test_the_command_names_what_it_cannot_read(files, arguments):
    _, folder = files
    done = avfuse(
        "register",
        folder / "reference.png",
        folder / arguments[0],
        *arguments[1:-1],
        *([folder / arguments[-1] if arguments[-1] == "out.txt" else arguments[-1]] if len(arguments) > 1 else []),
    )
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("name", ["points.csv", "points.npy"])
def test_a_table_is_no_image(files, name):
    _, folder = files
    if name.endswith("csv"):
        (folder / name).write_text("x,y,z\n0,0,0\n0.1,0,0\n")
    else:
        np.save(folder / name, np.zeros((5, 3)))
    done = avfuse("register", folder / name, folder / "moving.png")
    assert done.returncode == 2
    assert "is a table of numbers; expected an image" in done.stderr


def test_a_video_stands_for_its_first_picture(shared, tmp_path):
    import cv2

    from avfuse.io.images import read_image

    film = shared / "picture" / "flipping_a_pancake.mkv"
    still = read_image(film)
    cv2.imwrite(str(tmp_path / "still.png"), still[..., ::-1])
    done = avfuse("register", film, tmp_path / "still.png", "--json", "--model", "translation")
    assert done.returncode == 0, done.stderr
    matrix = json.loads(done.stdout)["transforms"]["still->flipping_a_pancake"]["matrix"]
    np.testing.assert_allclose(matrix, np.eye(3), atol=1e-2)
