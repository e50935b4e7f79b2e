"""From edits and verdicts to numbers: means with intervals, by group, kind and family.

A completion without a whole image is the editor's failure and counts as 0 (VIEScore protocol). All
else that has no score is counted by its reason and takes part in no mean.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from earl.evaluation.folder import EvaluationFolder
from earl.evaluation.intervals import estimates
from earl.evaluation.report import NO_IMAGE
from earl.records import SCORES, Verdict

SHORT = {
    "overall": "overall",
    "semantic_consistency": "SC",
    "perceptual_quality": "PQ",
    "edit_success": "edit success",
    "over_editing": "over-editing",
    "naturalness": "naturalness",
    "artifacts": "artifacts",
    "exact": "exact",
}

REASONS = {
    "unjudged": "not judged yet",
    "unreachable": "the verifier did not answer",
    "unusable": "the verifier's answer could not be used",
    "missing": "no image was given",
    "refused": "the editor cannot take the task",
    "unreadable": "the benchmark's row cannot be read",
}
"""Why an edit has no score."""


@dataclass(frozen=True, slots=True)
class Scored:
    """One edit with its verdict, None where it got none."""

    edit: dict[str, Any]
    verdict: Verdict | None

    @property
    def key(self) -> str:
        return self.edit["key"]

    @property
    def no_image(self) -> bool:
        return self.verdict is not None and self.verdict.status in NO_IMAGE

    @property
    def counts(self) -> bool:
        """Whether it takes part in the means."""
        return self.verdict is not None and (self.verdict.ok or self.no_image)

    @property
    def reason(self) -> str:
        """Why it does not, one of `REASONS`; "" where it does."""
        if self.counts:
            return ""
        if self.edit["state"] in ("missing", "refused", "unreadable"):
            return self.edit["state"]
        return self.verdict.status if self.verdict is not None else "unjudged"

    @property
    def why(self) -> str:
        """The reason in the words of who gave it."""
        if self.verdict is None:
            return self.edit.get("problem", "")
        return str(self.verdict.why or self.edit.get("problem") or "")

    def score(self, name: str) -> float:
        """One of `earl.records.SCORES`, or "exact"; 0 where the editor made no image."""
        assert self.counts and self.verdict is not None
        if self.no_image:
            return 0.0
        value = self.verdict.score(name)
        assert value is not None, "a verdict that is ok has all its scores"
        return value


def scored_edits(folder: EvaluationFolder) -> list[Scored]:
    """All edits of a folder, in the order of the benchmark."""
    edits = sorted(folder.edits, key=lambda edit: edit["number"])
    return [Scored(edit, _verdict(folder, edit["key"])) for edit in edits]


def names_of(edits: Iterable[Scored]) -> tuple[str, ...]:
    """The scores that there are: `earl.records.SCORES`, and "exact" where the verifier is the world's."""
    ok = [edit.verdict for edit in edits if edit.verdict is not None and edit.verdict.ok]
    exact = bool(ok) and all(verdict.exact is not None for verdict in ok)
    return (*SCORES, "exact") if exact else SCORES


def summarise(edits: Sequence[Scored], *, names: Sequence[str] = SCORES, seed: int = 0) -> dict[str, Any]:
    """Means of a set of edits.

    Returns:
        "n", "judged" (in the means), "no_image" (of these; they count as 0), "left_out" {reason:
        count}, and for each name its mean and NAME + "_interval" [low, high] at 95%, both None
        where nothing was judged.
    """
    counted = [edit for edit in edits if edit.counts]
    summary: dict[str, Any] = {
        "n": len(edits),
        "judged": len(counted),
        "no_image": sum(edit.no_image for edit in counted),
        "left_out": dict(sorted(Counter(edit.reason for edit in edits if not edit.counts).items())),
    }
    if not counted:
        return summary | {key: None for name in names for key in (name, f"{name}_interval")}
    values_TK = [[edit.score(name) for name in names] for edit in counted]
    for name, found in zip(names, estimates(values_TK, seed=seed), strict=True):
        assert found is not None
        summary[name] = round(found.mean, 4)
        summary[f"{name}_interval"] = [round(found.low, 4), round(found.high, 4)]
    return summary


def divide(edits: Sequence[Scored]) -> dict[str, dict[str, list[Scored]]]:
    """{"groups" | "kinds" | "families": {name: edits}}; rows that could not be read are in none."""
    parts: dict[str, dict[str, list[Scored]]] = {"groups": {}, "kinds": {}, "families": {}}
    readable = [edit for edit in edits if edit.edit["state"] != "unreadable"]
    for part, field in (("groups", "group"), ("kinds", "kind"), ("families", "family")):
        order = sorted({edit.edit[field] for edit in readable if edit.edit[field]})
        order.sort(key=lambda name: part == "groups" and name != "simple")
        parts[part] = {name: [e for e in readable if e.edit[field] == name] for name in order}
    return parts


def _verdict(folder: EvaluationFolder, key: str) -> Verdict | None:
    record = folder.verdicts.get(key)
    return Verdict.from_json(record) if record else None
