"""Where decoded sound belongs in time: stamps against counted samples.

A container's time stamps are rounded (MKV: 1 ms), jitter, jump and drift; the count of samples is exact inside a
stretch that was recorded without a break. So sound is placed in runs: inside a run time is counted, and a run starts

    where the stream starts, or its rate changes
    where the stamps step away from the count by more than their own resolution explains, and stay there (a gap,
      or an overlap whose samples are dropped)
    where the stamps have drifted slowly from the count (a sound clock that differs from the container's)

The start of a run is the middle of what all its first stamps allow, not the first stamp alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.float64]

# A step counts when so many packets in a row agree on it: a lone odd stamp is the muxer's fault, not a gap.
_CONFIRMING = 3
# Beyond the rounding of the stamps, muxers on phones and in capture software add some scheduling jitter.
_JITTER = 1e-3
# Slow drift between stamps and count is followed in steps of this size; smaller ones would chop the sound to pieces.
_MOST_DRIFT = 20e-3
# Stamps that jump back further than any real overlap are those of another clock (a spliced file).
_MOST_OVERLAP = 5.0


@dataclass
class Findings:
    """What decoding a stream brought to light: (time, size) pairs in seconds of the recording's own time.

    gaps: nothing there for so long. overlaps: so much was left out because earlier samples already cover it.
    resets: the clock of the stamps jumped (by); counting went on. drift_steps: count and stamps had drifted apart.
    changes: of rate, sample format, channels or size, in words.
    """

    corrupt_packets: int = 0
    gaps: list[tuple[float, float]] = field(default_factory=list)
    overlaps: list[tuple[float, float]] = field(default_factory=list)
    resets: list[tuple[float, float]] = field(default_factory=list)
    drift_steps: list[tuple[float, float]] = field(default_factory=list)
    changes: list[tuple[float, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Piece:
    """Samples first <= i < end of a chunk belong at `start` (seconds of sample `first`) and on, evenly."""

    first: int
    end: int
    start: float


class Placer:
    """Places the packets of one stream, in order, chunk after chunk.

    rate: Hz. resolution: seconds between the container's ticks. zero: seconds of the recording's time 0.
    end: where sound placed before, at another rate, ends.
    Times in and out are the container's own.
    """

    def __init__(
        self, rate: float, resolution: float, findings: Findings, zero: float, end: float | None = None
    ) -> None:
        self._rate = rate
        self._tolerance = 2.0 * max(resolution, 1.0 / rate) + _JITTER
        self._findings = findings
        self._zero = zero
        self._next: float | None = None  # of the packet to come, by counting
        self.end = -np.inf if end is None else end  # of the sound placed so far
        self._lag = 0.0  # of the stamps behind the count, slowly followed
        self._shift = 0.0  # added to the stamps after a clock reset

    def place(self, stamps: Times, sizes: NDArray[np.int64], *, last: bool) -> tuple[list[Piece], int]:
        """Where the packets of one chunk belong, and how many of them are settled.

        stamps: (n,) seconds, NaN where the container has none. sizes: (n,) samples.
        last: nothing follows, so what cannot be confirmed any more is decided now.
        The packets that are not settled are to be brought again at the head of the next chunk.
        """
        edges = np.concatenate([[0], np.cumsum(sizes)])
        counted = edges / self._rate
        pieces: list[Piece] = []
        at = 0
        while at < len(stamps):
            residuals = stamps[at:] + self._shift - (counted[at:-1] - counted[at])
            # A run's own start is nothing to step away from: its stamps may only disagree among themselves.
            fresh = self._next is None
            if self._next is None:
                self._next = self._begin(residuals)
            lag = residuals - self._next
            step, settled = self._first_step(lag, 1 if fresh else 0, last)
            stop = at + settled
            if stop > at:
                piece = self._cut(int(edges[at]), int(edges[stop]), self._next)
                if piece.end > piece.first:
                    pieces.append(piece)
                self._next += float(counted[stop] - counted[at])
                self._follow(lag[:settled])
                at = stop
            if step:
                self._next = None
            elif at < len(stamps):
                break
        return pieces, at

    def _first_step(self, lag: Times, earliest: int, last: bool) -> tuple[bool, int]:
        """Whether the stamps step away, and how many packets before that are settled."""
        off = np.abs(lag - self._lag) > self._tolerance  # False where there is no stamp
        off[:earliest] = False
        for k in np.flatnonzero(off):
            window = lag[k : k + _CONFIRMING]
            if len(window) < _CONFIRMING and not last:
                return False, int(k)
            if abs(np.nanmedian(window) - self._lag) > self._tolerance:
                return True, int(k)
        return False, len(lag)

    def _begin(self, residuals: Times) -> float:
        """The time of a new run's first sample; each packet alone would put it at its residual."""
        known = residuals[np.isfinite(residuals)]
        if known.size == 0:
            return self.end if np.isfinite(self.end) else self._zero
        near = np.abs(known - known[0]) <= self._tolerance
        stretch = known if near.all() else known[: int(np.argmin(near))]
        # Rounding errors are bounded and flat, not Gaussian: the middle of their range beats their mean.
        start = float(stretch.min() + stretch.max()) / 2
        self._lag = 0.0
        if not np.isfinite(self.end):
            return start
        jump, where = start - self.end, self.end - self._zero
        if jump < -_MOST_OVERLAP:
            self._findings.resets.append((where, jump))
            self._shift -= jump
            return self.end
        (self._findings.gaps if jump > 0 else self._findings.overlaps).append((where, abs(jump)))
        return start

    def _cut(self, first: int, end: int, start: float) -> Piece:
        """Samples first .. end from `start` on, without those that lie before the end of what came earlier."""
        late = self.end - start
        if late > 1e-9:
            dropped = min(math.ceil(late * self._rate - 1e-6), end - first)
            first, start = first + dropped, start + dropped / self._rate
        self.end = max(self.end, start + (end - first) / self._rate)
        return Piece(first, end, start)

    def _follow(self, lag: Times) -> None:
        known = lag[np.isfinite(lag)]
        if known.size:
            self._lag += (1.0 - 0.95**known.size) * (float(np.mean(known)) - self._lag)
        if abs(self._lag) > _MOST_DRIFT:
            self._findings.drift_steps.append((self.end - self._zero, self._lag))
            self._next = None
