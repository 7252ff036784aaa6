"""A live performance followed on the time of a reference, while it is played.

Every live frame adds one row of accumulated costs around the place where the player is believed to be (the idea of
Dixon 2005, "Live tracking of musical performances using on-line time warping"). Weights count live frames alone, so
that all places of one row have come equally far and the cheapest is the most probable one. From there the path is
traced back over the last seconds and smoothed as `estimate_warp` does; the answer is where the player was 0.7 s ago,
which is much surer than where the player is now.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avfuse._kernels import warp as kernels
from avfuse.errors import StreamError
from avfuse.features.pitch import LOOK_AHEAD, RATE, HarmonyExtractor
from avfuse.resampling import resampler
from avfuse.stream import Stream
from avfuse.temporal.calibration import local_confidence
from avfuse.temporal.dtw import feature_major
from avfuse.temporal.tempo import smooth_map
from avfuse.temporal.warp import distinctness, features_of

F32 = NDArray[np.float32]

_WEIGHTS = np.array([1.0, 2.0, 1.0])
_BACK = 8.0  # seconds that are traced back and smoothed
_BEHIND = 0.7  # seconds by which the answer lags
_FIRST = 3.0  # seconds that are heard before the first answer


@dataclass(frozen=True)
class Position:
    """At `time` seconds of the live stream the player was at `reference_time` seconds of the reference.

    confidence: probability that this is within 50 ms, as of `WarpPath.confidence_at`.
    """

    time: float
    reference_time: float
    confidence: float


class WarpFollower:
    """Follows a live stream: `push` what arrives, and read where it is.

    reference: a sound, or a `feature` stream `(n, dims)` at an even rate. rate: Hz of the live sound; None for
        features, which come at the rate of the reference's. begin: reference seconds near which the player begins.
    reach: seconds of the reference that are searched on either side; a jump beyond it is not found again.
    The tempo may lie between half and twice that of the reference. The time of the live stream starts at 0.
    Raises StreamError for other streams.
    """

    def __init__(
        self, reference: Stream, *, rate: float | None = None, begin: float | None = None, reach: float = 5.0
    ) -> None:
        if not reach > 0:
            raise StreamError(f"reach {reach} s; expected a positive number of seconds")
        if (rate is None) == (reference.kind == "sound"):
            raise StreamError(
                f"Stream {reference.name!r} is {reference.kind}: give the rate of the live stream where it is sound, "
                "and only there"
            )
        self._of = features_of(reference)
        self._columns = feature_major(reference.name, self._of.frames)
        count = len(self._of.frames)
        self._sound = _LiveSound(rate) if rate is not None else None
        self._wide = max(2, round(reach * self._of.rate))
        self._centre = (
            0 if begin is None else int(np.clip(round((begin - self._of.start) * self._of.rate), 0, count - 1))
        )
        self._costs = [np.full(count + 2, np.inf) for _ in range(3)]
        self._spans = [(0, 0)] * 3
        self._heard: list[F32] = []  # the last frames
        self._taken: list[tuple[int, NDArray[np.uint8]]] = []  # their first columns, and steps
        self._rows = 0

    @property
    def lag(self) -> float:
        """Seconds that an answer lies behind the newest sample, at most, beside the length of the pushed block."""
        return _BEHIND + (0.0 if self._sound is None else LOOK_AHEAD) + 1.0 / self._of.rate

    def push(self, values: NDArray[np.floating]) -> Position | None:
        """Takes live sound `(channels, n)` or `(n,)`, or feature frames `(n, dims)`; where the player was, or None yet.

        Raises StreamError for values of another shape than before, and for NaN.
        """
        values = np.asarray(values, np.float32)
        if not np.isfinite(values).all():
            raise StreamError("live values hold NaN or infinite numbers; expected finite ones")
        if self._sound is not None:
            values = self._sound.push(values[None] if values.ndim == 1 else values)
        if values.ndim != 2 or values.shape[1] != self._of.frames.shape[1]:
            raise StreamError(f"live frames of shape {values.shape}; expected (n, {self._of.frames.shape[1]})")
        for frame in values:
            self._advance(frame)
        return self._position() if self._rows >= _FIRST * self._of.rate else None

    def _advance(self, frame: F32) -> None:
        count = len(self._of.frames)
        low, high = max(0, self._centre - self._wide), min(count, self._centre + self._wide + 1)
        x = feature_major("live", frame[None])
        into, once, twice = (self._costs[(self._rows - k) % 3] for k in range(3))
        slot = self._rows % 3
        into[self._spans[slot][0] + 2 : self._spans[slot][1] + 2] = np.inf
        taken = np.zeros(high - low, np.uint8)
        cost = np.empty(high - low, np.float32)
        if self._rows == 0:
            where = np.arange(low, high)
            costs = kernels.costs_at(x, self._columns, np.zeros_like(where), where, False)
            into[low + 2 : high + 2], _ = kernels.first_row(costs, True, _WEIGHTS, True)
        else:
            kernels.next_row(x, 0, self._columns, low, high, False, True, _WEIGHTS, once, twice, into, taken, cost)
        self._spans[slot] = (low, high)
        best = low + int(np.argmin(into[low + 2 : high + 2]))
        if np.isfinite(into[best + 2]):
            self._centre = best
        self._heard.append(frame)
        self._taken.append((low, taken))
        self._rows += 1
        if len(self._heard) > 2 * _BACK * self._of.rate:
            keep = round(_BACK * self._of.rate)
            self._heard, self._taken = self._heard[-keep:], self._taken[-keep:]

    def _position(self) -> Position:
        rate = self._of.rate
        first = max(0, len(self._heard) - round(_BACK * rate))
        cells = self._back(first)
        begin = max(0, int(cells[0, 1]) - self._wide)
        end = int(cells[-1, 1]) + self._wide + 1
        near = self._of.frames[begin:end]
        live = np.stack(self._heard[first:])
        smooth = smooth_map(near, live, rate, cells - np.array([first, begin]))
        at = (len(live) - 1) / rate - _BEHIND
        told = local_confidence(distinctness(near, live, rate, smooth), smooth.std)
        return Position(
            (self._rows - 1) / rate - _BEHIND,
            self._of.start + begin / rate + float(np.interp(at, smooth.knots, smooth.values)),
            float(np.interp(at, smooth.knots, told)),
        )

    def _back(self, first: int) -> NDArray[np.int64]:
        """The path from the cheapest place of the newest row back to the kept row `first`, `(n, 2)`."""
        row, column = len(self._taken) - 1, self._centre
        oldest = self._rows - len(self._taken)
        cells = []
        while row >= first:
            cells.append((row, column))
            low, taken = self._taken[row]
            if oldest + row == 0 or not low <= column < low + len(taken):
                break
            step = taken[column - low]
            row, column = row - (2 if step == 1 else 1), column - (2 if step == 2 else 1)
        return np.array(cells[::-1], np.int64)


class _LiveSound:
    """Sound that arrives in pieces, as features."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._extractor = HarmonyExtractor()
        self._resampler = resampler(1, rate, RATE) if rate != RATE else None
        self._channels = 0

    def push(self, samples: F32) -> F32:
        if samples.ndim != 2 or self._channels not in (0, samples.shape[0]):
            raise StreamError(f"live sound of shape {samples.shape}; expected ({self._channels or 'channels'}, n)")
        if not self._channels:
            self._channels = samples.shape[0]
            if self._resampler is not None:
                self._resampler = resampler(self._channels, self.rate, RATE)
        if self._resampler is not None:
            found = self._resampler.push(np.ascontiguousarray(samples))
            samples = np.zeros((self._channels, 0), np.float32) if found is None else found[1]
        return self._extractor.push(samples)
