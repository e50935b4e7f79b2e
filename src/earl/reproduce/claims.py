"""What the paper claims, held against the cells: holds, does not hold, or cannot tell.

The rule: cells are compared task by task on the same tasks, seeds in pairs, and the mean difference
gets a 95% interval (`bootstrap`). "More" holds where the whole interval lies above 0 and does not
hold where it lies below 0. "Not more" holds where the whole interval lies below `MARGIN` points,
and does not hold where it lies above 0. All else is "cannot tell". A claim of several comparisons
holds where all of them do, and does not hold where one of them does not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from earl.reproduce.bootstrap import Estimate, estimate

Scores = Mapping[str, Sequence[Mapping[str, Any]]]
Verdict = Literal["holds", "does not hold", "cannot tell", "not run"]
MARGIN = 0.1  # points of the overall score: less than that is no difference worth having


@dataclass(frozen=True, slots=True)
class Comparison:
    """left against right on the mean overall score of all tasks."""

    left: str
    right: str
    says: Literal["more", "not more"] = "more"


@dataclass(frozen=True, slots=True)
class Claim:
    """A sentence and the comparisons that it stands on."""

    sentence: str
    comparisons: tuple[Comparison, ...]


CLAIMS = (
    Claim("RL on simple edits beats SFT", (Comparison("rl-s", "sft-s"),)),
    Claim("Complex edits hurt in SFT", (Comparison("sft-s", "sft-sc"),)),
    Claim("Complex edits help in RL", (Comparison("rl-sc", "rl-s"),)),
    Claim(
        "Simple and complex edits together are best in RL",
        (Comparison("rl-sc", "rl-s"), Comparison("rl-sc", "rl-c")),
    ),
    Claim(
        "Reasoning does not help",
        (Comparison("think-s", "sft-s", "not more"), Comparison("think-s-rl-sc", "rl-sc", "not more")),
    ),
    Claim("Best-of-N on SFT does not reach RL", (Comparison("sft-s-best", "rl-sc", "not more"),)),
    Claim(
        "RL with a weak (noisy) verifier does not beat SFT", (Comparison("rl-sc-noise", "sft-s", "not more"),)
    ),
)


def judge_claims(scores: Scores) -> list[dict[str, Any]]:
    """Each claim with its verdict, and the differences that led to it.

    Returns:
        Records of "claim", "verdict" and "evidence": left, right, says, and "difference" (mean, low,
        high, seeds, tasks), None where a cell was not run.
    """
    found = []
    for claim in CLAIMS:
        evidence, verdicts = [], []
        for comparison in claim.comparisons:
            between = difference(scores, comparison.left, comparison.right)
            verdicts.append(_verdict(comparison, between))
            evidence.append(
                {"left": comparison.left, "right": comparison.right, "says": comparison.says}
                | {"difference": _record(between), "verdict": verdicts[-1]}
            )
        found.append({"claim": claim.sentence, "verdict": _together(verdicts), "evidence": evidence})
    return found


def difference(scores: Scores, left: str, right: str, measure: str = "overall") -> Estimate | None:
    """Mean of left - right over the tasks that both were judged on; None where a cell is missing.

    A cell that does not depend on the seed stands against every seed of the other.
    """
    if left not in scores or right not in scores:
        return None
    ids = list(scores[left][0]["tasks"])
    values_ST, others_ST = (table(scores[name], ids, measure) for name in (left, right))
    return estimate(values_ST - others_ST)  # one row is laid against each of the other's


def table(reports: Sequence[Mapping[str, Any]], ids: Sequence[str], measure: str) -> NDArray[np.float64]:
    """(seeds, tasks) of a measure, NaN where there was no verdict."""
    rows = [[report["tasks"].get(task, {}).get(measure) for task in ids] for report in reports]
    return np.array([[np.nan if value is None else float(value) for value in row] for row in rows])


def _verdict(comparison: Comparison, found: Estimate | None) -> Verdict:
    if found is None:
        return "not run"
    if comparison.says == "more":
        return "holds" if found.low > 0 else "does not hold" if found.high < 0 else "cannot tell"
    return "does not hold" if found.low > 0 else "holds" if found.high < MARGIN else "cannot tell"


def _together(verdicts: Sequence[Verdict]) -> Verdict:
    for worst in ("does not hold", "not run", "cannot tell"):
        if worst in verdicts:
            return worst  # type: ignore[return-value]
    return "holds"


def _record(found: Estimate | None) -> dict[str, float] | None:
    if found is None:
        return None
    rounded = {name: round(getattr(found, name), 4) for name in ("mean", "low", "high")}
    return rounded | {"seeds": found.seeds, "tasks": found.tasks}
