"""One event, from its raw files to samples: read, aligned, checked, judged, cut, encoded.

    prepare_event    an event -> a part: its samples as members of a tar file, and a row for each

The steps are plain functions; `prepare_event` is what puts them one after the other.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import tarfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from avfuse.alignment import Alignment, ClockEstimate
from avfuse.batches import Track, count_of, edges_of, extent_of, tracks_of
from avfuse.checking import SyncCheck, check_recording
from avfuse.errors import AvfuseError, ReadError, StreamError
from avfuse.manifests import Event, align_recordings, as_file_name
from avfuse.preparation.cutting import Cutter, Piece, Slot
from avfuse.preparation.deciding import (
    KEPT,
    Verdict,
    corrected,
    judge_clock,
    judge_sync,
    judge_window,
)
from avfuse.preparation.keeping import damage_of, keeping
from avfuse.preparation.recipe import Recipe
from avfuse.preparation.shaping import Shaper
from avfuse.preparation.store import fetched
from avfuse.stream import Recording

Row = dict[str, Any]


@dataclass(frozen=True)
class Part:
    """What came of an event.

    rows: of its samples, and of what was dropped; those of samples have `members`, (start, size) of their members in
    the part's tar file. errors: lines of the error manifest. seconds: of recordings that it took. took: to make.
    """

    rows: list[Row]
    errors: list[Row]
    seconds: float = 0.0
    took: float = 0.0

    def to_json(self) -> str:
        return _json({"rows": self.rows, "errors": self.errors, "seconds": self.seconds})


@dataclass(frozen=True, eq=False)
class Judged:
    """An event that was read, aligned and checked: what `cut` takes.

    tracks: modality -> its stream on the timeline. asked: modalities that were to be there. verdict: of all of it.
    """

    event: Event
    alignment: Alignment
    checks: Mapping[str, SyncCheck]
    verdict: Verdict
    tracks: Mapping[str, Track] = field(default_factory=dict)
    asked: Sequence[str] = ()


def prepare_event(event: Event, split: str, recipe: Recipe, out: IO[bytes] | None, folder: Path, spool: float) -> Part:
    """Everything from files to samples.

    split: name of the split that it belongs to. out: takes the members of the part's tar file; None cuts nothing and
    says what would be done. folder: for temporary files. spool: bytes of each stream that may be kept there.
    Raises ReadError where nothing of the event can be read, StreamError for a recipe that does not fit it.
    """
    began = time.perf_counter()
    recordings, errors = read_event(event, recipe, folder, spool)
    judged = judge_event(event, recordings, recipe)
    if judged.verdict.decision == "drop":
        rows = [_row(judged, split, None, judged.verdict, {})]
    else:
        rows = list(_rows(judged, split, recipe, out))
    damage = {name: found for name, recording in recordings.items() if (found := damage_of(recording))}
    for name, found in damage.items():
        errors.append(error_row(event, name, "Damaged", "; ".join(found)))
    if damage and recipe.limits.damaged == "drop":
        words = tuple(f"{name}: {'; '.join(found)}" for name, found in damage.items())
        rows = [_dropped(row, words) for row in rows]
    seconds = sum(recording.duration for recording in recordings.values())
    return Part(rows, errors, seconds, time.perf_counter() - began)


def error_row(event: Event, role: str | None, kind: str, message: str, attempts: int = 1) -> Row:
    """A line of the error manifest. Local folders are not told: they may differ where the job goes on."""
    source = _source_of(event, role) if role is not None else None
    for name, path in event.files.items():
        message = message.replace(path, _source_of(event, name))
    return {
        "event": event.name, "where": event.where.rpartition(os.sep)[2],
        "source": source, "kind": kind, "message": message, "attempts": attempts,
    }  # fmt: skip


def _source_of(event: Event, role: str) -> str:
    """A file as the manifest names it; events that were made in Python have paths alone."""
    return event.sources.get(role, event.files[role])


def read_event(event: Event, recipe: Recipe, folder: Path, spool: float) -> tuple[dict[str, Recording], list[Row]]:
    """Role -> recording, each decoded once; and a line for every file that cannot be read.

    Raises ReadError where one cannot and windows without it are to be dropped, or where none can.
    """
    from avfuse.io import read

    found: dict[str, Recording] = {}
    errors = []
    for role, path in event.files.items():
        local = path
        try:
            local = fetched(path, folder)
            recording = read(local)
        except AvfuseError as error:
            errors.append(error_row(event, role, type(error).__name__, str(error).replace(local, path)))
            continue
        found[role] = replace(keeping(recording, lambda: Shaper(recipe.picture), folder, spool), name=role)
    if errors and (not found or recipe.limits.lacking == "drop" or (event.reference or "") not in {"", *found}):
        raise UnreadableError(errors)
    return found, errors


class UnreadableError(ReadError):
    """Files of an event that cannot be read. rows: their lines in the error manifest."""

    def __init__(self, rows: list[Row]) -> None:
        super().__init__("; ".join(row["message"] for row in rows))
        self.rows = rows


def judge_event(event: Event, recordings: Mapping[str, Recording], recipe: Recipe) -> Judged:
    """Align and check the recordings, and decide on the event as a whole."""
    limits = recipe.limits
    alignment = align_recordings(event, recordings, spacing=recipe.spacing, max_offset=recipe.max_offset)
    clocks = {
        name: judge_clock(name, estimate, alignment.reference, limits) for name, estimate in alignment.clocks.items()
    }
    refused = {name: verdict for name, verdict in clocks.items() if verdict.decision == "drop"}
    usable = _refusing(alignment, refused)
    tracks, lacking = _tracks(usable, event, recipe)
    used = {track.recording for track in tracks.values()}
    verdict = KEPT
    for name, told in clocks.items():
        if name in used or (name in refused and recipe.streams is None):
            verdict += Verdict("keep", told.reasons) if name in refused and limits.lacking == "keep" else told
    _check_names(tracks)
    verdict += _instead(recipe, tracks, clocks)
    for reason in lacking.values():
        verdict += Verdict(limits.lacking, (reason,))
    checks: dict[str, SyncCheck] = {}
    if not tracks:
        return Judged(event, alignment, checks, verdict + Verdict("drop", ("no stream is aligned",)))
    if limits.sync and verdict.decision != "drop":
        for name in sorted(used):
            if recordings[name].of_kind("sound") and recordings[name].of_kind("picture"):
                checks[name] = check_recording(recordings[name])
        syncs = {name: judge_sync(name, check, limits) for name, check in checks.items()}
        verdict = sum(syncs.values(), start=verdict)
        usable = corrected(usable, checks, syncs)
        tracks, _ = _tracks(usable, event, recipe)
    # Text is there when somebody speaks: a window without is whole.
    texts = {name for name, track in tracks.items() if track.stream.kind == "text"}
    asked = [name for name in (tracks if recipe.streams is None else recipe.streams) if name not in texts]
    return Judged(event, usable, checks, verdict, tracks, asked)


def _check_names(modalities: Iterable[str]) -> None:
    """Raises StreamError for modalities that readers of WebDataset, which ignore case, cannot tell apart."""
    known: dict[str, str] = {}
    for name in modalities:
        other = known.setdefault(_as_extension(name).lower(), name)
        if other != name:
            raise StreamError(f"{other!r} and {name!r} differ in case alone; expected names that differ otherwise")


def _instead(recipe: Recipe, tracks: Mapping[str, Track], clocks: Mapping[str, Verdict]) -> Verdict:
    """Why a modality comes from another recording than the first one named."""
    reasons: list[str] = []
    for name, choices in (recipe.streams or {}).items():
        if name not in tracks or isinstance(choices, str):
            continue
        for choice in choices:
            role = choice.rpartition("/")[0]
            if role == tracks[name].recording:
                break
            reasons += [reason for reason in clocks[role].reasons if reason not in reasons] if role in clocks else []
    return Verdict("keep", tuple(reasons))


def _refusing(alignment: Alignment, refused: Mapping[str, Verdict]) -> Alignment:
    """The alignment without the clocks that do not keep the limits."""
    clocks = {
        name: ClockEstimate("no_match", message=refused[name].reasons[0]) if name in refused else estimate
        for name, estimate in alignment.clocks.items()
    }
    return replace(alignment, clocks=clocks)


def _tracks(alignment: Alignment, event: Event, recipe: Recipe) -> tuple[dict[str, Track], dict[str, str]]:
    """Modality -> its stream; and why those that are lacking cannot be had."""
    found: dict[str, Track] = {}
    lacking: dict[str, str] = {}
    left_out = alignment.left_out
    if recipe.streams is None:
        every = {
            f"{name}/{stream.name}": [f"{name}/{stream.name}"]
            for name in alignment.clocks if name not in left_out for stream in alignment.recording(name).streams
        }  # fmt: skip
    else:
        every = {name: [s] if isinstance(s, str) else list(s) for name, s in recipe.streams.items()}
    for modality, choices in every.items():
        there = [choice for choice in choices if choice.rpartition("/")[0] in alignment.clocks]
        if not there:
            lacking[modality] = f"{modality}: {event.name} has no recording {choices[0].rpartition('/')[0]!r}"
            continue
        try:
            found |= tracks_of(alignment, {modality: there}, None, {}, False)
        except StreamError as error:
            lacking[modality] = str(error).removeprefix("windows: ")
    return found, lacking


def slots_of(judged: Judged, recipe: Recipe) -> list[Slot]:
    """The windows of an event, in order; none where none fits in."""
    begin, stop = extent_of(judged.tracks, recipe.timeline)
    event = judged.event
    begin = begin if event.start is None else max(begin, event.start)
    stop = stop if event.end is None else min(stop, event.end)
    if recipe.duration is None:
        return [Slot(begin, stop)] if stop > begin else []
    hop = recipe.hop or recipe.duration
    edges = list(edges_of(begin, recipe.duration, hop, count_of(begin, stop, recipe.duration, hop)))
    following = [*(start for start, _ in edges[1:]), math.inf][: len(edges)]
    return [Slot(start, end, then) for (start, end), then in zip(edges, following, strict=True)]


def _rows(judged: Judged, split: str, recipe: Recipe, out: IO[bytes] | None) -> Iterator[Row]:
    slots = slots_of(judged, recipe)
    if not slots:
        begin, stop = extent_of(judged.tracks, recipe.timeline)
        wanted = "a sample" if recipe.duration is None else f"a window of {recipe.duration:g} s"
        reason = f"{wanted} does not fit in: all streams are there from {begin:.3f} to {stop:.3f} s"
        yield _row(judged, split, None, judged.verdict + Verdict("drop", (reason,)), {})
        return
    if out is None:
        for k, slot in enumerate(slots):
            yield _row(judged, split, (k, slot), judged.verdict, {})
        return
    cutters = {name: Cutter(track, recipe, recipe.transforms.get(name)) for name, track in judged.tracks.items()}
    position = 0
    for k, slot in enumerate(slots):
        pieces = {name: piece for name, cutter in cutters.items() if (piece := cutter.take(slot)) is not None}
        facts = {name: (piece.coverage, _std(judged, cutters[name].track, piece)) for name, piece in pieces.items()}
        verdict = judged.verdict + judge_window(facts, judged.asked, recipe.limits)
        row = _row(judged, split, (k, slot), verdict, pieces)
        if verdict.decision != "drop":
            begin = position
            for data in _members(row, pieces):
                out.write(data)
                position += len(data)
            row = {**row, "members": [begin, position - begin]}
        yield row


def _std(judged: Judged, track: Track, piece: Piece) -> float:
    """Of the times of a stream: that of the clock, and that of the delay by which it was corrected."""
    check = judged.checks.get(track.recording)
    facts = judged.alignment.facts.get(track.recording)
    moved = facts is not None and track.stream.name in facts.streams
    return math.hypot(piece.std, (check.std or 0.0) if check is not None and moved else 0.0)


def _row(
    judged: Judged, split: str, window: tuple[int, Slot] | None, verdict: Verdict, pieces: Mapping[str, Piece]
) -> Row:
    event, alignment = judged.event, judged.alignment
    start, end = (window[1].start, window[1].end) if window is not None else (None, None)
    name = as_file_name(event.name)
    return {
        "key": name if window is None else f"{name}-{window[0]:05d}",
        "event": event.name,
        "split": split,
        "label": event.label if start is None or end is None else event.label_of(start, end),
        "extra": dict(event.extra),
        "shard": None,
        "start": start,
        "duration": None if start is None or end is None else end - start,
        "reference": alignment.reference,
        "decision": verdict.decision,
        "reasons": list(verdict.reasons),
        "streams": {modality: _stream_facts(judged, modality, piece) for modality, piece in pieces.items()},
        "sync": {
            role: {"verdict": c.verdict, "sound_delay": c.sound_delay, "std": c.std, "confidence": c.confidence,
                   "message": c.message, "likeliest": c.likeliest}
            for role, c in judged.checks.items()
        },
    }  # fmt: skip


def _stream_facts(judged: Judged, modality: str, piece: Piece) -> Row:
    track = judged.tracks[modality]
    estimate = judged.alignment.clocks[track.recording]
    line = min(estimate.segments, key=lambda s: abs(0.5 * (s.start + s.end) - piece.source_start), default=None)
    file = piece.file
    return {
        "recording": track.recording,
        "stream": track.stream.name,
        "source": _source_of(judged.event, track.recording),
        "source_start": piece.source_start,
        "kind": track.stream.kind,
        "file": f"{_as_extension(modality)}{file.suffix}",
        "codec": file.codec,
        "size": None if file.size is None else list(file.size),
        "time_base": str(file.time_base),
        "start": piece.start,
        "samples": piece.samples,
        "rate": piece.rate,
        "offset": line.offset if line is not None else 0.0,
        "drift": line.drift if line is not None else 0.0,
        "moved": judged.alignment.facts[track.recording].streams.get(track.stream.name, 0.0),
        "std": _std(judged, track, piece),
        "confidence": piece.confidence,
        "evidence": list(estimate.evidence),
        "coverage": piece.coverage,
        "valid": [list(span) for span in piece.valid],
        "clipped": piece.clipped,
        "bytes": len(file.data),
        "sha256": hashlib.sha256(file.data).hexdigest(),
    }


def _as_extension(modality: str) -> str:
    """A modality as part of a file's extension, whatever its letters: "camera/sound" is "camera.sound"."""
    found = ".".join(as_file_name(part) for part in modality.split("/"))
    if len(found) <= _LONGEST:
        return found
    return f"{found[: _LONGEST // 2]}_xh{hashlib.sha256(modality.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"


