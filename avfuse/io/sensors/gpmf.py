"""GoPro's telemetry inside MP4 (GPMF): parsed from the packets of its data track.

The format is GoPro's (https://gopro.github.io/gpmf-parser): nested records of a four-letter key, a type, a size and a
count; a DEVC holds STRMs, each with its scale (SCAL), unit (SIUN), name (STNM), count so far (TSMP) and samples.

Timing. A packet says when it starts and how long it lasts, about a second; how many samples it holds varies, and the
last one of a clip declares its full length with what little was recorded. So samples are not spread over the lengths
of packets. Instead one line is laid through (samples before the packet, start of the packet): its slope is the true
sampling interval, and every sample lies on it. The first packet's start is left out: a sensor may begin after it, and
the end of its samples, where the second packet starts, says when. Where the starts step away from the line and stay
away, samples were lost and a new line of the same slope begins.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from avfuse.io.sensors.channels import G, Unit
from avfuse.stream import Kind

_DTYPES: Final = {
    "b": "i1", "B": "u1", "s": ">i2", "S": ">u2", "l": ">i4", "L": ">u4", "f": ">f4", "d": ">f8", "j": ">i8",
    "J": ">u8", "q": ">i4", "Q": ">i8",
}  # fmt: skip
_FIXED_POINT: Final = {"q": 2.0**-16, "Q": 2.0**-32}
_MOST_DEPTH = 8
_LOST = 3.0  # samples by which a packet's start may leave the line before samples are called lost
_APART = 10  # packets over which a first slope is taken
_NEAR = 5  # packets whose starts tell where the next one should be
_LATE = 0.08  # seconds of it, for slow sensors whose samples come in uneven portions
# Key -> kind, channels. What is not here comes as `other`.
_KINDS: Final[dict[str, tuple[Kind, tuple[str, ...]]]] = {
    "GYRO": ("rotation_rate", ("x", "y", "z")),
    "ACCL": ("acceleration", ("x", "y", "z")),
}
# Quaternions (CORI, IORI) stay as they are stored: in which order that is, no document says for every camera.
_OTHERS: Final = {
    "MAGN",
    "GRAV",
    "CORI",
    "IORI",
    "GPS5",
    "GPS9",
    "ISOE",
    "ISOG",
    "SHUT",
    "WBAL",
    "ATTD",
    "SIMU",
    "TMPC",
}
_DIRECTIONS: Final = {"up/down": "z", "right/left": "x", "left/right": "x", "forward/back": "y", "front/back": "y"}


@dataclass
class Portion:
    """What one packet holds of one sensor. values: `(n, channels)`, scaled. before: samples before it, by count."""

    start: float
    values: NDArray[np.float64]
    total: int | None


@dataclass
class Track:
    """One sensor over all packets."""

    key: str
    device: str
    portions: list[Portion] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)


class Broken(ValueError):
    """A record that reaches beyond what holds it."""


def records(data: bytes, depth: int = 0) -> Iterator[tuple[str, str, int, int, bytes]]:
    """(key, type, size, count, payload) of one level; type "" holds further records."""
    at = 0
    while at + 8 <= len(data):
        key, kind, size, count = struct.unpack(">4scBH", data[at : at + 8])
        if key == b"\0\0\0\0":
            return
        length = size * count
        if at + 8 + length > len(data):
            raise Broken(f"{key!r} reaches beyond its packet")
        name = "" if kind == b"\0" else kind.decode("latin-1")
        yield key.decode("latin-1"), name, size, count, data[at + 8 : at + 8 + length]
        at += 8 + (length + 3) // 4 * 4


def parse_packet(data: bytes, start: float, tracks: dict[tuple[str, str], Track]) -> None:
    """Add what the packet that starts at `start` (seconds) holds. Raises Broken where it is damaged."""
    found: list[tuple[str, dict[str, Any], tuple[str, NDArray[np.float64]]]] = []
    for key, _, _, _, device in records(data):
        if key != "DEVC":
            continue
        name = ""
        for inner, kind, _, _, payload in records(device):
            if inner == "DVNM":
                name = _text(payload)
            elif inner == "STRM" and kind == "":
                tags, values = _stream(payload)
                if values is not None:
                    found.append((name, tags, values))
    # Only whole packets count: a damaged one would leave its sensors at different places.
    for name, tags, (key, array) in found:
        track = tracks.setdefault((name, key), Track(key, name))
        for tag in ("STNM", "SIUN", "UNIT", "ORIN", "ORIO", "MTRX"):
            if tag in tags:
                track.facts.setdefault(tag, tags[tag])
        track.portions.append(Portion(start, array, tags.get("TSMP")))


def _stream(data: bytes) -> tuple[dict[str, Any], tuple[str, NDArray[np.float64]] | None]:
    """Tags of a STRM, and (key, values) of its samples where they are numbers."""
    tags: dict[str, Any] = {}
    values = None
    for key, kind, size, count, payload in records(data):
        if key in ("STNM", "SIUN", "UNIT", "ORIN", "ORIO", "TYPE"):
            tags[key] = _units(payload, size, count) if key in ("SIUN", "UNIT") else _text(payload)
        elif key == "TSMP" and len(payload) >= 4:
            tags[key] = struct.unpack(">I", payload[:4])[0]
        elif key in ("SCAL", "MTRX"):
            numbers = _numbers(payload, kind, size, None)
            tags[key] = None if numbers is None else numbers.ravel()
        elif key in _KINDS or key in _OTHERS:
            array = _numbers(payload, kind, size, tags.get("TYPE"))
            # TMPC comes as a note beside other sensors, and as a sensor of its own only where nothing else does.
            if array is not None and count and key != "TMPC":
                values = (key, array)
    if values is not None:
        key, array = values
        scale = tags.get("SCAL")
        if scale is not None and scale.size in (1, array.shape[1]) and np.all(scale != 0):
            values = (key, array / scale)
        elif key in _KINDS:
            raise Broken(f"{key} without its scale")  # counts would be taken for units
    return tags, values


def _numbers(payload: bytes, kind: str, size: int, layout: str | None) -> NDArray[np.float64] | None:
    """`(n, columns)`; None for what is no number."""
    if kind == "?":
        letters = "".join(_repeated(layout or ""))
        if not letters or any(letter not in _DTYPES for letter in letters):
            return None
        dtype = np.dtype([(str(k), _DTYPES[letter]) for k, letter in enumerate(letters)])
        if dtype.itemsize != size or size == 0:
            return None
        rows = np.frombuffer(payload, dtype)
        columns = [rows[str(k)].astype(np.float64) * _FIXED_POINT.get(letter, 1.0) for k, letter in enumerate(letters)]
        return np.stack(columns, axis=1)
    if kind not in _DTYPES:
        return None
    dtype = np.dtype(_DTYPES[kind])
    if size == 0 or size % dtype.itemsize:
        return None
    values = np.frombuffer(payload, dtype).astype(np.float64) * _FIXED_POINT.get(kind, 1.0)
    return values.reshape(-1, size // dtype.itemsize)


def _repeated(layout: str) -> Iterator[str]:
    """Letters of a TYPE, in which f[8] stands for eight of them."""
    at = 0
    while at < len(layout):
        letter, at = layout[at], at + 1
        times = 1
        if at < len(layout) and layout[at] == "[":
            end = layout.find("]", at)
            digits = layout[at + 1 : end] if end > 0 else ""
            if not digits.isdigit() or int(digits) > 255:
                return
            times, at = int(digits), end + 1
        yield letter * times


def _text(payload: bytes) -> str:
    return payload.split(b"\0")[0].decode("latin-1").strip()


def _units(payload: bytes, size: int, count: int) -> tuple[str, ...]:
    if not size:
        return ()
    return tuple(_text(payload[k * size : (k + 1) * size]) for k in range(count))


def place(track: Track) -> tuple[NDArray[np.float64], list[str], dict[str, Any]]:
    """Times `(n,)` of all samples of a track, in the container's seconds; what is odd; facts.

    facts: `interval` (seconds, None where one packet alone does not tell it), `gaps`, and `off_line`: the most by which
    a packet's start leaves the line, which is how well the file can tell when its first sample was.
    """
    portions = track.portions
    counts = np.array([len(p.values) for p in portions])
    starts = np.array([p.start for p in portions])
    before = _counted_before(portions, counts)
    interval = _rough_interval(starts, before)
    if interval is None:
        return starts[0] + np.zeros(int(counts.sum())), [], {"interval": None}
    # Buffers are handed over when they are full, so packets hold some more or less: that moves no start.
    # The two that hold least may be short because samples were lost.
    inner = np.sort(counts[1:-1])[2:]
    burst = float(np.ptp(inner)) if inner.size > 2 else 0.0
    runs = _runs(starts, before, interval, max(_LOST * interval, _LATE, 2 * burst * interval))
    interval = _slope(starts, before, runs, interval)
    times, off = [], 0.0
    for first, last in runs:
        some = slice(_telling(first, last), last)
        residual = starts[some] - before[some] * interval
        origin = _center(residual)
        off = max(off, float(np.abs(residual - origin).max()))
        times += [origin + (before[k] + np.arange(counts[k])) * interval for k in range(first, last)]
    placed = np.concatenate(times)
    steps = np.diff(placed)
    odd: list[str] = []
    facts: dict[str, Any] = {"interval": interval, "off_line": off}
    long = np.flatnonzero(steps > 2.5 * interval)
    if long.size:
        gaps = [(float(placed[k] + interval), float(steps[k] - interval)) for k in long]
        lost = round(sum(length for _, length in gaps) / interval)
        time, length = max(gaps, key=lambda gap: gap[1])
        odd.append(f"{length * 1e3:.0f} ms missing at {time:.3f} s (the longest of {len(gaps)}; {lost} samples in all)")
        facts["gaps"] = gaps
    backward = np.flatnonzero(steps < 0)
    if backward.size:
        odd.append(f"its packets overlap at {placed[backward[0]]:.3f} s; the times of what follows are set after it")
        placed = np.maximum.accumulate(placed)
    return placed, odd, facts


def _counted_before(portions: list[Portion], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Samples before each portion: by the camera's own count where it is whole, since that knows of lost packets."""
    held = np.concatenate([[0], np.cumsum(counts)[:-1]])
    totals = [p.total for p in portions]
    if any(total is None for total in totals):
        return held
    counted: NDArray[np.int64] = np.array(totals, np.int64) - counts
    if np.all(np.diff(counted) >= counts[:-1]) and counted[0] >= 0:
        held = counted - counted[0]
    return held


