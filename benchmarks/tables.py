"""Tables for the terminal and for the documentation, and goals that are met or missed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Table:
    """Rows of text under a title; `note` says what a reader has to know to read it."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]] = ()
    note: str = ""

    def markdown(self) -> str:
        lines = [f"**{self.title}**", ""] if self.title else []
        lines += ["| " + " | ".join(self.columns) + " |", "|" + "---|" * len(self.columns)]
        lines += ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in self.rows]
        return "\n".join(lines + (["", self.note] if self.note else []))

    def text(self) -> str:
        cells = [[str(c) for c in self.columns], *[[str(c) for c in row] for row in self.rows]]
        widths = [max(len(row[k]) for row in cells) for k in range(len(self.columns))]
        body = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells]
        body.insert(1, "  ".join("-" * w for w in widths))
        return "\n".join([self.title, *body, *([self.note] if self.note else [])])


@dataclass
class Goals:
    """What was asked for, what was measured, and whether that is met."""

    rows: list[tuple[str, str, str]] = field(default_factory=list)
    met: bool = True

    def add(self, goal: str, figure: str, met: bool) -> None:
        self.rows.append((goal, figure, "met" if met else "MISSED"))
        self.met = self.met and met

    def table(self) -> Table:
        return Table("Goals", ("goal", "measured", ""), list(self.rows))


def show(tables: Sequence[Table], page: Path, section: str, preface: str = "") -> None:
    """Print the tables, and put them between the markers of `section` on a page (added at its end if absent)."""
    for table in tables:
        print("\n" + table.text(), flush=True)
    body = "\n\n".join(filter(None, [preface, *(t.markdown() for t in tables)]))
    first, last = f"<!-- benchmarks {section} -->", f"<!-- end of benchmarks {section} -->"
    old = page.read_text(encoding="utf-8") if page.exists() else ""
    if first in old and last in old:
        before, rest = old.split(first, 1)
        new = f"{before}{first}\n{body}\n{last}{rest.split(last, 1)[1]}"
    else:
        new = f"{old.rstrip()}\n\n{first}\n{body}\n{last}\n".lstrip()
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(new, encoding="utf-8")


def milliseconds(seconds: float) -> str:
    """Seconds as ms with three figures, or a dash where there is no number."""
    if not math.isfinite(seconds):
        return "–"
    value = abs(seconds) * 1e3
    return f"{value:.4f}" if value < 0.1 else f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.0f} %" if whole else "–"
