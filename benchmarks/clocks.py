"""Clocks of real devices, with the frames that they dropped, replayed on simulated sound (CHiME-6 corrections).

Each case is half an hour of one device of one session that holds edits. What the device records is the sound read
with its clock; the reference hears the same sound with an even one. Breaks are found or missed, false or not.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Sequence
from functools import lru_cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avfuse import Stream
from avfuse.clock import PiecewiseClock, Segment
from avfuse.reporting.tables import Table, milliseconds
from avfuse.simulation import Room
from avfuse.simulation.pairs import random_places
from avfuse.simulation.sampling import convolve, rms, sample_on_clock
from avfuse.simulation.sounds import make_sound
from avfuse.temporal import estimate_clock
from benchmarks.options import SHARED, Options
from benchmarks.rows import Row, gather
from benchmarks.tables import Goals, show

RATE = 16000.0
LENGTH = 1800.0  # seconds of every case
_AHEAD = 160.0  # seconds that the event lasts longer: what is dropped has to be somewhere
LARGE = 0.020  # seconds of a break that has to be found
NEAR = 0.5  # seconds to which its place has to be known
# Sounds, and decibels over the noise of each device.
SOUNDS: tuple[tuple[str, float], ...] = (("speech", 20.0), ("near room", 10.0), ("music", 10.0), ("conversation", 10.0))
_NO_CLOCK = 2e-3  # a ratio of rates farther from 1 is an artefact of the correction: 103 samples at -3.8 % of the rate

Sound = NDArray[np.float32]
Case = tuple[str, str, float]  # session, device, seconds of device time at which the case starts


def read_corrections(path: Path = SHARED / "clocks" / "chime6_audio_edits.json") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found


def cases_of(corrections: dict[str, Any], seed: int) -> list[Case]:
    """One half hour of every device that dropped frames within it, in random order."""
    rng = random.Random(seed)
    found = []
    for session in sorted(corrections):
        for device, clock in sorted(corrections[session].items()):
            edits = clock.get("edits")
            if not edits:
                continue
            places = np.array([(first - 1) / RATE for first, _, _ in edits[1:]])
            starts = np.arange(0.0, edits[-1][1] / RATE - LENGTH, LENGTH)
            holding = [float(s) for s in starts if np.any((places > s + 2) & (places < s + LENGTH - 2))]
            if holding:
                found.append((session, device, rng.choice(holding)))
    rng.shuffle(found)
    return found


def replayed_clock(clock: dict[str, Any], start: float, offset: float) -> PiecewiseClock:
    """Device time from `start` on -> event time, which is `offset` at the device's first sample.

    clock: of one device, as the corrections give it: `edits` are [first, last, first corrected] samples, `speed` the
    ratio of event to corrected time, several with the corrected samples (`padding`) at which they change.
    """
    speeds = clock["speed"] if isinstance(clock["speed"], list) else [clock["speed"]]
    speeds = [s if abs(s - 1) < _NO_CLOCK else 1.0 for s in speeds]
    changes = [0.0, *(p / RATE for p in (clock["padding"][1:] if isinstance(clock["padding"], list) else []))]
    event = np.concatenate([[0.0], np.cumsum(np.diff(changes) * np.array(speeds[:-1]))])

    def at(corrected: float) -> tuple[float, float]:
        """Event time and ratio from a corrected time on."""
        k = max(int(np.searchsorted(changes, corrected + 1e-9, side="right")) - 1, 0)
        return float(event[k]) + (corrected - changes[k]) * speeds[k], speeds[k]

    segments: list[Segment] = []
    for k, (first, last, corrected) in enumerate(clock["edits"]):
        begin = (first - 1) / RATE
        end = last / RATE if k < len(clock["edits"]) - 1 else np.inf
        low, high = max(begin, start), min(end, start + LENGTH)
        if high - low <= 1 / RATE:
            continue
        since = (corrected - 1) / RATE - begin  # corrected less device time
        inner = [low, *(c - since for c in changes if low < c - since < high), high]
        for here, there in pairwise(inner):
            reached, speed = at(here + since)
            own = max(here - start, segments[-1].end if segments else 0.0)
            segments.append(Segment(own, there - start, reached - speed * (here - start), speed - 1))
    shift = offset - float(segments[0].map(segments[0].start))
    return PiecewiseClock(tuple(Segment(s.start, s.end, s.offset + shift, s.drift) for s in segments))


@lru_cache(maxsize=4)
def event(kind: str, seed: int) -> tuple[Sound, Sound]:
    """What reaches the reference and the device, on event time."""
    rng = np.random.default_rng([seed, len(kind)])
    length = LENGTH + _AHEAD
    if kind in ("speech", "music"):
        sound = make_sound(kind, length, RATE, rng)
        sound = (0.05 / rms(sound) * sound).astype(np.float32)
        return sound, sound
    if kind == "near room":
        (source, *places), room = random_places((0.5, 1.5), rng)
        return _heard([(make_sound("speech", length, RATE, rng), source)], room, places)
    # Three talkers in turn around two devices 19 cm apart.
    room = Room.random(rng)
    middle = np.array(room.size) / 2
    edges = np.cumsum(rng.uniform(5.0, 15.0, 400))
    who = rng.integers(0, 3, 400)[np.searchsorted(edges, np.arange(round(length * RATE)) / RATE)]
    talkers = []
    for k, angle in enumerate((0.0, 2.1, 4.2)):
        voice = make_sound("speech", length, RATE, rng) * np.where(who == k, 1.0, 0.05).astype(np.float32)
        talkers.append((voice, tuple(middle + 0.8 * np.array([np.cos(angle), np.sin(angle), 0.0]))))
    return _heard(talkers, room, [tuple(middle), tuple(middle + np.array([0.15, 0.1, 0.05]))])


def _heard(sources: Sequence[tuple[Sound, Any]], room: Room, places: Sequence[Any]) -> tuple[Sound, Sound]:
    both = []
    for place in places:
        total = np.zeros(len(sources[0][0]), np.float32)
        for sound, source in sources:
            response = room.response(source, place, RATE)
            total += convolve(np.asarray(sound, np.float32), response.samples, response.lead)
        both.append(total)
    level = 0.05 / rms(both[0])
    return np.float32(level) * both[0], np.float32(level) * both[1]


def measure(corrections: dict[str, Any], cases: Sequence[Case], seed: int, index: int) -> Row:
    """One case through `estimate_clock`, judged."""
    session, device, start = cases[index]
    kind, snr = SOUNDS[index % len(SOUNDS)]
    rng = np.random.default_rng([seed, index])
    truth = replayed_clock(corrections[session][device], start, float(rng.uniform(1.0, 20.0)))
    here, there = event(kind, seed)
    level = np.float32(0.05 * 10 ** (-snr / 20))
    moving = sample_on_clock(there, RATE, truth, RATE, round(LENGTH * RATE))
    streams = [
        Stream.from_samples(sound + level * rng.standard_normal(len(sound), dtype=np.float32), rate=RATE)
        for sound in (here, moving)
    ]
    began = time.perf_counter()
    found = estimate_clock(*streams)
    row: Row = {
        "case": f"{session} {device} {start:.0f}", "kind": kind, "status": found.status,
        "seconds": time.perf_counter() - began,
    }  # fmt: skip
    true = _jumps(truth)
    large = [(at, size) for at, size in true if abs(size) >= LARGE]
    right = [
        any(abs(at - b.at) < NEAR and abs(b.missing - size) < 0.3 * abs(size) for b in found.breaks)
        for at, size in large
    ]
    false = [b.at for b in found.breaks if not any(abs(at - b.at) < 2 * NEAR for at, _ in true)]
    row |= {"large": len(large), "found": sum(right), "false": len(false), "breaks": len(found.breaks)}
    row["missed"] = [[at, size] for (at, size), hit in zip(large, right, strict=True) if not hit]
    if found.clock is None:
        return row
    times = np.arange(5.0, LENGTH - 5.0)
    places = np.array([at for at, _ in true])
    away = np.all(np.abs(times[:, None] - places) > 2.0, axis=1)
    errors = np.abs(found.clock(times) - truth(times))[away]
    row["errors"] = [float(np.nanmedian(errors)), float(np.nanquantile(errors, 0.95))]
    row["held"] = float(np.nanmean(errors <= 1.96 * found.std_at(times)[away]))
    drifts = [(s.drift - _drift_at(truth, (s.start + s.end) / 2), s.end - s.start) for s in found.segments]
    row["drift"] = float(np.average([abs(d) for d, _ in drifts], weights=[w for _, w in drifts]))
    return row


def _jumps(clock: PiecewiseClock) -> list[tuple[float, float]]:
    """Device times and sizes of the jumps; where only the rate changes there is none."""
    found = [
        (after.start, float(after.map(after.start)) - float(before.map(before.end)))
        for before, after in zip(clock.segments, clock.segments[1:], strict=False)
    ]
    return [(at, size) for at, size in found if abs(size) > 1e-5]


def _drift_at(clock: PiecewiseClock, at: float) -> float:
    return next((s.drift for s in clock.segments if s.end >= at), clock.segments[-1].drift)


def benchmark(options: Options) -> bool:
    """Every device that dropped frames, or some."""
    corrections = read_corrections()
    cases = cases_of(corrections, options.seed)
    count = min(len(cases), options.pick(4, 80))
    rows = gather(options, "clocks", partial(measure, corrections, cases, options.seed), count)
    tables, goals = report(rows)
    show([*tables, goals.table()], options.page, "clocks")
    return goals.met


def report(rows: Sequence[Row]) -> tuple[list[Table], Goals]:
    """By sound, and all."""
    lines = []
    for kind in [kind for kind, _ in SOUNDS if any(r["kind"] == kind for r in rows)]:
        lines.append(_line(kind, [r for r in rows if r["kind"] == kind]))
    lines.append(_line("all", rows))
    table = Table(
        "Half hours of real clocks, replayed",
        ("sound", "half hours", "aligned", "breaks >= 20 ms", "found", "false an hour", "median", "p95", "drift",
         "within 1.96 std"),
        lines,
        "Found: within 0.5 s of its place. Errors: 2 s and more away from breaks, medians over the half hours; drift: "
        "mean distance from the true one. In the conversation what is heard differs by up to 0.4 ms from the clock.",
    )  # fmt: skip
    aligned = [r for r in rows if "errors" in r]
    large, found = sum(r["large"] for r in rows), sum(r["found"] for r in rows)
    hours = len(rows) * LENGTH / 3600
    goals = Goals()
    goals.add("breaks of 20 ms and more found: at least 95 %", f"{found} of {large}", found >= 0.95 * large)
    false = sum(r["false"] for r in rows)
    goals.add("false breaks: at most 1 an hour", f"{false / hours:.2f}", false <= hours)
    drift = float(np.median([r["drift"] for r in aligned]))
    within = float(np.mean([r["drift"] < 1e-6 for r in aligned]))
    goals.add("drift within 1 ppm", f"median {1e6 * drift:.3f} ppm, {within:.1%} within", drift < 1e-6)
    error = float(np.median([r["errors"][0] for r in aligned]))
    goals.add("median error away from breaks: at most 0.5 ms", f"{milliseconds(error)} ms", error <= 0.5e-3)
    return [table], goals


def _line(name: str, rows: Sequence[Row]) -> list[object]:
    aligned = [r for r in rows if "errors" in r]
    large, found = sum(r["large"] for r in rows), sum(r["found"] for r in rows)
    median, late, drift = (
        float(np.median(values)) if values else np.nan
        for values in (
            [r["errors"][0] for r in aligned],
            [r["errors"][1] for r in aligned],
            [1e6 * r["drift"] for r in aligned],
        )
    )
    held = float(np.mean([r["held"] for r in aligned])) if aligned else np.nan
    false = sum(r["false"] for r in rows) / (len(rows) * LENGTH / 3600)
    return [
        name, len(rows), len(aligned), large, f"{found / max(large, 1):.1%}", f"{false:.2f}",
        milliseconds(median), milliseconds(late), f"{drift:.3f} ppm", f"{held:.1%}",
    ]  # fmt: skip
