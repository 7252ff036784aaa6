"""An alignment as tracks of clips on one timeline, in exact time, before any format rounds it.

    0 s                                        end       + 10 s                  + 10 s
    cam       ████████████████
    recorder       █████████  ██████   (a pause)
    far                                                  ████████ an island
    jingle                                                                       ▒▒▒▒▒ not aligned, switched off

Time 0 is the earliest start of what is on the reference's clock. What shares nothing with it comes after the end, a
clear gap away, so that nobody takes its place for a known one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Any

from avfuse.alignment import Alignment, ClockEstimate, RecordingFacts, format_std
from avfuse.clock import ClockMap, PiecewiseClock, Segment
from avfuse.errors import ReadError, StreamError
from avfuse.io.timeline.media import Media, NoMediaError, media_of, rendered_media
from avfuse.io.timeline.rates import DEFAULT, given_rate, timeline_rate

_APART = 10.0  # seconds between the aligned recordings and each that has no known place beside them
_SURE = 0.99  # confidence below which a person should look
_LARGE_STD = 0.02  # seconds: half a frame at 25 frames/s
_TOUCHING = 1e-9  # seconds
_SAID = 5e-4  # seconds, of a break that is more than a change of drift
_SIZE = (1920, 1080)  # of a timeline without pictures: Final Cut Pro wants one


@dataclass(frozen=True)
class Mark:
    """A place that a person should look at. time: seconds on the media's clock."""

    time: float
    title: str
    note: str = ""


