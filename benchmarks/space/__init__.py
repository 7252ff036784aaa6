"""Space: correspondences, transforms, registration, sound on pixels, beside the libraries that do each."""

from __future__ import annotations

import os
import time
from importlib import import_module

from benchmarks.options import Options
from benchmarks.tables import Goals, show

PARTS = ("matching", "transforms", "registration", "clouds", "depth", "sound")


def benchmark(options: Options) -> bool:
    met = True
    page = options.page.with_name("accuracy-space.md")
    for part in PARTS:
        if options.part not in (None, part):
            continue
        # Each has a section and goals of its own, so that one can be run again when what it measures has changed.
        goals, began = Goals(), time.perf_counter()
        tables = import_module(f"benchmarks.space.{part}").tables(options, goals)
        took, load = (time.perf_counter() - began) / 60, os.getloadavg()[0]
        preface = f"Seed {options.seed}; {took:.0f} minutes, load average at the end {load:.1f}."
        show([*tables, goals.table()], page, f"space {part}", preface)
        met = met and goals.met
    return met
