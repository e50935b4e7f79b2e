"""`earl reproduce world`: the paper's comparison in the world, resumable, with tables and claims."""

from __future__ import annotations

import argparse
import sys

from earl.cli import options as shared


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("-o", "--out", default="runs/world/reproduce", help="folder; what is there is not made again")
    add("--cells", nargs="+", default=(), metavar="CELL", help="only these, and what they start from")
    add("--seeds", nargs="+", type=shared.seed, default=[0], metavar="SEED", help="of training")
    add("--start", default="world", metavar="MODEL", help="what SFT starts from")
    add("--given", nargs="+", default=(), metavar="CELL=MODEL", help="models that stand for a cell")
    add("--budget", metavar="FILE", help="TOML of what it may cost, such as recipes/world/reproduce.toml")
    add("--set", nargs="+", default=(), metavar="key=value", help="budget settings, e.g. rl.steps=50")
    add("--plan", action="store_true", help="print what would be done and stop")


def run(options: argparse.Namespace) -> int:
    from earl.cli.outputs import write_json
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
    plan = matrix.plan()
    width = max(len(job.name) for job, _ in plan)
    print(f"{len(plan)} cells in {options.out}:")
    for job, state in plan:
        print(f"  {job.name:<{width}}  {state}")
    if options.plan:
        return 0
    matrix.run(lambda line: print(line, file=sys.stderr, flush=True))
    from earl.reproduce.tables import markdown, results

    scores = matrix.scores()
    text = markdown(scores)
    write_json(results(scores) | {"budget": budget.model_dump(mode="json")}, matrix.folder / "results.json")
    (matrix.folder / "tables.md").write_text(text, encoding="utf-8")
    print(text)
    print(f"also in {matrix.folder / 'tables.md'} and results.json")
    return 0
