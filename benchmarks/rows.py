"""Many small measurements: made in order of their number, kept as they come, shared among processes on request."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from benchmarks.options import Options

Row = dict[str, Any]
_TELL = 15.0  # seconds between lines about how far it is


def gather(options: Options, part: str, measure: Callable[[int], Row], count: int) -> list[Row]:
    """`measure(k)` for k < count, in order of k; each row also gets its `part` and `index`.

    Rows are appended to `out/rows-PART-seedN.jsonl` at once; with `options.resume` those already there are not
    measured again (delete the file, or do not resume, after the estimator changed).
    """
    kept = options.out / f"rows-{part}-seed{options.seed}.jsonl"
    done: dict[int, Row] = {}
    if options.resume and kept.exists():
        done = {row["index"]: row for row in map(json.loads, kept.read_text("utf-8").splitlines())}
    todo = [k for k in range(count) if k not in done]
    began = told = time.perf_counter()
    with kept.open("a" if options.resume else "w", encoding="utf-8") as file:
        for k, row in _measured(measure, todo, options.processes):
            row |= {"part": part, "index": k}
            file.write(json.dumps(row) + "\n")
            file.flush()
            done[k] = row
            if time.perf_counter() - told > _TELL:
                told = time.perf_counter()
                left = (told - began) / max(1, len(todo) - (count - len(done))) * (count - len(done))
                print(f"{part}: {len(done)} of {count}, {_counts(done.values())}; {left:.0f} s left", flush=True)
    print(f"{part}: {count} in {time.perf_counter() - began:.0f} s, {_counts(done.values())}", flush=True)
    return [done[k] for k in range(count)]


def _measured(measure: Callable[[int], Row], todo: list[int], processes: int) -> Iterable[tuple[int, Row]]:
    if processes == 1:
        for k in todo:
            yield k, measure(k)
        return
    # One thread each: processes that all use every core hinder each other. Spawned, since numba is not fork-safe.
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from zip(todo, pool.imap(measure, todo, chunksize=2), strict=True)


def _counts(rows: Iterable[Row]) -> str:
    found = Counter(row["status"] for row in rows if "status" in row)
    return ", ".join(f"{n} {status}" for status, n in found.most_common())
