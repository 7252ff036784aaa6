"""The clock of a sound whose lag jumps: one line for each stretch, most of them with one drift.

All stretches are heard by the same devices in the same place, so that together they decide which maximum of the
correlation is the direct sound, and whether what is shared is the event; each tells its own lag.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from avfuse.alignment import Break
from avfuse.clock import PiecewiseClock, Segment
from avfuse.temporal.calibration import PRIOR_DRIFT
from avfuse.temporal.coarse import Line
from avfuse.temporal.evidence import MOST_WINDOWS, Evidence, Onsets, choose_windows, gather, gather_onsets
from avfuse.temporal.focus import Focused, Lobe, focus
from avfuse.temporal.hearing import Heard
from avfuse.temporal.refine import pooled
from avfuse.temporal.settling import settle_along, weigh_lobes
from avfuse.temporal.sharing import share_of_time, sources_of
from avfuse.temporal.tracking import Stretch

F64 = NDArray[np.float64]

_MARGIN = 0.15  # seconds beside a break that are not compared, on top of its own uncertainty
_FEWEST = 4  # windows of a stretch
_TELLS_DRIFT = 20.0  # seconds of a stretch that tell its drift
_SHORTEST = 2.0  # seconds of a stretch that is refined by itself
_ROUGH = 0.2e-3  # seconds, 1 sigma of the lag of a shorter one
_AGREES = 4.0  # standard deviations between drifts that are one


@dataclass(frozen=True, eq=False)
class Compared:
    """A stretch with its evidence.

    part: of the moving sound; line: in the times of that part. most: windows it is compared in, see `choose_windows`.
    """

    part: Heard
    line: Line
    most: int
    sharp: Evidence
    onsets: Onsets


@dataclass(frozen=True, eq=False)
class Together:
    """What all stretches say together.

    lobes, probabilities: as by `weigh_lobes`; share, sources: as by `share_of_time` and `sources_of`.
    """

    compared: tuple[Compared | None, ...]
    focused: Focused
    lobes: list[Lobe]
    probabilities: F64
    share: float
    sources: F64


def compare_stretches(a: Heard, b: Heard, stretches: Sequence[Stretch]) -> Together | None:
    """None where no stretch lasts long enough to be compared."""
    length = sum(stretch.end - stretch.begin for stretch in stretches)
    compared = tuple(_compare(a, b, stretch, length) for stretch in stretches)
    usable = [c for c in compared if c is not None]
    if not usable:
        return None
    sharp, onsets = _joined([c.sharp for c in usable]), _joined_onsets([c.onsets for c in usable])
    lobes, probabilities = weigh_lobes(sharp, onsets)
    return Together(
        compared, focus(sharp), lobes, probabilities, share_of_time(sharp, onsets, lobes), sources_of(sharp, lobes)
    )


def support_beside(a: Heard, b: Heard, together: Together, moved: float) -> float:
    """How much agrees where all stretches are moved by `moved` seconds of lag."""
    parts = []
    for c in together.compared:
        if c is not None:
            line = replace(c.line, lag=c.line.lag + moved)
            windows = choose_windows(a, c.part, line, c.most)
            if windows:
                parts.append(gather(a, c.part, line, windows))
    return focus(_joined(parts)).support if parts else 0.0


def _compare(a: Heard, b: Heard, stretch: Stretch, length: float) -> Compared | None:
    """length: seconds of all stretches, among which the windows are shared out."""
    begin = stretch.begin + min(_MARGIN, stretch.begin_std) + stretch.begin_std
    end = stretch.end - min(_MARGIN, stretch.end_std) - stretch.end_std
    if end - begin < _SHORTEST:
        return None
    part = b.excerpt(begin, end)
    ahead = part.start - b.start
    line = Line(stretch.line.lag + ahead, stretch.line.drift, stretch.line.centre - ahead, stretch.line.score)
    most = max(_FEWEST, round(MOST_WINDOWS * part.duration / length))
    windows = choose_windows(a, part, line, most)
    if not windows:
        return None
    sharp, onsets = gather(a, part, line, windows), gather_onsets(a, part, line, windows)
    return Compared(part, line, most, sharp, onsets)


def _joined(parts: Sequence[Evidence]) -> Evidence:
    """One after another, each along its own line."""
    lengths = np.cumsum([0.0, *(e.times[-1] - e.times[0] + 1.0 for e in parts[:-1])])
    times = [e.times - e.times[0] + before for e, before in zip(parts, lengths, strict=True)]
    return Evidence(
        parts[0].line,
        np.concatenate(times),
        np.concatenate([e.frames for e in parts]),
        np.concatenate([e.spectra for e in parts]),
        np.concatenate([e.cross for e in parts]),
        np.concatenate([e.power_reference for e in parts]),
        np.concatenate([e.power_moving for e in parts]),
        np.concatenate([e.null for e in parts], axis=1),
    )


def _joined_onsets(parts: Sequence[Onsets]) -> Onsets:
    return Onsets(
        parts[0].line,
        np.concatenate([e.times for e in parts]),
        np.sum([e.broad for e in parts], axis=0),
        np.concatenate([e.fine for e in parts]),
        np.concatenate([e.mass for e in parts]),
        np.concatenate([e.square for e in parts]),
        np.concatenate([e.null for e in parts], axis=1),
    )


@dataclass(frozen=True, eq=False)
class Pieces:
    """clock: in the own times of both recordings. covs: `(segments, 2, 2)`. breaks: between segments."""

    clock: PiecewiseClock
    covs: F64
    breaks: tuple[Break, ...]
    drift_known: bool


def settle_stretches(a: Heard, b: Heard, stretches: Sequence[Stretch], together: Together, *, beside: float) -> Pieces:
    """Lags and drifts of all stretches. beside: variance (s^2) of the lag that other lobes and unknown paths leave."""
    chosen = together.lobes[0]
    lines, covs, known = [], [], []
    for stretch, c in zip(stretches, together.compared, strict=True):
        if c is None:
            rough = replace(stretch.line, lag=stretch.line.lag + chosen.lag)
            lines.append(rough)
            covs.append(np.diag([_ROUGH**2, PRIOR_DRIFT**2]))
            known.append(False)
            continue
        settled = settle_along(a, c.part, c.sharp, c.onsets, chosen, drift=c.line.drift, most=c.most)
        ahead = c.part.start - b.start
        at = settled.line
        lines.append(Line(at.lag - ahead, at.drift, at.centre + ahead, at.score))
        covs.append(settled.cov)
        known.append(settled.drift_known and stretch.end - stretch.begin > _TELLS_DRIFT)
    drift, variance = _common_drift(lines, covs, known)
    segments: list[Segment] = []
    found = []
    for k, (stretch, line, cov, tells) in enumerate(zip(stretches, lines, covs, known, strict=True)):
        agrees = abs(line.drift - drift) < _AGREES * np.sqrt(cov[1, 1] + variance) if tells else True
        slope, slope_variance = (drift, variance) if agrees else (line.drift, cov[1, 1])
        # Rounding must not make stretches overlap.
        start = b.start if k == 0 else max(b.start + stretch.begin, segments[-1].end)
        end = b.start + (b.duration if k == len(stretches) - 1 else stretch.end)
        middle = b.start + line.centre
        segments.append(Segment(start, end, a.start - b.start + line.lag - slope * middle, slope))
        back = np.array([[1.0, -middle], [0.0, 1.0]])
        found.append(back @ np.diag([cov[0, 0] + beside + stretch.rest**2, slope_variance]) @ back.T)
    clock = PiecewiseClock(tuple(segments))
    return Pieces(clock, np.array(found), breaks_of(clock, [s.end_std for s in stretches[:-1]]), any(known))


def _common_drift(lines: Sequence[Line], covs: Sequence[F64], known: Sequence[bool]) -> tuple[float, float]:
    """Drift of the stretches that tell one, and its variance; those that are far off the middle have their own."""
    tell = [(line.drift, cov[1, 1]) for line, cov, tells in zip(lines, covs, known, strict=True) if tells]
    if not tell:
        return float(np.median([line.drift for line in lines])), PRIOR_DRIFT**2
    drifts, variances = (np.array(v) for v in zip(*tell, strict=True))
    order = np.argsort(drifts)
    heavy = np.cumsum(1 / np.sqrt(variances[order]))
    middle = drifts[order][int(np.searchsorted(heavy, heavy[-1] / 2))]
    near = np.abs(drifts - middle) < _AGREES * np.sqrt(variances) + 1e-6
    return pooled(drifts[near], variances[near])


def breaks_of(clock: PiecewiseClock, stds: Sequence[float]) -> tuple[Break, ...]:
    """Jumps between segments; where the standard deviation of the place is 0 only the drift changes."""
    found = []
    for before, after, std in zip(clock.segments, clock.segments[1:], stds, strict=False):
        if std == 0:
            continue
        skipped = float(after.map(after.start)) - float(before.map(before.end))
        found.append(Break(before.end, std, skipped - (after.start - before.end)))
    return tuple(found)


def break_after(segment: Segment, breaks: Sequence[Break]) -> Break | None:
    """The break at the end of a segment, or None where only the drift changes there."""
    return next((b for b in breaks if abs(b.at - segment.end) < 1e-6), None)
