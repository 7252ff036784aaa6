"""What the recordings themselves say of an alignment, measured again when the report is written.

Only the stated clocks are taken from the alignment; nothing of how they were found is, so that a page made from an
alignment.json says whether that file still fits its recordings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avfuse.alignment import Alignment, Candidate, ClockEstimate
from avfuse.clock import ClockMap, PiecewiseClock
from avfuse.errors import AvfuseError
from avfuse.reporting.snippets import Snippet, aligned_snippet, bytes_per_second, unaligned_snippet
from avfuse.temporal.hearing import FRAME_RATE, Heard, hear
from avfuse.temporal.residual import Residual, residual_over_time
from avfuse.temporal.sound import nothing_to_hear

Clock = ClockMap | PiecewiseClock
Progress = Callable[[float, str], None]

_LISTENING = 0.7  # share of the work that reading usually is
_ENOUGH = 2.0  # seconds of overlap with the reference that are compared rather than a longer one with another
_BUDGET = 1.5e6  # bytes that all snippets may have together
_LONGEST, _SHORTEST = 5.0, 2.0  # seconds of a snippet
_ANSWERS = 3  # candidates that are made audible
_COLUMNS = 240


@dataclass(frozen=True, eq=False)
class Measured:
    """One recording against another.

    against: the other's name. clock: own time -> the other's. residual: None where too little is shared.
    """

    against: str
    clock: Clock
    residual: Residual | None
    snippets: tuple[Snippet, ...]


@dataclass(frozen=True, eq=False)
class Answer:
    """A candidate of an ambiguous recording, and what was measured along it (None where they do not meet)."""

    candidate: Candidate
    measured: Measured | None


@dataclass(frozen=True, eq=False)
class Evidence:
    """levels: name -> `(columns,)` loudness over the recording's own duration, 0..1. silent: name -> why it could not
    be heard. measured: aligned recordings. answers: ambiguous ones."""

    levels: Mapping[str, NDArray[np.float32]]
    silent: Mapping[str, str]
    measured: Mapping[str, Measured]
    answers: Mapping[str, tuple[Answer, ...]]


def measure(alignment: Alignment, progress: Progress | None = None) -> Evidence:
    """Listen to every recording that can be read, and compare it along its stated clock."""
    tell = progress or (lambda share, text: None)
    heard: dict[str, Heard] = {}
    silent: dict[str, str] = {}
    shift: dict[str, ClockMap] = {}
    with ThreadPoolExecutor(2) as pool:
        names = list(alignment.clocks)
        for k, (name, found) in enumerate(zip(names, pool.map(lambda n: _listen(alignment, n), names), strict=True)):
            if isinstance(found, str):
                silent[name] = found
            else:
                heard[name], shift[name] = found
            tell(_LISTENING * (k + 1) / len(names), f"heard {name}")
    # The clock of the stream that is listened to: a stream may be corrected inside its recording.
    clocks = {
        name: estimate.clock @ shift[name]
        for name, estimate in alignment.clocks.items()
        if estimate.clock is not None and name in heard
    }
    partners = {name: _partner(name, alignment, clocks, heard) for name in clocks}
    seconds, lucky = snippets_that_fit(alignment, [n for n, p in partners.items() if p is not None])
    measured, answers = {}, {}
    for k, (name, estimate) in enumerate(alignment.clocks.items()):
        tell(_LISTENING + (1 - _LISTENING) * k / len(alignment.clocks), f"comparing {name}")
        length = seconds if name in lucky else 0.0
        other = partners.get(name)
        if other is not None:
            clock = clocks[other].inverse() @ clocks[name]
            measured[name] = _measured(other, clock, heard[other], heard[name], length)
        elif estimate.status == "ambiguous":
            answers[name] = tuple(_answers(alignment, name, estimate, heard, shift, length))
    tell(1.0, "done")
    return Evidence({n: _levels(h) for n, h in heard.items()}, silent, measured, answers)


def _listen(alignment: Alignment, name: str) -> tuple[Heard, ClockMap] | str:
    """The first sound stream that holds anything, or the first one, and its correction inside the recording; or why
    it cannot be heard."""
    corrections = alignment.facts[name].streams if name in alignment.facts else {}
    first: tuple[Heard, ClockMap] | None = None
    try:
        recording = alignment.recording(name)
        for stream in recording.of_kind("sound"):
            found = hear(stream), ClockMap(corrections.get(stream.name, 0.0))
            if nothing_to_hear(found[0]) is None:
                return found
            first = first or found
    except AvfuseError as error:
        return str(error)
    kinds = ", ".join(s.kind for s in recording.streams) or "no streams"
    return first or f"it has no sound (only {kinds})"


def _partner(name: str, alignment: Alignment, clocks: Mapping[str, Clock], heard: Mapping[str, Heard]) -> str | None:
    """The reference; where they hardly meet, the recording on the same clock that it shares most time with."""
    own = alignment.clocks[name]
    if own.status == "reference":
        return None
    root = own.reference or alignment.reference
    shared = {}
    for other in clocks:
        island = alignment.clocks[other].reference or alignment.reference
        if other != name and island == root:
            (a, b), (c, d) = _extent(clocks[name], heard[name]), _extent(clocks[other], heard[other])
            shared[other] = min(b, d) - max(a, c)
    if shared.get(root, 0.0) >= _ENOUGH:
        return root
    best = max(shared, key=lambda other: (shared[other], other), default=None)
    return best if best is not None and shared[best] > 0 else None


def _extent(clock: Clock, heard: Heard) -> tuple[float, float]:
    """Reference seconds from its first to its last sample."""
    first, last = heard.start, heard.start + heard.duration
    if isinstance(clock, PiecewiseClock):
        first_line, last_line = clock.segments[0].map, clock.segments[-1].map
        return float(first_line(first)), float(last_line(last))
    return float(clock(first)), float(clock(last))


def snippets_that_fit(alignment: Alignment, measured: list[str]) -> tuple[float, set[str]]:
    """Seconds of each snippet, and the recordings that get some: doubtful ones first."""
    doubtful = [name for name, e in alignment.clocks.items() if e.status == "ambiguous"]
    seconds = _BUDGET / bytes_per_second() / max(_ANSWERS * len(doubtful) + 2 * len(measured), 1)
    length = float(np.clip(seconds, _SHORTEST, _LONGEST))
    most = int(_BUDGET / (bytes_per_second() * length) + 1e-6)
    chosen: set[str] = set()
    for name in (*doubtful, *measured):
        most -= _ANSWERS if name in doubtful else 2
        if most >= 0:
            chosen.add(name)
    return length, chosen


def _measured(other: str, clock: Clock, reference: Heard, moving: Heard, seconds: float) -> Measured:
    residual = residual_over_time(reference, moving, clock)
    snippets: tuple[Snippet, ...] = ()
    if residual is not None and seconds:
        line, middle, length = _lively_place(clock, residual, reference, moving, seconds)
        snippets = (
            unaligned_snippet("Before: both files laid at one start", reference, moving, line, middle, length),
            aligned_snippet("After: aligned", reference, moving, line, middle, length),
        )
    return Measured(other, clock, residual, snippets)


def _answers(
    alignment: Alignment,
    name: str,
    estimate: ClockEstimate,
    heard: Mapping[str, Heard],
    shift: Mapping[str, ClockMap],
    seconds: float,
) -> list[Answer]:
    root = alignment.reference
    found = []
    for k, candidate in enumerate(estimate.candidates):
        measured = None
        if k < _ANSWERS and name in heard and root in heard:
            clock = shift[root].inverse() @ candidate.map @ shift[name]
            residual = residual_over_time(heard[root], heard[name], clock)
            snippets: tuple[Snippet, ...] = ()
            if residual is not None and seconds:
                line, middle, length = _lively_place(clock, residual, heard[root], heard[name], seconds)
                snippets = (aligned_snippet(f"Answer {k + 1}", heard[root], heard[name], line, middle, length),)
            measured = Measured(root, clock, residual, snippets)
        found.append(Answer(candidate, measured))
    return found


def _lively_place(
    clock: Clock, residual: Residual, reference: Heard, moving: Heard, seconds: float
) -> tuple[ClockMap, float, float]:
    """The line, the middle on the moving recording's time, and the length of the snippet that says most."""
    middle = float(residual.times[int(np.argmax(residual.strengths))])
    low, high, line = moving.start, moving.start + moving.duration, clock
    if isinstance(clock, PiecewiseClock):
        for k, segment in enumerate(clock.segments):
            if segment.start <= middle or k == 0:
                line = segment.map
                low = max(low, segment.start) if k else low
                high = segment.end if k < len(clock.segments) - 1 else moving.start + moving.duration
    assert isinstance(line, ClockMap)
    back = line.inverse()
    low = max(low, float(back(reference.start)))
    high = min(high, float(back(reference.start + reference.duration)))
    length = min(seconds, max(high - low, 0.5))
    return line, float(np.clip(middle, low + length / 2, max(high - length / 2, low + length / 2))), length


def _levels(heard: Heard) -> NDArray[np.float32]:
    """Loudness over time, 0..1 between the quietest and the loudest of the recording."""
    frames = len(heard.features)
    columns = min(_COLUMNS, max(frames, 1))
    if frames == 0:
        return np.zeros(columns, np.float32)
    edges = np.linspace(0, frames, columns + 1).astype(int)
    found = np.zeros(columns, np.float32)
    for k in range(columns):
        part = heard.features[edges[k] : max(edges[k + 1], edges[k] + 1)]
        # Hours are looked at in part: a column of a bar tells no more.
        step = max(1, len(part) // (5 * FRAME_RATE))
        found[k] = part[::step].astype(np.float32).mean()
    low, high = np.quantile(found, [0.02, 0.98])
    return np.asarray(np.clip((found - low) / max(float(high - low), 1.0), 0.0, 1.0), np.float32)
