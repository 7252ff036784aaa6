"""What many values have in common, in one pass and little memory: quantiles and bins of numbers, kinds of sentences.

Nothing here depends on the order in which values come.
"""

from __future__ import annotations

import heapq
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import accumulate

DISTINCT = 4096  # values told apart
_FINEST = -60  # power of two: the first step that values are rounded to
_KINDS = 2000  # sentences told apart
_EXAMPLES = 3
_BARS = 25  # of a histogram, about
_TAIL = 0.01  # share of the values at each end that may lie far out
_FAR = 4.0  # times the range of the others, for an axis to leave them out
_DECADES = 1.7  # from the smallest to the largest, for an axis in powers of ten
_ALIKE = 1e-6  # of their size; values closer than this are told as one

# Digits inside words (cam2, e1-00017) are names and no numbers.
_NUMBER = re.compile(r"(?<![\w.])[+\-−]?\d+(?:\.\d+)?(?:[eE][+\-]?\d+)?")


class Distribution:
    """Numbers, counted: exact for up to `DISTINCT` distinct ones, rounded down to a power of two beyond that.

    The power is the smallest that leaves no more than `DISTINCT`, whatever the order of the values; of values that
    fill their range evenly it is less than a thousandth of it.
    """

    def __init__(self, values: Iterable[float] = ()) -> None:
        self.count = 0
        self.low, self.high = math.inf, -math.inf
        self._power: int | None = None  # None: keys are the values themselves
        self._counts: dict[float, int] = {}
        for value in values:
            self.add(value)

    def add(self, value: float) -> None:
        self.count += 1
        self.low, self.high = min(self.low, value), max(self.high, value)
        key = value if self._power is None else self._key(value)
        self._counts[key] = self._counts.get(key, 0) + 1
        while len(self._counts) > DISTINCT:
            self._coarsen()

    def _key(self, value: float) -> int:
        assert self._power is not None
        numerator, denominator = value.as_integer_ratio()
        shift = -self._power
        return (numerator << shift) // denominator if shift >= 0 else numerator // (denominator << -shift)

    def _coarsen(self) -> None:
        before, self._power = self._power, _FINEST if self._power is None else self._power + 1
        merged: dict[float, int] = {}
        for key, count in self._counts.items():
            new = self._key(float(key)) if before is None else int(key) >> 1
            merged[new] = merged.get(new, 0) + count
        self._counts = merged

    @property
    def exact(self) -> bool:
        return self._power is None

    @property
    def single(self) -> bool:
        """Whether there are values, all of them alike."""
        return self.count > 0 and self.high - self.low <= _ALIKE * max(abs(self.low), abs(self.high))

    def items(self) -> list[tuple[float, int]]:
        """(value, how many), ascending; where rounded, the middle of each step."""
        found = sorted(self._counts.items())
        if self._power is None:
            return found
        step = 2.0**self._power
        return [(min(max((key + 0.5) * step, self.low), self.high), count) for key, count in found]

    def quantile(self, share: float, of: Callable[[float], float] = float) -> float:
        """The smallest value of `of` (abs: of sizes) that `share` of them do not exceed; NaN where there is none."""
        if not self.count:
            return math.nan
        ranked = sorted((of(value), count) for value, count in self.items())
        seen = accumulate(count for _, count in ranked)
        return next(value for (value, _), n in zip(ranked, seen, strict=True) if n >= share * self.count - 1e-9)


@dataclass(frozen=True)
class Bins:
    """Counts of one or more distributions between common edges.

    edges: ascending; of an axis in powers of ten (`logarithmic`) the logarithms of the values. below, above: how many
    values lie beyond the ends; they are counted in the first and in the last bin.
    """

    edges: tuple[float, ...]
    counts: tuple[tuple[int, ...], ...]
    logarithmic: bool
    below: int = 0
    above: int = 0


