"""Tables as text (CSV, TSV, TUM, EuRoC), gzipped or not, through pyarrow, block after block.

Memory: every value once as float64, plus a block of text and what pyarrow makes of it.
"""

from __future__ import annotations

import gzip
import os
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from io import BufferedReader
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avfuse.errors import ReadError
from avfuse.io.sensors.assembling import recording_of, rows_to_parts, stem_of
from avfuse.io.sensors.channels import Group, check_one_sensor, group_columns, group_unnamed
from avfuse.io.sensors.columns import Collected, check_rate
from avfuse.io.sensors.headers import TIME_SCALE, parse_header
from avfuse.io.sensors.needed import needed
from avfuse.io.sensors.text_layout import ABSENT, Layout, find_layout, is_text_column, sample_of
from avfuse.io.sensors.times import TimeColumn, check_fine, choose_time
from avfuse.stream import Recording

_HEAD = 1 << 18  # bytes that tell the layout
_BLOCK = 1 << 25  # bytes of text at a time
_CUT = "cut short: its gzip data ends early; what is whole was read"
_SPACES = re.compile(rb"[ \t]+")
_EDGES = re.compile(rb"^ | (?=\r?$)", re.MULTILINE)


def read_text_table(
    path: str, *, time_column: str | int | None = None, time_unit: str | None = None, rate: float | None = None
) -> Recording:
    """A table of times and values.

    Raises ReadError, one line, where it is none, or its time column or unit is not certain.
    """
    needed("pyarrow.csv", path, "tables")
    odd: list[str] = []
    with _text(path) as file:
        head = _filled(file, _HEAD)
        layout = find_layout(path, head, len(head) < _HEAD)
        named = layout.names is not None
        names = layout.names or tuple(str(k + 1) for k in range(layout.columns))
        names = tuple(name or f"column {k + 1}" for k, name in enumerate(names))
        headers = [parse_header(name) for name in names]
        if layout.units is not None:
            headers = [replace(h, unit=u or h.unit) for h, u in zip(headers, layout.units, strict=True)]
        samples = [sample_of(layout.column(k)) for k in range(layout.columns)]
        time: TimeColumn | None = None
        if check_rate(path, rate, time_column, time_unit) is None:
            time = choose_time(
                path, headers, samples, named=named, time_column=time_column, time_unit=time_unit
            )  # fmt: skip
        skipped = {time.index, *time.others} if time is not None else set()
        # A delimiter at the end of every row makes a column without name and values.
        bare = {
            k for k in range(layout.columns) if named and not (layout.names or ())[k] and _is_void(layout.column(k))
        }
        values = [k for k in range(layout.columns) if k not in skipped | bare]
        words = {k for k in values if is_text_column(layout.column(k)) or (samples[k].dates)}
        for k in sorted(words):
            check_one_sensor(path, names[k], layout.column(k))
        numeric = [k for k in values if k not in words]
        if named:
            groups = group_columns(path, stem_of(path), headers, numeric)
        else:
            first = np.array([samples[k].numbers for k in numeric]).T
            groups = group_unnamed(stem_of(path), numeric, first)
        texts = tuple(Group("text", (k,), (names[k],), "it holds words") for k in sorted(words))
        if not groups and not texts:
            raise ReadError(f"{path}: a column of time and nothing else; expected values beside it")
        groups = [*groups, *texts]
        collected = Collected([g.columns for g in groups], [g.kind == "text" for g in groups])
        reader = _Reader(path, layout, time, groups, odd)
        size = None if isinstance(file, gzip.GzipFile) else os.path.getsize(path)
        reader.read(_blocks(file, head[layout.skip :], path, odd), collected, size)
    arrays, stamps = collected.finish()
    facts: dict[str, Any] = {"delimiter": layout.delimiter}
    tick = 1
    if time is None:
        assert rate is not None
        stamps = np.round(np.arange(collected.rows) * (1e9 / rate)).astype(np.int64)
        facts |= {"time_from": "rate was given"}
    else:
        name = headers[time.index].name if named else f"column {time.index + 1}"
        tick = TIME_SCALE.get(time.unit, 1)
        facts |= {"time_column": name, "time_unit": time.unit, "time_from": time.why}
        if time.others:
            others = ", ".join(repr(names[k]) for k in time.others)
            odd.append(f"times are those of {name!r}; {others} tell the same time less well and are left out")
    reader.report(collected.rows)
    if time is not None:
        check_fine(path, stamps)
    parts = rows_to_parts(path, groups, arrays, stamps, tick, odd)
    container = "tsv" if layout.delimiter == "\t" else "table" if layout.delimiter == " " else "csv"
    return recording_of(path, container, parts, facts, odd, dated=time is not None and time.unit == "date")


