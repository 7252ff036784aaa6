"""Sound against sound: where one recording lies on the clock of the other, how sure that is, or why it is not known.

search      mel features, or waveforms: candidate lines to 10 ms                             (coarse.py)
match       slant stacks of phase-only cross spectra: drift, and a peak against a null       (evidence, focus, matching)
breaks      whether the clock jumps or bends, and its stretches                 (tracking, bending, piecewise)
lobe        which maximum is the direct sound                                                (settling, calibration)
share       whether it is the event or a jingle; sources that take turns                     (sharing)
refine      maximum likelihood, covariance                                                   (refine, calibration)
decide      here
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from avfuse.alignment import Candidate, ClockEstimate, inverse_jacobian
from avfuse.clock import ClockMap, PiecewiseClock, Segment
from avfuse.errors import StreamError
from avfuse.stream import Stream
from avfuse.temporal import calibration
from avfuse.temporal.bending import bent_lines, window_lags
from avfuse.temporal.coarse import Line
from avfuse.temporal.evidence import Evidence, choose_windows, gather, gather_onsets, meeting
from avfuse.temporal.focus import Lobe
from avfuse.temporal.hearing import Heard, hear
from avfuse.temporal.matching import ELSEWHERE, RIVAL, Tried, best_supported, candidate_lines, rivals_of
from avfuse.temporal.piecewise import (
    Together,
    break_after,
    breaks_of,
    compare_stretches,
    settle_stretches,
    support_beside,
)
from avfuse.temporal.settling import settle_along, weigh_lobes
from avfuse.temporal.sharing import share_of_time, sources_of
from avfuse.temporal.tracking import SMALLEST, Stretch, follow, wanders

SPEED_OF_SOUND = 343.0
SHORTEST = 1.0  # seconds of sound that can be placed
_BRIEF = 12.0  # seconds of overlap that count as brief, where they are also little of the shorter recording
_ACCEPT = 0.98
_LONG_ENOUGH = 20.0  # seconds of overlap in which a clock may be seen to break
_SAME = 0.8e-3  # seconds
_LEAST, _FEW = 1e-3, 8  # candidates less probable than this are left out, but for so many


def estimate_offset(
    reference: Stream, moving: Stream, *, max_offset: float | None = None, spacing: float = 0.0
) -> ClockEstimate:
    """Constant offset that puts `moving` on the clock of `reference`: t_ref = t_moving + offset.

    Drift is taken out where it can be seen, and the offset is that of the middle of what both heard. No constant fits a
    clock that breaks: it comes in pieces, as from `estimate_clock`.
    max_offset: seconds, searched both ways; None searches every overlap of at least one second.
    spacing: metres that the devices stood apart at most; std then includes the unknown travel time of sound.
    Raises StreamError for sound that is not finite, and for kinds that cannot be compared.
    """
    found = estimate_clock(reference, moving, max_offset=max_offset, spacing=spacing)
    if found.clock is None or not isinstance(found.clock, ClockMap):
        return found
    middle = float(found.diagnostics["middle"])
    std = float(found.std_at(middle))
    offset = found.clock.offset + found.clock.drift * middle
    cov = np.array([[std**2, 0.0], [0.0, calibration.PRIOR_DRIFT**2]])
    return replace(found, clock=ClockMap(offset, 0.0), cov=cov, drift_known=False)


def estimate_clock(
    reference: Stream, moving: Stream, *, max_offset: float | None = None, spacing: float = 0.0
) -> ClockEstimate:
    """Offset and drift that put `moving` on the clock of `reference`: t_ref = offset + (1 + drift) * t_moving.

    Where one of the two paused, dropped frames or was started again, and where the drift changes with time, the map is
    a PiecewiseClock; `breaks` tell where it jumps, by how much, and how sure the place is. Jumps under 6 ms, or under
    what sound may take over twice the spacing, are not told from sources at other places.
    Two sounds, two sensors (see `estimate_motion`), a sensor and a picture, a sound and a picture (see
    `estimate_sound_picture`), or any two other streams of numbers (see `estimate_canonical`). Arguments and errors as
    `estimate_offset`.
    """
    if reference.kind == moving.kind == "sound":
        return compare(hear(reference), hear(moving), max_offset=max_offset, spacing=spacing)
    from avfuse.temporal.movement import compare_streams

    return compare_streams(reference, moving, max_offset=max_offset)


def compare(reference: Heard, moving: Heard, *, max_offset: float | None = None, spacing: float = 0.0) -> ClockEstimate:
    """`estimate_clock` of two sounds that were prepared before; see there."""
    if max_offset is not None and not max_offset > 0:
        raise StreamError(f"max_offset is {max_offset!r} s; expected a positive number of seconds, or None")
    if not 0 <= spacing < math.inf:
        raise StreamError(f"spacing is {spacing!r} m; expected a number of metres, 0 or more")
    span = (moving.start, moving.start + moving.duration)
    for role, heard in (("reference", reference), ("moving", moving)):
        reason = nothing_to_hear(heard)
        if reason is not None:
            return ClockEstimate("degenerate", message=f"{role} sound {reason}", span=span, evidence=("sound",))
    # Always search the shorter in the longer: swapping the two then gives exactly the inverse.
    swapped = are_swapped(reference, moving)
    a, b = (moving, reference) if swapped else (reference, moving)
    limit = math.inf if max_offset is None else max_offset
    between = a.start - b.start  # offset = lag + between
    found = _compare_ordered(a, b, -limit - between, limit - between, spacing)
    found = replace(found, span=(b.start, b.start + b.duration))
    return _swap(found, span) if swapped else found


def are_swapped(reference: Heard, moving: Heard) -> bool:
    """Whether `compare` searches the reference in the moving sound, because it is the shorter."""
    return _size(moving) > _size(reference)


def _size(heard: Heard) -> tuple[int, float, float]:
    return heard.count, float(heard.liveliness.sum(dtype=np.float64)), heard.start


def nothing_to_hear(heard: Heard) -> str | None:
    """Why this sound cannot be placed at all, or None."""
    if heard.duration < SHORTEST:
        return f"lasts {heard.duration:.2f} s; at least {SHORTEST:g} s are needed"
    if np.count_nonzero(heard.active) < 50:
        return "is silent: nothing between 100 Hz and 8 kHz rises above digital silence"
    return None


def _compare_ordered(a: Heard, b: Heard, low: float, high: float, spacing: float) -> ClockEstimate:
    tried = candidate_lines(a, b, low, high)
    if not tried:
        return ClockEstimate(
            "no_match", message="no overlap of at least one second was left to search", evidence=("sound",)
        )
    best = best_supported(tried)
    seen: dict[str, object] = {
        "peak": best.focused.peak,
        "local": best.plain.local,
        "coarse": best.line.score,
        "match": best.match,
    }
    if best.match < 0.5:
        return ClockEstimate(
            "no_match",
            message="both hold sound, but nothing in it is shared; "
            "check that they recorded the same event at the same time",
            confidence=1 - best.match,
            evidence=("sound",),
            diagnostics=seen,
        )
    line = best.focused.line
    windows = choose_windows(a, b, line)
    sharp = gather(a, b, line, windows)
    broken = _follow_breaks(a, b, best, tried, sharp, low, high, spacing, seen)
    if broken is not None:
        return broken
    onsets = gather_onsets(a, b, line, windows)
    lobes, probabilities = weigh_lobes(sharp, onsets)
    chosen = lobes[0]
    share = share_of_time(sharp, onsets, lobes)
    begin, end = meeting(a, b, line)
    event = calibration.spread_probability(share)
    if end - begin < min(_BRIEF, 0.25 * b.duration) and share < 0.9:
        # Two ends that overlap, or a jingle at the end of one and the start of the other: who can tell?
        event = min(event, 0.9)
    rivals = rivals_of(best, tried)
    shifts, lobe, mixed = _one_answer(lobes, probabilities, sources_of(sharp, lobes), spacing)
    confidence = best.match * event * lobe / (1 + len(rivals))
    seen |= {"line": line, "lobes": lobes, "lobe": lobe, "share": share, "event": event, "rivals": len(rivals)}
    settled = settle_along(a, b, sharp, onsets, chosen)
    estimate = replace(_estimate(a, b, settled, spacing, mixed, seen), confidence=confidence)
    if confidence >= _ACCEPT:
        return estimate
    return replace(
        estimate,
        status="ambiguous",
        clock=None,
        cov=None,
        candidates=_candidates(a, b, settled.line, list(shifts), probabilities * best.match, rivals),
        message=_doubt(best.match * event, rivals, best),
    )


def _one_answer(
    lobes: list[Lobe], probabilities: NDArray[np.float64], sources: NDArray[np.float64], spacing: float
) -> tuple[NDArray[np.float64], float, float]:
    """Lags of all lobes against the first; the probability of those that are one answer with it, and the variance of
    the lag that these leave.

    Lobes closer than a millisecond, those of sources elsewhere, and those that sources in all places allow for are one
    answer: which of them it is goes into the standard deviation.
    """
    shifts = np.array([p.lag - lobes[0].lag for p in lobes])
    near = np.abs(shifts) < _SAME
    allowed = near | (sources > 0) | (np.abs(shifts) < 2 * spacing / SPEED_OF_SOUND)
    lobe = float(probabilities[allowed].sum())
    # A close lobe that is no more than unlikely widens the interval; one that is all but ruled out does not.
    close = near & (probabilities > 0.03)
    mixed = float(np.sum(probabilities[close] * shifts[close] ** 2))
    return shifts, lobe, max(mixed, float(np.sum(sources * shifts**2)))


def _follow_breaks(
    a: Heard,
    b: Heard,
    best: Tried,
    tried: list[Tried],
    sharp: Evidence,
    low: float,
    high: float,
    spacing: float,
    seen: dict[str, object],
) -> ClockEstimate | None:
    """A clock in pieces, or None where one line will do."""
    line = best.focused.line
    begin, end = meeting(a, b, line)
    if end - begin < _LONG_ENOUGH:
        return None
    bent = len(bent_lines(*window_lags(sharp), line)) > 1
    if not (bent or wanders(a, b, line)):
        return None
    smallest = max(SMALLEST, 2 * spacing / SPEED_OF_SOUND)
    stretches = follow(a, b, line, low=low, high=high, smallest=smallest)
    together = compare_stretches(a, b, stretches) if len(stretches) > 1 else None
    if together is None:
        return None
    local = max(together.focused.local, best.plain.local)
    match = calibration.match_probability(together.focused.peak, local, best.line.score, best.line.wave)
    event = calibration.spread_probability(together.share)
    rivals = [t for t in rivals_of(best, tried) if _fits_beside(a, b, t.focused.line, stretches, together)]
    _, lobe, mixed = _one_answer(together.lobes, together.probabilities, together.sources, spacing)
    confidence = match * event * lobe / (1 + len(rivals))
    seen = seen | {
        "stretches": stretches,
        "lobe": lobe,
        "share": together.share,
        "event": event,
        "match": match,
        "lobes": together.lobes,
        "sources": together.sources,
    }
    pieces = settle_stretches(a, b, stretches, together, beside=mixed + (spacing / SPEED_OF_SOUND) ** 2 / 3)
    if confidence < _ACCEPT:
        longest = sorted(pieces.clock.segments, key=lambda s: s.start - s.end)
        share = confidence / len(longest)
        return ClockEstimate(
            "ambiguous",
            confidence=confidence,
            candidates=tuple(Candidate(s.offset, s.drift, share) for s in longest[:_FEW]),
            message=f"different parts of it fit {len(longest)} different offsets, longest first: it was cut or paused, "
            "or shares only jingles with the other, and the sound does not tell which",
            evidence=("sound",),
            diagnostics=seen,
        )
    return ClockEstimate(
        "aligned",
        pieces.clock,
        pieces.covs,
        confidence,
        drift_known=pieces.drift_known,
        evidence=("sound",),
        breaks=pieces.breaks,
        diagnostics=seen,
    )


def _fits_beside(a: Heard, b: Heard, line: Line, stretches: list[Stretch], together: Together) -> bool:
    """Whether all stretches, moved to a line that part of the sound supports, agree nearly as well: it repeats."""
    nearest = min(stretches, key=lambda s: max(s.begin - line.centre, line.centre - s.end))
    moved = line.lag_at(line.centre) - nearest.line.lag_at(line.centre)
    if abs(moved) < ELSEWHERE or any(abs(line.lag_at(s.line.centre) - s.line.lag) < ELSEWHERE for s in stretches):
        return False
    return support_beside(a, b, together, moved) > RIVAL * together.focused.support


def _doubt(match: float, rivals: list[Tried], best: Tried) -> str:
    if rivals:
        apart = min(abs(t.focused.line.lag_at(best.focused.line.centre) - best.focused.line.lag) for t in rivals)
        return (
            f"the sound repeats: {len(rivals) + 1} offsets fit, the nearest {apart:.2f} s apart; "
            "narrow the search (max_offset) or add a recording that tells them apart"
        )
    if match < _ACCEPT:
        return "only a small part of the sound is shared, which may be a jingle or a chance; see the candidates"
    return (
        "echoes, or sources in several places, leave several offsets within milliseconds; the candidates are listed, "
        "best first; say how far apart the devices stood (spacing) to take them as one answer"
    )


def _estimate(
    a: Heard, b: Heard, settled: calibration.Settled, spacing: float, mixed: float, diagnostics: dict[str, object]
) -> ClockEstimate:
    """From lag and drift about the evidence's middle to offset and drift at time 0 of both recordings."""
    line = settled.line
    cov = settled.cov.copy()
    cov[0, 0] += mixed
    if not settled.drift_known:
        cov[1, 1] = calibration.PRIOR_DRIFT**2
    # Sources in all directions spread the difference of two paths evenly between -spacing and +spacing.
    cov[0, 0] += (spacing / SPEED_OF_SOUND) ** 2 / 3
    middle = b.start + line.centre
    back = np.array([[1.0, -middle], [0.0, 1.0]])
    offset = a.start - b.start + line.lag - line.drift * middle
    return ClockEstimate(
        "aligned",
        ClockMap(offset, line.drift),
        back @ cov @ back.T,
        drift_known=settled.drift_known,
        evidence=("sound",),
        diagnostics=diagnostics | {"middle": middle, "coherence": settled.coherence},
    )


