"""Scores of the comparison's cells as tables in the shape of the paper's 2, 6, 7 and 11, and its claims.

The paper's columns are benchmarks; here they are the world's edit families, then simple edits (S),
complex edits (C) and all tasks with 95% intervals over seeds and tasks (`earl.evaluation.intervals`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from earl.evaluation.folder import EvaluationFolder
from earl.evaluation.intervals import Estimate, estimate
from earl.evaluation.scores import Scored, scored_edits
from earl.records import SCORE_PARTS
from earl.world.families import FAMILIES
from variances import needed_seeds, variances

Scores = Mapping[str, Sequence[Mapping[str, Scored]]]
"""Of each cell the scored edits by task, one mapping a seed; an empty one where that seed is missing."""
MEASURES = (*SCORE_PARTS, "overall", "exact")
MARGIN = 0.1  # points of the overall score: a smaller difference does not count
TITLES = {
    "direct": "SFT and RL",
    "reasoning": "With a chain of thought",
    "best": "Best of N",
    "judge": "Reward designs under a weak judge",
}
DESIGNS = {"overall": "root of minima", "modulated": "modulated", "mean": "mean", "win_rate": "win rate"}
"""`grpo.reward`, and what tables call it."""
BESIDE = ("sft-s", "rl-sc")  # shown in the other tables too
RULE = (
    "*more* holds where the 95% interval of the mean paired difference lies above 0 and does not hold where "
    f"it lies below; *not more* holds where it lies below {MARGIN:g} points and does not hold where it lies "
    "above 0; all else is *cannot tell*. A claim of several comparisons holds where all of them do."
)
CLAIMS = {
    "RL on simple and complex edits beats SFT": [("rl-sc", "more", "sft-s")],
    "RL on simple edits beats SFT": [("rl-s", "more", "sft-s")],
    "RL on complex edits beats SFT": [("rl-c", "more", "sft-s")],
    "Complex edits hurt in SFT": [("sft-s", "more", "sft-sc")],
    "Complex edits help in RL": [("rl-sc", "more", "rl-s")],
    "Simple and complex edits together are best in RL": [
        ("rl-sc", "more", "rl-s"),
        ("rl-sc", "more", "rl-c"),
    ],
    "Reasoning does not help": [("think-s", "not more", "sft-s"), ("think-s-rl-sc", "not more", "rl-sc")],
    "Best-of-N on SFT does not reach RL": [("sft-s-best", "not more", "rl-sc")],
    "RL with a weak verifier does not beat SFT": [("rl-sc-judge-overall", "not more", "sft-s")],
    "Sampling one step ahead costs RL nothing": [("rl-sc", "not more", "rl-sc-ahead")],
    "Longer RL on simple and complex edits beats SFT": [("rl-sc-scaled", "more", "sft-s")],
    "Longer RL beats RL": [("rl-sc-scaled", "more", "rl-sc")],
    "Under a weak judge the modulated reward beats the root of minima": [
        ("rl-sc-judge-modulated", "more", "rl-sc-judge-overall")
    ],
    "Best-of-N on SFT does not reach RL, both by a weak judge": [
        ("sft-s-best-judge", "not more", "rl-sc-judge-overall")
    ],
} | {
    f"RL under a weak judge beats SFT ({label})": [(f"rl-sc-judge-{name.replace('_', '-')}", "more", "sft-s")]
    for name, label in DESIGNS.items()
}


def read_scores(folder: Path) -> dict[str, Scored]:
    """The scored edits of an evaluation, by task."""
    return {edit.key: edit for edit in scored_edits(EvaluationFolder(folder))}


def markdown(
    cells: Mapping[str, Any], scores: Scores, missing: Mapping[str, str]
) -> tuple[str, dict[str, Any]]:
    """All tables, what is missing, and the claims: as text, and as JSON."""
    parts: list[str] = []
    for kind, title in TITLES.items():
        names = [name for name, cell in cells.items() if cell.table == kind and name in scores]
        if not names:
            continue
        shown = [name for name in BESIDE if name in scores and name not in names] + names
        labels = {name: f"{cells[name].label} ({_seeds(scores[name])})" for name in shown}
        parts += [f"## {title}", "", *_families(scores, labels), "", "By part, all tasks:", ""]
        rows = [[labels[name], *(_text(_mean(scores[name], m)) for m in MEASURES)] for name in shown]
        parts += [*_table(["model", *(m.replace("_", " ") for m in MEASURES)], rows), ""]
    if missing:
        parts += ["## Missing", "", *(f"- `{name}`: {state}" for name, state in missing.items()), ""]
    claims = judge_claims(scores)
    rows = [[claim, f"**{verdict}**", evidence] for claim, verdict, evidence in _claim_rows(claims)]
    parts += ["## Claims", "", RULE, "", *_table(["claim", "verdict", "difference, points"], rows)]
    means = {name: {m: _numbers(_mean(scores[name], m)) for m in MEASURES} for name in scores}
    return "\n".join(parts) + "\n", {"cells": means, "missing": dict(missing), "claims": claims}


def page_tables(
    cells: Mapping[str, Any], scores: Scores, claims: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Tables of the page: the rule, and claims and scores as rows of texts."""
    heads = ["model", "S", "C", *(m.replace("_", " ") for m in MEASURES)]
    rows = [
        [
            f"{cells[name].label} ({_seeds(runs)})",
            *(_text(_mean(runs, "overall", group=group)) for group in ("simple", "complex")),
            *(_text(_mean(runs, measure)) for measure in MEASURES),
        ]
        for name, runs in scores.items()
    ]
    claimed = [["claim", "verdict", "difference, points"], *map(list, _claim_rows(claims))]
    return {"rule": RULE, "claims": claimed, "scores": [heads, *rows]}