def bins_of(*distributions: Distribution, scale: float = 1.0, logarithmic: bool = False) -> Bins | None:
    """Bins with edges at round numbers; None where there are not two different values.

    scale: from the values to the unit of the axis. logarithmic: whether the axis may have powers of ten, which it
    takes where positive values span more than a factor of fifty. A few values far out do not widen the axis.
    """
    both = [[(value * scale, count) for value, count in d.items()] for d in distributions]
    every = sorted(item for items in both for item in items)
    if not every:
        return None
    whole = every[-1][0] - every[0][0]
    if whole <= _ALIKE * max(abs(every[0][0]), abs(every[-1][0])):
        return None
    powers = logarithmic and every[0][0] > 0 and math.log10(every[-1][0] / every[0][0]) > _DECADES
    if powers:
        both = [[(math.log10(value), count) for value, count in items] for items in both]
        every = [(math.log10(value), count) for value, count in every]
    low, high = _range(every)
    step = round_step((high - low) / 5)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    last = max(last, first + 1)
    counts = []
    for items in both:
        bars = [0] * (last - first)
        for value, count in items:
            # A hair's breadth: 0.3 / 0.1 is less than 3.
            bars[min(max(math.floor(value / step + 1e-9) - first, 0), last - first - 1)] += count
        counts.append(tuple(bars))
    edges = tuple(k * step for k in range(first, last + 1))
    below = sum(count for value, count in every if value < edges[0] - 1e-9 * step)
    above = sum(count for value, count in every if value > edges[-1] + 1e-9 * step)
    return Bins(edges, tuple(counts), powers, below, above)


def _range(items: list[tuple[float, int]]) -> tuple[float, float]:
    """What an axis shows of (value, how many), ascending: all, or what a few values far out leave."""
    total, seen = sum(count for _, count in items), 0
    low, high = items[0][0], items[-1][0]
    near: list[float] = []
    for value, count in items:
        if seen + count > _TAIL * total and seen < (1 - _TAIL) * total:
            near.append(value)
        seen += count
    inner = near[-1] - near[0]
    if not 0 < _FAR * inner < high - low:
        return low, high
    return max(low, near[0] - inner / 2), min(high, near[-1] + inner / 2)


def round_step(length: float) -> float:
    """A step of 1, 2 or 5 times a power of ten: four or so in `length`."""
    power = 10.0 ** math.floor(math.log10(length / 4))
    return next(m * power for m in (1, 2, 5, 10) if length / (m * power) <= 5)


@dataclass
class Kind:
    """Sentences that differ in numbers only. examples: the first few names of them, in order of the alphabet."""

    parts: tuple[str, ...]
    count: int = 0
    lows: list[tuple[float, str]] = field(default_factory=list)
    highs: list[tuple[float, str]] = field(default_factory=list)
    examples: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The sentence, with `0.2 to 0.7` where its numbers differ."""
        told = [self.parts[0]]
        for (low, small), (high, large), part in zip(self.lows, self.highs, self.parts[1:], strict=True):
            told += [small if low == high else f"{small} to {large}", part]
        return "".join(told)


class Kinds:
    """Sentences, counted by what is left of them without their numbers.

    others: how many came after `_KINDS` kinds were known and were of none of these; they are not told apart.
    """

    def __init__(self) -> None:
        self._kinds: dict[tuple[str, ...], Kind] = {}
        self.others = 0

    def add(self, sentence: str, example: str) -> None:
        parts = tuple(_NUMBER.split(sentence))
        kind = self._kinds.get(parts)
        if kind is None:
            if len(self._kinds) >= _KINDS:
                self.others += 1
                return
            kind = self._kinds[parts] = Kind(parts)
        numbers = [(float(text.replace("−", "-")), text) for text in _NUMBER.findall(sentence)]
        kind.lows = list(map(min, kind.lows, numbers)) if kind.count else numbers
        kind.highs = list(map(max, kind.highs, numbers)) if kind.count else numbers
        kind.count += 1
        if example not in kind.examples:
            kind.examples = heapq.nsmallest(_EXAMPLES, [*kind.examples, example])

    def __len__(self) -> int:
        return len(self._kinds)

    def ranked(self) -> list[Kind]:
        """The most frequent first."""
        return sorted(self._kinds.values(), key=lambda kind: (-kind.count, kind.text))