def _rough_interval(starts: NDArray[np.float64], before: NDArray[np.int64]) -> float | None:
    """Median of the slopes over several packets: a few that are damaged do not move it. None where nothing tells."""
    apart = max(1, min(_APART, (len(starts) - 1) // 2))
    gone = before[apart:] - before[:-apart]
    between = starts[apart:] - starts[:-apart]
    usable = (between > 0) & (gone > 0)
    if usable[1:].any():
        usable[0] = False  # the first packet may be short
    return float(np.median(between[usable] / gone[usable])) if usable.any() else None


def _runs(
    starts: NDArray[np.float64], before: NDArray[np.int64], interval: float, tolerance: float
) -> list[tuple[int, int]]:
    """(first, end) of portions that lie on one line: where the residual steps by more than `tolerance` and stays."""
    residual = starts - before * interval
    runs, first = [], _telling(0, len(starts))
    for k in range(first + 1, len(starts)):
        # Of the last few: the interval is still a rough one, and its error adds up.
        here = float(np.median(residual[max(first, k - _NEAR) : k]))
        ahead = residual[k : k + 2]
        if np.all(np.abs(ahead - here) > tolerance) and (len(ahead) > 1 or abs(ahead[0] - here) > 2 * tolerance):
            runs.append((first, k))
            first = k
    runs.append((first, len(starts)))
    return [(0, runs[0][1]), *runs[1:]]


def _telling(first: int, last: int) -> int:
    """The first portion whose start tells when its samples were; of two or fewer each has to."""
    return 1 if first == 0 and last > 2 else first


def _slope(
    starts: NDArray[np.float64], before: NDArray[np.int64], runs: list[tuple[int, int]], interval: float
) -> float:
    """Seconds a sample, common to all runs, each with an origin of its own."""
    if not any(last - first > 2 for first, last in runs):
        return interval
    for _ in range(20):
        top = bottom = 0.0
        for first, last in runs:
            some = slice(_telling(first, last), last)
            y, x = starts[some], before[some].astype(np.float64)
            residual = y - x * interval
            scale = max(1.4826 * float(np.median(np.abs(residual - np.median(residual)))), 1e-6)
            weight = np.minimum(1.0, 1.345 * scale / np.maximum(np.abs(residual - np.median(residual)), 1e-12))
            x = x - np.average(x, weights=weight)
            top += float(np.sum(weight * x * y))
            bottom += float(np.sum(weight * x * x))
        if bottom == 0.0:
            return interval
        new = top / bottom
        if abs(new - interval) < 1e-12:
            return new
        interval = new
    return interval


def _center(origins: NDArray[np.float64]) -> float:
    """Middle of the origins that the packets of a run ask for, the odd ones among them weighing little."""
    middle = float(np.median(origins))
    scale = 1.4826 * float(np.median(np.abs(origins - middle)))
    near = origins[np.abs(origins - middle) <= 3 * scale + 1e-9]
    return float(near.mean())


def axes_of(track: Track) -> tuple[str, ...] | None:
    """Axis of each stored channel, a small letter where it points backwards; None where the file does not say.

    ORIN says it in newer cameras; older ones in the sensor's name: "Gyroscope (z,x,y)".
    """
    stated = track.facts.get("ORIN", "")
    if sorted(stated.lower()) == ["x", "y", "z"]:
        return tuple(stated)
    name = track.facts.get("STNM", "").lower()
    inside = name[name.find("(") + 1 : name.find(")")] if "(" in name and ")" in name else ""
    words = [_DIRECTIONS.get(word.strip(), word.strip()) for word in inside.split(",")]
    return tuple(word.upper() for word in words) if sorted(words) == ["x", "y", "z"] else None


def in_axes(values: NDArray[np.float64], axes: tuple[str, ...]) -> NDArray[np.float64]:
    """Columns x, y, z from columns as they are stored."""
    columns = np.empty_like(values)
    for k, axis in enumerate(axes):
        columns[:, "xyz".index(axis.lower())] = values[:, k] if axis.isupper() else -values[:, k]
    return columns


def kind_of(track: Track, width: int) -> tuple[Kind, tuple[str, ...]]:
    kind, channels = _KINDS.get(track.key, ("other", ()))
    if len(channels) != width:
        return "other", tuple(f"{track.key}-{k + 1}" for k in range(width)) if width > 1 else (track.key,)
    return kind, channels


def unit_of(track: Track) -> Unit:
    """The unit that the file states, or else the one that GoPro documents for every camera."""
    units = set(track.facts.get("SIUN", track.facts.get("UNIT", ())))
    stated = units.pop() if len(units) == 1 else None
    if track.key == "GYRO":
        scale = np.pi / 180 if stated in ("deg/s", "dps") else 1.0
        return Unit(stated or "rad/s", scale, "stated" if stated else "GoPro documents it")
    if track.key == "ACCL":
        return Unit(stated or "m/s^2", G if stated == "g" else 1.0, "stated" if stated else "GoPro documents it")
    return Unit(stated, 1.0, "stated" if stated else "not stated")
