"""Hours of media an hour, with one worker and two, beside plain PyAV on the same films; and the memory it takes."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avfuse.evaluation.processes import high_water
from avfuse.reporting.tables import Table
from benchmarks.measuring import run_here
from benchmarks.options import SHARED, Options
from benchmarks.peers import RUNNERS
from benchmarks.prepare.manifests import write_manifest
from benchmarks.tables import Goals

LENGTH = 2.0  # seconds of a window
SIZE = "640:360"
KINDS = {
    "decoding alone": ("decode", 1),
    "plain PyAV, decoded and encoded again": ("encode", 1),
    "plain PyAV, two processes": ("encode", 2),
    "avfuse prepare, 1 worker": ("prepare", 1),
    "avfuse prepare, 2 workers": ("prepare", 2),
    "avfuse prepare --no-check, 1 worker": ("prepare --no-check", 1),
}


@dataclass(frozen=True)
class Took:
    """seconds: wall time, start-up included. parent, worker: MB resident at most, of the program and of the largest of
    what it started; together: sum of these peaks."""

    seconds: float
    parent: float
    worker: float
    together: float


def make_films(folder: Path, count: int, seconds: int) -> list[Path]:
    """Films of 640 x 360, 30 frames/s, 8 s between key frames, AAC: of a real camera where that is there."""
    folder.mkdir(parents=True, exist_ok=True)
    source = SHARED / "motion" / "karma.mp4"
    given = (
        ["-stream_loop", "-1", "-i", str(source), "-map", "0:v:0", "-map", "0:a:0"]
        if source.exists()
        else ["-f", "lavfi", "-i", "testsrc2=r=30:s=854x480", "-f", "lavfi", "-i", "anoisesrc=a=0.1:r=48000"]
    )
    made = []
    for k in range(count):
        path = folder / f"film-{k}-{seconds}.mp4"
        if not path.exists():
            part = path.with_suffix(".part.mp4")
            subprocess.run(
                ["ffmpeg", "-v", "error", "-y", *given, "-ss", str(0.7 * k), "-t", str(seconds), "-vf", f"scale={SIZE}",
                 "-r", "30", "-c:v", "libx264", "-preset", "veryfast", "-crf", "20", "-g", "240", "-c:a", "aac",
                 "-b:a", "128k", str(part)], check=True, stdin=subprocess.DEVNULL,
            )  # fmt: skip
            part.rename(path)
        made.append(path)
    return made


def tables(options: Options, goals: Goals) -> list[Table]:
    # Enough that it is not the start of the program that is measured: some seconds, once.
    count, seconds = (2, 8) if options.quick else (16, 30)
    room = options.out / "prepare" / "speed"
    films = make_films(room, count, seconds)
    manifest = write_manifest(room / "films.jsonl", {film.stem: {"camera": film} for film in films})
    media = count * seconds
    took: dict[str, list[Took]] = {kind: [] for kind in KINDS}
    # Compiles and caches what is compiled.
    _measure("prepare", 1, films[:1], write_manifest(room / "one.jsonl", {"one": {"camera": films[0]}}), room)
    for repeat in range(options.pick(1, 3)):
        # In turns, whatever else the machine does slows all alike; every second time backwards.
        for kind in list(KINDS)[:: -1 if repeat % 2 else 1]:
            took[kind].append(_measure(*KINDS[kind], films, manifest, room))
            print(f"speed: {kind}: {took[kind][-1].seconds:.1f} s", flush=True)
    rows = [_row(kind, took, media) for kind in KINDS]
    scaling = _ratio(took, "avfuse prepare, 1 worker", "avfuse prepare, 2 workers")
    ceiling = _ratio(took, "plain PyAV, decoded and encoded again", "plain PyAV, two processes")
    share = _ratio(took, "plain PyAV, decoded and encoded again", "avfuse prepare, 1 worker")
    both = _ratio(took, "plain PyAV, two processes", "avfuse prepare, 2 workers")
    goals.add("2 workers >= 1.8 x one", f"{scaling:.2f} x (plain PyAV gains {ceiling:.2f} x here)", scaling >= 1.8)
    goals.add("one worker >= 0.7 x plain PyAV in one process", f"{share:.2f} x", share >= 0.7)
    goals.add("two workers >= 0.7 x plain PyAV in two processes", f"{both:.2f} x", both >= 0.7)
    worst = max(t.worker for kind in KINDS if kind.startswith("avfuse") for t in took[kind])
    parent = max(t.parent for kind in KINDS if kind.startswith("avfuse") for t in took[kind])
    goals.add("memory of a worker at most 1 GB, of the parent 500 MB", f"{worst:.0f} MB, {parent:.0f} MB",
              worst <= 1000 and parent <= 500)  # fmt: skip
    return [
        Table(
            f"{count} films of {seconds} s ({SIZE.replace(':', ' x ')}, 30 frames/s, H.264 and AAC) to windows of "
            f"{LENGTH:g} s",
            ("what", "seconds (median)", "hours an hour", "time against plain PyAV", "parent (MB)",
             "largest child (MB)", "all (MB)", "every run (s)"), rows,
            "Whole programs, start-up included, in turns. The same encoder settings throughout (x264 veryfast, CRF 20, "
            "no B-frames, one thread; FLAC of 16 bits). `prepare` also checks sound against picture and cuts every "
            "window as files of its own, with checksums. Memory: the kernel's high-water marks.",
        )
    ]  # fmt: skip


def _row(kind: str, took: Mapping[str, Sequence[Took]], media: float) -> tuple[object, ...]:
    runs = took[kind]
    middle = statistics.median(t.seconds for t in runs)
    against = _ratio(took, kind, "plain PyAV, decoded and encoded again")
    return (
        kind, f"{middle:.1f}", f"{media / middle:.1f}", f"{against:.2f}", f"{max(t.parent for t in runs):.0f}",
        f"{max(t.worker for t in runs):.0f}", f"{max(t.together for t in runs):.0f}",
        " ".join(f"{t.seconds:.1f}" for t in runs),
    )  # fmt: skip


def _ratio(took: Mapping[str, Sequence[Took]], above: str, below: str) -> float:
    """Median over repeats of the ratio of times."""
    return statistics.median(a.seconds / b.seconds for a, b in zip(took[above], took[below], strict=True))


def _measure(mode: str, processes: int, films: Sequence[Path], manifest: Path, room: Path) -> Took:
    out = room / "out"
    shutil.rmtree(out, ignore_errors=True)
    if mode.startswith("prepare"):
        command = [sys.executable, "-m", "avfuse", "prepare", str(manifest), "-o", str(out), "--duration", str(LENGTH),
                   "--workers", str(processes), *mode.split()[1:]]  # fmt: skip
    else:
        out.mkdir()
        command = [sys.executable, str(RUNNERS / "reencode.py"), mode, str(processes), str(out), *map(str, films)]
    marks = HighWaters()
    ran = run_here(command, started=marks.watch)
    if ran.code:
        raise SystemExit(f"{' '.join(command[:5])} ...: exit {ran.code}: {ran.stderr.strip()[-500:]}")
    return Took(ran.seconds, marks.parent, marks.largest_child, marks.together)


class HighWaters:
    """The kernel's high-water marks (MB) of a process and of each that it starts, looked at again and again."""

    def __init__(self) -> None:
        self.marks: dict[int, float] = {}
        self._pid = 0

    def watch(self, process: subprocess.Popen[Any]) -> None:
        self._pid = process.pid
        threading.Thread(target=self._look, args=(process,), daemon=True).start()

    def _look(self, process: subprocess.Popen[Any]) -> None:
        import time

        import psutil

        while process.poll() is None:
            with suppress(psutil.Error):
                own = psutil.Process(self._pid)
                for one in (own, *own.children(recursive=True)):
                    self.marks[one.pid] = max(self.marks.get(one.pid, 0.0), high_water(one.pid))
            time.sleep(0.1)

    @property
    def parent(self) -> float:
        return self.marks.get(self._pid, 0.0)

    @property
    def largest_child(self) -> float:
        return max((mark for pid, mark in self.marks.items() if pid != self._pid), default=0.0)

    @property
    def together(self) -> float:
        return sum(self.marks.values())
