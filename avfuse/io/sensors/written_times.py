"""Stamps as text to integer nanoseconds, through no float: digits before the point and digits after it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from avfuse.io.sensors.headers import TIME_SCALE

Found = tuple[NDArray[np.int64], NDArray[np.bool_]]
_ZONE = r"(Z|[+-]\d\d:?(\d\d)?)$"


def numbers_written(text: Any, unit: str, point: str) -> Found:
    """(stamps, valid) of a pyarrow array of strings that hold numbers in `unit`."""
    import pyarrow as pa
    import pyarrow.compute as pc

    scale = TIME_SCALE[unit]
    text = pc.utf8_trim_whitespace(text)
    try:
        whole = pc.cast(text, pa.int64())
        return _scaled(whole, scale)
    except pa.ArrowInvalid:
        pass
    if point != ".":
        # A point is then no decimal sign: it may separate thousands, and is left to be told as unreadable.
        text = pc.replace_substring(text, ".", " ")
        text = pc.replace_substring(text, point, ".")
    parts = pc.extract_regex(text, r"^\+?(?P<sign>-?)(?P<whole>\d*)\.?(?P<part>\d*)$")
    if isinstance(parts, pa.ChunkedArray):
        parts = parts.combine_chunks()
    known = np.asarray(pc.is_valid(parts).to_numpy(zero_copy_only=False))
    digits = len(str(scale)) - 1
    whole = _integers(parts.field("whole"))
    part = _integers(pc.utf8_slice_codeunits(pc.utf8_rpad(parts.field("part"), max(digits, 1), "0"), 0, max(digits, 1)))
    if digits == 0:
        part[:] = 0
    negative = np.asarray(pc.equal(parts.field("sign"), "-").fill_null(False).to_numpy(zero_copy_only=False))
    valid = known & (whole >= 0) & (whole < 9.2e18 / scale)
    stamps = np.where(valid, whole, 0) * scale + np.maximum(part, 0)
    stamps = np.where(negative, -stamps, stamps)
    # Exponents, inf and words are few: one by one.
    for row in np.flatnonzero(~valid):
        try:
            value = float(text[int(row)].as_py() or "nan")
        except ValueError:
            continue
        if np.isfinite(value) and abs(value) < 9.2e18 / scale:
            stamps[row], valid[row] = round(value * scale), True
    return stamps.astype(np.int64), valid


def _integers(text: Any) -> NDArray[np.int64]:
    """-1 where there is none, or too many digits for 64 bits."""
    import pyarrow as pa
    import pyarrow.compute as pc

    fits = pc.and_(pc.greater(pc.utf8_length(text), 0), pc.less(pc.utf8_length(text), 19))
    safe = pc.if_else(fits.fill_null(False), text, "-1")
    return np.array(pc.cast(safe, pa.int64()).to_numpy(zero_copy_only=False))


def _scaled(whole: Any, scale: int) -> Found:
    import pyarrow.compute as pc

    values = np.asarray(pc.fill_null(whole, 0).to_numpy())
    valid = np.asarray(pc.is_valid(whole).to_numpy())
    valid = valid & (np.abs(values) < np.iinfo(np.int64).max // scale)
    return np.where(valid, values, 0) * scale, valid


def dates_written(text: Any) -> tuple[NDArray[np.int64], NDArray[np.bool_], bool]:
    """(stamps, valid, naive) of ISO dates; naive: some had no time zone and were taken as UTC."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if isinstance(text, pa.ChunkedArray):
        text = text.combine_chunks()
    text = pc.replace_substring(pc.utf8_trim_whitespace(text), ",", ".")
    # Arrow wants two digits of hours and two of minutes behind the sign, and no space before it.
    text = pc.replace_substring_regex(text, r" ?([+-]\d\d)$", r"\1:00") if _has(text, r"\d\d:\d\d.*[+-]\d\d$") else text
    text = pc.replace_substring_regex(text, r"(:\d\d(\.\d+)?) (Z|[+-])", r"\1\3")
    # Ten digits and more of a second are more than Arrow reads.
    text = pc.replace_substring_regex(text, r"(\.\d{9})\d+", r"\1")
    zoned = pc.match_substring_regex(text, r"\d\d:\d\d.*" + _ZONE).fill_null(False)
    known = pc.match_substring_regex(text, r"^\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?)?$")
    stamps = np.zeros(len(text), np.int64)
    valid = np.zeros(len(text), bool)
    naive = False
    for mask, kind in ((zoned, pa.timestamp("ns", "UTC")), (pc.invert(zoned), pa.timestamp("ns"))):
        some = pc.if_else(pc.and_(mask, known.fill_null(False)), text, pa.scalar(None, text.type))
        try:
            cast = pc.cast(some, kind)
        except pa.ArrowInvalid:
            cast = pa.array([_date(cell.as_py(), kind) for cell in some], kind)
        good = np.asarray(pc.is_valid(cast).to_numpy(zero_copy_only=False))
        naive = naive or (kind.tz is None and bool(good.any()))
        values = np.asarray(pc.fill_null(pc.cast(cast, pa.int64()), 0).to_numpy(zero_copy_only=False))
        stamps[good], valid[good] = values[good], True
    return stamps, valid, naive


def _has(text: Any, pattern: str) -> bool:
    import pyarrow.compute as pc

    return bool(pc.any(pc.match_substring_regex(text, pattern)).as_py())


def _date(cell: str | None, kind: Any) -> Any:
    """One cell, None where it is no date after all (a 30th of February)."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        return None if cell is None else pc.cast(pa.scalar(cell), kind)
    except pa.ArrowInvalid:
        return None
