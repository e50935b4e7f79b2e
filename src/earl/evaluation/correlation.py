"""Rank correlation of two lists of numbers, with bootstrap intervals. Ties share their mean rank.

A resample is a count for each item, so no list is drawn: pairs of items count with the product of
their counts. Axis letters: N items, R resamples, U different values.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
_BLOCK = 512  # rows of the table of pairs held at once
LEAST = 3  # items that a correlation needs


@dataclass(frozen=True, slots=True)
class Correlation:
    """A correlation in [-1, 1] and its 95% interval; None where it is not defined (one side is constant)."""

    value: float | None
    interval: tuple[float, float] | None


def spearman(first: ArrayLike, second: ArrayLike, *, seed: int = 0, resamples: int = 2_000) -> Correlation:
    """Spearman's rho: Pearson's correlation of the ranks."""
    return _with_interval(_spearman, first, second, seed, resamples)


def kendall(first: ArrayLike, second: ArrayLike, *, seed: int = 0, resamples: int = 2_000) -> Correlation:
    """Kendall's tau-b: (pairs in the same order - pairs in opposite order), corrected for ties."""
    return _with_interval(_kendall, first, second, seed, resamples)


def _with_interval(measure, first: ArrayLike, second: ArrayLike, seed: int, resamples: int) -> Correlation:
    x_N, y_N = np.asarray(first, np.float64), np.asarray(second, np.float64)
    assert x_N.shape == y_N.shape and x_N.ndim == 1
    count = len(x_N)
    if count < LEAST:
        return Correlation(None, None)
    value = float(measure(x_N, y_N, np.ones((1, count)))[0])
    if np.isnan(value):
        return Correlation(None, None)
    counts_RN = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
    drawn_R = measure(x_N, y_N, counts_RN.astype(np.float64))
    drawn_R = drawn_R[~np.isnan(drawn_R)]  # a resample of one item only has no correlation
    low, high = np.quantile(drawn_R, [0.025, 0.975])
    return Correlation(value, (float(low), float(high)))


def _spearman(x_N: Array, y_N: Array, counts_RN: Array) -> Array:
    first_RN, second_RN = _ranks(x_N, counts_RN), _ranks(y_N, counts_RN)
    total_R1 = counts_RN.sum(1, keepdims=True)
    first_RN = first_RN - (counts_RN * first_RN).sum(1, keepdims=True) / total_R1
    second_RN = second_RN - (counts_RN * second_RN).sum(1, keepdims=True) / total_R1
    together = (counts_RN * first_RN * second_RN).sum(1)
    alone = (counts_RN * first_RN**2).sum(1) * (counts_RN * second_RN**2).sum(1)
    return _ratio(together, alone)


def _ranks(values_N: Array, counts_RN: Array) -> Array:
    """(R, N) rank of each item among the items drawn, each as often as it was."""
    _, place_N = np.unique(values_N, return_inverse=True)
    count_RU = np.zeros((len(counts_RN), int(place_N.max()) + 1))
    np.add.at(count_RU.T, place_N, counts_RN.T)
    rank_RU = count_RU.cumsum(1) - (count_RU - 1) / 2
    return rank_RU[:, place_N]


def _kendall(x_N: Array, y_N: Array, counts_RN: Array) -> Array:
    agree_R = np.zeros(len(counts_RN))
    untied_x_R, untied_y_R = np.zeros_like(agree_R), np.zeros_like(agree_R)
    for start in range(0, len(x_N), _BLOCK):
        rows = slice(start, start + _BLOCK)
        sign_x = np.sign(x_N[rows, None] - x_N)
        sign_y = np.sign(y_N[rows, None] - y_N)
        for total_R, table in ((agree_R, sign_x * sign_y), (untied_x_R, sign_x**2), (untied_y_R, sign_y**2)):
            total_R += (counts_RN[:, rows] * (counts_RN @ table.T)).sum(1)
    return _ratio(agree_R, untied_x_R * untied_y_R)


def _ratio(together_R: Array, alone_R: Array) -> Array:
    """NaN where one side does not vary."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(alone_R > 1e-12, together_R / np.sqrt(alone_R), np.nan)
