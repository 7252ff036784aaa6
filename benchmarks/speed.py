"""Hour-long files and short ones: wall time and memory of `avfuse align`, against decoding alone and peers."""

from __future__ import annotations

import json
import os
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from avfuse.evaluation.processes import Ran
from avfuse.reporting.tables import Table, milliseconds
from benchmarks.cases import truth_of
from benchmarks.long_files import LongFile, hour_files, make
from benchmarks.measuring import measure, run_here
from benchmarks.options import Options
from benchmarks.peers import METHODS, RUNNERS, specification
from benchmarks.tables import Goals, show

RIGHT = 0.020  # seconds in the middle of the overlap within which a peer is called right


def run_align(files: Sequence[Path]) -> Ran:
    """`avfuse align` as a person types it, with its JSON."""
    return run_here([sys.executable, "-m", "avfuse", "align", *map(str, files), "--reference", str(files[0]), "--json"])


def _median(runs: Sequence[Ran]) -> Ran:
    return sorted(runs, key=lambda r: r.seconds)[len(runs) // 2]


def _errors(ran: Ran, reference: LongFile, moving: LongFile) -> tuple[str, float, float]:
    """Status, error in the middle of the overlap and at the end of the file (seconds)."""
    try:
        clocks = json.loads(ran.stdout)["clocks"].values()
    except json.JSONDecodeError:
        return f"exit {ran.code}: {ran.stderr.strip()[-80:]}", float("nan"), float("nan")
    (clock,) = [c for c in clocks if c["status"] != "reference"]
    if clock["status"] != "aligned":
        return clock["status"], float("nan"), float("nan")
    line = clock["segments"][0]
    truth = reference.clock.inverse() @ moving.clock

    def error(t: float) -> float:
        return float(abs(line["offset"] + t + line["drift"] * t - truth(t)))

    return "aligned", error(_middle(reference, moving)), error(moving.duration)


def _middle(reference: LongFile, moving: LongFile) -> float:
    truth = reference.clock.inverse() @ moving.clock
    return min(moving.duration, float(truth.inverse()(reference.duration))) / 2


def run_hours(options: Options, goals: Goals) -> list[Table]:
    minutes = 6.0 if options.quick else 60.0
    repeats = options.pick(1, 3)
    described = hour_files(minutes)
    made = [make(file, options.out / "long", options.seed) for file in described]
    camera, recorder, twice = made
    run_align([camera, recorder])  # compiles and caches what is compiled
    decoding, aligning, longer = [], [], []
    # Taken in turns: whatever else the machine does slows both alike.
    for _ in range(repeats):
        decoding.append(run_here([sys.executable, str(RUNNERS / "decode_alone.py"), str(camera), str(recorder)]))
        aligning.append(run_align([camera, recorder]))
        longer.append(run_align([camera, twice]))
    rows = []
    for name, runs, moving in (
        ("decode and resample alone (PyAV)", decoding, None),
        ("avfuse align", aligning, described[1]),
        (f"avfuse align, recorder of {2 * minutes:g} min", longer, described[2]),
    ):
        typical = _median(runs)
        status, middle, end = ("", float("nan"), float("nan"))
        if moving is not None:
            status, middle, end = _errors(typical, described[0], moving)
        elif typical.code:
            status = typical.stderr.strip()[-80:]
        seconds = [f"{r.seconds:.2f}" for r in runs]
        rows.append((name, f"{typical.seconds:.2f}", f"{max(r.peak_mb for r in runs):.0f}", status,
                     milliseconds(middle), milliseconds(end), " ".join(seconds)))  # fmt: skip
    table = Table(
        f"Two files of {minutes:g} min (AAC in MP4, WAV; 48 kHz stereo; {2 * minutes / 3:g} min shared; 20 ppm)",
        ("what", "seconds", "peak MB", "status", "error in the middle [ms]", "error at the end [ms]", "every run [s]"),
        rows,
        "Whole processes, start-up included; memory is all that is resident, children included.",
    )
    ratio = statistics.median(a.seconds / d.seconds for a, d in zip(aligning, decoding, strict=True))
    peak = max(r.peak_mb for r in aligning)
    # Per further hour of recording, from one file that grew.
    growth = (max(r.peak_mb for r in longer) - peak) / (minutes / 60)
    status, _, end = _errors(_median(aligning), *described[:2])
    goals.add("hour-long pair aligned", f"{status}, {milliseconds(end)} ms at the end of the file", status == "aligned")
    goals.add("at most 1.5 x decoding and resampling alone", f"{ratio:.2f} x", ratio <= 1.5)
    goals.add("peak memory at most 500 MB", f"{peak:.0f} MB", peak <= 500)
    goals.add("at most 60 MB for each further hour", f"{growth:.0f} MB", growth <= 60)
    return [table, _beside_peers(options, described[:2], (camera, recorder), _median(aligning), goals)]


def _beside_peers(
    options: Options, described: Sequence[LongFile], files: tuple[Path, Path], own: Ran, goals: Goals
) -> Table:
    """Every peer on the same pair. The SciPy lines read no MP4: they get it decoded to WAV beforehand."""
    import soundfile

    import avfuse

    decoded = files[0].with_suffix(".wav")
    if not decoded.exists():
        with soundfile.SoundFile(decoded, "w", 48000, 2, "PCM_16") as out:
            for _, values in avfuse.read(files[0])["sound"].blocks(10.0):
                out.write(values.T)
    clock = described[0].clock.inverse() @ described[1].clock
    rows, faster = [], []
    status, error, _ = _errors(own, described[0], described[1])
    rows.append(("avfuse", f"{own.seconds:.1f}", f"{own.peak_mb:.0f}", milliseconds(error), status))
    for method in METHODS[1:]:
        pair = (decoded, files[1]) if method.name.startswith("SciPy") else files
        case = {"name": method.name, "truth": truth_of(*pair, clock)}
        found = measure(options, f"speed-{method.name.replace(', ', '-')}", [case],
                        {method.name: specification(method)}, timed=True, time_limit=240.0)  # fmt: skip
        (result,), answer = found.pairs, found.asked[0].answers[method.name]
        seconds = answer.seconds + (answer.startup if np.isfinite(answer.startup) else 0.0)
        costs = (f"{seconds:.1f}", f"{answer.peak_mb:.0f}")
        if not result.stated:
            rows.append((method.name, *costs, "–", result.reason))
            continue
        right = abs(result.error) <= RIGHT
        if right:
            faster.append((method.name, seconds))
        rows.append((method.name, *costs, milliseconds(result.error), "right" if right else "wrong"))
    best = min(faster, key=lambda f: f[1], default=None)
    goals.add(
        "faster than every peer that gets the pair right (20 ms)",
        f"{own.seconds:.1f} s; " + (f"{best[0]} {best[1]:.1f} s" if best else "no peer was right"),
        best is None or own.seconds < best[1],
    )
    return Table(
        "The same pair through peers", ("method", "seconds", "peak MB", "error in the middle [ms]", ""), rows,
        f"One run each, start-up included, at most {options.memory:g} GB of memory and 4 minutes; "
        "SciPy correlation reads a WAV that was decoded before.",
    )  # fmt: skip


def run_short(options: Options, goals: Goals) -> Table:
    """Start-up and two files of 30 s."""
    folder = options.out / "long"
    files = [make(LongFile(f"short-{k}.wav", 3.0 * k, 30.0, 20e-6 * k), folder, options.seed) for k in range(2)]
    repeats = options.pick(3, 9)
    empty, imports, aligning = [], [], []
    run_align(files)
    for _ in range(repeats):
        empty.append(run_here([sys.executable, "-c", "pass"]))
        imports.append(run_here([sys.executable, "-c", "import avfuse"]))
        aligning.append(run_align(files))
    rows = [
        (name, f"{_median(runs).seconds:.2f}", f"{min(r.seconds for r in runs):.2f}",
         f"{max(r.seconds for r in runs):.2f}")
        for name, runs in (("python -c pass", empty), ("import avfuse", imports), ("avfuse align, 2 x 30 s", aligning))
    ]  # fmt: skip
    own = _median(aligning).seconds
    loading = statistics.median(i.seconds - e.seconds for i, e in zip(imports, empty, strict=True))
    goals.add("warm `avfuse align` of two 30 s files at most 2.5 s", f"{own:.2f} s", own <= 2.5)
    goals.add("`import avfuse` at most 0.4 s (beyond Python's own start)", f"{loading:.2f} s", loading <= 0.4)
    return Table("Short files", ("what", "median [s]", "least", "most"), rows)


def benchmark(options: Options) -> bool:
    goals = Goals()
    tables = [run_short(options, goals), *run_hours(options, goals), goals.table()]
    show(tables, options.page, "speed", f"Measured on {os.cpu_count()} cores, seed {options.seed}.")
    return goals.met
