"""What a camera's own sensors wrote into its video file, as further streams on the file's own time.

GoPro's telemetry is parsed in `gpmf`, since telemetry-parser spreads samples by the file's declared lengths. Other
makers' (Sony, Insta360, DJI, Canon, RED, ...) are read by telemetry-parser, which knows their secrets; how it times
their samples is taken as it is.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import av
import numpy as np

from avfuse.io.decoding import opened
from avfuse.io.sensors.channels import SI
from avfuse.io.sensors.gpmf import Broken, Track, axes_of, in_axes, kind_of, parse_packet, place, unit_of
from avfuse.io.sensors.times import sampling_odd
from avfuse.stream import Recording, Stream

# How makers of cameras with motion sensors sign their files, within the first or last bytes.
_MARKS = (
    b"Insta360",
    b"DJI",
    b"Sony",
    b"CanonMP4",
    b"Canon",
    b"BlackMagic",
    b"GoPro",
    b"Kandao",
    b"rtmd",
    b"djmd",
)
_ENDS = 1 << 16
_NEVER = 48  # FFmpeg's AVDISCARD_ALL


def with_telemetry(recording: Recording) -> Recording:
    """The recording with its camera's sensors as further streams; itself where there are none."""
    if recording.facts.get("container", "").find("mp4") < 0 or recording.source is None:
        return recording
    odd: list[str] = []
    zero = recording.start / 1e9
    streams = _gpmf_streams(recording.source, zero, odd)
    if not streams and not odd and _is_signed(recording.source):
        streams = _other_streams(recording.source, zero, odd)
    if not streams and not odd:
        return recording
    facts = {**recording.facts, "odd": [*recording.facts["odd"], *odd]}
    return replace(recording, streams=(*recording.streams, *streams), facts=facts)


def _gpmf_streams(path: str, zero: float, odd: list[str]) -> list[Stream]:
    streams: list[Stream] = []
    numbers: dict[str, int] = {}
    with opened(path) as container:
        indices = [stream.index for stream in container.streams if stream.type == "data"]
    for index in indices:
        tracks = _gpmf_tracks(path, index, odd)
        for track in sorted(tracks.values(), key=lambda t: t.key != "GYRO"):
            stream = _gpmf_stream(track, zero, numbers, odd)
            if stream is not None:
                streams.append(replace(stream, facts={**stream.facts, "index": index}))
    return streams


def _gpmf_tracks(path: str, index: int, odd: list[str]) -> dict[tuple[str, str], Track]:
    tracks: dict[tuple[str, str], Track] = {}
    broken, end, whole = 0, None, True
    with opened(path) as container:
        stream = container.streams[index]
        for other in container.streams:
            # Passed over by the demuxer: pictures of hours need not be read from the disk for it.
            if other.index != index and hasattr(other, "discard"):
                other.discard = _NEVER
        named = stream.metadata.get("handler_name", "").strip().endswith("MET")
        stated = float(stream.duration * stream.time_base) if stream.duration else None
        first = True
        try:
            for packet in container.demux(stream):
                if packet.size == 0 or packet.pts is None:
                    continue
                data = bytes(packet)
                if first and data[:4] != b"DEVC" and not named:
                    return {}
                first = False
                start = float(packet.pts * packet.time_base)
                end = start + float((packet.duration or 0) * packet.time_base)
                try:
                    if data[:4] != b"DEVC":
                        raise Broken("it begins with no device")
                    parse_packet(data, start, tracks)
                except (Broken, ValueError):
                    broken += 1
        except av.error.FFmpegError:
            whole = False
        if broken:
            odd.append(f"telemetry: {broken} of its packets could not be parsed; left out")
        if stated is not None and end is not None and (stated - end > 0.5 or not whole):
            odd.append(f"telemetry cut short: the container says {stated:.1f} s, {end:.1f} s of it are there")
        elif not tracks and not broken and (named or not first):
            odd.append("telemetry: its track is there, and nothing of it can be read")
    return tracks


