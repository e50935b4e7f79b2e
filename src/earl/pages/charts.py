"""Line and area charts as SVG text: axes with round ticks, a legend, values under the pointer.

Colours are CSS variables (`--c0` …) of the page, so that it can have a dark side.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

Point = tuple[float, float]
WIDTH, HEIGHT = 560, 230
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 10, 26
SMOOTHED_FROM = 40  # points; shorter lines are drawn as they are
MOST_POINTS = 600  # of one drawn line


@dataclass(frozen=True)
class Series:
    """One line: (step, value), steps ascending. `colour` counts into the page's palette."""

    name: str
    points: Sequence[Point]
    colour: int
    dashed: bool = False
    marked: bool = False  # a dot at each point, for lines of few points


@dataclass(frozen=True)
class Chart:
    """What is drawn, and a sentence of how to read it."""

    title: str
    note: str
    series: Sequence[Series]
    least: float | None = None  # the value axis reaches at least from here
    most: float | None = None  # … to here
    exact: bool = False  # no moving mean: the numbers have no noise


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers within [low, high], `about` many; low < high."""
    raw = (high - low) / about
    scale = 10.0 ** math.floor(math.log10(raw))
    step = next(scale * factor for factor in (1, 2, 2.5, 5, 10) if scale * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(index * step, 12) for index in range(first, math.floor(high / step + 1e-9) + 1)]


def smooth(points: Sequence[Point], window: int) -> list[Point]:
    """The centred mean over `window` points; nearer to the ends than that, the straight line through the
    first or last `window` of them, within their bounds: a mean of the few that are left would end in one."""
    values = [value for _, value in points]
    sums = [0.0]
    for value in values:
        sums.append(sums[-1] + value)
    last, half = len(points) - 1, window // 2
    head, tail = values[: 2 * half + 1], values[-2 * half - 1 :]
    first_line, last_line = _line(head), _line(tail)
    found = []
    for index, (x, _) in enumerate(points):
        if index < half:
            value = first_line[0] + first_line[1] * index
            value = min(max(value, min(head)), max(head))
        elif index > last - half:
            value = last_line[0] + last_line[1] * (index - max(0, last - 2 * half))
            value = min(max(value, min(tail)), max(tail))
        else:
            value = (sums[index + half + 1] - sums[index - half]) / (2 * half + 1)
        found.append((x, value))
    return found


def _line(values: Sequence[float]) -> tuple[float, float]:
    """Start and slope of the line of least squares through values at 0, 1, 2, …"""
    mean, middle = sum(values) / len(values), (len(values) - 1) / 2
    spread = sum((at - middle) ** 2 for at in range(len(values)))
    slope = sum((at - middle) * value for at, value in enumerate(values)) / spread if spread else 0.0
    return mean - slope * middle, slope


def line_chart(chart: Chart) -> str:
    """The chart as SVG. Lines of many points are drawn faint, with their moving mean on top."""
    drawn = [series for series in chart.series if series.points]
    xs = [x for series in drawn for x, _ in series.points]
    frame = _Frame.around(xs, [y for series in drawn for _, y in series.points], chart.least, chart.most)
    parts = [frame.axes()]
    for series in drawn:
        colour = f"var(--c{series.colour % 8})"
        dash = ' stroke-dasharray="5 3"' if series.dashed else ""
        points = series.points
        if len(points) >= SMOOTHED_FROM and not series.marked and not chart.exact:
            parts.append(
                f'<path d="{frame.path(thinned(points))}" stroke="{colour}" stroke-width="1" opacity="0.28"/>'
            )
            points = smooth(points, max(5, len(points) // 20))
        parts.append(f'<path d="{frame.path(thinned(points))}" stroke="{colour}" stroke-width="1.8"{dash}/>')
        if series.marked or len(points) == 1:
            parts += [
                f'<circle cx="{frame.x(x):.1f}" cy="{frame.y(y):.1f}" r="2.6" fill="{colour}" stroke="none"/>'
                for x, y in points
            ]
    data = [[s.name, s.colour % 8, [[x, _digits(y)] for x, y in thinned(s.points)]] for s in drawn]
    return frame.svg(parts, chart.title, data)


def area_chart(chart: Chart) -> str:
    """The series on top of each other; all have the same steps."""
    xs = [x for x, _ in chart.series[0].points]
    totals = [sum(series.points[i][1] for series in chart.series) for i in range(len(xs))]
    frame = _Frame.around(xs, totals, 0.0, None)
    parts, below = [], [0.0] * len(xs)
    for series in chart.series:
        above = [low + value for low, (_, value) in zip(below, series.points, strict=True)]
        forth = [f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in zip(xs, above, strict=True)]
        back = [f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in zip(xs, below, strict=True)][::-1]
        outline = " ".join(forth + back)
        parts.append(
            f'<polygon points="{outline}" fill="var(--c{series.colour % 8})" opacity="0.75" stroke="none"/>'
        )
        below = above
    data = [[s.name, s.colour % 8, [[x, _digits(y)] for x, y in s.points]] for s in chart.series]
    return frame.svg([frame.axes(), *parts], chart.title, data)


def thinned(points: Sequence[Point], most: int = MOST_POINTS) -> Sequence[Point]:
    """At most so many of the points, evenly, the first and the last among them."""
    if len(points) <= most:
        return points
    return [points[round(index * (len(points) - 1) / (most - 1))] for index in range(most)]


def axis_numbers(values: Sequence[float]) -> list[str]:
    """The numbers beside an axis, all written in one way."""
    if any(0 < abs(value) < 1e-3 for value in values):
        return [_scientific(value) if value else "0" for value in values]
    return [number(value) for value in values]


def _scientific(value: float) -> str:
    digits, _, power = f"{value:.3e}".partition("e")
    return f"{float(digits):g}e{int(power)}"


def number(value: float) -> str:
    """A number as a tile or a legend shows it."""
    if value == 0:
        return "0"
    if abs(value) >= 10_000 or abs(value) < 1e-3:
        return f"{value:.2g}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value:.4g}"


@dataclass(frozen=True)
class _Frame:
    """From steps and values to pixels."""

    x_range: Point
    y_range: Point

    @classmethod
    def around(
        cls, xs: Sequence[float], ys: Sequence[float], least: float | None, most: float | None
    ) -> _Frame:
        low, high = min(xs, default=0.0), max(xs, default=1.0)
        bottom, top = min(ys, default=0.0), max(ys, default=1.0)
        bottom = bottom if least is None else min(bottom, least)
        top = top if most is None else max(top, most)
        if top - bottom < 1e-12 * max(1.0, abs(top)):
            spare = abs(top) * 0.1 or 1.0
            bottom, top = bottom - spare * (least is None), top + spare
        room = 0.04 * (top - bottom)
        bottom = bottom if least is not None and bottom >= least else bottom - room
        top = top if most is not None and top <= most else top + room
        return cls((low, high if high > low else low + 1), (bottom, top))

    def x(self, value: float) -> float:
        low, high = self.x_range
        return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    def path(self, points: Sequence[Point]) -> str:
        return "M" + "L".join(f"{self.x(x):.1f} {self.y(y):.1f}" for x, y in points)

    def axes(self) -> str:
        rows = []
        values = ticks(*self.y_range)
        for value, shown in zip(values, axis_numbers(values), strict=True):
            y = self.y(value)
            rows.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            rows.append(f'<text x="{LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{shown}</text>')
        rows.append(f'<text x="{LEFT - 10}" y="{HEIGHT - 8}" text-anchor="end">step</text>')
        for value in ticks(*self.x_range, about=6):
            if value == int(value):
                x = self.x(value)
                rows.append(f'<text x="{x:.1f}" y="{HEIGHT - 8}" text-anchor="middle">{int(value):,}</text>')
        return "".join(rows)

    def svg(self, parts: Sequence[str], title: str, data: object) -> str:
        low, high = self.x_range
        shown = escape(json.dumps({"x": [low, high], "series": data}), quote=True)
        return (
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title, quote=True)}" '
            f'data-chart="{shown}" fill="none">{"".join(parts)}'
            f'<line class="pointer" y1="{TOP}" y2="{HEIGHT - BOTTOM}" visibility="hidden"/></svg>'
        )


def _digits(value: float) -> float:
    return float(f"{value:.4g}")
