"""`read_manifest`: JSON lines, CSV, Parquet, a folder or a pattern -> events."""

from __future__ import annotations

import codecs
import csv
import io
import json
import os
import re
from collections.abc import Iterable, Iterator
from typing import Any, get_args

from avfuse.errors import ReadError, StreamError
from avfuse.manifests.events import Event
from avfuse.manifests.patterns import events_of_folder, events_of_pattern, is_pattern
from avfuse.manifests.places import exists, folder_of, is_folder, read_bytes, without_file_scheme
from avfuse.manifests.rows import Missing, check_columns, check_once, event_of, row_of_cells

_PARQUET = (".parquet", ".pq")


def read_manifest(path: str | os.PathLike[str], *, missing: Missing = "raise") -> list[Event]:
    """The events of a manifest, in its order; of a folder or a pattern, by name.

    path: a file, or its URL: JSON lines, CSV (.csv) or Parquet (.parquet, .pq), see `avfuse.manifests`. Or one of
        a folder: each folder in it is an event, and the recordings in that are its roles, by their stems (by their file
        names where stems are the same); recordings that lie in it directly are events with the one role `recording`.
        a pattern of paths with `*`, `?`, `[abc]`, `**` and the fields `{event}`, `{role}`, `{label}`, `{split}` and
        `{group}`, each of which holds what is in its place, but no "/"; where several readings fit, fields on the left
        are as long as can be. Without `{event}` each file is an event, named by its stem, or by its path from the first
        `*` or field on where stems are the same.
        In folders, and where a pattern leaves the suffix open, recordings are told by their suffixes, and hidden files
        are left out.
    missing: "keep" leaves files that are not there in their events, for whoever reads them to tell.

    Raises ReadError, with the line or row, for what cannot be read, has no files, names files that are not there, or
    names an event twice.
    """
    if missing not in get_args(Missing):
        raise StreamError(f"read_manifest: missing is {missing!r}; expected one of {', '.join(get_args(Missing))}")
    place = without_file_scheme(os.fspath(path))
    if is_pattern(place) and not exists(place):
        events = events_of_pattern(place)
    elif is_folder(place):
        events = events_of_folder(place)
    else:
        events = [event_of(row, where, folder_of(place), missing) for where, row in _rows(place)]
    if not events:
        raise ReadError(f"{place}: no events; expected a line for each")
    seen: dict[str, str] = {}
    for event in events:
        if event.name in seen:
            raise ReadError(f"{event.where}: event {event.name!r} is also in {seen[event.name]}; expected each once")
        seen[event.name] = event.where
    return events


def _rows(file: str) -> Iterable[tuple[str, dict[str, Any]]]:
    """(where, row) of each event."""
    try:
        data = read_bytes(file)
    except FileNotFoundError:
        raise ReadError(
            f"{file}: no such file; expected a manifest (a line of JSON or a row for each event), a folder or a pattern"
        ) from None
    if file.lower().endswith(_PARQUET) or data.startswith(b"PAR1"):
        return _rows_of_parquet(file, data)
    text = _text(file, data)
    return _rows_of_table(file, text) if file.lower().endswith(".csv") else _rows_of_json(file, text)


def _text(file: str, data: bytes) -> str:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in data[:4]:
        raise ReadError(f"{file}: is UTF-16 or UTF-32; expected UTF-8, save it as that")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ReadError(
            f"{file}: line {line}: is no UTF-8 (byte 0x{data[error.start]:02x}); expected UTF-8, save it as that"
        ) from error


def _rows_of_json(file: str, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    # Not splitlines: U+2028 and others that it splits at may stand in a string of JSON.
    for number, line in enumerate(re.split("\r\n|\n|\r", text), 1):
        if not line.strip():
            continue
        where = f"{file}: line {number}"
        try:
            row = json.loads(line, object_pairs_hook=_once, parse_constant=_refuse)
        except (ValueError, RecursionError) as error:
            told = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            raise ReadError(f"{where}: is no JSON ({told}); expected one object a line") from error
        if not isinstance(row, dict):
            raise ReadError(f"{where}: holds {type(row).__name__}; expected an object with event and files")
        yield where, row


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"key {key!r} is there twice")
        found[key] = value
    return found


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no number of JSON")


def _rows_of_table(file: str, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    lines = _lines_of_table(file, text)
    where, columns = next(lines, ("", None))
    if columns is None:
        return
    check_columns(columns, where)
    for where, fields in lines:
        if len(fields) != len(columns):
            raise ReadError(f"{where}: {len(fields)} fields, not as many as columns; expected {len(columns)}")
        row = row_of_cells(dict(zip(columns, fields, strict=True)), where)
        for key in ("start", "end"):
            if key in row:
                try:
                    row[key] = float(row[key])
                except ValueError:
                    raise ReadError(f"{where}: {key} is {row[key]!r}; expected seconds") from None
        yield where, row


def _lines_of_table(file: str, text: str) -> Iterator[tuple[str, list[str]]]:
    """(where, fields) of each row that is not empty; a row is where it begins."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    while True:
        where = f"{file}: line {reader.line_num + 1}"
        try:
            fields = next(reader, None)
        except csv.Error as error:
            raise ReadError(
                f"{where}: is no CSV ({error}); expected quotes around whole fields, doubled in them"
            ) from error
        if fields is None:
            return
        if fields:
            yield where, fields


def _rows_of_parquet(file: str, data: bytes) -> Iterator[tuple[str, dict[str, Any]]]:
    from avfuse.io.sensors.needed import needed

    parquet = needed("pyarrow.parquet", file, "Parquet", extra="scale")
    import pyarrow as pa

    try:
        table = parquet.ParquetFile(pa.BufferReader(data)).read()
    except (pa.ArrowException, OSError, ValueError) as error:
        told = " ".join(str(error).split())
        raise ReadError(f"{file}: cannot be read as Parquet ({told}); expected a column event, and files") from error
    columns = table.column_names
    roles_are_columns = "files" not in columns
    if roles_are_columns:
        check_columns(columns, file)
    else:
        check_once(columns, file)
    maps = [column for column in columns if pa.types.is_map(table.schema.field(column).type)]
    for number, row in enumerate(table.to_pylist(), 1):
        where = f"{file}: row {number}"
        for column in maps:
            if row[column] is not None:
                try:
                    row[column] = _once(row[column])
                except ValueError as error:
                    raise ReadError(f"{where}: {column}: {error}; expected each once") from error
        yield where, row_of_cells(row, where) if roles_are_columns else row
