"""Stamps: which column is time, in which unit, and what is odd about it.

Stamps are integer nanoseconds until a recording's start is subtracted: float64 seconds of 2026 are 240 ns apart.
Nothing is decided without evidence: the name of a column, its unit, the epoch that its values would mean and the
rate that their steps would mean. Where two answers fit, the file is refused with the argument that settles it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from avfuse.errors import ReadError
from avfuse.io.sensors.headers import TIME_SCALE, Header

Stamps = NDArray[np.int64]

_YEAR = 365.25 * 86400
# Days until 2000, counted from where the writers of dates as numbers do.
_DAYS = ((36526, "1899-12-30, as spreadsheets write dates"), (730486, "year 0, as MATLAB writes dates"))
_UNIX = (30 * _YEAR, 130 * _YEAR)  # 2000 to 2100, seconds
_LONGEST_UPTIME = 5 * _YEAR
# A sensor's rate. Narrower than three powers of ten would leave rates out; wider would leave more units open.
_SLOWEST, _FASTEST = 0.6, 6000.0
_UNIX_RATES = (1e-4, 1e6)  # where the epoch already tells the unit
_COARSEST = 0.02  # share of rows that must have a time of their own
_LONG_STEP = 2.5  # median steps that are called a gap
_MOST_RESETS = 20
_REGULAR = 0.8  # share of joints that must be regular for rows to be called out of order and no more
_LONG_OVERLAP, _DENSER = 8, 1.5  # rows after a fall, and how much denser than before they are where two runs overlap
_WRAP, _WRAPPED = 2**32, 0.9  # ticks of the counters of microcontrollers, and the least share of them that is a wrap


@dataclass(frozen=True)
class TimeColumn:
    """index: of the column. unit: "s", "ms", "us", "ns" or "date". why: what decided, for facts. others: columns that
    tell the same time."""

    index: int
    unit: str
    why: str
    others: tuple[int, ...] = ()


@dataclass(frozen=True)
class Sample:
    """The first rows of a column. numbers: float64 `(n,)`, NaN where there is none; dates: stands for ISO dates.

    whole: every number was written without a fraction.
    """

    numbers: NDArray[np.float64]
    whole: bool
    dates: bool = False

    @property
    def steps(self) -> NDArray[np.float64]:
        known = self.numbers[np.isfinite(self.numbers)]
        return np.diff(known)

    @property
    def step(self) -> float:
        """Median of the steps between different stamps in order."""
        # What is no stamp of this or the next millennium in any unit would only overflow.
        known = np.unique(self.numbers[np.abs(self.numbers) < 1e20])
        return float(np.median(np.diff(known))) if known.size > 1 else np.nan

    @property
    def rises(self) -> bool:
        steps = self.steps
        return steps.size > 0 and float(np.mean(steps >= 0)) > 0.98 and bool(steps.max() > 0)

    @property
    def is_counter(self) -> bool:
        steps = self.steps
        return self.whole and steps.size > 0 and bool(np.all(steps == 1))

    @property
    def even(self) -> bool:
        """Whether most steps are about the median one, as those of a clock are and those of most signals are not."""
        steps, step = self.steps, self.step
        return steps.size > 1 and bool(np.mean(np.abs(steps - step) <= 0.5 * step) > 0.5)

    @property
    def even_sorted(self) -> bool:
        """Whether it is even once sorted; of values at random the steps would spread as an exponential's do."""
        steps = np.diff(np.unique(self.numbers[np.isfinite(self.numbers)]))
        return steps.size > 1 and bool(np.mean(np.abs(steps - np.median(steps)) <= 0.5 * np.median(steps)) > 0.5)

    def days_since(self) -> str | None:
        """What the values count days from, as spreadsheets and MATLAB do; None where they are no days since 2000."""
        known = self.numbers[np.isfinite(self.numbers)]
        if known.size == 0 or not self.step < 1:
            return None
        for first, since in _DAYS:
            if first <= known.min() and known.max() < first + 36525:
                return since
        return None

    def unix_unit(self) -> str | None:
        """The unit in which all values fall into the years 2000 to 2100."""
        known = self.numbers[np.isfinite(self.numbers)]
        if known.size == 0:
            return None
        low, high = float(known.min()), float(known.max())
        for unit, scale in TIME_SCALE.items():
            if _UNIX[0] <= low * scale / 1e9 and high * scale / 1e9 < _UNIX[1]:
                return unit
        return None


