"""How near avfuse comes to what is possible: noise, drift, and devices that stand far apart."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from avfuse.alignment import Alignment
from avfuse.clock import ClockMap
from avfuse.evaluation import Case, Evaluation
from avfuse.reporting.tables import Table, milliseconds, percent
from avfuse.simulation import Device, SoundSource, simulate
from avfuse.simulation.cases import write_case
from avfuse.stream import Stream
from benchmarks.honest import errors_of, recipes, stated
from benchmarks.measuring import measure
from benchmarks.options import Options
from benchmarks.peers import APART
from benchmarks.tables import Goals, show

_SNRS = (20.0, 10.0, 0.0, -6.0)
_SECONDS = 10.0
_BAND = 8000.0
_SPACING = 10.0  # metres, as benchmarks/runners/with_avfuse.py tells avfuse


def cramer_rao(snr_db: float, seconds: float, band: float) -> float:
    """Least standard deviation, in seconds, of the delay between two noisy channels of a flat band 0 - `band` Hz.

    Knapp and Carter (1976), eq. 44, with signal-to-noise ratio s at both: var = 3 (1 + 2 s) / (8 pi^2 T B^3 s^2).
    """
    s = 10.0 ** (snr_db / 10.0)
    return float(np.sqrt(3 * (1 + 2 * s) / (8 * np.pi**2 * seconds * band**3 * s**2)))


def noise_case(seed: int, index: int, folder: Path) -> Alignment:
    """White noise delayed by turning phases: an interpolator would lose the top of the band, where most timing lies."""
    snr, rate, around = _SNRS[index % len(_SNRS)], 2 * _BAND, 3.0
    rng = np.random.default_rng([seed, 17, index])
    n = round((_SECONDS + 2 * around) * rate)
    event, delay = rng.standard_normal(n), float(rng.uniform(-1.0, 1.0))
    turn = np.exp(2j * np.pi * np.fft.rfftfreq(n, 1 / rate) * delay)
    both = np.stack([event, np.fft.irfft(np.fft.rfft(event) * turn, n)])
    both = both[:, round(around * rate) : round((around + _SECONDS) * rate)]
    both += 10 ** (-snr / 20) * rng.standard_normal(both.shape)
    streams = [Stream.from_samples(values.astype(np.float32), rate=rate) for values in both]
    # A second of delay leaves nine to ten seconds in common.
    return write_case(folder, streams, ClockMap(delay))


def _drift_pair(overlap: float, seed: int, index: int) -> tuple[dict[str, Any], dict[str, str]]:
    """Talk, music or blows at 20 or 0 dB without a room, at a drift of up to 120 ppm."""
    kind, snr = ("speech", "music", "impacts")[index % 3], (20.0, 0.0)[index // 3 % 2]
    drift = float(np.random.default_rng([seed, 19, index, round(overlap)]).uniform(-120.0, 120.0))
    recipe = {"pair": "related", "kind": kind, "overlap": overlap, "snr_db": snr, "drift_ppm": drift,
              "seed": [seed, 20, index, round(overlap)]}  # fmt: skip
    return recipe, {"kind": kind, "SNR": f"{snr:+g} dB"}


def apart_case(seed: int, index: int, folder: Path) -> Alignment:
    """Two devices up to 10 m from each other, and a source up to 10 m from their middle; told so by `spacing`."""
    rng = np.random.default_rng([seed, 23, index])
    apart = float(rng.uniform(1.0, _SPACING))
    # Around the middle between the devices, which lie on the x axis.
    direction = rng.standard_normal(3)
    x, y, z = rng.uniform(0.5, 10.0) * direction / np.linalg.norm(direction)
    truth = ClockMap(float(rng.uniform(-5.0, 5.0)), float(rng.uniform(-120e-6, 120e-6)))
    seconds = 30.0
    start = ClockMap(0.5 + max(0.0, -truth.offset))
    devices = [
        Device("reference", start, seconds, 16000.0, (apart / 2, 0.0, 0.0), snr_db=10.0),
        Device("moving", start @ truth, seconds, 16000.0, (-apart / 2, 0.0, 0.0), snr_db=10.0),
    ]
    event = simulate(
        duration=2 * seconds, devices=devices, sources=[SoundSource("speech", (float(x), float(y), float(z)))],
        rate=16000.0, rng=rng,
    )  # fmt: skip
    return write_case(folder, [event[name].streams[0] for name in ("reference", "moving")], truth)


def _made(
    part: str, make: Callable[[int, int, Path], Alignment], seed: int, count: int, snrs: tuple[float, ...] = ()
) -> list[Case]:
    """Cases that `make` makes when they are asked for."""
    return [
        Case(f"{part} {k}", make=partial(make, seed, k), group=part, key=f"{part} {seed} {k}",
             settings={"SNR": f"{snrs[k % len(snrs)]:+g}"} if snrs else {})
        for k in range(count)
    ]  # fmt: skip


def benchmark(options: Options) -> bool:
    goals = Goals()
    seed = options.seed
    noise = measure(options, "limits-noise", _made("noise", noise_case, seed, 4 * options.pick(8, 100), _SNRS))
    minutes = 3 if options.quick else 30
    drifts = [
        (name, measure(options, part, recipes(part, partial(_drift_pair, overlap), seed, count)))
        for name, part, overlap, count in (
            ("30 s", "limits-drift-30s", 30.0, options.pick(18, 240)),
            (f"{minutes} min", f"limits-drift-{minutes}min", 60.0 * minutes, options.pick(2, 12)),
        )
    ]
    made = _made("apart", apart_case, seed, options.pick(12, 200))
    apart = measure(options, "limits-apart", made, {"avfuse": APART})
    tables = [_noise(noise, goals), _drift(drifts, goals), _apart(apart, goals), goals.table()]
    show(tables, options.page, "limits", f"Seed {seed}.")
    return goals.met


def _noise(found: Evaluation, goals: Goals) -> Table:
    lines: list[tuple[object, ...]] = []
    delays = {part.case.name: part.case.true.clocks["moving"].offset for part in found.asked}
    for snr in _SNRS:
        chosen = [p for p in found.pairs if p.settings["SNR"] == f"{snr:+g}"]
        good = stated(chosen)
        rmse = bound = mean = float("nan")
        if good:
            rmse = float(np.sqrt(np.mean([p.error**2 for p in good])))
            bounds = [cramer_rao(snr, _SECONDS - abs(delays[p.case]), _BAND) for p in good]
            bound = float(np.sqrt(np.mean(np.square(bounds))))
            mean = float(np.mean([p.std for p in good]))
        lines.append((f"{snr:+g}", len(chosen), percent(len(good), len(chosen)), f"{rmse * 1e6:.4g}",
                      f"{bound * 1e6:.4g}", f"{rmse / bound:.2f}", f"{mean * 1e6:.4g}"))  # fmt: skip
        goals.add(f"white noise at {snr:+g} dB: RMSE at most 1.5 x the bound", f"{rmse / bound:.2f} x",
                  rmse <= 1.5 * bound)  # fmt: skip
    return Table(
        f"White noise, {_SECONDS:g} s, 0-8 kHz, no room, against the Cramer-Rao bound",
        ("SNR [dB]", "pairs", "aligned", "RMSE [µs]", "bound [µs]", "ratio", "mean stated std [µs]"), lines,
    )  # fmt: skip


def _drift(parts: list[tuple[str, Evaluation]], goals: Goals) -> Table:
    lines: list[tuple[object, ...]] = []
    for name, found in parts:
        rows = found.pairs
        known = [r for r in stated(rows) if np.isfinite(r.drift_std)]
        drift = np.abs([r.drift_error for r in known] or [np.nan]) * 1e6
        end = np.abs([r.last for r in known] or [np.nan])
        p95 = float(np.quantile(drift, 0.95))
        lines.append((name, len(rows), percent(len(known), len(rows)), f"{np.median(drift):.4f}", f"{p95:.4f}",
                      f"{drift.max():.4f}", milliseconds(float(np.median(end))),
                      milliseconds(float(end.max()))))  # fmt: skip
        if name == "30 s":
            goals.add("30 s: drift within 1 ppm (p95)", f"{p95:.3f} ppm", p95 <= 1.0)
        elif name == "30 min":  # quick runs are shorter, and bound to be less exact
            goals.add(f"{name}: drift within 0.02 ppm", f"{drift.max():.4f} ppm", drift.max() <= 0.02)
            goals.add(f"{name}: end of the overlap within 0.05 ms", f"{milliseconds(float(end.max()))} ms",
                      bool(end.max() <= 0.05e-3))  # fmt: skip
    return Table(
        "Drift up to 120 ppm; talk, music, blows at 20 and 0 dB, no room",
        ("overlap", "pairs", "aligned with drift", "median |drift error| [ppm]", "p95", "max",
         "error at the end of the overlap, median [ms]", "max"), lines,
    )  # fmt: skip


def _apart(found: Evaluation, goals: Goals) -> Table:
    good = stated(found.pairs)
    error = errors_of(found.pairs)
    std = np.array([p.std for p in good] or [np.nan])
    held = int((error <= 1.96 * std).sum())
    goals.add("devices up to 10 m apart: 95 % intervals hold the truth", f"{held} of {len(good)}",
              bool(good) and held >= 0.93 * len(good))  # fmt: skip
    return Table(
        f"Devices up to {_SPACING:g} m apart, spacing={_SPACING:g}",
        ("pairs", "aligned", "median |error| [ms]", "max", "median stated std [ms]", "95 % intervals hold", "wrong"),
        [(len(found.pairs), percent(len(good), len(found.pairs)), milliseconds(float(np.median(error))),
          milliseconds(float(error.max())), milliseconds(float(np.median(std))), percent(held, len(good)),
          sum(p.wrong for p in good))],
        "Truth is the clock; what separates it from what is heard is the difference of the two paths.",
    )  # fmt: skip