@dataclass(frozen=True, eq=False)
class Clip:
    """A piece of a file: start <= t < end on the media's clock, shown at clock(t) of the timeline.

    facts: what the alignment says of it, for the metadata of formats that have them.
    """

    name: str
    media: Media
    start: float
    end: float
    clock: ClockMap
    enabled: bool = True
    marks: tuple[Mark, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def place(self) -> tuple[float, float]:
        """Seconds of the timeline that it covers."""
        return float(self.clock(self.start)), float(self.clock(self.end))


@dataclass(frozen=True, eq=False)
class Track:
    """Clips that follow each other: the picture of a recording, its sound, or both together."""

    name: str
    has_picture: bool
    has_sound: bool
    clips: tuple[Clip, ...]


@dataclass(frozen=True, eq=False)
class Tracks:
    """start: reference seconds at time 0. rate: frames per second. size: of the picture, in pixels."""

    name: str
    reference: str
    start: float
    rate: Fraction
    size: tuple[int, int]
    tracks: tuple[Track, ...]
    left_out: dict[str, str]
    notes: tuple[str, ...]


def tracks_of(alignment: Alignment, name: str, rendered: Path | None, rate: float | None, whole_frames: bool) -> Tracks:
    """Everything in `alignment` that an editor can show.

    rendered: folder of the files that `render` wrote, shown in place of the recordings on the reference's clock.
    rate: of the timeline, frames per second; None takes that of the reference's picture.
    whole_frames: begin less than a frame later, so that the reference's picture lies on whole frames: what is rounded
        to frames is then off by half a frame at most beside the reference too, and not by a whole one.
    Raises StreamError where nothing can be shown, ReadError where rendered files are missing or of another alignment.
    """
    media, left_out = _media(alignment)
    places = {n: _clips(alignment, n, media[n]) for n in sorted(media) if alignment.clocks[n].clock is not None}
    for n in [n for n, placed in places.items() if not all(placed.values())]:
        left_out[n] = "its clock covers none of it"
        del places[n], media[n]
    islands: dict[str, list[str]] = {}
    # The reference first, then by name: the order in which recordings were given changes nothing.
    for n in sorted(places, key=lambda n: (alignment.clocks[n].status != "reference", n)):
        islands.setdefault(alignment.clocks[n].reference or alignment.reference, []).append(n)
    main = islands.pop(alignment.reference, [])
    if not main:
        reasons = "; ".join(f"{n}: {why}" for n, why in left_out.items())
        raise StreamError(f"export: nothing on the clock of {alignment.reference} can be shown ({reasons or 'no map'})")

    start, end = _extent(places, main)
    leader, fps, size = _format(alignment, media, main, rate)
    if whole_frames and leader is not None and rendered is None:
        led = _extent(places, [leader])[0]
        start = led - math.floor((led - start) * float(fps) + 1e-6) / float(fps)
    frame = float(1 / fps)
    if rendered is not None:
        shown = _rendered(alignment, main, rendered, end - start)
        media |= {n: found for n, (found, _) in shown.items()}
        tracks = [track for n in main for track in shown[n][1]]
    else:
        tracks = [track for n in main for track in _tracks(n, places[n], -start, frame)]
    end -= start
    for reference, members in sorted(islands.items()):
        first, last = _extent(places, members)
        at = math.ceil(end + _APART)
        mark = Mark(0.0, f"island of {reference}", f"shares nothing with {alignment.reference}: its place is not known")
        for n in members:
            marked = _marked(places[n], mark) if n == members[0] else places[n]
            tracks += _tracks(n, marked, at - first, frame)
        end = at + last - first
    for n in sorted(media):
        if n not in places:
            at = math.ceil(end + _APART)
            clip = _parked(alignment, n, media[n], at, start)
            tracks.append(Track(f"{n} (not aligned)", clip.media.picture is not None, bool(clip.media.sounds), (clip,)))
            end = at + clip.end - clip.start
    notes = tuple(f"{n}: {media[n].note}" for n in sorted(media) if media[n].note)
    return Tracks(name, alignment.reference, start, fps, size, tuple(tracks), left_out, notes)


def _media(alignment: Alignment) -> tuple[dict[str, Media], dict[str, str]]:
    found, left_out = {}, {}
    for name in sorted(alignment.clocks):
        try:
            found[name] = media_of(alignment, name)
        except NoMediaError as error:
            left_out[name] = str(error)
    return found, left_out


# A stream's name, or None for all of a recording, and its clips with clocks onto the reference.
_Placed = dict[str | None, list[Clip]]


def _clips(alignment: Alignment, name: str, media: Media) -> _Placed:
    """The clips of a recording; those of picture and sound apart where the alignment corrects one against the other."""
    estimate = alignment.clocks[name]
    reference = estimate.reference or alignment.reference
    corrections = alignment.facts.get(name, RecordingFacts()).streams
    shifts: dict[str | None, float] = {}
    if media.picture is not None:
        shifts["picture"] = corrections.get("picture", 0.0)
    if media.sounds:
        shifts["sound"] = corrections.get("sound", 0.0)
    if len(set(shifts.values())) == 1:
        shifts = {None: next(iter(shifts.values()))}
    return {stream: list(_pieces(name, reference, estimate, media, shift)) for stream, shift in shifts.items()}


def _pieces(name: str, reference: str, estimate: ClockEstimate, media: Media, shift: float) -> Iterator[Clip]:
    """One clip per segment. shift: seconds that correct the stream inside its recording."""
    clock = estimate.map
    onto_recording = ClockMap(shift - media.zero)  # from the media's clock
    segments = (clock @ onto_recording).segments if isinstance(clock, PiecewiseClock) else ()
    if not segments:
        assert isinstance(clock, ClockMap)
        line = clock @ onto_recording
        segments = (Segment(media.zero, media.end, line.offset, line.drift),)
    before: Segment | None = None
    for k, segment in enumerate(segments):
        # The end lines go on; what the file does not hold cannot be shown.
        start = media.zero if k == 0 else max(segment.start, media.zero)
        end = media.end if k == len(segments) - 1 else min(segment.end, media.end)
        if end - start <= _TOUCHING:
            continue
        own = (start + shift - media.zero, end + shift - media.zero)
        marks = list(_doubts(estimate, start)) if before is None else [_break(before, segment, start, own[0])]
        marks += _looseness(estimate, start, own)
        facts = _facts(name, reference, estimate, media, segment.map @ onto_recording.inverse(), own)
        yield Clip(name, media, start, end, segment.map, marks=tuple(marks), facts=facts)
        before = Segment(segment.start, end, segment.offset, segment.drift)


def _facts(
    name: str, reference: str, estimate: ClockEstimate, media: Media, line: ClockMap, own: tuple[float, float]
) -> dict[str, Any]:
    std = float(estimate.std_at((own[0] + own[1]) / 2))
    return {
        "recording": name,
        "source": media.path,
        "status": estimate.status,
        "reference": reference,
        "offset": line.offset,
        "drift": line.drift,
        "std": std if math.isfinite(std) else None,
        "drift_std": estimate.drift_std,
        "confidence": estimate.confidence,
        "message": estimate.message,
    }


def _doubts(estimate: ClockEstimate, time: float) -> Iterator[Mark]:
    if estimate.status == "aligned" and estimate.confidence < _SURE:
        # Cut and not rounded: what is below 0.99 does not read as that.
        confidence = math.floor(estimate.confidence * 1e3) / 1e3
        yield Mark(time, f"check: confidence {confidence:.3f}", "the chance that this place is right")
    if estimate.message:
        yield Mark(time, "check: see the note", estimate.message)


def _looseness(estimate: ClockEstimate, time: float, own: tuple[float, float]) -> Iterator[Mark]:
    # The end of a segment is the start of the next one, with another std.
    ends = (own[0], math.nextafter(own[1], own[0]))
    std = max((float(s) for s in estimate.std_at(ends) if math.isfinite(s)), default=0.0)
    if std > _LARGE_STD:
        yield Mark(time, f"check: placed to ± {format_std(std)}", "one standard deviation, where it is largest")


def _break(before: Segment, segment: Segment, time: float, own: float) -> Mark:
    cut = time - before.end
    missing = float(segment.map(time)) - float(before.map(before.end))
    found = [f"{cut:.3f} s of the recording cut out"] if cut > _SAID else []
    if missing > _SAID:
        found.append(f"{missing:.3f} s missing in it")
    elif missing < -_SAID:
        found.append(f"goes back by {-missing:.3f} s")
    return Mark(time, "break: " + (", ".join(found) or "the drift changes"), f"at {own:.3f} s of the recording")


def _marked(placed: _Placed, mark: Mark) -> _Placed:
    """The same clips, the first of each with a further mark at its start."""
    found: _Placed = {}
    for stream, clips in placed.items():
        first = clips[0]
        marks = (Mark(first.start, mark.title, mark.note), *first.marks)
        found[stream] = [replace(first, marks=marks), *clips[1:]]
    return found


def _extent(places: dict[str, _Placed], names: list[str]) -> tuple[float, float]:
    """Reference seconds from the earliest start of the clips of `names` to the latest end."""
    spans = [clip.place for n in names for clips in places[n].values() for clip in clips]
    return min(s[0] for s in spans), max(s[1] for s in spans)


def _tracks(name: str, placed: _Placed, shift: float, frame: float) -> Iterator[Track]:
    """The tracks of one recording; more than one of a kind where a clock that was set back makes clips overlap.

    shift: seconds from the reference's clock to the timeline's. Overlaps below half a frame are no such thing: there
    the later clip begins where the earlier one ends.
    """
    for stream, clips in placed.items():
        rows: list[list[Clip]] = []
        for clip in sorted((replace(c, clock=ClockMap(shift) @ c.clock) for c in clips), key=lambda c: c.place):
            start = clip.place[0]
            for row in rows:
                ends = row[-1].place[1]
                if ends <= start + frame / 2:
                    rest = replace(clip, start=max(clip.start, float(clip.clock.inverse()(ends))))
                    row += [rest] if rest.end - rest.start > _TOUCHING else []
                    break
            else:
                rows.append([clip])
        for number, row in zip(count(1), rows, strict=False):
            title = name if number == 1 else f"{name} ({number})"
            media = row[0].media
            has_picture = media.picture is not None and stream in (None, "picture")
            yield Track(title, has_picture, bool(media.sounds) and stream in (None, "sound"), tuple(row))


def _parked(alignment: Alignment, name: str, media: Media, at: float, start: float) -> Clip:
    """A recording without a place: switched off, with the reason and, where there are some, the places it may have."""
    estimate = alignment.clocks[name]
    note = [estimate.message] if estimate.message else []
    note += [
        f"could start at {c.offset - start:.3f} s of this timeline (confidence {c.confidence:.2g})"
        for c in estimate.candidates
    ]
    mark = Mark(media.zero, f"not aligned: {estimate.status.replace('_', ' ')}", "; ".join(note))
    facts = {
        "recording": name,
        "source": media.path,
        "status": estimate.status,
        "reference": estimate.reference or alignment.reference,
        "confidence": estimate.confidence,
        "message": estimate.message,
        "candidates": [{"offset": c.offset, "drift": c.drift, "confidence": c.confidence} for c in estimate.candidates],
    }
    clock = ClockMap(at - media.zero)
    return Clip(name, media, media.zero, media.end, clock, enabled=False, marks=(mark,), facts=facts)


def _rendered(
    alignment: Alignment, names: list[str], folder: Path, longest: float
) -> dict[str, tuple[Media, list[Track]]]:
    """Rendered files all start at time 0 and run alike."""
    found: dict[str, tuple[Media, list[Track]]] = {}
    taken: dict[str, str] = {}
    for name in names:
        media = rendered_media(folder, name, longest)
        if media.path in taken:
            raise ReadError(
                f"{media.path}: is it {name} or {taken[media.path]}? rename one of the two and render again"
            )
        taken[media.path] = name
        estimate = alignment.clocks[name]
        line = estimate.segments[0].map
        facts = _facts(name, alignment.reference, estimate, media, line, estimate.span) | {"rendered": True}
        marks = (*_doubts(estimate, media.zero), *_looseness(estimate, media.zero, estimate.span))
        clip = Clip(name, media, media.zero, media.end, ClockMap(), marks=marks, facts=facts)
        found[name] = media, [Track(name, media.picture is not None, bool(media.sounds), (clip,))]
    return found


def _format(
    alignment: Alignment, media: dict[str, Media], names: list[str], rate: float | None
) -> tuple[str | None, Fraction, tuple[int, int]]:
    """The recording whose picture leads, the reference or else the longest, and rate and size of the timeline."""

    def rank(name: str) -> tuple[bool, float, str]:
        return name != alignment.reference, media[name].zero - media[name].end, name

    pictures = [(n, p) for n in sorted(names, key=rank) if (p := media[n].picture) is not None]
    fps = next((timeline_rate(float(p.rate)) for _, p in pictures if p.rate is not None), DEFAULT)
    size = next((p.size for _, p in pictures if p.size is not None), _SIZE)
    return pictures[0][0] if pictures else None, fps if rate is None else given_rate(rate), size
