"""The page of a prepared dataset: index.html, whole in itself but for the examples beside it.

summary      how much there is, and what somebody should look at first
decisions    what was kept, corrected and dropped in every split
clocks       how far recordings were apart, and how well that is known
sync         sound against picture
samples      how long they are, what they are made of, their labels
dropped      why, with examples by name
errors       what could not be read
examples     to look at and to listen to, with what was found of them
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from avfuse.alignment import format_std
from avfuse.reporting.dataset_statistics import (
    DECISIONS,
    Figure,
    Names,
    Split,
    Statistics,
    format_bytes,
    gather,
    local,
    name_of,
    number_of,
    reason_of,
    source_of,
)
from avfuse.reporting.dataset_words import (
    LICENCE,
    VERDICTS,
    check_rows,
    clock_note,
    clock_rows,
    command,
    counted,
    examples_of,
    making,
    modality_rows,
    settings,
    summary,
    title,
)
from avfuse.reporting.distributions import Bins, Kinds, bins_of, round_step
from avfuse.reporting.drawing import Frame, figure
from avfuse.reporting.text import format_confidence, format_duration, format_offset
from avfuse.reporting.words import amount, shortened, shown

_ERRORS = 200  # listed one by one
_REASONS = 200
_BARS = 30  # names that are told one by one
_NAMED = 3  # examples of a reason
_FEW = 5  # values that are told one by one
_SCRIPT = """
const all = document.querySelectorAll("audio, video");
all.forEach(one => one.addEventListener("play", () => all.forEach(other => other === one || other.pause())));
"""


@dataclass(frozen=True)
class _Quantity:
    """How a figure is drawn and told. of: what its values are of, one and many. tell: one value, in words."""

    key: str
    heading: str
    axis: str
    scale: float
    of: tuple[str, str]
    tell: Callable[[float], str]
    logarithmic: bool = False


def _number(value: float) -> str:
    """Three digits of a number, more where it is large."""
    return (f"{value:.0f}" if abs(value) >= 1000 else f"{value + 0.0:.3g}").replace("-", "−")


def _time(seconds: float) -> str:
    return ("−" if seconds < 0 else "") + amount(seconds)


def _share(share: float) -> str:
    """Rounded down: what is not whole is not told as 100 %."""
    return f"{math.floor(1000 * share + 1e-6) / 10:g} %"


_CLOCK = ("clock", "clocks")
_CLOCKS = (
    _Quantity("offset", "How far apart were they started?", "offset [s]", 1.0, _CLOCK, _time),
    _Quantity("drift", "How much faster or slower do they run?", "drift [ppm]", 1e6, _CLOCK,
              lambda drift: f"{_number(drift * 1e6)} ppm"),
    _Quantity("std", "How exactly is that known?", "standard deviation [ms]", 1e3, _CLOCK, format_std, True),
    _Quantity("doubt", "How likely is it the wrong place?", "1 − confidence [%]", 100.0, _CLOCK,
              lambda doubt: f"{_number(100 * doubt)} %", True),
)  # fmt: skip
_DELAY = _Quantity(
    "delay", "How late does the sound come?", "sound delay [ms]", 1e3, ("recording", "recordings"), _time
)
_SAMPLES = (
    _Quantity("duration", "How long are they?", "duration [s]", 1.0, ("window", "windows"), _time),
    _Quantity("coverage", "How much of the window is there?", "coverage [%]", 100.0, ("stream", "streams"), _share),
)
_LABEL = _Quantity("label", "Labels that are numbers", "label", 1.0, ("sample", "samples"), _number)


def statistics_page(
    facts: Mapping[str, Any],
    rows: Iterable[Mapping[str, Any]],
    errors: Sequence[Mapping[str, Any]],
    examples: Sequence[Mapping[str, Any]],
) -> str:
    """index.html of a dataset.

    facts: of prepare.json. rows: of manifest.jsonl, gone through once, those of one event one after the other.
    errors: of errors.jsonl. examples: `key`, `video` and `audio` (paths beside the page, or None) and `row`.
    Equal input gives equal text. It loads the examples and nothing else; its content policy forbids the rest.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("avfuse.reporting", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found = gather(facts, rows, errors)
    return environment.get_template("dataset.html.j2").render(_content(facts, found, errors, examples)) + "\n"


def _content(
    facts: Mapping[str, Any],
    found: Statistics,
    errors: Sequence[Mapping[str, Any]],
    examples: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    version = facts.get("avfuse")
    columns, rows = modality_rows(found)
    return {
        "title": title(facts),
        "version": "" if version is None else shown(str(version)),
        "script": Markup(_SCRIPT),  # ours, and no part of any dataset
        "script_digest": base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode("ascii"),
        "summary": summary(found),
        "licence": LICENCE,
        "counts": _counts(found),
        "attention": _attention(found),
        "decisions": [_split(shown(name) or "no split", split) for name, split in found.ordered()],
        "total": _split("all", found.total) if len(found.splits) != 1 else None,
        "clock_rows": clock_rows(found),
        "clock_note": clock_note(found),
        "clock_figures": _all_drawn(_CLOCKS, found),
        "checks": check_rows(found),
        "delay": _drawn(_DELAY, found.figures["delay"]),
        "sample_figures": _all_drawn(_SAMPLES, found),
        "modalities": [[shortened(shown(cell), 60) for cell in row] for row in rows],
        "columns": columns,
        "labels": _bars(found.labels),
        "numbers": _drawn(_LABEL, Figure(found.numbers)) if found.numbers.count else None,
        "unlabelled": found.unlabelled,
        "samples": found.total.samples,
        "roles": _bars(found.roles),
        "dropped": _reasons(found.dropped),
        "corrected": _reasons(found.corrected),
        "error_kinds": _reasons(found.errors) if len(found.errors) < found.failures else [],
        "errors": [_error(error) for error in errors[:_ERRORS]],
        "failures": found.failures,
        "examples": [_example(example, k) for k, example in enumerate(examples)],
        "settings": settings(facts.get("recipe") or {}),
        "command": command(facts),
        "making": shown(making(facts)),
    }


def _counts(found: Statistics) -> list[tuple[str, str, str]]:
    """(kind, how many, of what) of all that there is any of"""
    total = found.total
    told: list[tuple[str, int, str, str, str]] = [
        ("", total.samples, f"{total.samples:,}", "sample", "samples"),
        ("", total.events, f"{total.events:,}", "event", "events"),
        ("", total.nanoseconds, format_duration(total.duration), "in all", "in all"),
        ("", total.bytes, format_bytes(total.bytes), "in shards", "in shards"),
        ("aligned", total.decisions["keep"], f"{total.decisions['keep']:,}", "kept as it was", "kept as they were"),
        ("reference", total.decisions["correct"], f"{total.decisions['correct']:,}", "corrected", "corrected"),
        ("refused", total.decisions["drop"], f"{total.decisions['drop']:,}", "dropped", "dropped"),
        ("error", found.failures, f"{found.failures:,}", "error", "errors"),
    ]
    return [
        (kind, text, one if count == 1 else many)
        for k, (kind, count, text, one, many) in enumerate(told)
        if count or k == 0
    ]


def _attention(found: Statistics) -> list[str]:
    """What somebody should look at before using this."""
    said = []
    if not found.total.samples:
        said.append("Nothing was written." + (" The reasons are listed below." if found.rows or found.failures else ""))
    elif found.total.decisions["drop"] > found.total.samples:
        said.append("More was dropped than written. Look at the reasons before you use the rest.")
    if found.leaks:
        said.append(f"{counted(found.leaks, 'event')} have samples in more than one split.")
    wrong = found.checks.get("out_of_sync", (0, 0))[0]
    if wrong:
        said.append(f"{counted(wrong, 'file')} that samples were cut from: sound and picture are out of step in it.")
    if found.failures:
        said.append(f"{counted(found.failures, 'error')}: some of what was asked for is not in here.")
    return said


def _split(name: str, split: Split) -> dict[str, Any]:
    return {
        "name": name,
        "events": split.events,
        "counts": [split.decisions[decision] for decision in DECISIONS],
        "duration": format_duration(split.duration),
        "shards": split.shards,
        "bytes": format_bytes(split.bytes),
    }


def _bars(names: Names) -> list[tuple[str, int, float | None]]:
    """(name, how many, length in % of the longest); what is not told one by one has no bar, which would dwarf them."""
    ranked = names.ranked()
    rest = sum(count for _, count in ranked[_BARS:]) + names.others
    rows: list[tuple[str, int, float | None]] = [
        (shortened(shown(name), 60), count, round(100 * count / ranked[0][1], 2)) for name, count in ranked[:_BARS]
    ]
    return rows + ([("others", rest, None)] if rest else [])


def _reasons(kinds: Kinds) -> list[tuple[str, int, str]]:
    """(reason, how many, names of some)"""
    ranked = kinds.ranked()
    rest = sum(kind.count for kind in ranked[_REASONS:]) + kinds.others
    rows = [(shown(kind.text), kind.count, examples_of(kind, _NAMED)) for kind in ranked[:_REASONS]]
    return rows + ([("other reasons", rest, "")] if rest else [])


def _error(error: Mapping[str, Any]) -> dict[str, str]:
    return {
        "name": shown(name_of(error)),
        "source": shown(source_of(error)),
        "where": shown(local(str(error.get("where") or ""))),
        "reason": shown(reason_of(error)),
        "attempts": str(error.get("attempts") or ""),
    }


# Figures


@dataclass(frozen=True)
class _Drawn:
    heading: str
    caption: str
    drawn: Markup | None


def _all_drawn(quantities: Sequence[_Quantity], found: Statistics) -> list[_Drawn]:
    """Nothing where none of them has a value."""
    if not any(found.figures[q.key].count for q in quantities):
        return []
    return [_drawn(q, found.figures[q.key]) for q in quantities]


def _drawn(quantity: _Quantity, values: Figure) -> _Drawn:
    """A histogram; where there is nothing to draw, only its caption."""
    if not values.count:
        return _Drawn(quantity.heading, "No value.", None)
    told, tell = [], quantity.tell
    for d, what in ((values.written, "written"), (values.dropped, "dropped")):
        if not d.count:
            continue
        of = f"{d.count:,} {quantity.of[d.count != 1]} {what}"
        if d.single:
            told.append(f"{of}: {'all at ' if d.count > 1 else ''}{tell(d.low)}.")
        elif d.count <= _FEW:
            told.append(f"{of}: {', '.join(tell(value) for value, count in d.items() for _ in range(count))}.")
        else:
            low, middle, high = (tell(d.quantile(share)) for share in (0.05, 0.5, 0.95))
            told.append(f"{of}: median {middle}, 90 % between {low} and {high}.")
    bins = bins_of(values.written, values.dropped, scale=quantity.scale, logarithmic=quantity.logarithmic)
    if bins is None:
        return _Drawn(quantity.heading, " ".join(told), None)
    if bins.below + bins.above:
        ends = [10.0**edge if bins.logarithmic else edge for edge in (bins.edges[0], bins.edges[-1])]
        low, high = (tell(end / quantity.scale) for end in ends)
        sides = ((bins.below, f"below {low}"), (bins.above, f"above {high}"))
        beyond = " and ".join(f"{count:,} {side}" for count, side in sides if count)
        told.append(f"The outermost bars hold those beyond the axis too: {beyond}.")
    caption = " ".join(told)
    return _Drawn(quantity.heading, caption, draw_histogram(bins, quantity, caption))


def draw_histogram(bins: Bins, quantity: _Quantity, text: str) -> Markup:
    """Bars of what was written, and on top of them of what was dropped."""
    most = max(map(sum, zip(*bins.counts, strict=True)))
    unit, scale = (f"{quantity.of[1]} [thousands]", 1e-3) if most >= 1e3 else (quantity.of[1], 1.0)
    frame = Frame((bins.edges[0], bins.edges[-1]), (0.0, max(1.06 * most * scale, 4.0 if scale == 1.0 else 0.0)))
    bars = []
    for k in range(len(bins.edges) - 1):
        foot = 0.0
        for kind, counts in zip(("written", "dropped"), bins.counts, strict=True):
            if counts[k]:
                height = counts[k] * scale
                bars.append(frame.box((bins.edges[k], bins.edges[k + 1]), (foot, foot + height), kind))
                foot += height
    axis = quantity.axis + (", in powers of ten" if bins.logarithmic else "")
    return figure(
        f"h-{quantity.key}",
        f"Histogram: {axis}",
        text,
        frame.axes(axis, unit, _powers(bins) if bins.logarithmic else _ticks(bins), "g"),
        *bars,
    )


def _ticks(bins: Bins) -> list[tuple[float, str]]:
    low, high = bins.edges[0], bins.edges[-1]
    step = round_step(high - low)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [(k * step, f"{k * step + 0.0:.{digits}f}".replace("-", "−")) for k in range(first, last + 1)]


def _powers(bins: Bins) -> list[tuple[float, str]]:
    """Powers of ten; one in two or more of many, and what lies between few."""
    first, last = math.ceil(bins.edges[0] - 1e-9), math.floor(bins.edges[-1] + 1e-9)
    step = max(1, math.ceil((last - first) / 5))
    ticks = [(float(k), _power(1, k)) for k in range(first, last + 1, step)]
    if last - first < 2:
        between = [(k + math.log10(m), _power(m, k)) for k in range(first - 1, last + 1) for m in (2, 5)]
        ticks += [(at, text) for at, text in between if bins.edges[0] <= at <= bins.edges[-1]]
    return sorted(ticks)


def _power(times: int, power: int) -> str:
    """0.005, 200, 2e7."""
    return f"{times * 10.0**power:.{max(-power, 0)}f}" if -5 <= power <= 5 else f"{times}e{power}".replace("-", "−")


# Examples


@dataclass(frozen=True)
class _Stream:
    name: str
    source: str
    place: str
    drift: str
    confidence: str
    coverage: str


@dataclass(frozen=True)
class _Check:
    told: str
    kind: str


@dataclass(frozen=True)
class _Example:
    anchor: str
    key: str
    event: str
    split: str
    label: str
    decision: str
    kind: str
    span: str
    video: str
    audio: str
    streams: list[_Stream]
    checks: list[_Check]
    reasons: list[str]


_KIND = {"keep": "aligned", "correct": "reference", "drop": "refused"}
_TOLD = {"keep": "kept as it was", "correct": "corrected", "drop": "dropped"}


def _example(example: Mapping[str, Any], k: int) -> _Example:
    row = example["row"]
    decision = row["decision"]
    start, duration = number_of(row.get("start")), number_of(row.get("duration"))
    span = "" if start is None or duration is None else f"{amount(duration)} from {start:.3f} s of the event"
    label = row.get("label")
    return _Example(
        anchor=f"x{k + 1}",
        key=shown(str(example["key"])),
        event=shown(str(row.get("event") or "")),
        split=shown(str(row.get("split") or "")),
        label="" if label is None else shown(str(label)),
        decision=_TOLD[decision],
        kind=_KIND[decision],
        span=span,
        video=_beside(example.get("video")),
        audio=_beside(example.get("audio")),
        streams=[_stream(name, one, row) for name, one in sorted((row.get("streams") or {}).items())],
        checks=[_check(name, one) for name, one in sorted((row.get("sync") or {}).items())],
        reasons=[shown(local(reason)) for reason in row.get("reasons") or ()],
    )


def _beside(path: str | None) -> str:
    """The address of a file beside the page, whatever its name."""
    return "" if not path else "./" + quote(path, errors="surrogateescape")


def _stream(name: str, stream: Mapping[str, Any], row: Mapping[str, Any]) -> _Stream:
    offset, std = number_of(stream.get("offset")), number_of(stream.get("std"))
    drift, confidence = number_of(stream.get("drift")), number_of(stream.get("confidence"))
    coverage = number_of(stream.get("coverage"))
    place, told, sure = "–", "–", "–"
    if stream.get("recording") == row.get("reference"):
        place = "reference"
    elif offset is not None:
        exact = math.nan if std is None else std
        place = f"{format_offset(offset, exact)} s" + (f" ± {format_std(std)}" if std is not None else "")
        told = f"{'+' if drift > 0 else ''}{_number(drift * 1e6)} ppm" if drift else "unknown"
    if confidence is not None and place != "reference":
        sure = format_confidence(confidence)
    return _Stream(
        name=shown(name),
        source="" if stream.get("recording") == name else shown(str(stream.get("recording") or "")),
        place=place.replace("-", "−"),
        drift=told,
        confidence=sure,
        coverage="–" if coverage is None else _share(coverage),
    )


def _check(recording: str, check: Mapping[str, Any]) -> _Check:
    name, verdict = shown(recording), str(check.get("verdict"))
    delay, std = number_of(check.get("sound_delay")), number_of(check.get("std"))
    told = f"The sound of {name} is {VERDICTS.get(verdict, shown(verdict))}"
    if verdict == "unknown":
        told = f"Whether the sound of {name} is in step with the picture could not be told"
    if delay is not None:
        told += f": {amount(delay)} {'late' if delay >= 0 else 'early'}"
        told += f" ± {format_std(std)}" if std is not None else ""
    return _Check(told, {"in_sync": "aligned", "out_of_sync": "error"}.get(verdict, "refused"))
