"""What a vision tokenizer keeps of images of the world: decibels, readable scenes, codes in use.

Scenes of a split that training never touches are drawn in all styles in turn, encoded and decoded.
What the tokenizer cannot show, no policy can draw: this is the gate before any training of one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from earl.evaluation.intervals import estimate
from earl.evaluation.results import versions
from earl.vision.images import CELL
from earl.world import Scene, render, sample_task
from earl.world.scene import STYLES
from earl.world.settings import TokenizerBenchmark
from earl.world.verifier.perception import perceive

if TYPE_CHECKING:
    from earl.vision import VisionTokenizer

Pixels = NDArray[np.uint8]

MOST_DECIBELS = 100.0  # what an image that comes back without any error counts


@dataclass(frozen=True, slots=True)
class Kept:
    """One image's way through: its style, PSNR in dB, and whether its scene was read exactly."""

    style: str
    psnr: float
    before: bool
    after: bool


def draw_scenes(benchmark: TokenizerBenchmark) -> list[Scene]:
    """The scenes of a benchmark, sources and targets of tasks in turn; a smaller `num` gives the first."""
    numbers = np.random.SeedSequence(benchmark.seed).generate_state(benchmark.num, np.uint64)
    scenes = []
    for index, number in enumerate(numbers):
        task = sample_task(int(number >> np.uint64(1)), benchmark.split)
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
    side = benchmark.resolution or max(16, round(vision.area**0.5 / CELL) * CELL)
    scenes = draw_scenes(benchmark)
    kept: list[Kept] = []
    uses_K = np.zeros(vision.codebook_size, np.int64)
    for start in range(0, len(scenes), benchmark.batch):
        part = scenes[start : start + benchmark.batch]
        pictures = [render(scene, side) for scene in part]
        codes, returned = _through(vision, pictures)
        for scene, picture, after in zip(part, pictures, returned, strict=True):
            read = [reads_exactly(scene, pixels) for pixels in (picture, after)]
            kept.append(Kept(scene.style, psnr(picture, after), *read))
        for grid in codes:
            uses_K += np.bincount(grid.ravel(), minlength=len(uses_K))
        if on_batch:
            on_batch(len(kept))
    styles = [style for style in STYLES if any(k.style == style for k in kept)]
    return _summary(kept, benchmark.seed) | {
        "styles": {s: _summary([k for k in kept if k.style == s], benchmark.seed) for s in styles},
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


def reads_exactly(scene: Scene, pixels: Pixels) -> bool:
    """Whether perception sees just this scene: background, style, every solid's place and kind.

    Where a style leaves no hue (sepia, pencil), colours that fit equally well are taken from the
    scene itself, as the verifier takes them from the scene that it expects.
    """
    seen = perceive(pixels, prior=scene).scene
    return _content(seen) == _content(scene)


def psnr(picture: Pixels, other: Pixels) -> float:
    """Peak signal-to-noise ratio of two images of one size, dB; at most `MOST_DECIBELS`."""
    error = float(np.mean((picture.astype(np.float64) - other) ** 2))
    least = 255.0**2 / 10 ** (MOST_DECIBELS / 10)
    return 10 * float(np.log10(255.0**2 / max(error, least)))


def perplexity(uses_K: NDArray[np.integer]) -> float:
    """exp of the entropy of how often each code was used: 1 (one code) to K (all alike)."""
    shares = uses_K[uses_K > 0] / uses_K.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def format_tokenizer(report: dict[str, Any]) -> str:
    """The report as a Markdown table, a row a style, and a line on the codebook."""
    lines = [
        "| style | images | PSNR, dB | read exactly before | read exactly after |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, part in [*report["styles"].items(), ("**all**", report)]:
        cells = [_interval(part, "psnr", "{:.1f}")]
        cells += [_interval(part, key, "{:.3f}") for key in ("exact_before", "exact_after")]
        lines.append(f"| {name} | {part['n']} | {' | '.join(cells)} |")
    book = report["codebook"]
    lines += [
        "",
        "brackets: 95% bootstrap intervals over images",
        f"{book['used']} of {book['size']} codes in use, perplexity {book['perplexity']:.0f} "
        f"({book['codes']} codes counted)",
    ]
    return "\n".join(lines)


def _through(
    vision: VisionTokenizer, pictures: Sequence[Pixels]
) -> tuple[list[NDArray[np.int32]], list[Pixels]]:
    from PIL import Image

    codes = vision.encode([Image.fromarray(picture) for picture in pictures], resize=False)
    return list(codes), [np.asarray(image) for image in vision.decode(codes)]


def _content(scene: Scene) -> tuple[object, ...]:
    return (scene.background, scene.style, *((o.place, o.kind) for o in scene.objects))


def _summary(kept: Sequence[Kept], seed: int) -> dict[str, Any]:
    summary: dict[str, Any] = {"n": len(kept)}
    columns = {
        "psnr": [k.psnr for k in kept],
        "exact_before": [float(k.before) for k in kept],
        "exact_after": [float(k.after) for k in kept],
    }
    for name, values in columns.items():
        found = estimate(values, seed=seed)
        assert found is not None, "a benchmark has images"
        summary[name] = round(found.mean, 4)
        summary[f"{name}_interval"] = [round(found.low, 4), round(found.high, 4)]
    return summary


def _interval(part: dict[str, Any], name: str, form: str) -> str:
    low, high = part[f"{name}_interval"]
    return f"{form.format(part[name])} [{form.format(low)}, {form.format(high)}]"
