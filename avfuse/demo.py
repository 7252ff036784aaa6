"""`avfuse demo`: an event with a known truth, from simulation to the report."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from avfuse.aligning import align
from avfuse.alignment import Alignment
from avfuse.clock import ClockMap, PiecewiseClock
from avfuse.files import replacing

SEED = 2026
_README = """Made by `avfuse demo`: a simulated event, filmed by two cameras and heard by a recorder.

recordings/     as the devices wrote them, each with a start and a clock of its own
truth.json      when each device really started, and how fast its clock really ran
alignment.json  what avfuse found: `avfuse align recordings/* -o alignment.json`
aligned/        the same files on one timeline: `avfuse render alignment.json -o aligned`
report.html     what it means, to look at and listen to: `avfuse report alignment.json -o report.html`
timeline.png    the picture of it: `avfuse align recordings/* --picture timeline.png`

Open two files of aligned/ side by side in any editor, both at its start: every flash comes with its beep.
"""


@dataclass(frozen=True, eq=False)
class Demo:
    """What the demo made. truth: clock of every recording -> clock of the reference."""

    folder: Path
    alignment: Alignment
    truth: dict[str, ClockMap]

    def print(self, file: IO[str]) -> None:
        from avfuse.reporting.text import print_alignment, print_truth

        print_alignment(self.alignment, file)
        file.write("\nBeside the truth, which only a simulation knows, in the middle of each recording:\n\n")
        print_truth(self.alignment, self.truth, file)
        file.write(
            "\nHere all microphones are 1.4 m from the event. Sound takes 2.9 ms per metre, so that devices at other\n"
            "distances hear it later: tell how far apart they may be with --spacing METRES, and ± includes that.\n\n"
            f"Open {self.folder / 'report.html'} in a browser, and play the files in {self.folder / 'aligned'} side by "
            "side.\n"
        )


def run_demo(folder: str | os.PathLike[str], *, progress: Callable[[float, str], None] | None = None) -> Demo:
    """Simulate an event, align its recordings, render them, draw the timeline and write the report, into `folder`.

    progress: called with the share done (0..1) and what is being done.
    Raises WriteError where the folder cannot be written to.
    """
    from avfuse.simulation import demo_event

    def stage(first: float, last: float) -> Callable[[float, str], None]:
        def tell(fraction: float, text: str) -> None:
            if progress is not None:
                progress(first + fraction * (last - first), text)

        return tell

    folder = Path(folder)
    stage(0.0, 0.0)(0.0, "simulating the event")
    event = demo_event(SEED)
    stage(0.2, 0.2)(0.0, "writing what the devices recorded")
    files = event.write(folder / "recordings")
    alignment = align(list(files.values()), progress=stage(0.6, 0.8))
    reference = alignment.reference
    truth = {name: _line(event.truth_between(reference, name)) for name in files}
    _write_truth(folder / "truth.json", reference, truth)
    with replacing(folder / "README.txt") as temporary:
        temporary.write_text(_README, encoding="utf-8")
    alignment.save(folder / "alignment.json")
    alignment.render(folder / "aligned", best_sound="recorder", progress=stage(0.8, 0.9))
    stage(0.9, 0.9)(0.0, "drawing the timeline")
    alignment.picture(folder / "timeline.png")
    alignment.report(folder / "report.html", progress=stage(0.92, 1.0))
    return Demo(folder, alignment, truth)


def _line(clock: ClockMap | PiecewiseClock) -> ClockMap:
    if not isinstance(clock, ClockMap):
        raise TypeError(f"the demo's devices have clocks of one line each, not {clock}")
    return clock


def _write_truth(path: Path, reference: str, truth: dict[str, ClockMap]) -> None:
    clocks = {name: {"offset": clock.offset, "drift": clock.drift} for name, clock in truth.items()}
    with replacing(path) as temporary:
        temporary.write_text(json.dumps({"reference": reference, "clocks": clocks}, indent=1) + "\n", encoding="utf-8")
