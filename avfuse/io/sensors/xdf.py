"""XDF (Lab Streaming Layer): streams of several computers on the recording computer's clock, through pyxdf.

pyxdf lays a robust line through each stream's `clock_offset` records, which puts all stamps onto one clock. Stamps of
an evenly sampled stream tell when its computer got hold of the samples: they are laid along a line by least squares, as
pyxdf does it, but a line ends where samples were lost, however few, which pyxdf bridges up to a second.
"""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avfuse.errors import ReadError
from avfuse.io.sensors.assembling import Part, reason_of, recording_of, rows_to_parts
from avfuse.io.sensors.channels import Group, group_columns
from avfuse.io.sensors.headers import parse_header, unit_named
from avfuse.io.sensors.needed import needed
from avfuse.io.sensors.times import to_nanoseconds
from avfuse.stream import Recording

_TAGS = {1, 2, 3, 4, 5, 6}
_LOST = 0.5  # share of a long step that must last, for samples to be lost and not merely late
_WINDOW, _SAMPLES = 2.0, (100, 1000)  # seconds before and after it that tell, and samples at least and at most
_ENOUGH = 50  # samples on either side
_LEAST = 0.75  # sampling intervals that must be lost
_SURE = 4.0  # standard deviations of the medians of the jitter
_MOST_JITTER = 0.5  # sampling intervals of it that are told
_RATE = 0.01  # share by which the rate may miss the nominal one


def read_xdf(path: str) -> Recording:
    """All streams of an XDF file. Times are on the clock that pyxdf finds; `start_clock` is the recording computer's.

    Raises ReadError, one line, where nothing of it can be read.
    """
    pyxdf = needed("pyxdf", path, "XDF")
    odd: list[str] = []
    whole, size = _whole(path)
    if whole < size:
        odd.append(f"cut short: its last {size - whole} bytes are part of a chunk; what is whole was read")
    with _quiet() as told:
        try:
            streams, header = pyxdf.load_xdf(path, dejitter_timestamps=False)
        except Exception as error:  # pyxdf lets through whatever its parsing meets in damaged files
            what = f"{type(error).__name__}: {error}"
            raise ReadError(
                f"{path}: no readable XDF file ({' '.join(what.split())[:120]}); expected LabRecorder's, "
                "try to copy it again"
            ) from error
    # The other warnings are about its inner workings, or about rates, which are told below.
    odd += [f"pyxdf: {' '.join(line.split())}" for line in told if "corrupt" in line]
    if not streams:
        raise ReadError(f"{path}: no streams in it; expected at least one with samples")
    parts: list[Part] = []
    for stream in sorted(streams, key=lambda s: int(s["info"]["stream_id"])):
        parts += _parts(path, stream, odd)
    if not parts and odd:
        raise ReadError(f"{path}: no samples in it ({odd[-1]}); expected at least one stream with times")
    facts = {"datetime": _first(header.get("info", {}), "datetime")}
    return recording_of(path, "xdf", parts, facts, odd)


def _parts(path: str, stream: Mapping[str, Any], odd: list[str]) -> list[Part]:
    info = stream["info"]
    name, kind = _first(info, "name") or "", _first(info, "type") or ""
    facts: dict[str, Any] = {
        "stream_name": name, "stream_type": kind, "stream_id": int(info["stream_id"]),
        "nominal_rate": float(_first(info, "nominal_srate") or 0.0), "clock_offsets": len(stream["clock_times"]),
    }  # fmt: skip
    times = np.asarray(stream["time_stamps"], np.float64)
    if not times.size:
        odd.append(f"stream {name!r} ({kind}) is empty; left out")
        return []
    if not facts["clock_offsets"]:
        odd.append(f"stream {name!r}: no clock_offset records; its own computer's stamps are taken as they are")
    rows = np.flatnonzero(to_nanoseconds(times, "s")[1])
    if rows.size < times.size:
        odd.append(f"stream {name!r}: {times.size - rows.size} stamps are no times; left out")
    times, nominal = times[rows], facts["nominal_rate"]
    if nominal > 0 and times.size > 1:
        times, moved = _evened(times, nominal)
        facts |= {"dejittered": True, "jitter": moved}
        effective = (times.size - 1) / (times[-1] - times[0]) if times[-1] > times[0] else 0.0
        if abs(effective / nominal - 1) > _RATE:
            odd.append(f"stream {name!r} runs at {effective:.4g} Hz on average, and says {nominal:.4g} Hz")
        if moved > _MOST_JITTER / nominal:
            odd.append(f"stream {name!r}: stamps jitter by {moved * 1e3:.1f} ms about an even beat; laid onto it")
    stamps, _ = to_nanoseconds(times, "s")
    series = stream["time_series"]
    if isinstance(series, list):
        words = np.array(["\t".join(series[row]) for row in rows], dtype=np.str_)
        group = Group("text", (0,), (name,), "it holds strings")
        return _ordered(path, [group], [words], stamps, facts, odd, name)
    with np.errstate(invalid="ignore"):  # damaged float32 may be a NaN that signals
        values = np.asarray(series, np.float64).reshape(len(series), -1)[rows]
    labels, units = _labels(info, values.shape[1])
    headers = [replace(h, unit=u or h.unit) for h, u in zip(map(parse_header, labels), units, strict=True)]
    groups = group_columns(path, f"{name} {kind}", headers, range(values.shape[1]))
    return _ordered(path, groups, [values[:, list(g.columns)] for g in groups], stamps, facts, odd, name)


