"""An answer against the truth: one `PairResult` for each recording that has to be placed, or refused.

Both are read as maps moving -> reference of the truth's own pairs, so it does not matter which reference a method
chose. Recordings are recognised by their files, else by their names.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from avfuse.alignment import Alignment, ClockEstimate
from avfuse.clock import ClockMap, PiecewiseClock
from avfuse.errors import StreamError
from avfuse.evaluation.cases import Case, root_of
from avfuse.metrics import Z95, is_wrong

Clock = ClockMap | PiecewiseClock
AMONG = 0.5e-3  # seconds from the truth within which a candidate is it
_MARGIN = 0.5  # seconds around a break of the truth that are not judged
_PROBES = 101
_SAME_OFFSET = 0.05  # seconds from one of several true offsets within which a candidate is it


@dataclass(frozen=True)
class TruePair:
    """Two recordings and what is true of them.

    clock: moving -> reference; None where every answer is wrong. parts: stretches of moving time that both recorded,
    away from breaks. known: seconds (1 sigma) to which the truth is known in the middle of them. drift_known: whether
    its drift is, and with it what is true at the ends. offsets: those that are as true as each other, where there are
    several.
    """

    reference: str
    moving: str
    clock: Clock | None
    parts: tuple[tuple[float, float], ...] = ()
    known: float = 0.0
    drift_known: bool = True
    offsets: tuple[float, ...] = ()

    @property
    def middle(self) -> float:
        return (self.parts[0][0] + self.parts[-1][1]) / 2

    @property
    def probes(self) -> NDArray[np.float64]:
        """Moving times to be judged, evenly over all parts, ends included."""
        lengths = np.array([end - start for start, end in self.parts])
        counts = np.maximum(2, np.round(_PROBES * lengths / lengths.sum()).astype(int))
        return np.concatenate([np.linspace(a, b, n) for (a, b), n in zip(self.parts, counts, strict=True)])


@dataclass(frozen=True)
class PairResult:
    """What a method said of one recording, and how far that is from the truth.

    shared: whether there is a truth to find; else the only right answer is a refusal.
    status: of the answer; "failed" where there was none.
    error: seconds, estimate - truth, in the middle of what both recorded; where the truth has several segments, the
        median by size over their length. NaN where nothing was stated.
    worst: largest |error| within what both recorded. first, last: errors at its ends.
    std, last_std, drift_error, drift_std, confidence: NaN where not stated; drifts have no unit.
    known: to what the truth is known, 1 sigma.
    among: whether the truth is among the candidates of an ambiguous answer (of several truths, two); None where the
        answer is not ambiguous.
    """

    method: str
    case: str
    reference: str
    moving: str
    shared: bool
    status: str
    group: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""
    error: float = math.nan
    worst: float = math.nan
    first: float = math.nan
    last: float = math.nan
    std: float = math.nan
    last_std: float = math.nan
    drift_error: float = math.nan
    drift_std: float = math.nan
    confidence: float = math.nan
    known: float = 0.0
    among: bool | None = None

    @property
    def stated(self) -> bool:
        return self.status == "aligned"

    @property
    def wrong(self) -> bool:
        """Stated, and not right by the definition of confidence: of nothing shared, whatever is stated."""
        return self.stated and (not self.shared or bool(is_wrong(self.error, self.std, self.known)))


def true_pairs(case: Case) -> list[TruePair]:
    """What a method is asked about in `case`: each recording against the reference of its island, or to be refused.

    Raises StreamError where the truth places a recording that shares no time with its reference.
    """
    truth = case.true
    found = []
    for name in case.names[1:]:
        estimate, root = truth.clocks[name], root_of(truth, name)
        if root is None:
            offsets = tuple(c.offset for c in estimate.candidates)
            found.append(TruePair(truth.reference, name, None, offsets=offsets))
        elif root == name:
            # The reference of an island of its own shares nothing with the main one.
            found.append(TruePair(truth.reference, name, None))
        else:
            parts = _shared_parts(estimate, truth.facts[root].duration, truth.facts[name].duration)
            if not parts:
                raise StreamError(
                    f"case {case.name!r}: by its truth {name!r} and {root!r} have no time in common; "
                    "give it the status no_match"
                )
            known = float(np.nan_to_num(estimate.std_at((parts[0][0] + parts[-1][1]) / 2)))
            found.append(TruePair(root, name, estimate.map, parts, known, estimate.drift_known))
    return found


def _shared_parts(estimate: ClockEstimate, reference: float, moving: float) -> tuple[tuple[float, float], ...]:
    parts = []
    segments = estimate.segments
    for k, segment in enumerate(segments):
        back = segment.map.inverse()
        start = max(segment.start, float(back(0.0)), 0.0)
        end = min(segment.end, float(back(reference)), moving if moving > 0.0 else math.inf)
        inner = start + (_MARGIN if k > 0 else 0.0), end - (_MARGIN if k < len(segments) - 1 else 0.0)
        if inner[1] > inner[0]:
            parts.append(inner)
    return tuple(parts)


def names_in(case: Case, alignment: Alignment) -> dict[str, str]:
    """The truth's name of each recording -> the answer's, for those that the answer knows."""
    by_file = {
        os.path.realpath(facts.source): name
        for name, facts in alignment.facts.items()
        if facts.source is not None and name in alignment.clocks
    }
    found = {}
    for name, file in zip(case.names, case.files, strict=True):
        for known in (by_file.get(os.path.realpath(file)), name, Path(file).stem, Path(file).name):
            if known is not None and known in alignment.clocks:
                found[name] = known
                break
    return found


@dataclass(frozen=True, eq=False)
class Relative:
    """Clock of one recording on another's, read off an alignment; `clock` is None for refusals."""

    estimate: ClockEstimate
    clock: Clock | None = None
    drift_std: float = math.nan
    confidence: float = math.nan
    std_from: str = ""  # "moving", "reference": whose own estimate carries the deviation

    def std_at(self, t: float) -> float:
        """Seconds; NaN where the alignment does not tell, as of two recordings that both have a clock to be found."""
        if self.clock is None or not self.std_from:
            return math.nan
        if self.std_from == "moving":
            return float(self.estimate.std_at(t))
        at = float(self.clock(t))
        return float(self.estimate.std_at(at)) / (1.0 + _drift_at(self.estimate, at))


