"""`inspect`: what a person would want to know about a file, found by decoding it once."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avfuse.io.decoding import PictureSource, SoundSource, TextSource
from avfuse.io.placing import Findings
from avfuse.io.reading import read
from avfuse.stream import Stream

_SILENT = 10 ** (-80 / 20)  # of full scale: below the noise of any microphone with its amplifier
_CLIPPED = 0.999
_LONG_PAUSE = 2.5  # frame periods between two frames that are called a gap
_UNEVEN = 0.2  # share of the frame period by which frames may miss their beat
_VARIABLE = ": variable frame rate"
_SHORT = 0.5  # seconds by which the container may overstate a stream's length


@dataclass(frozen=True)
class StreamInfo:
    """One stream, as decoded. Times are seconds of the recording's own time; what does not apply is None.

    start, duration: of what could be decoded. stated_duration: what the container says.
    rate: Hz of sound. average_rate, stated_rate: frames per second. peak: of full scale.
    gaps, overlaps: (time, length) pairs.
    Of sensors: average_rate is that of the median step, frames counts their samples, unit is that of the values as
    avfuse gives them.
    """

    name: str
    kind: str
    codec: str | None
    start: float
    duration: float
    stated_duration: float
    rate: float | None = None
    channels: tuple[str, ...] = ()
    peak: float | None = None
    width: int | None = None
    height: int | None = None
    rotation: int | None = None
    frames: int | None = None
    average_rate: float | None = None
    stated_rate: float | None = None
    gaps: tuple[tuple[float, float], ...] = ()
    overlaps: tuple[tuple[float, float], ...] = ()
    unit: str | None = None
    odd: tuple[str, ...] = ()


@dataclass(frozen=True)
class FileInfo:
    """A file, as decoded.

    start: integer nanoseconds of the file's own time that were subtracted to put time 0 at the earliest sample.
    start_clock: what they count from: "unix", "device" or None.
    duration: seconds from time 0 to the end of what could be decoded. odd: sentences about the file and its streams.
    """

    source: str
    name: str
    container: str
    start: int
    start_clock: str | None
    duration: float
    creation_time: str | None
    timecode: str | None
    streams: tuple[StreamInfo, ...]
    odd: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain dicts, lists, numbers and strings."""
        return dataclasses.asdict(self)


def inspect(
    path: str | os.PathLike[str],
    *,
    time_column: str | int | None = None,
    time_unit: str | None = None,
    rate: float | None = None,
) -> FileInfo:
    """Decode every stream of a file and say what is in it and what is odd about it.

    time_column, time_unit, rate: as `read` takes them. Raises ReadError, one line, as `read` does.
    """
    recording = read(path, time_column=time_column, time_unit=time_unit, rate=rate)
    streams = tuple(_inspect_stream(stream) for stream in recording.streams)
    found = [f"{info.name}: {sentence}" for info in streams for sentence in info.odd]
    # What decoding shows about the frame rate is said in full: the header's word on it then only repeats.
    variable = tuple(sentence.partition(": ")[0] + _VARIABLE for sentence in found if _VARIABLE in sentence)
    odd = [sentence for sentence in recording.facts["odd"] if not (variable and sentence.startswith(variable))] + found
    return FileInfo(
        source=str(recording.source),
        name=recording.name,
        container=recording.facts["container"],
        start=recording.start,
        start_clock=recording.start_clock,
        duration=max(info.start + info.duration for info in streams),
        creation_time=recording.facts.get("creation_time"),
        timecode=recording.facts.get("timecode"),
        streams=streams,
        odd=tuple(odd),
    )


def _inspect_stream(stream: Stream) -> StreamInfo:
    if isinstance(stream.values, SoundSource):
        return _inspect_sound(stream, stream.values)
    if isinstance(stream.values, PictureSource):
        return _inspect_picture(stream, stream.values)
    if not isinstance(stream.values, TextSource):
        return _inspect_samples(stream)
    times = [t for block, _ in stream.values.blocks(60.0) for t in block]
    return StreamInfo(
        stream.name,
        stream.kind,
        stream.facts["codec"],
        start=float(times[0]),
        duration=float(times[-1] - times[0]),
        stated_duration=stream.values.duration,
        frames=len(times),
    )


def _inspect_samples(stream: Stream) -> StreamInfo:
    """Of sensors everything is known from reading, oddities too."""
    assert stream.times is not None
    return StreamInfo(
        stream.name,
        stream.kind,
        stream.facts.get("codec"),
        start=stream.start_time,
        duration=stream.duration,
        stated_duration=stream.duration,
        channels=stream.channels,
        frames=len(stream.times),
        average_rate=stream.facts.get("rate"),
        gaps=tuple(stream.facts.get("gaps", ())),
        unit=stream.unit,
    )


