"""What an alignment says, in sentences for a person who never saw it: how sure, what broke, what to do."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from avfuse.alignment import Alignment, ClockEstimate, format_std
from avfuse.reporting.text import format_clock, format_confidence, format_duration, format_offset, format_ppm
from avfuse.temporal.residual import CLEAR, REACH, Residual

STATUS = {
    "reference": "reference",
    "aligned": "aligned",
    "ambiguous": "ambiguous: several answers fit",
    "no_match": "no match: nothing is shared",
    "degenerate": "degenerate: nothing to go by",
}
_EVIDENCE = {
    "sound": "what it heard",
    "motion": "how its sensors moved",
    "picture": "what the pictures show",
    "channels": "what its channels measured",
}
_TIGHT = 0.02  # seconds: candidates closer than this are arrivals of one sound, not places in time
_MANY = 0.2  # share of clear windows that may disagree before it is said
_NO_JUMP = 0.1e-3  # seconds: smaller steps between lines are a change of drift


def shown(name: str) -> str:
    """A name that can do nothing: no control or direction marks, bytes that are no UTF-8 as \\xNN."""

    def safe(c: str) -> str:
        if "\udc80" <= c <= "\udcff":
            return f"\\x{ord(c) - 0xDC00:02x}"
        # Joiners are part of how some scripts and emoji are written.
        return c if c.isprintable() or c in "\u200c\u200d" else repr(c)[1:-1]

    return "".join(safe(c) for c in name)


def shortened(name: str, most: int = 44) -> str:
    """Both ends of a long name that is shown already: cameras number their files at the end."""
    return name if len(name) <= most else f"{name[: most - 13]}…{name[-12:]}"


def number(count: int, one: str, many: str | None = None) -> str:
    """1 recording, 2 recordings."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def amount(seconds: float) -> str:
    """A length of time, three digits of it, in the unit that suits it."""
    size = abs(seconds)
    if size >= 119.5:
        return format_duration(size)
    scale, unit = next(((s, u) for s, u in ((1.0, "s"), (1e3, "ms")) if size * s >= 0.9995), (1e6, "µs"))
    value = size * scale
    return f"{value if value >= 0.01 else 0:.3g} {unit}"


def moment(time: float, clock: bool) -> str:
    """A time on a timeline: 12:05 as on a clock, or 41.2 s."""
    return format_clock(time) if clock else f"{round(time, 1) + 0.0:.1f} s"  # + 0.0: never -0.0


def signed(seconds: float) -> str:
    return ("−" if seconds < 0 else "+") + amount(seconds)


def summary(alignment: Alignment) -> str:
    """One paragraph: how many have a place, and how many need somebody."""
    kinds = [e.status for e in alignment.clocks.values()]
    placed = sum(e.clock is not None and e.reference in (None, alignment.reference) for e in alignment.clocks.values())
    apart = sum(e.clock is not None for e in alignment.clocks.values()) - placed
    refused = len(kinds) - placed - apart
    text = (
        f"{placed} of {number(len(kinds), 'recording')} lie on one timeline, the clock of {shown(alignment.reference)}."
    )
    if apart:
        text += f" {apart} more belong together, but share nothing with it: they form islands of their own."
    if refused:
        text += f" {number(refused, 'recording')} could not be placed; what to do about it is said below."
    return text


