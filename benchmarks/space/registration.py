"""Images onto images: errors, intervals and refusals on simulated and real pairs, beside OpenCV and scikit-image.

Peers run in an environment of their own. OpenCV's ECC is asked for an affine map, starts at the identity, as its
manual does, and either answers or raises; phase correlations know shifts only and always answer.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from typing import Any

import numpy as np

from avfuse.io.images import read_image
from avfuse.reporting.tables import Table, percent
from avfuse.simulation.images import ImagePair, image_pair
from avfuse.spatial import JointInformation, register_images
from avfuse.spatial.images.registration import _parameters
from avfuse.transform import Homography
from benchmarks.measuring import run_here
from benchmarks.options import SHARED, Options
from benchmarks.peers import RUNNERS, Method, python_of
from benchmarks.tables import Goals

_PEER = Method(
    "registration", ("with_registration.py",), "", "registration",
    ("scikit-image==0.26.0", "opencv-python-headless==4.12.0.88", "numpy", "scipy"),
)  # fmt: skip
_LOOKS = {"same": 1.0, "light": 1.0, "inverted": 2.0, "edges": 2.0, "remapped": 2.0}  # pixels that are asked for
_PEERS = ("ecc", "phase_correlate", "cross_correlation")


def tables(options: Options, goals: Goals) -> list[Table]:
    made = [_known(options, goals), _shifts(options, goals)]
    if SHARED.is_dir():
        made += [_real(goals), _unrelated(options, goals)]
    return [*made, _information(options, goals)]


def _known(options: Options, goals: Goals) -> Table:
    rows, cross, cross_count = [], 0, 0
    held_all: list[bool] = []
    for look, asked in _LOOKS.items():
        count = options.pick(3, 60)
        pairs = [
            image_pair(np.random.default_rng([options.seed, list(_LOOKS).index(look), k]), look=look)  # type: ignore[arg-type]
            for k in range(count)
        ]
        peers = by_peers(pairs, options)
        errors, seconds, held, statuses = [], [], [], Counter[str]()
        for pair in pairs:
            began = time.perf_counter()
            found = register_images(pair.reference, pair.moving)
            seconds.append(time.perf_counter() - began)
            statuses[found.status] += 1
            if found.answer is None:
                errors.append(np.inf)
                continue
            errors.append(pair.corner_error(found.transform))
            truth = _parameters(pair.truth.matrix, "similarity")
            held += list(np.abs(_parameters(found.transform.matrix, "similarity") - truth) < 1.96 * found.std)
        held_all += held
        ecc = _errors(pairs, peers["ecc"])
        near = int(np.sum(np.array(errors) <= asked))
        rows.append(
            (look, percent(statuses["aligned"], count), _spread(errors),
             f"{percent(near, count)} within {asked:g}", percent(sum(held), len(held)),
             _spread(ecc), percent(int(np.sum(ecc <= asked)), count),
             f"{np.median(seconds):.2f} / {np.median(peers['ecc_seconds']):.2f}")
        )  # fmt: skip
        if asked == 1.0:
            goals.add(f"{look}: median corner error <= 1 px", f"{np.median(errors):.3f} px", np.median(errors) <= 1)
        else:
            cross, cross_count = cross + near, cross_count + count
        wrong = sum(e > asked for e in errors if np.isfinite(e))
        goals.add(f"{look}: aligned and off by more than {asked:g} px", f"{wrong}", wrong == 0)
    goals.add("cross-modality: <= 2 px on >= 80 %", percent(cross, cross_count), cross >= 0.8 * cross_count)
    share = sum(held_all) / max(len(held_all), 1)
    goals.add("95 % intervals hold 93-97 %", percent(sum(held_all), len(held_all)), 0.93 <= share <= 0.97)
    return Table(
        "Images apart by up to 20 pixels, 5 degrees and 5 % of scale, 320 x 240, noise of 2 of 255",
        ("the moving image is", "aligned", "corner error, median / p95 [px]", "share", "intervals hold",
         "ECC, median / p95 [px]", "ECC, share", "seconds, avfuse / ECC"),
        rows, "A refusal counts as infinitely far. ECC: cv2.findTransformECC, affine, from the identity.",
    )  # fmt: skip


def _shifts(options: Options, goals: Goals) -> Table:
    rows = []
    for look in ("same", "inverted", "edges"):
        count = options.pick(3, 40)
        pairs = [
            image_pair(
                np.random.default_rng([options.seed, 77, k]), look=look, kind="translation", turn=0.0, stretch=0.0
            )  # type: ignore[arg-type]
            for k in range(count)
        ]
        peers = by_peers(pairs, options)
        errors, seconds = [], []
        for pair in pairs:
            began = time.perf_counter()
            found = register_images(pair.reference, pair.moving, model="translation")
            seconds.append(time.perf_counter() - began)
            errors.append(pair.corner_error(found.transform) if found.answer is not None else np.inf)
        others = {name: _errors(pairs, peers[name]) for name in _PEERS}
        rows.append(
            (look, _spread(errors),
             *(_spread(others[n]) for n in _PEERS),
             " / ".join(f"{1e3 * np.median(s):.0f}" for s in (seconds, *(peers[f"{n}_seconds"] for n in _PEERS))))
        )  # fmt: skip
        best = min(float(np.median(e)) for e in others.values())
        goals.add(f"shifts, {look}: median error beside the best peer's", f"{np.median(errors):.3f} / {best:.3f} px",
                  np.median(errors) <= max(best, 0.02))  # fmt: skip
    return Table(
        "Shifts only: corner error, median / p95 [px]",
        ("the moving image is", "avfuse", "cv2 ECC", "cv2.phaseCorrelate", "skimage phase_cross_correlation",
         "ms, in this order"),
        rows,
    )  # fmt: skip


def _real(goals: Goals) -> Table:
    import cv2

    rows, near, count = [], 0, 0
    for scene, k in itertools.product(("leuven", "bikes", "boat"), range(2, 7)):
        moving = read_image(SHARED / "images" / scene / "img1.png")
        reference = read_image(SHARED / "images" / scene / f"img{k}.png")
        stored = cv2.FileStorage(str(SHARED / "images" / scene / f"H1to{k}p.xml"), cv2.FILE_STORAGE_READ)
        pair = ImagePair(reference, moving, Homography(stored.getNode(f"H1{k}").mat()))
        began = time.perf_counter()
        found = register_images(reference, moving, model="homography")
        seconds = time.perf_counter() - began
        said = found.status
        if found.answer is not None:
            error = corner_error(pair, found.transform)
            said, near = f"{error:.2f}", near + (error <= 3)
            goals.add(f"{scene} {k}: aligned within 5 px of its homography", f"{error:.2f} px", error <= 5)
        count += 1
        seen = found.diagnostics
        rows.append(
            (scene, k, said, f"{seen.get('corner_std', np.nan):.2f}", f"{seen.get('near')} of {seen.get('tiles')}",
             f"{seen.get('score', np.nan):.2f}", f"{seconds:.1f}")
        )  # fmt: skip
    goals.add("real pairs within 3 px of their homographies", f"{near} of {count}", near >= 10)
    return Table(
        "Real pairs, image 1 onto image k, homography",
        ("scene", "k", "corner error [px]", "stated std [px]", "tiles that fit", "correlation", "seconds"), rows,
        "The homographies were found from points, and are good to about a pixel: blur (bikes), light (leuven), zoom "
        "and turn (boat).",
    )  # fmt: skip


def _unrelated(options: Options, goals: Goals) -> Table:
    rng = np.random.default_rng([options.seed, 99])
    images: dict[str, list[Any]] = {}
    for scene in ("leuven", "bikes", "boat"):
        images[scene] = [read_image(SHARED / "images" / scene / "img1.png")]
    films = ("motion/karma.mp4", *(f"picture/{n}" for n in (
        "fire2.mp4", "face_22fps.mp4", "lwbsza.mpg", "VID00003-20100701-2204.avi", "nasa_13013.mp4",
        "flipping_a_pancake.mkv")))  # fmt: skip
    for name in films:
        images[name] = [read_image(SHARED / name)]
    images["lidar_camera"] = [read_image(SHARED / "geometry" / "lidar_camera" / "calib.png")]
    names = sorted(images)
    statuses: Counter[str] = Counter()
    most, seconds, count = 0.0, [], options.pick(4, 60)
    for _ in range(count):
        one, two = rng.choice(len(names), 2, replace=False)
        model = str(rng.choice(["translation", "similarity", "affine", "homography"]))
        began = time.perf_counter()
        pair = [_cropped(images[names[n]][0], rng) for n in (one, two)]
        found = register_images(*pair, model=model)  # type: ignore[arg-type]
        seconds.append(time.perf_counter() - began)
        statuses[found.status] += 1
        most = max(most, float(found.diagnostics.get("evidence", 0.0)))
    goals.add("unrelated images aligned", f"{statuses['aligned']} of {count}", statuses["aligned"] == 0)
    return Table(
        "Unrelated real images, cut and scaled at random",
        ("pairs", "aligned", "no match", "ambiguous", "degenerate", "most evidence", "seconds, median"),
        [(count, *(statuses[s] for s in ("aligned", "no_match", "ambiguous", "degenerate")), f"{most:.1f}",
          f"{np.median(seconds):.1f}")],
        "Evidence of 12 and more is accepted.",
    )  # fmt: skip


def _cropped(image: Any, rng: np.random.Generator) -> Any:
    import cv2

    h, w = (max(96, int(s * rng.uniform(0.4, 1.0))) for s in image.shape[:2])
    top, left = rng.integers(0, image.shape[0] - h + 1), rng.integers(0, image.shape[1] - w + 1)
    factor = min(1.0, rng.uniform(150, 400) / max(h, w))
    size = (max(48, round(w * factor)), max(48, round(h * factor)))
    return cv2.resize(np.ascontiguousarray(image[top : top + h, left : left + w]), size, interpolation=cv2.INTER_AREA)


def _information(options: Options, goals: Goals) -> Table:
    """One evaluation at 120,000 points in the order of a scan, on an image of two million pixels."""
    from scipy.ndimage import gaussian_filter, map_coordinates

    rng = np.random.default_rng(options.seed)
    image = gaussian_filter(rng.normal(size=(1080, 1920)).astype(np.float32), 8)
    y, x = np.mgrid[10:1070:300j, 10:1900:400j]
    positions = np.stack([x.ravel(), y.ravel()], axis=1)
    values = -(map_coordinates(image, positions.T[::-1], order=1) ** 2)
    joint = JointInformation(values, image)
    rows = []
    for name, run in (("distance", joint.distance), ("distance and slopes", joint.slopes)):
        run(positions)
        seconds = []
        for _ in range(options.pick(20, 400)):
            began = time.perf_counter()
            run(positions)
            seconds.append(time.perf_counter() - began)
        rows.append((name, f"{1e3 * min(seconds):.2f}", f"{1e3 * float(np.median(seconds)):.2f}"))
        if name == "distance":
            goals.add(
                "information distance, 120,000 points: <= 0.6 ms (least of all runs)", f"{1e3 * min(seconds):.2f} ms",
                min(seconds) <= 0.6e-3,
            )  # fmt: skip
    return Table("Information distance of 120,000 points, one thread [ms]", ("evaluation", "least", "median"), rows)


def _spread(errors: Any) -> str:
    """Median and 95th percentile; what gave no answer is infinitely far."""
    ordered = np.sort(errors)
    shown = [ordered[round(share * (len(ordered) - 1))] for share in (0.5, 0.95)]
    return " / ".join("none" if np.isinf(e) else f"{e:.3f}" for e in shown)


def _errors(pairs: list[ImagePair], matrices: np.ndarray) -> np.ndarray:
    found = []
    for pair, matrix in zip(pairs, matrices, strict=True):
        found.append(pair.corner_error(Homography(matrix)) if np.isfinite(matrix).all() else np.inf)
    return np.array(found)


def corner_error(pair: ImagePair, found: Any) -> float:
    h, w = pair.moving.shape[:2]
    corners = np.array([[0, 0], [w - 1, 0], [0, h - 1], [w - 1, h - 1]], float)
    return float(np.linalg.norm(found(corners) - pair.truth(corners), axis=1).mean())


def by_peers(pairs: list[ImagePair], options: Options) -> dict[str, np.ndarray]:
    """Matrices and seconds of every peer."""
    given: dict[str, Any] = {}
    for k, pair in enumerate(pairs):
        given |= {f"reference_{k}": pair.reference, f"moving_{k}": pair.moving}
    options.out.mkdir(parents=True, exist_ok=True)
    asked, answered = options.out / "registration-in.npz", options.out / "registration-out.npz"
    np.savez(asked, **given)
    run_here([python_of(_PEER), str(RUNNERS / _PEER.runner[0]), str(asked), str(answered)])
    with np.load(answered) as found:
        return dict(found)
