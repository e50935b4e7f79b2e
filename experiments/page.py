"""The comparison as one HTML page: claims, scores, training curves with bands over seeds, images.

Axes: S seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from earl.errors import DataError
from earl.evaluation.folder import EvaluationFolder
from earl.evaluation.scores import scored_edits
from earl.pages.charts import Chart, Drawing, Series, draw
from earl.pages.rendering import image_url, render
from earl.pages.run_record import RunRecord, read_run

CURVES = (
    ("grpo", "validation", "overall", "Held-out prompts", "Overall score by the cell's own verifier, 0-10."),
    ("grpo", "train", "reward", "Reward", "Mean reward of the rollouts of a step."),
    ("grpo", "train", "entropy_visual", "Entropy", "Nats of an image code, of the rollouts of a step."),
    ("sft", "validation", "loss", "Validation loss of SFT", "Nats a token."),
)
IMAGES = 2  # tasks of each family


def comparison_page(
    labels: Mapping[str, str],
    runs: Mapping[str, Sequence[Path]],
    evaluations: Mapping[str, Sequence[Path]],
    tables: Mapping[str, Any],
) -> str:
    """The page's HTML.

    Args:
        labels: of the cells, by name; their order is the page's.
        runs: training folders of the cells that were trained, one a seed.
        evaluations: folders of the evaluated cells, one a seed.
        tables: `rule`, and as rows of texts `claims` and `scores`.
    """
    heads, images = _images(labels, evaluations)
    seeds = max(map(len, evaluations.values()), default=0)
    return render(
        "comparison.html",
        folder=Path(__file__).parent,
        title="The paper's comparison in the world",
        facts=[f"{len(evaluations)} cells", f"{seeds} seed{'s' if seeds != 1 else ''}"],
        tiles=[],
        charts=_charts(labels, runs),
        image_heads=heads,
        images=images,
        **tables,
    )


def _charts(labels: Mapping[str, str], runs: Mapping[str, Sequence[Path]]) -> list[Drawing]:
    records = {name: [record for path in paths if (record := _record(path))] for name, paths in runs.items()}
    found = []
    for stage, split, number, title, note in CURVES:
        series = []
        for colour, name in enumerate(name for name in labels if name in records):
            own = [one for one in records[name] if one.stage == stage]
            if line := _band(labels[name], [one.series(split, number) for one in own], colour):
                series.append(line)
        if series:
            found.append(draw(Chart(title, note, series)))
    return found


def _band(name: str, curves: Sequence[Sequence[tuple[float, float]]], colour: int) -> Series | None:
    """The mean over seeds at the steps that all seeds have."""
    by_step = [dict(curve) for curve in curves if curve]
    steps = sorted(set.intersection(*map(set, by_step))) if by_step else []
    if not steps:
        return None
    values_ST = np.array([[curve[step] for step in steps] for curve in by_step])
    band = list(zip(steps, values_ST.min(0).tolist(), values_ST.max(0).tolist(), strict=True))
    mean = list(zip(steps, values_ST.mean(0).tolist(), strict=True))
    return Series(name, mean, colour, marked=len(steps) < 20, band=band if len(by_step) > 1 else ())


def _record(path: Path) -> RunRecord | None:
    try:
        return read_run(path)
    except DataError:  # a run that has not begun
        return None


def _images(
    labels: Mapping[str, str], evaluations: Mapping[str, Sequence[Path]]
) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Heads of the columns, and of some tasks the instruction and the images of all cells."""
    folders = {name: EvaluationFolder(evaluations[name][0]) for name in labels if evaluations.get(name)}
    edits = {name: {one.key: one.edit for one in scored_edits(folder)} for name, folder in folders.items()}
    heads = ["instruction", "source", "target", *(labels[name] for name in folders)]
    if not folders:
        return heads, []
    first = next(iter(folders))
    by_family: dict[str, list[str]] = {}
    for key, edit in edits[first].items():
        by_family.setdefault(edit.family, []).append(key)
    rows = []
    for key in (key for keys in by_family.values() for key in keys[:IMAGES]):
        edit = edits[first][key]
        shown = [(first, edit.source), (first, edit.target)]
        shown += [(name, edits[name][key].edited if key in edits[name] else None) for name in folders]
        urls = [image_url(image) if (image := folders[name].image(file)) else "" for name, file in shown]
        rows.append((f"{edit.family}: {edit.instruction}", urls))
    return heads, rows
