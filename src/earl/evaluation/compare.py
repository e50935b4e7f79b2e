"""Two evaluations of the same tasks: who wins, ties and loses, and whether that is chance.

Differences are A - B of the overall score of one task. Tasks that either has no score for are
counted and left out of the comparison.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from earl.errors import ConfigError, DataError
from earl.evaluation.folder import EvaluationFolder
from earl.evaluation.intervals import paired_estimate
from earl.evaluation.scores import SHORT, Scored, divide, names_of, scored_edits

Pair = tuple[Scored, Scored]
LEVEL = 0.05


def compare_runs(
    first: str | Path, second: str | Path, *, score: str = "overall", tie: float = 0.0, across: bool = False
) -> dict[str, Any]:
    """Compare two folders.

    Args:
        first, second: A and B.
        score: what is compared, one of `earl.records.SCORES` or "exact".
        tie: points (0-10) by which two scores may differ and still tie.
        across: compare although different verifiers judged them.

    Returns:
        {"a", "b": names, "benchmark", "score", "tie", "verifiers": [A's, B's],
         "all": comparison, "groups" | "kinds" | "families": {name: comparison}}; a comparison is as
        `compare_pairs` gives it, and "all" has "unpaired": tasks that one folder does not have.

    Raises:
        DataError: not evaluations, or no task in common.
        ConfigError: of different benchmarks or verifiers, or a score that they do not have.
    """
    a, b = EvaluationFolder(first), EvaluationFolder(second)
    _check_comparable(a, b, across)
    pairs, unpaired = pair_up(scored_edits(a), scored_edits(b))
    if not pairs:
        raise DataError(f"{first} and {second} have no task in common; evaluate both on the same tasks")
    counted = [side for pair in pairs for side in pair if side.counts]
    if score not in names_of(counted):
        raise ConfigError(
            f"these evaluations have no score {score!r}; they have {', '.join(names_of(counted))}"
        )
    partner = {edit.key: other for edit, other in pairs}
    parts = {
        part: {
            name: compare_pairs([(e, partner[e.key]) for e in members], score=score, tie=tie)
            for name, members in divided.items()
        }
        for part, divided in divide([edit for edit, _ in pairs]).items()
    }
    first, second = names_apart(a, b)
    return {
        "a": first,
        "b": second,
        "benchmark": a.plan["benchmark"]["title"],
        "score": score,
        "tie": tie,
        "verifiers": [a.plan.get("verifier"), b.plan.get("verifier")],
        "all": compare_pairs(pairs, score=score, tie=tie) | {"unpaired": unpaired},
        **parts,
    }


def names_apart(a: EvaluationFolder, b: EvaluationFolder) -> tuple[str, str]:
    """What was evaluated; of one model's two runs also how they were drawn, or which folder each is."""
    first, second = a.name, b.name
    if first == second:
        first, second = (f"{folder.name}, {_drawing(folder)}" for folder in (a, b))
    if first == second:
        first, second = (f"{folder.name} in {folder.path.name}" for folder in (a, b))
    return first, second


def _drawing(folder: EvaluationFolder) -> str:
    editor = folder.plan["editor"]
    if editor["kind"] == "predictions":
        return "images made elsewhere"
    how = "greedy" if editor.get("greedy") else f"temperature {editor.get('temperature', 1):g}"
    return how if editor.get("candidates", 1) == 1 else f"{how}, best of {editor['candidates']}"


def pair_up(first: Sequence[Scored], second: Sequence[Scored]) -> tuple[list[Pair], int]:
    """Edits of the same task (key and instruction), and how many tasks are in one run only.

    Raises DataError: a key stands for different instructions.
    """
    others = {edit.key: edit for edit in second}
    pairs = [(edit, others[edit.key]) for edit in first if edit.key in others]
    for edit, other in pairs:
        if edit.edit["instruction"] != other.edit["instruction"]:
            raise DataError(
                f"task {edit.key} is {edit.edit['instruction']!r} in one evaluation and "
                f"{other.edit['instruction']!r} in the other; they are of different data"
            )
    return pairs, len(first) + len(second) - 2 * len(pairs)


