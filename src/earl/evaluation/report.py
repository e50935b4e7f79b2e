"""From judged edits to a table: rates and scores by family and by group, with intervals.

A completion without a whole image is the model's failure and counts as 0 (VIEScore protocol).
A verdict that failed (unreachable, unusable) is the verifier's failure: it is counted and
shown, and takes part in no mean.
"""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import earl
from earl.evaluation.intervals import estimate
from earl.records import OUTCOMES, SCORE_PARTS, Verdict

NO_IMAGE = ("undecodable", "unfinished")
SHOWN_RESULTS = (*OUTCOMES, "damaged")
"""What an edit did to the scene, and what was asked but in an image too damaged to count as exact."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One edit with its verdict. `group` is "simple" or "complex"."""

    task: str
    family: str
    group: str
    verdict: Verdict

    @property
    def counts(self) -> bool:
        """Whether it takes part in the means."""
        return self.verdict.ok or self.verdict.status in NO_IMAGE

    def score(self, name: str) -> float:
        """A part, "overall" (0-10) or "exact" (0 or 1); 0 where the model wrote no image."""
        if not self.verdict.ok:
            return 0.0
        value = self.verdict.score(name)
        assert value is not None, "a verdict that is ok has all its scores"
        return value


def summarise(edits: Sequence[Judged], *, seed: int = 0) -> dict[str, Any]:
    """Means of a set of edits.

    Returns:
        "n" (edits), "judged" (of them in the means), "no_image", "failed" (verdicts that
        failed), "exact" (rate 0-1), "overall" and the four parts (0-10), and for each of these
        NAME + "_interval" [low, high] at 95%. Means are None where nothing was judged. "results",
        where the verifier tells them (the world's does): what the edits did, with how many.
    """
    counted = [edit for edit in edits if edit.counts]
    summary: dict[str, Any] = {
        "n": len(edits),
        "judged": len(counted),
        "no_image": sum(not edit.verdict.ok for edit in counted),
        "failed": len(edits) - len(counted),
    }
    for name in ("exact", "overall", *SCORE_PARTS):
        values = [edit.score(name) for edit in counted]
        found = estimate(values, seed=seed)
        summary[name] = round(found.mean, 4) if found else None
        summary[f"{name}_interval"] = [round(found.low, 4), round(found.high, 4)] if found else None
    results = Counter(edit.verdict.outcome for edit in counted if edit.verdict.outcome)
    if results:
        summary["results"] = {name: results[name] for name in SHOWN_RESULTS if results[name]}
    return summary


def by_family(edits: Sequence[Judged], *, seed: int = 0) -> dict[str, Any]:
    """{"simple": summary, "complex": summary, "families": {name: summary with "group"}}."""
    families: dict[str, str] = {edit.family: edit.group for edit in edits}
    ordered = sorted(families, key=lambda name: (families[name] != "simple", name))
    return {
        "simple": summarise([e for e in edits if e.group == "simple"], seed=seed),
        "complex": summarise([e for e in edits if e.group == "complex"], seed=seed),
        "families": {
            name: {"group": families[name]} | summarise([e for e in edits if e.family == name], seed=seed)
            for name in ordered
        },
    }


def format_table(report: dict[str, Any]) -> str:
    """The report as text, one row a family, then the two groups."""
    names = f"{'family':<14}{'n':>5}  {'exact':<20}{'overall':<20}"
    columns = names + f"{'success':>8}{'kept':>6}{'natural':>9}{'clean':>7}"
    rows = [columns, "-" * len(columns)]
    for group in ("simple", "complex"):
        members = {n: s for n, s in report["families"].items() if s["group"] == group}
        rows += [_row(name, summary) for name, summary in members.items()]
        if report[group]["n"]:
            rows += [_row(f"all {group}", report[group]), "-" * len(columns)]
    both = [report["simple"], report["complex"]]
    missing, failed = (sum(part[key] for part in both) for key in ("no_image", "failed"))
    rows.append("exact: rate 0-1; scores 0-10; brackets: 95% bootstrap intervals over tasks")
    if missing:
        rows.append(f"{missing} completions held no image; they count as 0")
    if failed:
        rows.append(f"{failed} verdicts failed; they are in no mean")
    return "\n".join(rows)


def format_results(report: dict[str, Any]) -> str:
    """What the edits did, as text: shares of each row's edits, one row a family, then the two groups."""
    names = SHOWN_RESULTS
    columns = f"{'family':<14}{'n':>5}" + "".join(f"{name:>{len(name) + 3}}" for name in names)
    rows = [columns, "-" * len(columns)]
    for group in ("simple", "complex"):
        members = {n: s for n, s in report["families"].items() if s["group"] == group}
        for name, summary in [*members.items(), (f"all {group}", report[group])]:
            if summary["judged"]:
                shares = [summary.get("results", {}).get(what, 0) / summary["judged"] for what in names]
                cells = "".join(
                    f"{share:>{len(what) + 3}.2f}" for what, share in zip(names, shares, strict=True)
                )
                rows.append(f"{name:<14}{summary['judged']:>5}{cells}")
    rows.append(
        "untouched: nothing changed; elsewhere: something else did; wrong: the right thing, not as asked"
    )
    if missing := sum(report[group]["no_image"] for group in ("simple", "complex")):
        rows.append(f"{missing} completions held no image; they are in no column")
    return "\n".join(rows)


def versions() -> dict[str, str]:
    """What a number was made with. Reads what is installed, imports nothing."""
    libraries = {name: version(name) for name in ("torch", "transformers", "numpy")}
    return {"earl": earl.__version__, "python": platform.python_version(), **libraries}


def _row(name: str, summary: dict[str, Any]) -> str:
    exact, overall = (_with_interval(summary, key) for key in ("exact", "overall"))
    parts = [("-" if summary[p] is None else f"{summary[p]:.1f}") for p in SCORE_PARTS]
    return (
        f"{name:<14}{summary['n']:>5}  {exact:<20}{overall:<20}"
        f"{parts[0]:>8}{parts[1]:>6}{parts[2]:>9}{parts[3]:>7}"
    )


def _with_interval(summary: dict[str, Any], name: str) -> str:
    if summary[name] is None:
        return "-"
    low, high = summary[f"{name}_interval"]
    return f"{summary[name]:.2f} [{low:.2f}, {high:.2f}]"