def _inspect_sound(stream: Stream, source: SoundSource) -> StreamInfo:
    findings = Findings()
    peaks = np.zeros(source.channels, np.float32)
    clipped, start, end = 0, stream.start, stream.start
    for piece_start, values in source.pieces(source.rate, findings):
        level = np.abs(values)
        peaks = np.maximum(peaks, level.max(axis=1))
        clipped += int(np.count_nonzero(level >= _CLIPPED))
        end = piece_start + values.shape[1] / source.rate
    odd = _timing_sentences(findings)
    silent = [str(stream.channels[c]) for c in np.flatnonzero(peaks < _SILENT)]
    if len(silent) == source.channels:
        odd.append("silent throughout")
    elif silent:
        odd.append(f"silent in channel {', '.join(silent)}")
    if clipped > 1e-4 * (end - start) * source.rate * source.channels:
        odd.append(f"clipped: {clipped} samples at full scale")
    odd.extend(_length_sentences(end - start, source.duration, findings))
    return StreamInfo(
        stream.name,
        stream.kind,
        stream.facts["codec"],
        start=start,
        duration=end - start,
        stated_duration=source.duration,
        rate=source.rate,
        channels=stream.channels,
        peak=float(peaks.max()),
        gaps=tuple(findings.gaps),
        overlaps=tuple(findings.overlaps),
        odd=tuple(odd),
    )


def _inspect_picture(stream: Stream, source: PictureSource) -> StreamInfo:
    findings = Findings()
    times = np.array([time for time, _ in source.frames(findings)])
    steps = np.diff(times)
    period = float(np.median(steps)) if steps.size else 1.0 / source.rate
    pauses = np.flatnonzero(steps > _LONG_PAUSE * period)
    findings.gaps.extend((float(times[k] + period), float(steps[k] - period)) for k in pauses)
    odd = _timing_sentences(findings)
    uneven = _uneven_share(steps, period)
    if uneven > 0.01:
        odd.append(
            f"variable frame rate, {uneven:.0%} of its frames miss an even beat; "
            f"they are {steps.min() * 1e3:.1f} to {steps.max() * 1e3:.1f} ms apart"
        )
    duration = float(times[-1] - times[0] + period)
    odd.extend(_length_sentences(duration, source.duration, findings))
    return StreamInfo(
        stream.name,
        stream.kind,
        stream.facts["codec"],
        start=stream.start,
        duration=duration,
        stated_duration=source.duration,
        width=source.width,
        height=source.height,
        rotation=source.rotation,
        frames=len(times),
        average_rate=float((len(times) - 1) / (times[-1] - times[0])) if len(times) > 1 else None,
        stated_rate=source.rate,
        gaps=tuple(findings.gaps),
        overlaps=tuple(findings.overlaps),
        odd=tuple(odd),
    )


def _uneven_share(steps: NDArray[np.float64], period: float) -> float:
    """Share of the steps that are not one period; stamps rounded to a millisecond are even."""
    if steps.size == 0:
        return 0.0
    return float(np.mean(np.abs(steps - period) > _UNEVEN * period + 1e-3))


def _timing_sentences(findings: Findings) -> list[str]:
    odd = []
    for word, found in (("missing", findings.gaps), ("covered twice", findings.overlaps)):
        if found:
            time, length = max(found, key=lambda pair: pair[1])
            places = "one place" if len(found) == 1 else f"{len(found)} places"
            odd.append(f"{length * 1e3:.1f} ms {word} at {time:.3f} s (the longest; {places} in all)")
    for time, jump in findings.resets:
        odd.append(f"time stamps jump by {jump:+.3f} s at {time:.3f} s; what follows is taken to go on without a break")
    if findings.drift_steps:
        span = findings.drift_steps[-1][0]
        total = sum(lag for _, lag in findings.drift_steps)
        odd.append(f"its time stamps drift from its sample count by {total * 1e3:+.0f} ms over {span:.0f} s")
    for time, change in findings.changes:
        odd.append(f"changes at {time:.3f} s: {change}")
    return odd


def _length_sentences(decoded: float, stated: float, findings: Findings) -> list[str]:
    odd = []
    if findings.corrupt_packets:
        odd.append(f"{findings.corrupt_packets} packets are damaged and left out")
    if stated - decoded > max(_SHORT, 0.02 * stated):
        odd.append(f"cut short: the container says {stated:.1f} s, {decoded:.1f} s can be decoded")
    return odd
