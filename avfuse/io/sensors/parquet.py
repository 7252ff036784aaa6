"""Parquet, batch after batch.

Memory: every value once as float64, plus a batch of rows.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avfuse.errors import ReadError
from avfuse.io.sensors.assembling import recording_of, rows_to_parts, stem_of
from avfuse.io.sensors.channels import Group, check_one_sensor, group_columns
from avfuse.io.sensors.columns import Collected, ahead, check_rate
from avfuse.io.sensors.headers import TIME_SCALE, Header, parse_header
from avfuse.io.sensors.needed import needed
from avfuse.io.sensors.text_layout import DATE
from avfuse.io.sensors.times import Sample, TimeColumn, check_fine, choose_time, to_nanoseconds
from avfuse.stream import Recording

_BATCH = 1 << 16  # rows
_BUFFER = 1 << 20  # bytes of a column that are read at a time; pre_buffer would hold the whole file
_SAMPLE = 400


def read_parquet(
    path: str, *, time_column: str | int | None = None, time_unit: str | None = None, rate: float | None = None
) -> Recording:
    """A table of times and values.

    Raises ReadError, one line, where it cannot be read, or its time column or unit is not certain.
    """
    pq = needed("pyarrow.parquet", path, "Parquet")
    import pyarrow as pa

    try:
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER) as file:
            return _read(path, file, time_column, time_unit, rate)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        told = " ".join(str(error).split())[:120]
        raise ReadError(
            f"{path}: no whole Parquet file ({told}); expected one with its footer, try to copy it again"
        ) from error


def _read(path: str, file: Any, time_column: str | int | None, time_unit: str | None, rate: float | None) -> Recording:
    import pyarrow as pa

    odd: list[str] = []
    schema = file.schema_arrow
    names = list(schema.names)
    usable = [k for k, t in enumerate(schema.types) if _is_number(t) or _is_date(t) or _is_text(t) or _is_span(t)]
    left = [f"column {names[k]!r} holds {schema.types[k]}" for k in range(len(names)) if k not in usable]
    odd += [f"{what}; left out" for what in left]
    if file.metadata.num_rows == 0 or not usable:
        raise ReadError(f"{path}: no rows of numbers in it; expected a table of times and values")
    columns = [names[k] for k in usable]
    if len(set(names)) < len(names):
        # Equal names cannot be asked for one by one.
        batches = file.iter_batches(_BATCH)
    else:
        batches, usable = file.iter_batches(_BATCH, columns=columns), list(range(len(columns)))
    whole = next(batches)
    first = whole.slice(0, _SAMPLE)
    types = [whole.schema.types[k] for k in usable]
    headers = [_header(name, kind) for name, kind in zip(columns, types, strict=True)]
    samples = [_sample(first.column(k)) for k in usable]
    time: TimeColumn | None = None
    if check_rate(path, rate, time_column, time_unit) is None:
        time = choose_time(path, headers, samples, named=True, time_column=time_column, time_unit=time_unit)
    skipped = {time.index, *time.others} if time is not None else set()
    numeric = [k for k in range(len(columns)) if k not in skipped and (_is_number(types[k]) or _is_span(types[k]))]
    words = [k for k in range(len(columns)) if k not in skipped and _is_text(types[k])]
    for k in words:
        check_one_sensor(path, columns[k], [cell or "" for cell in first.column(usable[k]).to_pylist()])
    groups = group_columns(path, stem_of(path), headers, numeric)
    groups += [Group("text", (k,), (columns[k],), "it holds words") for k in words]
    if not groups:
        besides = f" that can be read ({left[0]})" if left else ""
        raise ReadError(f"{path}: a column of time and nothing else{besides}; expected numbers beside it")
    collected = Collected([g.columns for g in groups], [g.kind == "text" for g in groups])
    naive, timeless = False, 0
    for batch in ahead(chain([whole], batches)):
        stamps, rows = None, None
        if time is not None:
            stamps, valid, without_zone = _stamps(batch.column(usable[time.index]), time.unit)
            naive = naive or without_zone
            if not valid.all():
                timeless += int(np.count_nonzero(~valid))
                rows = np.flatnonzero(valid)
                stamps = stamps[rows]
        values: dict[int, NDArray[Any]] = {}
        for k in (k for g in groups for k in g.columns):
            column = _values(batch.column(usable[k]))
            values[k] = column if rows is None else column[rows]
        count = batch.num_rows if rows is None else rows.size
        collected.add(values, stamps, count, file.metadata.num_rows)
    pa.default_memory_pool().release_unused()
    arrays, stamps = collected.finish()
    facts: dict[str, Any] = {}
    tick = 1
    if time is None:
        assert rate is not None
        stamps = np.round(np.arange(collected.rows) * (1e9 / rate)).astype(np.int64)
        facts = {"time_from": "rate was given"}
    else:
        tick = TIME_SCALE.get(time.unit, 1)
        facts = {"time_column": columns[time.index], "time_unit": time.unit, "time_from": time.why}
        if time.others:
            others = ", ".join(repr(columns[k]) for k in time.others)
            odd.append(f"times are those of {columns[time.index]!r}; {others} tell the same time less well; left out")
    if timeless > collected.rows:
        raise ReadError(
            f"{path}: {timeless} of {timeless + collected.rows} rows have no readable time; expected one in every row, "
            "give another time_column="
        )
    if time is not None:
        check_fine(path, stamps)
    if timeless:
        odd.append(f"{timeless} rows have no readable time; left out")
    if naive:
        odd.append("its dates state no time zone; taken as UTC")
    parts = rows_to_parts(path, groups, arrays, stamps, tick, odd)
    return recording_of(path, "parquet", parts, facts, odd)


def _is_number(kind: Any) -> bool:
    import pyarrow as pa

    t = pa.types
    return bool(t.is_integer(kind) or t.is_floating(kind) or t.is_boolean(kind) or t.is_decimal(kind))


def _is_date(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_span(kind: Any) -> bool:
    """Durations and times of day: numbers whose type tells their unit."""
    import pyarrow as pa

    return bool(pa.types.is_duration(kind) or pa.types.is_time(kind))


def _header(name: str, kind: Any) -> Header:
    header = parse_header(name)
    return replace(header, unit=kind.unit) if _is_span(kind) else header


def _sample(column: Any) -> Sample:
    import pyarrow as pa
    import pyarrow.compute as pc

    if _is_date(column.type):
        stamps = pc.cast(column, pa.timestamp("ns", getattr(column.type, "tz", None)), safe=False)
        numbers = (
            np.array(pc.cast(pc.cast(stamps, pa.int64()), pa.float64(), safe=False).to_numpy(zero_copy_only=False))
            / 1e9
        )
        return Sample(numbers, whole=False, dates=True)
    if _is_text(column.type):
        column = pc.cast(column, pa.string())
        cells = [c for c in column.to_pylist() if c]
        dates = bool(cells) and all(DATE.match(cell) for cell in cells)
        if dates:
            from avfuse.io.sensors.written_times import dates_written

            stamps, valid, _ = dates_written(column)
            return Sample(np.where(valid, stamps / 1e9, np.nan), whole=False, dates=True)
        return Sample(np.full(len(column), np.nan), whole=False)
    return Sample(_values(column), whole=bool(pa.types.is_integer(column.type) or _is_span(column.type)))


def _whole_numbers(column: Any) -> Any:
    """Durations and times of day as integers in their unit; others as they are."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not _is_span(column.type):
        return column
    return pc.cast(column, pa.int32() if column.type.bit_width == 32 else pa.int64())


