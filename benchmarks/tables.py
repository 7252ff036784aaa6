"""Goals that are met or missed, and pages of tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from avfuse.reporting.tables import Table


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