def _drift_at(estimate: ClockEstimate, t: float) -> float:
    return next((s.drift for s in reversed(estimate.segments) if t >= s.start), estimate.segments[0].drift)


def relative(alignment: Alignment, reference: str, moving: str) -> Relative:
    """What `alignment` says of `moving` on the clock of `reference`, both by its own names."""
    a, b = alignment.clocks[reference], alignment.clocks[moving]
    roots = root_of(alignment, reference), root_of(alignment, moving)
    if a.clock is None or b.clock is None or roots[0] != roots[1]:
        # The more telling of the two: a reference, or somebody aligned elsewhere, has no reason to give.
        refused = (
            b if b.clock is None else a if a.clock is None else ClockEstimate("no_match", message="on other clocks")
        )
        return Relative(refused)
    clock = b.clock if reference == roots[0] else a.clock.inverse() @ b.clock
    if reference == roots[0] or moving == roots[0]:
        told = b if reference == roots[0] else a
        drift_std = math.nan if told.drift_std is None else told.drift_std
        confidence = told.confidence
        whose = "moving" if told is b else "reference"
    else:
        told, drift_std, whose = b, math.nan, ""
        confidence = min(a.confidence, b.confidence)
    # No method means that an answer it gives is certainly wrong: 0 is what files say that state none.
    return Relative(told, clock, drift_std, confidence if confidence > 0.0 else math.nan, whose)


def judge(case: Case, method: str, alignment: Alignment | None, reason: str = "") -> tuple[PairResult, ...]:
    """One result for every recording but the reference. alignment: None where the method failed, for `reason`."""
    names = {} if alignment is None else names_in(case, alignment)
    found = []
    for pair in true_pairs(case):
        failed = PairResult(
            method, case.name, pair.reference, pair.moving, pair.clock is not None, "failed", case.group,
            case.settings, reason, known=pair.known,
        )  # fmt: skip
        absent = [name for name in (pair.moving, pair.reference) if name not in names]
        if alignment is None:
            found.append(failed)
        elif absent:
            found.append(replace(failed, reason=f"the answer says nothing of {absent[0]}"))
        elif pair.clock is None:
            own = root_of(case.true, pair.moving)
            island = {n for n in case.names if own is not None and root_of(case.true, n) == own} | {pair.moving}
            others = [known for name, known in names.items() if name not in island]
            found.append(_of_stranger(failed, pair, alignment, names, others))
        else:
            answer = relative(alignment, names[pair.reference], names[pair.moving])
            turned = answer.estimate is alignment.clocks[names[pair.reference]]
            found.append(_of_shared(failed, pair, pair.clock, answer, turned=turned))
    return tuple(found)


