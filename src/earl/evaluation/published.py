"""Tables of results, as published: the paper's, by number in `published.json`, and later benchmarks'
(`published_later.json`).

EARL, "The Promise of RL for Autoregressive Image Editing" (arXiv 2508.01119 v3). S simple, C
complex edits. The rows of tables 2, 3 and 11 stand together in `published_models`; their mean is over the six
benchmarks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from pydantic import TypeAdapter

from earl.config.evaluation import Failures
from earl.errors import ConfigError
from earl.files import parse_json

JUDGE = "gpt-4o-mini-2024-07-18"
COLUMNS = ("OmniEdit", "EmuEdit", "AURORA", "MagicBrush", "VisMin", "I2EBench")
_MAIN = (2, 3, 11)  # overall scores of models on the six benchmarks


@dataclass(frozen=True, slots=True)
class PublishedTable:
    """One table of the paper.

    Attributes:
        take: what its columns are: overall scores of benchmarks, the parts of scores on them, families or a
            kind of one benchmark, one metric's mean over three benchmarks, several metrics of one, or
            rank correlations with people.
        benchmark: the column of `COLUMNS` (or title) that it is about, "" where of several.
        keys: what a column is called in results, where that is another name.
        scale: by which our figures are multiplied, as the paper prints them.
        rows: each a name and a number per column.
    """

    number: int
    title: str
    take: Literal["overall", "parts", "families", "kind", "metric", "metrics", "agreement"]
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    benchmark: str = ""
    judge: str = ""
    keys: tuple[str, ...] = ()
    scale: tuple[float, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Published:
    """A model's row: overall score 0-10 by column, and the mean of the paper's six."""

    model: str
    scores: Mapping[str, float]
    mean: float | None
    judge: str
    questions: str
    failures: Failures


@cache
def published_tables() -> dict[int, PublishedTable]:
    """All tables by number."""
    tables = TypeAdapter(list[PublishedTable]).validate_python(_read("published.json"))
    return {table.number: table for table in tables}


def published_table(number: int) -> PublishedTable:
    """A table by its number in the paper. Raises ConfigError: it is not among them."""
    tables = published_tables()
    if number not in tables:
        raise ConfigError(
            f"--paper {number}: the paper's tables of results are {min(tables)} to {max(tables)}"
        )
    return tables[number]


def published_models() -> tuple[Published, ...]:
    """The models of tables 2, 3 and 11."""
    rows = [row for number in _MAIN for row in published_table(number).rows]
    scores = [dict(zip(COLUMNS, row[1:-1], strict=True)) for row in rows]
    return tuple(
        Published(row[0], of_row, row[-1], JUDGE, "viescore", "as-released")
        for row, of_row in zip(rows, scores, strict=True)
    )


def later_models() -> tuple[Published, ...]:
    """Rows of later benchmarks, `published_later.json`.

    GEdit-Bench: VIEScore overall, the mean of the eleven tasks' means (arXiv 2504.17761, 2505.14683,
    2506.18871, 2508.02324). ImgEdit-Bench: the mean of three scores of 1 to 5 and of the nine types, doubled
    here (arXiv 2505.20275, 2506.18871, 2508.02324). RISEBench: percent of edits solved, divided by 10 here
    (arXiv 2504.02826, README of PhoenixZ810/RISEBench).
    """
    found = []
    for table in _read("published_later.json"):
        who = table["judge"], table["questions"], table["failures"]
        for model, *numbers in table["rows"]:
            scores = {c: table["scale"] * n for c, n in zip(table["columns"], numbers, strict=False)}
            found.append(Published(model, scores, None, *who))
    return tuple(found)


def _read(name: str) -> Any:
    return parse_json((files("earl.evaluation") / name).read_text("utf-8"), name)
