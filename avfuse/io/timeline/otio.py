"""OpenTimelineIO: exact times as fractions of a frame, drift as a linear time warp.

A recording's picture and its sound lie on two tracks of one name, as editors keep them; what a clip's source range
says is in the file's own time, its duration in the timeline's, and the warp tells how fast the file runs through it:

    file time = source start + (timeline time - clip start) * time_scalar,    time_scalar = 1 / (1 + drift)
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import opentimelineio as otio

from avfuse.io.timeline.text import clean
from avfuse.io.timeline.tracks import Clip, Mark, Track, Tracks

_DRIFTS = 5e-7  # seconds that a clip must drift by over its length to be retimed


def otio_text(tracks: Tracks, folder: Path) -> str:
    """The JSON of `tracks`. folder: where it will be saved, for the relative paths in the metadata."""
    rate = float(tracks.rate)
    timeline = otio.schema.Timeline(
        clean(tracks.name),
        global_start_time=otio.opentime.RationalTime(0.0, rate),
        metadata={
            "avfuse": _plain({"reference": tracks.reference, "start": tracks.start, "left_out": tracks.left_out})
        },
    )
    for kind, has in (("Video", "has_picture"), ("Audio", "has_sound")):
        timeline.tracks.extend(_track(track, kind, rate, folder) for track in tracks.tracks if getattr(track, has))
    return str(timeline.to_json_string(indent=1))


def _track(track: Track, kind: str, rate: float, folder: Path) -> Any:
    found = otio.schema.Track(clean(track.name), kind=kind)
    at = 0.0
    for clip in track.clips:
        start, end = clip.place
        # Each gap from the sum of what was written: rounding does not add up.
        if start > at:
            found.append(otio.schema.Gap(duration=_time(start - at, rate)))
        found.append(_clip(clip, rate, folder))
        at = max(start, at) + (end - start)
    return found


def _clip(clip: Clip, rate: float, folder: Path) -> Any:
    media, drift = clip.media, clip.clock.drift
    zero = float(media.timecode)
    # Ranges of a file count its own frames; sound has none and takes the timeline's.
    if media.picture is not None and media.picture.rate is not None:
        rate = float(media.picture.rate)
    start, end = clip.place
    # Absolute: programs that take a relative address look for it in the folder they were started in.
    reference = otio.schema.ExternalReference(media.url, _range(zero, media.end, rate))
    reference.name = clean(media.name)
    found = otio.schema.Clip(clean(clip.name), reference, _range(zero + clip.start, end - start, rate))
    found.enabled = clip.enabled
    found.metadata["avfuse"] = _plain(clip.facts | {"path": _relative(media.path, folder)})
    if abs(drift) * (clip.end - clip.start) > _DRIFTS:
        found.effects.append(otio.schema.LinearTimeWarp(name="drift", time_scalar=1.0 / (1.0 + drift)))
    found.markers.extend(_marker(mark, zero, rate) for mark in clip.marks)
    return found


def _marker(mark: Mark, zero: float, rate: float) -> Any:
    marked = otio.opentime.TimeRange(_time(zero + mark.time, rate), _time(0.0, rate))
    found = otio.schema.Marker(clean(mark.title), marked, otio.schema.MarkerColor.RED)
    found.comment = clean(mark.note)
    return found


def _relative(path: str, folder: Path) -> str:
    if "://" in path:
        return path
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # another drive of Windows
        return path


def _time(seconds: float, rate: float) -> Any:
    return otio.opentime.RationalTime(seconds * rate, rate)


def _range(start: float, duration: float, rate: float) -> Any:
    return otio.opentime.TimeRange(_time(start, rate), _time(duration, rate))


def _plain(value: Any) -> Any:
    """Names of files may hold what no UTF-8 has."""
    if isinstance(value, dict):
        return {clean(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return clean(value) if isinstance(value, str) else value
