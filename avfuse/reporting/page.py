"""One self-contained HTML page that explains an alignment to a person who never saw avfuse.

    summary      how many recordings have a place, and which need somebody
    timeline     every recording with its loudness, what overlaps, gaps, islands, and what could not be placed
    table        the same in numbers
    recordings   each with its interval in words, the evidence measured again, before and after to listen to, advice

It loads nothing: style, figures, sounds and four lines of script are inside, and its content policy forbids the rest.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from markupsafe import Markup

from avfuse import __version__
from avfuse.alignment import Alignment, ClockEstimate, format_std
from avfuse.files import check_spares, replacing
from avfuse.reporting import drawing, words
from avfuse.reporting.measuring import Answer, Evidence, Measured, measure
from avfuse.reporting.panels import Panel, Row, panels_of, tick_step
from avfuse.reporting.snippets import Snippet
from avfuse.reporting.text import format_clock, format_confidence, format_duration, format_offset, format_ppm

_NAME = 15.0  # rem; longer names are wrapped
_WRAPPED = 48  # characters that two lines take; longer names are cut in the timeline
_LANES = 6  # answers that are drawn above each other
_TOLD = 4  # gaps that are told beside a bar
_ALIKE = 0.02  # seconds that nobody hears between two ears

_SCRIPT = """
for (const sound of document.querySelectorAll("audio")) {
  const head = sound.closest("figure").querySelector(".head"), width = +head.dataset.width;
  sound.addEventListener("play", () => document.querySelectorAll("audio").forEach(a => a === sound || a.pause()));
  sound.addEventListener("timeupdate", () => head.setAttribute("transform",
    `translate(${width * Math.min(sound.currentTime / sound.dataset.seconds, 1)} 0)`));
}
"""


def write_report(
    alignment: Alignment,
    path: str | os.PathLike[str],
    *,
    progress: Callable[[float, str], None] | None = None,
) -> Path:
    """Write the page that explains `alignment`, measuring it again on the recordings that can be read.

    progress: called with the share done (0..1) and what is being done.
    Raises WriteError where `path` cannot be written to or is one of the recordings. Recordings that cannot be read
    are no error: the page says so.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    check_spares(path, alignment.sources)
    environment = Environment(
        loader=PackageLoader("avfuse.reporting", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html.j2").render(_content(alignment, measure(alignment, progress)))
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return Path(path)


def _content(alignment: Alignment, evidence: Evidence) -> dict[str, Any]:
    anchors = {name: f"r{k + 1}" for k, name in enumerate(alignment.clocks)}
    panels = panels_of(alignment)
    long = any(panel.span[1] - panel.span[0] > 120 for panel in panels)
    cards = [_card(name, alignment, evidence, anchors[name], long) for name in alignment.clocks]
    digest = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode("ascii")
    return {
        "version": __version__,
        "script": Markup(_SCRIPT),  # ours, and no part of any recording
        "script_digest": digest,
        "summary": words.summary(alignment),
        "counts": _counts(alignment),
        "attention": [card for card in cards if card.needs],
        "name_width": min(max(0.6 * max(len(words.shown(name)) for name in alignment.clocks) + 0.4, 5.0), _NAME),
        "panels": [_panel(panel, alignment, evidence, anchors) for panel in panels],
        "cards": cards,
        "unheard": len(evidence.silent) == len(alignment.clocks),
        "reference": words.shown(alignment.reference),
    }


def _counts(alignment: Alignment) -> list[tuple[str, int, str]]:
    """(kind, how many, of what)"""
    statuses = [
        "island"
        if e.clock is not None and e.reference not in (None, alignment.reference)
        else ("aligned" if e.status == "reference" else e.status)
        for e in alignment.clocks.values()
    ]
    named = (
        ("aligned", "aligned", "on the common timeline"),
        ("island", "island", "on islands"),
        ("ambiguous", "ambiguous", "with several answers"),
        ("refused", "no_match", "that share nothing"),
        ("refused", "degenerate", "with nothing to go by"),
    )
    return [(kind, statuses.count(status), text) for kind, status, text in named if statuses.count(status)]


# The timeline


@dataclass(frozen=True)
class _Bar:
    left: float
    width: float
    levels: Markup
    dashed: bool


@dataclass(frozen=True)
class _Row:
    name: str
    cut: str
    anchor: str
    kind: str
    title: str
    detail: str
    spoken: str
    bars: list[_Bar]
    gaps: list[tuple[float, float, str]]


@dataclass(frozen=True)
class _Panel:
    heading: str
    axis: str
    ticks: list[tuple[float, str]]
    rows: list[_Row]
    cover: list[tuple[float, float, int]]
    most: int
    uncovered: str


def _panel(panel: Panel, alignment: Alignment, evidence: Evidence, anchors: dict[str, str]) -> _Panel:
    first, last = panel.span
    length = max(last - first, 1e-3)

    def across(time: float) -> float:
        return round(100 * (time - first) / length, 3)

    long = length > 120

    def tell(time: float) -> str:
        return words.moment(time, long)

    rows = [_timeline_row(row, alignment, evidence, anchors, across, tell) for row in panel.rows]
    step = tick_step(length)
    ticks = [
        (across(k * step), format_clock(k * step) if long else f"{k * step:g}")
        for k in range(-int(-first // step), int(last // step) + 1)
    ]
    placed = [row for row in panel.rows if row.kind in ("reference", "aligned")] if panel.reference is not None else []
    cover = _cover(placed)
    island = panel.reference is not None and panel.reference != alignment.reference
    unit = ("h:min:s" if max(abs(first), abs(last)) >= 3600 else "min:s") if long else "s"
    heading = (
        "Could not be placed"
        if panel.reference is None
        else f"Island of {words.shown(panel.reference)}"
        if island
        else f"On the clock of {words.shown(panel.reference)}"
    )
    return _Panel(
        heading,
        f"{words.shown(panel.title)} [{unit}]",
        ticks,
        rows,
        [(across(a), across(b) - across(a), n) for a, b, n in cover] if len(placed) > 1 else [],
        max((n for *_, n in cover), default=0),
        _uncovered([(tell(a), tell(b)) for a, b, n in cover if n == 0]),
    )


def _timeline_row(
    row: Row,
    alignment: Alignment,
    evidence: Evidence,
    anchors: dict[str, str],
    across: Callable[[float], float],
    tell: Callable[[float], str],
) -> _Row:
    levels = evidence.levels.get(row.name)
    lasts = alignment.facts[row.name].duration if row.name in alignment.facts else max(b.end for b in row.bars)
    bars = []
    for k, bar in enumerate(row.bars[:_LANES] if row.kind == "ambiguous" else row.bars):
        drawn = Markup("")
        if levels is not None and lasts > 0:
            low, high = (round(len(levels) * t / lasts) for t in (bar.start, bar.end))
            drawn = drawing.draw_levels(levels[max(low, 0) : max(high, low + 2)])
        width = max(across(bar.last) - across(bar.first), 0.2)
        bars.append(_Bar(across(bar.first), width, drawn, row.kind == "ambiguous" and k > 0))
    gaps = []
    breaks = words.breaks_of(alignment.clocks[row.name])
    for before, after, broken in zip(row.bars, row.bars[1:], breaks, strict=False):
        # A clock that jumps back leaves no gap: only the place is marked.
        width = max(across(after.first) - across(before.last), 0.0)
        gaps.append((across(before.last), width, f"{broken.label} at {tell(before.last)}"))
    if row.kind == "refused":
        spoken = f"lasts {format_duration(lasts)}, no place"
    else:
        either = " or " if row.kind == "ambiguous" else " and "
        spoken = either.join(f"from {tell(b.first)} to {tell(b.last)}" for b in row.bars)
    name = words.shown(row.name)
    return _Row(
        name=name,
        cut=words.shortened(name, _WRAPPED),
        anchor=anchors[row.name],
        kind=row.kind,
        title=row.title,
        detail="; ".join([words.shown(row.detail), *(gap[2] for gap in gaps[:_TOLD] if len(gaps) <= _TOLD)]),
        spoken=spoken,
        bars=bars,
        gaps=gaps,
    )


def _cover(rows: list[Row]) -> list[tuple[float, float, int]]:
    """(from, to, how many recordings run) over the whole span of `rows`."""
    bars = [bar for row in rows for bar in row.bars]
    edges = sorted({edge for bar in bars for edge in (bar.first, bar.last)})
    found: list[tuple[float, float, int]] = []
    for low, high in pairwise(edges):
        count = sum(bar.first <= low and bar.last >= high for bar in bars)
        if found and found[-1][2] == count:
            found[-1] = (found[-1][0], high, count)
        else:
            found.append((low, high, count))
    return found


def _uncovered(holes: list[tuple[str, str]]) -> str:
    if not holes:
        return ""
    told = ", ".join(f"from {first} to {last}" for first, last in holes[:_TOLD])
    return f"Nobody recorded {told}" + (f", nor at {len(holes) - _TOLD} more times." if len(holes) > _TOLD else ".")


# The recordings


@dataclass(frozen=True)
class _Figure:
    heading: str
    drawn: Markup
    caption: str


@dataclass(frozen=True)
class _Sound:
    label: str
    sound: str
    seconds: float
    strips: Markup
    caption: str


@dataclass(frozen=True)
class _Answer:
    place: str
    drift: str
    probability: str
    heard: str


@dataclass(frozen=True)
class _Card:
    """Everything the page says of one recording."""

    name: str
    short: str
    anchor: str
    kind: str
    status: str
    brief: str
    needs: str
    source: str
    lasts: str
    extent: str
    place: str
    drift: str
    confidence: str
    sentences: list[str]
    breaks: list[str]
    message: str
    unheard: str
    against: str
    verdict: str
    verdict_text: str
    figures: list[_Figure]
    sounds: list[_Sound]
    ears: tuple[str, str]
    alike: bool
    answers: list[_Answer]
    advice: list[str]


def _card(name: str, alignment: Alignment, evidence: Evidence, anchor: str, long: bool) -> _Card:
    """long: whether times are told as on a clock, in the whole page alike."""
    estimate = alignment.clocks[name]
    facts = alignment.facts.get(name)
    lasts = facts.duration if facts is not None and facts.duration else estimate.span[1]
    root = estimate.reference or alignment.reference
    measured = evidence.measured.get(name)
    answers = evidence.answers.get(name, ())
    island = root != alignment.reference
    kind = "refused" if estimate.status in ("no_match", "degenerate") else estimate.status
    status = (
        words.STATUS[estimate.status]
        + (f" to {words.shown(root)}, on an island" if island and estimate.status == "aligned" else "")
        + (" of an island" if island and estimate.status == "reference" else "")
    )
    verdict, verdict_text = ("unknown", "")
    figures: list[_Figure] = []
    if measured is not None:
        std = _joint_std(name, measured.against, alignment)
        verdict, verdict_text = words.verdict(measured.residual, std, lasts)
    for k, answer in enumerate(answers):
        if answer.measured is not None and answer.measured.residual is not None:
            figures.append(_agreement(f"Answer {k + 1}", name, answer.measured, f"{anchor}-{k}"))
    if estimate.status == "aligned":
        figures = _figures(name, estimate, measured, lasts, anchor, root)
    needs = ""
    if estimate.clock is None:
        needs = estimate.message or words.STATUS[estimate.status]
    elif verdict == "doubtful":
        needs = verdict_text
    elif island and estimate.status == "reference":
        others = [n for n, e in alignment.clocks.items() if e.reference == root and n != name]
        needs = f"shares nothing with {alignment.reference}; forms an island with {' and '.join(others)}"
    alone = ""
    if estimate.status == "aligned" and measured is None:
        alone = "no other recording that overlaps it could be heard"
    against = words.shown(measured.against if measured else alignment.reference)
    return _Card(
        name=words.shown(name),
        short=words.shortened(words.shown(name)),
        anchor=anchor,
        kind=kind,
        status=status,
        brief=estimate.status.replace("_", " ") + (" (island)" if island else ""),
        needs=words.shown(needs),
        source=words.shown(facts.source) if facts is not None and facts.source else "",
        lasts=format_duration(lasts),
        extent=_extent(estimate, lasts, long),
        place=_place(estimate),
        drift=_drift(estimate),
        confidence=format_confidence(estimate.confidence) if estimate.status == "aligned" or answers else "",
        sentences=words.place(name, estimate, root),
        breaks=[b.sentence(name) for b in words.breaks_of(estimate)],
        message=words.shown((estimate.message or "")[:1].upper() + (estimate.message or "")[1:]),
        unheard=words.shown(evidence.silent.get(name, alone)),
        against=against,
        verdict=verdict if measured else "",
        verdict_text=verdict_text,
        figures=figures,
        sounds=_sounds(measured, answers, (against, words.shown(name)), long),
        ears=(against, words.shown(name)),
        alike=_alike(measured),
        answers=_answers(estimate, answers),
        advice=words.advice(name, alignment),
    )


def _extent(estimate: ClockEstimate, lasts: float, long: bool) -> str:
    if estimate.clock is None:
        return "no place"
    first, last = 0.0, lasts
    if estimate.status != "reference":
        first = min(float(s.map(s.start)) for s in estimate.segments)
        last = max(float(s.map(s.end)) for s in estimate.segments)
    return f"{words.moment(first, long)} to {words.moment(last, long)}"


def _place(estimate: ClockEstimate) -> str:
    if estimate.status == "reference":
        return "0"
    if estimate.clock is None:
        return ""
    return f"{format_offset(estimate.segments[0].offset, estimate.std)} s ± {format_std(estimate.std)}"


def _drift(estimate: ClockEstimate) -> str:
    if estimate.status == "reference":
        return "0"
    if estimate.clock is None:
        return ""
    if len(estimate.segments) > 1:
        return f"{len(estimate.segments)} segments"
    return "unknown" if estimate.drift_std is None else f"{format_ppm(estimate.drift, estimate.drift_std)} ppm"


def _joint_std(name: str, against: str, alignment: Alignment) -> float:
    """Of one clock against another that both map to a third, if their errors have nothing in common."""
    stds = [e.std for e in (alignment.clocks[name], alignment.clocks[against]) if e.status != "reference"]
    return float(sum(std**2 for std in stds) ** 0.5)


def _agreement(heading: str, name: str, measured: Measured, key: str) -> _Figure:
    assert measured.residual is not None
    caption = words.peaks(measured.residual)
    title = f"Correlation of {words.shown(name)} with {words.shown(measured.against)} over lag: {heading}"
    return _Figure(heading, drawing.draw_correlation(measured.residual, key, title, caption), caption)


def _figures(
    name: str, estimate: ClockEstimate, measured: Measured | None, lasts: float, anchor: str, root: str
) -> list[_Figure]:
    residual = measured.residual if measured else None
    breaks = words.breaks_of(estimate)
    found = []
    if measured is not None and residual is not None:
        found.append(_agreement("Do the sounds agree there, and only there?", name, measured, f"{anchor}-lag"))
        clear = int(residual.clear.sum())
        caption = (
            f"Each dot: where {residual.window:.1f} s of sound agree best, against what is stated (0). The band is "
            f"what is stated, ± two standard deviations. {clear} of {words.number(len(residual.times), 'place')} are "
            "clear; ticks along the foot mark those that are not."
        )
        drawn = drawing.draw_residual(
            residual, estimate, lasts, breaks, f"{anchor}-res", f"Residual of {words.shown(name)} over time", caption
        )
        found.append(_Figure("Does it hold all the time?", drawn, caption))
    caption = (
        f"The line: how far this clock has run off from that of {words.shown(root)} since the start, as stated"
        + (", with the jumps at its breaks taken out" if breaks else "")
        + (". Dots: measured again." if residual is not None else ".")
    )
    drawn = drawing.draw_drift(
        residual, estimate, lasts, breaks, f"{anchor}-drift", f"Drift of {words.shown(name)}", caption
    )
    found.append(_Figure("How does its clock run?", drawn, caption))
    return found


def _sounds(measured: Measured | None, answers: tuple[Answer, ...], ears: tuple[str, str], long: bool) -> list[_Sound]:
    snippets: list[Snippet] = list(measured.snippets) if measured else []
    snippets += [s for answer in answers if answer.measured for s in answer.measured.snippets]
    found = []
    for s in snippets:
        first, second = (f"{name} from {words.moment(time, long)}" for name, time in zip(ears, s.times, strict=True))
        caption = f"{first}, {second} of its own time"
        strips = drawing.draw_strips(s.strips, ears, s.label)
        found.append(_Sound(s.label, s.sound, round(s.seconds, 3), strips, caption))
    return found


def _alike(measured: Measured | None) -> bool:
    """Whether nobody hears a difference between before and after."""
    if measured is None or not measured.snippets:
        return False
    before, after = ((s.times[0] - s.times[1]) for s in measured.snippets)
    return abs(before - after) < _ALIKE


def _answers(estimate: ClockEstimate, answers: tuple[Answer, ...]) -> list[_Answer]:
    found = []
    measured = [a.measured for a in answers] + [None] * len(estimate.candidates)
    for candidate, again in zip(estimate.candidates, measured, strict=False):
        residual = again.residual if again else None
        heard = "" if residual is None else f"{residual.peak.height:.1f} times unrelated sound"
        found.append(
            _Answer(
                f"{candidate.offset:+.4f} s",
                f"{candidate.drift * 1e6:+.1f} ppm",
                format_confidence(candidate.confidence),
                heard,
            )
        )
    return found