def choose_time(
    path: str,
    headers: Sequence[Header],
    samples: Sequence[Sample],
    *,
    named: bool,
    time_column: str | int | None,
    time_unit: str | None,
) -> TimeColumn:
    """The column that holds the stamps, and its unit.

    named: whether the file has a header line; else headers are numbers from 1.
    Raises ReadError where no column or no unit is the only one that fits.
    """
    if time_column is not None:
        index = _find(path, headers, time_column)
        return _with_unit(path, headers[index], samples[index], index, time_unit, "time_column was given")
    _check_parts(path, headers, samples)
    candidates = _candidates(headers, samples, named)
    if not candidates and named:
        for header in headers:
            if header.is_time:
                raise ReadError(
                    f"{path}: column {header.name!r} holds neither numbers nor ISO dates such as "
                    "2026-01-31T12:00:00.5Z; give another time_column=, or rate= where rows are evenly sampled"
                )
    if not candidates:
        names = ", ".join(repr(h.name) for h in headers[:12]) + (", ..." if len(headers) > 12 else "")
        raise ReadError(
            f"{path}: no column looks like time among {names}; expected one named time or timestamp, or one whose "
            "values rise steadily; give time_column=, or rate= where rows are evenly sampled"
        )
    if len(candidates) > 1:
        return _among(path, headers, samples, candidates, time_unit)
    why = "its name" if named and headers[candidates[0]].is_time else "the only column that runs as time does"
    return _with_unit(path, headers[candidates[0]], samples[candidates[0]], candidates[0], time_unit, why)


def _check_parts(path: str, headers: Sequence[Header], samples: Sequence[Sample]) -> None:
    """Raises ReadError where one column holds whole seconds and another one what is left of them (secs, nsecs)."""
    for k, (header, sample) in enumerate(zip(headers, samples, strict=True)):
        if header.time_unit != "s" or not header.is_time or not sample.whole or not np.isfinite(sample.numbers).any():
            continue
        for other, rest in zip(headers[k + 1 :], samples[k + 1 :], strict=True):
            unit = other.part_of_second
            known = rest.numbers[np.isfinite(rest.numbers)]
            if unit is None or not known.size or known.min() < 0 or known.max() >= 1e9 / TIME_SCALE[unit]:
                continue
            alike = other.words[:-1] == tuple(w for w in header.words if w not in ("s", "sec", "secs", "seconds"))
            if alike and len(np.unique(sample.numbers)) < len(np.unique(known)):
                raise ReadError(
                    f"{path}: columns {header.name!r} and {other.name!r} hold one time in two parts; expected it in "
                    "one column, join them or give another time_column="
                )


def _find(path: str, headers: Sequence[Header], wanted: str | int) -> int:
    names = [h.name for h in headers]
    text = str(wanted)
    matches = [k for k, name in enumerate(names) if name == text]
    if not matches:
        matches = [k for k, h in enumerate(headers) if " ".join(h.words) == text.lower() or h.name.lower() == text]
    if not matches and text.isdigit() and 1 <= int(text) <= len(names):
        matches = [int(text) - 1]
    if len(matches) != 1:
        found = "no column" if not matches else f"{len(matches)} columns"
        raise ReadError(f"{path}: {found} named {text!r}; expected one of {', '.join(map(repr, names[:20]))}")
    return matches[0]


