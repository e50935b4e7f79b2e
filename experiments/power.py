"""How many seeds of training and tasks it takes to see a difference between two cells.

    python experiments/power.py RIGHT LEFT [RIGHT LEFT …] --effect 0.3 --tasks 1000

RIGHT and LEFT are evaluations of two models that were trained with one seed, a pair for each seed. A paired
difference of scores is taken to be a mean, plus something of the seed, something of the task, and a rest;
the variances of the three come from the mean squares of a two-way layout without repetition.

Axes: S seeds, T tasks.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import norm

CONFIDENCE, POWER = 0.95, 0.8
MOST = 10_000  # seeds that are tried


@dataclass(frozen=True)
class Variances:
    """Of a paired difference, in points²; `seed` is NaN where there was one seed only."""

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
    reach = norm.ppf((1 + CONFIDENCE) / 2) + norm.ppf(POWER)
    if math.isnan(found.seed) or reach * math.sqrt(found.task / tasks) >= effect:
        return None
    return next((n for n in range(1, MOST) if reach * found.error(n, tasks) <= effect), None)


def main() -> None:
    from tables import paired, read_scores

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("evaluations", nargs="+", type=Path, metavar="FOLDER", help="RIGHT LEFT, a pair for each seed")
    add("--effect", type=float, default=0.3, help="points of the overall score that are to be seen")
    add("--tasks", type=int, default=1000, help="of the evaluation that is planned")
    options = parser.parse_args()
    if len(options.evaluations) % 2:
        parser.error(f"{len(options.evaluations)} folders; give two for each seed")
    scores = [read_scores(folder) for folder in options.evaluations]
    differences_ST = paired(scores[1::2], scores[::2])
    found = variances(differences_ST)
    print(f"mean difference {np.nanmean(differences_ST):+.3f} points")
    print(f"variance of seeds {found.seed:.4f}, of tasks {found.task:.3f}, rest {found.rest:.3f}")
    seeds = needed_seeds(found, options.tasks, options.effect)
    if math.isnan(found.seed):
        print("one seed does not tell how seeds differ; give at least two pairs")
    elif seeds is None:
        print(f"{options.tasks} tasks do not show {options.effect:g} points with any number of seeds")
    else:
        print(f"{options.effect:g} points with {options.tasks} tasks: {seeds} seeds")


if __name__ == "__main__":
    main()
