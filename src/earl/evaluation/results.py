"""Stage 3: the numbers of an evaluation, and the files that hold them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from earl.config import EvaluationSettings
from earl.environment import versions
from earl.errors import DataError
from earl.evaluation import region_metrics
from earl.evaluation.folder import EvaluationFolder
from earl.evaluation.learned_metrics import CLIP_MODEL
from earl.evaluation.metrics import measure, summarise_metrics
from earl.evaluation.records import Results, Summary, results_from_json, to_json
from earl.evaluation.scores import divide, score_names, scored_edits, summarise
from earl.evaluation.tables import number_table, score_table
from earl.files import read_object, write_json, write_text

RESULTS = "results.json"


def compile_results(folder: EvaluationFolder) -> Results:
    """All scores of a folder as it stands; distances to targets are those that were measured."""
    edits = scored_edits(folder)
    names = score_names(edits)
    parts: dict[str, Mapping[str, Summary]] = {
        part: {name: summarise(members, names=names) for name, members in divided.items()}
        for part, divided in divide(edits).items()
    }
    plan = folder.plan
    without_kind = {edit.edit.family for edit in edits if edit.edit.family and not edit.edit.kind}
    return Results(
        benchmark=plan["benchmark"],
        editor=plan["editor"],
        verifier=plan.get("verifier"),
        complete=folder.complete,
        all=summarise(edits, names=names),
        groups=parts["groups"],
        kinds=parts["kinds"],
        families=parts["families"],
        unknown_families=tuple(sorted(without_kind)) if plan["benchmark"].get("kinds") else (),
        metrics=summarise_metrics(folder),
        seconds=sum(edit.edit.seconds for edit in edits),
        versions=versions(),
    )


def current_results(folder: EvaluationFolder) -> Results:
    """`compile_results`, with the metrics of `results.json` where it exists: only there is the FID kept."""
    results = compile_results(folder)
    if not (folder.path / RESULTS).is_file():
        return results
    written = read_results(folder.path)
    return replace(
        results, metrics=written.metrics, not_measured=written.not_measured, networks=written.networks
    )


def write_results(folder: EvaluationFolder, settings: EvaluationSettings | None = None) -> Results:
    """Measure against targets, compile, and write results.json, table.md, table.tex, table.csv.

    Args:
        settings: which metrics.
    """
    settings = settings or EvaluationSettings()
    measured = read_results(folder.path).networks if (folder.path / RESULTS).is_file() else {}
    networks = {**measured, **_networks(settings)}
    if any(networks[name] != network for name, network in measured.items()):
        folder.metrics.drop([edit.key for edit in folder.edits if edit.key in folder.metrics])
    fid, problems = measure(folder, settings)
    problems |= region_metrics.measure_regions(folder, settings)
    compiled = compile_results(folder)
    metrics = {**compiled.metrics, **fid}
    networks = {name: network for name, network in networks.items() if name not in problems}
    results = replace(compiled, metrics=metrics, not_measured=problems, networks=networks)
    write_json(folder.path / RESULTS, to_json(results))
    table = score_table(results)
    write_text(folder.path / "table.md", table.markdown())
    write_text(folder.path / "table.tex", table.latex())
    write_text(folder.path / "table.csv", number_table(results).csv())
    return results


def _networks(settings: EvaluationSettings) -> dict[str, str]:
    """Names of the networks of one's own choice that measure."""
    named = {
        "clip": settings.clip_model or CLIP_MODEL,
        "pie": f"{settings.dino_model or region_metrics.DINO_MODEL}, "
        f"{settings.clip_model or region_metrics.CLIP_MODEL}",
    }
    return {name: network for name, network in named.items() if name in settings.metrics}


def read_results(folder: str | Path) -> Results:
    """Results as they were written. Raises DataError: there are none yet, or the file is damaged."""
    path = Path(folder) / RESULTS
    if not path.is_file():
        raise DataError(
            f"{folder} has no {RESULTS} yet; run its `earl evaluate` again, it goes on where it stopped"
        )
    return results_from_json(read_object(path), str(path))
