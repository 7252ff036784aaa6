"""From columns with stamps to a `Recording`: order, streams, units, and what is odd."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avfuse.errors import ReadError
from avfuse.io.sensors.channels import SCALES, SI, Group, decide_unit
from avfuse.io.sensors.times import Stamps, in_order, sampling_odd, start_clock_of
from avfuse.stream import Array, Recording, Stream

Floats = NDArray[np.float64]
_INTERLEAVED = 0.1  # missing runs, of the rows present, above which a table's rows belong to several sensors in turn
_LONG_PASS = 20  # rows that were written later, and pairs of such, for a file to go over its stamps twice
_OTHER_VALUES = 0.5  # share of these pairs that must have other values
_WRITTEN_TWICE = 0.9  # share of rows with their neighbour's stamp that must have its values, too


@dataclass
class Part:
    """One stream to be: `values` `(n, k)` float64 or `(n,)` str, at `stamps` `(n,)` ns in the order of the file."""

    group: Group
    values: Array
    stamps: Stamps
    name: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    odd: list[str] = field(default_factory=list)


def rows_to_parts(
    path: str, groups: Sequence[Group], values: Sequence[Array], stamps: Stamps, tick: int, odd: list[str]
) -> list[Part]:
    """Parts of a table, whose groups share their rows' stamps; disorder and repeated rows are told in `odd`.

    values: one `(n, k)` array per group, changed in place where that saves memory.
    tick: ns of one unit of the stamps.
    """
    ordered = in_order(path, stamps, tick)
    odd.extend(ordered.odd)
    arrays = list(values)
    if ordered.order is not None:
        for k in range(len(arrays)):
            arrays[k] = _taken(arrays[k], ordered.order)
        _check_one_pass(path, ordered.order, ordered.stamps, arrays)
    stamps = ordered.stamps
    again = _repeated(stamps, arrays)
    if again is not None:
        odd.append(f"{int(np.count_nonzero(again))} rows repeat another row, stamp and values; left out")
        keep = np.flatnonzero(~again)
        stamps = stamps[keep]
        arrays = [_taken(a, keep) for a in arrays]
    parts = []
    for group, array in _by_presence(groups, arrays):
        gone = _missing(array)
        part = Part(group, array, stamps)
        absent = int(np.count_nonzero(gone)) if gone is not None else 0
        if gone is not None and absent and (group.kind == "text" or _interleaved(gone)):
            keep = np.flatnonzero(~gone)
            part.values, part.stamps = _taken(array, keep), stamps[keep]
            if group.kind != "text":
                part.odd.append(f"{absent} of {gone.size} rows hold nothing of it (rows of other sensors); left out")
        if ordered.resets:
            part.facts["resets"] = ordered.resets
        parts.append(part)
    return parts


def recording_of(
    path: str, container: str, parts: Sequence[Part], facts: dict[str, Any], odd: list[str], *, dated: bool = False
) -> Recording:
    """The recording that the parts make, on a time that starts at the smallest stamp.

    Raises ReadError where no part holds a sample, or a stated unit is none of its kind.
    """
    filled, left = [], ""
    for part in parts:
        if part.stamps.size and not _stands_still(part):
            filled.append(part)
            continue
        left = f"all {part.stamps.size} stamps are the same" if part.stamps.size else "no samples"
        odd.append(f"{part.name or ', '.join(part.group.channels[:4])}: {left}; left out")
    if not filled:
        what = f"no samples with times in it ({left})" if left and left != "no samples" else "no samples in it"
        raise ReadError(f"{path}: {what}; expected at least one row with a time and a value")
    start = min(int(part.stamps[0]) for part in filled)
    numbers: dict[str, int] = {}
    streams = []
    for part in filled:
        kind = part.group.kind
        numbers[kind] = numbers.get(kind, 0) + 1
        name = kind if numbers[kind] == 1 else f"{kind}-{numbers[kind]}"
        stream, found = _stream(path, name, part, start)
        odd.extend(f"{name}: {sentence}" for sentence in found)
        streams.append(stream)
    return Recording(
        name=stem_of(path),
        streams=tuple(streams),
        source=path,
        start=start,
        start_clock=start_clock_of(start, dated),
        facts={"container": container, **facts, "odd": odd},
    )


def reason_of(error: ReadError, path: str) -> str:
    """What was found, without the file's name and what was expected."""
    return str(error).removeprefix(f"{path}: ").partition("; expected")[0]


