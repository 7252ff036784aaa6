"""FCPXML 1.9, as Final Cut Pro and DaVinci Resolve read it: everything on whole frames.

    sequence > spine > gap as long as the timeline
        lane 2    cam-b      asset-clip connected to the gap
        lane 1    cam-a
        lane -1   recorder

Times are rational seconds. On the timeline they are whole frames; inside a file, whole frames of the timeline for
pictures and whole samples for sound alone, which is how sound keeps its place to the sample. A clip that drifts by more
than half a frame over its length, or that would be off by more than half a frame anywhere, is retimed by a `timeMap`:
a straight line through the whole file from (0, 0) to (its length on the timeline, its length); the clip's `start` is
counted on the retimed side.

Structure after Apple's FCPXML reference and its document type definition (developer.apple.com, "FCPXML reference").
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from xml.etree import ElementTree

from avfuse.alignment import format_std
from avfuse.io.timeline.media import Media
from avfuse.io.timeline.text import clean
from avfuse.io.timeline.tracks import Clip, Track, Tracks

_TINY = 1e-6  # of a frame; what is nearer to a whole one than that is meant to be it
_HALF = 0.5 + _TINY
_TICK = Fraction(1, 10**6)  # seconds; what the length of a retimed file is rounded to
# What conform-rate has names for; without a name it still says that the speed is to be kept.
_CONFORMS = {
    Fraction(24000, 1001): "23.98", Fraction(24): "24", Fraction(25): "25", Fraction(30000, 1001): "29.97",
    Fraction(30): "30", Fraction(48000, 1001): "47.95", Fraction(48): "48", Fraction(50): "50",
    Fraction(60000, 1001): "59.94", Fraction(60): "60",
}  # fmt: skip
_RATES = {32000: "32k", 44100: "44.1k", 48000: "48k", 88200: "88.2k", 96000: "96k", 176400: "176.4k", 192000: "192k"}


@dataclass(frozen=True)
class Placed:
    """A clip on whole frames.

    first, last: frames of the timeline, half-open.
    start: seconds into the file; where it is retimed, counted on the timeline's side.
    stretched: seconds that the whole file lasts on the timeline; None where it is not retimed.
    slope: of the retime, timeline seconds per second of the file.
    rounding: seconds by which any of it is off, at most.
    """

    first: int
    last: int
    start: Fraction
    stretched: Fraction | None
    slope: Fraction
    rounding: float


def placed(clip: Clip, rate: Fraction, whole_frames: bool, after: int = 0) -> Placed | None:
    """Where `clip` goes; None for one that fills no frame.

    whole_frames: whether its place in the file is rounded to frames too (pictures), or to samples (sound alone).
    after: the first frame that is free.
    """
    straight = _placed(clip, rate, whole_frames, after, None)
    drifts = abs(clip.clock.drift) * (clip.end - clip.start)
    if straight is None or max(straight.rounding, drifts) <= _HALF / rate:
        return straight
    length = _length(clip.media, rate)
    stretched = _nearest(float(length) * (1.0 + clip.clock.drift) / float(_TICK)) * _TICK
    return _placed(clip, rate, whole_frames, after, stretched) or straight


def _placed(clip: Clip, rate: Fraction, whole_frames: bool, after: int, stretched: Fraction | None) -> Placed | None:
    length = _length(clip.media, rate)
    slope = Fraction(1) if stretched is None else stretched / length
    begin, end = (t * float(rate) for t in clip.place)
    if whole_frames:
        tick = 1 / rate
        first, last = _nearest(begin), _nearest(end)
        # Half a frame of what belongs to no clip may show at a cut, but nothing beyond the ends of the file.
        lowest = max(clip.start * float(slope) - float(tick) / 2, 0.0)
        highest = min(clip.end * float(slope) + float(tick) / 2, float(length * slope))
    else:
        tick = Fraction(1, clip.media.sound_rate or 48000)
        # A frame that lacks less than half a sample is whole.
        lacks = float(rate * tick) / 2
        first, last = math.ceil(begin - lacks), math.floor(end + lacks)
        lowest, highest = clip.start * float(slope), clip.end * float(slope)
    first = max(first, after)
    back = clip.clock.inverse()
    while last > first:
        duration = (last - first) / rate
        least = math.ceil(lowest / float(tick) - _TINY)
        most = math.floor((highest - float(duration)) / float(tick) + (_TINY if whole_frames else _HALF))
        if least > most:
            last -= 1
            continue
        # Right in the middle: drift that is left out then shows by half at each end.
        wanted = float(back(float((first + last) / rate / 2))) * float(slope) - float(duration / 2)
        best = _nearest(wanted / float(tick))
        start = min(max(best, least), most) * tick
        ends = ((first / rate, start), (last / rate, start + duration))
        rounding = max(abs(float(at) - float(clip.clock(float(shown / slope)))) for at, shown in ends)
        if rounding > _HALF / rate and best > most:
            last -= 1  # rather a frame less than all of them in the wrong place
        elif rounding > _HALF / rate and best < least:
            first += 1
        else:
            return Placed(first, last, start, stretched, slope, rounding)
    return None


def _nearest(x: float) -> int:
    return math.floor(x + 0.5)


def _length(media: Media, rate: Fraction) -> Fraction:
    """Seconds that the file lasts, in whole frames or samples of its own."""
    if media.picture is not None:
        own = media.picture.rate or rate
        return max(1, math.floor(media.end * float(own) + 1e-3)) / own
    own = Fraction(media.sound_rate or 48000)
    return max(1, _nearest(media.end * float(own))) / own


def fcpxml_text(tracks: Tracks) -> tuple[str, dict[str, tuple[float, ...]], list[str]]:
    """The document, seconds by which each clip of each recording is rounded, and notes on what was left out."""
    return _Document(tracks).text()


class _Document:
    def __init__(self, tracks: Tracks) -> None:
        self._tracks = tracks
        self._rate = tracks.rate
        self._resources = ElementTree.Element("resources")
        self._formats: dict[tuple[Fraction, tuple[int, int]], str] = {}
        self._assets: dict[str, str] = {}
        self._rounding: dict[str, tuple[float, ...]] = {}
        self._notes: list[str] = []
        self._format = self._format_id(tracks.rate, tracks.size)

    def text(self) -> tuple[str, dict[str, tuple[float, ...]], list[str]]:
        gap = ElementTree.Element("gap", name="Gap", offset="0s", start="0s")
        length = max(1, *(self._add(gap, track, lane) for track, lane in self._lanes()))
        gap.set("duration", self._frames(length))
        root = ElementTree.Element("fcpxml", version="1.9")
        root.append(self._resources)
        event = ElementTree.SubElement(ElementTree.SubElement(root, "library"), "event", name="avfuse")
        project = ElementTree.SubElement(event, "project", name=clean(self._tracks.name))
        sequence = ElementTree.SubElement(
            project,
            "sequence",
            format=self._format,
            duration=self._frames(length),
            tcStart="0s",
            tcFormat="NDF",
            audioLayout="stereo",
            audioRate=self._audio_rate(),
        )
        ElementTree.SubElement(sequence, "spine").append(gap)
        ElementTree.indent(root, " ")
        text = ElementTree.tostring(root, encoding="unicode")
        return f'<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE fcpxml>\n{text}\n', self._rounding, self._notes

    def _lanes(self) -> Iterator[tuple[Track, int]]:
        """Pictures above the gap, sound alone below it."""
        above = below = 0
        for track in self._tracks.tracks:
            if track.has_picture:
                above += 1
                yield track, above
            else:
                below -= 1
                yield track, below

    def _add(self, gap: ElementTree.Element, track: Track, lane: int) -> int:
        """Connect the clips of a track; returns the frame that it ends at."""
        after = 0
        for clip in track.clips:
            place = placed(clip, self._rate, track.has_picture, after)
            if place is None:
                start = clip.place[0]
                self._notes.append(f"{clip.name}: what it has at {start:.3f} s fills no frame, and is left out")
                continue
            gap.append(self._clip(clip, track, lane, place))
            after = place.last
            if clip.enabled:  # what is switched off has no place that it could be off
                self._rounding[clip.name] = (*self._rounding.get(clip.name, ()), place.rounding)
        return after

    def _clip(self, clip: Clip, track: Track, lane: int, place: Placed) -> ElementTree.Element:
        media, zero = clip.media, clip.media.timecode
        found = ElementTree.Element(
            "asset-clip",
            ref=self._asset(media),
            lane=str(lane),
            offset=self._frames(place.first),
            name=clean(clip.name),
            start=_seconds(zero + place.start),
            duration=self._frames(place.last - place.first),
            tcFormat="NDF",
        )
        if not clip.enabled:
            found.set("enabled", "0")
        if media.picture is not None and media.sounds and track.has_picture != track.has_sound:
            found.set("srcEnable", "video" if track.has_picture else "audio")
        ElementTree.SubElement(found, "note").text = clean(_said(clip, place))
        if media.picture is not None and media.picture.rate not in (None, self._rate):
            # Without it a 24 would be sped up to fit a 25.
            conform = ElementTree.SubElement(found, "conform-rate", scaleEnabled="0")
            if media.picture.rate in _CONFORMS:
                conform.set("srcFrameRate", _CONFORMS[media.picture.rate])
        if place.stretched is not None:
            # preservesPitch off: a drift is a change of pitch, and taking it back needs no time stretching.
            time_map = ElementTree.SubElement(found, "timeMap", frameSampling="floor", preservesPitch="0")
            for time, value in ((Fraction(0), Fraction(0)), (place.stretched, _length(media, self._rate))):
                point = {"time": _seconds(zero + time), "value": _seconds(zero + value), "interp": "linear"}
                ElementTree.SubElement(time_map, "timept", point)
        for mark in clip.marks:
            first = place.start * self._rate
            frame = _nearest(mark.time * float(place.slope * self._rate) - float(first))
            at = place.start + min(max(frame, 0), place.last - place.first - 1) / self._rate
            marker = {"start": _seconds(zero + at), "duration": self._frames(1), "value": clean(mark.title)}
            ElementTree.SubElement(found, "marker", marker | ({"note": clean(mark.note)} if mark.note else {}))
        return found

    def _asset(self, media: Media) -> str:
        if media.path in self._assets:
            return self._assets[media.path]
        # Formats come before the assets that name them.
        form = None
        if media.picture is not None:
            form = self._format_id(media.picture.rate or self._rate, media.picture.size or self._tracks.size)
        asset = ElementTree.SubElement(self._resources, "asset", id=self._next_id())
        asset.set("name", clean(media.name))
        asset.set("start", _seconds(media.timecode))
        asset.set("duration", _seconds(_length(media, self._rate)))
        if form is not None:
            asset.set("hasVideo", "1")
            asset.set("format", form)
            asset.set("videoSources", "1")
        if media.sounds:
            asset.set("hasAudio", "1")
            asset.set("audioSources", str(len(media.sounds)))
            asset.set("audioChannels", str(max(media.sounds)))
            if media.sound_rate is not None:
                asset.set("audioRate", str(media.sound_rate))
        ElementTree.SubElement(asset, "media-rep", kind="original-media", src=media.url)
        self._assets[media.path] = asset.attrib["id"]
        return asset.attrib["id"]

    def _format_id(self, rate: Fraction, size: tuple[int, int]) -> str:
        if (rate, size) not in self._formats:
            found = ElementTree.SubElement(self._resources, "format", id=self._next_id())
            found.set("frameDuration", _seconds(1 / rate))
            found.set("width", str(size[0]))
            found.set("height", str(size[1]))
            self._formats[rate, size] = found.attrib["id"]
        return self._formats[rate, size]

    def _next_id(self) -> str:
        return f"r{len(self._resources) + 1}"

    def _frames(self, count: int) -> str:
        return _seconds(count / self._rate)

    def _audio_rate(self) -> str:
        """The rate that all sound has; 48 kHz, as editors work, where they differ."""
        rates = {clip.media.sound_rate for track in self._tracks.tracks for clip in track.clips if clip.media.sounds}
        return _RATES.get(next(iter(rates)) or 0, "48k") if len(rates) == 1 else "48k"


def _seconds(time: Fraction) -> str:
    return f"{time.numerator}s" if time.denominator == 1 else f"{time.numerator}/{time.denominator}s"


def _said(clip: Clip, place: Placed) -> str:
    """What is known of a clip, in a sentence for a person."""
    facts = clip.facts
    if "offset" not in facts:
        return f"avfuse: {facts['status']}: its place is not known"
    if facts["status"] == "reference":
        said = "the reference"
    else:
        std = "unknown" if facts["std"] is None else format_std(facts["std"])
        said = (
            f"{facts['status']} to {facts['reference']}: offset {facts['offset']:+.6f} s ± {std}, "
            f"drift {facts['drift'] * 1e6:+.2f} ppm, "
            # Cut and not rounded: nothing below 1 may read as 1.
            f"confidence {math.floor(facts['confidence'] * 1e4) / 1e4:.4f}"
        )
    return f"avfuse: {said}; here within {place.rounding * 1e3:.1f} ms of it, on whole frames"
