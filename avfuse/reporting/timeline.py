"""The picture of a timeline: a bar per recording on the reference's clock.

cam-a     ████████████████████████████████          reference
cam-b          ██████████████████████████           +4.831 s ± 0.04 ms
jingle       ░░░░░░      ░░░░░░                     two answers fit
───────────────────────────────────────────
far       ██████████                                an island: a clock of its own
silence   ▒▒▒▒▒▒▒▒                                  degenerate: is silent
"""

from __future__ import annotations

import os
import textwrap
import warnings
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MultipleLocator

from avfuse.alignment import Alignment
from avfuse.errors import WriteError
from avfuse.files import check_spares, replacing
from avfuse.reporting.panels import Bar, Panel, Row, panels_of, tick_step
from avfuse.reporting.text import format_clock

FORMATS = (".png", ".svg", ".pdf")
_INK, _FAINT, _GRID = "#1f2933", "#68737d", "#e3e7eb"
_FILLS = {"reference": "#2f5d8c", "aligned": "#3f9c86", "ambiguous": "#e0a33e", "refused": "#c9cfd4"}
_TEXTS = {"reference": "#2f5d8c", "aligned": "#24725f", "ambiguous": "#966312", "refused": "#68737d"}
# Matplotlib's own font lacks the scripts of half the world; whichever of these is installed fills in.
_FONTS = (
    "DejaVu Sans", "Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans", "Noto Sans Arabic", "Noto Sans Devanagari",
    "WenQuanYi Zen Hei", "Droid Sans Fallback", "Hiragino Sans", "PingFang SC", "Microsoft YaHei", "Malgun Gothic",
    "Arial Unicode MS", "Unifont",
)  # fmt: skip
_ROW, _BAR = 0.52, 0.56  # inches per row; share of a row that the bar fills
_NAME, _NOTE = 28, 46  # characters


def draw_timeline(alignment: Alignment, path: str | os.PathLike[str]) -> Path:
    """Write the picture of `alignment` as PNG, SVG or PDF, by the suffix of `path`.

    Recordings that share no clock with the reference are drawn below it: islands on clocks of their own, refusals
    in grey with their reason. Raises WriteError for other suffixes and places that cannot be written to.
    """
    check_picture(path)
    check_spares(path, alignment.sources)
    panels = panels_of(alignment)
    families = {font.name for font in font_manager.fontManager.ttflist}
    style: Any = {
        "font.family": [name for name in _FONTS if name in families] or ["sans-serif"],
        "font.size": 9.0,
        "svg.fonttype": "none",
        "svg.hashsalt": "avfuse",
    }
    with matplotlib.rc_context(style), warnings.catch_warnings():
        # A script that no installed font has is drawn as boxes; that is no fault of the caller's.
        warnings.filterwarnings("ignore", message="Glyph")
        figure = _figure(panels)
        suffix = Path(path).suffix.lower()
        # No date inside: equal alignments give equal files.
        undated: dict[str, Any] = {".png": {}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}[suffix]
        with replacing(path) as temporary:
            figure.savefig(temporary, format=suffix[1:], dpi=150, facecolor="white", metadata=undated)
    return Path(path)


def check_picture(path: str | os.PathLike[str]) -> None:
    """Raise WriteError where `path` names no kind of picture that can be drawn."""
    if Path(path).suffix.lower() not in FORMATS:
        raise WriteError(f"{path}: unknown kind of picture; expected a name that ends in {', '.join(FORMATS)}")


def _drawable(name: str) -> str:
    """Names of files may be no UTF-8; fonts have nothing for what is left of them."""
    return name.encode("utf-8", "replace").decode()


