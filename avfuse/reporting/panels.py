"""A timeline as rows of bars: what both the picture and the page draw.

One panel per clock: the reference's, every island's, and the own time of recordings that could not be placed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from avfuse.alignment import Alignment, ClockEstimate, format_std
from avfuse.reporting.text import format_duration, format_offset, format_ppm

_STEPS = (
    *(m * 10.0**e for e in (-4, -3, -2, -1, 0) for m in (1, 2, 5)), 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0,
    1800.0, 3600.0, 7200.0, 10800.0, 21600.0, 43200.0,
)  # fmt: skip


@dataclass(frozen=True)
class Bar:
    """A stretch of a recording: from first to last on the panel's clock, from start to end of its own time."""

    first: float
    last: float
    start: float
    end: float


@dataclass(frozen=True)
class Row:
    """A bar, or several where a recording has segments or an answer has candidates.

    kind: `reference`, `aligned`, `ambiguous`, or `refused` for all that has no place.
    """

    name: str
    kind: str
    bars: tuple[Bar, ...]
    title: str
    detail: str


@dataclass(frozen=True)
class Panel:
    """Rows on one clock. reference: whose clock it is; None for the own time of what could not be placed."""

    title: str
    reference: str | None
    rows: tuple[Row, ...]

    @property
    def span(self) -> tuple[float, float]:
        bars = [bar for row in self.rows for bar in row.bars]
        return min(bar.first for bar in bars), max(bar.last for bar in bars)


def panels_of(alignment: Alignment) -> list[Panel]:
    """The reference's panel, every island's, and the refusals."""
    panels: dict[str, list[Row]] = {alignment.reference: []}
    refused: list[Row] = []
    for name, estimate in alignment.clocks.items():
        lasts = alignment.facts[name].duration if name in alignment.facts else estimate.span[1]
        row = _row(name, estimate, lasts)
        if row.kind == "refused":
            refused.append(row)
        else:
            panels.setdefault(estimate.reference or alignment.reference, []).append(row)
    found = []
    for reference, rows in panels.items():
        if rows:
            island = "" if reference == alignment.reference else ", an island"
            found.append(Panel(f"time on the clock of {reference}{island}", reference, tuple(rows)))
    if refused:
        found.append(Panel("own time of recordings that could not be placed", None, tuple(refused)))
    return found


def _row(name: str, estimate: ClockEstimate, lasts: float) -> Row:
    if estimate.status == "reference":
        return Row(name, "reference", (Bar(0.0, lasts, 0.0, lasts),), "reference", format_duration(lasts))
    if estimate.clock is not None:
        bars = tuple(Bar(float(s.map(s.start)), float(s.map(s.end)), s.start, s.end) for s in estimate.segments)
        first, std = estimate.segments[0], estimate.std
        title = f"{format_offset(first.offset, std)} s ± {format_std(std)}"
        if len(bars) > 1:
            return Row(name, "aligned", bars, title, f"{len(bars)} segments")
        drift = estimate.drift_std
        detail = "drift unknown" if drift is None else f"drift {format_ppm(first.drift, drift)} ppm"
        return Row(name, "aligned", bars, title, detail)
    if estimate.status == "ambiguous" and estimate.candidates:
        bars = tuple(Bar(c.offset, float(c.map(lasts)), 0.0, lasts) for c in estimate.candidates)
        return Row(name, "ambiguous", bars, f"ambiguous: {len(bars)} answers", estimate.message or "")
    bars = (Bar(0.0, lasts, 0.0, lasts),)
    return Row(name, "refused", bars, estimate.status.replace("_", " "), estimate.message or "")


def tick_step(length: float) -> float:
    """Seconds between the ticks of an axis of `length` seconds: nine of them at most."""
    return next((s for s in _STEPS if length / s <= 9), 86400.0 * math.ceil(length / 9 / 86400))