_LONGEST = 80  # bytes: with a key and a suffix, a name that every file system takes


def _members(row: Row, pieces: Mapping[str, Piece]) -> Iterator[bytes]:
    """The sample as members of a tar file: its row with the times of frames, then its streams."""
    times = {name: piece.times.tolist() for name, piece in pieces.items() if piece.times is not None}
    told = {key: value for key, value in row.items() if key not in ("shard", "members")}
    yield from member(f"{row['key']}.json", _json({**told, "times": times}).encode())
    for name, piece in pieces.items():
        yield from member(f"{row['key']}.{row['streams'][name]['file']}", piece.file.data)


def member(name: str, data: bytes) -> Iterator[bytes]:
    """A file as it stands in a tar file; nothing of the machine or the moment is in it."""
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = len(data), 0, 0o644
    yield info.tobuf(tarfile.GNU_FORMAT)
    yield data
    yield bytes(-len(data) % tarfile.BLOCKSIZE)


def dropped_row(event: Event, split: str, reasons: Sequence[str]) -> Row:
    """Of an event of which nothing could be read."""
    return {
        "key": as_file_name(event.name), "event": event.name, "split": split, "label": event.label,
        "extra": dict(event.extra), "shard": None, "start": None, "duration": None, "reference": event.reference,
        "decision": "drop", "reasons": list(reasons), "streams": {}, "sync": {},
    }  # fmt: skip


def _dropped(row: Row, reasons: Sequence[str]) -> Row:
    found = {key: value for key, value in row.items() if key != "members"}
    return {**found, "decision": "drop", "reasons": [*row["reasons"], *reasons]}


def _json(document: Any) -> str:
    return json.dumps(document, ensure_ascii=False, allow_nan=False)
