"""`earl evaluate compare`, `table` and `page`: what has been evaluated, side by side and as a page."""

from __future__ import annotations

import argparse

from earl.cli import options as shared
from earl.records import SCORES


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("first", metavar="A", help="folder of an evaluation")
    add("second", metavar="B", help="folder of another one, of the same benchmark")
    add("--score", choices=(*SCORES, "exact"), default="overall", help="what is compared")
    add("--tie", type=shared.number(0, 10), default=0.0, help="points that two scores of a tie may differ by")
    add("--across-verifiers", action="store_true", help="although different verifiers judged them")
    add("--json", metavar="FILE", help="also write the numbers there")
    add("--force", action="store_true", help="overwrite FILE if it exists")


def run(options: argparse.Namespace) -> int:
    from earl.cli.outputs import claim
    from earl.evaluation.compare import compare_runs, comparison_text
    from earl.evaluation.records import to_json
    from earl.files import write_json

    file = claim([options.json], force=options.force)[0] if options.json else None
    comparison = compare_runs(
        options.first,
        options.second,
        score=options.score,
        tie=options.tie,
        across=options.across_verifiers,
    )
    if file:
        write_json(file, to_json(comparison))
    print(comparison_text(comparison))
    return 0


def add_options_page(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("folder", metavar="FOLDER", help="of an evaluation")
    add("--other", metavar="FOLDER", help="another one of the same benchmark, to compare with")
    add("-o", "--out", metavar="FILE", help="the page (default: FOLDER/page.html)")


def run_page(options: argparse.Namespace) -> int:
    from pathlib import Path

    from earl.evaluation.page import write_page

    folder = Path(options.folder)
    out = Path(options.out) if options.out else folder / "page.html"
    written = write_page(folder, out, other=Path(options.other) if options.other else None)
    print(f"{written}, {written.stat().st_size / 2**20:.1f} MiB")
    return 0


def add_options_table(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("folders", nargs="+", metavar="FOLDER", help="of evaluations: one or more systems and benchmarks")
    add("--ours-only", action="store_true", help="without the paper's published rows")
    add("-o", "--out", metavar="NAME", help="also write NAME.md, NAME.tex, NAME.csv and NAME.json")
    add("--force", action="store_true", help="overwrite them if they exist")


def run_table(options: argparse.Namespace) -> int:
    from earl.cli.outputs import claim
    from earl.evaluation import tables
    from earl.evaluation.folder import EvaluationFolder
    from earl.evaluation.results import compile_results
    from earl.files import write_json, write_text

    kinds = ("md", "tex", "csv", "json")
    names = [f"{options.out}.{kind}" for kind in kinds] if options.out else []
    files = claim(names, force=options.force)
    runs = [compile_results(EvaluationFolder(folder)) for folder in options.folders]
    rows = tables.system_rows(runs)
    if not options.ours_only:
        rows += tables.published_rows()
    table = tables.paper_table(rows)
    if files:
        write_text(files[0], table.markdown())
        write_text(files[1], table.latex())
        write_text(files[2], tables.paper_csv_table(rows).csv())
        write_json(files[3], tables.paper_json(rows))
    print(table.text())
    return 0
