"""The common timeline: which recordings lie on it, where, and from when to when."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from avfuse.alignment import Alignment
from avfuse.clock import ClockMap
from avfuse.errors import StreamError
from avfuse.rendering.placing import Clock
from avfuse.stream import Recording, Stream

Timeline = Literal["union", "intersection"]


@dataclass(frozen=True, eq=False)
class Part:
    """A recording that can be rendered, with the clock of each of its streams."""

    name: str
    recording: Recording
    sounds: tuple[tuple[Stream, Clock], ...]
    pictures: tuple[tuple[Stream, Clock], ...]

    @property
    def span(self) -> tuple[float, float]:
        """Reference seconds from its first sample or picture to the end of its last one."""
        spans = [_image(stream, clock) for stream, clock in (*self.sounds, *self.pictures)]
        return min(s[0] for s in spans), max(s[1] for s in spans)


def _image(stream: Stream, clock: Clock) -> tuple[float, float]:
    if isinstance(clock, ClockMap):
        return float(clock(stream.start_time)), float(clock(stream.end))
    first, last = clock.segments[0], clock.segments[-1]
    edges = [float(s.map(t)) for s in clock.segments for t in (s.start, s.end) if stream.start_time <= t <= stream.end]
    edges += [float(first.map(stream.start_time))] if stream.start_time < first.start else []
    edges += [float(last.map(stream.end))] if stream.end > last.end else []
    mapped = clock([stream.start_time, stream.end])
    edges += [float(t) for t in mapped if math.isfinite(t)]
    return min(edges), max(edges)


def parts_of(alignment: Alignment) -> tuple[list[Part], dict[str, str]]:
    parts, left_out = [], alignment.left_out
    for name, estimate in alignment.clocks.items():
        if name in left_out:
            continue
        recording = alignment.recording(name)
        facts = alignment.facts.get(name)
        clocks = {
            stream.name: estimate.map @ ClockMap(facts.streams.get(stream.name, 0.0) if facts else 0.0)
            for stream in recording.streams
        }
        part = Part(
            name,
            recording,
            tuple((s, clocks[s.name]) for s in recording.of_kind("sound")),
            tuple((s, clocks[s.name]) for s in recording.of_kind("picture")),
        )
        if part.sounds or part.pictures:
            parts.append(part)
        else:
            left_out[name] = "has neither sound nor picture"
    return parts, left_out


def extent_of(parts: list[Part], timeline: Timeline) -> tuple[float, float]:
    spans = [part.span for part in parts]
    if timeline == "union":
        return min(s[0] for s in spans), max(s[1] for s in spans)
    start, end = max(s[0] for s in spans), min(s[1] for s in spans)
    if end <= start:
        raise StreamError(
            f"render: the recordings have no time in common (the last starts at {start:.3f} s, the first ends at "
            f"{end:.3f} s); use timeline='union'"
        )
    return start, end
