"""`earl reproduce world`: the paper's comparison in the world, resumable, with tables and claims."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from earl.cli import options as shared

if TYPE_CHECKING:
    from earl.config.reproduce import Budget
    from earl.reproduce import Matrix


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("-o", "--out", default="runs/world/reproduce", help="folder; what is there is not made again")
    add("--cells", nargs="+", default=(), metavar="CELL", help="only these, and what they start from")
    add("--seeds", nargs="+", type=shared.seed, default=[0], metavar="SEED", help="of training")
    add("--start", default="world", metavar="MODEL", help="what SFT starts from")
    add("--given", nargs="+", default=(), metavar="CELL=MODEL", help="models that stand for a cell")
    add("--budget", metavar="FILE", help="TOML of what it may cost, such as recipes/world/reproduce.toml")
    add("--set", nargs="+", default=(), metavar="key=value", help="budget settings, e.g. rl.steps=50")
    add("--minutes", type=_minutes, metavar="N", help="begin nothing after so many; the next call goes on")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--plan", action="store_true", help="print what would be done and stop")
    only.add_argument("--tables", action="store_true", help="print tables of what is there and stop")


def run(options: argparse.Namespace) -> int:
    from earl.config.recipe import apply_overrides, check, read_recipe_table
    from earl.config.reproduce import Budget
    from earl.errors import ConfigError
    from earl.reproduce import Matrix

    given = {}
    for pair in options.given:
        name, equals, model = pair.partition("=")
        if not equals or not model:
            raise ConfigError(f"--given {pair!r} is not of the form CELL=MODEL")
        given[name] = model
    table = read_recipe_table(options.budget) if options.budget else {}
    budget = check(Budget, apply_overrides(table, options.set), origin=options.budget or "budget")
    matrix = Matrix(
        options.out, budget, start=options.start, given=given, names=options.cells, seeds=options.seeds
    )
    if options.tables:
        return _show(matrix, budget)
    plan = matrix.plan()
    width = max(len(job.name) for job, _ in plan)
    print(f"{len(plan)} cells in {options.out}:")
    for job, state in plan:
        print(f"  {job.name:<{width}}  {state}")
    for line in matrix.forecast().lines():
        print(line)
    sys.stdout.flush()
    if options.plan:
        return 0
    try:
        matrix.run(lambda line: print(line, file=sys.stderr, flush=True), minutes=options.minutes)
    finally:  # also of a comparison that was stopped, or ran into an error
        if matrix.scores():
            _show(matrix, budget)
    return 0


def _show(matrix: Matrix, budget: Budget) -> int:
    """Print and write the tables of what is there."""
    from earl.errors import DataError
    from earl.files import write_json
    from earl.reproduce.tables import markdown, results

    scores, missing = matrix.scores(), matrix.missing()
    if not scores:
        raise DataError(
            f"{matrix.folder} holds no scores of this budget and these models; run it without --tables first"
        )
    found = results(scores, missing) | {"budget": budget.model_dump(mode="json")}
    write_json(matrix.folder / "results.json", found)
    text = markdown(scores, missing)
    (matrix.folder / "tables.md").write_text(text, encoding="utf-8")
    print(text)
    print(f"also in {matrix.folder / 'tables.md'} and results.json")
    return 0


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = 0.0
    if not 0 < minutes < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of minutes above 0")
    return minutes