def _candidates(headers: Sequence[Header], samples: Sequence[Sample], named: bool) -> list[int]:
    usable = [k for k, s in enumerate(samples) if s.dates or np.isfinite(s.numbers).sum() > 0]
    if named:
        by_name = [k for k in usable if headers[k].is_time]
        if by_name:
            return by_name
        if any(h.is_time for h in headers):
            return []  # told by what it holds instead
    dates = [k for k in usable if samples[k].dates]
    if dates:
        return dates
    unix = [k for k in usable if samples[k].unix_unit() and (samples[k].rises or samples[k].even_sorted)]
    if unix and not named:
        return unix
    # A row number runs evenly too, and tells no time.
    return [k for k in usable if samples[k].rises and samples[k].even and not samples[k].is_counter]


def _among(
    path: str, headers: Sequence[Header], samples: Sequence[Sample], candidates: list[int], time_unit: str | None
) -> TimeColumn:
    """Several columns of time: they must tell the same clock; the one with an epoch is then taken."""
    read: list[tuple[int, TimeColumn]] = []
    for k in candidates:
        try:
            read.append((k, _with_unit(path, headers[k], samples[k], k, None, "")))
        except ReadError:
            continue
    names = ", ".join(repr(headers[k].name) for k in candidates)
    telling = f"{path}: columns {names} all look like time"
    if not read:
        raise ReadError(f"{telling} and none says its unit; give time_column= and time_unit=")
    seconds = {k: samples[k].numbers * (1.0 if c.unit == "date" else TIME_SCALE[c.unit] / 1e9) for k, c in read}
    first = read[0][0]
    for k, _ in read[1:]:
        apart = seconds[k] - seconds[first]
        known = np.isfinite(apart)
        step = np.nanmedian(np.abs(np.diff(seconds[first])))
        # A date column without a fraction beside a fine counter only differs by rounding: within a second.
        loose = max(float(step), 1.0 if samples[k].dates or samples[first].dates else 0.0)
        if not known.any() or np.ptp(apart[known]) > loose:
            raise ReadError(f"{telling}, and they run differently; give time_column=")
    dated = [k for k, c in read if c.unit == "date" or samples[k].unix_unit()]
    # Of several with an epoch the finest: one written in whole seconds would lose what the others tell.
    pool = dated or [k for k, _ in read]
    chosen = max(pool, key=lambda k: (len(np.unique(samples[k].numbers)), -k))
    others = tuple(k for k in candidates if k != chosen)
    has = "it has an epoch" if chosen in dated else "it is the finest"
    why = f"its name; of {len(candidates)} that tell the same time {has}"
    picked = _with_unit(path, headers[chosen], samples[chosen], chosen, time_unit, why)
    return TimeColumn(picked.index, picked.unit, picked.why, others)


