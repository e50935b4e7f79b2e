"""Tables of results: scores by family, what the edits did, and runs beside published rows."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from earl.config.evaluation import Failures
from earl.errors import ConfigError
from earl.evaluation.folder import failures_of
from earl.evaluation.metrics import MEANING
from earl.evaluation.published import COLUMNS, later_models, published_models
from earl.evaluation.records import Results
from earl.evaluation.scores import REASONS, SHORT
from earl.records import Estimate
from earl.tables import TOTAL, Cell, Column, Row, Table

if TYPE_CHECKING:
    from earl.evaluation.compare import Comparison

NOTE = (
    "overall scores 0-10; scores of different judges cannot be compared; published: the paper's six in arXiv "
    "2508.01119, GEdit-Bench in 2504.17761 and ImgEdit-Bench in 2505.20275 and after them, RISEBench in "
    "2504.02826 (percent of edits solved, divided by 10)"
)
OTHER = "other mean: under the other rule for failures, of the same verdicts"


def score_table(results: Results) -> Table:
    """A row a family, kind and group, then all, with the notes that a reader needs."""
    names = results.score_names
    columns = [Column("family", left=True), Column("n"), Column("judged")]
    for name in names:
        shown = name in ("overall", "exact")
        columns.append(Column(SHORT[name], interval=shown, bar=name == "overall"))
    rows = [
        Row([label(part, name), summary.n, summary.judged, *summary.scores.values()], part)
        for part, name, summary in parts_of(results)
    ]
    return Table(title(results), columns, rows, notes(results))


def number_table(results: Results) -> Table:
    """The same numbers for CSV, with benchmark, editor and part in columns of their own."""
    heads = ["benchmark", "editor", "failures", "part", "name", "n", "judged", "no_image", "left_out"]
    rows = []
    for part, name, summary in parts_of(results):
        who = [results.benchmark["name"], results.editor["name"], failures_of(results.verifier), part, name]
        counts = [summary.n, summary.judged, summary.no_image, sum(summary.left_out.values())]
        rows.append(Row([*who, *counts, *summary.scores.values(), summary.other], part))
    columns = [Column(name) for name in (*heads, *results.score_names, "overall_other_failures")]
    return Table(title(results), columns, rows)


def outcome_table(results: Results) -> Table:
    """Outcomes of the edits by the verifier: shares of each row's judged edits."""
    names = list(results.all.outcomes)
    rows = [
        Row([label(part, name), s.judged, *(s.outcomes.get(n, 0) / s.judged for n in names)], part)
        for part, name, s in parts_of(results)
        if s.judged
    ]
    said = "shares of the judged edits" if names else "the verifier does not say what the edits did"
    if results.all.no_image:
        said += f"; {results.all.no_image} completions held no image and are in no column"
    return Table("", [Column("family", left=True), Column("n"), *map(Column, names)], rows, [said])


def notes(results: Results) -> list[str]:
    """Notes for a reader of the table, a sentence each."""
    overall = results.all
    said = ["scores 0-10, 10 is best in all; brackets: 95% bootstrap intervals over tasks"]
    if "exact" in overall.scores:
        said.append("exact: rate 0-1 of edits that are exactly right")
    released = failures_of(results.verifier) == "as-released"
    if overall.no_image:
        counted = "a white image was judged in their place" if released else "they count as 0"
        said.append(f"edits without an image: {overall.no_image}; {counted}")
    for reason, count in overall.left_out.items():
        said.append(f"in no mean: {count} of {overall.n}, {REASONS[reason]}")
    if overall.other is not None:
        rule = "without unusable answers and missing images" if released else "with unusable answers as 0"
        said.append(
            f"overall {rule} (--failures {'exclude' if released else 'as-released'}): {overall.other:.2f}"
        )
    for name in ("semantic_consistency", "perceptual_quality", "overall"):
        if (mean := family_mean(results, name)) is not None:
            said.append(f"{SHORT[name]} as published, the mean of the families' means: {mean:.2f}")
    if (solved := solved_share(results)) is not None:
        said.append(f"solved as published, percent: {100 * solved.mean:.1f}")
    if results.unknown_families:
        unknown = ", ".join(results.unknown_families)
        said.append(f"unknown to this version, so families of their own without a kind: {unknown}")
    if not results.complete:
        said.append("the benchmark was not edited to its end: these are its first tasks")
    for name, metric in results.metrics.items():
        images = f", {metric.count} images" if metric.count > 1 else ""
        what, direction = MEANING[name]
        digits = 4 if metric.mean < 0.1 else 3
        said.append(f"{what} {metric.text(digits)}{images} ({direction})")
    return [*said, *results.not_measured.values()]


