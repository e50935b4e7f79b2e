"""From edits and verdicts to numbers: means with intervals, by group, kind and family.

A completion without a whole image is the editor's failure and counts as 0 (VIEScore protocol). All
else that has no score is counted by its reason and takes part in no mean. Under the failures rule
"as-released" a white image was judged wherever there is none, and an unusable answer counts as 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from earl.config.evaluation import Failures
from earl.evaluation.folder import JUDGED, EvaluationFolder
from earl.evaluation.intervals import estimates
from earl.evaluation.records import EditRecord, Summary
from earl.records import SCORES, Verdict

NO_IMAGE = ("undecodable", "unfinished")
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
    """One edit with its verdict, None where it got none, and the rule for failures."""

    edit: EditRecord
    verdict: Verdict | None
    failures: Failures = "exclude"

    @property
    def key(self) -> str:
        return self.edit.key

    @property
    def no_image(self) -> bool:
        """The editor made no image, and the means count a score for the edit all the same."""
        if self.verdict is None:
            return False
        return self.verdict.status in NO_IMAGE or (self.verdict.ok and self.edit.state == "no_image")

    @property
    def counts(self) -> bool:
        """Whether it takes part in the means."""
        if self.verdict is None:
            return False
        if self.failures == "as-released":
            return self.verdict.status != "unreachable"
        return self.edit.state in JUDGED["exclude"] and (self.verdict.ok or self.no_image)

    @property
    def reason(self) -> str:
        """Why it does not, one of `REASONS`; "" where it does."""
        if self.counts:
            return ""
        if self.verdict is not None:
            return self.verdict.status
        return self.edit.state if self.edit.state in ("missing", "refused", "unreadable") else "unjudged"

    @property
    def why(self) -> str:
        """The verifier's reason for its verdict; without one, the editor's problem."""
        return (self.verdict.why if self.verdict is not None else "") or self.edit.problem

    def score(self, name: str) -> float:
        """One of `earl.records.SCORES`, or "exact"; 0 where the editor made no image, or as released."""
        assert self.counts and self.verdict is not None
        if not self.verdict.ok or (self.no_image and self.failures == "exclude"):
            return 0.0
        value = self.verdict.score(name)
        assert value is not None, "a verdict that is ok has all its scores"
        return value


def scored_edits(folder: EvaluationFolder) -> list[Scored]:
    """All edits of a folder, in the order of the benchmark."""
    edits = sorted(folder.edits, key=lambda edit: edit.number)
    return [Scored(edit, folder.verdicts.get(edit.key), folder.failures) for edit in edits]


def score_names(edits: Iterable[Scored]) -> tuple[str, ...]:
    """The scores that there are: `earl.records.SCORES`, and "exact" where the verifier says it."""
    ok = [edit.verdict for edit in edits if edit.verdict is not None and edit.verdict.ok]
    return (*SCORES, "exact") if ok and all(verdict.exact is not None for verdict in ok) else SCORES


def summarise(edits: Sequence[Scored], *, names: Sequence[str] = SCORES) -> Summary:
    """Means of a set of edits, with 95% bootstrap intervals over tasks (the same tasks for all scores)."""
    counted = [edit for edit in edits if edit.counts]
    means = estimates([[edit.score(name) for name in names] for edit in counted]) if counted else []
    outcomes = Counter(edit.verdict.outcome for edit in counted if edit.verdict and edit.verdict.outcome)
    return Summary(
        n=len(edits),
        judged=len(counted),
        no_image=sum(edit.no_image for edit in counted),
        left_out=dict(sorted(Counter(edit.reason for edit in edits if not edit.counts).items())),
        scores=dict(zip(names, means, strict=True)) if counted else dict.fromkeys(names),
        outcomes=dict(outcomes.most_common()),
        other=_other(edits),
    )


def _other(edits: Sequence[Scored]) -> float | None:
    """The mean overall score under the other rule for failures; None where both are of the same edits."""
    others = [
        replace(edit, failures="exclude" if edit.failures == "as-released" else "as-released")
        for edit in edits
    ]
    counted = [edit.score("overall") if edit.counts else None for edit in others]
    if counted == [edit.score("overall") if edit.counts else None for edit in edits]:
        return None
    scores = [score for score in counted if score is not None]
    return sum(scores) / len(scores) if scores else None


def divide(edits: Sequence[Scored]) -> dict[str, dict[str, list[Scored]]]:
    """{"groups" | "kinds" | "families": {name: edits}}; rows that could not be read are in none.

    Groups and families begin with the simple ones.
    """
    parts: dict[str, dict[str, list[Scored]]] = {"groups": {}, "kinds": {}, "families": {}}
    readable = [edit for edit in edits if edit.edit.state != "unreadable"]
    for part, attribute in (("groups", "group"), ("kinds", "kind"), ("families", "family")):
        for edit in sorted(readable, key=lambda e: (e.edit.group != "simple", getattr(e.edit, attribute))):
            if name := getattr(edit.edit, attribute):
                parts[part].setdefault(name, []).append(edit)
    return parts
