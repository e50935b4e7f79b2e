"""Line and area charts: series of numbers to the paths and ticks that `templates/chart.html` draws as SVG.

Colours are numbers of the page's palette (`--c0` …), so that the page can have a dark mode.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from earl.pages.rendering import axis_numbers
from earl.pages.smoothing import Point, smooth, thinned

WIDTH, HEIGHT = 560, 230
LEFT, RIGHT, TOP, BOTTOM = 52, WIDTH - 12, 10, HEIGHT - 26
SMOOTHED_FROM = 40  # points; shorter lines are drawn as they are


@dataclass(frozen=True)
class Series:
    """One line: (step, value), steps ascending; `marked` draws a dot at each point, for few points.
    A `band` around it is (step, low, high)."""

    name: str
    points: Sequence[Point]
    colour: int
    marked: bool = False
    band: Sequence[tuple[float, float, float]] = ()


@dataclass(frozen=True)
class Chart:
    """A chart: its series, and a sentence on how to read it.

    The value axis reaches at least from `least` to `most`. `exact` draws no moving mean: the numbers have
    no noise. `stacked` draws areas on top of each other; all series then have the same steps.
    """

    title: str
    note: str
    series: Sequence[Series]
    least: float | None = None
    most: float | None = None
    exact: bool = False
    stacked: bool = False


@dataclass(frozen=True)
class Path:
    """An SVG path; a "faint" line shows the values that a moving mean was made of."""

    d: str
    colour: int
    kind: Literal["line", "faint", "area", "band"] = "line"


@dataclass(frozen=True)
class Drawing:
    """A chart in pixels. `data` is what the page's script shows under the pointer."""

    chart: Chart
    paths: Sequence[Path]
    dots: Sequence[tuple[float, float, int]]
    rows: Sequence[tuple[float, str]]
    columns: Sequence[tuple[float, str]]
    data: dict[str, object]
    width, height, left, right, top, bottom = WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM


def draw(chart: Chart) -> Drawing:
    """Lay out a chart. Lines of many points are drawn faint, with their moving mean on top."""
    steps = [x for series in chart.series for x, _ in series.points]
    low, high = min(steps, default=0.0), max(steps, default=1.0)
    high = high if high > low else low + 1
    lines = _stack(chart.series) if chart.stacked else [series.points for series in chart.series]
    edges = [y for series in chart.series for _, *ends in series.band for y in ends]
    bottom, top = _bounds([y for line in lines for _, y in line] + edges, chart)

    def place(point: Point) -> tuple[float, float]:
        x = LEFT + (point[0] - low) / (high - low) * (RIGHT - LEFT)
        return round(x, 1), round(BOTTOM - (point[1] - bottom) / (top - bottom) * (BOTTOM - TOP), 1)

    def outline(points: Sequence[Point]) -> str:
        return "M" + "L".join("{} {}".format(*place(point)) for point in points)

    paths: list[Path] = []
    dots: list[tuple[float, float, int]] = []
    below = [(x, 0.0) for x, _ in lines[0]] if lines else []
    for series, points in zip(chart.series, lines, strict=True):
        colour = series.colour % 8
        if chart.stacked:
            paths.append(Path(outline([*points, *reversed(below)]) + "Z", colour, "area"))
            below = list(points)
            continue
        if series.band:
            around = [*((x, y) for x, y, _ in series.band), *((x, y) for x, _, y in reversed(series.band))]
            paths.append(Path(outline(around) + "Z", colour, "band"))
        if len(points) >= SMOOTHED_FROM and not series.marked and not chart.exact:
            paths.append(Path(outline(thinned(points)), colour, "faint"))
            points = smooth(points, max(5, len(points) // 20))
        paths.append(Path(outline(thinned(points)), colour))
        if series.marked or len(points) == 1:
            dots += [(*place(point), colour) for point in points]
    values = ticks(bottom, top)
    rows = [
        (place((low, value))[1], label) for value, label in zip(values, axis_numbers(values), strict=True)
    ]
    whole = [value for value in ticks(low, high, about=6) if value == int(value)]
    columns = [(place((value, bottom))[0], f"{int(value):,}") for value in whole]
    shown = [[[x, float(f"{y:.4g}")] for x, y in thinned(series.points)] for series in chart.series]
    return Drawing(
        chart, paths, dots, rows, columns, {"x": [low, high], "frame": [LEFT, RIGHT, WIDTH], "series": shown}
    )


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers within [low, high], `about` many; low < high."""
    raw = (high - low) / about
    scale = 10.0 ** math.floor(math.log10(raw))
    step = next(scale * factor for factor in (1, 2, 2.5, 5, 10) if scale * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(index * step, 12) for index in range(first, math.floor(high / step + 1e-9) + 1)]


def _stack(series: Sequence[Series]) -> list[list[Point]]:
    totals = np.cumsum([[y for _, y in one.points] for one in series], axis=0)
    return [[(x, float(y)) for (x, _), y in zip(series[0].points, row, strict=True)] for row in totals]


def _bounds(values: Sequence[float], chart: Chart) -> Point:
    """The value axis, with a little room where the chart does not fix its end."""
    bottom, top = min(values, default=0.0), max(values, default=1.0)
    bottom = bottom if chart.least is None else min(bottom, chart.least)
    top = top if chart.most is None else max(top, chart.most)
    if top - bottom < 1e-12 * max(1.0, abs(top)):
        spare = abs(top) * 0.1 or 1.0
        bottom, top = bottom - spare * (chart.least is None), top + spare
    room = 0.04 * (top - bottom)
    fixed_bottom = chart.least is not None and bottom >= chart.least
    fixed_top = chart.most is not None and top <= chart.most
    return bottom - room * (not fixed_bottom), top + room * (not fixed_top)
