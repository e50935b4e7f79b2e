"""Smoothing of curves: moving means, and fewer points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")
Point = tuple[float, float]
MOST_POINTS = 600  # of one drawn line


def smooth(points: Sequence[Point], window: int) -> list[Point]:
    """The centred mean over `window` points.

    Nearer to the ends than that, the least-squares line through the first or last `window` points, within
    their range: a mean of the few that are left would end in the last one.
    """
    values, half = np.array([value for _, value in points]), window // 2
    if len(values) < 2 * half + 1:
        found = _line(values)
    else:
        middle = np.convolve(values, np.full(2 * half + 1, 1 / (2 * half + 1)), "valid")
        ends = _line(values[: 2 * half + 1])[:half], _line(values[-2 * half - 1 :])[half + 1 :]
        found = np.concatenate([ends[0], middle, ends[1]])
    return [(x, float(value)) for (x, _), value in zip(points, found, strict=True)]


def thinned(points: Sequence[T], most: int = MOST_POINTS) -> Sequence[T]:
    """At most so many of the points, evenly, the first and the last among them."""
    if len(points) <= most:
        return points
    return [points[round(index * (len(points) - 1) / (most - 1))] for index in range(most)]


def _line(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The least-squares line through values, within their range."""
    if len(values) < 2:
        return values
    at = np.arange(len(values))
    return np.clip(np.polyval(np.polyfit(at, values, 1), at), values.min(), values.max())
