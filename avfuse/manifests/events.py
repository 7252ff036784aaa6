"""Events: recordings that belong together, and their alignment."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

from avfuse.alignment import Alignment, RecordingFacts, load_alignment, reference_estimate
from avfuse.errors import AvfuseError, ReadError
from avfuse.manifests.places import is_url
from avfuse.stream import Recording

SPLITS = ("train", "validation", "test")
_LONGEST = 149  # bytes of a file name made of an event's: room is left for what is added to it, of 255
_HASHED = 16  # bytes of the hash at the end of a name that was too long


@dataclass(frozen=True)
class Span:
    """start, end: seconds of the event's timeline, start <= t < end. label: what is true of it."""

    start: float
    end: float
    label: Any


@dataclass(frozen=True)
class Event:
    """Recordings of one event.

    files: role -> path or URL. label: of the whole event; None where there is none. spans: labels of parts of it.
    split: "train", "validation", "test", or None where that is left open. reference: role whose clock is the timeline;
    None takes the first one. where: file and line, for messages. extra: free metadata.
    start, end: seconds of the event's timeline; only what lies between is used. None is all there is.
    group: what it shares with others that may not be in another split, such as a speaker or a site.
    sources: role -> path as seen from where the manifest lies, with "/", so that it stays as it is when all is moved;
    that in `files` where none is given.
    """

    name: str
    files: Mapping[str, str]
    label: Any = None
    spans: tuple[Span, ...] = ()
    split: str | None = None
    reference: str | None = None
    where: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)
    start: float | None = None
    end: float | None = None
    group: str | None = None
    sources: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sources", {role: self.sources.get(role, path) for role, path in self.files.items()})

    def label_of(self, start: float, end: float) -> Any:
        """Of a window: the span that holds its middle, else the event's own label; None where neither is there."""
        middle = 0.5 * (start + end)
        return next((span.label for span in self.spans if span.start <= middle < span.end), self.label)


def align_event(event: Event, cache: Path | None = None, *, spacing: float = 0.0) -> Alignment:
    """Its recordings on one timeline, named after their roles.

    cache: folder that keeps the alignment; it is taken again where the files are still the same. spacing: metres, see
    `avfuse.align`. Raises ReadError for files that cannot be read, URLs among them.
    """
    from avfuse.io import read

    for role, path in event.files.items():
        if is_url(path):
            raise ReadError(f"{event.where}: {role}: {path}: is a URL; expected a file on this machine, copy it first")
    inputs: dict[str, Any] = {"reference": event.reference, "spacing": spacing}
    inputs["stamps"] = {role: [os.stat(path).st_size, os.stat(path).st_mtime_ns] for role, path in event.files.items()}
    kept = None if cache is None else cache / f"{as_file_name(event.name)}.json"
    if kept is not None and kept.exists():
        try:
            found = load_alignment(kept)
        except AvfuseError:
            pass  # an older format, or cut short: made again
        else:
            if found.extra.get("inputs") == inputs:
                return found
    recordings = {role: replace(read(path), name=role) for role, path in event.files.items()}
    found = align_recordings(event, recordings, spacing=spacing)
    found = replace(found, extra={**found.extra, "inputs": inputs})
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        found.save(kept)
    return found


def align_recordings(
    event: Event, recordings: Mapping[str, Recording], *, spacing: float = 0.0, max_offset: float | None = None
) -> Alignment:
    """Recordings, by their roles, on the clock of the event's reference, or of the first one; also a single one."""
    from avfuse.aligning import align

    reference = event.reference or next(iter(recordings))
    if len(recordings) > 1:
        return align(list(recordings.values()), reference=reference, spacing=spacing, max_offset=max_offset)
    alone = recordings[reference]
    return Alignment(
        reference,
        {reference: reference_estimate(reference, alone.duration)},
        facts={reference: RecordingFacts.of(alone)},
        recordings={reference: alone},
    )


def as_file_name(name: str) -> str:
    """`name` in ASCII letters, digits, "-" and "_" alone, fewer than 150 of them; other names give other results.

    Other bytes of its UTF-8 become `_x` and two hexadecimal digits, and so does the "_" of a "_x" that is in the name.
    What is too long ends in `_xh` and a hash: "h" is no such digit, so no short name looks like that.
    """
    raw = name.encode("utf-8", "surrogatepass")
    escaped = re.sub(rb"_(?=x)|[^A-Za-z0-9_-]", lambda found: b"_x%02x" % found[0][0], raw).decode("ascii")
    if len(escaped) <= _LONGEST:
        return escaped
    return f"{escaped[: _LONGEST - 3 - 2 * _HASHED]}_xh{blake2b(raw, digest_size=_HASHED).hexdigest()}"
