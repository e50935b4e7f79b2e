"""What `--keep-outside` keeps and costs: detail outside the edit, edit success, error along the seam.

    python -m benchmarks.keep_outside [--edits 60] [--side 256]

Scenes of the test split, drawn at 256 px a side, are edited greedily by the shipped model, which works at
64 px. Its edits are scaled up plainly, or composed by `--keep-outside`. Printed are means with 95% intervals
over edits: PSNR to the source where source and true target are the same, scores by the scene verifier (of the
images scaled to 64 px again), and the mean error to the true target along the seam, in levels of 255.
"""

from __future__ import annotations

import argparse
import asyncio
from collections import defaultdict

import numpy as np
from PIL import Image

from earl.config import ModelSettings, VerifierSettings
from earl.evaluation.intervals import estimate
from earl.pipeline import build_pipeline
from earl.records import Attempt
from earl.verifiers.factory import make_verifier
from earl.vision.compose import changed_cells, mask_of
from earl.world.rendering import render
from earl.world.tasks import sample_task

MODEL_SIDE = 64


def psnr(a: np.ndarray, b: np.ndarray, where: np.ndarray) -> float:
    error = ((a.astype(float) - b.astype(float)) ** 2)[where].mean()
    return float(10 * np.log10(255**2 / max(error, 1e-3)))


def seam(mask: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """Pixels within half a cell of the border of the mask, at a size."""
    inside = np.asarray(mask.resize(size, Image.Resampling.NEAREST)) > 127
    width = max(1, 4 * size[0] // mask.width)
    near = np.zeros_like(inside)
    for axis in (0, 1):
        for shift in range(-width, width + 1):
            near |= np.roll(inside, shift, axis) != inside
    return near


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--edits", type=int, default=60)
    parser.add_argument("--side", type=int, default=256)
    options = parser.parse_args(argv)
    pipeline = build_pipeline(ModelSettings(device="cpu"))
    verifier = make_verifier(VerifierSettings(kind="scene"))
    tasks = [sample_task(seed, "test") for seed in range(options.edits)]
    sources = [Image.fromarray(render(task.source, options.side)) for task in tasks]
    targets = [np.asarray(render(task.target, options.side)) for task in tasks]
    pairs = [(source, task.instruction) for source, task in zip(sources, tasks, strict=True)]
    results = pipeline.edit_many(pairs, greedy=True)
    found: dict[str, list[float]] = defaultdict(list)
    for source, target, task, result in zip(sources, targets, tasks, results, strict=True):
        edited = result.images[0]
        if edited is None:
            continue
        (before,) = pipeline.vision.decode(pipeline.vision.encode([result.source], resize=False))
        mask = mask_of(changed_cells(before, edited))
        ways = {
            "scaled up": edited.resize(source.size, Image.Resampling.LANCZOS),
            "kept outside": pipeline.keep_outside(source, edited, result),
        }
        same = (np.asarray(source) == target).all(-1)
        along = seam(mask, source.size)
        for name, image in ways.items():
            pixels = np.asarray(image)
            if same.any():
                outside = psnr(pixels, np.asarray(source), same)
                found[f"{name}: PSNR where nothing should change, dB"].append(outside)
            small = image.resize((MODEL_SIDE, MODEL_SIDE), Image.Resampling.BICUBIC)
            verdict = asyncio.run(verifier.judge([Attempt(result.source, task.instruction, small)]))[0]
            if verdict.ok:
                found[f"{name}: edit success, 0-10"].append(float(verdict.edit_success or 0))
                found[f"{name}: overall, 0-10"].append(float(verdict.overall or 0))
            if along.any():
                error = np.abs(pixels.astype(float) - target)[along].mean()
                found[f"{name}: error along the seam, levels"].append(float(error))
    for name in sorted(found, key=lambda name: name.partition(":")[2]):
        mean = estimate(found[name])
        assert mean is not None, "there are values"
        print(f"{name:<58} {mean.text(1)} of {mean.count}")


if __name__ == "__main__":
    main()
