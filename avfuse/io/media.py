"""`read_media`: the sound, picture and text of a media file as lazy streams on one clock.

    container stamps     0 ......... 0.023 ............. 0.040 ......
    sound                            |first sample heard
    picture                                              |first frame shown
    recording's own time             0                   0.017

Only headers and the first second of each track are decoded here; the rest is decoded while it is iterated.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from av.stream import Disposition

from avfuse.errors import ReadError
from avfuse.io.decoding import PictureSource, SoundSource, TextSource, frames_of, opened, packets
from avfuse.io.placing import Findings
from avfuse.stream import Recording, Stream

# Samples by which the encoders in use delay sound. Containers that state it (MP4's edit lists, LAME's header, Opus's
# pre-skip) get it removed by FFmpeg; of the others it can only be said that it is there.
_DELAYS = {"aac": 1024, "mp3": 1105, "mp3float": 1105, "mp2": 481, "mp2float": 481, "ac3": 256, "eac3": 256}
# FFmpeg's muxers for MKV and NUT state no delay for these, but name the encoder, whose delay is fixed. Leaving that
# out moves nothing against the stamps, so it is safe even where somebody copied the stream and cut its start.
_NAMED_DELAYS = {"aac": 1024, "libmp3lame": 1105}
_VARIABLE = 0.01  # share by which the average frame rate misses the finest one where the rate is called variable


@dataclass(frozen=True)
class _Track:
    """One stream of the container; `start` still counts from where the container counts."""

    source: SoundSource | PictureSource | TextSource
    start: float
    stream: Stream


def read_media(path: str | os.PathLike[str]) -> Recording:
    """The recording in a media file: anything that FFmpeg decodes; see `avfuse.io.read`.

    Raises ReadError, one line, for what is missing, no media file, or without sound and picture.
    """
    name = os.fspath(path)
    odd: list[str] = []
    with opened(name) as container:
        facts = _container_facts(container)
        numbers: dict[str, int] = {}
        tracks = [
            track
            for index, stream in enumerate(container.streams)
            if (track := _track(name, container, index, stream, numbers, odd)) is not None
        ]
    presented = [track.start for track in tracks if not isinstance(track.source, TextSource)]
    if not presented:
        raise ReadError(f"{name}: neither sound nor picture can be decoded; expected a recording")
    zero = min(presented)
    streams = tuple(
        replace(track.stream, start=track.start - zero, values=replace(track.source, zero=zero)) for track in tracks
    )
    for track in tracks:
        if not isinstance(track.source, TextSource) and track.start - zero >= 1e-3:
            odd.append(f"{track.stream.name} starts {track.start - zero:.3f} s after the start of the file")
    return Recording(
        name=Path(name).stem,
        streams=streams,
        source=name,
        start=round(zero * 1e9),
        facts={**facts, "odd": odd},
    )


def _container_facts(container: Any) -> dict[str, Any]:
    facts: dict[str, Any] = {"container": container.format.name}
    tags = [container.metadata, *(stream.metadata for stream in container.streams)]
    for key in ("creation_time", "timecode", "time_reference"):
        for found in tags:
            value = {k.lower(): v for k, v in found.items()}.get(key)
            if value:
                facts[key] = value
                break
    return facts


def _track(
    path: str, container: Any, index: int, stream: Any, numbers: dict[str, int], odd: list[str]
) -> _Track | None:
    """The track as a stream; None for covers, data and what cannot be decoded (which is said in `odd`)."""
    kind = {"audio": "sound", "video": "picture", "subtitle": "text"}.get(stream.type)
    if kind is None or stream.codec_context is None or stream.disposition & Disposition.attached_pic:
        return None
    numbers[kind] = numbers.get(kind, 0) + 1
    name = kind if numbers[kind] == 1 else f"{kind}-{numbers[kind]}"
    length = _length(path, container, stream)
    found = {"sound": _sound, "picture": _picture, "text": _text}[kind](path, index, name, length, odd)
    if found is None:
        odd.append(f"{name}: nothing in it can be decoded ({stream.codec_context.name})")
    return found


def _length(path: str, container: Any, stream: Any) -> float:
    """Seconds of the stream as the container states them, or else as its packets' stamps do."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    if container.duration:
        late = 0.0
        if stream.start_time is not None and container.start_time is not None:
            late = float(stream.start_time * stream.time_base) - container.start_time / 1e6
        # Of all tracks together; Matroska's tag of one is its length, or where FFmpeg wrote it the time of its end.
        return min(float(container.duration / 1e6 - late), _tagged_duration(stream))
    # Files written into a pipe, or by a recorder that lost power, state nothing; demultiplexing alone is quick.
    first, end = None, 0.0
    with opened(path) as again:
        for packet in packets(again, again.streams[stream.index], Findings()):
            if packet.pts is not None:
                time = float(packet.pts * packet.time_base)
                first = time if first is None else first
                end = max(end, time + float((packet.duration or 0) * packet.time_base))
    return end - first if first is not None else 0.0