def title(results: Results) -> str:
    """Model, benchmark and verifier of an evaluation, as a title."""
    judge, questions = judge_name(results.verifier), questions_of(results.verifier)
    asked = f" ({questions})" if questions else ""
    failures = f", failures: {failures_of(results.verifier)}" if results.verifier else ""
    return f"{editor_name(results)} on {results.benchmark['title']}, judged by {judge}{asked}{failures}"


def judge_name(verifier: Mapping[str, Any] | None) -> str:
    """The verifier in a few words."""
    if not verifier:
        return "nobody yet"
    model = verifier.get("model")
    if not model:
        return f"the {verifier.get('kind')} verifier"
    return f"{model} against the target" if verifier.get("kind") == "reference" else str(model)


def questions_of(verifier: Mapping[str, Any] | None) -> str:
    """The question set that a judge was asked: its protocol, and the hash of questions; "" of no judge."""
    if not verifier or not (digest := verifier.get("questions")):
        return ""
    return f"{verifier.get('protocol', 'earl')} {digest}"


def parts_of(results: Results | Comparison) -> Iterator[tuple[str, str, Any]]:
    """(part, name, its summary or comparison): families, kinds, groups, all.

    A part with one name says what "all" says, and is left out; families never are.
    """
    for part in ("families", "kinds", "groups"):
        members = getattr(results, part)
        if len(members) > 1 or part == "families":
            for name, summary in members.items():
                yield part, name, summary
    yield TOTAL, "all", results.all


def label(part: str, name: str) -> str:
    """A row's first cell."""
    return f"all {name}" if part in ("kinds", "groups") else name


@dataclass(frozen=True, slots=True)
class SystemRow:
    """A system's overall scores by column of the paper's table.

    Attributes:
        questions: that the judge was asked, "" where it was none.
        failures: the rule for them (`earl.config.EvaluationSettings`).
        scores: an estimate for ours, a number as published.
        mean: over the paper's six benchmarks; None where one is missing. Published means are the paper's
            own, of figures before rounding.
        other_mean: the same mean under the other rule for failures; None where it is the same.
    """

    name: str
    judge: str
    questions: str
    failures: Failures
    scores: Mapping[str, Estimate | float | None]
    mean: float | None
    other_mean: float | None = None
    published: bool = False


def by_system(runs: Sequence[Results]) -> dict[tuple[str, str, str, Failures], dict[str, Results]]:
    """Runs by system, judge, question set and rule for failures, then by benchmark, in the order given.

    Raises ConfigError: one system has two runs of one benchmark by the same judge.
    """
    systems: dict[tuple[str, str, str, Failures], dict[str, Results]] = {}
    for run in runs:
        name, judge, failures = editor_name(run), judge_name(run.verifier), failures_of(run.verifier)
        parts = systems.setdefault((name, judge, questions_of(run.verifier), failures), {})
        column = str(run.benchmark.get("column") or run.benchmark["title"])
        if column in parts:
            raise ConfigError(
                f"two of the runs are of {name} on {column} by one judge; tell them apart with --name when "
                "they are made, or leave one out"
            )
        parts[column] = run
    return systems


