"""One's own edits as a benchmark: a folder with `metadata.jsonl`, a table, data files, or the Hub.

Families and groups are those that the rows give; `group` holds for rows that give none.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from earl.data.sources import open_source
from earl.errors import DataError
from earl.evaluation.benchmark import DRAW_SEED, SourceBenchmark


def open_own(
    name: str,
    *,
    columns: Mapping[str, tuple[str, ...]] | None = None,
    split: str | None = None,
    group: str = "simple",
    draw: int | None = None,
    seed: int = DRAW_SEED,
) -> SourceBenchmark:
    """Open own data.

    Args:
        name: a file, a folder, or `hub:OWNER/NAME`.
        columns: which column is what, where the names are not the usual ones.
        draw: rows drawn at random with `seed`; None or 0 takes all.

    Raises:
        DataError: nothing there, or no column with sources or instructions.
    """
    if not name.startswith("hub:") and not Path(name).expanduser().exists():
        from earl.evaluation.benchmarks import unknown

        raise DataError(unknown(name))
    source = open_source(
        name, default_split="test", columns=columns or {}, split=split, group=group, draw=draw, seed=seed
    )
    mapping = {"columns": {field: list(names) for field, names in columns.items()}} if columns else {}
    return SourceBenchmark(None, source, {"split": split or "", "group": group, **mapping})
