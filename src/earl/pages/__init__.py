"""HTML pages of training runs and evaluations: one file each that needs nothing else, and no network.

Names are loaded on first use: an edit writes image sheets and needs no page.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from earl.pages.evaluation import EvaluationView, evaluation_page
    from earl.pages.run import run_page
    from earl.pages.run_record import RunRecord, read_run

_HOMES = {
    "EvaluationView": "evaluation",
    "RunRecord": "run_record",
    "evaluation_page": "evaluation",
    "read_run": "run_record",
    "run_page": "run",
}

__all__ = ["EvaluationView", "RunRecord", "evaluation_page", "read_run", "run_page", "write_run_page"]


def write_run_page(folder: str | Path, out: str | Path) -> Path:
    """Read a run's folder and write its page; the run may still be going on.

    Raises:
        DataError: the folder is not a run's.
        OutputError: the page cannot be written; an older one is as before.
    """
    from earl.files import write_text
    from earl.pages.run import run_page
    from earl.pages.run_record import read_run

    return write_text(out, run_page(read_run(folder)))


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"earl.pages.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'earl.pages' has no attribute {name!r}")
