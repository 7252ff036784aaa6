"""Prepare: how exact cuts are, how fast they are made and read, and what happens to what is off or broken."""

from __future__ import annotations

from benchmarks.options import Options
from benchmarks.parts import run_parts


def benchmark(options: Options) -> bool:
    return run_parts("prepare", options)
