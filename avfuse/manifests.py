"""Manifests: which files belong to one event, and what is known of it.

JSON lines, one event each:

    {"event": "e1", "files": {"camera": "e1/cam.mp4", "recorder": "e1/rec.wav"}, "label": "clap", "split": "train"}
    {"event": "e2", "files": {...}, "labels": [{"start": 1.0, "end": 2.5, "label": "clap"}, ...]}

or a table (CSV) whose columns `event`, `label` and `split` mean the same and whose other columns are roles of files.
Paths are relative to the manifest. Roles become the names of recordings. Spans are in seconds of the event's timeline.
"""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from avfuse.alignment import Alignment, RecordingFacts, load_alignment, reference_estimate
from avfuse.errors import AvfuseError, ReadError

SPLITS = ("train", "validation", "test")
_KEYS = {"event", "files", "label", "labels", "split", "reference"}


@dataclass(frozen=True)
class Span:
    """start, end: seconds of the event's timeline, start <= t < end. label: what is true of it."""

    start: float
    end: float
    label: Any


@dataclass(frozen=True)
class Event:
    """Recordings of one event.

    files: role -> path. label: of the whole event; None where there is none. spans: labels of parts of it.
    split: "train", "validation", "test", or None where that is left open. reference: role whose clock is the timeline;
    None takes the first one. where: file and line, for messages.
    """

    name: str
    files: Mapping[str, str]
    label: Any = None
    spans: tuple[Span, ...] = ()
    split: str | None = None
    reference: str | None = None
    where: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)

    def label_of(self, start: float, end: float) -> Any:
        """Of a window: the span that holds its middle, else the event's own label; None where neither is there."""
        middle = 0.5 * (start + end)
        return next((span.label for span in self.spans if span.start <= middle < span.end), self.label)


def read_manifest(path: str | os.PathLike[str]) -> list[Event]:
    """The events of a manifest, in its order.

    Raises ReadError, with the line, for what cannot be read, has no files, names files that are not there, or names an
    event twice.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ReadError(f"{file}: no such file; expected a manifest, a line of JSON or a row for each event") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ReadError(f"{file}: cannot be read ({error}); expected a manifest in UTF-8") from error
    events = list(_rows_of_table(file, text) if file.suffix.lower() == ".csv" else _rows_of_json(file, text))
    if not events:
        raise ReadError(f"{file}: no events; expected a line for each")
    seen: dict[str, str] = {}
    for event in events:
        if event.name in seen:
            raise ReadError(f"{event.where}: event {event.name!r} is also in {seen[event.name]}; expected each once")
        seen[event.name] = event.where
    return events


def _rows_of_json(file: Path, text: str) -> list[Event]:
    events = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        where = f"{file}: line {number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ReadError(f"{where}: is no JSON ({error.msg}); expected one object a line") from error
        if not isinstance(row, dict):
            raise ReadError(f"{where}: holds {type(row).__name__}; expected an object with event and files")
        events.append(_event(row, where, file.parent))
    return events


def _rows_of_table(file: Path, text: str) -> list[Event]:
    reader = csv.DictReader(text.splitlines())
    if reader.fieldnames is None or "event" not in reader.fieldnames:
        raise ReadError(
            f"{file}: columns {', '.join(reader.fieldnames or ['none'])}; expected event, and roles of files"
        )
    events = []
    for row in reader:
        where = f"{file}: line {reader.line_num}"
        if None in row or None in row.values():
            raise ReadError(f"{where}: not as many fields as columns; expected {len(reader.fieldnames)}")
        files = {role: path for role, path in row.items() if role not in _KEYS and path}
        known = {key: value for key, value in row.items() if key in _KEYS - {"files", "labels"} and value != ""}
        events.append(_event(known | {"files": files}, where, file.parent))
    return events


def _event(row: Mapping[str, Any], where: str, folder: Path) -> Event:
    files = row.get("files")
    if not isinstance(files, dict) or not files or not all(isinstance(path, str) for path in files.values()):
        raise ReadError(f"{where}: files is {files!r}; expected role -> path, one or more")
    paths = {str(role): os.path.normpath(os.path.join(folder, path)) for role, path in files.items()}
    for role, found in paths.items():
        if not os.path.isfile(found):
            raise ReadError(f"{where}: {role}: {found}: no such file")
    split = row.get("split")
    if split is not None and split not in SPLITS:
        raise ReadError(f"{where}: split {split!r}; expected one of {', '.join(SPLITS)}")
    reference = row.get("reference")
    if reference is not None and reference not in paths:
        raise ReadError(f"{where}: reference {reference!r}; expected one of its files: {', '.join(paths)}")
    name = str(row.get("event") or "")
    if not name:
        raise ReadError(f"{where}: no event; expected its name")
    extra = {key: value for key, value in row.items() if key not in _KEYS}
    return Event(name, paths, row.get("label"), _spans(row.get("labels"), where), split, reference, where, extra)


def _spans(given: Any, where: str) -> tuple[Span, ...]:
    if given is None:
        return ()
    try:
        spans = tuple(Span(float(s["start"]), float(s["end"]), s["label"]) for s in given)
    except (TypeError, KeyError, ValueError) as error:
        raise ReadError(f"{where}: labels: {error!r}; expected a list of objects with start, end and label") from error
    for span in spans:
        if not (math.isfinite(span.start) and math.isfinite(span.end) and span.start < span.end):
            raise ReadError(f"{where}: labels: from {span.start} to {span.end} s; expected an end after the start")
    return spans


def align_event(event: Event, cache: Path | None = None, *, spacing: float = 0.0) -> Alignment:
    """Its recordings on one timeline, named after their roles.

    cache: folder that keeps the alignment; it is taken again where the files are still the same. spacing: metres, see
    `avfuse.align`.
    """
    from avfuse.aligning import align
    from avfuse.io import read

    inputs: dict[str, Any] = {"reference": event.reference, "spacing": spacing}
    inputs["stamps"] = {role: [os.stat(path).st_size, os.stat(path).st_mtime_ns] for role, path in event.files.items()}
    kept = None if cache is None else cache / f"{_as_file_name(event.name)}.json"
    if kept is not None and kept.exists():
        try:
            found = load_alignment(kept)
        except AvfuseError:
            pass  # an older format, or cut short: made again
        else:
            if found.extra.get("inputs") == inputs:
                return found
    recordings = [replace(read(path), name=role) for role, path in event.files.items()]
    reference = event.reference or next(iter(event.files))
    found = (
        align(recordings, reference=reference, spacing=spacing)
        if len(recordings) > 1
        else Alignment(
            reference,
            {reference: reference_estimate(reference, recordings[0].duration)},
            facts={reference: RecordingFacts.of(recordings[0])},
            recordings={reference: recordings[0]},
        )
    )
    found = replace(found, extra={**found.extra, "inputs": inputs})
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        found.save(kept)
    return found


def _as_file_name(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else f"%{ord(c):x}" for c in name)
