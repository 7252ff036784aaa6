"""What becomes of an event and of each of its windows, and why.

    keep      nothing had to be changed
    correct   clocks, or sound against picture, were corrected
    drop      it is not what the recipe asks for

Every reason is recorded in words, of what is kept as well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from avfuse.alignment import Alignment, ClockEstimate, format_std
from avfuse.checking import SyncCheck
from avfuse.preparation.recipe import Limits

Decision = Literal["keep", "correct", "drop"]


@dataclass(frozen=True)
class Verdict:
    """decision, and its reasons, in the order in which they were found."""

    decision: Decision
    reasons: tuple[str, ...] = ()

    def __add__(self, other: Verdict) -> Verdict:
        """The stricter decision, for the reasons of both."""
        stricter = max(self.decision, other.decision, key=("keep", "correct", "drop").index)
        return Verdict(stricter, self.reasons + other.reasons)


KEPT = Verdict("keep")
_UNKNOWN = 0.5
_UNSTATED = 0.02  # seconds, 1 sigma of a delay for which none is stated: half a frame


def judge_clock(name: str, estimate: ClockEstimate, reference: str, limits: Limits) -> Verdict:
    """A recording's clock against the limits; `reference` is that of the event."""
    if estimate.clock is None:
        reason = f"{name}: {estimate.status}: {estimate.message or 'no reason is known'}"
        return Verdict("drop", (reason,))
    if estimate.status == "reference":
        if name == reference:
            return KEPT
        return Verdict("drop", (f"{name}: shares nothing with {reference}",))
    if estimate.reference not in (None, reference):
        return Verdict(
            "drop", (f"{name}: on the clock of {estimate.reference}, which shares nothing with {reference}",)
        )
    if estimate.cov is not None and estimate.confidence < limits.confidence:
        stated = f"{name}: its clock is right with a probability of {estimate.confidence:.2f}"
        return Verdict("drop", (f"{stated}, less than {limits.confidence:g}",))
    offset = max((abs(segment.offset) for segment in estimate.segments), default=0.0)
    drift = max((abs(segment.drift) for segment in estimate.segments), default=0.0)
    if limits.offset is not None and offset > limits.offset:
        return Verdict("drop", (f"{name}: offset of {offset:.3f} s, more than {limits.offset:g} s",))
    if limits.drift is not None and drift > limits.drift:
        return Verdict("drop", (f"{name}: drift of {drift * 1e6:.0f} ppm, more than {limits.drift * 1e6:g} ppm",))
    if offset == 0.0 and drift == 0.0:
        return KEPT
    found = f"{name}: {_clock_in_words(estimate)}"
    if not limits.correct:
        return Verdict("drop", (f"{found}, and nothing may be corrected",))
    return Verdict("correct", (found,))


def _clock_in_words(estimate: ClockEstimate) -> str:
    if len(estimate.segments) > 1:
        return f"clock of {len(estimate.segments)} pieces"
    text = f"offset {estimate.segments[0].offset:+.4f} s"
    return f"{text}, drift {estimate.segments[0].drift * 1e6:+.1f} ppm" if estimate.drift_known else text


def judge_sync(name: str, found: SyncCheck, limits: Limits) -> Verdict:
    """A recording's sound against its own picture."""
    if found.verdict == "in_sync":
        return KEPT
    if found.verdict == "unknown" or found.sound_delay is None:
        why = found.message or "nothing was found to tell by"
    elif found.confidence < limits.sync_confidence:
        why = f"a delay of {found.sound_delay * 1e3:+.0f} ms has a probability of {found.confidence:.2f} only"
    else:
        delay = (
            f"{name}: sound comes {found.sound_delay * 1e3:+.0f} ms ± {format_std(found.std or 0.0)} after its picture"
        )
        if limits.correct:
            return Verdict("correct", (delay,))
        return Verdict("drop", (f"{delay}, and nothing may be corrected",))
    return Verdict("drop" if limits.unsure == "drop" else "keep", (f"{name}: in sync or not is unknown: {why}",))


def out_of_step(found: Mapping[str, Any] | None, limit: float = 0.05) -> float:
    """Probability that sound and picture are more than `limit` seconds apart, of an entry of a row's `sync`.

    A score to rank samples by. With the stated confidence the delay is normal around what was measured, or around the
    likeliest one where that is not sure enough to be stated; else nothing is known, and it is one half.
    """
    delay = None if found is None else found["sound_delay"] if found["sound_delay"] is not None else found["likeliest"]
    if found is None or delay is None:
        return _UNKNOWN
    std, sure = found["std"] or _UNSTATED, found["confidence"]
    low, high = (math.erf((edge - delay) / (std * math.sqrt(2.0))) for edge in (-limit, limit))
    return float(sure * (1.0 - 0.5 * (high - low)) + (1.0 - sure) * _UNKNOWN)


def corrected(alignment: Alignment, checks: Mapping[str, SyncCheck], verdicts: Mapping[str, Verdict]) -> Alignment:
    """The alignment with the sound of recordings that are out of step moved against their picture.

    A clock that was found by sound is that of the sound: there the picture moves. Else the sound does.
    """
    facts = dict(alignment.facts)
    for name, check in checks.items():
        if verdicts[name].decision != "correct" or check.sound_delay is None:
            continue
        recording = alignment.recording(name)
        moves: Literal["picture", "sound"] = "picture" if by_sound(alignment, name) else "sound"
        shift = check.sound_delay if moves == "picture" else -check.sound_delay
        moved = {stream.name: facts[name].streams.get(stream.name, 0.0) + shift for stream in recording.of_kind(moves)}
        facts[name] = replace(facts[name], streams={**facts[name].streams, **moved})
    return replace(alignment, facts=facts)


def by_sound(alignment: Alignment, name: str) -> bool:
    """Whether others are aligned by this recording's sound, or it by theirs."""
    told = alignment.clocks[name]
    if told.status != "reference":
        return "sound" in told.evidence
    return any("sound" in clock.evidence for other, clock in alignment.clocks.items() if other != name)


def judge_window(found: Mapping[str, tuple[float, float]], asked: Sequence[str], limits: Limits) -> Verdict:
    """A window. found: modality -> (coverage, std in seconds) of what it has. asked: modalities that it should have."""
    verdict = KEPT
    for name in asked:
        if name not in found:
            verdict += Verdict(limits.lacking, (f"{name}: nothing there",))
            continue
        coverage, std = found[name]
        if coverage < limits.coverage:
            verdict += Verdict("drop", (f"{name}: there in {coverage:.1%} of it, less than {limits.coverage:.1%}",))
        if limits.std is not None and std > limits.std:
            stated = f"{name}: its time is known to ± {format_std(std)}"
            verdict += Verdict("drop", (f"{stated}, more than {format_std(limits.std)}",))
    if not found:
        verdict += Verdict("drop", ("nothing there",))
    return verdict
