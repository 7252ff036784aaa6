"""How a table is laid out in text: comments, delimiter, header, units' row, decimal sign. Found in its first lines."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from avfuse.errors import ReadError
from avfuse.io.sensors.headers import parse_header, unit_named
from avfuse.io.sensors.times import Sample

_INTEGER = re.compile(r"^[+-]?\d+$")
_NUMBER = re.compile(r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$")
_COMMA = re.compile(r"^[+-]?\d*,\d+([eE][+-]?\d+)?$")
DATE = re.compile(r"^\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d([.,]\d+)?)?( ?(Z|[+-]\d\d:?(\d\d)?))?)?$")
ABSENT = ("", "nan", "NaN", "NAN", "na", "NA", "N/A", "n/a", "null", "NULL", "None", "none", "-", "--", "?", "nil")
_INFINITE = re.compile(r"^[+-]?inf(inity)?$", re.IGNORECASE)
# Units that avfuse does not convert, as they stand alone in a row below the names.
_OTHER_UNITS = {
    "v", "mv", "uv", "µv", "a", "ma", "w", "%", "°", "°c", "degc", "c", "k", "ut", "µt", "gauss", "hpa", "pa", "kpa",
    "hz", "khz", "bpm", "n", "nm", "lux", "lx", "db", "dba", "-", "kg", "deg", "rad", "degrees", "km/h", "m/s", "count",
    "counts", "raw", "none", "n/a", "ohm", "kohm", "us/cm", "ft", "in", "mph", "rpm", "bar", "psi", "ppm", "mbar",
}  # fmt: skip
_LINES = 400  # of the head that are looked at


@dataclass(frozen=True)
class Layout:
    """skip: bytes before the first row of data. spaces: whether runs of spaces separate. units: of a row of units."""

    delimiter: str
    spaces: bool
    comma: bool
    names: tuple[str, ...] | None
    units: tuple[str | None, ...] | None
    skip: int
    columns: int
    rows: tuple[tuple[str, ...], ...]

    def column(self, k: int) -> list[str]:
        return [row[k] for row in self.rows]


def find_layout(path: str, head: bytes, whole: bool) -> Layout:
    """Layout from the first bytes of a file. whole: whether `head` is all of it.

    Raises ReadError where it is no table of numbers.
    """
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise ReadError(f"{path}: text in UTF-16; expected UTF-8, try to save it again as UTF-8")
    if b"\0" in head:
        raise ReadError(f"{path}: binary data; expected a table as text, check the file's name and its copy")
    raw = head.splitlines(keepends=True)
    if not whole and len(raw) > 1:
        raw = raw[:-1]
    raw = raw[:_LINES]
    lines = [_decoded(line).strip("\r\n\ufeff") for line in raw]
    comments = [line.lstrip().startswith(("#", "%", "//")) or not line.strip() for line in lines]
    data = [k for k, comment in enumerate(comments) if not comment]
    if not data:
        raise ReadError(f"{path}: no rows in it; expected a table of times and values")
    delimiter, count = _delimiter([lines[k] for k in data])
    if count < 2 and not any(_kind(cell) for k in data for cell in _split(lines[k], delimiter)):
        raise ReadError(f"{path}: no table of numbers; expected rows of times and values, such as 0.01,0.5,9.8")
    spaces = delimiter == " " and any("  " in lines[k].strip() or lines[k] != lines[k].strip() for k in data)
    fields = {k: _split(lines[k], delimiter) for k in data}
    fitting = [k for k in data if len(fields[k]) == count]
    numeric = [k for k in fitting if any(_kind(cell) for cell in fields[k])]
    first = next((k for k in numeric if _mostly_numeric(fields[k])), None)
    if first is None:
        raise ReadError(f"{path}: a header and no rows of numbers; expected a table of times and values")
    # The first row from which most that fit are numeric; what stands before is header, units and remarks.
    before = [k for k in fitting if k < first]
    names, units = _names(before, fields)
    if names is None:
        names = _commented(lines[:first], count, delimiter)
    rows = tuple(tuple(fields[k]) for k in fitting if k >= first)
    if names is None and delimiter != " ":
        above = [fields[k] for k in data if k < first]
        names = _unequal(path, above[-1], rows, count) if above else None
    comma = delimiter != "," and _decimal_comma(rows)
    if comma:
        rows = tuple(tuple(c.replace(",", ".") if _COMMA.match(c) else c for c in row) for row in rows)
    return Layout(delimiter, spaces, comma, names, units, sum(map(len, raw[:first])), count, rows)


def _decoded(line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return line.decode("latin-1")


def _split(line: str, delimiter: str) -> list[str]:
    if delimiter == " ":
        return line.split()
    return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter), [])]


def _delimiter(lines: Sequence[str]) -> tuple[str, int]:
    """The delimiter that splits most of the last lines alike, and into how many cells."""
    tail = lines[-200:] if len(lines) < 4 else lines[len(lines) // 4 :]
    best = (0.0, 0, ",", 1)
    for rank, delimiter in enumerate((";", "\t", ",", "|", " ")):
        counts = Counter(len(_split(line, delimiter)) for line in tail)
        count, often = counts.most_common(1)[0]
        if count < 2:
            continue
        numeric = sum(
            1 for line in tail if len(cells := _split(line, delimiter)) == count and _mostly_numeric(cells)
        )  # fmt: skip
        score = (often + numeric) / len(tail)
        if (round(score, 2), -rank) > (round(best[0], 2), best[1]):
            best = (score, -rank, delimiter, count)
    return best[2], best[3]


def _kind(cell: str) -> str | None:
    """number, date, or None for words; absent values count for neither."""
    if _NUMBER.match(cell) or _COMMA.match(cell) or _INFINITE.match(cell):
        return "number"
    return "date" if DATE.match(cell) else None


def _mostly_numeric(cells: Sequence[str]) -> bool:
    present = [cell for cell in cells if cell not in ABSENT]
    return bool(present) and any(_kind(c) for c in present) and sum(map(bool, map(_kind, present))) * 2 >= len(present)


def _names(
    before: list[int], fields: dict[int, list[str]]
) -> tuple[tuple[str, ...] | None, tuple[str | None, ...] | None]:
    if not before:
        return None, None
    last = fields[before[-1]]
    known = sum(unit_named(cell) is not None for cell in last)
    written = [cell for cell in last if cell]
    others = sum(unit_named(cell) is None and cell.strip("[]()").lower() in _OTHER_UNITS for cell in written)
    if len(before) > 1 and known and (known * 2 >= len(written) or known + others == len(written)):
        # Names stand on the row above: this one has their units.
        return tuple(fields[before[-2]]), tuple(unit_named(cell) or cell or None for cell in last)
    return tuple(fields[before[-1]]), None


def _unequal(path: str, header: Sequence[str], rows: Sequence[Sequence[str]], count: int) -> tuple[str, ...] | None:
    """Names in a line that has another number of cells than the rows; None for what is no header.

    Raises ReadError where more differs than a delimiter at the end of the line.
    """
    if len(header) < 2 or any(map(_kind, header)) or not any(parse_header(cell).is_time for cell in header):
        return None
    if len(header) == count - 1 and all(row[-1] == "" for row in rows):
        return (*header, "")
    if len(header) == count + 1 and header[-1] == "":
        return tuple(header[:-1])
    raise ReadError(
        f"{path}: its header names {len(header)} columns and its rows have {count} cells; expected as many; where "
        "commas are both decimal signs and delimiters, write it again with semicolons"
    )


def _commented(lines: Sequence[str], count: int, delimiter: str) -> tuple[str, ...] | None:
    """Names in the last comment that has as many words as the rows have cells: `# timestamp tx ty tz qx qy qz qw`."""
    for line in reversed(lines):
        if not line.lstrip().startswith(("#", "%", "//")):
            continue
        text = line.lstrip().lstrip("#%/ ")
        for mark in (delimiter, ",", " "):
            cells = _split(text, mark)
            if len(cells) == count and not any(map(_kind, cells)):
                return tuple(cells)
    return None


def _decimal_comma(rows: Sequence[Sequence[str]]) -> bool:
    cells = [cell for row in rows[:50] for cell in row]
    return any(_COMMA.match(c) for c in cells) and not any("." in c and _NUMBER.match(c) for c in cells)


def sample_of(cells: Sequence[str]) -> Sample:
    """The first rows of a column as numbers or dates."""
    present = [cell for cell in cells if cell not in ABSENT]
    if present and all(DATE.match(cell) for cell in present):
        days = []
        for cell in cells:
            bare = re.sub(r" ?(Z|[+-]\d\d:?(\d\d)?)$", "", cell) if "T" in cell or " " in cell else cell
            try:
                stamp = (
                    np.datetime64(bare.replace(",", "."), "ns") if cell not in ABSENT else np.datetime64("NaT", "ns")
                )
            except ValueError:
                stamp = np.datetime64("NaT", "ns")
            days.append(np.nan if np.isnat(stamp) else float(stamp.astype(np.int64)) / 1e9)
        return Sample(np.array(days), whole=False, dates=True)
    values = [float(cell) if _NUMBER.match(cell) else np.nan for cell in cells]
    return Sample(np.array(values), whole=bool(present) and all(_INTEGER.match(cell) for cell in present))


def is_text_column(cells: Sequence[str]) -> bool:
    """Whether a column holds words: most of its cells are neither numbers nor absent."""
    present = [cell for cell in cells if cell not in ABSENT]
    words = [c for c in present if not _NUMBER.match(c) and not _INFINITE.match(c)]
    return len(words) * 2 > len(present)
