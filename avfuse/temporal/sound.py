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
from avfuse.temporal.evidence import Evidence, Onsets, choose_windows, gather, gather_onsets, meeting
from avfuse.temporal.focus import Focused, Lobe, correlation, find_lobes, focus, in_band
from avfuse.temporal.hearing import RATE, Heard, hear
from avfuse.temporal.refine import BIN_WORTH, ONSET_WORTH, cells_of, refine

SPEED_OF_SOUND = 343.0
PRIOR_DRIFT = 50e-6  # 1 sigma of ordinary crystals against each other
SHORTEST = 1.0  # seconds of sound that can be placed
_CLEAR = 6.0  # peaks over their null that need no second search
_RIVAL = 0.5  # share of the best line's support from which another line is a rival
_NOTICEABLE = 2.2  # a peak over its null that chance seldom reaches
_HOPEFUL = 3  # lines whose onsets are listened to where no line is clear
_BRIEF = 12.0  # seconds of overlap that count as brief, where they are also little of the shorter recording
_ACCEPT = 0.98
_SAME = 0.8e-3  # seconds
_LEAST, _FEW = 1e-3, 4  # candidates less probable than this are left out, but for so many
_APART = 4e-3  # seconds by which a lobe may lie off the line before frames of 64 ms miss much of it
_MOMENTS = 5.0  # half seconds of sound above both floors that say something about evenness
_DRIFT_UNKNOWN = 10e-6


@dataclass(frozen=True, eq=False)
class _Tried:
    """A candidate line, and what the waveforms say along it: all frames alike, and where that is not clear, onsets."""

    line: Line
    plain: Focused
    onset: Focused | None = None

    @property
    def focused(self) -> Focused:
        return self.onset if self.onset is not None and self.onset.peak > self.plain.peak else self.plain

    @property
    def hopeful(self) -> bool:
        """Worth a second, slower look."""
        return (self.line.score > 5 and not self.line.wave) or self.plain.peak > 1.3 or self.plain.local > 2

    @property
    def match(self) -> float:
        """Probability that the sounds share what this line shows."""
        local = max(self.plain.local, self.onset.local if self.onset else 0.0)
        return calibration.match_probability(self.focused.peak, local, self.line.score, self.line.wave)


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
    return _Tried(line, focus(gather(a, b, line, windows))) if windows else None


def _listen_to_onsets(a: Heard, b: Heard, tried: _Tried) -> _Tried:
    """In a room the direct sound may show in onsets alone."""
    windows = choose_windows(a, b, tried.line)
    return replace(tried, onset=focus(gather_onsets(a, b, tried.line, windows, with_null=True)))


def _candidate_lines(a: Heard, b: Heard, low: float, high: float) -> list[_Tried]:
    """Lines tried, the most probable first."""
    lines = search(a, b, low=low, high=high)
    tried = _try_all(a, b, lines)
    if max((t.plain.peak for t in tried), default=0.0) < _CLEAR:
        # Steady sounds have flat envelopes; their waveforms may still agree.
        waves = search_waveform(a, b, low=low, high=high)
        new = [w for w in waves if not any(abs(_lag_at(k, w.centre) - w.lag) < 0.02 for k in lines)]
        tried += _try_all(a, b, new)
    if max((t.plain.peak for t in tried), default=0.0) < _CLEAR:
        hopeful = sorted((t for t in tried if t.hopeful), key=lambda t: -t.match)[:_HOPEFUL]
        tried = [_listen_to_onsets(a, b, t) if t in hopeful else t for t in tried]
    return sorted(tried, key=lambda t: -t.match)


