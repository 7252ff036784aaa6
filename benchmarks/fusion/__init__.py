"""Fusion: what alignment is worth, other rates, missing streams, co-learning, and how fast all of it is."""

from __future__ import annotations

from benchmarks.options import Options
from benchmarks.parts import run_parts


def benchmark(options: Options) -> bool:
    return run_parts("fusion", options)