def _of_stranger(
    blank: PairResult, pair: TruePair, alignment: Alignment, names: Mapping[str, str], others: Sequence[str]
) -> PairResult:
    """It may not be placed beside any of `others`; of several true offsets two have to be named."""
    own = names[pair.moving]
    root = root_of(alignment, own)
    company = [n for n in others if root is not None and root_of(alignment, n) == root]
    if company:
        answer = relative(alignment, company[0] if root == own else str(root), own)
        placed = f"placed beside {company[0]}"
        return replace(blank, status="aligned", reason=placed, confidence=answer.confidence)
    estimate = alignment.clocks[own]
    if estimate.clock is not None:
        # With two recordings the reason may stand at either.
        estimate = alignment.clocks[names[pair.reference]]
    if estimate.clock is not None:
        return replace(blank, status="no_match", reason="on a clock of its own")
    among = None
    if estimate.status == "ambiguous":
        offsets = np.array(pair.offsets)
        turned = estimate is not alignment.clocks[own]
        stated = [c.map.inverse().offset if turned else c.offset for c in estimate.candidates]
        real = sum(bool(np.min(np.abs(offsets - offset), initial=np.inf) < _SAME_OFFSET) for offset in stated)
        among = real >= 2
    return replace(
        blank, status=estimate.status, reason=estimate.message or "", among=among, confidence=estimate.confidence
    )


def _of_shared(blank: PairResult, pair: TruePair, truth: Clock, answer: Relative, *, turned: bool) -> PairResult:
    """turned: whether a refusal is that of the truth's reference, whose candidates map the other way."""
    refused = answer.estimate
    if answer.clock is None:
        status = "no_match" if refused.status in ("aligned", "reference") else refused.status
        among = None
        if status == "ambiguous":
            maps = [c.map.inverse() if turned else c.map for c in refused.candidates]
            near = [abs(float(m(pair.middle) - truth(pair.middle))) for m in maps]
            among = min(near, default=math.inf) <= AMONG + Z95 * pair.known
        reason = refused.message or ""
        return replace(blank, status=status, reason=reason, among=among, confidence=refused.confidence)
    probes = pair.probes
    errors = answer.clock(probes) - truth(probes)
    # Where the answer has a hole and the truth none it is no answer; half of the time is a refusal.
    order = np.argsort(np.where(np.isnan(errors), np.inf, np.abs(errors)), kind="stable")
    typical = order[(len(order) - 1) // 2]
    if math.isnan(errors[typical]):
        return replace(blank, status="no_match", reason="most of what both recorded is in a hole of the stated clock")
    error, at = float(errors[typical]), float(probes[typical])
    if len(pair.parts) == 1 and not math.isnan(middle := float(answer.clock(pair.middle) - truth(pair.middle))):
        error, at = middle, pair.middle
    lines = [_line(clock) for clock in (answer.clock, truth)]
    drifts = [math.nan if line is None else line.drift for line in lines]
    return replace(
        blank,
        status="aligned",
        error=error,
        worst=float(np.nanmax(np.abs(errors))),
        first=float(errors[0]),
        last=float(errors[-1]),
        std=answer.std_at(at),
        last_std=answer.std_at(float(probes[-1])) if pair.drift_known else math.nan,
        drift_error=drifts[0] - drifts[1] if pair.drift_known else math.nan,
        drift_std=answer.drift_std,
        confidence=answer.confidence,
    )


def _line(clock: Clock) -> ClockMap | None:
    if isinstance(clock, ClockMap):
        return clock
    return clock.segments[0].map if len(clock.segments) == 1 else None


def mutual_errors(case: Case, alignment: Alignment) -> NDArray[np.float64]:
    """|error| in the middle of what two recordings share, for all pairs that the truth and a joint answer both place.

    Offsets among the recordings themselves, whatever the reference: what a person who cuts between them sees.
    """
    truth, names = case.true, names_in(case, alignment)
    found = []
    for a, b in combinations(case.names, 2):
        if a not in names or b not in names:
            continue
        true, said = relative(truth, a, b), relative(alignment, names[a], names[b])
        if true.clock is None or said.clock is None:
            continue
        start = max(0.0, float(true.clock.inverse()(0.0)))
        end = min(truth.facts[b].duration, float(true.clock.inverse()(truth.facts[a].duration)))
        if not end > start:
            continue
        times = np.linspace(start, end, 2 * _PROBES + 1)
        errors = np.abs(said.clock(times) - true.clock(times))
        if np.isfinite(errors).any():
            # The middle one; the median where it is in a hole.
            middle = errors[_PROBES]
            found.append(float(middle if math.isfinite(middle) else np.nanmedian(errors)))
    return np.array(found, np.float64)