def _stands_still(part: Part) -> bool:
    return part.group.kind != "text" and part.stamps.size > 2 and part.stamps[0] == part.stamps[-1]


def stem_of(path: str) -> str:
    name = Path(path).name
    return Path(name.removesuffix(".gz")).stem


def _stream(path: str, name: str, part: Part, start: int) -> tuple[Stream, list[str]]:
    times = (part.stamps - start) / 1e9
    facts: dict[str, Any] = {"kind_from": part.group.why, **part.facts}
    if "resets" in facts:
        facts["resets"] = [((stamp - start) / 1e9, jump / 1e9) for stamp, jump in facts["resets"]]
    odd = list(part.odd)
    found, sampling = sampling_odd(times, events=part.group.kind == "text")
    odd += found
    facts |= sampling
    values, unit = part.values, part.group.unit
    if values.dtype.kind == "f" and values.ndim == 2:
        values, unit = _in_si(path, part.group, values, facts, odd)
        odd += _missing_odd(values, times, part.group)
    return Stream(name, part.group.kind, values, times, unit=unit, channels=part.group.channels, facts=facts), odd


def _in_si(path: str, group: Group, values: Floats, facts: dict[str, Any], odd: list[str]) -> tuple[Floats, str | None]:
    """Values and unit, after what the file's unit asks for; told in facts."""
    if group.kind == "pose":
        if group.length is not None:
            length = decide_unit(path, "position", group.length, values[:, :3])
            facts["unit"], facts["unit_from"] = length.unit, length.why
            if length.scale != 1.0:
                values[:, :3] *= length.scale
                facts["scale"] = length.scale
        norms = np.linalg.norm(values[:, 3:], axis=1)
        wrong = int(np.count_nonzero(np.abs(norms - 1) > 0.02))
        if wrong:
            odd.append(f"{wrong} of {norms.size} quaternions do not have norm 1")
        return values, None
    if group.kind not in SCALES:
        return values, group.unit
    unit = decide_unit(path, group.kind, group.unit, values)
    facts["unit"] = unit.unit
    facts.setdefault("unit_from", unit.why)
    if unit.scale != 1.0:
        values *= unit.scale
        facts["scale"] = unit.scale
    if unit.assumed:
        odd.append(f"unit assumed to be {unit.unit}: {unit.why}")
    return values, SI[group.kind]


def _missing_odd(values: Floats, times: Floats, group: Group) -> list[str]:
    """Sentences on values that are NaN or infinite; they stay as they are."""
    if _is_finite(values):
        return []
    bad = np.zeros(len(values), bool)
    for column in values.T:
        bad |= ~np.isfinite(column)
    if not bad.any():
        return []
    edges = np.flatnonzero(np.diff(np.concatenate([[False], bad, [False]])))
    first, last = edges[::2], edges[1::2] - 1
    longest = int(np.argmax(last - first))
    rows = int(last[longest] - first[longest] + 1)
    runs = "one run" if first.size == 1 else f"{first.size} runs"
    return [
        f"{int(np.count_nonzero(bad))} of {bad.size} rows have values that are missing or not finite, in {runs}; "
        f"the longest, {rows} rows, from {times[first[longest]]:.3f} s to {times[last[longest]]:.3f} s; kept as NaN"
    ]


def _taken(values: Array, rows: NDArray[np.int64]) -> Array:
    """Some rows, column by column as they lie in memory."""
    if values.ndim == 1:
        return values[rows]
    taken = np.empty((values.shape[1], rows.size), values.dtype)
    for k, column in enumerate(values.T):
        np.take(column, rows, out=taken[k])
    return taken.T


