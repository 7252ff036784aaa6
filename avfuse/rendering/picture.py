"""Pictures on another clock: packets copied with their time stamps moved and scaled, or decoded and encoded again.

A copy can begin only at a key frame. Where the cut falls between two, MP4 and MOV carry the packets from the key frame
on and an edit list that hides what lies before the cut, so players begin exactly at it. Matroska has no such list:
its picture begins at the next key frame, late but in step, and the note says by how much.

The picture that is on screen at the cut is shown from the cut on. So time 0 of the file is time 0 of the timeline,
also for FFmpeg, which moves a whole track to 0 when the first frame behind an edit begins later.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain
from typing import Any

import av
import numpy as np

from avfuse.clock import ClockMap
from avfuse.errors import ReadError
from avfuse.files import for_ffmpeg
from avfuse.io.decoding import decoded
from avfuse.io.frames import UPRIGHT
from avfuse.io.placing import Findings
from avfuse.rendering.placing import Clock

TICK = Fraction(1, 90000)  # of MP4 and MOV: 11 us, and two hours still fit a 32-bit header
Note = Callable[[str], None]
Packets = Iterator[tuple[float, Any]]
_CODERS = (("libx264", {"crf": "17", "preset": "fast"}), ("mpeg4", {"qscale": "2"}))


class CannotCopyError(Exception):
    """This track cannot be copied into the container; decoding and encoding it can help."""


@dataclass(frozen=True)
class Picture:
    """One video track of a file and where it belongs.

    index: of the track among the container's streams.
    zero: container seconds of the recording's time 0.
    start: recording's time of the first picture that is shown, seconds.
    """

    source: str
    index: int
    clock: Clock
    zero: float
    start: float


@dataclass(frozen=True)
class Cut:
    """The part of the timeline that a file shows, and what its container can do.

    start, length: reference seconds; the file's own time counts from `start`.
    tick: seconds of the container's time stamps.
    hides: whether the container can hide packets before time 0 (edit lists).
    """

    start: float
    length: float
    tick: float
    hides: bool

    @property
    def near(self) -> float:
        return self.tick / 2


@dataclass(frozen=True)
class _Timed:
    """A packet with its presentation and decoding time in the output, seconds."""

    packet: Any
    shown: float
    decoded: float


@contextmanager
def opened(source: str) -> Iterator[Any]:
    """The container of a recording. Raises ReadError where it is not there any more or breaks off."""
    try:
        # genpts: AVI stores only decoding times.
        with av.open(for_ffmpeg(source), options={"fflags": "+genpts"}, metadata_errors="replace") as container:
            yield container
    except av.error.FFmpegError as error:
        if error.filename not in (None, source, for_ffmpeg(source)):
            raise
        raise ReadError(
            f"{source}: cannot be read ({error.strerror}); is it still the file that was aligned?"
        ) from error


def without_holes(clock: Clock) -> Callable[[float], float]:
    """`clock` for packets that may not be dropped: holes are squeezed between what surrounds them, never backwards."""
    if isinstance(clock, ClockMap):
        return lambda t: float(clock(t))
    first, last = clock.segments[0], clock.segments[-1]
    own = np.array([edge for s in clock.segments for edge in (s.start, s.end)])
    mapped = np.array([float(s.map(edge)) for s in clock.segments for edge in (s.start, s.end)])
    mapped = np.maximum.accumulate(mapped)

    def squeezed(t: float) -> float:
        if t <= own[0]:
            return float(first.map(t))
        if t >= own[-1]:
            return float(mapped[-1] + (t - own[-1]) * (1.0 + last.drift))
        return float(np.interp(t, own, mapped))

    return squeezed


def copied(picture: Picture, out: Any, cut: Cut, note: Note) -> Packets:
    """Packets of one track on the timeline, with their decoding time in seconds.

    out: the output stream, its header written (its time base is then final).
    note: told what a copy cannot do.
    Raises CannotCopyError where the source's packets do not say when they are shown.
    """
    begin = max(0.0, without_holes(picture.clock)(picture.start) - cut.start)
    packets = _from_the_beginning(_timed(picture, cut, note), begin, cut, note)
    packets = _until_the_end(packets, cut, note)
    base, last = out.time_base, -(1 << 62)
    for timed in packets:
        packet = timed.packet
        shown = round(timed.shown / base)
        # Rounding may make two decoding times equal, which no container takes.
        last = max(last + 1, min(round(timed.decoded / base), shown))
        if last > shown:
            raise CannotCopyError("its packets are not in the order of decoding")
        duration = round(float((packet.duration or 0) * packet.time_base) / base)
        packet.stream = out
        packet.pts, packet.dts, packet.duration, packet.time_base = shown, last, duration, base
        yield timed.decoded, packet


def _timed(picture: Picture, cut: Cut, note: Note) -> Iterator[_Timed]:
    place = without_holes(picture.clock)

    def placed(stamp: int, base: Fraction) -> float:
        return place(float(stamp * base) - picture.zero) - cut.start

    # Matroska stores no decoding times, and FFmpeg does not guess those of the first few packets.
    waiting: list[Any] = []
    decoded = -math.inf
    for packet in _packets(picture, note):
        base = packet.time_base
        if packet.dts is None and decoded == -math.inf:
            waiting.append(packet)
            continue
        if packet.dts is not None:
            decoded = placed(packet.dts, base)
        for k, early in enumerate(waiting):
            before = (len(waiting) - k) * max(1, early.duration or 1)
            yield _Timed(early, placed(early.pts, base), placed(packet.dts - before, base))
        waiting = []
        yield _Timed(packet, placed(packet.pts, base), decoded)
    for packet in waiting:
        yield _Timed(packet, *[placed(packet.pts, packet.time_base)] * 2)


def _packets(picture: Picture, note: Note) -> Iterator[Any]:
    with opened(picture.source) as container:
        track = container.streams[picture.index]
        reorders = bool(getattr(track.codec_context, "has_b_frames", False))
        packets = container.demux(track)
        while True:
            try:
                packet = next(packets, None)
            except av.error.FFmpegError:
                note("its picture breaks off where the file is damaged")
                return
            if packet is None:
                return
            if packet.size == 0:
                continue
            if packet.pts is None:
                if packet.dts is None or reorders:
                    raise CannotCopyError("its packets do not say when they are shown")
                packet.pts = packet.dts
            yield packet


def _from_the_beginning(packets: Iterator[_Timed], begin: float, cut: Cut, note: Note) -> Iterator[_Timed]:
    """Leave out, or hide, what is shown before `begin`."""
    head: list[_Timed] = []
    for timed in packets:
        if timed.packet.is_keyframe and timed.shown <= begin + cut.near:
            head = []  # a copy may begin here
        head.append(timed)
        # Nothing that comes later is shown before it is decoded.
        if timed.decoded > begin + cut.near:
            break
    early = [t for t in head if t.shown < begin - cut.near]
    if not early:
        yield from head
        yield from packets
        return
    if cut.hides and begin <= cut.near and head[0].packet.is_keyframe:
        on_screen = max(early, key=lambda t: t.shown)
        exact = any(abs(t.shown) <= cut.near for t in head)
        for timed in head:
            yield replace(timed, shown=0.0) if timed is on_screen and not exact else timed
        yield from packets
        return
    yield from _from_next_key(chain(head, packets), begin, cut, note)


def _from_next_key(packets: Iterator[_Timed], begin: float, cut: Cut, note: Note) -> Iterator[_Timed]:
    for timed in packets:
        if timed.packet.is_keyframe and timed.shown >= begin - cut.near:
            break
    else:
        note("no key frame after the cut, so none of the picture could be copied; render with reencode")
        return
    note(
        f"picture begins {timed.shown - begin:.3f} s late, at the first key frame after the cut; "
        "render with reencode to begin exactly at it"
    )
    yield timed
    # Pictures that are shown before their key frame refer to what was left out.
    yield from (t for t in packets if t.shown >= timed.shown)


def _until_the_end(packets: Iterator[_Timed], cut: Cut, note: Note) -> Iterator[_Timed]:
    """Leave out what is shown after the end, unless a picture before the end needs it."""
    waiting: list[_Timed] = []
    kept = 0
    for timed in packets:
        if timed.shown < cut.length - cut.near:
            kept += len(waiting)
            yield from waiting
            waiting = []
            yield timed
        elif timed.decoded >= cut.length:
            break
        else:
            waiting.append(timed)
    if kept:
        note(f"{kept} pictures after the end stay, since pictures before it are built on them")


def _coder() -> tuple[str, dict[str, str]]:
    """The best H.264 or MPEG-4 encoder that this FFmpeg has."""
    for name, options in _CODERS:
        if name in av.codecs_available:
            return name, options
    raise CannotCopyError("this FFmpeg has neither libx264 nor mpeg4 to encode with")


def add_encoder(container: Any, picture: Picture) -> Any:
    """An output stream that encodes `picture` at its own size, shape and colour."""
    with opened(picture.source) as source:
        track: Any = source.streams[picture.index]
        context = track.codec_context
        frame: Any = next(iter(source.decode(track)), None)
        turned = frame is not None and frame.rotation % 180 != 0
        name, options = _coder()
        out = container.add_stream(name, rate=track.average_rate or 30, options=options)
        width, height = context.width, context.height
        out.width, out.height = (height, width) if turned else (width, height)
        known = {f.name for f in av.Codec(name, "w").video_formats or ()}
        pixels = context.pix_fmt if context.pix_fmt in known else "yuv420p"
        # 4:2:0 halves both sides.
        odd = bool(width % 2 or height % 2)
        out.pix_fmt = "yuv444p" if odd and "yuv444p" in known else pixels
        out.codec_context.time_base = TICK if name == "libx264" else Fraction(1, 60000)
        shape = track.sample_aspect_ratio
        if shape:
            out.codec_context.sample_aspect_ratio = 1 / shape if turned else shape
        for colour in ("color_range", "colorspace", "color_primaries", "color_trc"):
            setattr(out.codec_context, colour, getattr(context, colour))
    return out


def reencoded(picture: Picture, out: Any, cut: Cut, note: Note) -> Packets:
    """The track decoded and encoded again: pictures at their exact times, none before the cut or after the end."""
    base = out.codec_context.time_base
    last = -1
    for shown, frame in _on_timeline(picture, cut, note):
        pts = round(shown / base)
        if pts <= last:
            continue  # two pictures within one tick
        last = pts
        turned = _upright(frame).reformat(width=out.width, height=out.height, format=out.pix_fmt)
        turned.pts, turned.time_base = pts, base
        turned.pict_type = 0  # let the encoder choose its own key frames
        for packet in out.encode(turned):
            yield shown, packet
    for packet in out.encode(None):
        yield cut.length, packet


def _on_timeline(picture: Picture, cut: Cut, note: Note) -> Iterator[tuple[float, Any]]:
    """`(seconds, frame)` of what is shown from 0 to the cut's length; frames in holes of the clock are left out."""
    before: Any = None
    with opened(picture.source) as container:
        track: Any = container.streams[picture.index]
        track.thread_type = "AUTO"
        findings = Findings()
        for frame in decoded(container, track, findings):
            if frame.pts is None:
                continue
            own = float(frame.pts * frame.time_base) - picture.zero
            shown = float(picture.clock(own)) - cut.start
            if math.isnan(shown):
                continue
            if shown < -cut.near:
                before = frame
                continue
            if before is not None and shown > cut.near:
                yield 0.0, before
            before = None
            if shown >= cut.length - cut.near:
                break
            yield max(0.0, shown), frame
        if findings.corrupt_packets:
            note(f"{findings.corrupt_packets} damaged packets of its picture are left out")


def _upright(frame: Any) -> Any:
    """The frame as it is meant to be seen: encoded again, it carries no rotation."""
    turns = UPRIGHT.get(frame.rotation)
    if turns is None:
        return frame
    graph = av.filter.Graph()
    nodes = [graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base)]
    nodes += [graph.add(*step.split("=")) for step in turns]
    nodes.append(graph.add("buffersink"))
    graph.link_nodes(*nodes).configure()
    graph.push(frame)
    return graph.pull()