def _with_unit(path: str, header: Header, sample: Sample, index: int, time_unit: str | None, why: str) -> TimeColumn:
    if sample.dates:
        if time_unit not in (None, "date"):
            raise ReadError(f"{path}: column {header.name!r} holds dates, not {time_unit}; leave time_unit= out")
        if np.all(sample.numbers[np.isfinite(sample.numbers)] % 86400 == 0) and np.any(sample.steps == 0):
            raise ReadError(
                f"{path}: column {header.name!r} holds days without a time of day; expected dates such as "
                "2026-01-31T12:00:00.5Z in one column, join them"
            )
        return TimeColumn(index, "date", f"{why}; written as dates")
    if not np.isfinite(sample.numbers).any():
        raise ReadError(f"{path}: column {header.name!r} holds no numbers and no ISO dates; give another time_column=")
    if time_unit is not None:
        if time_unit not in TIME_SCALE:
            raise ReadError(f"{path}: time_unit {time_unit!r}; column {header.name!r} holds numbers: s, ms, us or ns")
        return TimeColumn(index, time_unit, f"{why}; time_unit was given")
    stated, epoch = header.time_unit, sample.unix_unit()
    if stated is None and header.long_unit is not None:
        raise ReadError(
            f"{path}: column {header.name!r} is in {header.long_unit}; expected s, ms, us or ns, write it as one"
        )
    if stated is not None:
        if epoch is not None and epoch != stated and not _believable(sample, stated):
            raise ReadError(
                f"{path}: column {header.name!r} says {stated}, but its values are a date of this century in {epoch}; "
                "give time_unit="
            )
        return TimeColumn(index, stated, f"{why}; its name says {stated}")
    fitting = [unit for unit in TIME_SCALE if _believable(sample, unit)]
    if epoch is not None:
        # 1.1e15 is 2004 in us, and 12.7 days after power-on in ns: the rate then decides, or nothing does. An epoch
        # in s or ms is how most loggers write dates, so there a clock since power-on must not win by its rate alone.
        rate = 1e9 / (sample.step * TIME_SCALE[epoch]) if sample.step > 0 else np.nan
        rivals = [unit for unit in fitting if unit != epoch]
        usual = epoch in fitting or (not rivals and (not rate > 0 or _UNIX_RATES[0] <= rate <= _UNIX_RATES[1]))
        if usual and (not rivals or epoch in ("s", "ms")):
            return TimeColumn(index, epoch, f"{why}; in {epoch} its values are dates of this century")
        if epoch in ("s", "ms") and epoch not in fitting and rivals:
            fitting = [epoch, *rivals]
    if not sample.whole and "s" in fitting and sample.step < 0.5:
        fitting = ["s"]  # fractions of a second are how seconds are written
    if len(fitting) == 1:
        rate = 1e9 / (sample.step * TIME_SCALE[fitting[0]])
        return TimeColumn(index, fitting[0], f"{why}; only in {fitting[0]} its rate, {rate:.4g} Hz, is believable")
    if not sample.step > 0:
        raise ReadError(
            f"{path}: column {header.name!r} holds no two different times in its first rows, so its unit cannot be "
            'told; expected stamps that rise; give another time_column=, or time_unit="s", "ms", "us" or "ns"'
        )
    since = sample.days_since()
    if since is not None:
        raise ReadError(
            f"{path}: column {header.name!r} looks like days since {since}; expected s, ms, us, ns or ISO dates, write "
            "it as one of them"
        )
    rates = ", ".join(f"{1e9 / (sample.step * TIME_SCALE[u]):.3g} Hz in {u}" for u in fitting or TIME_SCALE)
    raise ReadError(
        f"{path}: column {header.name!r} steps by {sample.step:g} and its unit is not stated ({rates}); "
        'give time_unit="s", "ms", "us" or "ns"'
    )


def _believable(sample: Sample, unit: str) -> bool:
    """Whether the rate is one of sensors, and the values are this century's or those of a clock since power-on."""
    scale = TIME_SCALE[unit] / 1e9
    known = sample.numbers[np.isfinite(sample.numbers)]
    if not sample.step * scale > 0:
        return False
    # One wild stamp, such as the first before a clock was set, says nothing of the unit.
    low, high = (float(edge) * scale for edge in np.percentile(known, (1, 99)))
    epoch = abs(high) < _LONGEST_UPTIME or (_UNIX[0] <= low and high < _UNIX[1])
    return epoch and _SLOWEST <= 1 / (sample.step * scale) <= _FASTEST


def start_clock_of(start: int, dated: bool) -> Literal["unix", "device"]:
    """What stamps that start at `start` ns count from: dates before 2000 are a device's that never knew the date."""
    return "unix" if _UNIX[0] <= start / 1e9 < _UNIX[1] else "device"


def to_nanoseconds(values: NDArray[Any], unit: str) -> tuple[Stamps, NDArray[np.bool_]]:
    """(stamps, valid) of integers or floats in `unit`; the whole part never passes through a float product."""
    scale = TIME_SCALE[unit]
    if values.dtype.kind in "iu":
        limit = np.iinfo(np.int64).max // scale
        valid = (values <= limit) & (values >= -limit) if values.dtype.kind == "i" else values <= limit
        return np.where(valid, values, 0).astype(np.int64) * scale, np.asarray(valid)
    values = values.astype(np.float64, copy=False)
    valid = np.isfinite(values) & (np.abs(values) < 9.2e18 / scale)
    known = np.where(valid, values, 0.0)
    whole = np.floor(known)
    return whole.astype(np.int64) * scale + np.round((known - whole) * scale).astype(np.int64), valid


