"""Means over seeds and tasks, and how sure they are.

Axes: S seeds of training, T tasks of the benchmark.
"""

from __future__ import annotations

from dataclasses import dataclass

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
    rng = np.random.default_rng(seed)
    seeds, tasks = values_ST.shape
    # How often each seed and each task is drawn, in place of the drawn values themselves.
    drawn_RS = rng.multinomial(seeds, np.full(seeds, 1 / seeds), RESAMPLES).astype(np.float64)
    drawn_RT = rng.multinomial(tasks, np.full(tasks, 1 / tasks), RESAMPLES).astype(np.float64)
    totals_R = np.einsum("rs,st,rt->r", drawn_RS, filled_ST, drawn_RT, optimize=True)
    counts_R = np.einsum("rs,st,rt->r", drawn_RS, present_ST.astype(np.float64), drawn_RT, optimize=True)
    means = totals_R[counts_R > 0] / counts_R[counts_R > 0]
    edge = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means, [edge, 1 - edge])
    return Estimate(float(values_ST[present_ST].mean()), float(low), float(high), seeds, tasks)