def _claim_rows(claims: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    return [(c["claim"], c["verdict"], "; ".join(map(_said, c["evidence"]))) for c in claims]


def judge_claims(scores: Scores) -> list[dict[str, Any]]:
    """Each claim with its "verdict" and the "evidence" of its comparisons."""
    found = []
    for claim, comparisons in CLAIMS.items():
        evidence = []
        for left, says, right in comparisons:
            between = difference(scores, left, right)
            one = {"left": left, "says": says, "right": right, "difference": _numbers(between)}
            verdict = _verdict(says, between)
            if verdict == "cannot tell":
                one["it_takes"] = seeds_to_tell(scores, left, right)
            evidence.append(one | {"verdict": verdict})
        verdicts = [one["verdict"] for one in evidence]
        order = ("does not hold", "not run", "cannot tell", "holds")
        found.append({"claim": claim, "verdict": min(verdicts, key=order.index), "evidence": evidence})
    return found


def difference(scores: Scores, left: str, right: str) -> Estimate | None:
    """Mean of left - right, overall score, task by task, over the seeds that both have; a cell without seeds
    stands against each seed."""
    if left not in scores or right not in scores:
        return None
    differences_ST = paired(scores[left], scores[right])
    return estimate(differences_ST) if len(differences_ST) else None


def paired(left: Sequence[Mapping[str, Scored]], right: Sequence[Mapping[str, Scored]]) -> np.ndarray:
    """(shared seeds, tasks) of left - right, overall score; NaN where one of the two has none."""
    keys = list(next(filter(None, left)))
    differences_ST = _values(left, keys, "overall") - _values(right, keys, "overall")
    return differences_ST[~np.isnan(differences_ST).all(1)]


def seeds_to_tell(scores: Scores, left: str, right: str) -> str:
    """Number of seeds that would show a difference of the size seen, with as many tasks."""
    differences_ST = paired(scores[left], scores[right])
    effect = max(MARGIN, abs(float(np.nanmean(differences_ST))))
    found = variances(differences_ST)
    if math.isnan(found.seed):
        return "two seeds at least are needed to say how many it takes"
    seeds = needed_seeds(found, differences_ST.shape[1], effect)
    return (
        f"{seeds} seeds would show {effect:.2f}" if seeds else f"more tasks are needed to show {effect:.2f}"
    )


def _values(runs: Sequence[Mapping[str, Scored]], keys: Sequence[str], measure: str) -> np.ndarray:
    """(seeds, tasks), NaN where a task has no score."""
    return np.array(
        [
            [run[key].score(measure) if key in run and run[key].counts else np.nan for key in keys]
            for run in runs
        ],
        np.float64,
    )


def _mean(runs: Sequence[Mapping[str, Scored]], measure: str, **only: str) -> Estimate | None:
    """Over the tasks whose "family" or "group" is the one named."""
    runs = [run for run in runs if run]
    keys = [
        key
        for key, one in runs[0].items()
        if all(getattr(one.edit, field) == name for field, name in only.items())
    ]
    return estimate(_values(runs, keys, measure)) if keys else None


def _families(scores: Scores, labels: Mapping[str, str]) -> list[str]:
    families = sorted(FAMILIES, key=lambda name: FAMILIES[name] != "simple")
    means = {f: [_mean(scores[name], "overall", family=f) for name in labels] for f in families}
    shown = [family for family in families if any(means[family])]
    rows = []
    for index, (name, label) in enumerate(labels.items()):
        groups = [_mean(scores[name], "overall", group=group) for group in ("simple", "complex")]
        own = [means[family][index] for family in shown]
        cells = [f"{one.mean:.2f}" if one else "–" for one in own]
        rows.append([label, *cells, *map(_text, [*groups, _mean(scores[name], "overall")])])
    heads = [f"{family} ({FAMILIES[family][0].upper()})" for family in shown]
    return _table(["model", *heads, "S", "C", "all"], rows)


def _verdict(says: str, found: Estimate | None) -> str:
    if found is None:
        return "not run"
    if says == "more":
        return "holds" if found.low > 0 else "does not hold" if found.high < 0 else "cannot tell"
    return "does not hold" if found.low > 0 else "holds" if found.high < MARGIN else "cannot tell"


def _said(one: Mapping[str, Any]) -> str:
    found, names = one["difference"], f"{one['left']} − {one['right']}"
    if found is None:
        return f"{names}: not run"
    takes = f" ({one['it_takes']})" if "it_takes" in one else ""
    return f"{names} {found['mean']:+.2f} [{found['low']:+.2f}, {found['high']:+.2f}]{takes}"


def _numbers(found: Estimate | None) -> dict[str, float] | None:
    return found and {name: round(getattr(found, name), 4) for name in ("mean", "low", "high", "count")}


def _text(found: Estimate | None) -> str:
    return found.text() if found else "–"


def _seeds(runs: Sequence[Mapping[str, Scored]]) -> str:
    count = sum(map(bool, runs))
    return f"{count} seed{'s' if count > 1 else ''}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [heads, ["---"] * len(heads), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]
