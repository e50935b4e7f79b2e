"""The page of an evaluation: scores, the published results, a comparison, and the edits, worst first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from earl.errors import EarlError
from earl.evaluation.compare import compare_runs, comparison_table
from earl.evaluation.folder import EvaluationFolder, failures_of
from earl.evaluation.published import COLUMNS
from earl.evaluation.records import Results
from earl.evaluation.results import compile_results, current_results
from earl.evaluation.scores import REASONS, SHORT, Scored, scored_edits
from earl.evaluation.tables import judge_name, paper_table, published_rows, score_table, system_rows
from earl.files import write_text
from earl.pages.rendering import SMALL, image_url, render
from earl.records import SCORE_PARTS
from earl.sequence.instruction import NEGATIVE_INSTRUCTION
from earl.tables import Table

IMAGES = 400
"""Edits shown; of more, three quarters are the worst and one quarter the best."""
LOW, HIGH = 3.0, 7.0  # of 10, below and above which a score is coloured


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


def write_page(folder: str | Path, out: str | Path, *, other: str | Path | None = None) -> Path:
    """Write the page of an evaluation, also of one that is not at its end.

    Args:
        folder: of the evaluation.
        out: the HTML file; an older one is replaced.
        other: another evaluation of the same benchmark, compared task by task.

    Raises:
        DataError: no evaluation there, or its files are damaged.
        ConfigError: `other` is of another benchmark.
        OutputError: the page cannot be written.
    """
    run = EvaluationFolder(folder)
    results = current_results(run)
    second = EvaluationFolder(other) if other else None
    comparison = compare_runs(folder, other, across=True) if other else None
    edits = scored_edits(run)
    others = {edit.edit.key: edit for edit in scored_edits(second)} if second else {}
    cards = [_card(run, edit, second, others.get(edit.edit.key)) for edit in chosen_edits(edits, IMAGES)]
    page = render(
        "evaluation.html",
        title=f"{results.editor['name']} on {results.benchmark['title']}",
        facts=_facts(results),
        tiles=_tiles(results),
        scores=score_table(results),
        paper=_paper(results, [compile_results(second)] if second else []),
        compared=comparison,
        differences=comparison_table(comparison) if comparison else None,
        families=sorted({card.family for card in cards if card.family}),
        cards=cards,
        edits=len(edits),
    )
    return write_text(out, page)


def chosen_edits(edits: Sequence[Scored], most: int) -> list[Scored]:
    """Edits in the order of the page: worst first, those without a score last.

    Of more than `most`, the worst three quarters of that number, the best quarter, and up to an
    eighth of it without a score. Rows that could not be read have nothing to show.
    """
    judged = sorted((e for e in edits if e.counts), key=lambda e: (e.score("overall"), e.edit.number))
    without = [edit for edit in edits if not edit.counts and edit.edit.state != "unreadable"]
    if len(judged) + len(without) > most:
        without = without[: max(most // 8, most - len(judged))]
        room = most - len(without)
        worst = room - room // 4
        judged = judged[:worst] + judged[max(worst, len(judged) - room // 4) :]
    return judged + without


def _facts(results: Results) -> list[str]:
    """The line under the title."""
    editor, benchmark = results.editor, results.benchmark
    said = [f"{results.all.n} edits", f"judged by {judge_name(results.verifier)}"]
    if results.verifier:
        said.append(f"failures: {failures_of(results.verifier)}")
    if editor.get("kind") == "predictions":
        said.append("images made elsewhere")
    else:
        how = "greedy" if editor.get("greedy") else f"temperature {editor.get('temperature', 1):g}"
        if "guidance" in editor:
            negative = editor.get("negative_instruction") or NEGATIVE_INSTRUCTION
            how += f", guidance {editor['guidance']:g} away from {negative!r}"
        said.append(f"{how}, seed {editor.get('seed', 0)}")
        if editor.get("candidates", 1) > 1:
            said.append(f"best of {editor['candidates']} by the {editor['chosen_by']['kind']} verifier")
    if benchmark.get("draw"):
        said.append(f"{benchmark['draw']} rows drawn with seed {benchmark['draw_seed']}")
    return said


def _tiles(results: Results) -> list[tuple[str, str]]:
    tiles = []
    for name in ("overall", "semantic_consistency", "perceptual_quality", "exact"):
        if name in results.all.scores:
            mean, _, interval = (
                score.text().partition(" ") if (score := results.all.scores[name]) else ("-", "", "")
            )
            tiles.append((mean, f"{SHORT[name]} {interval}".strip()))
    tiles.append((str(results.all.judged), f"of {results.all.n} judged"))
    if results.all.no_image:
        released = failures_of(results.verifier) == "as-released"
        counted = "a white one was judged" if released else "count as 0"
        tiles.append((str(results.all.no_image), f"without an image, {counted}"))
    if left_out := sum(results.all.left_out.values()):
        tiles.append((str(left_out), "without a score, in no mean"))
    return tiles


def _paper(results: Results, others: Sequence[Results]) -> Table | None:
    column = str(results.benchmark.get("column", ""))
    if not column:
        return None
    ours = [row for run in (results, *others) for row in system_rows([run])]  # two may have one name
    published = published_rows(COLUMNS if column in COLUMNS else (column,))
    return paper_table([*ours, *published], here=column, intervals=True)


def _card(run: EvaluationFolder, edit: Scored, second: EvaluationFolder | None, other: Scored | None) -> Card:
    row = edit.edit
    figures = [_figure(run, row.source, "source")]
    if second is None:
        figures.append(_figure(run, row.edited, "edited", _missing(edit)))
    else:
        figures.append(_figure(run, row.edited, f"A {_points(edit)}", _missing(edit)))
        if other is None:
            figures.append(Figure("B", missing="not in this run"))
        else:
            figures.append(_figure(second, other.edit.edited, f"B {_points(other)}", _missing(other)))
    if row.target:
        figures.append(_figure(run, row.target, "target"))
    score = edit.score("overall") if edit.counts else None
    both = score is not None and other is not None and other.counts
    return Card(
        id=row.id,
        number=row.number,
        family=row.family,
        instruction=row.instruction,
        shape="{}/{}".format(*(row.size or (1, 1))),
        figures=figures,
        score=score,
        level="" if score is None or LOW <= score <= HIGH else "low" if score < LOW else "high",
        details=_details(edit),
        said=_said(edit, other),
        no_image=edit.no_image,
        gap=score - other.score("overall") if score is not None and other is not None and both else None,
    )


def _details(edit: Scored) -> list[str]:
    """The parts of a score, or why there is none."""
    if edit.counts:
        return [f"{SHORT[name]} {edit.score(name):.1f}" for name in SCORE_PARTS]
    return [REASONS[edit.reason] + (f": {edit.why[:160]}" if edit.why else "")]


def _said(edit: Scored, other: Scored | None) -> str:
    """The verifier's raw answers, or its reason."""
    said = [
        (name, e.verdict.raw or e.verdict.why) for name, e in (("A", edit), ("B", other)) if e and e.verdict
    ]
    said = [(name, words) for name, words in said if words]
    if other is None:
        return said[0][1] if said else ""
    return "\n".join(f"{name}: {words}" for name, words in said)


def _points(edit: Scored) -> str:
    return f"{edit.score('overall'):.2f}" if edit.counts else "no score"


def _missing(edit: Scored) -> str:
    if edit.edit.state == "no_image":
        return "no image: " + (edit.edit.problem or "the editor made none")
    return REASONS.get(edit.edit.state, "no image")


def _figure(folder: EvaluationFolder, name: str | None, caption: str, missing: str = "") -> Figure:
    try:
        image = folder.image(name)
    except EarlError as error:
        return Figure(caption, missing=str(error)[:160])
    if image is None:
        return Figure(caption, missing=(missing or "none")[:160])
    return Figure(caption, image_url(image), small=max(image.size) <= SMALL)
