"""Resampling of sound to another rate: a streaming polyphase filter with a Kaiser-windowed sinc.

The filter is flat to 15/16 of half the lower of the two rates (7.5 kHz for 16 kHz), -6 dB at half of it, and
80 dB down from 17/16 on, so only what lies within 1/16 of the edge can fold, and only into that 1/16. Its delay
is compensated exactly: output sample k lies at the time of the first input sample plus k / rate_out. Beyond its ends
sound counts as zero.

Reference: Crochiere and Rabiner, Multirate Digital Signal Processing, 1983; the window and its length after Kaiser,
"Nonrecursive digital filter design using the I0-sinh window function", ISCAS 1974.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from avfuse._kernels.resampling import interpolated, polyphase
from avfuse.errors import StreamError
from avfuse.stream import Array, Block

Piece = tuple[float, Array]  # seconds of the first sample, and evenly sampled sound (channels, n)

_REJECTION_DB = 81.5
_TRANSITION = 1 / 16  # of the lower rate: from 15/16 to 17/16 of its half
_MOST_PHASES = 1024  # a larger table would fall out of the second-level cache
# Linear interpolation between phases errs by (pi / phases)^2 / 8 at most: -106 dB of a full-scale tone.
_INTERPOLATED_PHASES = 512
_VECTOR = 16  # table rows are whole vectors: the inner loops then have no remainder
_TOGETHER = 4  # neighbouring outputs that the kernel computes from one stretch of input


@dataclass(frozen=True, eq=False)
class _Rational:
    """Output k lies at input position k * down / up, a small fraction.

    taps: (groups, 4, width), the outputs of one period in groups of four. Column j of group g weighs the input
        origins[g] - half + 1 + j of that period.
    advance: input samples per period.
    """

    up: int
    down: int
    half: int
    taps: NDArray[np.float32]
    origins: NDArray[np.int64]
    advance: int

    @classmethod
    def design(cls, up: int, down: int) -> _Rational:
        period = math.lcm(up, _TOGETHER)
        lower = min(1.0, up / down)
        half = _half_width(lower)
        whole = np.arange(period) * down // up
        origins = whole[::_TOGETHER]
        reach = int(np.max(whole.reshape(-1, _TOGETHER)[:, -1] - origins))
        width = -(-(2 * half + reach) // _VECTOR) * _VECTOR
        inputs = np.repeat(origins, _TOGETHER)[:, None] - half + 1 + np.arange(width)
        # Positions as exact integers over `up`: no rounding grows along a period.
        at = (inputs * up - np.arange(period)[:, None] * down) / up
        taps = _windowed_sinc(at, lower, half).reshape(-1, _TOGETHER, width)
        return cls(up, down, half, taps, origins, period // up * down)

    @property
    def quantum(self) -> int:
        """Outputs that the kernel computes at once: two periods."""
        return 2 * _TOGETHER * len(self.origins)

    def outputs(self, inputs: int) -> int:
        return -(-inputs * self.up // self.down)

    def first_input(self, output: int) -> int:
        return output * self.down // self.up - self.half + 1

    def end_input(self, outputs: int) -> int:
        """Where the inputs of a whole number of quanta end."""
        periods = outputs // (self.quantum // 2)
        last_group = (periods - 1) * self.advance + int(self.origins[-1])
        return int(last_group - self.half + 1 + self.taps.shape[2])

    def apply(self, values: NDArray[np.float32], origin: int, first: int, count: int) -> NDArray[np.float32]:
        periods = count // (self.quantum // 2)
        found: NDArray[np.float32] = polyphase(
            values, self.taps, self.origins, self.advance, self.first_input(first) - origin, periods
        )
        return found


@dataclass(frozen=True, eq=False)
class _Interpolated:
    """Output k lies at input position k * step, any number.

    taps: (phases + 1, width); column j of row p weighs input j - half + 1 for an output at p / phases.
    """

    step: float
    half: int
    taps: NDArray[np.float32]
    quantum: int = 1

    @classmethod
    def design(cls, step: float) -> _Interpolated:
        lower = min(1.0, 1.0 / step)
        half = -(-_half_width(lower) // (_VECTOR // 2)) * (_VECTOR // 2)
        phases = np.arange(_INTERPOLATED_PHASES + 1)[:, None] / _INTERPOLATED_PHASES
        return cls(step, half, _windowed_sinc(np.arange(-half + 1, half + 1) - phases, lower, half))

    def outputs(self, inputs: int) -> int:
        return math.ceil(inputs / self.step)

    def first_input(self, output: int) -> int:
        return math.floor(output * self.step) - self.half + 1

    def end_input(self, outputs: int) -> int:
        return math.floor((outputs - 1) * self.step) + self.half + 1

    def apply(self, values: NDArray[np.float32], origin: int, first: int, count: int) -> NDArray[np.float32]:
        position = np.arange(first, first + count) * self.step
        whole = np.floor(position)
        fine = (position - whole) * _INTERPOLATED_PHASES
        phase = np.floor(fine)
        starts = whole.astype(np.int64) - self.half + 1 - origin
        found: NDArray[np.float32] = interpolated(values, self.taps, starts, phase.astype(np.int64), fine - phase)
        return found


def _half_width(lower: float) -> int:
    """Input samples on each side of an output; `lower` is the lower of the rates over the input's."""
    return math.ceil((_REJECTION_DB - 7.95) / (14.36 * _TRANSITION * lower) / 2)


