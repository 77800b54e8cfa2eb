"""Charts as inline SVG, without scripts or outside files. Pure: numbers in, text out. Colours are CSS classes."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 640, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 14, 12, 34


@dataclass(frozen=True, slots=True)
class Line:
    """One curve: its name, its points in growing x, and the number of its colour."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: int = 0


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar with what is written at its end."""

    name: str
    value: float
    text: str
    colour: int = 0


def nice_step(span: float, steps: int = 4) -> float:
    """The smallest 1, 2 or 5 times a power of ten that divides the span into at most this many steps."""
    if span <= 0:
        return 1.0
    raw = span / steps
    power = 10.0 ** math.floor(math.log10(raw))
    return next((factor * power for factor in (1, 2, 5) if factor * power >= raw - 1e-12), 10 * power)


def number(value: float) -> str:
    """An axis label."""
    if value >= 1e6:
        return f"{value / 1e6:g}M"
    if value >= 1e4:
        return f"{value / 1e3:g}k"
    return f"{value:g}" if value < 1000 else f"{value:,.0f}"


def linear_ticks(top: float) -> list[float]:
    """Marks from 0 to at least `top`."""
    step = nice_step(top)
    return [i * step for i in range(math.ceil(top / step - 1e-9) + 1)] if top > 0 else [0.0, 1.0]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten around the values."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    return [10.0**power for power in range(first, max(first + 1, last) + 1)]


def lines(
    curves: Sequence[Line],
    *,
    x_label: str,
    y_label: str,
    log_y: bool = False,
    x_ticks: Sequence[tuple[float, str]] | None = None,
    mark: tuple[float, float, str] | None = None,
) -> str:
    """A line chart with its legend. `x_ticks` replaces the even ones; `mark` shades a range of x and names it."""
    points = [point for curve in curves for point in curve.points if not log_y or point[1] > 0]
    if not points:
        return ""
    x_low, x_high = min(x for x, _ in points), max(x for x, _ in points)
    x_high = x_high if x_high > x_low else x_low + 1
    ys = [y for _, y in points]
    y_ticks = log_ticks(min(ys), max(ys)) if log_y else linear_ticks(max(ys))
    along = _scale(x_low, x_high, _LEFT, WIDTH - _RIGHT)
    up = _log_scale(y_ticks[0], y_ticks[-1]) if log_y else _scale(0, y_ticks[-1], HEIGHT - _BOTTOM, _TOP)
    out = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{html.escape(y_label)} over {html.escape(x_label)}">'
    ]
    if mark is not None:
        a, b = along(max(mark[0], x_low)), along(min(mark[1], x_high))
        out.append(
            f'<rect class="mark" x="{a:.1f}" y="{_TOP}" width="{max(0, b - a):.1f}" '
            f'height="{HEIGHT - _TOP - _BOTTOM}"/>'
        )
        out.append(
            f'<text class="tick" x="{(a + b) / 2:.1f}" y="{_TOP + 11}" '
            f'text-anchor="middle">{html.escape(mark[2])}</text>'
        )
    for tick in y_ticks:
        y = up(tick)
        out.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        out.append(f'<text class="tick" x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{number(tick)}</text>')
    if x_ticks is None:
        step = nice_step(x_high - x_low, 8)
        first = math.ceil(x_low / step)
        x_ticks = [(i * step, number(i * step)) for i in range(first, math.floor(x_high / step + 1e-9) + 1)]
    for at, text in x_ticks:
        if x_low <= at <= x_high:
            out.append(
                f'<text class="tick" x="{along(at):.1f}" y="{HEIGHT - _BOTTOM + 15}" '
                f'text-anchor="middle">{html.escape(text)}</text>'
            )
    out.append(
        f'<text class="axis" x="{WIDTH - _RIGHT}" y="{HEIGHT - 3}" text-anchor="end">{html.escape(x_label)}</text>'
    )
    for curve in curves:
        kept = [(x, y) for x, y in curve.points if not log_y or y > 0]
        path = " ".join(f"{along(x):.1f},{up(y):.1f}" for x, y in kept)
        out.append(
            f'<polyline class="line c{curve.colour % 6}" points="{path}">'
            f"<title>{html.escape(curve.name)}</title></polyline>"
        )
        if len(kept) == 1:
            out.append(
                f'<circle class="dot c{curve.colour % 6}" r="3" '
                f'cx="{along(kept[0][0]):.1f}" cy="{up(kept[0][1]):.1f}"/>'
            )
    out.append("</svg>")
    key = "".join(f'<span><i class="c{curve.colour % 6}"></i>{html.escape(curve.name)}</span>' for curve in curves)
    return f'<figure><figcaption>{html.escape(y_label)}</figcaption>{"".join(out)}<p class="key">{key}</p></figure>'


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    return lambda value: start + (value - low) / (high - low) * (end - start)


def _log_scale(low: float, high: float) -> Callable[[float], float]:
    plain = _scale(math.log10(low), math.log10(high), HEIGHT - _BOTTOM, _TOP)
    return lambda value: plain(math.log10(value))


def bars(rows: Sequence[tuple[str, Sequence[Bar]]], title: str) -> str:
    """Groups of horizontal bars, all to one scale; a group's name stands above its bars."""
    top = max((bar.value for _, group in rows for bar in group), default=0)
    if top <= 0:
        return ""
    thick, gap, head, left, right = 15, 3, 17, 112, 96
    height = sum(head + len(group) * (thick + gap) + 8 for _, group in rows)
    width = WIDTH - left - right
    out = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{html.escape(title)}">']
    y = 0.0
    for name, group in rows:
        out.append(f'<text class="group" x="0" y="{y + 12:.0f}">{html.escape(name)}</text>')
        y += head
        for bar in group:
            long = max(1.0, bar.value / top * width)
            out.append(
                f'<text class="tick" x="{left - 6}" y="{y + 12:.0f}" text-anchor="end">{html.escape(bar.name)}</text>'
            )
            out.append(
                f'<rect class="bar c{bar.colour % 6}" x="{left}" y="{y:.0f}" width="{long:.1f}" height="{thick}"/>'
            )
            out.append(f'<text class="value" x="{left + long + 5:.1f}" y="{y + 12:.0f}">{html.escape(bar.text)}</text>')
            y += thick + gap
        y += 8
    out.append("</svg>")
    return f"<figure><figcaption>{html.escape(title)}</figcaption>{''.join(out)}</figure>"
