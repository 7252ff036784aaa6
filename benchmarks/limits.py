"""How near avfuse comes to what is possible: noise, drift, and devices that stand far apart."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from avfuse.clock import ClockMap
from avfuse.simulation import Device, SoundSource, simulate, simulate_pair
from avfuse.simulation.pairs import Pair
from avfuse.stream import Stream
from benchmarks.honest import aligned, estimate_row, is_wrong
from benchmarks.options import Options
from benchmarks.rows import Row, gather
from benchmarks.tables import Goals, Table, milliseconds, percent, show

_SNRS = (20.0, 10.0, 0.0, -6.0)
_SECONDS = 10.0
_BAND = 8000.0
_SPACING = 10.0  # metres


def cramer_rao(snr_db: float, seconds: float, band: float) -> float:
    """Least standard deviation, in seconds, of the delay between two noisy channels of a flat band 0 - `band` Hz.

    Knapp and Carter (1976), eq. 44, with signal-to-noise ratio s at both: var = 3 (1 + 2 s) / (8 pi^2 T B^3 s^2).
    """
    s = 10.0 ** (snr_db / 10.0)
    return float(np.sqrt(3 * (1 + 2 * s) / (8 * np.pi**2 * seconds * band**3 * s**2)))


def noise_row(seed: int, index: int) -> Row:
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
    pair = Pair(*streams, ClockMap(delay))
    return estimate_row(pair) | {"setting": {"SNR": f"{snr:+g} dB"}, "snr": snr, "shared": _SECONDS - abs(delay)}


def drift_row(seed: int, index: int, *, overlap: float) -> Row:
    """Talk, music or blows at 20 or 0 dB without a room, at a drift of up to 120 ppm."""
    rng = np.random.default_rng([seed, 19, index, round(overlap)])
    kind, snr = ("speech", "music", "impacts")[index % 3], (20.0, 0.0)[index // 3 % 2]
    drift = float(rng.uniform(-120.0, 120.0))
    pair = simulate_pair(kind, overlap=overlap, snr_db=snr, drift_ppm=drift, rng=rng)
    return estimate_row(pair) | {"setting": {"kind": kind, "SNR": f"{snr:+g} dB"}}


def apart_row(seed: int, index: int) -> Row:
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
    pair = Pair(event["reference"].streams[0], event["moving"].streams[0], truth)
    difference = abs(event.distances["reference"][0] - event.distances["moving"][0])
    return estimate_row(pair, spacing=_SPACING) | {"setting": {"apart": f"{apart:.1f} m"}, "paths": difference}


def benchmark(options: Options) -> bool:
    goals = Goals()
    noise = gather(options, "noise", partial(noise_row, options.seed), len(_SNRS) * options.pick(8, 100))
    short = gather(options, "drift-30s", partial(drift_row, options.seed, overlap=30.0), options.pick(18, 240))
    minutes = 3 if options.quick else 30
    long_drift = partial(drift_row, options.seed, overlap=60.0 * minutes)
    long = gather(options, f"drift-{minutes}min", long_drift, options.pick(2, 12))
    apart = gather(options, "apart", partial(apart_row, options.seed), options.pick(12, 200))
    tables = [
        _noise(noise, goals), _drift([("30 s", short), (f"{minutes} min", long)], goals), _apart(apart, goals),
        goals.table(),
    ]  # fmt: skip
    show(tables, options.page, "limits", f"Seed {options.seed}.")
    return goals.met


def _noise(rows: Sequence[Row], goals: Goals) -> Table:
    lines: list[Sequence[object]] = []
    for snr in _SNRS:
        chosen = [r for r in rows if r["snr"] == snr]
        good = aligned(chosen)
        rmse = float(np.sqrt(np.mean([r["error"] ** 2 for r in good]))) if good else float("nan")
        bound = float(np.sqrt(np.mean([cramer_rao(snr, r["shared"], _BAND) ** 2 for r in good]))) if good else np.nan
        mean = float(np.mean([r["std"] for r in good])) if good else float("nan")
        lines.append((f"{snr:+g}", len(chosen), percent(len(good), len(chosen)), f"{rmse * 1e6:.4g}",
                      f"{bound * 1e6:.4g}", f"{rmse / bound:.2f}", f"{mean * 1e6:.4g}"))  # fmt: skip
        goals.add(f"white noise at {snr:+g} dB: RMSE at most 1.5 x the bound", f"{rmse / bound:.2f} x",
                  rmse <= 1.5 * bound)  # fmt: skip
    return Table(
        f"White noise, {_SECONDS:g} s, 0-8 kHz, no room, against the Cramer-Rao bound",
        ("SNR [dB]", "pairs", "aligned", "RMSE [µs]", "bound [µs]", "ratio", "mean stated std [µs]"), lines,
    )  # fmt: skip


def _drift(parts: Sequence[tuple[str, Sequence[Row]]], goals: Goals) -> Table:
    lines: list[Sequence[object]] = []
    for name, rows in parts:
        known = [r for r in aligned(rows) if r["drift_std"] is not None]
        drift = np.abs([r["drift_error"] for r in known]) * 1e6 if known else np.array([np.nan])
        end = np.abs([r["end_error"] for r in known]) if known else np.array([np.nan])
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


def _apart(rows: Sequence[Row], goals: Goals) -> Table:
    good = aligned(rows)
    error = np.abs([r["error"] for r in good]) if good else np.array([np.nan])
    std = np.array([r["std"] for r in good]) if good else np.array([np.nan])
    held = int((error <= 1.96 * std).sum())
    goals.add("devices up to 10 m apart: 95 % intervals hold the truth", f"{held} of {len(good)}",
              bool(good) and held >= 0.93 * len(good))  # fmt: skip
    return Table(
        f"Devices up to {_SPACING:g} m apart, spacing={_SPACING:g}",
        ("pairs", "aligned", "median |error| [ms]", "max", "median stated std [ms]", "95 % intervals hold", "wrong"),
        [(len(rows), percent(len(good), len(rows)), milliseconds(float(np.median(error))),
          milliseconds(float(error.max())), milliseconds(float(np.median(std))), percent(held, len(good)),
          sum(map(is_wrong, good)))],
        "Truth is the clock; what separates it from what is heard is the difference of the two paths.",
    )  # fmt: skip
