"""HTML pages of training runs and evaluations: one file each that needs nothing else, and no network."""

from pathlib import Path

from earl.files import write_text
from earl.pages.evaluation import EvaluationView, evaluation_page
from earl.pages.run import run_page
from earl.pages.run_record import RunRecord, read_run


def write_run_page(folder: str | Path, out: str | Path) -> Path:
    """Read a run's folder and write its page; the run may still be going on.

    Raises:
        DataError: the folder is not a run's.
        OutputError: the page cannot be written; an older one is as before.
    """
    return write_text(out, run_page(read_run(folder)))


__all__ = ["EvaluationView", "RunRecord", "evaluation_page", "read_run", "run_page", "write_run_page"]
