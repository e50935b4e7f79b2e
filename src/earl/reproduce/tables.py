"""The cells' scores as tables in the shape of the paper's 2, 6, 7 and 11, in Markdown and as JSON.

The paper's columns are benchmarks; here they are the world's edit families, simple ones and complex
ones, then both groups and all tasks with intervals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from earl.records import SCORE_PARTS
from earl.reproduce.bootstrap import Estimate, estimate
from earl.reproduce.cells import CELLS, Cell
from earl.reproduce.claims import MARGIN, Scores, judge_claims, table
from earl.world import FAMILIES

TITLES = {
    "direct": "SFT and RL",
    "reasoning": "With a chain of thought",
    "best": "Best of N",
    "weak": "Weakened verifiers",
}
BESIDE = {"reasoning": ("sft-s", "rl-sc"), "best": ("sft-s", "rl-sc"), "weak": ("sft-s", "rl-sc")}
RULE = (
    "*more* holds where the 95% interval of the mean paired difference lies above 0 and does not hold where "
    f"it lies below; *not more* holds where it lies below {MARGIN:g} points and does not hold where it lies "
    "above 0; all else is *cannot tell*."
)


def results(scores: Scores, missing: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Everything as JSON: by cell the means with intervals by group, family and part, what is missing,
    and the claims."""
    cells = {name: _cell_results(scores, name) for name in CELLS if name in scores}
    return {"cells": cells, "missing": dict(missing or {}), "claims": judge_claims(scores), "rule": RULE}


def markdown(scores: Scores, missing: Mapping[str, str] | None = None) -> str:
    """All tables of what is there, what is missing, and the claims.

    Args:
        missing: by cell, how far it is.
    """
    parts: list[str] = []
    for kind, title in TITLES.items():
        cells = [cell for cell in CELLS.values() if cell.table == kind and cell.name in scores]
        if not cells:
            continue
        beside = [CELLS[name] for name in BESIDE.get(kind, ()) if name in scores]
        parts += [f"## {title}", "", *_families(scores, [*beside, *cells]), ""]
        parts += ["By part, all tasks:", "", *_parts(scores, [*beside, *cells]), ""]
    if missing:
        parts += ["## Missing", "", "Not in the tables above:", ""]
        parts += [f"- `{name}`, {CELLS[name].label}: {state}" for name, state in missing.items()] + [""]
    parts += ["## Claims", "", RULE, "", *_claims(scores)]
    return "\n".join(parts) + "\n"


def _families(scores: Scores, cells: Sequence[Cell]) -> list[str]:
    """Overall score: a column a family, then S, C and all with intervals."""
    names = sorted(FAMILIES, key=lambda name: FAMILIES[name] != "simple")
    shown = [name for name in names if any(_mean(scores, cell.name, family=name) for cell in cells)]
    heads = [f"{name} ({FAMILIES[name][0].upper()})" for name in shown]
    rows = []
    for cell in cells:
        means = [_mean(scores, cell.name, family=name) for name in shown]
        groups = [_mean(scores, cell.name, group=group) for group in ("simple", "complex", None)]
        rows.append([_label(scores, cell), *map(_number, means), *map(_interval, groups)])
    return _table(["model", *heads, "S", "C", "all"], rows)


def _parts(scores: Scores, cells: Sequence[Cell]) -> list[str]:
    heads = ["model", *(part.replace("_", " ") for part in SCORE_PARTS), "overall", "exact"]
    rows = [
        [_label(scores, cell)]
        + [_interval(_mean(scores, cell.name, m)) for m in (*SCORE_PARTS, "overall", "exact")]
        for cell in cells
    ]
    return _table(heads, rows)


def _claims(scores: Scores) -> list[str]:
    rows = []
    for record in judge_claims(scores):
        evidence = "; ".join(_evidence(one) for one in record["evidence"])
        rows.append([record["claim"], f"**{record['verdict']}**", evidence])
    return _table(["claim", "verdict", "mean difference, points [95% interval]"], rows)


def _evidence(one: dict[str, Any]) -> str:
    found = one["difference"]
    names = f"{one['left']} − {one['right']}"
    if found is None:
        return f"{names}: not run"
    return f"{names} {found['mean']:+.2f} [{found['low']:+.2f}, {found['high']:+.2f}]"


def _cell_results(scores: Scores, name: str) -> dict[str, Any]:
    groups = {"all": None, "simple": "simple", "complex": "complex"}
    measures = ("overall", *SCORE_PARTS, "exact")
    found: dict[str, Any] = {"label": CELLS[name].label, "seeds": len(scores[name])}
    for shown, group in groups.items():
        found[shown] = {m: _plain(_mean(scores, name, m, group=group)) for m in measures}
    found["families"] = {
        family: {m: _plain(_mean(scores, name, m, family=family)) for m in measures} for family in FAMILIES
    }
    return found


def _mean(
    scores: Scores,
    name: str,
    measure: str = "overall",
    *,
    family: str | None = None,
    group: str | None = None,
) -> Estimate | None:
    tasks = scores[name][0]["tasks"]
    ids = [
        task
        for task, row in tasks.items()
        if family in (None, row["family"]) and group in (None, row["group"])
    ]
    return estimate(table(scores[name], ids, measure)) if ids else None


def _label(scores: Scores, cell: Cell) -> str:
    count = len(scores[cell.name])
    return f"{cell.label} ({count} seed{'s' if count > 1 else ''})"


def _number(found: Estimate | None) -> str:
    return "–" if found is None else f"{found.mean:.2f}"


def _interval(found: Estimate | None) -> str:
    return "–" if found is None else found.text()


def _plain(found: Estimate | None) -> dict[str, float] | None:
    if found is None:
        return None
    return {"mean": round(found.mean, 4), "low": round(found.low, 4), "high": round(found.high, 4)}


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(heads)} |",
        f"|{'|'.join(['---'] * len(heads))}|",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]
