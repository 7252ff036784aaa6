"""Space: correspondences, transforms, registration, sound on pixels, beside the libraries that do each."""

from __future__ import annotations

from importlib import import_module

from avfuse.reporting.tables import Table
from benchmarks.options import Options
from benchmarks.tables import Goals, show

PARTS = ("matching", "transforms", "registration", "clouds", "depth", "sound")


def benchmark(options: Options) -> bool:
    goals = Goals()
    tables: list[Table] = []
    for part in PARTS:
        tables += import_module(f"benchmarks.space.{part}").tables(options, goals)
    show([*tables, goals.table()], options.page, "space", f"Seed {options.seed}.")
    return goals.met
