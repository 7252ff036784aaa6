"""Space: correspondences, transforms, registration, sound on pixels, beside the libraries that do each."""

from __future__ import annotations

from benchmarks.options import Options
from benchmarks.parts import run_parts


def benchmark(options: Options) -> bool:
    return run_parts("space", options)