def _check_one_pass(path: str, order: NDArray[np.int64], stamps: Stamps, arrays: Sequence[Array]) -> None:
    """Raises ReadError where a long run of rows goes over the same stamps again with other values.

    order: of the file's rows in the order of time, as stamps and arrays are. Rows that hold nothing of what the others
    hold are another sensor's, and may have the same stamps.
    """
    same = np.flatnonzero(np.diff(stamps) == 0)
    apart = same[np.abs(np.diff(order)[same]) > _LONG_PASS]
    if apart.size < _LONG_PASS or 2 * apart.size < same.size:
        return
    other = np.zeros(apart.size, bool)
    for values in arrays:
        before, after = values[apart], values[apart + 1]
        if values.dtype.kind == "f":
            unlike = (before != after) & np.isfinite(before) & np.isfinite(after)
            other |= unlike.reshape(apart.size, -1).any(axis=1)
    if np.count_nonzero(other) > _OTHER_VALUES * apart.size:
        k = apart[int(np.argmax(other))]
        rows = sorted((int(order[k]) + 1, int(order[k + 1]) + 1))
        raise ReadError(
            f"{path}: rows {rows[0]} and {rows[1]}, and {int(np.count_nonzero(other)) - 1} more such pairs, have the "
            "same time and different values: a clock that was set back, or two sensors one below the other; expected "
            "one sensor's rows with stamps that rise, split the file"
        )


def _is_finite(values: Floats) -> bool:
    """Whether the sum is: then every value is. One pass for whole data; huge values may only seem not to be."""
    with np.errstate(invalid="ignore", over="ignore"):
        return bool(np.isfinite(values.sum()))


def _by_presence(groups: Sequence[Group], arrays: Sequence[Array]) -> Iterator[tuple[Group, Array]]:
    """Groups and their values; columns of `other` that come in different rows, in turn, are sensors of their own."""
    for group, values in zip(groups, arrays, strict=True):
        if group.kind != "other" or values.shape[1] == 1 or _is_finite(values):
            yield group, values
            continue
        masks: list[NDArray[np.bool_]] = []
        together: list[list[int]] = []
        for k, column in enumerate(values.T):
            gone = np.isnan(column)
            for mask, members in zip(masks, together, strict=True):
                if np.array_equal(mask, gone):
                    members.append(k)
                    break
            else:
                masks.append(gone)
                together.append([k])
        if len(masks) == 1 or not all(_interleaved(mask) or not mask.any() for mask in masks):
            yield group, values
            continue
        for members in together:
            columns, channels = tuple(group.columns[k] for k in members), tuple(group.channels[k] for k in members)
            yield replace(group, columns=columns, channels=channels), values[:, members]


def _missing(values: Array) -> NDArray[np.bool_] | None:
    """Rows that hold nothing at all; None where every row holds something."""
    if values.dtype.kind == "U":
        gone = values == ""
        return gone if gone.any() else None
    if _is_finite(values):
        return None
    gone = np.ones(len(values), bool)
    for column in values.T:
        gone &= np.isnan(column)
    return gone if gone.any() else None


def _interleaved(gone: NDArray[np.bool_]) -> bool:
    """Whether missing rows come in turn with present ones, so that they are other sensors' rows and not a loss."""
    present = int(np.count_nonzero(~gone))
    runs = int(np.count_nonzero(np.diff(gone.astype(np.int8)) == 1)) + int(gone[0])
    return runs > _INTERLEAVED * present and present > 0


def _repeated(stamps: Stamps, arrays: Sequence[Array]) -> NDArray[np.bool_] | None:
    """Rows that are wholly equal to the row before them, in the order of time; None where there are none.

    Where stamps are so coarse that several samples share one, equal values are no sign of a row written twice.
    """
    same = np.flatnonzero(np.diff(stamps) == 0)
    if same.size == 0:
        return None
    equal = np.ones(same.size, bool)
    for values in arrays:
        before, after = values[same], values[same + 1]
        alike = before == after
        if values.dtype.kind == "f":
            alike |= np.isnan(before) & np.isnan(after)
        equal &= alike.reshape(same.size, -1).all(axis=1)
    again = np.zeros(stamps.size, bool)
    again[same[equal] + 1] = True
    return again if float(equal.mean()) > _WRITTEN_TWICE else None