def _evened(times: NDArray[np.float64], rate: float) -> tuple[NDArray[np.float64], float]:
    """Times on one line between breaks, and the standard deviation (s) of what that moved.

    A break is a step that lasts: where stamps after it lie later, against the count, than those before. A step that is
    caught up is a packet that came late.
    """
    count = np.arange(times.size)
    residual = times - count * _interval(times, rate)
    steps = np.diff(residual)
    scatter = 1.4826 * float(np.median(np.abs(steps - np.median(steps)))) / np.sqrt(2)
    window = int(np.clip(_WINDOW * rate, *_SAMPLES))
    breaks = [0]
    for k in np.flatnonzero(np.abs(steps) > 1.5 / rate):
        before, after = residual[max(breaks[-1], k + 1 - window) : k + 1], residual[k + 1 : k + 1 + window]
        shift = abs(float(np.median(after) - np.median(before)))
        by_chance = _SURE * scatter * np.sqrt(np.pi / 2 * (1 / before.size + 1 / after.size))
        # Beside an end of the line packets that came late look like samples that were lost, unless these are many.
        least = _LEAST / rate if min(before.size, after.size) >= _ENOUGH else max(1.0, 500 / rate)
        if shift > max(_LOST * abs(steps[k]), least, by_chance):
            breaks.append(int(k) + 1)
    breaks.append(times.size)
    evened = times.copy()
    for first, last in itertools.pairwise(breaks):
        if last - first > 2:
            index = count[first:last] - (first + last - 1) / 2
            part = times[first:last]
            evened[first:last] = part.mean() + index * float(index @ (part - part.mean())) / float(index @ index)
    return evened, float(np.std(evened - times))


def _interval(times: NDArray[np.float64], rate: float) -> float:
    """Seconds a sample: the median over stretches of ten seconds, which few losses and late packets do not move."""
    apart = min(max(round(10 * rate), 100), times.size - 1)
    found = float(np.median(times[apart:] - times[:-apart])) / apart
    return found if abs(found * rate - 1) < _RATE else 1 / rate


def _ordered(
    path: str, groups: list[Group], values: list[Any], stamps: Any, facts: dict[str, Any], odd: list[str], name: str
) -> list[Part]:
    found: list[str] = []
    try:
        parts = rows_to_parts(path, groups, values, stamps, 1, found)
    except ReadError as error:  # the other streams are good without it
        odd.append(f"stream {name!r} is left out: {reason_of(error, path)}")
        return []
    odd += [f"stream {name!r}: {sentence}" for sentence in found]
    for part in parts:
        part.name = name
        part.facts |= facts
    return parts


def _labels(info: Mapping[str, Any], width: int) -> tuple[list[str], list[str | None]]:
    """Names and units of channels, where the stream's description has them for every channel."""
    channels: list[Any] = []
    with suppress(KeyError, IndexError, TypeError):
        channels = list(info["desc"][0]["channels"][0]["channel"])
    names = [_first(c, "label") for c in channels if isinstance(c, Mapping)]
    if len(names) != width or not all(names):
        return [str(k + 1) for k in range(width)], [None] * width
    stated = [_first(c, "unit") for c in channels]
    return [str(n) for n in names], [None if u is None else unit_named(u) or u for u in stated]


def _first(info: Mapping[str, Any], key: str) -> str | None:
    """XDF's XML comes as lists of one."""
    found = info.get(key)
    found = found[0] if isinstance(found, list) and found else found
    return found if isinstance(found, str) and found else None


def _whole(path: str) -> tuple[int, int]:
    """(bytes of whole chunks, bytes in all). Raises ReadError where it is no XDF."""
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        head = file.read(4)
        if head[:2] == b"\x1f\x8b" and path.endswith((".xdfz", ".xdf.gz")):
            return size, size  # pyxdf unpacks it by these names
        if head != b"XDF:":
            raise ReadError(f"{path}: no XDF file; expected one that begins with 'XDF:'")
        at = 4
        while at < size:
            width = file.read(1)
            if width not in (b"\x01", b"\x04", b"\x08"):
                return at, size
            digits = file.read(width[0])
            length = int.from_bytes(digits, "little")
            end = at + 1 + width[0] + length
            if len(digits) < width[0] or end > size or int.from_bytes(file.read(2), "little") not in _TAGS:
                return at, size
            file.seek(end)
            at = end
    return at, size


@contextmanager
def _quiet() -> Iterator[list[str]]:
    """What pyxdf logs as a warning, instead of on stderr."""
    told: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.append(record.getMessage())

    logger, handler = logging.getLogger("pyxdf"), Keep(logging.WARNING)
    logger.addHandler(handler)
    before, logger.propagate = logger.propagate, False
    try:
        yield told
    finally:
        logger.propagate = before
        logger.removeHandler(handler)