def _windowed_sinc(at: NDArray[np.float64], lower: float, half: int) -> NDArray[np.float32]:
    """Taps at distances `at` (rows, width) from their output, in input samples; every row sums to one."""
    beta = 0.1102 * (_REJECTION_DB - 8.7)
    inside = np.clip(1.0 - (at / half) ** 2, 0.0, None)
    taps = np.where(inside > 0.0, np.sinc(lower * at) * np.i0(beta * np.sqrt(inside)), 0.0)
    table: NDArray[np.float32] = (taps / taps.sum(axis=-1, keepdims=True)).astype(np.float32)
    table.flags.writeable = False
    return table


@lru_cache(maxsize=32)
def _design(rate_in: float, rate_out: float) -> _Rational | _Interpolated:
    ratio = Fraction(rate_out) / Fraction(rate_in)
    near = ratio.limit_denominator(1 << 20)
    # Rates are floats: 44100 / 1.001 is no small fraction to the last bit, but closer to one than 1e-13.
    if abs(float(near / ratio) - 1.0) < 1e-13 and math.lcm(near.numerator, _TOGETHER) <= _MOST_PHASES:
        return _Rational.design(near.numerator, near.denominator)
    return _Interpolated.design(rate_in / rate_out)


class _Run:
    """The state of one contiguous stretch of sound: what the filter still needs of it."""

    def __init__(
        self, design: _Rational | _Interpolated, channels: int, start: float, rate_in: float, rate_out: float
    ) -> None:
        self._design = design
        self._start = start
        self._rate_in = rate_in
        self._rate_out = rate_out
        self._inputs = 0
        self._outputs = 0
        self.channels = channels
        # The filter reaches before the first sample, where sound counts as zero.
        self._origin = design.first_input(0)
        self._kept: NDArray[np.float32] = np.zeros((channels, -self._origin), np.float32)

    @property
    def end(self) -> float:
        """Seconds at which the input so far ends."""
        return self._start + self._inputs / self._rate_in

    def push(self, values: NDArray[np.float32]) -> Piece | None:
        """Take more input; the outputs that are complete with it, in whole quanta."""
        self._inputs += values.shape[1]
        self._kept = np.concatenate([self._kept, values], axis=1)
        quantum = self._design.quantum
        # An estimate that may be one quantum low or high, then exact.
        count = self._design.outputs(self._inputs) // quantum * quantum
        while count > self._outputs and self._design.end_input(count) > self._inputs:
            count -= quantum
        return self._take(count - self._outputs, count - self._outputs)

    def finish(self) -> Piece | None:
        """The outputs that reach beyond the end, where sound counts as zero."""
        count = self._design.outputs(self._inputs) - self._outputs
        quantum = self._design.quantum
        computed = -(-count // quantum) * quantum
        missing = self._design.end_input(self._outputs + computed) - self._origin - self._kept.shape[1]
        self._kept = np.pad(self._kept, ((0, 0), (0, max(missing, 0))))
        return self._take(computed, count)

    def _take(self, computed: int, count: int) -> Piece | None:
        if count <= 0:
            return None
        values = self._design.apply(self._kept, self._origin, self._outputs, computed)[:, :count]
        start = self._start + self._outputs / self._rate_out
        self._outputs += count
        done = self._design.first_input(self._outputs) - self._origin
        self._kept = self._kept[:, done:]
        self._origin += done
        return start, values


def resample_blocks(blocks: Iterable[Block], rate_in: float, rate_out: float) -> Iterator[Block]:
    """Resample sound that comes in blocks; the result does not depend on how it was cut, not in one bit.

    blocks: `(times, values)`, times (n,) float64 seconds evenly spaced by 1 / rate_in, values (channels, n). A block
        that starts more than half an input sample from the end of the one before it starts a new run: the filter
        never reaches across a gap. So does a change of the number of channels.
    rate_in, rate_out: Hz, any ratio; small fractions use an exact table of phases, others an interpolated one.
    Yields float32 `(channels, n)` blocks; output k of a run lies at the run's first time + k / rate_out, and there
    are as many as begin before the run's end.
    Raises StreamError for rates that are not positive.
    """
    pieces = ((float(times[0]), values) for times, values in blocks if times.size)
    for start, values in resample_pieces(pieces, rate_in, rate_out):
        yield start + np.arange(values.shape[1]) / rate_out, values


def resample_pieces(pieces: Iterable[Piece], rate_in: float, rate_out: float) -> Iterator[Piece]:
    """`resample_blocks` for (start, values): the times of a long recording take as long to write as its sound."""
    design = _checked_design(rate_in, rate_out)
    run: _Run | None = None
    for start, values in pieces:
        if values.shape[1] == 0:
            continue
        samples = np.ascontiguousarray(values, np.float32)
        if run is None or abs(start - run.end) > 0.5 / rate_in or samples.shape[0] != run.channels:
            if run is not None and (rest := run.finish()) is not None:
                yield rest
            run = _Run(design, samples.shape[0], start, rate_in, rate_out)
        if (found := run.push(samples)) is not None:
            yield found
    if run is not None and (rest := run.finish()) is not None:
        yield rest


def resampler(channels: int, rate_in: float, rate_out: float) -> _Run:
    """For sound that arrives in pieces: `.push(samples)` gives (start, values), or None until enough has come."""
    return _Run(_checked_design(rate_in, rate_out), channels, 0.0, rate_in, rate_out)


def resample(values: Array, rate_in: float, rate_out: float) -> NDArray[np.float32]:
    """Sound (channels, n) at another rate: float32 (channels, ceil(n * rate_out / rate_in)), sample 0 at the same time.

    Raises StreamError for a wrong shape or rates that are not positive.
    """
    if values.ndim != 2:
        raise StreamError(f"resample: sound of shape {values.shape}; expected (channels, samples)")
    found = [part for _, part in resample_pieces([(0.0, values)], rate_in, rate_out)]
    return np.concatenate(found, axis=1) if found else np.zeros((values.shape[0], 0), np.float32)


def regroup(pieces: Iterable[Piece], size: int, rate: float) -> Iterator[Block]:
    """Blocks `(times, values)` of exactly `size` samples; only the last one of each run is shorter.

    pieces: sound evenly sampled at `rate` Hz; gaps and changes of channels end a run.
    """
    held: list[Array] = []
    start, count = 0.0, 0
    for at, values in pieces:
        if held and (abs(at - start - count / rate) > 0.5 / rate or values.shape[0] != held[0].shape[0]):
            yield _block(held, start, rate)
            held, count = [], 0
        first = 0
        while first < values.shape[1]:
            if not held:
                start = at + first / rate
            part = values[:, first : first + size - count]
            held.append(part)
            count += part.shape[1]
            first += part.shape[1]
            if count == size:
                yield _block(held, start, rate)
                held, count = [], 0
    if held:
        yield _block(held, start, rate)


def _block(parts: list[Array], start: float, rate: float) -> Block:
    values = np.concatenate(parts, axis=1) if len(parts) > 1 else np.ascontiguousarray(parts[0])
    return start + np.arange(values.shape[1]) / rate, values


def _checked_design(rate_in: float, rate_out: float) -> _Rational | _Interpolated:
    for name, rate in (("rate_in", rate_in), ("rate_out", rate_out)):
        if not (np.isfinite(rate) and rate > 0):
            raise StreamError(f"resample: {name} {rate!r} Hz; expected a positive number")
    return _design(float(rate_in), float(rate_out))
