"""Sound against sound: where one recording lies on the clock of the other, how sure that is, or why it is not known.

coarse      mel features: candidates to 10 ms          (coarse.py)
focus       phase-only slant stacks: the candidate's drift and peak against a null  (evidence.py, focus.py)
lobe        which maximum is the direct sound          (onset weighting; calibration.py)
refine      maximum likelihood, covariance             (refine.py)
decide      here
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from avfuse.alignment import Candidate, ClockEstimate, inverse_jacobian
from avfuse.clock import ClockMap
from avfuse.errors import StreamError
from avfuse.stream import Stream
from avfuse.temporal import calibration
from avfuse.temporal.coarse import Line, search, search_waveform
from avfuse.temporal.evidence import BINS, Evidence, choose_windows, gather, gather_onsets, meeting
from avfuse.temporal.focus import Focused, correlation, find_lobes, focus, in_band
from avfuse.temporal.hearing import RATE, Heard, hear
from avfuse.temporal.refine import Refined, refine

SPEED_OF_SOUND = 343.0
PRIOR_DRIFT = 50e-6  # 1 sigma of ordinary crystals against each other
SHORTEST = 1.0  # seconds of sound that can be placed
_CLEAR = 6.0  # peaks over their null that need no second search
_RIVAL = 0.5  # share of the best line's support from which another line is a rival
_NOTICEABLE = 2.2  # a peak over its null that chance seldom reaches
_BRIEF = 8.0  # seconds of overlap that count as brief, where they are also little of the shorter recording
_ACCEPT = 0.97
_SAME = 0.8e-3  # seconds
_MOMENTS = 5.0  # half seconds of sound above both floors that say something about evenness
_DRIFT_UNKNOWN = 10e-6


@dataclass(frozen=True, eq=False)
class _Tried:
    line: Line
    focused: Focused
    frames: int

    @property
    def support(self) -> float:
        """Height times frames: how much of the sound agrees."""
        return self.focused.height * self.frames


def estimate_offset(
    reference: Stream, moving: Stream, *, max_offset: float | None = None, spacing: float = 0.0
) -> ClockEstimate:
    """Constant offset that puts `moving` on the clock of `reference`: t_ref = t_moving + offset.

    Drift is taken out where it can be seen, and the offset is that of the middle of what both heard.
    max_offset: seconds, searched both ways; None searches every overlap of at least one second.
    spacing: metres that the devices stood apart at most; std then includes the unknown travel time of sound.
    Raises StreamError for streams that are not finite sound.
    """
    found = compare(hear(reference), hear(moving), max_offset=max_offset, spacing=spacing)
    if found.clock is None or not isinstance(found.clock, ClockMap):
        return found
    middle = float(found.diagnostics["middle"])
    std = float(found.std_at(middle))
    offset = found.clock.offset + found.clock.drift * middle
    cov = np.array([[std**2, 0.0], [0.0, PRIOR_DRIFT**2]])
    return replace(found, clock=ClockMap(offset, 0.0), cov=cov, drift_known=False)


def estimate_clock(
    reference: Stream, moving: Stream, *, max_offset: float | None = None, spacing: float = 0.0
) -> ClockEstimate:
    """Offset and drift that put `moving` on the clock of `reference`: t_ref = offset + (1 + drift) * t_moving.

    Arguments and errors as `estimate_offset`.
    """
    return compare(hear(reference), hear(moving), max_offset=max_offset, spacing=spacing)


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
    swapped = _size(moving) > _size(reference)
    a, b = (moving, reference) if swapped else (reference, moving)
    limit = math.inf if max_offset is None else max_offset
    between = a.start - b.start  # offset = lag + between
    found = _compare_ordered(a, b, -limit - between, limit - between, spacing)
    found = replace(found, span=(b.start, b.start + b.duration))
    return _swap(found, span) if swapped else found


def _size(heard: Heard) -> tuple[int, float, float]:
    return heard.count, float(np.abs(heard.features).sum(dtype=np.float64)), heard.start


def nothing_to_hear(heard: Heard) -> str | None:
    """Why this sound cannot be placed at all, or None."""
    if heard.duration < SHORTEST:
        return f"lasts {heard.duration:.2f} s; at least {SHORTEST:g} s are needed"
    if np.count_nonzero(heard.active) < 50:
        return "is silent: nothing between 100 Hz and 8 kHz rises above digital silence"
    return None


def _try(a: Heard, b: Heard, line: Line) -> _Tried | None:
    windows = choose_windows(a, b, line)
    if not windows:
        return None
    evidence = gather(a, b, line, windows)
    return _Tried(line, focus(evidence), int(evidence.frames.sum()))


def _compare_ordered(a: Heard, b: Heard, low: float, high: float, spacing: float) -> ClockEstimate:
    lines = search(a, b, low=low, high=high)
    tried = _try_all(a, b, lines)
    if not tried or tried[0].focused.peak < _CLEAR:
        # Steady sounds have flat envelopes; their waveforms may still agree.
        waves = search_waveform(a, b, low=low, high=high)
        new = [w for w in waves if not any(abs(_lag_at(k, w.centre) - w.lag) < 0.02 for k in lines)]
        tried = sorted(tried + _try_all(a, b, new), key=lambda t: -t.focused.peak)
    if not tried:
        return ClockEstimate(
            "no_match", message="no overlap of at least one second was left to search", evidence=("sound",)
        )
    best = _best_supported(tried)
    line = best.focused.line
    windows = choose_windows(a, b, line)
    sharp = gather(a, b, line, windows)
    onsets = [correlation(s) for s in gather_onsets(a, b, line, windows)]
    plain = correlation(sharp.phat.sum(axis=0))
    peakiness = float(np.abs(plain).max() / np.sqrt(np.mean(plain**2)))
    lobes = find_lobes(plain, onsets[1], onsets[2])
    features = np.array([[p.plain, p.broad, p.fine, float(p.sign < 0)] for p in lobes])
    probabilities = calibration.lobe_probabilities(features, peakiness)
    order = np.argsort(-probabilities)
    share = _taking_part(sharp, lobes[order[0]].lag, lobes[order[0]].sign)
    match = calibration.match_probability(best.focused.peak, best.line.score, best.line.wave)
    spread = calibration.spread_probability(share)
    low_end, high_end = meeting(a, b, line)
    if high_end - low_end < min(_BRIEF, 0.25 * b.duration) and share < 0.8:
        # Two ends that overlap, or a jingle at the end of one and the start of the other: who can tell?
        spread = min(spread, 0.9)
    rivals = [
        t
        for t in tried
        if abs(_lag_at(t.focused.line, line.centre) - line.lag) > 0.05
        and t.focused.peak > _NOTICEABLE
        and t.support > _RIVAL * best.support
    ]
    diagnostics = {
        "peak": best.focused.peak,
        "height": best.focused.height,
        "share": share,
        "coarse": best.line.score,
        "wave": best.line.wave,
        "match": match,
        "spread": spread,
        "peakiness": peakiness,
        "lobes": features,
        "lobe_lags": np.array([p.lag for p in lobes]),
        "overlap": (low_end, high_end),
        "rivals": len(rivals),
    }
    if match < 0.5:
        return ClockEstimate(
            "no_match",
            message="both hold sound, but nothing in it is shared; "
            "check that they recorded the same event at the same time",
            confidence=1 - match,
            evidence=("sound",),
            diagnostics=diagnostics,
        )
    chosen = lobes[order[0]]
    # Lobes closer than a millisecond are one answer: which of them it is goes into the standard deviation.
    shifts = np.array([p.lag - chosen.lag for p in lobes])
    near = np.abs(shifts) < _SAME
    lobe = float(probabilities[near].sum())
    confidence = match * spread * lobe / (1 + len(rivals))
    start = Line(line.lag + chosen.lag, line.drift, line.centre, line.score)
    refined = _refine(a, b, start, chosen.sign)
    diagnostics["lobe"] = lobe
    # A close lobe that is no more than unlikely widens the interval; one that is all but ruled out does not.
    close = near & (probabilities > 0.03)
    mixed = float(np.sum(probabilities[close] * shifts[close] ** 2))
    estimate = _estimate(a, b, refined, spacing, peakiness, mixed, diagnostics)
    if confidence >= _ACCEPT:
        return replace(estimate, confidence=confidence)
    return replace(
        estimate,
        status="ambiguous",
        clock=None,
        cov=None,
        confidence=confidence,
        candidates=_candidates(
            a, b, refined, [lobes[k].lag - chosen.lag for k in order], probabilities[order] * match, rivals
        ),
        message=_doubt(match * spread, rivals, best),
    )


def _doubt(match: float, rivals: list[_Tried], best: _Tried) -> str:
    if rivals:
        apart = min(abs(_lag_at(t.focused.line, best.focused.line.centre) - best.focused.line.lag) for t in rivals)
        return (
            f"the sound repeats: {len(rivals) + 1} offsets fit, the nearest {apart:.2f} s apart; "
            "narrow the search (max_offset) or add a recording that tells them apart"
        )
    if match < _ACCEPT:
        return "only a small part of the sound is shared, which may be a jingle or a chance; see the candidates"
    return (
        "echoes hide which arrival is the direct sound: several offsets within milliseconds fit; "
        "the candidates are listed, best first"
    )


def _try_all(a: Heard, b: Heard, lines: list[Line]) -> list[_Tried]:
    """Lines tried, best peak first; once one is clear, only those that may rival it."""
    found: list[_Tried] = []
    clear = 0.0
    for line in lines:
        if line.score < _RIVAL * clear:
            break
        tried = _try(a, b, line)
        if tried is not None:
            found.append(tried)
            if tried.focused.peak > _CLEAR:
                clear = max(clear, line.score)
    return sorted(found, key=lambda t: -t.focused.peak)


def _best_supported(tried: list[_Tried]) -> _Tried:
    """The highest peak; among lines that match equally well, the one with most in common."""
    top = tried[0]
    most = max(t.support for t in tried if t.focused.peak > _NOTICEABLE) if top.focused.peak > _NOTICEABLE else 0.0
    equal = [t for t in tried if t.focused.peak > _NOTICEABLE and t.support > 0.7 * most]
    return max(equal, key=lambda t: (not t.line.wave, t.line.score)) if equal else top


def _lag_at(line: Line, t: float) -> float:
    return line.lag + line.drift * (t - line.centre)


def _taking_part(evidence: Evidence, lag: float, sign: int) -> float:
    """Share of the time that agrees: 1 where all groups contribute alike, 1 / groups where one carries everything."""
    f = np.linspace(0, RATE / 2, BINS)
    band = in_band(BINS)
    turn = np.exp(2j * np.pi * f[band] * lag)
    value = sign * (evidence.phat[:, band] * turn).real.sum(axis=1) / evidence.frames
    noise = float(np.mean([((null[:, band].real.sum(axis=1) / evidence.frames) ** 2).mean() for null in evidence.null]))
    everywhere = _evenness(value, np.ones_like(value), noise)
    # Between impacts there is only noise to compare: count the time in which both sounds rise above their floors.
    both = np.sqrt(_above_floor(evidence.power_reference, band) * _above_floor(evidence.power_moving, band))
    return max(everywhere, _evenness(value, both, noise)) if both.sum() >= _MOMENTS else everywhere


def _evenness(value: NDArray[np.float64], weight: NDArray[np.float64], noise: float) -> float:
    """Weighted (sum)^2 / sum of squares against its largest possible value, with the noise taken out."""
    squares = float((weight * value**2).sum())
    power = max(squares - float(weight.sum()) * noise, 0.1 * squares, 1e-30)
    return float(min(1.0, max(float((weight * value).sum()), 0.0) ** 2 / (weight.sum() * power)))


def _above_floor(power: NDArray[np.float32], band: NDArray[np.bool_]) -> NDArray[np.float64]:
    """0 where a group is as quiet as the quietest fifth, 1 where it holds twice that power or more."""
    total = power[:, band].sum(axis=1, dtype=np.float64)
    return np.asarray(np.clip(total / max(float(np.quantile(total, 0.2)), 1e-30) - 1, 0, 1))


def _refine(a: Heard, b: Heard, line: Line, sign: int) -> Refined:
    """Twice, since the first step moves the frames that the second one compares."""
    refined = refine(gather(a, b, line, choose_windows(a, b, line), with_null=False), sign=sign)
    refined = refine(gather(a, b, refined.line, choose_windows(a, b, refined.line), with_null=False), sign=sign)
    if refined.cov[1, 1] > _DRIFT_UNKNOWN**2:
        flat = Line(line.lag, 0.0, refined.line.centre, line.score)
        refined = refine(gather(a, b, flat, choose_windows(a, b, flat), with_null=False), sign=sign, with_drift=False)
    return refined


def _estimate(
    a: Heard,
    b: Heard,
    refined: Refined,
    spacing: float,
    peakiness: float,
    mixed: float,
    diagnostics: dict[str, object],
) -> ClockEstimate:
    """From lag and drift about the evidence's middle to offset and drift at time 0 of both recordings."""
    line = refined.line
    wider = calibration.widening(math.sqrt(refined.cov[0, 0]), refined.band_scatter, peakiness, refined.coherence)
    cov = refined.cov * wider**2
    cov[0, 0] += mixed
    if not refined.drift_known:
        cov[0, 1] = cov[1, 0] = 0.0
        cov[1, 1] = PRIOR_DRIFT**2
    # Sources in all directions spread the difference of two paths evenly between -spacing and +spacing.
    cov[0, 0] += (spacing / SPEED_OF_SOUND) ** 2 / 3
    middle = b.start + line.centre
    back = np.array([[1.0, -middle], [0.0, 1.0]])
    offset = a.start - b.start + line.lag - line.drift * middle
    return ClockEstimate(
        "aligned",
        ClockMap(offset, line.drift),
        back @ cov @ back.T,
        drift_known=refined.drift_known,
        evidence=("sound",),
        diagnostics=diagnostics
        | {
            "middle": middle,
            "coherence": refined.coherence,
            "band_scatter": refined.band_scatter,
            "noise_cov": refined.cov,
        },
    )


def _candidates(
    a: Heard, b: Heard, refined: Refined, shifts: list[float], probabilities: NDArray[np.float64], rivals: list[_Tried]
) -> tuple[Candidate, ...]:
    line = refined.line
    found = [
        Candidate(
            a.start - b.start + line.lag + shift - line.drift * (b.start + line.centre),
            line.drift,
            float(p) / (1 + len(rivals)),
        )
        for shift, p in zip(shifts, probabilities, strict=True)
    ]
    for t in sorted(rivals, key=lambda t: (t.line.wave, -t.line.score)):
        other = t.focused.line
        found.append(
            Candidate(
                a.start - b.start + other.lag - other.drift * (b.start + other.centre),
                other.drift,
                float(probabilities[0]) / (1 + len(rivals)),
            )
        )
    return tuple(found)


def _swap(found: ClockEstimate, span: tuple[float, float]) -> ClockEstimate:
    """The estimate read the other way round."""
    candidates = tuple(
        Candidate(inverse.offset, inverse.drift, c.confidence)
        for c in found.candidates
        for inverse in [c.map.inverse()]
    )
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
