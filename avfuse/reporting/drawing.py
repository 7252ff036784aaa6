"""The figures of the page as inline SVG: colours from the page's style sheet, every text escaped.

Figures carry a title and a description for screen readers; the page says the same in words beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from avfuse.alignment import ClockEstimate
from avfuse.reporting.panels import tick_step
from avfuse.reporting.text import format_clock
from avfuse.reporting.words import Break
from avfuse.temporal.residual import CLEAR, Residual

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

_WIDTH, _HEIGHT = 420, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 14, 40
_LABELS = 6  # breaks that are named in a figure; more would cover each other


@dataclass(frozen=True)
class Frame:
    """Axes of one figure: data (x, y) to places in the SVG."""

    x: tuple[float, float]
    y: tuple[float, float]

    def across(self, x: float) -> float:
        return _LEFT + (x - self.x[0]) / (self.x[1] - self.x[0]) * (_WIDTH - _LEFT - _RIGHT)

    def up(self, y: float) -> float:
        return _HEIGHT - _BOTTOM - (y - self.y[0]) / (self.y[1] - self.y[0]) * (_HEIGHT - _TOP - _BOTTOM)

    def line(self, xs: NDArray[np.floating], ys: NDArray[np.floating], kind: str) -> Markup:
        points = "L".join(f"{self.across(float(x)):.1f} {self.up(float(y)):.1f}" for x, y in zip(xs, ys, strict=True))
        return Markup('<path class="{}" d="M{}"/>').format(kind, points)

    def box(self, x: tuple[float, float], y: tuple[float, float], kind: str) -> Markup:
        left, right = (min(max(self.across(v), _LEFT), _WIDTH - _RIGHT) for v in x)
        low, high = (min(max(self.up(v), _TOP), _HEIGHT - _BOTTOM) for v in y)
        return Markup('<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>').format(
            kind, left, high, max(right - left, 0.8), max(low - high, 0.8)
        )

    def upright(self, x: float, kind: str) -> Markup:
        return Markup('<path class="{}" d="M{:.1f} {}V{}"/>').format(kind, self.across(x), _TOP, _HEIGHT - _BOTTOM)

    def axes(self, x_title: str, y_title: str, x_ticks: Sequence[tuple[float, str]], y_format: str) -> Markup:
        parts = []
        step = _nice(self.y[1] - self.y[0])
        for k in range(round(np.ceil(self.y[0] / step - 1e-9)), int(np.floor(self.y[1] / step + 1e-9)) + 1):
            at = self.up(k * step)
            parts.append(Markup('<path class="grid" d="M{} {:.1f}H{}"/>').format(_LEFT, at, _WIDTH - _RIGHT))
            text = format(k * step + 0.0, y_format).replace("-", "−")
            parts.append(Markup('<text x="{}" y="{:.1f}" class="end">{}</text>').format(_LEFT - 6, at + 4, text))
        for value, text in x_ticks:
            at = self.across(value)
            parts.append(Markup('<path class="grid" d="M{:.1f} {}v4"/>').format(at, _HEIGHT - _BOTTOM))
            parts.append(
                Markup('<text x="{:.1f}" y="{}" class="mid">{}</text>').format(at, _HEIGHT - _BOTTOM + 16, text)
            )
        middle = (_LEFT + _WIDTH - _RIGHT) / 2
        parts.append(Markup('<text x="{}" y="{}" class="mid">{}</text>').format(middle, _HEIGHT - 6, x_title))
        upright = (_TOP + _HEIGHT - _BOTTOM) / 2
        parts.append(
            Markup('<text transform="translate(12 {}) rotate(-90)" class="mid">{}</text>').format(upright, y_title)
        )
        return Markup("").join(parts)


def _nice(length: float) -> float:
    """A step of 1, 2 or 5 times a power of ten: four or so in `length`."""
    power = 10.0 ** np.floor(np.log10(length / 4))
    return float(next(m * power for m in (1, 2, 5, 10) if length / (m * power) <= 5))


def figure(key: str, title: str, text: str, *parts: Markup) -> Markup:
    return Markup(
        '<svg viewBox="0 0 {w} {h}" role="img" aria-labelledby="{k}-t {k}-d"><title id="{k}-t">{t}</title>'
        '<desc id="{k}-d">{d}</desc>{body}</svg>'
    ).format(w=_WIDTH, h=_HEIGHT, k=key, t=title, d=text, body=Markup("").join(parts))


def draw_correlation(residual: Residual, key: str, title: str, text: str) -> Markup:
    """How well the sounds agree over lag: the peak, its runner-up, and what unrelated sound reaches."""
    lags, values = _thinned(residual.lags * 1e3, residual.correlation)
    top = max(1.15 * float(np.abs(values).max()), 2.0)
    reach = float(residual.lags[-1]) * 1e3
    frame = Frame((-reach, reach), (min(-0.05 * top, 1.3 * float(values.min())), top))
    ticks = [(float(v), f"{v:+d}".replace("-", "−") if v else "0") for v in (-40, -20, 0, 20, 40)]
    marks = []
    for peak, kind, word in ((residual.peak, "peak", "peak"), (residual.runner_up, "second", "runner-up")):
        height = float(residual.correlation[int(np.argmin(np.abs(residual.lags - peak.lag)))])
        x, y = frame.across(peak.lag * 1e3), frame.up(height)
        side = -1 if (x > _WIDTH * 0.75 or (kind == "second" and peak.lag < residual.peak.lag)) else 1
        marks.append(
            Markup(
                '<circle class="{k}" cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>'
                '<text class="{a} strong" x="{tx:.1f}" y="{ty:.1f}">{w}</text>'
            ).format(
                k=kind, x=x, y=y, a="end" if side < 0 else "start", tx=x + 9 * side, ty=y + 4,
                w=word,
            )
        )  # fmt: skip
    return figure(
        key,
        title,
        text,
        frame.box((-reach, reach), (max(-1.0, frame.y[0]), 1.0), "chance"),
        frame.axes("lag from what is stated [ms]", "agreement", ticks, "g"),
        frame.upright(0.0, "stated"),
        frame.line(lags, values, "curve"),
        *marks,
    )


def _thinned(xs: F64, ys: F64, columns: int = 360) -> tuple[F64, F64]:
    """The value farthest from zero of each column: no peak is lost."""
    edges = np.linspace(0, len(xs), columns + 1).astype(int)
    best = [a + int(np.argmax(np.abs(ys[a:b]))) for a, b in pairwise(edges)]
    return xs[best], ys[best]


def draw_residual(
    residual: Residual, estimate: ClockEstimate, lasts: float, breaks: Sequence[Break], key: str, title: str, text: str
) -> Markup:
    """The lag that is left over time, with the interval of two standard deviations that is stated."""
    grid = np.linspace(0.0, lasts, 41)
    band = 2 * np.nan_to_num(estimate.std_at(grid))
    found = residual.residuals[residual.clear]
    farthest = float(np.abs(found).max(initial=0.0))
    # All of a wide band would leave nothing to see of the dots: it may reach beyond the figure.
    wide = 1.5 * float(np.median(band))
    limit = max(1.25 * farthest, min(wide, 8 * farthest) if farthest else wide, 2e-5)
    scale, unit = (1e6, "µs") if limit < 5e-4 else (1e3, "ms")
    frame = Frame((0.0, lasts), (-limit * scale, limit * scale * (1.6 if breaks else 1.0)))  # room for labels
    inside = np.clip(band, 0, limit) * scale
    outline = np.concatenate([grid, grid[::-1]]), np.concatenate([inside, -inside[::-1]])
    return figure(
        key,
        title,
        text,
        frame.axes("time of this recording" + _unit(lasts), f"residual [{unit}]", _time_ticks(lasts), "g"),
        *_broken(frame, breaks),
        frame.line(*outline, "band"),
        frame.line(np.array([0.0, lasts]), np.zeros(2), "stated"),
        *_dots(frame, residual, residual.residuals * scale),
    )


def draw_drift(
    residual: Residual | None,
    estimate: ClockEstimate,
    lasts: float,
    breaks: Sequence[Break],
    key: str,
    title: str,
    text: str,
) -> Markup:
    """How far the clock has run off since its start, jumps taken out and marked."""
    knots, heights = [0.0], [0.0]
    segments = estimate.segments
    for k, segment in enumerate(segments):
        low = 0.0 if k == 0 else segment.start
        high = lasts if k == len(segments) - 1 else segment.end
        knots += [low, high]
        heights += [heights[-1], heights[-1] + segment.drift * (high - low)]
    xs, ys = np.array(knots), np.array(heights)
    dots = np.full(0, np.nan)
    if residual is not None:
        dots = np.interp(residual.times, xs, ys) + residual.residuals
    every = np.concatenate([ys, dots[np.isfinite(dots)]])
    low, high = float(every.min()), float(every.max())
    margin = max(0.12 * (high - low), 2e-5)
    scale, unit = (1e6, "µs") if high - low < 5e-4 else ((1e3, "ms") if high - low < 2 else (1.0, "s"))
    above = margin + (0.4 * (high - low) if breaks else 0.0)  # room for labels
    frame = Frame((0.0, lasts), ((low - margin) * scale, (high + above) * scale))
    return figure(
        key,
        title,
        text,
        frame.axes("time of this recording" + _unit(lasts), f"drifted [{unit}]", _time_ticks(lasts), "g"),
        *_broken(frame, breaks),
        frame.line(xs, ys * scale, "curve"),
        *(_dots(frame, residual, dots * scale) if residual is not None else ()),
    )


def _dots(frame: Frame, residual: Residual, values: F64) -> list[Markup]:
    """Clear windows, the stronger the fuller; the others as ticks along the foot."""
    parts = []
    for time, value, strength in zip(residual.times, values, residual.strengths, strict=True):
        x = frame.across(float(time))
        if np.isfinite(value):
            full = 0.45 + 0.55 * min(float(strength) / (4 * CLEAR), 1.0)
            parts.append(
                Markup('<circle class="dot" cx="{:.1f}" cy="{:.1f}" r="3.6" opacity="{:.2f}"/>').format(
                    x, frame.up(float(value)), full
                )
            )
        else:
            foot = _HEIGHT - _BOTTOM
            parts.append(Markup('<path class="weak" d="M{:.1f} {}v-6"/>').format(x, foot))
    return parts


def _broken(frame: Frame, breaks: Sequence[Break]) -> list[Markup]:
    parts = []
    for k, one in enumerate(breaks):
        if one.inserted > 0:
            parts.append(frame.box((one.time, one.time + one.inserted), frame.y, "hole"))
        parts.append(frame.upright(one.time, "break"))
        if len(breaks) > _LABELS:
            continue
        x = frame.across(one.time)
        side = "end" if x > _WIDTH * 0.6 else "start"
        parts.append(
            Markup('<text class="{} strong" x="{:.1f}" y="{}">{}</text>').format(
                side, x + (-5 if side == "end" else 5), _TOP + 11 + 15 * (k % 3), one.label
            )
        )
    return parts


def _time_ticks(lasts: float) -> list[tuple[float, str]]:
    step = tick_step(1.8 * lasts)  # five at most: figures are narrow
    count = int(lasts / step + 1e-9) + 1
    return [(k * step, format_clock(k * step) if lasts > 120 else f"{k * step:g}") for k in range(count)]


def _unit(lasts: float) -> str:
    return (" [min:s]" if lasts < 3600 else " [h:min:s]") if lasts > 120 else " [s]"


def draw_strips(strips: F32, names: tuple[str, str], label: str) -> Markup:
    """The waveforms of a snippet above each other, the reference on top."""
    columns = strips.shape[1]
    parts = []
    for row, strip in enumerate(strips):
        middle = 24 + 50 * row
        top = "L".join(f"{k} {middle - 20 * float(v):.1f}" for k, v in enumerate(strip))
        foot = "L".join(f"{k} {middle + 20 * float(v):.1f}" for k, v in reversed(list(enumerate(strip))))
        parts.append(Markup('<path class="wave ear{}" d="M{}L{}Z"/>').format(row, top, foot))
    return Markup(
        '<svg class="strips" viewBox="0 0 {w} 98" preserveAspectRatio="none" role="img" aria-label="{a}">{b}'
        '<path class="head" data-width="{w}" d="M0 0V98"/></svg>'
    ).format(w=columns, a=f"{label}: waveforms of {names[0]}, above, and {names[1]}, below", b=Markup("").join(parts))


def draw_levels(levels: F32) -> Markup:
    """Loudness inside a bar of the timeline, stretched to its width."""
    if len(levels) < 2:
        return Markup("")
    top = "L".join(f"{k} {50 - 44 * float(v):.0f}" for k, v in enumerate(levels))
    foot = "L".join(f"{k} {50 + 44 * float(v):.0f}" for k, v in reversed(list(enumerate(levels))))
    return Markup(
        '<svg viewBox="0 0 {} 100" preserveAspectRatio="none" aria-hidden="true"><path d="M{}L{}Z"/></svg>'
    ).format(len(levels) - 1, top, foot)
