"""Stage 2b: edits that have a target are measured against it, each once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from earl.errors import MissingExtraError
from earl.evaluation.distances import l1, pixels, psnr, ssim
from earl.evaluation.folder import EvaluationFolder
from earl.evaluation.intervals import estimate
from earl.evaluation.learned import PAIRWISE, frechet_distance, load_distance

PLAIN = ("psnr", "ssim", "l1")
LEARNED = ("lpips", "clip", "fid")
DIRECTION = {"psnr": "dB, more is better", "ssim": "up to 1, more is better", "l1": "0-1, less is better"} | {
    "lpips": "less is better",
    "clip": "cosine, more is better",
    "fid": "64 features, less is better",
}
_BATCH = 16


def measure(
    folder: EvaluationFolder, *, learned: Sequence[str] = (), clip_model: str | None = None
) -> dict[str, str]:
    """Measure what has a target and an image, and is not measured yet.

    Args:
        learned: some of `LEARNED`; "fid" is measured by `summarise_metrics`.

    Returns:
        {metric: sentence} of those that could not be measured.
    """
    problems: dict[str, str] = {}
    distances = {}
    for name in PAIRWISE:
        if name in learned:
            try:
                distances[name] = load_distance(name, clip_model=clip_model)
            except MissingExtraError as error:
                problems[name] = str(error)
    wanted = (*PLAIN, *distances)
    pairs = [edit for edit in folder.edits if edit["edited"] and edit["target"]]
    stale = [
        record["key"]
        for record in folder.metrics
        if any(name not in record and name != "ssim" for name in wanted)
    ]
    folder.metrics.drop(stale)
    todo = [edit for edit in pairs if edit["key"] not in folder.metrics]
    for start in range(0, len(todo), _BATCH):
        part = todo[start : start + _BATCH]
        pictures = [_pair(folder, edit) for edit in part]
        rows: list[dict[str, Any]] = [{"key": edit["key"]} for edit in part]
        for row, (edited, target) in zip(rows, pictures, strict=True):
            first, second = pixels(edited), pixels(target)
            row |= {"psnr": psnr(first, second), "l1": l1(first, second)}
            if min(edited.size) >= 11:
                row["ssim"] = ssim(first, second)
        for name, distance in distances.items():
            for row, value in zip(rows, distance(pictures), strict=True):
                row[name] = value
        folder.metrics.append(*({k: _rounded(v) for k, v in row.items()} for row in rows))
    return problems


def summarise_metrics(
    folder: EvaluationFolder, *, learned: Sequence[str] = ()
) -> tuple[dict[str, Any], dict[str, str]]:
    """Means over the edits that were measured, and FID over all of them.

    Returns:
        {metric: {"mean", "interval", "n"}} and {metric: sentence} of those that could not be measured.
        An edit without an image has no distance to its target and is in no mean.
    """
    records = list(folder.metrics)
    found: dict[str, Any] = {}
    for name in (*PLAIN, *PAIRWISE):
        mean = estimate([record[name] for record in records if record.get(name) is not None])
        if mean:
            interval = [round(mean.low, 4), round(mean.high, 4)]
            found[name] = {"mean": round(mean.mean, 4), "interval": interval, "n": mean.count}
    problems: dict[str, str] = {}
    if "fid" in learned and records:
        try:
            value = frechet_distance(_pair(folder, folder.edits[record["key"]]) for record in records)
            found["fid"] = {"mean": round(value, 4), "interval": None, "n": len(records)}
        except (MissingExtraError, ValueError) as error:
            problems["fid"] = str(error)
    return found, problems


def _pair(folder: EvaluationFolder, edit: dict[str, Any]) -> tuple[Any, Any]:
    edited, target = folder.picture(edit["edited"]), folder.picture(edit["target"])
    assert edited is not None and target is not None
    return edited, target if target.size == edited.size else target.resize(edited.size)


def _rounded(value: Any) -> Any:
    return round(value, 5) if isinstance(value, float) else value
