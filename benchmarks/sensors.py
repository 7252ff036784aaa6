"""Reading files of sensors and walking through all blocks: time and memory beside pyarrow and pyxdf, in turns."""

from __future__ import annotations

import json
import os
import statistics
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np

from avfuse.evaluation.processes import Ran
from avfuse.reporting.tables import Table
from benchmarks.measuring import run_here
from benchmarks.options import Options
from benchmarks.peers import RUNNERS
from benchmarks.tables import Goals, show

CHANNELS, RATE = 32, 1000
MOST_TIME = 1.5  # of pyarrow's own
AGREEMENT = 1e-3  # seconds from pyxdf's synchronised times
_CHUNK = 60 * RATE  # rows made at a time


def make_tables(folder: Path, seconds: int, seed: int) -> tuple[Path, Path]:
    """The same rows as CSV and as Parquet: integer nanoseconds and 32 channels of four decimals."""
    import pyarrow as pa
    from pyarrow import csv, parquet

    paths = folder / f"table-{seconds}.csv", folder / f"table-{seconds}.parquet"
    if all(path.exists() for path in paths):
        return paths
    rng = np.random.default_rng(seed)
    names = [f"ch{k + 1}" for k in range(CHANNELS)]
    schema = pa.schema([("timestamp", pa.int64()), *((name, pa.float64()) for name in names)])
    parts = [path.with_suffix(path.suffix + ".part") for path in paths]
    with csv.CSVWriter(parts[0], schema) as text, parquet.ParquetWriter(parts[1], schema) as columns:
        for first in range(0, seconds * RATE, _CHUNK):
            count = min(_CHUNK, seconds * RATE - first)
            stamps = 1_700_000_000_000_000_000 + (first + np.arange(count, dtype=np.int64)) * (10**9 // RATE)
            values = np.round(50 * rng.standard_normal((CHANNELS, count)), 4)
            table = pa.table([stamps, *values], schema=schema)
            text.write_table(table)
            columns.write_table(table)
    for part, path in zip(parts, paths, strict=True):
        part.rename(path)
    return paths


def make_xdf(folder: Path, seconds: int, seed: int) -> Path:
    """Two computers 100 s and 40 ppm apart, each with 8 channels at 500 Hz, and the offsets between their clocks."""
    path = folder / f"lab-{seconds}.xdf"
    if path.exists():
        return path
    rng = np.random.default_rng(seed)
    with path.open("wb") as file:
        file.write(b"XDF:" + _chunk(1, b"<info><version>1.0</version></info>"))
        for number, (ahead, drift) in enumerate(((0.0, 0.0), (100.0, 40e-6)), 1):
            head = struct.pack("<I", number)
            info = (
                f"<info><name>amp-{number}</name><type>EEG</type><channel_count>8</channel_count>"
                "<nominal_srate>500</nominal_srate><channel_format>float32</channel_format><desc/></info>"
            )
            file.write(_chunk(2, head + info.encode()))
            true = 5000 + np.arange(seconds * 500) / 500
            own = (true - ahead) / (1 + drift)
            for t in own[::2500]:
                value = ahead + drift * t + 2e-5 * rng.standard_normal()
                file.write(_chunk(4, head + struct.pack("<dd", t, value)))
            row = np.zeros(50, np.dtype([("size", "u1"), ("stamp", "<f8"), ("values", "<f4", 8)]))
            for first in range(0, own.size, 50):
                row["size"], row["stamp"] = 8, own[first : first + 50] + 1e-4 * rng.standard_normal(50)
                row["values"] = rng.standard_normal((50, 8))
                file.write(_chunk(3, head + b"\x04" + struct.pack("<I", 50) + row.tobytes()))
            file.write(_chunk(6, head + b"<info/>"))
    return path


def _chunk(tag: int, content: bytes) -> bytes:
    return b"\x04" + struct.pack("<IH", len(content) + 2, tag) + content


def _in_turns(readers: tuple[str, str], path: Path, repeats: int) -> dict[str, list[tuple[dict[str, Any], Ran]]]:
    """What each reader said, and what its process took; one after the other, so that a busy machine slows both."""
    found: dict[str, list[tuple[dict[str, Any], Ran]]] = {reader: [] for reader in readers}
    for _ in range(repeats):
        for reader in readers:
            ran = run_here([sys.executable, str(RUNNERS / "read_table.py"), reader, str(path)])
            if ran.code != 0:
                raise RuntimeError(f"{reader} on {path}: {ran.stderr.strip()[-300:]}")
            found[reader].append((json.loads(ran.stdout), ran))
    return found


def _row(path: Path, found: dict[str, list[tuple[dict[str, Any], Ran]]]) -> tuple[list[list[str]], float, float]:
    """Rows of the table, the ratio of the medians, and MB of memory of avfuse."""
    medians = {reader: statistics.median(told["seconds"] for told, _ in runs) for reader, runs in found.items()}
    peaks = {reader: max(ran.peak_mb for _, ran in runs) for reader, runs in found.items()}
    peer = next(iter(found))
    rows = []
    for reader, median in medians.items():
        ratio = f"{median / medians[peer]:.2f}"
        rows.append([path.suffix[1:], reader, f"{median:.2f}", ratio, f"{peaks[reader]:.0f}"])
    return rows, medians["avfuse"] / medians[peer], peaks["avfuse"]


def benchmark(options: Options) -> bool:
    goals = Goals()
    folder = options.out / "sensors"
    folder.mkdir(parents=True, exist_ok=True)
    seconds = 120 if options.quick else 7200
    repeats = options.pick(3, 5)
    rows: list[list[str]] = []
    values = seconds * RATE * CHANNELS * 8 / 1e6
    for path in make_tables(folder, seconds, options.seed):
        found, ratio, peak = _row(path, _in_turns(("pyarrow", "avfuse"), path, repeats))
        rows += found
        what = f"{seconds / 60:g} min of {CHANNELS} channels at {RATE} Hz, {path.suffix[1:]}"
        goals.add(f"{what}: at most {MOST_TIME} x pyarrow's time", f"{ratio:.2f} x", ratio <= MOST_TIME)
        # Values once; a block of text or a row group, and what Python and the libraries take.
        bound = values + 600
        goals.add(f"{what}: at most {bound:.0f} MB, its values once and 600", f"{peak:.0f} MB", peak <= bound)
    lab = make_xdf(folder, seconds // 12 if options.quick else 600, options.seed)
    runs = _in_turns(("pyxdf", "avfuse"), lab, repeats)
    rows += _row(lab, runs)[0]
    theirs, ours = runs["pyxdf"][0][0], runs["avfuse"][0][0]
    apart = max(
        abs(a - b) for name in theirs if name != "seconds" for a, b in zip(theirs[name], ours[name], strict=True)
    )
    goals.add(
        f"XDF within {AGREEMENT * 1e3:g} ms of pyxdf's synchronised times", f"{apart * 1e3:.4f} ms", apart <= AGREEMENT
    )
    table = Table("Reading files of sensors", ("file", "reader", "median [s]", "ratio", "most memory [MB]"), rows)
    show([table, goals.table()], options.page, "sensors", f"Measured on {os.cpu_count()} cores, {repeats} runs each.")
    return goals.met
