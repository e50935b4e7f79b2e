"""Benchmark of vision tokenizers on images of the world: PSNR, scenes read exactly, codes in use.

Scenes of a split that training never touches are drawn in all styles in turn, encoded and decoded.
A policy cannot draw what its tokenizer cannot show, so the tokenizer is measured before a policy is trained.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from earl.environment import versions
from earl.evaluation.intervals import estimates
from earl.evaluation.metrics import pixels, psnr
from earl.records import Estimate
from earl.tables import TOTAL, Cell, Column, Row, Table
from earl.vision.images import square_side
from earl.world.rendering import render
from earl.world.scene import STYLES, Scene
from earl.world.settings import TokenizerBenchmark
from earl.world.tasks import sample_task, task_seeds
from earl.world.verifier.perception import perceive

if TYPE_CHECKING:
    from earl.vision.tokenizer import VisionTokenizer

MEASURES = ("psnr", "exact_before", "exact_after")


def draw_scenes(benchmark: TokenizerBenchmark) -> list[Scene]:
    """The scenes of a benchmark, sources and targets of tasks in turn; a smaller `num` gives the first."""
    scenes = []
    for index, seed in enumerate(task_seeds(benchmark.seed, benchmark.num)):
        task = sample_task(seed, benchmark.split)
        scene = task.target if index % 2 else task.source
        scenes.append(replace(scene, style=STYLES[index % len(STYLES)]))
    return scenes


def evaluate_tokenizer(
    vision: VisionTokenizer,
    benchmark: TokenizerBenchmark,
    *,
    name: str = "model",
    on_batch: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Encode, decode, look, and report.

    Args:
        name: what to call the tokenizer in the report.
        on_batch: called with the number of images done.

    Returns:
        {"n", "psnr" (dB, mean over images), "exact_before" and "exact_after" (share 0-1 of scenes that
        perception reads exactly off the image and off its reconstruction), each with NAME +
        "_interval" [low, high] at 95%, "styles": {style: the same}, "codebook": {"size", "used",
        "perplexity", "codes" (counted)}, "model", "seed", "split", "resolution", "seconds", "versions"}.
    """
    began = time.perf_counter()
    side = benchmark.resolution or max(16, square_side(vision.area))
    scenes = draw_scenes(benchmark)
    values: list[tuple[float, ...]] = []
    uses_K = np.zeros(vision.codebook_size, np.int64)
    for start in range(0, len(scenes), benchmark.batch):
        part = scenes[start : start + benchmark.batch]
        images = [Image.fromarray(render(scene, side)) for scene in part]
        codes = vision.encode(images, resize=False)
        for scene, *pair in zip(part, images, vision.decode(codes), strict=True):
            read = [float(reads_exactly(scene, np.asarray(image))) for image in pair]
            values.append((psnr(*map(pixels, pair)), *read))
        for grid in codes:
            uses_K += np.bincount(grid.ravel(), minlength=len(uses_K))
        if on_batch:
            on_batch(len(values))
    styled = {name: [v for v, s in zip(values, scenes, strict=True) if s.style == name] for name in STYLES}
    return _summary(values, benchmark.seed) | {
        "styles": {name: _summary(of, benchmark.seed) for name, of in styled.items() if of},
        "codebook": {
            "size": vision.codebook_size,
            "used": int((uses_K > 0).sum()),
            "perplexity": round(perplexity(uses_K), 2),
            "codes": int(uses_K.sum()),
        },
        "model": name,
        "seed": benchmark.seed,
        "split": benchmark.split,
        "resolution": side,
        "seconds": round(time.perf_counter() - began, 2),
        "versions": versions(),
    }


def reads_exactly(scene: Scene, pixels_HWC: NDArray[np.uint8]) -> bool:
    """Whether perception sees just this scene: background, style, every solid's place and kind.

    Where a style leaves no hue (sepia, pencil), colours that fit equally well are taken from the
    scene itself, as the verifier takes them from the scene that it expects.
    """
    seen = perceive(pixels_HWC, prior=scene).scene
    return seen.content == scene.content


def perplexity(uses_K: NDArray[np.integer]) -> float:
    """exp of the entropy of how often each code was used: 1 (one code) to K (all alike)."""
    shares = uses_K[uses_K > 0] / uses_K.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def format_tokenizer(report: dict[str, Any]) -> str:
    """The report as a Markdown table, a row a style, and a line on the codebook."""
    heads = ("images", "PSNR, dB", "read exactly before", "read exactly after")
    columns = [Column("style", left=True), *(Column(head) for head in heads)]
    rows = [
        Row([name, part["n"], *(_cell(part, measure) for measure in MEASURES)])
        for name, part in (*report["styles"].items(), (TOTAL, report))
    ]
    book = report["codebook"]
    notes = (
        "brackets: 95% bootstrap intervals over images",
        f"{book['used']} of {book['size']} codes in use, perplexity {book['perplexity']:.0f} "
        f"({book['codes']} codes counted)",
    )
    return Table("", columns, rows, notes).markdown()


def _cell(part: dict[str, Any], measure: str) -> Cell:
    low, high = part[f"{measure}_interval"]
    return Estimate(part[measure], low, high, part["n"])


def _summary(values: Sequence[tuple[float, ...]], seed: int) -> dict[str, Any]:
    summary: dict[str, Any] = {"n": len(values)}
    for name, found in zip(MEASURES, estimates(values, seed=seed), strict=True):
        assert found is not None, "a benchmark has images"
        summary[name] = round(found.mean, 4)
        summary[f"{name}_interval"] = [round(found.low, 4), round(found.high, 4)]
    return summary
