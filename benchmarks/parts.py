"""A benchmark of several parts, each of which can be run again alone when what it measures has changed."""

from __future__ import annotations

import os
import time
from importlib import import_module

from benchmarks.options import Options
from benchmarks.tables import Goals, show

PARTS = {
    "prepare": ("fidelity", "speed", "loader", "filter", "broken"),
    "space": ("matching", "transforms", "registration", "clouds", "depth", "sound"),
    "fusion": ("alignment", "rates", "missing", "activities", "correlation", "synchrony", "speed"),
}


def run_parts(name: str, options: Options) -> bool:
    """Every part of a benchmark, or that of `options.part`: onto the page of the benchmark, each in its section."""
    met = True
    page = options.page.with_name(f"accuracy-{name}.md")
    for part in PARTS[name]:
        if options.part not in (None, part):
            continue
        # Each has a section and goals of its own, so that one can be run again when what it measures has changed.
        goals, began = Goals(), time.perf_counter()
        tables = import_module(f"benchmarks.{name}.{part}").tables(options, goals)
        took, load = (time.perf_counter() - began) / 60, os.getloadavg()[0]
        preface = f"Seed {options.seed}; {took:.0f} minutes, load average at the end {load:.1f}."
        show([*tables, goals.table()], page, f"{name} {part}", preface)
        met = met and goals.met
    return met
