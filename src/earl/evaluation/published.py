"""Tables of results, as published: the paper's, by number in `published.json`, and later benchmarks'.

EARL, "The Promise of RL for Autoregressive Image Editing" (arXiv 2508.01119 v3). S simple, C
complex edits. The rows of tables 2, 3 and 11 stand together in `published_models`; their mean is over the six
benchmarks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
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
_GEDIT = """
Instruct-Pix2Pix         3.68
MagicBrush               4.52
OmniGen                  5.06
OmniGen2                 6.41
BAGEL                    6.52
FLUX.1 Kontext Pro       6.56 5.36
Step1X-Edit v1.1         6.97 6.50
GPT-4o                   7.53 7.30
Qwen-Image               7.56 7.52
"""
_IMGEDIT = """
Instruct-Pix2Pix         1.88
MagicBrush               1.90
AnyEdit                  2.45
UltraEdit                2.70
OmniGen                  2.96
ICEdit                   3.05
Step1X-Edit              3.06
BAGEL                    3.20
UniWorld-V1              3.26
OmniGen2                 3.44
Ovis-U1                  4.00
GPT-4o                   4.20
Qwen-Image               4.27
"""


_RISE = """
EMU2                     0.05
OmniGen                  0.08
Step1X-Edit              0.19
BAGEL                    0.61
Gemini-2.0-Flash-pre     0.94
BAGEL, with CoT          1.19
Gemini-2.0-Flash-exp     1.33
GPT-4o-Image             2.89
"""


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

    @property
    def rated(self) -> bool:
        """Whether it is of a judge's agreement with people."""
        return self.take == "agreement"


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
    text = (files("earl.evaluation") / "published.json").read_text("utf-8")
    tables = TypeAdapter(list[PublishedTable]).validate_python(parse_json(text, "published.json"))
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


def _later(
    table: str, columns: tuple[str, ...], who: tuple[str, str, Failures], scale: float = 1.0
) -> Iterator[Published]:
    for line in table.strip().splitlines():
        name, *numbers = re.split(r"\s+(?=\d\.\d\d)", line)
        scores = zip(columns, (scale * float(number) for number in numbers), strict=False)
        yield Published(name, dict(scores), None, *who)


LATER: tuple[Published, ...] = (
    *_later(_GEDIT, ("GEdit-Bench-EN", "GEdit-Bench-CN"), ("GPT-4.1", "viescore", "exclude")),
    *_later(_IMGEDIT, ("ImgEdit-Bench",), ("GPT-4o", "imgedit, doubled", "exclude"), scale=2.0),
    *_later(_RISE, ("RISEBench",), ("GPT-4.1", "risebench, percent / 10", "exclude")),
)
"""GEdit-Bench: VIEScore overall, the mean of the eleven tasks' means (arXiv 2504.17761, 2505.14683,
2506.18871, 2508.02324). ImgEdit-Bench: the mean of three scores of 1 to 5 and of the nine types, doubled here
(arXiv 2505.20275, 2506.18871, 2508.02324). RISEBench: percent of edits solved, divided by 10 here (arXiv
2504.02826, README of PhoenixZ810/RISEBench)."""
