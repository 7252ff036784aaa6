"""Tables and sentences for the terminal.

Printed onto a terminal they take its width and colours; into a pipe they are plain text, one line per row.
"""

from __future__ import annotations

import io
import math
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING

from rich import box
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.table import Table

from avfuse.alignment import Alignment, ClockEstimate, format_std

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from avfuse.checking import SyncCheck
    from avfuse.clock import ClockMap
    from avfuse.io.inspection import FileInfo, StreamInfo

_COLOURS = {"reference": "blue", "aligned": "green", "ambiguous": "yellow", "no_match": "red", "degenerate": "red"}


def show(file: IO[str], *parts: RenderableType) -> None:
    """Print `parts` below each other: styled and wrapped on a terminal, plain and unbroken in a pipe."""
    terminal = Console(file=file, highlight=False, emoji=False)
    if terminal.is_terminal:
        terminal.print(*parts, sep="\n")
        return
    # Rich takes 80 columns where there is no terminal, and would cut names and numbers to fit them.
    plain = Console(file=io.StringIO(), highlight=False, emoji=False, width=10_000)
    with plain.capture() as capture:
        plain.print(*parts, sep="\n")
    lines = (line.rstrip() for line in capture.get().splitlines())
    file.write("\n".join(lines).strip("\n") + "\n")


def print_alignment(alignment: Alignment, file: IO[str]) -> None:
    """One row per recording (per segment, where it has several), then what is doubtful, in words."""
    table = _table("recording", "offset", "drift", "confidence", "status")
    for name, estimate in alignment.clocks.items():
        for cells in _rows(name, estimate, alignment.reference):
            table.add_row(*cells)
    doubts = [f"[bold]{escape(name)}[/]: {escape(e.message)}" for name, e in alignment.clocks.items() if e.message]
    jumps = [f"[bold]{escape(n)}[/]: {line}" for n, e in alignment.clocks.items() for line in break_lines(e)]
    show(file, table, *jumps, *doubts)


def print_checks(found: Sequence[SyncCheck], file: IO[str]) -> None:
    """One row per file, then why what is unknown is so."""
    table = _table("file", "sound comes", "by", "confidence", "verdict")
    for one in found:
        colour = {"in_sync": "green", "out_of_sync": "red", "unknown": "yellow"}[one.verdict]
        delay = ""
        if one.sound_delay is not None and one.std is not None:
            late = f"{abs(one.sound_delay) * 1e3:.{1 if one.std < 1e-3 else 0}f} ms ± {format_std(one.std)}"
            delay = f"{late} {'late' if one.sound_delay >= 0 else 'early'}"
        sure = format_confidence(one.confidence) if delay else ""
        table.add_row(escape(one.source), delay, one.evidence or "", sure, f"[{colour}]{one.verdict}[/]")
    doubts = [f"[bold]{escape(one.source)}[/]: {escape(one.message)}" for one in found if one.message]
    tolerance = "in sync: within EBU R37 (40 ms early to 60 ms late) and what ITU-R BT.1359 calls undetectable"
    show(file, table, *doubts, f"[dim]{tolerance}[/]")


def break_lines(estimate: ClockEstimate) -> list[str]:
    """What each break of a clock is, in words."""
    found = []
    for b in estimate.breaks:
        size = f"{abs(b.missing):.3f} s" if abs(b.missing) >= 1 else f"{abs(b.missing) * 1e3:.1f} ms"
        what = f"lacks {size}" if b.missing > 0 else f"has {size} that the reference lacks,"
        found.append(f"{what} at {b.at:.2f} s ± {format_std(b.std)}")
    return found


