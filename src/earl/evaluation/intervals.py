"""How sure a mean is: percentile bootstrap over tasks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2_000


def bootstrap_interval(
    values: Sequence[float], *, seed: int = 0, confidence: float = 0.95, resamples: int = RESAMPLES
) -> tuple[float, float] | None:
    """The interval that holds the mean with the given confidence; None for no values.

    Tasks are drawn with replacement, `resamples` times. Where all values are equal the bootstrap
    sees no doubt at all; rates of 0 and 1 should be read with their n.

    Args:
        values: one number per task, any unit.
        seed: of the drawing.
        confidence: in (0, 1).
    """
    if not len(values):
        return None
    data = np.asarray(values, np.float64)
    rng = np.random.default_rng(seed)
    means = np.empty(resamples)
    for start in range(0, resamples, 256):  # in parts: 2,000 x 10,000 draws would be 160 MB
        stop = min(start + 256, resamples)
        means[start:stop] = data[rng.integers(0, len(data), (stop - start, len(data)))].mean(1)
    edge = (1 - confidence) / 2
    low, high = np.quantile(means, [edge, 1 - edge])
    return float(low), float(high)


def bootstrap_intervals(
    values_TK: NDArray[np.float64], *, seed: int = 0, confidence: float = 0.95, resamples: int = RESAMPLES
) -> NDArray[np.float64]:
    """`bootstrap_interval` of several numbers per task at once, with the same tasks drawn for all.

    Args:
        values_TK: T tasks (>= 1), K numbers of each.

    Returns:
        (K, 2), low and high.
    """
    edge = (1 - confidence) / 2
    means_RK = resampled_means(values_TK, seed=seed, resamples=resamples)
    return np.quantile(means_RK, [edge, 1 - edge], axis=0).T


def resampled_means(
    values_TK: NDArray[np.float64], *, seed: int = 0, resamples: int = RESAMPLES
) -> NDArray[np.float64]:
    """(R, K) means of tasks drawn with replacement: how often each was drawn, times its values."""
    rng = np.random.default_rng(seed)
    tasks = len(values_TK)
    even = np.full(tasks, 1 / tasks)
    parts = []
    for start in range(0, resamples, 256):
        counts = rng.multinomial(tasks, even, size=min(256, resamples - start))
        parts.append(counts @ values_TK / tasks)
    return np.concatenate(parts)
