"""Any of the paper's tables of results, rows of ours above the published ones.

Our cells come from evaluations, and from figures of `earl verifier agree --json`. A cell is "-" where
nothing of ours was measured for its column.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from earl.errors import DataError
from earl.evaluation.published import PublishedTable
from earl.evaluation.records import Results, Summary
from earl.evaluation.scores import SHORT
from earl.evaluation.tables import by_system, judge_name, questions_of
from earl.files import read_object
from earl.records import SCORE_PARTS, Estimate
from earl.tables import Cell, Column, Row, Table

PARTS = (*SCORE_PARTS, "overall")
_OF_THREE = ("MagicBrush", "VisMin", "OmniEdit")  # the benchmarks of tables 8 and 9
Runs = Mapping[str, Results]
"""Evaluations of one system by one judge, by benchmark."""


def beside_paper(
    table: PublishedTable, runs: Sequence[Results], agreements: Sequence[Mapping[str, Any]] = ()
) -> Table:
    """One of the paper's tables, ours first.

    Args:
        agreements: what `read_agreement` gives, for tables of correlations.

    Raises:
        ConfigError: two of the runs stand for the same cell.
    """
    rows = [
        Row([*cells, *(who if table.judge else ())], "ours", "ours")
        for cells, who in (*_of_runs(table, runs), *_of_agreements(table, agreements))
    ]
    who = (table.judge, "viescore", "as-released") if table.judge else ()
    rows += [Row([*row, *who], "published", tag="published") for row in table.rows]
    columns = [Column("model", left=True), *map(Column, table.columns)]
    columns += [Column(name, left=True) for name in ("judge", "questions", "failures")[: len(who)]]
    notes = [f"table {table.number} of arXiv 2508.01119: {table.title}"]
    notes += ["scores of different judges cannot be compared"] if table.judge else []
    return Table(f"Table {table.number}: {table.title}", columns, rows, [*notes, *filter(None, [table.note])])


def read_agreement(path: str | Path) -> dict[str, Any]:
    """Figures of `earl verifier agree --json`. Raises DataError: the file holds something else."""
    figures = read_object(path)
    if not (isinstance(figures.get("all"), dict) and isinstance(figures.get("subsets"), dict)):
        raise DataError(f"{path} holds no figures of `earl verifier agree --json`; give such a file")
    return dict(figures)


def _of_runs(table: PublishedTable, runs: Sequence[Results]) -> Iterator[tuple[list[Cell], list[Cell]]]:
    for (name, *judged), of_system in by_system(runs).items():
        for more, values in _cells(table, of_system):
            if any(value is not None for value in values):
                yield [f"{name}{more}", *values], [word or None for word in judged]


def _cells(table: PublishedTable, runs: Runs) -> Iterator[tuple[str, list[Cell]]]:
    """Rows of one system: what follows its name, and a value per column."""
    run = runs.get(table.benchmark)
    keys = table.keys or table.columns
    if table.take == "overall":
        yield "", _across(table, lambda summary: summary.overall, runs)
    elif table.take == "parts":
        for part in PARTS:
            yield f", {SHORT[part]}", _across(table, lambda s, name=part: s.scores.get(name), runs)  # type: ignore[misc]
    elif table.take == "metric":
        three = [runs[name].metrics.get(keys[0]) if name in runs else None for name in _OF_THREE]
        known = [metric.mean for metric in three if metric is not None]
        yield "", [sum(known) / len(known) if len(known) == len(three) else None]
    elif run is not None and table.take == "metrics":
        found = [run.metrics.get(key) for key in keys]
        yield "", [m.mean * by if m else None for m, by in zip(found, table.scale, strict=True)]
    elif run is not None and table.take in ("families", "kind"):
        members = {_plain(name): s for name, s in {**run.kinds, **run.families}.items()}
        yield "", [_first(members, key) for key in keys]


def _across(table: PublishedTable, take: Callable[[Summary], Estimate | None], runs: Runs) -> list[Cell]:
    """A score of each benchmark, and the mean where all are there."""
    values = [take(runs[name].all) if name in runs else None for name in table.columns[:-1]]
    known = [value.mean for value in values if value is not None]
    return [*values, sum(known) / len(known) if len(known) == len(values) else None]


def _first(members: Mapping[str, Summary], key: str) -> Estimate | None:
    """The overall score of the first of "a|b" that there is."""
    return next((members[name].overall for name in map(_plain, key.split("|")) if name in members), None)


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", "", name.lower())


def _of_agreements(
    table: PublishedTable, agreements: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[list[Cell], list[Cell]]]:
    if table.take != "agreement":
        return
    for figures in agreements:
        verifier = figures.get("verifier")
        for score in ("overall", "semantic_consistency"):
            subsets = {_plain(name): part for name, part in figures["subsets"].items()}
            found = [subsets.get(_plain(key)) for key in table.keys[:-1]]
            values = [((part or {}).get("spearman") or {}).get(score) for part in found]
            means = [float(value["mean"]) for value in values if value]
            cells: list[Cell] = [float(value["mean"]) if value else None for value in values]
            cells.append(sum(means) / len(means) if len(means) == len(values) else None)
            name = score.replace("_", " ")
            yield [name, *cells], [judge_name(verifier), questions_of(verifier) or None, None]
