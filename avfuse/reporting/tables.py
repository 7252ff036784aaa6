"""Tables of text, for the terminal, for Markdown and for HTML."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True)
class Table:
    """Rows under a title; `note` says what a reader has to know to read it."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]] = ()
    note: str = ""

    @property
    def cells(self) -> list[list[str]]:
        return [[str(cell) for cell in row] for row in self.rows]

    def markdown(self) -> str:
        def line(cells: Sequence[str]) -> str:
            return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

        lines = [f"**{self.title}**", ""] if self.title else []
        lines += [line(self.columns), "|" + "---|" * len(self.columns), *map(line, self.cells)]
        return "\n".join(lines + (["", self.note] if self.note else []))

    def text(self) -> str:
        """Plain, one line per row."""
        cells = [list(self.columns), *self.cells]
        widths = [max(len(row[k]) for row in cells) for k in range(len(self.columns))]
        body = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells]
        body.insert(1, "  ".join("-" * w for w in widths))
        return "\n".join([self.title, *body, *([self.note] if self.note else [])])

    def styled(self) -> list[RenderableType]:
        """Parts for `avfuse.reporting.text.show`."""
        from rich import box
        from rich.markup import escape
        from rich.table import Table as Styled

        table = Styled(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        for column in self.columns:
            table.add_column(escape(column), overflow="fold")
        for row in self.cells:
            table.add_row(*map(escape, row))
        return [f"[bold]{escape(self.title)}[/]", table, *([f"[dim]{escape(self.note)}[/]"] if self.note else []), ""]


def milliseconds(seconds: float) -> str:
    """Size of a time as ms with three figures, or a dash where there is no number."""
    if not math.isfinite(seconds):
        return "–"
    value = abs(seconds) * 1e3
    return f"{value:.4f}" if value < 0.1 else f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.0f} %" if whole and math.isfinite(part) else "–"


def tenths(part: float, whole: float) -> str:
    """A share to a tenth of a per cent."""
    return f"{100 * part / whole:.1f} %" if whole and math.isfinite(part) else "–"
