"""NumPy's .npy and .npz: a table of rows, a structured array, or arrays of one length beside their times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avfuse.errors import ReadError
from avfuse.io.sensors.assembling import recording_of, rows_to_parts, stem_of
from avfuse.io.sensors.channels import group_columns, group_unnamed
from avfuse.io.sensors.columns import check_rate
from avfuse.io.sensors.headers import TIME_SCALE, parse_header
from avfuse.io.sensors.times import Sample, check_fine, choose_time, to_nanoseconds
from avfuse.stream import Array, Recording

_SAMPLE = 400


def read_arrays(
    path: str, *, time_column: str | int | None = None, time_unit: str | None = None, rate: float | None = None
) -> Recording:
    """A recording from .npy or .npz: arrays `(n,)` and `(n, k)` of one length, one of them times.

    Raises ReadError, one line, for pickled objects, damage, and arrays that do not fit together.
    """
    check_rate(path, rate, time_column, time_unit)
    loaded = _loaded(path)
    odd: list[str] = []
    table, named = _columns(path, loaded, odd)
    names = list(table)
    headers = [
        replace(parse_header(name), unit="ns") if column.dtype.kind == "m" else parse_header(name)
        for name, column in table.items()
    ]
    table = {name: _plain(column) for name, column in table.items()}
    samples = [_sample(column) for column in table.values()]
    rows = len(next(iter(table.values())))
    if rows == 0:
        raise ReadError(f"{path}: no rows in it; expected at least one row with a time and a value")
    facts: dict[str, Any] = {}
    skipped: set[int] = set()
    tick, valid = 1, np.ones(rows, bool)
    if rate is not None:
        stamps = np.round(np.arange(rows) * (1e9 / rate)).astype(np.int64)
        facts = {"time_from": "rate was given"}
    else:
        time = choose_time(path, headers, samples, named=named, time_column=time_column, time_unit=time_unit)
        column = table[names[time.index]]
        skipped = {time.index, *time.others}
        if time.unit == "date":
            stamps = column.astype("datetime64[ns]").astype(np.int64)
            valid = ~np.isnat(column)
        else:
            stamps, valid = to_nanoseconds(column, time.unit)
            tick = TIME_SCALE[time.unit]
        facts = {"time_column": names[time.index], "time_unit": time.unit, "time_from": time.why}
        if time.others:
            others = ", ".join(repr(names[k]) for k in time.others)
            odd.append(f"times are those of {names[time.index]!r}; {others} left out")
    numeric = [k for k in range(len(names)) if k not in skipped and table[names[k]].dtype.kind in "fiub"]
    if not numeric:
        raise ReadError(f"{path}: times and nothing else; expected values beside them")
    if named:
        groups = group_columns(path, stem_of(path), headers, numeric)
    else:
        groups = group_unnamed(stem_of(path), numeric, np.array([samples[k].numbers for k in numeric]).T)
    values = []
    for group in groups:
        block = np.empty((len(group.columns), int(np.count_nonzero(valid))))
        for row, k in enumerate(group.columns):
            block[row] = table[names[k]][valid]
        values.append(block.T)
    if 2 * np.count_nonzero(valid) < rows:
        lacking = rows - int(np.count_nonzero(valid))
        raise ReadError(
            f"{path}: {lacking} of {rows} rows have no time; expected one in every row, give another time_column="
        )
    if rate is None:
        check_fine(path, stamps[valid])
    if not valid.all():
        odd.append(f"{int(np.count_nonzero(~valid))} rows have no time; left out")
    parts = rows_to_parts(path, groups, values, stamps[valid], tick, odd)
    return recording_of(path, "npz" if isinstance(loaded, Mapping) else "npy", parts, facts, odd)


def _loaded(path: str) -> Array | dict[str, Array]:
    try:
        with open(path, "rb") as file:
            found = np.load(file, allow_pickle=False)
            return found if isinstance(found, np.ndarray) else {name: found[name] for name in found.files}
    except Exception as error:  # NumPy lets through what its tokeniser, zip and zlib raise on damaged files
        if "pickle" in str(error) or "Object arrays" in str(error):
            raise ReadError(f"{path}: holds pickled objects, which can run code; expected plain arrays") from error
        told = " ".join(str(error).split())[:120]
        raise ReadError(f"{path}: no whole NumPy file ({told}); expected .npy or .npz, try to copy it again") from error


def _columns(path: str, loaded: Array | dict[str, Array], odd: list[str]) -> tuple[dict[str, NDArray[Any]], bool]:
    """Columns by name, and whether the names are the file's."""
    if not isinstance(loaded, dict):
        if loaded.dtype.names:
            loaded = {name: loaded[name] for name in loaded.dtype.names}
        elif loaded.ndim == 2 and loaded.dtype.kind in "fiu":
            return {str(k + 1): loaded[:, k] for k in range(loaded.shape[1])}, False
        elif loaded.ndim == 1 and loaded.dtype.kind in "fiu":
            return {"1": loaded}, False
        else:
            raise ReadError(
                f"{path}: an array of shape {loaded.shape} and type {loaded.dtype}; expected numbers (rows, columns)"
            )
    lengths = {name: len(array) for name, array in loaded.items() if array.ndim in (1, 2)}
    if not lengths:
        raise ReadError(f"{path}: no array over time in it; expected arrays (n,) and (n, k)")
    rows = max(set(lengths.values()), key=lambda n: (sum(v == n for v in lengths.values()), n))
    table: dict[str, NDArray[Any]] = {}
    for name, array in loaded.items():
        if lengths.get(name) != rows or array.dtype.kind not in "fiubMm":
            odd.append(
                f"array {name!r} of shape {array.shape} and type {array.dtype} does not fit the others; left out"
            )
        elif array.ndim == 1:
            table[name] = array
        else:
            axes = {3: "xyz", 4: "xyzw"}.get(array.shape[1])
            for k in range(array.shape[1]):
                table[f"{name}_{axes[k] if axes else k + 1}"] = array[:, k]
    if not table:
        raise ReadError(f"{path}: no numbers over time in it; expected arrays (n,) and (n, k)")
    return table, True


def _plain(column: NDArray[Any]) -> NDArray[Any]:
    """Spans of time as integer ns; NaT as NaN."""
    if column.dtype.kind != "m":
        return column
    nanoseconds = column.astype("timedelta64[ns]").astype(np.int64)
    gone = np.isnat(column)
    return np.where(gone, np.nan, nanoseconds) if gone.any() else nanoseconds


def _sample(column: NDArray[Any]) -> Sample:
    head = column[:_SAMPLE]
    if head.dtype.kind == "M":
        stamps = head.astype("datetime64[ns]")
        return Sample(np.where(np.isnat(stamps), np.nan, stamps.astype(np.int64) / 1e9), whole=False, dates=True)
    return Sample(head.astype(np.float64), whole=head.dtype.kind in "iu")