def _values(column: Any) -> NDArray[Any]:
    import pyarrow as pa
    import pyarrow.compute as pc

    if _is_text(column.type):
        return np.array(["" if c is None else c for c in column.to_pylist()], dtype=np.str_)
    column = _whole_numbers(column)
    if not pa.types.is_float64(column.type):
        column = pc.cast(column, pa.float64(), safe=False)
    return np.asarray(column.to_numpy(zero_copy_only=False))


def _stamps(column: Any, unit: str) -> tuple[NDArray[np.int64], NDArray[np.bool_], bool]:
    """(stamps, valid, whether dates without a zone were taken as UTC)."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if _is_text(column.type):
        from avfuse.io.sensors.written_times import dates_written, numbers_written

        text = pc.cast(column, pa.string())
        return dates_written(text) if unit == "date" else (*numbers_written(text, unit, "."), False)
    valid = np.asarray(pc.is_valid(column).to_numpy(zero_copy_only=False))
    if _is_date(column.type):
        zone = getattr(column.type, "tz", None)
        whole = pc.cast(pc.cast(column, pa.timestamp("ns", zone), safe=False), pa.int64())
        return np.asarray(pc.fill_null(whole, 0).to_numpy(zero_copy_only=False)), valid, zone is None
    column = _whole_numbers(column)
    if pa.types.is_integer(column.type):
        stamps, fits = to_nanoseconds(np.asarray(pc.fill_null(column, 0).to_numpy(zero_copy_only=False)), unit)
    elif pa.types.is_decimal(column.type):
        from avfuse.io.sensors.written_times import numbers_written

        return (*numbers_written(pc.cast(column, pa.string()), unit, "."), False)
    else:
        stamps, fits = to_nanoseconds(_values(column), unit)
    return stamps, valid & fits, False
