"""Matching beside OpenCV and faiss: the same descriptors, one call of each after the other, over and over.

Each library runs in a process of its own that stays up. Ratios are those of calls that were neighbours in time.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from llvmlite import binding

from avfuse.cores import cores
from avfuse.reporting.tables import Table, percent
from avfuse.spatial import match_descriptors, match_guided
from avfuse.transform import Homography
from benchmarks.options import ROOT, SHARED, Options
from benchmarks.peers import RUNNERS, Method, python_of
from benchmarks.tables import Goals

Found = TypeVar("Found")

_RUNNER = "match_loop.py"
_PEERS = {
    "OpenCV 5": Method("OpenCV 5", (_RUNNER, "cv2"), "", "opencv-5", ("opencv-python-headless==5.0.0.93",)),
    "OpenCV 4": Method("OpenCV 4", (_RUNNER, "cv2"), "", "opencv-4", ("opencv-python-headless==4.12.0.88",)),
    "OpenCV 5, crossCheck": Method(
        "OpenCV 5, crossCheck", (_RUNNER, "cv2-both-ways"), "", "opencv-5", ("opencv-python-headless==5.0.0.93",)
    ),
    "faiss": Method("faiss", (_RUNNER, "faiss"), "", "faiss", ("faiss-cpu==1.15.1",)),
}
_OURS = Method("avfuse", (_RUNNER, "avfuse"), "")
_WITHOUT = "avfuse, AVX2 only"
_AVX2 = "+sse4.2,+popcnt,+avx,+avx2,+fma,+bmi,+bmi2,+lzcnt,+f16c"


def tables(options: Options, goals: Goals) -> list[Table]:
    size, rounds = 1000 if options.quick else 5000, options.pick(3, 25)
    files = _descriptors(options, size)
    found = [_speed(options, goals, files, size, rounds, threads) for threads in (1, 0)]
    if SHARED.is_dir():
        found.append(_real(goals))
    return found


def _descriptors(options: Options, size: int) -> dict[str, Path]:
    """Half of b are those of a, disturbed; the others are strangers."""
    rng = np.random.default_rng(options.seed)
    bits = rng.integers(0, 256, (2, size, 32), np.uint8)
    bits[1, : size // 2] = bits[0, : size // 2] ^ np.packbits(rng.random((size // 2, 256)) < 0.1, axis=1)
    # As SIFT gives them: whole numbers from 0 to 255, of length 512.
    floats = rng.gamma(0.6, size=(2, size, 128))
    floats[1, : size // 2] = np.abs(floats[0, : size // 2] + 0.2 * rng.standard_normal((size // 2, 128)))
    floats = np.minimum(np.round(512 * floats / np.linalg.norm(floats, axis=2, keepdims=True)), 255)
    made = {}
    for kind, (a, b) in (("binary", bits), ("float", floats.astype(np.float32))):
        made[kind] = options.out / f"descriptors-{kind}.npz"
        np.savez(made[kind], a=a, b=b)
    return made


class _Matcher:
    """A process that matches when asked to."""

    def __init__(self, method: Method, threads: int, environment: Mapping[str, str] | None = None) -> None:
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])] if method is _OURS else []
        self.process = subprocess.Popen(
            [python_of(method), str(RUNNERS / method.runner[0]), method.runner[1], str(threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)} | (environment or {}),
        )  # fmt: skip

    def seconds(self, kind: str, file: Path, answer: Path | None = None) -> float:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(kind, file, answer or "", file=self.process.stdin, flush=True)
        return float(json.loads(self.process.stdout.readline())["seconds"])

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def _speed(options: Options, goals: Goals, files: Mapping[str, Path], size: int, rounds: int, threads: int) -> Table:
    wide = bool(binding.get_host_cpu_features().get("avx512f"))
    matchers = {"avfuse": _Matcher(_OURS, threads)}
    if wide:
        narrow = {
            "NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": _AVX2, "OPENBLAS_CORETYPE": "Haswell",
            "NUMBA_CACHE_DIR": str(options.out / "numba-avx2"),
        }  # fmt: skip
        matchers[_WITHOUT] = _Matcher(_OURS, threads, narrow)
    matchers |= {name: _Matcher(method, threads) for name, method in _PEERS.items()}
    rows = []
    words = "one thread" if threads == 1 else f"{cores()} cores"
    for kind, title in (("binary", "256 bits, Hamming"), ("float", "128 floats, L2")):
        answer = options.out / f"matches-{kind}.npz"
        for matcher in matchers.values():
            matcher.seconds(kind, files[kind], answer)
        times: dict[str, list[float]] = {name: [] for name in matchers}
        for k in range(rounds):
            # In another order each time, so that nobody always follows the same one.
            names = list(matchers)
            for name in names[k % len(names) :] + names[: k % len(names)]:
                times[name].append(matchers[name].seconds(kind, files[kind]))
        ratios = {name: float(np.median(np.array(t) / times["avfuse"])) for name, t in times.items()}
        wrong = _unlike(kind, files[kind], answer)
        rows.append(
            (title, *(f"{1e3 * np.median(times[name]):.1f}" if name in times else "-" for name in _COLUMNS),
             *(f"{ratios[name]:.1f}" for name in _PEERS), wrong)
        )  # fmt: skip
        slower = min(ratios["OpenCV 4"], ratios["OpenCV 5"])
        about = f"{title.split(',')[0]}, {words}"
        goals.add(f"{about}: pairs unlike every distance", f"{wrong}", wrong == 0)
        if kind == "float":
            goals.add(f"{about}: >= 2.5x OpenCV", f"{slower:.1f}x", slower >= 2.5)
            goals.add(f"{about}: <= 1.25x the time of faiss", f"{1 / ratios['faiss']:.2f}x", ratios["faiss"] >= 0.8)
            continue
        if wide:
            goals.add(f"{about}: >= 10x OpenCV", f"{slower:.1f}x", slower >= 10)
            goals.add(f"{about}: >= 2x faiss", f"{ratios['faiss']:.1f}x", ratios["faiss"] >= 2)
            slower /= ratios[_WITHOUT]
        goals.add(f"{about}: >= 2.5x OpenCV without AVX-512", f"{slower:.1f}x", slower >= 2.5)
    for matcher in matchers.values():
        matcher.close()
    return Table(
        f"Matching {size} x {size}, {words}",
        ("descriptors", *(f"{name} [ms]" for name in _COLUMNS), *(f"{name} / avfuse" for name in _PEERS), "unlike"),
        rows,
        "avfuse: two nearest, ratio and check of both ways; OpenCV: knnMatch with k = 2, or crossCheck alone; faiss: a "
        "flat index made and searched with k = 2. Medians, and medians of ratios within a round"
        + (", of time on the processor. " if threads == 1 else ". ")
        + ("" if wide else "This machine has no AVX-512. ")
        + "Unlike: pairs that differ from those of all distances, computed plainly.",
    )


_COLUMNS = ("avfuse", _WITHOUT, *_PEERS)


def _unlike(kind: str, file: Path, answer: Path) -> int:
    """In how many pairs an answer differs from that of every distance."""
    with np.load(file) as given, np.load(answer) as found:
        a, b, pairs = given["a"], given["b"], found["pairs"]
    best, near, second = [], [], []
    column_best, column_near = np.full(len(b), -1), np.full(len(b), np.inf)
    for start in range(0, len(a), 100):
        if kind == "binary":
            words = a[start : start + 100, None].view(np.uint64) ^ b[None].view(np.uint64)
            costs = np.bitwise_count(words).sum(axis=2, dtype=np.int64).astype(float)
        else:
            # Whole numbers: no sum is rounded, however it is made.
            x, y = a[start : start + 100].astype(np.float64), b.astype(np.float64)
            costs = np.sqrt((x**2).sum(axis=1)[:, None] + (y**2).sum(axis=1) - 2 * x @ y.T)
        best.append(costs.argmin(axis=1))
        two = np.partition(costs, 1, axis=1)
        near.append(two[:, 0])
        second.append(two[:, 1])
        nearer = costs.min(axis=0) < column_near
        column_best[nearer] = start + costs.argmin(axis=0)[nearer]
        column_near = np.minimum(column_near, costs.min(axis=0))
    j = np.concatenate(best)
    keep = (np.concatenate(near) < 0.8 * np.concatenate(second)) & (column_best[j] == np.arange(len(a)))
    expected = {(int(i), int(j[i])) for i in np.flatnonzero(keep)}
    return len(expected ^ {(int(i), int(k)) for i, k in pairs})


def _real(goals: Goals) -> Table:
    """Pictures of planes, of which it is known where each point lies in the other one."""
    rows = []
    for detector, made in (("ORB", cv2.ORB_create(4000)), ("SIFT", cv2.SIFT_create(4000))):
        kind = cv2.NORM_HAMMING if detector == "ORB" else cv2.NORM_L2
        for scene in ("boat", "bikes", "leuven"):
            seen = [_keys(made, SHARED / "images" / scene / f"img{k}.png") for k in range(1, 7)]
            (x, a), counts, ratios, guided_ms, apart = seen[0], [], [], [], 0
            for k, (y, b) in enumerate(seen[1:], 2):
                store = cv2.FileStorage(str(SHARED / "images" / scene / f"H1to{k}p.xml"), cv2.FILE_STORAGE_READ)
                truth = Homography(np.asarray(store.getNode(f"H1{k}").mat())).inverse()
                plain = match_descriptors(a, b, ratio=0.8)
                guided, took = _timed(partial(match_guided, a, b, x, y, truth, distance=3.0, ratio=0.8))
                guided_ms.append(1e3 * took)
                theirs, their_time = _timed(partial(cv2.BFMatcher(kind).knnMatch, a, b, k=2))
                ours, our_time = _timed(partial(match_descriptors, a, b, ratio=0.8, mutual=False))
                ratios.append(their_time / our_time)
                kept = {(m.queryIdx, m.trainIdx) for m, n in theirs if m.distance < 0.8 * n.distance}
                apart += len(kept ^ {(int(i), int(j)) for i, j in ours.pairs})
                i, j = plain.pairs.T
                right = np.linalg.norm(truth(y[j]) - x[i], axis=1) < 3
                counts.append((len(plain), right.sum(), len(guided)))
            total, right_total, guided_total = np.sum(counts, axis=0)
            rows.append(
                (f"{scene}, {detector}", int(total), percent(int(right_total), int(total)), int(guided_total),
                 f"{np.median(guided_ms):.1f}", f"{np.median(ratios):.1f}", apart)
            )  # fmt: skip
            goals.add(f"{scene}, {detector}: pairs unlike OpenCV's (ratio only)", f"{apart}", apart == 0)
    return Table(
        "Matching real pictures, up to 4,000 points in each, five pairs a scene",
        ("scene", "matches", "within 3 px", "guided within 3 px", "guided [ms]", "OpenCV / avfuse", "unlike OpenCV"),
        rows,
        "Ratio 0.8. Times of this process, all cores, the library's ratio test left out.",
    )  # fmt: skip


def _keys(detector: cv2.Feature2D, path: Path) -> tuple[np.ndarray, np.ndarray]:
    keys, descriptors = detector.detectAndCompute(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), None)
    return np.asarray(cv2.KeyPoint_convert(keys), np.float64), descriptors


def _timed(function: Callable[[], Found], repeats: int = 5) -> tuple[Found, float]:
    """What it gives, and the median of its seconds."""
    found, seconds = function(), []
    for _ in range(repeats):
        began = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - began)
    return found, float(np.median(seconds))
