"""How far two sounds lie from a stated clock, measured again: over time, and over lag.

Nothing of how the clock was found enters. Windows of some seconds are spread over what both cover; along the clock
each gives the lag at which its phase-only cross spectra (PHAT: Knapp and Carter 1976, eq. 29) agree best within
REACH. Heights are in multiples of what the same frames reach where they are paired with others that do not belong to
them, in the same search: unrelated sound has heights of about 1, whatever its spectrum.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from avfuse.clock import ClockMap, PiecewiseClock, Segment
from avfuse.temporal.coarse import Line
from avfuse.temporal.evidence import FRAME, HOP, gather, meeting
from avfuse.temporal.focus import correlation
from avfuse.temporal.hearing import RATE, Heard

F64 = NDArray[np.float64]

REACH = 0.05  # seconds searched on both sides of the stated clock
CLEAR = 1.5  # times the height of unrelated sound; one of 576 windows of unrelated simulated sounds came that high
_WINDOWS = 60
_WINDOW = 4.0  # seconds
_SHORTEST = 1.0
_LOBE = 0.001  # seconds around the peak that are the same answer: the error that a right one may have


@dataclass(frozen=True)
class Peak:
    """lag: seconds to add to the stated reference time. height: in multiples of unrelated sound."""

    lag: float
    height: float


@dataclass(frozen=True, eq=False)
class Residual:
    """What two sounds say of a clock moving -> reference that somebody stated.

    times: `(windows,)` seconds of the moving recording's own time, the middles of the windows, in order.
    residuals: `(windows,)` seconds to add to the stated reference time there; NaN where a window is not clear.
    strengths: `(windows,)` height of each window's peak, in multiples of unrelated sound; 0 in silence.
    lags: `(lags,)` seconds. correlation: `(lags,)` of all windows together, its highest value positive.
    window: seconds that each window lasts.
    """

    times: F64
    residuals: F64
    strengths: F64
    lags: F64
    correlation: F64
    window: float

    @property
    def clear(self) -> NDArray[np.bool_]:
        """`(windows,)` which windows say something."""
        return np.isfinite(self.residuals)

    @cached_property
    def peak(self) -> Peak:
        """Where all windows together agree best."""
        return self._highest(np.ones(len(self.lags), bool))

    @cached_property
    def runner_up(self) -> Peak:
        """The highest place that would be another answer: a millisecond or more away."""
        return self._highest(np.abs(self.lags - self.peak.lag) >= _LOBE)

    def _highest(self, among: NDArray[np.bool_]) -> Peak:
        size = np.where(among, np.abs(self.correlation), -1.0)
        k = int(np.argmax(size))
        return Peak(_vertex(self.lags, np.abs(self.correlation), k), float(size[k]))

    @property
    def median(self) -> float:
        """Seconds; NaN where no window is clear."""
        return float(np.median(self.residuals[self.clear])) if self.clear.any() else float("nan")

    @property
    def slope(self) -> float:
        """Drift that is left over, dimensionless: the median of the slopes of all pairs (Theil and Sen).

        NaN for fewer than three clear windows.
        """
        t, r = self.times[self.clear], self.residuals[self.clear]
        if len(t) < 3:
            return float("nan")
        i, j = np.triu_indices(len(t), 1)
        return float(np.median((r[j] - r[i]) / (t[j] - t[i])))


def residual_over_time(
    reference: Heard, moving: Heard, clock: ClockMap | PiecewiseClock, *, windows: int = _WINDOWS
) -> Residual | None:
    """Measure the lag that is left along `clock`, which maps the moving recording's time onto the reference's.

    windows: at most so many, of 4 s each (shorter where the sounds share less than a minute), each where its
    share of the time is liveliest; none reaches over a break of the clock or into a hole. Hours cost what minutes do.
    Returns None where the clock lets the sounds share less than a second.
    """
    lines = [
        (line, low, high)
        for segment in _segments(clock, reference, moving)
        for line, low, high in [_heard_line(segment, reference, moving)]
        if high - low >= _SHORTEST
    ]
    shared = sum(high - low for _, low, high in lines)
    if shared < _SHORTEST:
        return None
    window = float(np.clip(shared / 16, _SHORTEST, _WINDOW))
    times, whole, apart, found = [], [], [], []
    for line, low, high in lines:
        count = int(np.clip(round(windows * (high - low) / shared), 1, max((high - low) // window, 1)))
        length = min(window, high - low)
        for first, last in pairwise(np.linspace(low, high, count + 1)):
            start = _liveliest(reference, moving, line, first, last, length)
            evidence = gather(
                reference, moving, line, [(round(start * RATE), max(round(length * RATE), FRAME + 3 * HOP))]
            )
            whole.append(evidence.spectra.sum(axis=0))
            apart.append(evidence.null.sum(axis=1))
            # Kept rather than their spectra: an hour of windows is small this way.
            found.append(np.stack([correlation(whole[-1], REACH), *correlation(apart[-1], REACH)]))
            times.append(moving.start + start + length / 2)
    together = correlation(np.sum(whole, axis=0), REACH).astype(np.float64)
    unrelated = np.abs(correlation(np.sum(apart, axis=0), REACH)).max(axis=-1).mean()
    lags = np.arange(-(len(together) // 2), len(together) // 2 + 1) / (2.0 * RATE)
    # Devices of opposite polarity agree with a minus; one sign for all windows, where all together are clear.
    highest = float(together[np.argmax(np.abs(together))])
    sign = np.sign(highest) if abs(highest) >= CLEAR * unrelated else 0.0
    residuals, strengths = np.full(len(times), np.nan), np.zeros(len(times))
    for k, (own, *others) in enumerate(found):
        size = sign * own if sign else np.abs(own)
        at = int(np.argmax(size))
        chance = float(np.abs(others).max(axis=-1).mean())
        strengths[k] = max(float(size[at]), 0.0) / chance if chance > 0 else 0.0
        if strengths[k] >= CLEAR and 0 < at < len(lags) - 1:
            residuals[k] = _vertex(lags, size, at)
    order = np.argsort(times)
    scale = (sign or 1.0) / unrelated if unrelated > 0 else 0.0
    return Residual(
        np.array(times)[order], residuals[order], strengths[order], lags, together * scale, min(window, shared)
    )


def _segments(clock: ClockMap | PiecewiseClock, reference: Heard, moving: Heard) -> list[Segment]:
    """Lines of the clock with where they hold; the end ones go on."""
    ends = moving.start - 1.0, moving.start + moving.duration + 1.0
    if isinstance(clock, ClockMap):
        return [Segment(*ends, clock.offset, clock.drift)]
    starts = [min(clock.segments[0].start, ends[0]), *(s.start for s in clock.segments[1:])]
    stops = [*(s.end for s in clock.segments[:-1]), max(clock.segments[-1].end, ends[1])]
    return [Segment(a, b, s.offset, s.drift) for a, b, s in zip(starts, stops, clock.segments, strict=True)]


def _heard_line(segment: Segment, reference: Heard, moving: Heard) -> tuple[Line, float, float]:
    """A segment as a line between positions in both sounds, and from where to where both hold sound."""
    low, high = segment.start - moving.start, segment.end - moving.start
    centre = (max(low, 0.0) + min(high, moving.duration)) / 2
    own = centre + moving.start
    lag = segment.offset + segment.drift * own + moving.start - reference.start
    line = Line(lag, segment.drift, centre, 0.0)
    first, last = meeting(reference, moving, line)
    return line, max(first, low), min(last, high)


def _liveliest(reference: Heard, moving: Heard, line: Line, first: float, last: float, length: float) -> float:
    """Where a window of `length` begins; the less lively of the two sounds counts, and neither favours a lag."""

    def spread(heard: Heard, at: float) -> float:
        part = heard.liveliness[max(round(at), 0) :][: max(round(length), 1)]
        return float(part.mean()) if len(part) else 0.0

    starts = np.arange(first, max(last - length, first) + 1e-9, max(1.0, (last - first - length) / 60))
    return float(max(starts, key=lambda at: min(spread(moving, at), spread(reference, at + line.lag_at(at)))))


def _vertex(lags: F64, size: NDArray[np.floating], k: int) -> float:
    """Lag of the top of the parabola through three values."""
    if not 0 < k < len(lags) - 1:
        return float(lags[k])
    left, top, right = (float(v) for v in size[k - 1 : k + 2])
    bend = left - 2 * top + right
    return float(lags[k] + (0.5 * (left - right) / bend if bend < 0 else 0.0) * (lags[1] - lags[0]))
