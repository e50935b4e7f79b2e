"""Tables as text, Markdown, LaTeX and CSV: rows of names, counts and estimates with their intervals.

Names of unknown origin are safe in every form: no terminal escapes or line breaks, no markup, no formulas
that a spreadsheet would run.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from earl.errors import DataError
from earl.progress import one_line
from earl.records import Estimate

TOTAL = "all"
"""Part of the row that sums up the table."""
Cell = str | int | float | Estimate | None

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "→": r"$\rightarrow$",
}
_LATEX |= {sign: f"\\{sign}" for sign in "&%$#_{}"}
_FORMULA = re.compile(r"[=+\-@]")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        head: above it.
        name: in CSV; the head when empty.
        left: aligned to the left.
        interval: estimates are shown with their interval in text and HTML; elsewhere they always are.
        signed: estimates are differences, and show their sign.
        bar: HTML draws estimates as bars from 0 to 10.
        here: HTML highlights it.
    """

    head: str
    name: str = ""
    left: bool = False
    interval: bool = False
    signed: bool = False
    bar: bool = False
    here: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """Cells, one a column; "-" is shown for None. A rule stands between rows of different parts."""

    cells: Sequence[Cell]
    part: str = ""
    kind: Literal["", "ours"] = ""
    tag: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table with its notes, a sentence each."""

    title: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    notes: Sequence[str] = ()

    def ruled(self) -> Iterator[tuple[bool, Row]]:
        """Rows, each with whether a rule stands above it."""
        before = self.rows[0].part if self.rows else ""
        for row in self.rows:
            yield row.part != before, row
            before = row.part

    def _cells(self, row: Row, write: Callable[[Cell, Column], str]) -> list[str]:
        """A row's cells as text, the last one with the row's tag."""
        cells = [write(cell, column) for cell, column in zip(row.cells, self.columns, strict=True)]
        return [*cells[:-1], f"{cells[-1]} ({row.tag})"] if row.tag else cells

    def text(self) -> str:
        """For a terminal, aligned; without the title."""
        body = [self._cells(row, _text) for row in self.rows]
        heads = [column.head for column in self.columns]
        widths = [max(map(len, cells)) for cells in zip(heads, *body, strict=True)]

        def line(cells: Sequence[str]) -> str:
            padded = (
                cell.ljust(width) if column.left or column.interval else cell.rjust(width)
                for cell, width, column in zip(cells, widths, self.columns, strict=True)
            )
            return "  ".join(padded).rstrip()

        rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
        lines = [line(heads), rule]
        for (ruled, _), cells in zip(self.ruled(), body, strict=True):
            lines += [rule, line(cells)] if ruled else [line(cells)]
        return "\n".join([*lines, *map(one_line, self.notes)])

    def markdown(self) -> str:
        """With the title as a heading and the notes as a list."""
        heads = _bar([column.head for column in self.columns])
        lines = [heads, _bar(["---" if column.left else "---:" for column in self.columns])]
        lines += [_bar(self._cells(row, lambda c, k: markdown_text(_text(c, k, True)))) for row in self.rows]
        title = [f"# {markdown_text(self.title)}", ""] if self.title else []
        return "\n".join([*title, *lines, "", *(f"- {markdown_text(note)}" for note in self.notes), ""])

    def latex(self) -> str:
        """A booktabs tabular; intervals as ± half their width."""
        layout = "".join("l" if column.left else "r" for column in self.columns)
        lines = [f"% {one_line(text)}" for text in (self.title, *self.notes) if text]
        lines += [rf"\begin{{tabular}}{{{layout}}}", r"\toprule"]
        lines += [" & ".join(_latex(column.head) for column in self.columns) + r" \\", r"\midrule"]
        for ruled, row in self.ruled():
            lines += [r"\midrule"] * ruled + [" & ".join(self._cells(row, _latex_cell)) + r" \\"]
        return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])

    def csv(self) -> str:
        """A row a row, every number in a column of its own: estimates as mean, low, high."""
        estimates = [
            any(isinstance(row.cells[at], Estimate) for row in self.rows) for at in range(len(self.columns))
        ]
        heads: list[str] = []
        for column, is_estimate in zip(self.columns, estimates, strict=True):
            name = column.name or column.head
            heads += [name, f"{name}_low", f"{name}_high"] if is_estimate else [name]
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(heads)
        for row in self.rows:
            cells: list[str | float | None] = []
            for cell, is_estimate in zip(row.cells, estimates, strict=True):
                if isinstance(cell, Estimate):
                    cells += [round(cell.mean, 4), round(cell.low, 4), round(cell.high, 4)]
                elif is_estimate:
                    cells += [cell if isinstance(cell, float) else None, None, None]
                else:
                    cells.append(_no_formula(cell) if isinstance(cell, str) else cell)
            writer.writerow(cells)
        return buffer.getvalue()


def _text(cell: Cell, column: Column, interval: bool = False) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, str):
        return one_line(cell)
    if isinstance(cell, Estimate):
        return cell.text(interval=interval or column.interval, signed=column.signed)
    return f"{cell:.2f}" if isinstance(cell, float) else str(cell)


def markdown_text(text: str) -> str:
    """A text as Markdown shows it on one line, without markup of its own."""
    return one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("|", "\\|")


def _bar(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _latex(text: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in one_line(text))


def _latex_cell(cell: Cell, column: Column) -> str:
    if not isinstance(cell, Estimate):
        return "--" if cell is None else _latex(_text(cell, column))
    mean = cell.text(interval=False, signed=column.signed)
    return rf"{mean} {{\scriptsize$\pm${(cell.high - cell.low) / 2:.2f}}}"


def _no_formula(text: str) -> str:
    """A text on one line, which a spreadsheet takes as text."""
    text = one_line(text)
    return f"'{text}" if _FORMULA.match(text) else text


def check_heads(path: Path, heads: Iterable[str]) -> None:
    """Raises DataError where two columns have one name; spreadsheets leave several without any."""
    seen: set[str] = set()
    for head in filter(None, map(str.strip, heads)):
        if head in seen:
            raise DataError(f"{path} has several columns {head!r}; rename or remove all but one")
        seen.add(head)
