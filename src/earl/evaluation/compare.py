"""Paired comparison of two evaluations of the same tasks, with significance.

Differences are A - B of one score of one task. Tasks that either has no score for are counted and left
out of the comparison.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb
from pathlib import Path
from typing import Any

import numpy as np

from earl.errors import ConfigError, DataError
from earl.evaluation.folder import EvaluationFolder
from earl.evaluation.intervals import paired_estimate
from earl.evaluation.scores import SHORT, Scored, divide, score_names, scored_edits
from earl.evaluation.tables import label, parts_of
from earl.files import same_digest
from earl.progress import one_line
from earl.records import Estimate
from earl.tables import Column, Row, Table

Pair = tuple[Scored, Scored]
LEVEL = 0.05


@dataclass(frozen=True, slots=True)
class Compared:
    """Pairs of edits compared.

    Attributes:
        n: pairs; `compared`: of them, those where both have a score.
        win, tie, loss: A's.
        difference: mean of A - B (95%, paired bootstrap); None where nothing could be compared.
        p_bootstrap, p_sign: two-sided.
    """

    n: int
    compared: int
    win: int = 0
    tie: int = 0
    loss: int = 0
    difference: Estimate | None = None
    p_bootstrap: float | None = None
    p_sign: float | None = None

    @property
    def p(self) -> float | None:
        """The larger of the two p-values."""
        return None if self.p_sign is None or self.p_bootstrap is None else max(self.p_sign, self.p_bootstrap)

    @property
    def significant(self) -> bool:
        """Both tests say so, at 5%."""
        return self.p is not None and self.p < LEVEL


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two evaluations compared.

    Attributes:
        a, b: their names.
        benchmark: title.
        score: what is compared, one of `earl.records.SCORES` or "exact".
        tie: points (0-10) by which two scores may differ and still tie.
        verifiers: A's and B's.
        unpaired: tasks that one of the two does not have.
        other_data: the two runs read other data, or the same ones out of other files.
    """

    a: str
    b: str
    benchmark: str
    score: str
    tie: float
    verifiers: tuple[Mapping[str, Any] | None, Mapping[str, Any] | None]
    unpaired: int
    all: Compared
    groups: Mapping[str, Compared]
    kinds: Mapping[str, Compared]
    families: Mapping[str, Compared]
    other_data: bool = False


def compare_runs(
    first: str | Path, second: str | Path, *, score: str = "overall", tie: float = 0.0, across: bool = False
) -> Comparison:
    """Compare two folders, A and B.

    Args:
        score: what is compared, one of `earl.records.SCORES` or "exact".
        tie: points (0-10) by which two scores may differ and still tie.
        across: compare although different verifiers judged them.

    Raises:
        DataError: not evaluations, or no task in common.
        ConfigError: of different benchmarks or verifiers, or a score that they do not have.
    """
    a, b = EvaluationFolder(first), EvaluationFolder(second)
    _check_comparable(a, b, across)
    pairs, unpaired = pair_up(scored_edits(a), scored_edits(b))
    if not pairs:
        raise DataError(f"{first} and {second} have no task in common; evaluate both on the same tasks")
    names = score_names(side for pair in pairs for side in pair if side.counts)
    if score not in names:
        raise ConfigError(f"these evaluations have no score {score!r}; they have {', '.join(names)}")
    partner = {edit.key: other for edit, other in pairs}
    parts: dict[str, Any] = {
        part: {
            name: compare_pairs([(e, partner[e.key]) for e in members], score=score, tie=tie)
            for name, members in divided.items()
        }
        for part, divided in divide([edit for edit, _ in pairs]).items()
    }
    return Comparison(
        *names_apart(a, b),
        benchmark=a.plan["benchmark"]["title"],
        score=score,
        tie=tie,
        verifiers=(a.plan.get("verifier"), b.plan.get("verifier")),
        unpaired=unpaired,
        all=compare_pairs(pairs, score=score, tie=tie),
        other_data=_other_data(a, b),
        **parts,
    )


def names_apart(a: EvaluationFolder, b: EvaluationFolder) -> tuple[str, str]:
    """Names of two evaluations; of one model's two runs with their sampling, or their folders."""
    first, second = a.name, b.name
    if first == second:
        first, second = (f"{folder.name}, {_drawing(folder)}" for folder in (a, b))
    if first == second:
        first, second = (f"{folder.name} in {folder.path.name}" for folder in (a, b))
    return first, second


def pair_up(first: Sequence[Scored], second: Sequence[Scored]) -> tuple[list[Pair], int]:
    """Edits of the same task (key and instruction), and how many tasks are in one run only.

    Raises DataError: a key stands for different instructions.
    """
    others = {edit.key: edit for edit in second}
    pairs = [(edit, others[edit.key]) for edit in first if edit.key in others]
    for edit, other in pairs:
        if edit.edit.instruction != other.edit.instruction:
            raise DataError(
                f"task {edit.key} is {edit.edit.instruction!r} in one evaluation and "
                f"{other.edit.instruction!r} in the other; they are of different data"
            )
    return pairs, len(first) + len(second) - 2 * len(pairs)