def _compare_ordered(a: Heard, b: Heard, low: float, high: float, spacing: float) -> ClockEstimate:
    tried = _candidate_lines(a, b, low, high)
    if not tried:
        return ClockEstimate(
            "no_match", message="no overlap of at least one second was left to search", evidence=("sound",)
        )
    best = _best_supported(tried)
    diagnostics: dict[str, object] = {
        "peak": best.focused.peak,
        "plain_peak": best.plain.peak,
        "onset_peak": best.onset.peak if best.onset else math.nan,
        "local": best.plain.local,
        "coarse": best.line.score,
        "wave": best.line.wave,
        "match": best.match,
    }
    if best.match < 0.5:
        return ClockEstimate(
            "no_match",
            message="both hold sound, but nothing in it is shared; "
            "check that they recorded the same event at the same time",
            confidence=1 - best.match,
            evidence=("sound",),
            diagnostics=diagnostics,
        )
    line = best.focused.line
    windows = choose_windows(a, b, line)
    sharp, onsets = gather(a, b, line, windows), gather_onsets(a, b, line, windows)
    plain, broad, fine = (correlation(s) for s in (sharp.phat.sum(axis=0), onsets.broad, onsets.fine.sum(axis=0)))
    lobes = find_lobes(plain, broad, fine)
    features = np.array([[p.broad, p.fine, float(p.sign < 0)] for p in lobes])
    sharpness = float(np.abs(fine).max() / max(float(np.sqrt(np.mean(fine**2))), 1e-12))
    probabilities = calibration.lobe_probabilities(features, sharpness)
    order = np.argsort(-probabilities)
    chosen = lobes[order[0]]
    share = max(_taking_part(sharp, chosen), _rising_together(onsets, chosen))
    spread = calibration.spread_probability(share)
    low_end, high_end = meeting(a, b, line)
    if high_end - low_end < min(_BRIEF, 0.25 * b.duration) and share < 0.9:
        # Two ends that overlap, or a jingle at the end of one and the start of the other: who can tell?
        spread = min(spread, 0.9)
    rivals = [
        t
        for t in tried
        if abs(_lag_at(t.focused.line, line.centre) - line.lag) > 0.05
        and t.focused.peak > _NOTICEABLE
        and _support(t, best) > _RIVAL
    ]
    # Lobes closer than a millisecond are one answer: which of them it is goes into the standard deviation.
    shifts = np.array([p.lag - chosen.lag for p in lobes])
    near = np.abs(shifts) < _SAME
    lobe = float(probabilities[near].sum())
    confidence = best.match * spread * lobe / (1 + len(rivals))
    settled = _refine(a, b, sharp, onsets, chosen)
    # A close lobe that is no more than unlikely widens the interval; one that is all but ruled out does not.
    close = near & (probabilities > 0.03)
    mixed = float(np.sum(probabilities[close] * shifts[close] ** 2))
    diagnostics |= {
        "share": share,
        "spread": spread,
        "lobe": lobe,
        "lobes": features,
        "lobe_lags": np.array([p.lag for p in lobes]),
        "sharpness": sharpness,
        "overlap": (low_end, high_end),
        "rivals": len(rivals),
    }
    estimate = _estimate(a, b, settled, spacing, mixed, diagnostics)
    if confidence >= _ACCEPT:
        return replace(estimate, confidence=confidence)
    return replace(
        estimate,
        status="ambiguous",
        clock=None,
        cov=None,
        confidence=confidence,
        candidates=_candidates(
            a, b, settled.line, [lobes[k].lag - chosen.lag for k in order], probabilities[order] * best.match, rivals
        ),
        message=_doubt(best.match * spread, rivals, best),
    )


def _support(other: _Tried, best: _Tried) -> float:
    """How much agrees along another line, as a share of what does along the best; like with like."""
    found = [other.plain.support / best.plain.support]
    if other.onset is not None and best.onset is not None:
        found.append(other.onset.support / best.onset.support)
    return max(found)


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
    """Lines tried; once one is clear, only those that may rival it."""
    found: list[_Tried] = []
    clear = 0.0
    for line in lines:
        if line.score < _RIVAL * clear:
            break
        tried = _try(a, b, line)
        if tried is not None:
            found.append(tried)
            if tried.plain.peak > _CLEAR:
                clear = max(clear, line.score)
    return found


def _best_supported(tried: list[_Tried]) -> _Tried:
    """The most probable; among lines that match equally well, the one with most in common."""
    equal = [t for t in tried if t.plain.peak > _NOTICEABLE and t.match > 0.9 * tried[0].match]
    most = max((t.plain.support for t in equal), default=math.inf)
    supported = [t for t in equal if t.plain.support > 0.7 * most]
    return max(supported, key=lambda t: (not t.line.wave, t.line.score), default=tried[0])


def _lag_at(line: Line, t: float) -> float:
    return line.lag + line.drift * (t - line.centre)


def _taking_part(evidence: Evidence, chosen: Lobe) -> float:
    """Share of the time that agrees: 1 where all groups contribute alike, 1 / groups where one carries everything."""
    band = in_band(evidence.phat.shape[1])
    value = _along(evidence.phat, chosen)[:, band].sum(axis=1) / evidence.frames
    noise = float(np.mean([((null[:, band].real.sum(axis=1) / evidence.frames) ** 2).mean() for null in evidence.null]))
    everywhere = _evenness(value, np.ones_like(value), noise)
    # Between impacts there is only noise to compare: count the time in which both sounds rise above their floors.
    both = np.sqrt(_above_floor(evidence.power_reference, band) * _above_floor(evidence.power_moving, band))
    return max(everywhere, _evenness(value, both, noise)) if both.sum() >= _MOMENTS else everywhere