def place(name: str, estimate: ClockEstimate, reference: str) -> list[str]:
    """Where the recording lies, how exactly that is known, how fast its clock runs, and how likely it is right."""
    name, reference = shown(name), shown(reference)
    if estimate.status == "reference":
        return [f"The clock of {name} is the one that others are mapped to. It is exact by definition."]
    if estimate.clock is None:
        return []
    first = estimate.segments[0]
    begins, std = first.offset, estimate.std
    told = format_offset(begins, std)
    when = f"{amount(begins)} {'before' if begins < 0 else 'after'}" if abs(begins) >= 1e-6 else "at the same moment as"
    sentences = [f"{name} was started {when} {reference}: its time 0 is {told} s on the clock of {reference}."]
    if math.isfinite(std):
        sentences.append(
            f"In the middle of the recording this is known to ± {format_std(std)} (one standard deviation): 95 times "
            f"in 100 the truth lies within {format_std(1.96 * std)} of what is stated."
        )
    sentences.append(_speed(estimate))
    sentences.append(f"The chance that this is the right place at all is {format_confidence(estimate.confidence)}.")
    shared = [_EVIDENCE.get(kind, kind) for kind in estimate.evidence]
    if shared and estimate.evidence != ("sound",):
        sentences.append(f"What placed it: {' and '.join(shared)}.")
    return sentences


def _speed(estimate: ClockEstimate) -> str:
    if len(estimate.segments) > 1:
        return (
            f"Its clock is broken into {len(estimate.segments)} segments, each with an offset and a drift of its own."
        )
    drift, std = estimate.segments[0].drift, estimate.drift_std
    if std is None:
        return "How much faster or slower its clock runs could not be told; it is taken to run alike."
    hourly = amount(3600 * drift)
    if abs(drift) < 2 * std:
        return f"Its clock runs alike: its drift is {format_ppm(drift, std)} ppm, which may be nothing."
    way = "slow: it falls behind by" if drift > 0 else "fast: it gains"
    return f"Its clock runs {way} {hourly} in an hour (drift {format_ppm(drift, std)} ppm)."


@dataclass(frozen=True)
class Break:
    """A place where one line ends and the next begins.

    time: of the recording's own. missing: seconds of the event that were not recorded (negative: that come again);
    inserted: seconds of the recording that belong to no time of the event.
    """

    time: float
    missing: float
    inserted: float

    @property
    def label(self) -> str:
        if not self.inserted and not self.missing:
            return "drift changes"
        parts = []
        if self.inserted > 0:
            parts.append(f"{amount(self.inserted)} inserted")
        if self.missing > 0 or not parts:
            parts.append(f"{amount(self.missing)} {'missing' if self.missing >= 0 else 'repeated'}")
        return ", ".join(parts)

    def sentence(self, name: str) -> str:
        at = f"At {amount(self.time)} of its own time"
        told = []
        if self.inserted > 0:
            told.append(f"{amount(self.inserted)} are inserted that the event does not have")
        if self.missing > 0:
            told.append(f"{amount(self.missing)} of the event are missing (a pause, or dropped frames)")
        if self.missing < 0:
            told.append(f"its clock jumps back by {amount(self.missing)} (a reset, or the same moments again)")
        return f"{at}, {' and '.join(told) or 'its drift changes, without a jump'}."


def breaks_of(estimate: ClockEstimate) -> list[Break]:
    found = []
    for before, after in pairwise(estimate.segments):
        missing, inserted = float(after.map(after.start) - before.map(before.end)), after.start - before.end
        jumps = max(abs(missing), inserted) > _NO_JUMP
        found.append(Break(before.end, missing, inserted) if jumps else Break(before.end, 0.0, 0.0))
    return found


Verdict = Literal["holds", "doubtful", "unknown"]


