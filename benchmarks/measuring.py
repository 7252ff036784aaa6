"""`avfuse.evaluate` as benchmarks use it: cases as a list that `avfuse evaluate` takes, answers kept as they come."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from avfuse.evaluation import Case, Evaluation, evaluate, read_cases, write_cases
from avfuse.evaluation.processes import Ran, run
from benchmarks.options import ROOT, Options

Entry = Mapping[str, object]
_TELL = 15.0  # seconds between lines about how far it is


def measure(
    options: Options,
    part: str,
    cases: Sequence[Entry] | Sequence[Case],
    methods: Mapping[str, str] | None = None,
    *,
    timed: bool = False,
    time_limit: float = 600.0,
) -> Evaluation:
    """Methods (avfuse alone where none is given) on cases, through `avfuse.evaluate`.

    cases: entries of a cases file, which is written to `out/PART/cases.json`, or `Case`s. Answers and tables are kept
    beside it; with `options.resume` those of an interrupted run are taken.
    timed: a process for each case, one at a time; else one for all, or `options.processes`.
    """
    folder = options.out / part
    folder.mkdir(parents=True, exist_ok=True)
    entries = [c for c in cases if not isinstance(c, Case)]
    listed = [c for c in cases if isinstance(c, Case)]
    if entries:
        listed = read_cases(write_cases(folder / "cases.json", entries))
    began = told = time.perf_counter()

    def tell(share: float, text: str) -> None:
        nonlocal told
        if time.perf_counter() - told > _TELL:
            told = time.perf_counter()
            print(f"{part}: {text}; {(told - began) * (1 - share) / share:.0f} s left", flush=True)

    found = evaluate(
        listed, methods, folder=folder, resume=options.resume, fresh=timed,
        processes=1 if timed else options.processes, time_limit=time_limit, memory_limit=options.memory, progress=tell,
    )  # fmt: skip
    found.save(folder)
    print(f"{part}: {len(listed)} cases in {time.perf_counter() - began:.0f} s", flush=True)
    return found


def run_here(
    command: Sequence[str],
    *,
    started: Callable[[subprocess.Popen[Any]], None] | None = None,
    time_limit: float | None = None,
) -> Ran:
    """Run a command with the package that lies beside the benchmarks, installed or not. started, time_limit: see
    `avfuse.evaluation.processes.run`."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    return run(command, environment=environment, started=started, time_limit=time_limit)