def _rising_together(onsets: Onsets, chosen: Lobe) -> float:
    """As `_taking_part`, of the time in which sound rises at both: decays and pauses are not asked."""
    band = in_band(onsets.fine.shape[1])
    mass, square = (v[:, band].sum(axis=1, dtype=np.float64) for v in (onsets.mass, onsets.square))
    weight = np.minimum(mass, 4 * mass.mean())
    mass = np.maximum(mass, 1e-12)
    value = _along(onsets.fine, chosen)[:, band].sum(axis=1) / mass
    noise = square / mass**2 / (2 * ONSET_WORTH * BIN_WORTH)
    return _evenness(value, weight, float(np.average(noise, weights=weight + 1e-30)))


def _along(spectra: NDArray[np.complex64], lobe: Lobe) -> NDArray[np.float64]:
    """What of `spectra`, `(groups, bins)`, agrees with the lobe: real parts after its delay is taken out."""
    f = np.linspace(0, RATE / 2, spectra.shape[1])
    return np.asarray(lobe.sign * (spectra * np.exp(2j * np.pi * f * lobe.lag)).real)


def _evenness(value: NDArray[np.float64], weight: NDArray[np.float64], noise: float) -> float:
    """Weighted (sum)^2 / sum of squares against its largest possible value, with the noise taken out."""
    squares = float((weight * value**2).sum())
    power = max(squares - float(weight.sum()) * noise, 0.1 * squares, 1e-30)
    return float(min(1.0, max(float((weight * value).sum()), 0.0) ** 2 / (weight.sum() * power)))


def _above_floor(power: NDArray[np.float32], band: NDArray[np.bool_]) -> NDArray[np.float64]:
    """0 where a group is as quiet as the quietest fifth, 1 where it holds twice that power or more."""
    total = power[:, band].sum(axis=1, dtype=np.float64)
    return np.asarray(np.clip(total / max(float(np.quantile(total, 0.2)), 1e-30) - 1, 0, 1))


def _refine(a: Heard, b: Heard, sharp: Evidence, onsets: Onsets, chosen: Lobe) -> calibration.Settled:
    """Lag and drift from all frames alike and from onsets, whichever states less; where the two disagree both say less.

    All frames alike are best without a room, onsets within one.
    """
    line, lag, sign = sharp.line, chosen.lag, chosen.sign
    if abs(lag) > _APART:
        line, lag = Line(line.lag + lag, line.drift, line.centre, line.score), 0.0
        windows = choose_windows(a, b, line)
        sharp, onsets = gather(a, b, line, windows, with_null=False), gather_onsets(a, b, line, windows)
    # Twice, since the first step moves the frames that the second one compares.
    first = refine(cells_of(sharp, sign=sign), lag=lag).line
    again = cells_of(gather(a, b, first, choose_windows(a, b, first), with_null=False), sign=sign)
    rising = cells_of(onsets, sign=sign)
    settled = calibration.settle(refine(again), refine(rising, lag=lag))
    if settled.cov[1, 1] > _DRIFT_UNKNOWN**2:
        flat = Line(line.lag + lag, 0.0, settled.line.centre, line.score)
        windows = choose_windows(a, b, flat)
        still = (gather(a, b, flat, windows, with_null=False), gather_onsets(a, b, flat, windows))
        settled = calibration.settle(*(refine(cells_of(e, sign=sign), with_drift=False) for e in still))
    return settled


def _estimate(
    a: Heard, b: Heard, settled: calibration.Settled, spacing: float, mixed: float, diagnostics: dict[str, object]
) -> ClockEstimate:
    """From lag and drift about the evidence's middle to offset and drift at time 0 of both recordings."""
    line = settled.line
    cov = settled.cov.copy()
    cov[0, 0] += mixed
    if not settled.drift_known:
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
        drift_known=settled.drift_known,
        evidence=("sound",),
        diagnostics=diagnostics | {"middle": middle, "coherence": settled.coherence},
    )


def _candidates(
    a: Heard, b: Heard, line: Line, shifts: list[float], probabilities: NDArray[np.float64], rivals: list[_Tried]
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
