"""Alignments as timelines that editing programs open.

media, rates  what an editor must know of a file; frame rates and time code
tracks        which clip lies where, in exact time
otio, fcpxml  the two formats
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from avfuse.alignment import Alignment
from avfuse.errors import ReadError, WriteError
from avfuse.files import check_spares, replacing
from avfuse.io.timeline.tracks import tracks_of

FORMATS = (".otio", ".fcpxml")

__all__ = ["FORMATS", "Exported", "check_timeline", "export"]


@dataclass(frozen=True)
class Exported:
    """The timeline that was written.

    start: seconds of the reference's clock at time 0 of the timeline. rate: frames per second.
    rounding: recording -> seconds by which each of its clips lies off, at most; empty for formats with exact times.
    left_out: recording -> why it is not on the timeline. notes: lines on what a person should know.
    """

    path: Path
    start: float
    rate: Fraction
    rounding: Mapping[str, tuple[float, ...]]
    left_out: Mapping[str, str]
    notes: tuple[str, ...]


def export(
    alignment: Alignment,
    path: str | os.PathLike[str],
    *,
    rendered: str | os.PathLike[str] | None = None,
    rate: float | None = None,
) -> Exported:
    """Write `alignment` as a timeline: OpenTimelineIO (`.otio`) or FCPXML (`.fcpxml`), by the suffix of `path`.

    A track per recording; gaps stay gaps; drift becomes a retime. Time 0 is the earliest start of what is on the
    reference's clock; islands follow 10 s after its end, then refused recordings, switched off. Doubts become
    markers. OpenTimelineIO has exact times; FCPXML whole frames, counted from the reference's, and a drift only where
    it comes to more than half a frame.

    rendered: folder that `render` wrote, for editors that drop retimes; clips of aligned recordings show its files.
    rate: frames per second of the timeline; that of the reference's picture otherwise, 25 without pictures.
    Raises WriteError for other suffixes and places that cannot be written to, ReadError where rendered files are
    missing, StreamError for rates that editors do not have and where nothing can be shown.
    """
    check_timeline(path)
    target = Path(path)
    folder = None if rendered is None else Path(rendered)
    if folder is not None and not folder.is_dir():
        raise ReadError(f"{folder}: no such folder; expected the one that 'avfuse render' wrote")
    check_spares(path, alignment.sources)
    exact = target.suffix.lower() == ".otio"
    tracks = tracks_of(alignment, target.stem, folder, rate, whole_frames=not exact)
    check_spares(path, {clip.media.path for track in tracks.tracks for clip in track.clips})
    rounding: Mapping[str, tuple[float, ...]] = {}
    notes = list(tracks.notes)
    if exact:
        from avfuse.io.timeline.otio import otio_text

        text = otio_text(tracks, target.parent)
    else:
        from avfuse.io.timeline.fcpxml import fcpxml_text

        text, rounding, more = fcpxml_text(tracks)
        notes += more
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return Exported(target, tracks.start, tracks.rate, rounding, tracks.left_out, tuple(notes))


def check_timeline(path: str | os.PathLike[str]) -> None:
    """Raise WriteError where `path` names no kind of timeline that can be written."""
    if Path(path).suffix.lower() not in FORMATS:
        raise WriteError(f"{path}: unknown kind of timeline; expected a name that ends in {' or '.join(FORMATS)}")
