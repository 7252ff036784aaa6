"""Maps of time, all of them t_ref = m(t): the moving recording's own time in, the reference's time out.

    ClockMap        offset + t + drift * t             one clock against another
    PiecewiseClock  one such line per segment          pauses, dropped frames, clock resets

Times are float64 seconds; `drift` is dimensionless (1e-6 is 1 ppm).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from avfuse.errors import StreamError

Times = NDArray[np.float64]


@dataclass(frozen=True)
class ClockMap:
    """t_ref = offset + (1 + drift) * t.

    offset: seconds, the reference time at which the moving recording's time 0 falls.
    drift: dimensionless; > 0 where the moving clock runs slow (its seconds are longer than the reference's).
    """

    offset: float = 0.0
    drift: float = 0.0

    def __post_init__(self) -> None:
        if not (np.isfinite(self.offset) and np.isfinite(self.drift) and self.drift > -1.0):
            raise StreamError(f"ClockMap: offset {self.offset}, drift {self.drift}; expected finite and drift > -1")

    def __call__(self, times: ArrayLike) -> Times:
        """Reference times of `times` (any shape, seconds)."""
        t = np.asarray(times, np.float64)
        # Not (1 + drift) * t: 1 + 1e-6 would throw away ten digits of the drift.
        return self.offset + t + self.drift * t

    def inverse(self) -> ClockMap:
        return ClockMap(-self.offset / (1.0 + self.drift), -self.drift / (1.0 + self.drift))

    def __matmul__(self, other: ClockMap) -> ClockMap:
        """(a @ b)(t) = a(b(t)): neighbouring clocks cancel as in T_ref_cam @ T_cam_rec."""
        if not isinstance(other, ClockMap):
            return NotImplemented
        return ClockMap(
            self.offset + other.offset + self.drift * other.offset,
            self.drift + other.drift + self.drift * other.drift,
        )


@dataclass(frozen=True)
class Segment:
    """One line of a PiecewiseClock: valid for start <= t < end in the moving recording's own time."""

    start: float
    end: float
    offset: float
    drift: float = 0.0

    def __post_init__(self) -> None:
        if not (np.isfinite(self.start) and np.isfinite(self.end) and self.end > self.start):
            raise StreamError(f"Segment: starts at {self.start} s and ends at {self.end} s; expected end > start")
        _ = self.map  # an offset or a drift that no clock has is refused here, not where it is first used

    @property
    def map(self) -> ClockMap:
        return ClockMap(self.offset, self.drift)


@dataclass(frozen=True)
class PiecewiseClock:
    """One affine map per segment of the moving recording's own time.

    Segments are half-open and in order (the last one is closed); before the first and after the last the
    end lines go on; a time between two segments that do not touch belongs to no reference time (NaN).
    """

    segments: tuple[Segment, ...]

    def __post_init__(self) -> None:
        if not self.segments:
            raise StreamError("PiecewiseClock: no segments; expected at least one")
        for before, after in zip(self.segments, self.segments[1:], strict=False):
            if after.start < before.end:
                raise StreamError(
                    f"PiecewiseClock: segment at {after.start} s begins before the one before it ends ({before.end} s)"
                )

    def __call__(self, times: ArrayLike) -> Times:
        """Reference times of `times` (any shape, seconds); NaN inside holes."""
        t = np.asarray(times, np.float64)
        starts = np.array([s.start for s in self.segments])
        ends = np.array([s.end for s in self.segments])
        offsets = np.array([s.offset for s in self.segments])
        drifts = np.array([s.drift for s in self.segments])
        index = np.clip(np.searchsorted(starts, t, side="right") - 1, 0, len(starts) - 1)
        mapped = offsets[index] + t + drifts[index] * t
        last = index == len(starts) - 1
        hole = ~last & (t >= ends[index])
        return np.where(hole, np.nan, mapped)

    def inverse(self) -> PiecewiseClock:
        """Where the images of two segments overlap, the earlier one is taken."""
        found: list[Segment] = []
        for s in self.segments:
            back = s.map.inverse()
            for start, end in _uncovered(float(s.map(s.start)), float(s.map(s.end)), found):
                found.append(Segment(start, end, back.offset, back.drift))
            # A reset clock or a rearranged edit may come back to reference times before its earlier segments.
            found.sort(key=lambda segment: segment.start)
        return PiecewiseClock(tuple(found))

    def __matmul__(self, other: ClockMap | PiecewiseClock) -> PiecewiseClock:
        """(a @ b)(t) = a(b(t)) for every t, split at the breaks of both."""
        if not isinstance(other, ClockMap | PiecewiseClock):
            return NotImplemented
        if isinstance(other, ClockMap):
            back = other.inverse()
            inner = [(float(back(self.segments[0].start)), float(back(self.segments[-1].end)), other)]
        else:
            inner = [(s.start, s.end, s.map) for s in other.segments]
            # The end lines of the inner map go on beyond its ends, and may cross breaks of the outer one there.
            start, end, line = inner[0]
            inner[0] = (min(start, float(line.inverse()(self.segments[0].start))), end, line)
            start, end, line = inner[-1]
            inner[-1] = (start, max(end, float(line.inverse()(self.segments[-1].end))), line)
        found: list[Segment] = []
        for inner_start, inner_end, line in inner:
            back = line.inverse()
            for j, a in enumerate(self.segments):
                # The end lines of the outer map go on too.
                a_start = -np.inf if j == 0 else float(back(a.start))
                a_end = np.inf if j == len(self.segments) - 1 else float(back(a.end))
                start, end = max(inner_start, a_start), min(inner_end, a_end)
                if end > start:
                    both = a.map @ line
                    found.append(Segment(start, end, both.offset, both.drift))
        return PiecewiseClock(tuple(found))

    def __rmatmul__(self, other: ClockMap) -> PiecewiseClock:
        if not isinstance(other, ClockMap):
            return NotImplemented
        return PiecewiseClock(
            tuple(Segment(s.start, s.end, both.offset, both.drift) for s in self.segments for both in [other @ s.map])
        )


def _uncovered(start: float, end: float, taken: list[Segment]) -> list[tuple[float, float]]:
    """The parts of start <= t < end that no segment of `taken` (in order) covers."""
    free = []
    for segment in taken:
        if segment.start > start:
            free.append((start, min(end, segment.start)))
        start = max(start, segment.end)
    free.append((start, end))
    return [(first, last) for first, last in free if last > first]