def _candidates(
    a: Heard, b: Heard, line: Line, shifts: list[float], probabilities: NDArray[np.float64], rivals: list[Tried]
) -> tuple[Candidate, ...]:
    """Best first: what is all but ruled out is left out, but for the first few."""

    def candidate(line: Line, shift: float, probability: float) -> Candidate:
        offset = a.start - b.start + line.lag + shift - line.drift * (b.start + line.centre)
        return Candidate(offset, line.drift, probability / (1 + len(rivals)))

    likely = max(_FEW, int(np.count_nonzero(probabilities > _LEAST)))
    found = [candidate(line, shift, float(p)) for shift, p in zip(shifts[:likely], probabilities, strict=False)]
    ordered = sorted(rivals, key=lambda t: (t.line.wave, -t.line.score))
    found += [candidate(t.focused.line, 0.0, float(probabilities[0])) for t in ordered]
    return tuple(sorted(found, key=lambda c: -c.confidence))


def _swap(found: ClockEstimate, span: tuple[float, float]) -> ClockEstimate:
    """The estimate read the other way round."""
    candidates = tuple(
        Candidate(inverse.offset, inverse.drift, c.confidence)
        for c in found.candidates
        for inverse in [c.map.inverse()]
    )
    if isinstance(found.clock, PiecewiseClock) and found.cov is not None:
        # Stretches follow each other on both clocks: neither goes back.
        clock = _inverse(found.clock)
        jacobians = np.array([inverse_jacobian(s.map) for s in found.clock.segments])
        covs = jacobians @ found.cov @ jacobians.transpose(0, 2, 1)
        ends = [break_after(s, found.breaks) for s in found.clock.segments[:-1]]
        breaks = breaks_of(clock, [0.0 if b is None else b.std for b in ends])
        return replace(found, clock=clock, cov=covs, breaks=breaks, candidates=candidates, span=span)
    if not isinstance(found.clock, ClockMap) or found.cov is None:
        return replace(found, candidates=candidates, span=span)
    jacobian = inverse_jacobian(found.clock)
    diagnostics = dict(found.diagnostics)
    if "middle" in diagnostics:
        diagnostics["middle"] = float(found.clock(diagnostics["middle"]))
    return replace(
        found,
        clock=found.clock.inverse(),
        cov=jacobian @ found.cov @ jacobian.T,
        candidates=candidates,
        span=span,
        diagnostics=diagnostics,
    )


def _inverse(clock: PiecewiseClock) -> PiecewiseClock:
    """Segment by segment; rounding must not make them overlap."""
    found: list[Segment] = []
    for segment in clock.segments:
        back = segment.map.inverse()
        start = max(float(segment.map(segment.start)), found[-1].end if found else -math.inf)
        found.append(Segment(start, float(segment.map(segment.end)), back.offset, back.drift))
    return PiecewiseClock(tuple(found))
