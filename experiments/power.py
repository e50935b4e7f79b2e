"""How many seeds of training and tasks it takes to see a difference between two cells.

    python experiments/power.py RIGHT LEFT [RIGHT LEFT …] --effect 0.3 --tasks 1000

RIGHT and LEFT are evaluations of two models that were trained with one seed, a pair for each seed.
"""

from __future__ import annotations

import argparse
import math
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from earl.errors import EarlError
from tables import paired, read_scores
from variances import needed_seeds, variances


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("evaluations", nargs="+", type=Path, metavar="FOLDER", help="RIGHT LEFT, a pair for each seed")
    add("--effect", type=float, default=0.3, help="points of the overall score that are to be seen")
    add("--tasks", type=int, default=1000, help="of the evaluation that is planned")
    options = parser.parse_args(words)
    if len(options.evaluations) % 2:
        parser.error(f"{len(options.evaluations)} folders; give two for each seed")
    if options.effect <= 0 or options.tasks < 1:
        parser.error(f"--effect {options.effect:g} --tasks {options.tasks}: expected both above 0")
    try:
        scores = [read_scores(folder) for folder in options.evaluations]
    except EarlError as error:
        print(f"power: {error}", file=sys.stderr)
        return error.exit_code
    differences_ST = paired(scores[1::2], scores[::2])
    if not len(differences_ST):
        print("power: no task has a score in both folders of a pair", file=sys.stderr)
        return 1
    found = variances(differences_ST)
    print(f"mean difference {np.nanmean(differences_ST):+.3f} points")
    print(f"variance of seeds {found.seed:.4f}, of tasks {found.task:.3f}, rest {found.rest:.3f}")
    seeds = needed_seeds(found, options.tasks, options.effect)
    if math.isnan(found.seed):
        print("one seed does not tell how seeds differ; give at least two pairs")
    elif seeds is None:
        print(f"{options.tasks} tasks do not show {options.effect:g} points with any number of seeds")
    else:
        print(f"{options.effect:g} points with {options.tasks} tasks: {seeds} seed{'s'[: seeds != 1]}")
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `... | head` ends it without a word
    raise SystemExit(main())