def compare_pairs(
    pairs: Sequence[Pair], *, score: str = "overall", tie: float = 0.0, seed: int = 0
) -> dict[str, Any]:
    """Compare scores of pairs.

    Returns:
        "n" (pairs), "compared" (of them, both have a score), "win", "tie", "loss" (A's), "difference"
        (mean of A - B), "interval" (95%, paired bootstrap), "p_bootstrap", "p_sign" (both
        two-sided), "significant" (both below 0.05). None where nothing could be compared.
    """
    both = [(a, b) for a, b in pairs if a.counts and b.counts]
    found: dict[str, Any] = {"n": len(pairs), "compared": len(both)}
    if not both:
        nothing = ("difference", "interval", "p_bootstrap", "p_sign", "significant")
        return found | {"win": 0, "tie": 0, "loss": 0} | dict.fromkeys(nothing)
    differences_T = np.array([a.score(score) - b.score(score) for a, b in both])
    wins = int((differences_T > tie + 1e-9).sum())
    losses = int((differences_T < -tie - 1e-9).sum())
    mean, p_bootstrap = paired_estimate(differences_T, seed=seed)
    p_sign = sign_test(wins, losses)
    return found | {
        "win": wins,
        "tie": len(both) - wins - losses,
        "loss": losses,
        "difference": round(mean.mean, 4),
        "interval": [round(mean.low, 4), round(mean.high, 4)],
        "p_bootstrap": round(p_bootstrap, 6),
        "p_sign": round(p_sign, 6),
        "significant": max(p_bootstrap, p_sign) < LEVEL,
    }


def sign_test(wins: int, losses: int) -> float:
    """Exact two-sided p-value that wins and losses are equally likely; ties say nothing. 1 for no wins
    and no losses."""
    trials, fewer = wins + losses, min(wins, losses)
    if trials == 0:
        return 1.0
    tail = sum(math.comb(trials, count) for count in range(fewer + 1))
    return min(1.0, 2 * tail / 2**trials)


def comparison_text(comparison: Mapping[str, Any]) -> str:
    """For the terminal: a row a family, kind and group, then all."""
    rows = [
        (part, name, found)
        for part in ("families", "kinds", "groups")
        for name, found in comparison[part].items()
        if len(comparison[part]) > 1 or part == "families"
    ]
    rows.append(("all", "all", comparison["all"]))
    names = [f"all {name}" if part in ("kinds", "groups") else name for part, name, _ in rows]
    wide = max(6, *map(len, names))
    unit = SHORT[comparison["score"]]
    head = f"{'family':<{wide}} {'n':>5} {'win':>5} {'tie':>5} {'loss':>5}  {unit + ', A - B':<24}{'p':>7}"
    lines = [f"A: {comparison['a']}", f"B: {comparison['b']}", "", head, "-" * len(head)]
    for name, (part, _, found) in zip(names, rows, strict=True):
        if part == "all":
            lines.append("-" * len(head))
        counts = f"{found['compared']:>5} {found['win']:>5} {found['tie']:>5} {found['loss']:>5}"
        lines.append(f"{name:<{wide}} {counts}  {difference_text(found):<24}{_p(found):>7}")
    return "\n".join([*lines, *comparison_notes(comparison)])


def difference_text(found: Mapping[str, Any]) -> str:
    """A mean difference with its interval."""
    if found["difference"] is None:
        return "-"
    mean, low, high = (f"{round(v, 2) + 0.0:+.2f}" for v in (found["difference"], *found["interval"]))
    return mean if found["compared"] < 2 else f"{mean} [{low}, {high}]"  # + 0.0: no "-0.00"


def comparison_notes(comparison: Mapping[str, Any]) -> list[str]:
    """What a reader of the comparison must know, a sentence each."""
    found = comparison["all"]
    notes = [
        "brackets: 95% paired bootstrap intervals",
        "p: the larger of paired bootstrap's and exact sign test's, two-sided, not corrected for many rows",
    ]
    if found["n"] > found["compared"]:
        left_out = found["n"] - found["compared"]
        notes.append(f"{left_out} of {found['n']} tasks have no score in A, in B, or in both: left out")
    if found["unpaired"]:
        notes.append(f"tasks that are in one run only, left out: {found['unpaired']}")
    if comparison["verifiers"][0] != comparison["verifiers"][1]:
        notes.append("different verifiers judged the two runs: the difference may be theirs")
    if found["significant"] is None:
        return [*notes, "nothing could be compared"]
    better = comparison["a"] if found["difference"] > 0 else comparison["b"]
    verdict = f"{better} is better" if found["significant"] else "the difference may be chance"
    return [*notes, f"{verdict} (5% level, all tasks)"]


def _p(found: Mapping[str, Any]) -> str:
    if found["p_sign"] is None:
        return "-"
    value = max(found["p_sign"], found["p_bootstrap"])
    return "<0.001" if value < 0.001 else f"{value:.3f}"


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
