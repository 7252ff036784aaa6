"""Maps of time, all of them t_ref = m(t): the moving recording's own time in, the reference's time out.

    ClockMap        offset + t + drift * t             one clock against another
    PiecewiseClock  one such line per segment          pauses, dropped frames, clock resets
    WarpPath        lines from knot to knot            performances of one piece at different tempo

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

    >>> recorder = ClockMap(offset=12.3, drift=100e-6)
    >>> print(f"{recorder(10.0):.3f}")
    22.301
    >>> print(round(recorder.inverse().offset, 4))
    -12.2988
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


@dataclass(frozen=True, eq=False)
class WarpPath:
    """Elastic time: rises from knot to knot in straight lines; NaN before the first knot and after the last one.

    Nothing is known beyond the ends: a tempo that was not heard cannot be carried on as the rate of a clock can.

    times: `(n,)` seconds of the moving recording's own time, n >= 2. reference_times: `(n,)` seconds of the
        reference's, of the same moments. Both rise strictly, so that the map has an inverse.
    confidence: `(n,)` at the knots, or None where nothing is said; see `confidence_at`.
    cells: `(m, 2)` seconds (reference, moving) that were matched before they were smoothed into this map, never
        falling; None where there are none.
    Raises StreamError for times that are not finite or do not rise.
    """

    times: Times
    reference_times: Times
    confidence: Times | None = None
    cells: Times | None = None

    def __post_init__(self) -> None:
        for name in ("times", "reference_times", "confidence", "cells"):
            given = getattr(self, name)
            if given is not None:
                object.__setattr__(self, name, np.asarray(given, np.float64))
        shape = self.times.shape
        if len(shape) != 1 or shape[0] < 2 or self.reference_times.shape != shape:
            raise StreamError(
                f"WarpPath: times of shape {shape}, reference_times of shape {self.reference_times.shape}; "
                "expected both (n,) with n >= 2"
            )
        for name, knots in (("times", self.times), ("reference_times", self.reference_times)):
            if not (np.isfinite(knots).all() and (np.diff(knots) > 0).all()):
                raise StreamError(f"WarpPath: {name} are not finite and strictly rising")
        if self.confidence is not None:
            if self.confidence.shape != shape:
                raise StreamError(f"WarpPath: confidence of shape {self.confidence.shape} for {shape[0]} knots")
            if not ((self.confidence >= 0) & (self.confidence <= 1)).all():
                raise StreamError("WarpPath: confidence outside 0 ... 1")
        if self.cells is not None and (self.cells.ndim != 2 or self.cells.shape[1] != 2):
            raise StreamError(f"WarpPath: cells of shape {self.cells.shape}; expected (m, 2)")

    @property
    def span(self) -> tuple[float, float]:
        """First and last moving time that the map knows, both included."""
        return float(self.times[0]), float(self.times[-1])

    def __call__(self, times: ArrayLike) -> Times:
        """Reference times of `times` (any shape, seconds); NaN outside the span."""
        return np.asarray(np.interp(np.asarray(times, np.float64), self.times, self.reference_times, np.nan, np.nan))

    def tempo(self, times: ArrayLike) -> Times:
        """Reference seconds per second of the moving recording at `times`: above 1 the moving one is faster."""
        t = np.asarray(times, np.float64)
        k = np.clip(np.searchsorted(self.times, t, side="right") - 1, 0, len(self.times) - 2)
        slopes = np.diff(self.reference_times) / np.diff(self.times)
        return np.where((t >= self.times[0]) & (t <= self.times[-1]), slopes[k], np.nan)

    def confidence_at(self, times: ArrayLike) -> Times:
        """Probability that the map is within 50 ms at `times`; NaN outside the span and where nothing is said."""
        if self.confidence is None:
            return np.full(np.shape(np.asarray(times)), np.nan)
        return np.asarray(np.interp(np.asarray(times, np.float64), self.times, self.confidence, np.nan, np.nan))

    def inverse(self) -> WarpPath:
        """The map reference -> moving, with the same confidence at the same moments."""
        cells = None if self.cells is None else self.cells[:, ::-1].copy()
        return WarpPath(self.reference_times, self.times, self.confidence, cells)

    def __matmul__(self, other: ClockMap | WarpPath) -> WarpPath:
        """(a @ b)(t) = a(b(t)) where both know it; confidences multiply, cells are those of neither.

        A PiecewiseClock does not compose with a WarpPath: its holes and jumps are no rising map.
        Raises StreamError where a knows no time that b leads to.
        """
        if isinstance(other, ClockMap):
            back = other.inverse()
            cells = None if self.cells is None else np.stack([self.cells[:, 0], back(self.cells[:, 1])], axis=1)
            return WarpPath(back(self.times), self.reference_times, self.confidence, cells)
        if not isinstance(other, WarpPath):
            return NotImplemented
        low = max(other.reference_times[0], self.times[0])
        high = min(other.reference_times[-1], self.times[-1])
        if not low < high:
            inner, outer = (f"{t[0]:.3f} ... {t[-1]:.3f} s" for t in (other.reference_times, self.times))
            raise StreamError(f"WarpPath: the inner map leads to {inner}, the outer knows {outer}; expected an overlap")
        between = np.union1d(other.reference_times, self.times)
        between = between[(between >= low) & (between <= high)]
        back_to = other.inverse()
        moving, mapped = back_to(between), self(between)
        # Knots of the two that all but coincide may fall together in rounding.
        apart = np.concatenate([[True], (np.diff(moving) > 0) & (np.diff(mapped) > 0)])
        confidence = None
        if self.confidence is not None and other.confidence is not None:
            confidence = (self.confidence_at(between) * back_to.confidence_at(between))[apart]
        return WarpPath(moving[apart], mapped[apart], confidence)

    def __rmatmul__(self, other: ClockMap) -> WarpPath:
        if not isinstance(other, ClockMap):
            return NotImplemented
        cells = None if self.cells is None else np.stack([other(self.cells[:, 0]), self.cells[:, 1]], axis=1)
        return WarpPath(self.times, other(self.reference_times), self.confidence, cells)


def _uncovered(start: float, end: float, taken: list[Segment]) -> list[tuple[float, float]]:
    """The parts of start <= t < end that no segment of `taken` (in order) covers."""
    free = []
    for segment in taken:
        if segment.start > start:
            free.append((start, min(end, segment.start)))
        start = max(start, segment.end)
    free.append((start, end))
    return [(first, last) for first, last in free if last > first]