def _figure(panels: list[Panel]) -> Figure:
    rows = [row for panel in panels for row in panel.rows]
    left = 0.35 + 0.075 * min(max(len(row.name) for row in rows), _NAME)  # inches for the names
    # Inches for the notes, at the widths of an average character of both sizes.
    titles, details = max(len(row.title) for row in rows), max(len(row.detail) for row in rows)
    right = 0.4 + max(0.087 * titles, 0.062 * min(details, _NOTE))
    width, top, between = 11.0, 0.25, 0.85
    heights = [_ROW * len(panel.rows) for panel in panels]
    height = top + sum(heights) + between * (len(panels) - 1) + 0.65
    figure = Figure(figsize=(width, height))
    above = height - top
    for panel, tall in zip(panels, heights, strict=True):
        box = (left / width, (above - tall) / height, (width - left - right) / width, tall / height)
        _draw_panel(figure.add_axes(box), _drawable(panel.title), panel.rows)
        above -= tall + between
    return figure


def _draw_panel(axes: Any, title: str, rows: tuple[Row, ...]) -> None:
    for y, row in enumerate(rows):
        for n, bar in enumerate(row.bars):
            _draw_bar(axes, y, bar, row.kind, outline=row.kind == "ambiguous" and n > 0)
        _draw_note(axes, y, row)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks(range(len(rows)), [_shortened(_drawable(row.name)) for row in rows])
    for label in axes.get_yticklabels():
        label.set(parse_math=False, color=_INK, fontsize=10)
    _draw_time_axis(axes, title, rows)


def _draw_bar(axes: Any, y: int, bar: Bar, kind: str, *, outline: bool) -> None:
    """outline: a further answer of an ambiguous recording; only the best one is filled."""
    edge = {"ambiguous": _FILLS["ambiguous"], "refused": "#98a1a9"}.get(kind, "none")
    axes.barh(
        y,
        bar.last - bar.first,
        left=bar.first,
        height=_BAR,
        color="none" if outline else _FILLS[kind],
        edgecolor=edge,
        linestyle="--" if outline else "-",
        linewidth=1.2 if kind == "ambiguous" else 0.0,
        hatch="////" if kind == "refused" else None,
        zorder=2,
    )


def _draw_note(axes: Any, y: int, row: Row) -> None:
    """What is known of the recording, at the right of its bar."""
    lines = textwrap.wrap(row.detail, _NOTE, max_lines=2, placeholder=" …")
    place = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "annotation_clip": False}
    above = {0: -4, 1: 3, 2: 7}[len(lines)]  # points from the middle of the bar to the foot of the title
    axes.annotate(
        row.title,
        (1, y),
        (14, above),
        va="bottom",
        color=_TEXTS[row.kind],
        fontweight="bold",
        parse_math=False,
        **place,
    )
    axes.annotate(
        "\n".join(lines), (1, y), (14, above - 4), va="top", color=_FAINT, fontsize=8, parse_math=False,
        linespacing=1.15, **place,
    )  # fmt: skip


def _draw_time_axis(axes: Any, title: str, rows: tuple[Row, ...]) -> None:
    first = min(bar.first for row in rows for bar in row.bars)
    last = max(bar.last for row in rows for bar in row.bars)
    length = max(last - first, 1e-3)
    axes.set_xlim(first - 0.01 * length, last + 0.01 * length)
    step = tick_step(length)
    axes.xaxis.set_major_locator(MultipleLocator(step))
    unit = "s"
    if length > 120:
        axes.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: format_clock(seconds)))
        unit = "min:s" if max(abs(first), abs(last)) < 3600 else "h:min:s"
    axes.set_xlabel(f"{title} [{unit}]", color=_FAINT, fontsize=8.5, parse_math=False)
    axes.tick_params(axis="x", colors=_FAINT, length=0, labelsize=8.5)
    axes.tick_params(axis="y", length=0, pad=8)
    axes.grid(axis="x", color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "left", "right"]].set_visible(False)
    axes.spines["bottom"].set_color("#b8c0c7")


def _shortened(name: str) -> str:
    """Both ends of a long name: cameras number their files at the end."""
    return name if len(name) <= _NAME else f"{name[: _NAME - 13]}…{name[-12:]}"