def _tagged_duration(stream: Any) -> float:
    """Seconds that a tag of Matroska states, "00:01:02.500000000"; infinite where there is none."""
    tags = {key.upper().partition("-")[0]: value for key, value in stream.metadata.items()}
    try:
        hours, minutes, seconds = tags["DURATION"].split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except (KeyError, ValueError):
        return math.inf


def _sound(path: str, index: int, name: str, length: float, odd: list[str]) -> _Track | None:
    with opened(path) as container:
        stream = container.streams[index]
        codec, tags = stream.codec_context.name, {k.lower(): v for k, v in stream.metadata.items()}
        stated = False
        frame = None
        for packet in packets(container, stream, Findings()):
            stated = stated or packet.has_sidedata("skip_samples")
            frame = next(iter(frames_of(packet, Findings())), None)
            if frame is not None:
                break
        if frame is None:
            return None
        # The decoder's word, not the header's: HE-AAC declares half its rate.
        rate, channels = float(frame.sample_rate), frame.layout.nb_channels
        names = [channel.name for channel in frame.layout.channels]
        # Plain WAV does not say which channel is which: numbers then.
        layout = tuple(str(c + 1) if word == "NONE" else word for c, word in enumerate(names))
    priming = 0
    if not stated and codec in _DELAYS:
        words = tags.get("encoder", "").split()
        if len(words) == 2 and words[0].startswith("Lavc") and words[1] in _NAMED_DELAYS:
            priming = _NAMED_DELAYS[words[1]]
            odd.append(
                f"{name}: {priming} samples of encoder delay left out, known from the encoder's name "
                f"({tags['encoder']}) and not stated by the container"
            )
        else:
            late = _DELAYS[codec]
            odd.append(
                f"{name}: the file states no encoder delay, so sound may come late, for {codec.removesuffix('float')} "
                f"typically by {late} samples ({late / rate * 1e3:.0f} ms)"
            )
    source = SoundSource(path, index, rate, channels, length, priming=priming)
    start = next((start for start, _ in source.pieces(rate, Findings())), None)
    if start is None:
        return None
    facts = {"codec": codec, "index": index, "priming": priming}
    return _Track(source, start, Stream(name, "sound", source, rate=rate, start=start, channels=layout, facts=facts))


def _picture(path: str, index: int, name: str, length: float, odd: list[str]) -> _Track | None:
    with opened(path) as container:
        stream = container.streams[index]
        average, finest = stream.average_rate, stream.base_rate
        codec = stream.codec_context.name
    if codec == "ansi":  # FFmpeg "plays" plain text files as a terminal
        return None
    rate = float(average or finest or 25)
    found = next(PictureSource(path, index, 0, 0, rate, length).frames(Findings(), threads=1), None)
    if found is None:
        return None
    start, frame = found
    rotation = round(frame.rotation / 90) * 90
    width, height = (frame.height, frame.width) if rotation % 180 else (frame.width, frame.height)
    # The finest rate on which all first stamps lie; MPEG counts two fields to a frame.
    ratio = float(finest / average) if average and finest else 1.0
    is_variable = min(abs(ratio - 1), abs(ratio / 2 - 1)) > _VARIABLE
    if is_variable:
        odd.append(f"{name}: variable frame rate, {float(average):.3f} frames/s on average")
    facts = {
        "codec": codec,
        "index": index,
        "width": width,
        "height": height,
        "average_rate": rate,
        "is_variable": is_variable,
        "rotation": rotation,
    }
    source = PictureSource(path, index, width, height, rate, length, rotation=rotation)
    return _Track(source, start, Stream(name, "picture", source, rate=rate, start=start, facts=facts))


def _text(path: str, index: int, name: str, length: float, odd: list[str]) -> _Track | None:
    with opened(path) as container:
        codec = container.streams[index].codec_context.name
    source = TextSource(path, index, length)
    times = next((times for times, _ in source.blocks(1e-3)), None)
    if times is None:
        return None
    start = float(times[0])
    return _Track(source, start, Stream(name, "text", source, start=start, facts={"codec": codec, "index": index}))
