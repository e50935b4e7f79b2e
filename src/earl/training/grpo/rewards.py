"""Reward designs: from a group's verdicts to one number each, 0-10, by name.

The overall score is a root of minima: one low part decides, and a judge that gives the same part to most
edits leaves most of a group equal. The others read the same verdicts in another way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from earl.config.grpo import RewardDesign
from earl.records import SCORE_PARTS, Verdict

BASE = 0.6
"""Share of an edit's success that counts whatever it changed besides; the rest is weighed by over-editing."""


def overall(verdict: Verdict) -> float | None:
    """sqrt(min(edit success, over-editing) x min(naturalness, artifacts)): VIEScore, and EARL's reward."""
    return verdict.overall


def modulated(verdict: Verdict) -> float | None:
    """edit success x (0.6 + 0.4 x over-editing / 10): changing nothing earns nothing, however well it is
    done, and more is earned for what was left alone.

    FIRM's consistency-modulated execution, with its shares (arXiv 2603.12247).
    """
    if verdict.edit_success is None or verdict.over_editing is None:
        return None
    return verdict.edit_success * (BASE + (1 - BASE) * verdict.over_editing / 10)


def mean(verdict: Verdict) -> float | None:
    """The mean of the four parts."""
    parts = [verdict.score(name) for name in SCORE_PARTS]
    known = [part for part in parts if part is not None]
    return sum(known) / len(parts) if len(known) == len(parts) else None


def win_rates(scores: Sequence[float | None]) -> list[float | None]:
    """10 x the share of the other rollouts of the group that each one beats; a tie is half a win.

    Only the order counts, so that an outlier or a stretched scale weighs no more than a narrow win
    (pairwise preferences in place of points: Pref-GRPO, arXiv 2508.20751; here the pairs are decided by
    the scores of one verdict each, which costs no further questions).
    """
    known = [score for score in scores if score is not None]
    others = max(1, len(known) - 1)

    def rate(score: float) -> float:
        wins = sum(score > other for other in known)
        ties = sum(score == other for other in known) - 1
        return 10 * (wins + ties / 2) / others

    return [None if score is None else rate(score) for score in scores]


DESIGNS: dict[RewardDesign, Callable[[Verdict], float | None]] = {
    "overall": overall,
    "modulated": modulated,
    "mean": mean,
    "win_rate": mean,
}


def group_rewards(verdicts: Sequence[Verdict], design: RewardDesign) -> list[float | None]:
    """The reward of each rollout of a group; None where its verdict has no scores: a failure is never turned
    into a number."""
    scores = [DESIGNS[design](verdict) if verdict.ok else None for verdict in verdicts]
    return win_rates(scores) if design == "win_rate" else scores