def system_rows(runs: Sequence[Results]) -> list[SystemRow]:
    """Rows of runs, as `by_system` groups them."""
    rows = []
    for who, parts in by_system(runs).items():
        scores = {column: _reported(run) for column, run in parts.items()}
        six = [
            (score.mean, parts[c].all.other) for c in COLUMNS if isinstance(score := scores.get(c), Estimate)
        ]
        mean = other = None
        if len(six) == len(COLUMNS):
            mean = sum(score for score, _ in six) / len(six)
            if any(under_other is not None for _, under_other in six):
                other = sum(score if o is None else o for score, o in six) / len(six)
        rows.append(SystemRow(*who, scores, mean, other))
    return rows


def _reported(run: Results) -> Estimate | float | None:
    """The score that a benchmark's publisher reports, 0-10."""
    if (solved := solved_share(run)) is not None:
        return 10 * solved.mean
    return run.all.overall if (mean := family_mean(run)) is None else mean


def published_rows(columns: Collection[str] = COLUMNS) -> list[SystemRow]:
    """Published rows with a score in one of the columns."""
    return [
        SystemRow(
            row.model, row.judge, row.questions, row.failures, dict(row.scores), row.mean, published=True
        )
        for row in (*published_models(), *later_models())
        if not row.scores.keys().isdisjoint(columns)
    ]


def solved_share(results: Results) -> Estimate | None:
    """The share of edits that are solved, where that is what the benchmark's publisher reports; else None."""
    return results.all.scores.get("exact") if results.benchmark.get("mean") == "solved" else None


def family_mean(results: Results, name: str = "overall") -> float | None:
    """The mean of the families' means, where that is what the benchmark's publisher reports; else None."""
    if results.benchmark.get("mean") != "families":
        return None
    means = [score.mean for family in results.families.values() if (score := family.scores.get(name))]
    return sum(means) / len(means) if means else None


def paper_table(rows: Sequence[SystemRow], *, here: str = "", intervals: bool = False) -> Table:
    """Systems down, benchmarks across; published rows are marked, with their judge.

    Args:
        here: the column that is highlighted.
        intervals: shown in text too.
    """
    there = {name for row in rows for name in row.scores}
    names = [*(name for name in COLUMNS if name in there), *sorted(there - set(COLUMNS))]
    columns = [Column("model", left=True)]
    columns += [Column(name, here=name == here, interval=intervals) for name in names]
    both = any(row.other_mean is not None for row in rows)
    columns += [Column("mean"), *[Column("other mean")] * both]
    columns += [Column(name, left=True) for name in ("judge", "questions", "failures")]
    shown = []
    for row in rows:
        cells: list[Cell] = [row.name, *(row.scores.get(name) for name in names), row.mean]
        cells += [*[row.other_mean] * both, row.judge, row.questions or None, row.failures]
        tag = "published" if row.published else ""
        shown.append(
            Row(cells, "published" if row.published else "ours", "" if row.published else "ours", tag)
        )
    return Table("", columns, shown, [NOTE, *[OTHER] * both])


def unscored_notes(runs: Sequence[Results]) -> Iterator[str]:
    """A sentence for each run that is not of all its edits."""
    for run in runs:
        missing = sum(run.all.left_out.values())
        if missing or not run.complete:
            rest = "" if run.complete else ", and there are tasks that were not edited"
            where = f"{editor_name(run)} on {run.benchmark['title']}"
            yield f"{where}: {missing} of {run.all.n} edits have no score and are in no mean{rest}"


def paper_csv_table(rows: Sequence[SystemRow]) -> Table:
    """A row a system and benchmark."""
    heads = ("model", "judge", "questions", "failures", "published", "benchmark", "overall", "judged")
    cells = [
        Row([*who, int(row.published), name, score, getattr(score, "count", None)])
        for row in rows
        for who in [(row.name, row.judge, row.questions, row.failures)]
        for name, score in row.scores.items()
        if score is not None
    ]
    return Table("", [Column(head) for head in heads], cells)


def editor_name(results: Results) -> str:
    """Name of what is evaluated, with the number of images that the best is taken of."""
    several = results.editor.get("candidates", 1) or 1
    return str(results.editor["name"]) + (f", best of {several}" if several > 1 else "")
