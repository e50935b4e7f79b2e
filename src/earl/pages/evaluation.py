"""The page of an evaluation: scores, the published results, a comparison, and the edits, worst first.

The records here are what the page shows; `earl.evaluation.page` makes them from an evaluation's folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from earl.pages.rendering import render
from earl.tables import Table


@dataclass(frozen=True, slots=True)
class Figure:
    """One image of an edit as a data URL, or why there is none; `small` ones are shown with their pixels."""

    caption: str
    url: str = ""
    missing: str = ""
    small: bool = False


@dataclass(frozen=True, slots=True)
class Card:
    """One edit.

    Attributes:
        shape: CSS aspect ratio of its images.
        figures: source, edited (one or two runs'), target.
        score: overall, 0-10; None where there is none.
        level: of the score.
        details: the score's parts, or the reason why there is none.
        said: the verifier's own words.
        gap: A's score minus B's, where two runs are compared.
    """

    id: str
    number: int
    family: str
    instruction: str
    shape: str
    figures: Sequence[Figure]
    score: float | None
    level: Literal["", "low", "high"]
    details: Sequence[str]
    said: str
    no_image: bool
    gap: float | None = None


@dataclass(frozen=True, slots=True)
class Compared:
    """Two runs compared: their names, tasks that A wins, ties and loses, and the table."""

    a: str
    b: str
    win: int
    tie: int
    loss: int
    table: Table


@dataclass(frozen=True, slots=True)
class EvaluationView:
    """All that the page shows. `paper` is None where no results on the benchmark are kept."""

    title: str
    facts: Sequence[str]
    tiles: Sequence[tuple[str, str]]
    scores: Table
    paper: Table | None
    compared: Compared | None
    cards: Sequence[Card]
    edits: int


def evaluation_page(view: EvaluationView) -> str:
    """The page's HTML."""
    families = sorted({card.family for card in view.cards if card.family})
    return render(
        "evaluation.html", families=families, **{name: getattr(view, name) for name in view.__slots__}
    )