def compare_pairs(pairs: Sequence[Pair], *, score: str = "overall", tie: float = 0.0) -> Compared:
    """Compare one score of pairs; see `compare_runs`."""
    both = [(a, b) for a, b in pairs if a.counts and b.counts]
    if not both:
        return Compared(len(pairs), 0)
    differences_T = np.array([a.score(score) - b.score(score) for a, b in both])
    wins = int((differences_T > tie + 1e-9).sum())
    losses = int((differences_T < -tie - 1e-9).sum())
    difference, p_bootstrap = paired_estimate(differences_T)
    ties = len(both) - wins - losses
    return Compared(
        len(pairs), len(both), wins, ties, losses, difference, p_bootstrap, sign_test(wins, losses)
    )


def sign_test(wins: int, losses: int) -> float:
    """Exact two-sided p-value that wins and losses are equally likely; ties say nothing. 1 for no wins
    and no losses."""
    trials, fewer = wins + losses, min(wins, losses)
    tail = sum(comb(trials, count) for count in range(fewer + 1))
    return min(1.0, float(2 * tail / 2**trials))


def comparison_table(comparison: Comparison) -> Table:
    """A row a family, kind and group, then all."""
    columns = [Column("family", left=True), Column("n"), Column("A wins"), Column("ties"), Column("B wins")]
    columns += [Column(f"{SHORT[comparison.score]}, A - B", interval=True, signed=True), Column("p")]
    rows = []
    for part, name, found in parts_of(comparison):
        p = None if found.p is None else "<0.001" if found.p < 0.001 else f"{found.p:.3f}"
        counts = found.compared, found.win, found.tie, found.loss
        rows.append(Row([label(part, name), *counts, found.difference, p], part))
    return Table("", columns, rows, _notes(comparison))


def comparison_text(comparison: Comparison) -> str:
    """For the terminal."""
    names = f"A: {one_line(comparison.a)}\nB: {one_line(comparison.b)}"
    return f"{names}\n\n{comparison_table(comparison).text()}"


def _notes(comparison: Comparison) -> list[str]:
    """Notes for a reader of the comparison, a sentence each."""
    found = comparison.all
    notes = [
        "brackets: 95% paired bootstrap intervals",
        "p: the larger of paired bootstrap's and exact sign test's, two-sided, not corrected for many rows",
    ]
    if found.n > found.compared:
        left_out = found.n - found.compared
        notes.append(f"{left_out} of {found.n} tasks have no score in A, in B, or in both: left out")
    if comparison.unpaired:
        notes.append(f"tasks that are in one run only, left out: {comparison.unpaired}")
    if comparison.other_data:
        notes.append("the two runs read other data, or other files of them: paired by id and instruction")
    if comparison.verifiers[0] != comparison.verifiers[1]:
        notes.append("different verifiers judged the two runs: the difference may be theirs")
    if found.difference is None:
        return [*notes, "nothing could be compared"]
    better = comparison.a if found.difference.mean > 0 else comparison.b
    verdict = f"{better} is better" if found.significant else "the difference may be chance"
    return [*notes, f"{verdict} (5% level, all tasks)"]


def _drawing(folder: EvaluationFolder) -> str:
    editor = folder.plan["editor"]
    if editor.get("kind") == "predictions":
        return "images made elsewhere"
    how = "greedy" if editor.get("greedy") else f"temperature {editor.get('temperature', 1):g}"
    return how if editor.get("candidates", 1) == 1 else f"{how}, best of {editor['candidates']}"


def _other_data(a: EvaluationFolder, b: EvaluationFolder) -> bool:
    first, second = (folder.plan["benchmark"].get("contents") for folder in (a, b))
    known = first is not None and second is not None
    return known and not (same_digest(first, second) or same_digest(second, first))


def _check_comparable(a: EvaluationFolder, b: EvaluationFolder, across: bool) -> None:
    names = [folder.plan["benchmark"]["name"] for folder in (a, b)]
    if names[0] != names[1]:
        raise ConfigError(f"{a.path} is of {names[0]}, {b.path} of {names[1]}; compare runs of one benchmark")
    judges = [folder.plan.get("verifier") for folder in (a, b)]
    for folder, judge in zip((a, b), judges, strict=True):
        if judge is None:
            raise DataError(f"{folder.path} is not judged yet; run its `earl evaluate` to the end")
    if judges[0] != judges[1] and not across:
        raise ConfigError(
            f"different verifiers judged the two runs ({judges[0]} and {judges[1]}): their scores cannot be "
            "compared; judge one of them anew, or pass --across-verifiers"
        )
