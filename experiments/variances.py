"""Variances of paired differences, and the seeds that would show one.

A paired difference of scores is taken to be a mean, plus something of the seed, something of the task, and a
rest; the variances of the three come from the mean squares of a two-way layout without repetition.

Axes: S seeds, T tasks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

CONFIDENCE, POWER = 0.95, 0.8
MOST = 10_000  # seeds that are tried


@dataclass(frozen=True)
class Variances:
    """Variances of a paired difference, in points²; `seed` is NaN where there was one seed only."""

    seed: float
    task: float
    rest: float

    def error(self, seeds: int, tasks: int) -> float:
        """Standard error of the mean difference over so many seeds and tasks."""
        return math.sqrt(self.seed / seeds + self.task / tasks + self.rest / (seeds * tasks))


def variances(differences_ST: np.ndarray) -> Variances:
    """The three variances of paired differences; tasks with a NaN are left out."""
    values_ST = differences_ST[:, ~np.isnan(differences_ST).any(0)]
    seeds, tasks = values_ST.shape
    if tasks < 2:
        return Variances(math.nan, math.nan, math.nan)
    if seeds == 1:
        return Variances(math.nan, float(values_ST.var(ddof=1)), 0.0)
    by_seed_S, by_task_T, mean = values_ST.mean(1), values_ST.mean(0), values_ST.mean()
    rest_ST = values_ST - by_seed_S[:, None] - by_task_T[None] + mean
    rest = float((rest_ST**2).sum()) / ((seeds - 1) * (tasks - 1))
    seed = max(0.0, float(by_seed_S.var(ddof=1)) - rest / tasks)
    task = max(0.0, float(by_task_T.var(ddof=1)) - rest / seeds)
    return Variances(seed, task, rest)


def needed_seeds(found: Variances, tasks: int, effect: float) -> int | None:
    """Fewest seeds with which a true difference of `effect` points is seen in four of five comparisons.

    None where so many tasks cannot show it with any number of seeds, or the variances are not known.
    """
    reach = sum(map(NormalDist().inv_cdf, ((1 + CONFIDENCE) / 2, POWER)))
    if math.isnan(found.seed) or reach * math.sqrt(found.task / tasks) >= effect:
        return None
    return next((n for n in range(1, MOST) if reach * found.error(n, tasks) <= effect), None)