def check_fine(path: str, stamps: Stamps) -> None:
    """Raises ReadError where a table's stamps hardly ever change: whole seconds, days, or floats of too few digits."""
    if stamps.size < 3:
        return
    changes = int(np.count_nonzero(np.diff(stamps)))
    if changes < _COARSEST * stamps.size:
        raise ReadError(
            f"{path}: {stamps.size} rows have {changes + 1} different times (written with too few digits?); expected a "
            "time for every row; give another time_column=, or rate= where rows are evenly sampled"
        )


@dataclass
class Ordered:
    """Stamps in order, and how they came to be.

    order: `(n,)` indices into the rows, None where the rows were in order. stamps: `(n,)` ns, never falling.
    resets: (stamp, jump) ns where the clock jumped back and counting was taken to go on.
    """

    order: NDArray[np.int64] | None
    stamps: Stamps
    odd: list[str] = field(default_factory=list)
    resets: list[tuple[int, int]] = field(default_factory=list)


def in_order(path: str, stamps: Stamps, tick: int, name: str = "time") -> Ordered:
    """Rows by time. A clock that jumped back is not sorted away: what follows is taken to go on without a break.

    tick: ns of one unit, in which a 32-bit counter may wrap.
    Raises ReadError where the column runs back so often that it is no time.
    """
    steps = np.diff(stamps)
    _check_one_unit(path, stamps, steps, name)
    falls = np.flatnonzero(steps < 0)
    if falls.size == 0:
        return Ordered(None, stamps)
    order = np.argsort(stamps, kind="stable")
    if _merely_shuffled(stamps, order, steps) and not _overlaps(stamps, order, falls):
        what = f"{falls.size} of {len(stamps)} rows are earlier than the row before them; sorted by their stamps"
        return Ordered(order, stamps[order], [what])
    if falls.size > max(1, min(_MOST_RESETS, len(stamps) // 10)):
        raise ReadError(
            f"{path}: {name} runs backwards at {falls.size} of {len(stamps)} rows and sorting leaves no steady clock; "
            "expected stamps that rise; try another column of time, or a fresh copy"
        )
    step = int(np.median(steps[steps > 0])) if np.any(steps > 0) else tick
    shifted, odd, resets = stamps.copy(), [], []
    for k in falls:
        jump = int(steps[k])
        after = jump + _WRAP * tick
        if 0 < after <= 100 * step and -jump > _WRAPPED * _WRAP * tick:
            shifted[k + 1 :] += _WRAP * tick
            odd.append(f"{name} starts again at row {k + 2} as a 32-bit counter does when it is full; counted on")
            continue
        shifted[k + 1 :] += step - jump
        resets.append((int(shifted[k + 1]), jump))
        odd.append(
            f"{name} jumps back by {-jump / 1e9:.6g} s at row {k + 2} (a clock reset); what follows is taken to go on "
            "without a break"
        )
    return Ordered(None, shifted, odd, resets)


def _check_one_unit(path: str, stamps: Stamps, steps: Stamps, name: str) -> None:
    """Raises ReadError where stamps and their steps become 1000 (or 10^6, 10^9) times larger or smaller at one row."""
    if steps.size < 4:
        return
    k = int(np.argmax(np.abs(steps)))
    here, there = (float(abs(stamps[i])) for i in (k, k + 1))
    before, after = (float(np.median(part)) if part.size else 0.0 for part in (steps[:k], steps[k + 1 :]))
    if min(here, there, before, after) <= 0:
        return
    for ratio in (1e3, 1e6, 1e9):
        for grown, faster in ((there / here, after / before), (here / there, before / after)):
            if 0.8 * ratio < grown < 1.25 * ratio and 0.8 * ratio < faster < 1.25 * ratio:
                raise ReadError(
                    f"{path}: {name} changes its unit at row {k + 2}: values and steps are {ratio:.0e} times as large "
                    "on one side; expected one unit"
                )


def _merely_shuffled(stamps: Stamps, order: NDArray[np.int64], steps: Stamps) -> bool:
    """Whether sorting leaves one steady clock: where rows from different places meet, steps are as everywhere."""
    ordered = np.diff(stamps[order])
    positive = ordered[ordered > 0]
    if positive.size == 0:
        return True
    joints = ordered[np.diff(order) != 1]
    step = float(np.median(positive))
    rising = steps[steps > 0]
    # A lasting overlap of two runs halves the steps: compare with those inside the runs of the file.
    # Their lowest tenth, since rows that changed places leave longer steps beside them.
    inside = float(np.percentile(rising, 10)) if rising.size >= 0.5 * steps.size else step
    regular = float(np.mean((joints == 0) | ((joints > 0.2 * step) & (joints < _LONG_STEP * step))))
    return regular >= _REGULAR and 0.6 * inside <= step


def _overlaps(stamps: Stamps, order: NDArray[np.int64], falls: NDArray[np.int64]) -> bool:
    """Whether, after one of few falls, rows lie between those before it, twice as dense as these: a clock that was set
    back. Rows that merely came late fill a hole. Rows of one stamp tell nothing of density."""
    if falls.size > _MOST_RESETS:
        return False
    ordered = stamps[order]
    for k in falls:
        low, high = stamps[k + 1], stamps[: k + 1].max()
        first, end = np.searchsorted(ordered, (low, high), side="left")
        inside = np.unique(ordered[first:end]).size
        since = max(2 * low - high, ordered[0])
        beside = np.unique(ordered[np.searchsorted(ordered, since) : first]).size
        if min(inside, 2 * beside) >= _LONG_OVERLAP and inside * (low - since) > _DENSER * beside * (high - low):
            return True
    return False


def sampling_odd(times: NDArray[np.float64], *, events: bool = False) -> tuple[list[str], dict[str, Any]]:
    """What is odd about one stream's times, and `rate` (Hz, of the median step), `gaps` ((time, length) pairs)."""
    if times.size < 2:
        return (["a single sample"] if times.size and not events else []), {}
    steps = np.diff(times)
    positive = steps[steps > 0]
    odd: list[str] = []
    same = int(steps.size - positive.size)
    if same:
        odd.append(f"{same} of {times.size} stamps are the same as the one before")
    if positive.size == 0:
        return odd, {}
    step = float(np.median(positive))
    facts: dict[str, Any] = {"rate": 1.0 / step, "average_rate": float((times.size - 1) / (times[-1] - times[0]))}
    if events:
        return odd, facts
    uneven = float(np.mean(np.abs(positive - step) > 0.2 * step))
    long = np.flatnonzero(steps > _LONG_STEP * step)
    if long.size and long.size <= 0.05 * steps.size + 1:
        gaps = [(float(times[k] + step), float(steps[k] - step)) for k in long]
        time, length = max(gaps, key=lambda gap: gap[1])
        places = "one place" if len(gaps) == 1 else f"{len(gaps)} places"
        lost = round(sum(g for _, g in gaps) / step)
        odd.append(
            f"{length * 1e3:.1f} ms missing at {time:.3f} s (the longest; {places}, about {lost} samples in all)"
        )
        facts["gaps"] = gaps
    if uneven > 0.05:
        low, high = np.percentile(positive, [1, 99])
        odd.append(
            f"uneven sampling: {uneven:.0%} of its steps miss the median one of {step * 1e3:.4g} ms by more than a "
            f"fifth; most lie between {low * 1e3:.4g} and {high * 1e3:.4g} ms"
        )
    return odd, facts
