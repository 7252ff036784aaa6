"""Rendered films whose rows were read one after the other, against a gyroscope on the camera."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from avfuse.alignment import ClockEstimate
from avfuse.features.flow import image_motion
from avfuse.reporting.tables import Table, milliseconds, percent
from avfuse.simulation.shutters import TurningCamera, simulate_turning_camera
from avfuse.stream import Stream
from avfuse.temporal import estimate_motion
from avfuse.temporal.motion import compare_motions
from benchmarks.options import Options
from benchmarks.tables import Goals

F64 = NDArray[np.float64]

_DURATION = 12.0
_CONDITIONS = (  # seconds, frames per second, Hz of the gyroscope
    (0.0, 30.0, 200.0), (0.008, 60.0, 400.0), (0.016, 30.0, 200.0), (0.016, 60.0, 400.0), (0.025, 30.0, 400.0),
    (0.025, 25.0, 200.0), (-0.016, 30.0, 200.0),
)  # fmt: skip


def shutter_table(options: Options, goals: Goals) -> Table:
    """Errors and intervals of read-out times and of the clocks that come with them; every other sky is empty."""
    rows = []
    all_readouts, all_clocks, all_blind = [], [], []
    for condition in _CONDITIONS:
        count = options.pick(2, 16)
        readouts, clocks, blind = _measured(condition, count, options.seed)
        rows.append(
            (f"{1e3 * condition[0]:g}", *(f"{v:g}" for v in condition[1:]), f"{len(clocks)} of {count}", len(readouts),
             _errors(readouts), _held(readouts), _errors(clocks), _held(clocks), _errors(blind))
        )  # fmt: skip
        for total, part in ((all_readouts, readouts), (all_clocks, clocks), (all_blind, blind)):
            total.extend(part)
    p95 = float(np.percentile(np.abs(_array(all_readouts)[:, 0]), 95)) if all_readouts else np.inf
    goals.add("read-out time: p95 <= 1 ms", f"{milliseconds(p95)} ms", p95 <= 1e-3)
    for name, found in (("read-out time", all_readouts), ("clock of the middle row", all_clocks)):
        inside = float(_within(found).mean()) if found else 0.0
        goals.add(f"{name}: 95 % intervals hold 90-99 %", f"{_held(found)} of {len(found)}", 0.9 <= inside <= 0.99)
    goals.add("gyroscope and film: aligned and wrong", f"{_wrong(all_clocks)} (by one rotation for all rows "
              f"{_wrong(all_blind)}) of {len(all_clocks)}", _wrong(all_clocks) == 0)  # fmt: skip
    return Table(
        "A camera's rows against a gyroscope on it: rendered films of 12 s",
        ("read-out [ms]", "frames per s", "gyroscope [Hz]", "aligned", "told", "read-out off by, median / p95 [ms]",
         "its intervals hold", "clock off by, median / p95 [ms]", "its intervals hold",
         "by one rotation for all rows, median / p95 [ms]"),
        rows,
        "Clocks are those of the middle row, in the middle. Axes, focal length, offset, drift and bias are drawn; the "
        "gyroscope has noise of -20 dB. Half of the films show nothing in their upper half.",
    )  # fmt: skip


def _measured(condition: tuple[float, float, float], count: int, seed: int) -> tuple[list[F64], list[F64], list[F64]]:
    """(error, standard deviation) of the read-outs told, of the clocks, and of clocks by one rotation for all rows."""
    readout, rate, gyro_rate = condition
    readouts, clocks, blind = [], [], []
    for k in range(count):
        rng = np.random.default_rng([seed, round(1e3 * abs(readout)), int(rate), int(readout < 0), k])
        case = simulate_turning_camera(_DURATION, rng, readout=readout, rate=rate, gyro_rate=gyro_rate)
        seen = image_motion(_without_sky(case.picture) if k % 2 else case.picture)
        found, plain = compare_motions(seen, case.gyro, None), estimate_motion(seen.rate, case.gyro)
        assert found is not None
        if found.clock.clock is None:
            continue
        clocks.append(_off(found.clock, case))
        blind.append(_off(plain.clock, case))
        if found.readout is not None and found.readout_std is not None:
            readouts.append(np.array([found.readout - readout, found.readout_std]))
    return readouts, clocks, blind


def _without_sky(picture: Stream) -> Stream:
    frames = np.array(picture.values)
    frames[:, : frames.shape[1] // 2] = 200
    return replace(picture, values=frames)


def _off(clock: ClockEstimate, case: TurningCamera) -> F64:
    middle = float(clock.diagnostics["middle"])
    return np.array([float(clock.map(middle) - case.truth(middle)), float(clock.std_at(middle))])


def _array(found: Sequence[F64]) -> F64:
    return np.array(found).reshape(-1, 2)


def _within(found: Sequence[F64]) -> NDArray[np.bool_]:
    error, std = _array(found).T
    return np.asarray(np.abs(error) < 1.96 * std)


def _held(found: Sequence[F64]) -> str:
    return percent(int(_within(found).sum()), len(found)) if found else "-"


def _errors(found: Sequence[F64]) -> str:
    if not found:
        return "-"
    return " / ".join(milliseconds(float(v)) for v in np.percentile(np.abs(_array(found)[:, 0]), [50, 95]))


def _wrong(found: Sequence[F64]) -> int:
    error, std = _array(found).T
    return int((np.abs(error) > np.maximum(5 * std, 1e-3)).sum())
