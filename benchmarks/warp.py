"""Elastic time: speed and memory of the warping path beside librosa, and errors on simulated performances.

Speed is measured in one process, one after the other, all of it repeated and the medians taken; the cost of a cell is
included for every program. The hour-long pair runs in a process of its own, whose resident memory is watched.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable
from itertools import pairwise

import numpy as np

from avfuse.clock import WarpPath
from avfuse.reporting.tables import Table, milliseconds, percent
from avfuse.simulation.performances import simulate_performances
from avfuse.temporal import WarpFollower, estimate_warp
from avfuse.temporal.dtw import Steps, exact_path
from benchmarks.measuring import run_here
from benchmarks.options import Options
from benchmarks.tables import Goals, show

_UNIT = Steps(weights=(1.0, 1.0, 1.0))
_BLOCK = 0.1  # seconds that reach the follower at once

_HOUR = """
import time
import numpy as np
from avfuse.temporal.dtw import LIMITED, {search}
rng = np.random.default_rng(1)
y = np.repeat(rng.random(({frames} // 12, 24), np.float32), 12, axis=0)
x = y[np.clip(np.round(np.interp(np.arange({frames}), np.arange(0, {frames} + 500, 500),
    np.arange(0, {frames} + 500, 500) + rng.uniform(-80, 80, {frames} // 500 + 1))), 0, len(y) - 1).astype(int)]
x = x + 0.1 * rng.standard_normal(x.shape, np.float32)
x[0], x[-1] = y[0], y[-1]
began = time.perf_counter()
found = {search}(y, x, steps=LIMITED)
print(time.perf_counter() - began, found.cost, found.radius)
"""


def benchmark(options: Options) -> bool:
    goals = Goals()
    tables = [_speed(options, goals), _hours(options, goals), *_errors(options, goals)]
    show([*tables, goals.table()], options.page, "warp", f"Seed {options.seed}.")
    return goals.met


def _seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Wall time, and time of all cores together."""
    gc.collect()
    began, used = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - began, time.process_time() - used


def _speed(options: Options, goals: Goals) -> Table:
    import librosa

    rng = np.random.default_rng(options.seed)
    size, rows = (2000 if options.quick else 6000), []
    for dims in (12, 24):
        y, x = rng.random((size, dims), np.float32), rng.random((size, dims), np.float32)
        costs: dict[str, float] = {}

        def with_librosa(x: np.ndarray = x, y: np.ndarray = y, costs: dict[str, float] = costs) -> None:
            total, _ = librosa.sequence.dtw(x.T, y.T, metric="euclidean")
            costs["librosa"] = float(total[-1, -1])

        def with_avfuse(x: np.ndarray = x, y: np.ndarray = y, costs: dict[str, float] = costs) -> None:
            costs["avfuse"] = exact_path(y, x, steps=_UNIT, rooted=True).cost

        for warm in (with_librosa, with_avfuse):
            warm()
        repeats = options.pick(3, 5)
        taken = np.array([[_seconds(with_librosa), _seconds(with_avfuse)] for _ in range(repeats)])
        speeds = size * size / np.median(taken, axis=0) / 1e6
        ratio, by_core = (float(r) for r in np.median(taken[:, 0] / taken[:, 1], axis=0))
        apart = abs(costs["avfuse"] - costs["librosa"]) / costs["librosa"]
        rows.append(
            (dims, f"{speeds[0, 0]:.0f}", f"{speeds[1, 0]:.0f}", f"{ratio:.0f}", f"{by_core:.0f}", f"{apart:.1e}")
        )
        goals.add(f"{dims} dims: same cost as librosa within 1e-5", f"{apart:.1e}", apart < 1e-5)
        goals.add(f"{dims} dims: 20 times the cells per second of librosa", f"{ratio:.0f}", ratio >= 20)
    return Table(
        f"Speed: {size} x {size} frames, Euclidean cost, path included",
        ("dimensions", "librosa, M cells/s", "avfuse, M cells/s", "ratio", "per core", "costs apart"),
        rows,
        "Medians of the repeats; ratios are medians of those of each. avfuse uses all cores, librosa's loop one: per "
        "core is the ratio of processor times, which a busy machine disturbs less.",
    )


def _hours(options: Options, goals: Goals) -> Table:
    minutes = 6 if options.quick else 60
    frames, rows = minutes * 60 * 50, []
    for search in ("exact_path", "multiscale_path"):
        ran = run_here([sys.executable, "-c", _HOUR.format(search=search, frames=frames)])
        seconds, cost, radius = ran.stdout.split()
        rows.append((search, f"{float(seconds):.1f}", f"{ran.peak_mb:.0f}", f"{float(cost):.3f}", radius))
        goals.add(f"{search}: {minutes} min x {minutes} min at 50 Hz in less than 1 GB", f"{ran.peak_mb:.0f} MB",
                  ran.peak_mb < 1000)  # fmt: skip
    return Table(
        f"{minutes} x {minutes} minutes at 50 Hz, 24 dimensions, limited steps",
        ("search", "seconds", "MB resident", "cost", "radius"),
        rows,
        "Resident memory includes Python, NumPy, numba and the features themselves.",
    )


def _errors(options: Options, goals: Goals) -> list[Table]:
    count, rows, wrong = options.pick(2, 12), [], 0
    by_kind: dict[str, list[tuple[np.ndarray, np.ndarray, float]]] = {}
    sure: list[tuple[np.ndarray, np.ndarray]] = []
    pairs, refused = [], 0
    for kind in ("music", "speech"):
        for k in range(count):
            rng = np.random.default_rng([options.seed, 31, k])
            pair = simulate_performances(120.0, rng, kind=kind, noise_db=(-30.0, -20.0, -10.0)[k % 3])
            pairs.append(pair)
            found = estimate_warp(pair.reference, pair.moving)
            if found.path is None:
                refused += 1
                continue
            t = np.arange(0.0, pair.moving.duration - 0.05, 0.02)
            error = np.abs(found.path(t) - pair.truth(t))
            sure.append((found.path.confidence_at(t), error))
            live, lag = _followed(pair.reference, pair.moving.values[0], float(pair.moving.rate or 0), pair.truth)
            by_kind.setdefault(kind, []).append((error[np.isfinite(error)], live, lag))
    for kind, found_errors in by_kind.items():
        for name, which in (("offline", 0), ("online", 1)):
            error = np.concatenate([e[which] for e in found_errors])
            rows.append(
                (kind, name, milliseconds(float(np.median(error))), milliseconds(float(np.percentile(error, 95))),
                 milliseconds(float(error.max())), percent(float((error <= 0.05).sum()), len(error)),
                 "-" if which == 0 else f"{max(e[2] for e in found_errors):.2f} s")
            )  # fmt: skip
        off, on = (np.concatenate([e[which] for e in found_errors]) for which in (0, 1))
        figures = [(float(np.median(e)), float(np.percentile(e, 95))) for e in (off, on)]
        text = f"{milliseconds(figures[0][0])} ms, {milliseconds(figures[0][1])} ms"
        if kind == "music":  # of speech only the beginnings of syllables keep to the truth: consonants do not stretch
            goals.add(f"{kind}: median <= 15 ms, p95 <= 50 ms", text, figures[0][0] <= 0.015 and figures[0][1] <= 0.05)
        times = [b / a for a, b in zip(*figures, strict=True)]
        goals.add(f"{kind}: online within twice the offline errors", f"{times[0]:.2f}, {times[1]:.2f}", max(times) <= 2)
        lag = max(e[2] for e in found_errors)
        goals.add(f"{kind}: online lags less than 1 s", f"{lag:.2f} s", lag < 1)
    goals.add("true pairs answered", f"{2 * count - refused} of {2 * count}", refused == 0)
    others = 0
    for k, pair in enumerate(pairs):
        for step in (1, 2, 3):
            other = pairs[(k + step) % len(pairs)]
            if other.reference is not pair.reference:
                others += 1
                wrong += estimate_warp(other.reference, pair.moving).status == "aligned"
    goals.add("unrelated pairs refused", f"{others - wrong} of {others}", wrong == 0)
    told, error = (np.concatenate(column) for column in zip(*sure, strict=True))
    edges = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 1.0)
    kept = []
    for low, high in pairwise(edges):
        inside = (told >= low) & (told < high) & np.isfinite(error)
        if inside.any():
            kept.append((f"{low:g}-{high:g}", f"{inside.sum()}", f"{told[inside].mean():.3f}",
                         f"{(error[inside] <= 0.05).mean():.3f}"))  # fmt: skip
    return [
        Table(
            f"Simulated performances: {count} of each kind, 120 s, tempo 0.7-1.4, rooms, noise at -30 to -10 dB",
            ("kind", "", "median, ms", "p95, ms", "max, ms", "within 50 ms", "lag"),
            rows,
            f"The online version hears blocks of {_BLOCK:g} s. The true map of speech is that of the beginnings of "
            "syllables; consonants keep their lengths at any tempo, so that 10-20 ms of its errors are its own.",
        ),
        Table("Local confidence", ("stated", "frames", "mean stated", "within 50 ms"), kept),
    ]


def _followed(reference, samples: np.ndarray, rate: float, truth: WarpPath) -> tuple[np.ndarray, float]:
    """Errors of the follower's answers, and the longest lag."""
    follower, size = WarpFollower(reference, rate=rate), round(_BLOCK * rate)
    errors, lags = [], []
    for first in range(0, len(samples), size):
        position = follower.push(samples[first : first + size])
        if position is not None:
            errors.append(position.reference_time - float(truth(position.time)))
            lags.append(min(first + size, len(samples)) / rate - position.time)
    found = np.abs(np.array(errors))
    return found[np.isfinite(found)], max(lags)
