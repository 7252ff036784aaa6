"""One row of a manifest, whatever file it came from -> Event, or one line that says what is wrong with it."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping
from typing import Any, Literal, cast

from avfuse.errors import ReadError
from avfuse.manifests.events import SPLITS, Event, Span
from avfuse.manifests.places import holds_recording, is_url, placed

Missing = Literal["raise", "keep"]
METADATA = "meta."  # begins the names of a table's columns that are no roles
KEYS = ("event", "files", "label", "labels", "split", "reference", "group", "start", "end")


def event_of(row: Mapping[str, Any], where: str, folder: str, missing: Missing) -> Event:
    """row: keys of the manifest, and free metadata. A None says nothing, as if its key were not there.

    folder: path or URL that paths are relative to. Raises ReadError, beginning with `where`.
    """
    row = {key: _plain(value, key, where) for key, value in row.items() if value is not None}
    name = _text(row, "event", where)
    if name is None:
        raise ReadError(f"{where}: no event; expected its name")
    places = {role: placed(folder, path) for role, path in _files(row.get("files"), where).items()}
    files = {role: path for role, (path, _) in places.items()}
    for role, path in files.items():
        if missing == "raise" and not holds_recording(path):
            raise ReadError(f"{where}: {role}: {path}: no such file")
    split = row.get("split")
    if split is not None and split not in SPLITS:
        raise ReadError(f"{where}: split {split!r}; expected one of {', '.join(SPLITS)}")
    reference = row.get("reference")
    if reference is not None and reference not in list(files):
        raise ReadError(f"{where}: reference {reference!r}; expected one of its files: {', '.join(files)}")
    start, end = (_seconds(row.get(key), key, where) for key in ("start", "end"))
    if start is not None and end is not None and not start < end:
        raise ReadError(f"{where}: from {start} to {end} s; expected an end after the start")
    return Event(
        name,
        files,
        row.get("label"),
        _spans(row.get("labels"), where),
        split,
        reference,
        where,
        extra={key: value for key, value in row.items() if key not in KEYS},
        start=start,
        end=end,
        group=_text(row, "group", where),
        sources={role: source for role, (_, source) in places.items()},
    )


def row_of_cells(cells: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A row of a table whose columns are keys, `meta.NAME` or roles; empty cells are left out."""
    row: dict[str, Any] = {}
    files: dict[str, Any] = {}
    for column, value in cells.items():
        if value is None or value == "":
            continue
        if column in KEYS:
            row[column] = value
        elif column.startswith(METADATA):
            row[column.removeprefix(METADATA)] = value
        elif isinstance(value, str):
            files[column] = value
        else:
            raise ReadError(
                f"{where}: {column} is {value!r}; expected a path, or {METADATA}{column} as the name of metadata"
            )
    return {**row, "files": files}


def check_once(columns: list[str], file: str) -> None:
    for number, column in enumerate(columns):
        if column in columns[:number]:
            raise ReadError(f"{file}: column {column!r} is there twice; expected each once")


def check_columns(columns: list[str], file: str) -> None:
    """Of a table with roles as columns. Raises ReadError, with what is wrong with the first one that is."""
    check_once(columns, file)
    for number, column in enumerate(columns, 1):
        if column != column.strip() or column in ("", METADATA):
            raise ReadError(f"{file}: column {number} is called {column!r}; expected a name without spaces around it")
        if column in ("files", "labels"):
            raise ReadError(f"{file}: column {column!r} cannot be in such a table; expected JSON lines for it")
        if column.removeprefix(METADATA) in KEYS and column not in KEYS:
            raise ReadError(
                f"{file}: column {column!r}; expected another name, {column[5:]!r} has a meaning of its own"
            )
    if "event" not in columns:
        raise ReadError(f"{file}: columns {', '.join(columns)}; expected event, and roles of files")


def _files(given: Any, where: str) -> dict[str, str]:
    # A struct of Parquet has all roles in every row: None where an event lacks one.
    files = {role: path for role, path in given.items() if path is not None} if isinstance(given, dict) else {}
    if not files or not all(isinstance(path, str) for path in files.values()):
        raise ReadError(f"{where}: files is {given!r}; expected role -> path, one or more")
    for role, path in files.items():
        if not role or not path or "\0" in path:
            raise ReadError(f"{where}: files: {role!r} is {path!r}; expected a role with a path")
        if is_url(path) and not path.partition("://")[0]:
            raise ReadError(f"{where}: {role}: {path}: is no URL; expected a scheme before ://")
    return files


def _text(row: Mapping[str, Any], key: str, where: str) -> str | None:
    """A name; whole numbers are names, too."""
    value = row.get(key, "")
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ReadError(f"{where}: {key} is {value!r}; expected a name")
    return str(value) or None


def _seconds(value: Any, key: str, where: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ReadError(f"{where}: {key} is {value!r}; expected seconds")
    try:
        return float(value)
    except OverflowError:
        raise ReadError(f"{where}: {key} is a number of {len(str(value))} digits; expected seconds") from None


def _spans(given: Any, where: str) -> tuple[Span, ...]:
    if given is None:
        return ()
    if not isinstance(given, list) or not all(isinstance(span, dict) for span in given):
        raise ReadError(f"{where}: labels is {given!r}; expected a list of objects with start, end and label")
    spans = []
    for span in given:
        found = [_seconds(span.get(key), f"labels: {key}", where) for key in ("start", "end")]
        if None in found or "label" not in span:
            raise ReadError(f"{where}: labels: {span!r}; expected an object with start, end and label")
        start, end = cast(list[float], found)
        if not start < end:
            raise ReadError(f"{where}: labels: from {start} to {end} s; expected an end after the start")
        spans.append(Span(start, end, span["label"]))
    return tuple(spans)


def _plain(value: Any, key: str, where: str) -> Any:
    """`value` as JSON has it: what is read is written again. Dates become ISO 8601."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        raise ReadError(f"{where}: {key} is {value!r}; expected a finite number, or nothing")
    if isinstance(value, list | tuple):
        return [_plain(one, key, where) for one in value]
    if isinstance(value, dict):
        return {str(name): _plain(one, f"{key}: {name}", where) for name, one in value.items()}
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    raise ReadError(f"{where}: {key} is {type(value).__name__}; expected text, numbers, lists and objects of them")
