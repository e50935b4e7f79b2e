"""Stage 3: the numbers of an evaluation, and the files that hold them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from earl.errors import DataError
from earl.evaluation import tables
from earl.evaluation.benchmarks import strangers
from earl.evaluation.folder import EvaluationFolder
from earl.evaluation.metrics import measure, summarise_metrics
from earl.evaluation.scores import divide, names_of, scored_edits, summarise
from earl.files import write_text

RESULTS = "results.json"


def compile_results(folder: EvaluationFolder, *, seed: int = 0) -> dict[str, Any]:
    """All scores of a folder as it stands.

    Returns:
        {"benchmark", "editor", "verifier": as in evaluation.json,
         "complete": whether all tasks have their edit,
         "scores": names of the scores,
         "all": summary, "groups" | "kinds" | "families": {name: summary}, where a summary is as
        `scores.summarise` gives it,
         "unknown_families": those that the benchmark's file does not know}.
    """
    edits = scored_edits(folder)
    names = names_of(edits)
    parts = {
        part: {name: summarise(members, names=names, seed=seed) for name, members in divided.items()}
        for part, divided in divide(edits).items()
    }
    return {
        "format": 1,
        **{name: folder.plan.get(name) for name in ("benchmark", "editor", "verifier")},
        "complete": folder.complete,
        "scores": list(names),
        "all": summarise(edits, names=names, seed=seed),
        **parts,
        "unknown_families": strangers(folder.plan["benchmark"]["name"], parts["families"]),
    }


def write_results(
    folder: EvaluationFolder,
    *,
    learned: Sequence[str] = (),
    clip_model: str | None = None,
    versions: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Measure against targets, compile, and write results.json, table.md, table.tex, table.csv.

    Returns:
        `compile_results` with "metrics" (as `metrics.summarise_metrics`) and "not_measured"
        {metric: sentence}.
    """
    problems = measure(folder, learned=learned, clip_model=clip_model)
    metrics, more = summarise_metrics(folder, learned=learned)
    results = compile_results(folder) | {
        "metrics": metrics,
        "not_measured": problems | more,
        "versions": dict(versions or {}),
    }
    write_text(folder.path / RESULTS, json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    write_text(folder.path / "table.md", tables.markdown(results))
    write_text(folder.path / "table.tex", tables.latex(results))
    write_text(folder.path / "table.csv", tables.csv_text(results))
    return results


def read_results(folder: Path) -> dict[str, Any]:
    """Results as they were written. Raises DataError: there are none yet."""
    try:
        return json.loads((folder / RESULTS).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(
            f"{folder} has no {RESULTS} yet; run its `earl evaluate` again, it goes on where it stopped"
        ) from error
    except (OSError, ValueError) as error:
        raise DataError(f"{folder / RESULTS} cannot be read: {error}") from error