class _Reader:
    """Text blocks into `Collected`, counting what could not be read."""

    def __init__(
        self, path: str, layout: Layout, time: TimeColumn | None, groups: Sequence[Group], odd: list[str]
    ) -> None:
        self.path, self.layout, self.time, self.odd = path, layout, time, odd
        self.names = [f"c{k}" for k in range(layout.columns)]
        self.words = {k for g in groups for k in g.columns if g.kind == "text"}
        self.kept = [k for g in groups for k in g.columns]
        self.uneven_rows = 0
        self.unreadable = 0
        self.timeless = 0
        self.example = ""
        self.naive = False

    def read(self, blocks: Iterator[bytes], collected: Collected, size: int | None) -> None:
        import pyarrow as pa

        done = 0
        for block in blocks:
            # A cut-off last line of a file that holds nothing else is told by find_layout.
            table = self._parsed(block)
            done += len(block)
            if table.num_rows == 0:
                continue
            stamps, rows = None, None
            if self.time is not None:
                column = table.column(f"c{self.time.index}")
                stamps, valid = self._stamps(column)
                if not valid.all():
                    self.timeless += int(np.count_nonzero(~valid))
                    self.example = self.example or _shown(column, np.flatnonzero(~valid))
                    rows = np.flatnonzero(valid)
                    stamps = stamps[rows]
            columns = {k: self._values(table.column(f"c{k}"), k) for k in self.kept}
            if rows is not None:
                columns = {k: column[rows] for k, column in columns.items()}
            count = table.num_rows if rows is None else rows.size
            expected = None if size is None else int((collected.rows + count) * (size / done) * 1.02) + 64
            collected.add(columns, stamps, count, expected)
            del table, columns
        pa.default_memory_pool().release_unused()

    def report(self, rows: int) -> None:
        """rows: that have a time. Raises ReadError where most have none."""
        if self.timeless > rows:
            raise ReadError(
                f"{self.path}: {self.timeless} of {self.timeless + rows} rows have no readable time (such as "
                f"{self.example!r}); expected numbers or ISO dates in every row, give another time_column="
            )
        if self.uneven_rows:
            self.odd.append(
                f"{self.uneven_rows} rows do not have {self.layout.columns} cells (cut short or damaged); left out"
            )
        if self.timeless:
            self.odd.append(f"{self.timeless} rows have no readable time; left out")
        if self.unreadable:
            self.odd.append(f"{self.unreadable} cells are not the numbers that their columns hold; taken as missing")
        if self.naive:
            self.odd.append("its dates state no time zone; taken as UTC")

    def _parsed(self, block: bytes) -> Any:
        import pyarrow as pa

        if self.layout.spaces:
            block = _EDGES.sub(b"", _SPACES.sub(b" ", block))
        types = {name: pa.float64() for name in self.names}
        types |= {f"c{k}": pa.string() for k in self.words}
        if self.time is not None:
            types[f"c{self.time.index}"] = pa.string()
        block = _as_utf8(block)
        # Where some cell is no number: all as text, and each column by itself. Where a quote was never closed: none.
        text = dict.fromkeys(self.names, pa.binary())
        for kinds, quoted in ((types, True), (text, True), (text, False)):
            try:
                return self._converted(block, kinds, quoted)
            except pa.ArrowInvalid as error:
                told = " ".join(str(error).split())[:120]
        raise ReadError(f"{self.path}: its rows cannot be parsed ({told}); expected a table of times and values")

    def _converted(self, block: bytes, types: dict[str, Any], quoted: bool) -> Any:
        import pyarrow as pa
        from pyarrow import csv

        wanted = [f"c{k}" for k in self.kept]
        wanted += [f"c{self.time.index}"] if self.time is not None else []
        before = self.uneven_rows

        def skip(row: Any) -> str:
            if not row.text.lstrip().startswith(("#", "%", "//")):
                self.uneven_rows += 1
            return "skip"

        try:
            return csv.read_csv(
                pa.BufferReader(block),
                read_options=csv.ReadOptions(column_names=self.names, block_size=1 << 20),
                parse_options=csv.ParseOptions(
                    delimiter=self.layout.delimiter, invalid_row_handler=skip, quote_char='"' if quoted else False
                ),
                convert_options=csv.ConvertOptions(
                    column_types=types, include_columns=wanted, null_values=list(ABSENT), strings_can_be_null=True,
                    decimal_point="," if self.layout.comma else ".", check_utf8=False,
                ),
            )  # fmt: skip
        except pa.ArrowInvalid:
            self.uneven_rows = before
            raise

    def _values(self, column: Any, k: int) -> NDArray[Any]:
        import pyarrow as pa

        if pa.types.is_floating(column.type):
            return np.asarray(column.to_numpy())
        cells = [None if c is None else c.decode("utf-8", "replace") if isinstance(c, bytes) else c for c in
                 column.to_pylist()]  # fmt: skip
        if k in self.words:
            return np.array(["" if c is None else c for c in cells], dtype=np.str_)
        values = np.full(len(cells), np.nan)
        for row, cell in enumerate(cells):
            if cell is not None:
                try:
                    values[row] = _number(cell, self.layout.comma)
                except ValueError:
                    self.unreadable += 1
        return values

    def _stamps(self, column: Any) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        import pyarrow as pa

        from avfuse.io.sensors.written_times import dates_written, numbers_written

        assert self.time is not None
        text = column.cast(pa.string(), safe=False) if not pa.types.is_string(column.type) else column
        if self.time.unit == "date":
            stamps, valid, naive = dates_written(text)
            self.naive = self.naive or naive
            return stamps, valid
        return numbers_written(text, self.time.unit, "," if self.layout.comma else ".")