def _gpmf_stream(track: Track, zero: float, numbers: dict[str, int], odd: list[str]) -> Stream | None:
    widths = {p.values.shape[1] for p in track.portions}
    if len(widths) != 1:
        odd.append(f"telemetry: {track.key} changes its number of channels; left out")
        return None
    width = widths.pop()
    values = np.concatenate([p.values for p in track.portions])
    times, found, facts = place(track)
    if facts["interval"] is None and len(values) > 1:
        odd.append(f"telemetry: {track.key} is in one packet, which does not tell its rate; left out")
        return None
    kind, channels = kind_of(track, width)
    numbers[kind] = numbers.get(kind, 0) + 1
    name = kind if numbers[kind] == 1 else f"{kind}-{numbers[kind]}"
    unit = unit_of(track)
    facts |= {
        "codec": "gpmf", "key": track.key, "device": track.device, "unit": unit.unit, "unit_from": unit.why,
        "rate": None if not facts["interval"] else 1 / facts["interval"],
        "sensor": track.facts.get("STNM"), "ORIN": track.facts.get("ORIN"), "ORIO": track.facts.get("ORIO"),
    }  # fmt: skip
    if kind in SI:
        axes = axes_of(track)
        facts["axes"] = "as stored" if axes is None else "camera, from " + "".join(axes)
        if axes is not None:
            values = in_axes(values, axes)
        if unit.scale != 1.0:
            values = values * unit.scale
            facts["scale"] = unit.scale
    odd += [f"{name}: {sentence}" for sentence in found]
    matrix = track.facts.get("MTRX")
    if matrix is not None:
        facts["MTRX"] = tuple(float(v) for v in matrix)
    return Stream(name, kind, values, times - zero, unit=SI.get(kind, unit.unit), channels=channels, facts=facts)


def _is_signed(path: str) -> bool:
    """Whether the maker is one whose cameras keep telemetry; looking through a long file for it would take seconds."""
    with open(path, "rb") as file:
        head = file.read(_ENDS)
        file.seek(0, 2)
        file.seek(max(0, file.tell() - _ENDS))
        tail = file.read(_ENDS)
    return any(mark in head or mark in tail for mark in _MARKS)


def _other_streams(path: str, zero: float, odd: list[str]) -> list[Stream]:
    try:
        import telemetry_parser
    except ImportError:
        odd.append("may hold its camera's telemetry, which telemetry-parser reads: pip install 'avfuse[sensors]'")
        return []
    try:
        parser = telemetry_parser.Parser(path)
        rows = parser.normalized_imu()
    except BaseException as error:  # the library panics, which is no Exception, on files that hold nothing
        if isinstance(error, KeyboardInterrupt | SystemExit | MemoryError):
            raise
        return []
    streams = []
    for kind, key, scale, found in (
        ("rotation_rate", "gyro", np.pi / 180, "deg/s"),
        ("acceleration", "accl", 1.0, "m/s^2"),
    ):
        some = [(row["timestamp_ms"], row[key]) for row in rows if row.get(key) is not None]
        if not some:
            continue
        times = np.array([t for t, _ in some]) / 1e3
        order = np.argsort(times, kind="stable")
        if np.any(np.diff(times) < 0):
            odd.append(f"{kind}: its stamps are not in order; sorted")
        values = np.array([v for _, v in some])[order] * scale
        sentences, sampling = sampling_odd(times[order])
        odd += [f"{kind}: {sentence}" for sentence in sentences]
        facts: dict[str, Any] = {
            "codec": f"{parser.camera} {parser.model or ''}".strip(), "unit": found, "axes": "by telemetry-parser",
            "unit_from": "telemetry-parser", **sampling,
        }  # fmt: skip
        if scale != 1.0:
            facts["scale"] = scale
        # Its times count from the video's first frame as the container counts.
        streams.append(
            Stream(kind, kind, values, times[order] - zero, unit=SI[kind], channels=("x", "y", "z"), facts=facts)  # type: ignore[arg-type,index]
        )
    return streams
