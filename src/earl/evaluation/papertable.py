"""The paper's table with rows of ours: systems down, benchmarks across, overall scores 0-10.

Published rows are marked, with their judge: scores of different judges cannot be compared.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from earl.errors import ConfigError
from earl.evaluation.published import COLUMNS, JUDGE, PUBLISHED
from earl.evaluation.tables import bar, escaped, judge_name


@dataclass(frozen=True, slots=True)
class SystemRow:
    """A system: by column its mean, and for ours its interval and number of edits.

    `published_mean` is the paper's own (of unrounded figures, so it is not computed again).
    """

    name: str
    judge: str
    published: bool
    means: Mapping[str, float | None]
    intervals: Mapping[str, Sequence[float] | None]
    counts: Mapping[str, int]
    published_mean: float | None = None

    @property
    def mean(self) -> float | None:
        """Over the paper's six benchmarks; None where one is missing."""
        if self.published_mean is not None:
            return self.published_mean
        values = [self.means.get(column) for column in COLUMNS]
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if len(known) == len(COLUMNS) else None


def rows_of_ours(runs: Sequence[Mapping[str, Any]]) -> list[SystemRow]:
    """Rows of results (`results.compile_results`), one per system and judge, in the order given.

    Raises ConfigError: one system has two runs of one benchmark by the same judge.
    """
    found: dict[tuple[str, str], dict[str, Mapping[str, Any]]] = {}
    for run in runs:
        best = run["editor"].get("candidates", 1) or 1
        name = run["editor"]["name"] + (f", best of {best}" if best > 1 else "")
        cells = found.setdefault((name, judge_name(run)), {})
        column = run["benchmark"]["column"] or run["benchmark"]["title"]
        if column in cells:
            raise ConfigError(
                f"two of the runs are of {name} on {column} by one judge; tell them apart with --name when "
                "they are made, or leave one out"
            )
        cells[column] = run["all"]
    return [
        SystemRow(
            name,
            judge,
            False,
            {column: summary["overall"] for column, summary in cells.items()},
            {column: summary["overall_interval"] for column, summary in cells.items()},
            {column: summary["judged"] for column, summary in cells.items()},
        )
        for (name, judge), cells in found.items()
    ]


def published_rows() -> list[SystemRow]:
    """The paper's rows."""
    return [SystemRow(row.model, JUDGE, True, row.scores, {}, {}, row.mean) for row in PUBLISHED]


def columns_of(rows: Sequence[SystemRow]) -> list[str]:
    """The paper's six, then the columns that only ours have."""
    return [*COLUMNS, *sorted({c for row in rows for c in row.means} - set(COLUMNS))]


def paper_text(rows: Sequence[SystemRow]) -> str:
    """For the terminal."""
    columns = columns_of(rows)
    wide = max(len(row.name) for row in rows)
    head = f"{'model':<{wide}}  " + "".join(f"{column:>12}" for column in columns) + f"{'mean':>8}  judge"
    lines = [head, "-" * len(head)]
    for place, row in enumerate(rows):
        if place and row.published and not rows[place - 1].published:
            lines.append("-" * len(head))
        judge = f"{row.judge}{' (published)' if row.published else ''}"
        cells = "".join(f"{_number(row.means.get(c)):>12}" for c in columns)
        lines.append(f"{row.name:<{wide}}  {cells}{_number(row.mean):>8}  {judge}")
    return "\n".join([*lines, NOTE])


NOTE = "overall scores 0-10; scores of different judges cannot be compared; published: EARL, arXiv 2508.01119"


def paper_markdown(rows: Sequence[SystemRow]) -> str:
    columns = columns_of(rows)
    lines = [bar(["model", *columns, "mean", "judge"]), bar(["---", *["---:"] * (len(columns) + 1), "---"])]
    for row in rows:
        cells = [_with_interval(row, column) for column in columns]
        judge = f"{row.judge}{' (published)' if row.published else ''}"
        lines.append(bar([row.name, *cells, _number(row.mean), judge]))
    return "\n".join([*lines, "", NOTE, ""])


def paper_latex(rows: Sequence[SystemRow]) -> str:
    columns = columns_of(rows)
    lines = [
        f"% {NOTE}",
        rf"\begin{{tabular}}{{l{'r' * (len(columns) + 1)}l}}",
        r"\toprule",
        " & ".join(["model", *map(escaped, columns), "mean", "judge"]) + r" \\",
        r"\midrule",
    ]
    for place, row in enumerate(rows):
        if place and row.published and not rows[place - 1].published:
            lines.append(r"\midrule")
        judge = row.judge + (" (published)" if row.published else "")
        cells = [_number(row.means.get(column)) for column in columns]
        name = escaped(row.name).replace("→", r"$\rightarrow$")
        lines.append(" & ".join([name, *cells, _number(row.mean), escaped(judge)]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def paper_csv(rows: Sequence[SystemRow]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["model", "judge", "published", "benchmark", "overall", "low", "high", "judged"])
    for row in rows:
        for column in columns_of(rows):
            if row.means.get(column) is not None:
                bounds = row.intervals.get(column) or (None, None)
                cells = [column, row.means[column], *bounds, row.counts.get(column)]
                writer.writerow([row.name, row.judge, int(row.published), *cells])
    return buffer.getvalue()


def paper_json(rows: Sequence[SystemRow]) -> list[dict[str, Any]]:
    return [
        {
            "model": row.name,
            "judge": row.judge,
            "published": row.published,
            "overall": dict(row.means),
            "intervals": {name: list(bounds) for name, bounds in row.intervals.items() if bounds},
            "judged": dict(row.counts),
            "mean": row.mean,
        }
        for row in rows
    ]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _with_interval(row: SystemRow, column: str) -> str:
    bounds = row.intervals.get(column)
    shown = _number(row.means.get(column))
    return f"{shown} [{bounds[0]:.2f}, {bounds[1]:.2f}]" if bounds else shown