def verdict(residual: Residual | None, std: float, lasts: float) -> tuple[Verdict, str]:
    """Whether the sounds, measured again, are where the alignment puts them: within the larger of 5 std and 1 ms."""
    if residual is None:
        return "unknown", "It shares less than a second with any other recording on its clock: not measured again."
    clear, count = int(residual.clear.sum()), len(residual.times)
    if clear == 0:
        return "unknown", (
            f"Measured again, none of {number(count, 'place')} of {residual.window:.1f} s is clear enough alone to say "
            f"anything within {amount(REACH)} of what is stated."
        )
    allowed = max(5 * std, 1e-3) if math.isfinite(std) else 1e-3
    heard = f"Measured again at {number(count, 'place')}, {clear} of them clear: "
    if abs(residual.median) > allowed:
        return "doubtful", heard + (
            f"the sounds agree {signed(residual.median)} from what is stated, more than the {amount(allowed)} that it "
            "allows. The recordings may have been changed since they were aligned, or the alignment is wrong."
        )
    apart = np.abs(residual.residuals[residual.clear] - residual.median) > allowed
    bent = abs(residual.slope) * lasts if math.isfinite(residual.slope) else 0.0
    if bent > allowed or (clear >= 5 and apart.mean() > _MANY):
        return "doubtful", heard + (
            f"they differ among each other by more than the {amount(allowed)} that is allowed. One line may not hold: "
            "look for a gap or a change of drift in the figures."
        )
    return "holds", heard + (
        f"they differ from what is stated by {amount(residual.median)} (median), within the {amount(allowed)} that it "
        "allows. It holds."
    )


def peaks(residual: Residual) -> str:
    """The caption of the correlation over lag."""
    peak, second = residual.peak, residual.runner_up
    if peak.height < CLEAR:
        return (
            f"No lag within {amount(REACH)} stands out: the highest reaches {peak.height:.1f} times what unrelated "
            "sound reaches."
        )
    return (
        f"All places together agree best {signed(peak.lag)} from what is stated, {peak.height:.1f} times as well as "
        f"unrelated sound. The runner-up, at {signed(second.lag)}, reaches {second.height:.1f} times"
        + (": hardly less, so the peak is not sharp." if second.height > 0.8 * peak.height else ".")
    )


def advice(name: str, alignment: Alignment) -> list[str]:
    """What a person can do about a recording that has no place, or a place of its own."""
    estimate = alignment.clocks[name]
    root = shown(alignment.reference)
    if estimate.status == "ambiguous":
        return _about_candidates(estimate, root)
    if estimate.status == "no_match":
        return [
            "Check that it is of the same event, and that it ran at the same time as another recording.",
            "Add a recording of a device that stood between: whatever shares sound with both joins them.",
            "Use a longer stretch of it, or one with speech, music or claps: hum and noise cannot be placed.",
            "If it was started at about the same time as the others, say so with --max-offset SECONDS.",
        ]
    if estimate.status == "degenerate":
        return [
            "Play it: a silent channel, a muted microphone or a wrong input leaves nothing to compare.",
            "If it has several sound tracks, look at them with `avfuse info`: one of them may hold sound.",
            "If another device recorded the same sound, align that one in its place.",
            "Next time, clap once in view of every camera and near every microphone.",
        ]
    if estimate.reference not in (None, alignment.reference):
        return [
            f"Add a recording that overlaps both this group and {root}: it joins the islands.",
            "If all of it is of one event, check that the files are of the same day and take.",
        ]
    return []


def _about_candidates(estimate: ClockEstimate, root: str) -> list[str]:
    offsets = sorted(abs(c.offset) for c in estimate.candidates)
    found = ["Listen to the answers below: in the right one, both ears hear the same words at the same time."]
    if offsets and max(c.offset for c in estimate.candidates) - min(c.offset for c in estimate.candidates) < _TIGHT:
        return [
            "The answers are arrivals of one sound, within milliseconds of each other: several sources, or echoes of a "
            "room. If that is exact enough, tell how far apart the devices stood with --spacing METRES.",
            "A stretch in which one near source is heard alone decides it: a clap, one speaker.",
        ]
    if len(offsets) > 1 and offsets[1] > offsets[0]:
        limit = math.ceil((offsets[0] + offsets[1]) / 2)
        if offsets[0] < limit < offsets[1]:
            found.append(
                f"If it was started less than {limit} s before or after {root}, --max-offset {limit} leaves one answer."
            )
    return [
        *found,
        "Use a longer stretch: what repeats (a loop, a click train, a jingle) is told apart by what does not.",
        "Add a recording of another device that overlaps both; its own place decides this one's.",
    ]
