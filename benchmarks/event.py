"""Whole events through `avfuse align`: twelve devices for half an hour, side by side and in a room; twenty hours."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from avfuse.alignment import Alignment, load_alignment
from avfuse.clock import ClockMap, PiecewiseClock
from avfuse.evaluation.processes import Ran
from avfuse.reporting.tables import Table, milliseconds
from avfuse.simulation import Device, Room, SimulatedEvent, SoundSource, simulate
from avfuse.simulation.devices import dropping_clock
from benchmarks.long_files import LongEvent, LongFile, make
from benchmarks.measuring import run_here
from benchmarks.options import Options
from benchmarks.peers import RUNNERS
from benchmarks.tables import Goals, show

DEVICES = 12
ROOM = (8.0, 6.0, 3.0)
NEAR = 0.015  # metres around one point: sound paths differ by 3 cm at most
LOST = 2.5  # seconds that one device in the room loses
RATES = (16000.0, 22050.0, 32000.0, 44100.0, 48000.0)


def devices_of(
    minutes: float, places: Sequence[Sequence[float]], rng: np.random.Generator, loses: int | None
) -> list[Device]:
    """Devices of all rates, noises, levels and lengths, with drifts up to 60 ppm; `loses` loses a stretch midway."""
    length = 60.0 * minutes
    made = []
    for k, place in enumerate(places):
        begin, duration = float(rng.uniform(0, 0.3)) * length, float(rng.uniform(0.5, 0.65)) * length
        clock: ClockMap | PiecewiseClock = ClockMap(begin, float(rng.uniform(-60e-6, 60e-6)))
        if k == loses:
            assert isinstance(clock, ClockMap)
            clock = dropping_clock(clock, duration, [(0.5 * duration, LOST)])
        x, y, z = (float(p) for p in place)
        made.append(
            Device(
                f"device-{k:02}", clock, duration, float(rng.choice(RATES)), (x, y, z),
                gain=float(rng.uniform(0.2, 0.9)), polarity=int(rng.choice([-1, 1])),
                snr_db=float(rng.uniform(5, 30)), noise_slope_db=2.0, ceiling=1.0,
                band=(float(rng.uniform(40, 200)), None),
            )
        )  # fmt: skip
    return made


def side_by_side(minutes: float, rng: np.random.Generator) -> SimulatedEvent:
    places = rng.uniform(-NEAR / np.sqrt(3), NEAR / np.sqrt(3), (DEVICES, 3))
    sources = [SoundSource("speech", (2.0, 0.5, 0.2)), SoundSource("ambience", (-3.0, 2.0, 0.0), gain=0.2)]
    return simulate(
        duration=60.0 * minutes, devices=devices_of(minutes, places, rng, None), sources=sources, rate=48000.0, rng=rng
    )


def in_a_room(minutes: float, rng: np.random.Generator) -> SimulatedEvent:
    """Four talkers and murmur in a room of 6 x 8 m; one device loses a stretch."""

    def place(height: tuple[float, float]) -> tuple[float, float, float]:
        return (float(rng.uniform(0.5, 7.5)), float(rng.uniform(0.5, 5.5)), float(rng.uniform(*height)))

    sources = [SoundSource("speech", place((1.2, 1.8))) for _ in range(4)]
    sources.append(SoundSource("ambience", place((2.0, 2.8)), gain=0.1))
    places = [place((0.7, 1.8)) for _ in range(DEVICES)]
    room = Room.with_rt60(ROOM, 0.4, scatter=0.08)
    return simulate(
        duration=60.0 * minutes, devices=devices_of(minutes, places, rng, DEVICES - 1), sources=sources, room=room,
        rate=32000.0, rng=rng,
    )  # fmt: skip


def align_files(files: Sequence[Path], out: Path, *more: str) -> tuple[Ran, Alignment | None]:
    ran = run_here([sys.executable, "-m", "avfuse", "align", *map(str, files), "-o", str(out), *more])
    return ran, load_alignment(out) if out.exists() else None


def judged(event: SimulatedEvent, found: Alignment) -> tuple[int, float, int, int]:
    """How many are aligned; the worst error at either end; how many ends lie in their intervals, and of how many."""
    aligned, worst, inside, ends = 0, 0.0, 0, 0
    for name, estimate in found.clocks.items():
        if estimate.status == "reference":
            continue
        aligned += estimate.status == "aligned"
        if estimate.clock is None:
            continue
        truth, duration = event.truth_between(found.reference, name), event.devices[name].duration
        for at in (0.0, duration - 1e-3):
            error = abs(float(estimate.map(at)) - float(truth(at)))
            worst, ends = max(worst, error), ends + 1
            inside += error <= 1.96 * float(estimate.std_at(np.array([at]))[0])
    return aligned, worst, inside, ends


def run_events(options: Options, goals: Goals) -> Table:
    minutes = 4.0 if options.quick else 30.0
    rows = []
    for k, (name, event_of, more) in enumerate(
        (("side by side (3 cm), in the open", side_by_side, ("--spacing", "0.03")),
         ("in a room of 6 x 8 m, four talkers", in_a_room, ("--spacing", "10")))
    ):  # fmt: skip
        folder = options.out / f"event-{k}"
        shutil.rmtree(folder, ignore_errors=True)
        event = event_of(minutes, np.random.default_rng([options.seed, k]))
        files = event.write(folder, suffixes=dict.fromkeys(list(event.devices)[::3], ".mp4"))
        ran, found = align_files(list(files.values()), folder / "alignment.json", *more)
        if found is None:
            raise SystemExit(f"avfuse align: exit {ran.code}: {ran.stderr.strip()[-300:]}")
        aligned, worst, inside, ends = judged(event, found)
        rows.append((" ".join([name, *more]), f"{aligned} of {DEVICES - 1}", milliseconds(worst),
                     f"{inside} of {ends}", f"{ran.seconds:.0f}", f"{ran.peak_mb:.0f}"))  # fmt: skip
        if k == 0:
            goals.add("twelve devices within 3 cm: every clock within 1 ms at both ends", f"{milliseconds(worst)} ms",
                      aligned == DEVICES - 1 and worst <= 1e-3)  # fmt: skip
            continue
        goals.add("twelve devices in a room: every clock within its 95 % interval at both ends", f"{inside} of {ends}",
                  aligned == DEVICES - 1 and inside == ends)  # fmt: skip
        goals.add(f"the {LOST} s that one device lost are found", *_lost(event, found))
    return Table(
        f"Twelve devices for up to {minutes:g} min, own rates, noise, levels, drifts to 60 ppm; every third as AAC",
        ("event", "aligned", "worst error at an end [ms]", "ends in their 95 % interval", "seconds", "peak MB"),
        rows,
    )


def _lost(event: SimulatedEvent, found: Alignment) -> tuple[str, bool]:
    """The jump that was found in the device that lost something, and whether it is that one and no other."""
    broken = {n: e.clock for n, e in found.clocks.items() if isinstance(e.clock, PiecewiseClock)}
    name = list(event.devices)[-1]
    clock = broken.get(name)
    if clock is None or len(clock.segments) != 2:
        return f"breaks in {', '.join(broken) or 'none'}", False
    one, two = clock.segments
    jump = (two.offset - one.offset) + (two.drift - one.drift) * two.start
    right = abs(jump - LOST) < 0.02 and len(broken) == 1
    return f"{jump:.4f} s in {', '.join(broken)}", right


def run_hours(options: Options, goals: Goals) -> Table:
    count, minutes = (4, 3.0) if options.quick else (20, 60.0)
    rng = np.random.default_rng([options.seed, 99])
    event = LongEvent(options.seed, keep=10_000)
    described = [
        LongFile(f"hours-{minutes:g}min-{k:02}.m4a", float(rng.uniform(0, 30 * minutes)), 60 * minutes,
                 float(rng.uniform(-50e-6, 50e-6)), channels=1)
        for k in range(count)
    ]  # fmt: skip
    files = [make(file, options.out / "long", options.seed, event) for file in described]
    del event
    # One process for each file, as many at once as avfuse reads at once would be kinder to neither.
    decoding = [run_here([sys.executable, str(RUNNERS / "decode_alone.py"), str(file)]) for file in files]
    out = options.out / "hours.json"
    out.unlink(missing_ok=True)
    ran, found = align_files(files, out)
    if found is None:
        raise SystemExit(f"avfuse align: exit {ran.code}: {ran.stderr.strip()[-300:]}")
    by_name = {Path(f.name).stem: d for f, d in zip(files, described, strict=True)}
    worst, aligned = 0.0, 0
    for name, estimate in found.clocks.items():
        if estimate.status != "aligned":
            continue
        aligned += 1
        truth = by_name[found.reference].clock.inverse() @ by_name[name].clock
        for at in (0.0, by_name[name].duration):
            worst = max(worst, abs(float(estimate.map(at)) - float(truth(at))))
    alone = sum(r.seconds for r in decoding)
    limit = 1.5 * alone + 30
    goals.add(f"{count} files of {minutes:g} min within 1.5 x decoding them all plus 30 s",
              f"{ran.seconds:.0f} s; decoding {alone:.0f} s",
              ran.seconds <= limit and aligned == count - 1)  # fmt: skip
    return Table(
        f"{count} files of {minutes:g} min (AAC)",
        ("what", "seconds", "peak MB", "aligned", "worst error at an end [ms]"),
        [
            ("decode and resample alone (PyAV), one after the other", f"{alone:.0f}",
             f"{max(r.peak_mb for r in decoding):.0f}", "", ""),
            ("avfuse align", f"{ran.seconds:.0f}", f"{ran.peak_mb:.0f}", f"{aligned} of {count - 1}",
             milliseconds(worst)),
        ],
        f"{ran.peak_mb / count:.0f} MB for a file of {minutes:g} min, program included.",
    )  # fmt: skip


def benchmark(options: Options) -> bool:
    goals = Goals()
    tables = [run_events(options, goals), run_hours(options, goals), goals.table()]
    show(tables, options.page, "event", f"Measured on {os.cpu_count()} cores, seed {options.seed}.")
    return goals.met
