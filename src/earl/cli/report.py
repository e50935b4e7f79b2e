"""`earl report RUN`: one self-contained HTML page about a training run, or about an evaluation."""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", help="folder of a training run (it may be going on), or of an evaluation")
    parser.add_argument("-o", "--out", metavar="FILE", help="the page (default: report.html in the folder)")
    parser.add_argument("--force", action="store_true", help="overwrite FILE if it exists")


def run(options: argparse.Namespace) -> int:
    from earl.cli.outputs import claim
    from earl.errors import DataError

    folder = Path(options.run)
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder; give the folder of a run (run.folder of its recipe)")
    # The page in the run's own folder is this command's product, and is made anew as the run goes on.
    out = claim([options.out], force=options.force)[0] if options.out else folder / "report.html"
    if (folder / "evaluation.json").is_file() and find_spec("earl.evaluation.page"):
        from earl.evaluation.page import write_page as write_evaluation

        write_evaluation(folder, out)
    else:
        from earl.pages import write_run_page

        write_run_page(folder, out)
    print(f"{out}, {out.stat().st_size / 2**20:.1f} MiB")
    return 0