def _table(*headings: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def _rows(name: str, estimate: ClockEstimate, reference: str) -> list[tuple[str, str, str, str, str]]:
    status = f"[{_COLOURS[estimate.status]}]{estimate.status}[/]"
    island = estimate.reference not in (None, reference)
    if estimate.status == "reference":
        return [(escape(name), "0", "0", "", f"{status} of its own island" if island else status)]
    if island:
        status += f" to {escape(str(estimate.reference))}"
    if estimate.clock is None:
        answers = " or ".join(f"{c.offset:+.4f} s" for c in estimate.candidates[:3])
        more = f" or {len(estimate.candidates) - 3} more" if len(estimate.candidates) > 3 else ""
        confidence = format_confidence(estimate.confidence) if estimate.candidates else ""
        return [(escape(name), answers + more, "", confidence, status)]
    rows = []
    for k, segment in enumerate(estimate.segments):
        std = float(estimate.std_at((segment.start + segment.end) / 2))
        drift_std = _drift_std(estimate, k)
        drift = "unknown" if drift_std is None else f"{format_ppm(segment.drift, drift_std)} ppm"
        offset = f"{format_offset(segment.offset, std)} s ± {format_std(std)}"
        if k == 0:
            rows.append((escape(name), offset, drift, format_confidence(estimate.confidence), status))
        else:
            rows.append((f"  from {segment.start:.3f} s", offset, drift, "", ""))
    return rows


def _drift_std(estimate: ClockEstimate, segment: int) -> float | None:
    if estimate.cov is None or not estimate.drift_known:
        return None
    return float(estimate.cov.reshape(-1, 2, 2)[segment, 1, 1] ** 0.5)


def format_offset(offset: float, std: float) -> str:
    """Seconds with as many digits as the first two of `std`."""
    digits = 1 - math.floor(math.log10(std)) if std > 0 and math.isfinite(std) else 5
    return f"{offset:+.{min(max(digits, 1), 6)}f}"


def format_ppm(drift: float, std: float) -> str:
    """Parts per million with as many digits as the first two of `std`."""
    digits = 1 - math.floor(math.log10(std * 1e6)) if std > 0 and math.isfinite(std) else 2
    digits = min(max(digits, 0), 4)
    return f"{drift * 1e6:+.{digits}f} ± {std * 1e6:.{digits}f}"


def format_confidence(confidence: float) -> str:
    """A probability that is never rounded up: 0.99996 is not 1."""
    return f"{math.floor(confidence * 1e4 + 1e-9) / 1e4:.4f}" if confidence < 1 else "1"


def format_clock(seconds: float) -> str:
    """12:05, 1:02:45, -0:30."""
    sign, whole = "-" if round(seconds) < 0 else "", round(abs(seconds))
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{sign}{hours}:{minutes:02d}:{rest:02d}" if hours else f"{sign}{minutes}:{rest:02d}"


def format_duration(seconds: float) -> str:
    """41.2 s, 12:05, 1:02:45."""
    return f"{seconds:.1f} s" if seconds < 120 else format_clock(seconds)


def print_truth(alignment: Alignment, truth: Mapping[str, ClockMap], file: IO[str]) -> None:
    """Estimates beside the truth; the error is that of the middle of each recording.

    truth: clock of every recording -> clock of the reference.
    """
    table = _table("recording", "offset", "true offset", "error", "drift", "true drift")
    for name, clock in truth.items():
        estimate = alignment.clocks[name]
        if estimate.status == "reference":
            continue
        if estimate.clock is None:
            table.add_row(escape(name), estimate.status, f"{clock.offset:+.6f} s", "", "", _ppm(clock.drift))
            continue
        middle, std = (estimate.span[0] + estimate.span[1]) / 2, estimate.std
        table.add_row(
            escape(name),
            f"{format_offset(estimate.offset, std)} s ± {format_std(std)}",
            f"{format_offset(clock.offset, std)} s",
            f"{float(estimate.map(middle) - clock(middle)) * 1e3:+.4f} ms",
            "unknown" if estimate.drift_std is None else f"{format_ppm(estimate.drift, estimate.drift_std)} ppm",
            _ppm(clock.drift),
        )
    show(file, table)


def _ppm(drift: float) -> str:
    return f"{drift * 1e6:+.2f} ppm"


def print_info(files: Sequence[FileInfo], file: IO[str]) -> None:
    """What every file holds: a heading, one row per stream, and what is odd."""
    parts: list[RenderableType] = []
    for one in files:
        known = [f"{one.duration:.3f} s", one.container]
        known += [f"starts at {_clock_words(one.start, one.start_clock)}"] if one.start_clock else []
        known += [f"created {one.creation_time}"] if one.creation_time else []
        known += [f"time code {one.timecode}"] if one.timecode else []
        table = _table("stream", "start", "duration", "codec", "what")
        for stream in one.streams:
            duration = f"{stream.duration:.3f} s"
            table.add_row(stream.name, f"{stream.start:.4f} s", duration, stream.codec or "", _describe(stream))
        odd = [f"odd: {escape(sentence)}" for sentence in one.odd]
        parts += [f"[bold]{escape(one.source)}[/]  {escape(', '.join(known))}", table, *odd, ""]
    show(file, *parts)


def _clock_words(start: int, clock: str) -> str:
    """Where on its clock a recording starts."""
    if clock == "unix":
        return f"{datetime.fromtimestamp(start // 10**9, UTC):%Y-%m-%d %H:%M:%S}.{start % 10**9 // 10**6:03d} UTC"
    return f"{start / 1e9:.6f} s of its device's clock"


def _describe(stream: StreamInfo) -> str:
    if stream.rate is not None:
        channels = len(stream.channels)
        count = {1: "mono", 2: "stereo"}.get(channels, f"{channels} channels")
        peak = f", peak {20 * math.log10(stream.peak):.1f} dB" if stream.peak else ", silent"
        return f"{stream.rate:g} Hz {count}{peak}"
    if stream.width is not None:
        turned = f", turned by {stream.rotation} degrees" if stream.rotation else ""
        rate = f", {stream.average_rate:.3f} frames/s" if stream.average_rate else ""
        return f"{stream.width} x {stream.height}{rate}, {stream.frames} frames{turned}"
    if stream.kind == "text" or stream.frames is None:
        return f"{stream.frames} entries" if stream.frames is not None else ""
    rate = f", {stream.average_rate:.4g} Hz" if stream.average_rate else ""
    unit = f" in {stream.unit}" if stream.unit else ""
    count = "" if not stream.channels else f" of {_few(stream.channels)}"
    return escape(f"{stream.frames} samples{count}{unit}{rate}")


def _few(names: Sequence[str]) -> str:
    """Names of channels, the first of many."""
    return " ".join(names) if len(names) <= 7 else f"{len(names)} channels ({names[0]}, {names[1]}, ...)"