def _number(cell: str, comma: bool) -> float:
    """Raises ValueError for what is none; where commas are decimal, points may separate thousands and are none."""
    if comma:
        if "." in cell:
            raise ValueError(cell)
        cell = cell.replace(",", ".")
    return float(cell)


def _shown(column: Any, rows: NDArray[np.int64]) -> str:
    """The first cell that holds anything, shortened."""
    for row in rows[:100]:
        cell = column[int(row)].as_py()
        if cell:
            return str(cell.decode("utf-8", "replace") if isinstance(cell, bytes) else cell)[:40]
    return ""


def _as_utf8(block: bytes) -> bytes:
    """The block itself, or read as Latin-1 where it is no UTF-8: pyarrow hands every text on as UTF-8."""
    if block.isascii():
        return block
    try:
        block.decode()
    except UnicodeDecodeError:
        return block.decode("latin-1").encode()
    return block


def _is_void(cells: Sequence[str]) -> bool:
    return all(cell in ABSENT for cell in cells)


def _text(path: str) -> Any:
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if packed else open(path, "rb")


def _filled(file: BufferedReader | gzip.GzipFile, size: int) -> bytes:
    """`size` bytes or what there is, also of a gzip that ends early: read1 gives what comes before its end."""
    parts = []
    try:
        while size > 0 and (part := file.read1(min(size, 1 << 16))):
            parts.append(part)
            size -= len(part)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        pass  # told where the rest is read
    return b"".join(parts)


def _blocks(file: BufferedReader | gzip.GzipFile, first: bytes, path: str, odd: list[str]) -> Iterator[bytes]:
    """Whole lines, about `_BLOCK` bytes at a time."""
    rest = first
    read: Callable[[], bytes] = lambda: file.read(_BLOCK)  # noqa: E731
    if isinstance(file, gzip.GzipFile):
        read = lambda: _unpacked(file, path, odd)  # noqa: E731
    while True:
        part = read()
        if not part:
            break
        cut = part.rfind(b"\n") + 1
        if cut == 0:
            rest += part
            continue
        yield rest + part[:cut]
        rest = part[cut:]
    if _CUT in odd:
        rest = rest[: rest.rfind(b"\n") + 1]  # the last line may end within a number
    if rest.strip():
        yield rest if rest.endswith(b"\n") else rest + b"\n"


def _unpacked(file: gzip.GzipFile, path: str, odd: list[str]) -> bytes:
    parts, size = [], 0
    try:
        while size < _BLOCK and (part := file.read1(1 << 20)):
            parts.append(part)
            size += len(part)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        told = _CUT
        if not isinstance(error, EOFError):
            told = "its gzip data is damaged; what comes before was read"
        if told not in odd:
            odd.append(told)
    return b"".join(parts)
