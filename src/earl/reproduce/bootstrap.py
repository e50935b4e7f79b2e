"""Means over seeds and tasks, and how sure they are.

Axes: S seeds of training, T tasks of the benchmark.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2_000
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean and the interval that holds it with 95% confidence; `seeds` trainings, `tasks` judged."""

    mean: float
    low: float
    high: float
    seeds: int
    tasks: int

    def text(self, digits: int = 2) -> str:
        return f"{self.mean:.{digits}f} [{self.low:.{digits}f}, {self.high:.{digits}f}]"


def estimate(values_ST: NDArray[np.float64], *, seed: int = 0) -> Estimate | None:
    """Percentile bootstrap: seeds and tasks are both drawn with replacement, crossed.

    With one seed only tasks are drawn, so the interval does not hold what another training would
    have changed. A NaN is a task without a verdict and is in no mean. None where nothing was judged.
    """
    present_ST = ~np.isnan(values_ST)
    if not present_ST.any():
        return None
    filled_ST = np.where(present_ST, values_ST, 0.0)
    seeds, tasks = values_ST.shape
    drawn_RS, drawn_RT = _draws(seeds, tasks, seed)
    totals_R = ((drawn_RS @ filled_ST) * drawn_RT).sum(1)
    counts_R = ((drawn_RS @ present_ST.astype(np.float64)) * drawn_RT).sum(1)
    means = totals_R[counts_R > 0] / counts_R[counts_R > 0]
    edge = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means, [edge, 1 - edge])
    return Estimate(float(values_ST[present_ST].mean()), float(low), float(high), seeds, tasks)


@lru_cache(maxsize=64)
def _draws(seeds: int, tasks: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How often each seed and each task is drawn in each resample, (R, S) and (R, T)."""
    rng = np.random.default_rng(seed)
    drawn_RS = rng.multinomial(seeds, np.full(seeds, 1 / seeds), RESAMPLES)
    drawn_RT = rng.multinomial(tasks, np.full(tasks, 1 / tasks), RESAMPLES)
    return drawn_RS.astype(np.float64), drawn_RT.astype(np.float64)
