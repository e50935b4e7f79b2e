"""Distances of edited images to their targets: PSNR, SSIM, L1; and, where asked for, LPIPS, CLIP, FID.

Each edit is measured once. Axis letters: H W rows and columns, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from earl.config import EvaluationSettings
from earl.errors import MissingExtraError
from earl.evaluation.folder import EvaluationFolder, Metrics
from earl.evaluation.intervals import estimate
from earl.evaluation.learned_metrics import PAIRWISE, Distance, Pair, frechet_distance, load_distance
from earl.evaluation.records import EditRecord
from earl.records import Estimate

MEANING = {
    "psnr": ("PSNR to the target", "dB, more is better"),
    "ssim": ("SSIM to the target", "up to 1, more is better"),
    "l1": ("L1 to the target", "0-1, less is better"),
    "lpips": ("LPIPS to the target", "less is better"),
    "clip": ("CLIP to the target", "cosine, more is better"),
    "fid": ("FID to the target", "less is better; too high for fewer than some 2,048 images"),
    "structure": ("structure distance to the source", "less is better"),
    "psnr_kept": ("PSNR to the source outside the region", "dB, more is better"),
    "ssim_kept": ("SSIM to the source outside the region", "up to 1, more is better"),
    "mse_kept": ("squared error to the source outside the region", "0-1, less is better"),
    "lpips_kept": ("LPIPS to the source outside the region", "less is better"),
    "clip_text": ("CLIP score with the caption", "0-100, more is better"),
    "clip_text_edited": ("CLIP score of the region with the caption", "0-100, more is better"),
}
SIGMA, RADIUS = 1.5, 5  # of SSIM's Gaussian window, 11 x 11
MOST = 100.0  # dB: two equal images
_BATCH = 16

Array = NDArray[np.float64]


def measure(
    folder: EvaluationFolder, settings: EvaluationSettings
) -> tuple[dict[str, Estimate], dict[str, str]]:
    """Measure what has a target and an image, and is not measured yet.

    Returns:
        {"fid": its value} where it was asked for, and {metric: sentence} of those that could not be measured.
        FID is of all images together and has no interval.
    """
    problems: dict[str, str] = {}
    learned: dict[str, Distance] = {}
    for name in PAIRWISE:
        if name in settings.metrics:
            try:
                learned[name] = load_distance(name, clip_model=settings.clip_model)
            except MissingExtraError as error:
                problems[name] = str(error)
    pairs = [edit for edit in folder.edits if edit.edited and edit.target]
    _measure_pairs(folder, pairs, learned)
    if "fid" not in settings.metrics or not pairs:
        return {}, problems
    try:
        value = frechet_distance(_pair(folder, edit) for edit in pairs)
    except (MissingExtraError, ValueError) as error:
        return {}, problems | {"fid": str(error)}
    return {"fid": Estimate(value, value, value, 1)}, problems


def summarise_metrics(folder: EvaluationFolder) -> dict[str, Estimate]:
    """Means over the edits that were measured; an edit without an image is in no mean."""
    measured = list(folder.metrics)
    means = {
        name: estimate([value for record in measured if (value := record.get(name)) is not None])
        for name in MEANING
    }
    return {name: mean for name, mean in means.items() if mean is not None}


def pixels(image: Image.Image) -> Array:
    """(H, W, C) float64 in [0, 1]."""
    return np.asarray(image.convert("RGB"), np.float64) / 255


def l1(first_HWC: Array, second_HWC: Array) -> float:
    """Mean absolute difference, 0-1; 0 is best."""
    return float(np.abs(first_HWC - second_HWC).mean())


def psnr(first_HWC: Array, second_HWC: Array) -> float:
    """Peak signal-to-noise ratio in dB; more is better, 100 for equal images."""
    error = float(np.square(first_HWC - second_HWC).mean())
    return min(MOST, -10 * math.log10(error)) if error > 0 else MOST


def ssim(first_HWC: Array, second_HWC: Array) -> float:
    """Structural similarity, up to 1: mean over channels, and over windows that lie inside the image.

    Window and constants as in Wang et al. 2004 (Gaussian 11 x 11, sigma 1.5, K 0.01 and 0.03).

    Raises:
        ValueError: a side under 11 px.
    """
    if min(first_HWC.shape[:2]) < 2 * RADIUS + 1:
        raise ValueError(f"SSIM needs sides of 11 px, got {first_HWC.shape[:2]}")
    c1, c2 = 0.01**2, 0.03**2
    mean1, mean2 = _blur(first_HWC), _blur(second_HWC)
    var1 = _blur(first_HWC**2) - mean1**2
    var2 = _blur(second_HWC**2) - mean2**2
    cov = _blur(first_HWC * second_HWC) - mean1 * mean2
    top = (2 * mean1 * mean2 + c1) * (2 * cov + c2)
    return float((top / ((mean1**2 + mean2**2 + c1) * (var1 + var2 + c2))).mean())


def _blur(image_HWC: Array) -> Array:
    """Gaussian mean over the windows that fit, so sides are 10 px shorter."""
    offsets = np.arange(-RADIUS, RADIUS + 1)
    weights = np.exp(-(offsets**2) / (2 * SIGMA**2))
    weights /= weights.sum()
    rows = image_HWC.shape[0] - 2 * RADIUS
    columns = image_HWC.shape[1] - 2 * RADIUS
    down = sum(weight * image_HWC[i : i + rows] for i, weight in enumerate(weights))
    return np.asarray(sum(weight * down[:, i : i + columns] for i, weight in enumerate(weights)))


def _measure_pairs(
    folder: EvaluationFolder, pairs: Sequence[EditRecord], learned: dict[str, Distance]
) -> None:
    todo = unmeasured(folder, pairs, learned)
    for start in range(0, len(todo), _BATCH):
        part = todo[start : start + _BATCH]
        images = [_pair(folder, edit) for edit, _ in part]
        rows = [
            {**known, **_plain(*map(pixels, pair))} for (_, known), pair in zip(part, images, strict=True)
        ]
        for name, distance in learned.items():
            for row, value in zip(rows, distance(images), strict=True):
                row[name] = value if value is None else round(value, 5)
        folder.metrics.append({edit.key: row for (edit, _), row in zip(part, rows, strict=True)})


def unmeasured(
    folder: EvaluationFolder, edits: Sequence[EditRecord], wanted: Collection[str]
) -> list[tuple[EditRecord, Metrics]]:
    """Edits whose record of metrics lacks a wanted one, each with what it has: the record is taken out."""
    records = {edit.key: record for edit in edits if (record := folder.metrics.get(edit.key)) is not None}
    folder.metrics.drop([key for key, record in records.items() if not {*wanted} <= record.keys()])
    return [(edit, records.get(edit.key, {})) for edit in edits if edit.key not in folder.metrics]


def _plain(first: Array, second: Array) -> dict[str, float | None]:
    fits = min(first.shape[:2]) > 2 * RADIUS
    return {
        "psnr": round(psnr(first, second), 5),
        "ssim": round(ssim(first, second), 5) if fits else None,
        "l1": round(l1(first, second), 5),
    }


def _pair(folder: EvaluationFolder, edit: EditRecord) -> Pair:
    edited, target = folder.image(edit.edited), folder.image(edit.target)
    assert edited is not None and target is not None
    return edited, target if target.size == edited.size else target.resize(edited.size)
