"""`earl evaluate world`: unseen scenes, edited and judged; a table by family, and JSON."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from earl.cli import options as shared
from earl.cli.evaluate_benchmark import add_stages, run_stages
from earl.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from earl.world.benchmark import Judged

STAGED = ("predictions", "name", "reasoning", "best_by", "ask_again", "metrics", "clip_model")


_WORDINGS = ("own", "mixed", "heldout", "pairs", "constructions", "unseen", "other")


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--num", type=shared.integer(1), default=500, help="edits to make")
    add("--split", choices=shared.SPLITS[1:], default="test", help="heldout: combinations never trained on")
    add("--wordings", choices=_WORDINGS, default="own", help="the language in which the edits are asked for")
    add("--families", nargs="+", default=(), metavar="FAMILY", help="only these edit families")
    add("--resolution", type=shared.integer(16), help="px, side of the images (default: the model's)")
    add("--batch", type=shared.integer(1), default=64, help="edits made together")
    add("--results", action="store_true", help="also print what the edits did: nothing, something else, …")
    add("--json", metavar="FILE", help="also write the numbers there")
    add("--force", action="store_true", help="overwrite FILE if it exists")
    add(
        "-o",
        "--out",
        metavar="FOLDER",
        help="keep images, verdicts and tables there; continued if cut short",
    )
    shared.add_sampling(parser)
    shared.add_model(parser)
    add_stages(parser, area=None, verifier="scene")


def run(options: argparse.Namespace) -> int:
    from earl.cli.outputs import claim
    from earl.evaluation import format_results, format_table
    from earl.files import write_json
    from earl.world.benchmark import WorldBenchmark, evaluate_world

    benchmark = WorldBenchmark(
        num=options.num,
        seed=options.seed,
        split=options.split,
        families=tuple(options.families),
        wordings=options.wordings,
        resolution=options.resolution,
        batch=options.batch,
        **shared.sampling_of(options),
    )
    if options.out:
        return _staged(options, benchmark)
    _check_unstaged(options)
    file = claim([options.json], force=options.force)[0] if options.json else None
    with Progress() as show:

        def batch_done(done: int, total: int, edits: Sequence[Judged]) -> None:
            exact = [edit.score("exact") for edit in edits if edit.counts]
            show("edits", done, total, f"exact {sum(exact) / len(exact):.2f}" if exact else "")

        report = evaluate_world(shared.load_pipeline(options), benchmark, on_batch=batch_done)
    if file:
        write_json(file, report)
    how = "greedy" if options.greedy else f"temperature {options.temperature:g}"
    how += f", guidance {options.guidance:g}" if options.guidance != 1 else ""
    seconds = report["seconds"]
    print(f"{options.model}: {options.num} tasks of the {options.split} split, seed {options.seed}, {how}")
    print(format_table(report))
    if options.results:
        print(format_results(report))
    print(f"editing took {seconds['edit']:.1f} s, judging {seconds['judge']:.1f} s")
    return 0


def _staged(options: argparse.Namespace, benchmark) -> int:
    from dataclasses import replace

    from earl.errors import ConfigError
    from earl.world.benchmark_tasks import WorldTasks

    if options.json:
        raise ConfigError("--json is for a run without -o; with it the numbers are in FOLDER/results.json")
    if options.results:
        raise ConfigError("--results is for a run without -o; leave one of the two out")
    if benchmark.resolution is None:
        benchmark = replace(benchmark, resolution=_side(options))
    tasks = WorldTasks(benchmark)
    return run_stages(options, tasks, area=None, predictions_area=tasks.side**2)


def _side(options: argparse.Namespace) -> int | None:
    """px, of the images that the model works at; None (64) where it does not say, or there is none."""
    if options.predictions:
        return None
    from earl.models.resolve import resolve_model

    area = resolve_model(options.model, options.revision).meta.get("area")
    return round(area**0.5 / 8) * 8 if isinstance(area, int) else None


def _check_unstaged(options: argparse.Namespace) -> None:
    from earl.errors import ConfigError

    named = [name for name in STAGED if getattr(options, name)]
    if options.verifier != "scene":
        named.append("verifier")
    if options.best_of > 1:
        named.append("best_of")
    if options.until != "tables":
        named.append("until")
    if named:
        raise ConfigError(f"--{named[0].replace('_', '-')} needs -o FOLDER, where its images and verdicts go")
