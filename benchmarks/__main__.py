"""python -m benchmarks NAME [--quick] [--out DIR]"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
from pathlib import Path

from benchmarks.options import Options
from benchmarks.parts import PARTS

NAMES = (
    "sound",
    "honest",
    "limits",
    "speed",
    "codecs",
    "joint",
    "event",
    "clocks",
    "warp",
    "sensors",
    "motion",
    "channels",
    "picture",
    "space",
    "fusion",
    "prepare",
    "transcript",
    "calibrate",
)


def main(arguments: list[str] | None = None) -> int:
    """Run one benchmark: 0 where every goal was met, 1 where one was not."""
    defaults = Options()
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__import__("benchmarks").__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--quick", action="store_true", help="small sizes; tables go to the results, not to docs/")
    parser.add_argument("--out", type=Path, default=defaults.out, help="folder of results and made files")
    parser.add_argument("--repeats", type=int, help="of every condition")
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--processes", type=int, default=defaults.processes, help="workers where time is not measured")
    parser.add_argument("--resume", action="store_true", help="go on where a run with equal settings was interrupted")
    parser.add_argument("--memory", type=float, default=defaults.memory, help="GB that a program under test may use")
    parser.add_argument("--part", help="; ".join(f"only this one of {n}: {', '.join(p)}" for n, p in PARTS.items()))
    given = vars(parser.parse_args(arguments))
    name = given.pop("name")
    parts = PARTS.get(name, ())
    if given["part"] not in (None, *parts):
        parser.error(f"--part {given['part']}: {name} has {', '.join(parts) or 'no parts'}")
    options = Options(**given | {"out": given["out"].resolve()})
    options.out.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    met = importlib.import_module(f"benchmarks.{name}").benchmark(options)
    load = os.getloadavg()[0]
    print(
        f"\n{name}: {time.perf_counter() - began:.0f} s; load average at the end {load:.1f} on {os.cpu_count()} cores"
    )
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
