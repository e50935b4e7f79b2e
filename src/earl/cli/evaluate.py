"""`earl evaluate world`: unseen scenes, edited and judged; a table by family, and JSON."""

from __future__ import annotations

import argparse
import sys

from earl.cli import options as shared


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--num", type=shared.integer(1), default=500, help="edits to make")
    add("--split", choices=shared.SPLITS[1:], default="test", help="heldout: combinations never trained on")
    add("--families", nargs="+", default=(), metavar="FAMILY", help="only these edit families")
    add("--resolution", type=shared.integer(16), help="px, side of the pictures (default: the model's)")
    add("--batch", type=shared.integer(1), default=64, help="edits made together")
    add("--json", metavar="FILE", help="also write the numbers there")
    add("--force", action="store_true", help="overwrite FILE if it exists")
    shared.add_sampling(parser)
    shared.add_model(parser)


def run(options: argparse.Namespace) -> int:
    from earl.cli.outputs import claim, write_json
    from earl.evaluation import WorldBenchmark, evaluate_world, format_table

    file = claim([options.json], force=options.force)[0] if options.json else None
    benchmark = WorldBenchmark(
        num=options.num,
        seed=options.seed,
        split=options.split,
        families=tuple(options.families),
        resolution=options.resolution,
        batch=options.batch,
        **shared.sampling_of(options),
    )
    report = evaluate_world(shared.load_pipeline(options), benchmark, on_batch=_progress)
    if file:
        write_json(report, file)
    how = "greedy" if options.greedy else f"temperature {options.temperature:g}"
    seconds = report["seconds"]
    print(f"{options.model}: {options.num} tasks of the {options.split} split, seed {options.seed}, {how}")
    print(format_table(report))
    print(f"editing took {seconds['edit']:.1f} s, judging {seconds['judge']:.1f} s")
    return 0


def _progress(done: int, total: int, edits) -> None:
    if sys.stderr.isatty():
        exact = [edit.score("exact") for edit in edits if edit.counts]
        rate = sum(exact) / len(exact) if exact else 0.0
        end = "\n" if done == total else ""
        print(f"\r{done}/{total} edits, exact {rate:.2f}", end=end, file=sys.stderr, flush=True)
