"""`earl edit SOURCE "instruction" -o OUT.png`."""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from pathlib import Path
from typing import Any

from earl.cli import options as shared


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("source", help="the image to edit")
    add("instruction", help='what to change, e.g. "make the red cube blue"')
    add("-o", "--out", help="where to write (default: SOURCE-edited.png in this folder)")
    add("--force", action="store_true", help="overwrite the output if it exists")
    add("--num-images", type=shared.integer(1, 64), default=1, help="images, of seeds S, S+1, …")
    add(
        "--best-of",
        type=shared.integer(1, 64),
        default=1,
        help="draw so many, keep what the verifier likes best",
    )
    add("--area", type=shared.integer(64), help="px² to work at (default: the model's)")
    add("--source-size", action="store_true", help="scale the result to the source's size")
    add(
        "--reasoning",
        action="store_true",
        help="let the model think in words first; shows them, and their boxes on the source",
    )
    add("--engine", choices=("earl", "vllm"), default="earl", help="what samples the codes")
    add("--json", action="store_true", help="print the outcome as JSON")
    shared.add_sampling(parser)
    shared.add_model(parser)


def run(options: argparse.Namespace) -> int:
    from earl.cli.outputs import claim, claim_images, write_image
    from earl.errors import ConfigError
    from earl.sequence import check_instruction

    if options.best_of > 1 and (options.num_images > 1 or options.greedy):
        raise ConfigError("--best-of keeps one of several draws: leave out --num-images and --greedy")
    if options.engine == "vllm" and options.guidance != 1:
        raise ConfigError("--guidance is for our own engine; leave it out with --engine vllm")
    check_instruction(options.instruction)
    sampling = shared.sampling_of(options)
    out = options.out or f"{Path(options.source).stem}-edited.png"
    paths = claim_images(out, options.num_images, force=options.force)
    boxed = [path.with_stem(f"{path.stem}-boxes") for path in paths] if options.reasoning else []
    claim(boxed, force=options.force)

    began = time.perf_counter()
    from earl.vision import open_image

    source = open_image(options.source)  # before the model: a wrong image costs no waiting
    if options.best_of > 1:
        _check_judgeable(source, options.instruction)
    pipeline = shared.load_pipeline(options)
    loaded = time.perf_counter() - began
    result = pipeline(
        source,
        options.instruction,
        seed=options.seed,
        num_images=max(options.num_images, options.best_of),
        area=options.area,
        reasoning=options.reasoning,
        restore_size=options.source_size,
        **sampling,
    )
    scores = None
    if options.best_of > 1:
        result, scores = _best(result)
    written = []
    for path, image in zip(paths, result.images, strict=True):
        if image is not None:
            write_image(image, path)
            written.append(path)
    drawn = _draw_boxes(result, boxed)
    _ = result.image  # raises where the model wrote none
    _tell(options, result, scores, written, drawn, loaded)
    return 0


def _draw_boxes(result: Any, paths: list[Path]) -> list[Path | None]:
    """The source with the boxes that each image's reasoning names, None where it names none."""
    from earl.cli.outputs import write_image
    from earl.cli.sheets import with_boxes
    from earl.sequence.reasoning import find_boxes

    drawn: list[Path | None] = []
    for path, text in zip(paths, result.reasoning, strict=bool(paths)):
        boxes = find_boxes(text or "")
        if boxes:
            write_image(with_boxes(result.source, boxes), path)
        drawn.append(path if boxes else None)
    return drawn


def _check_judgeable(source: Any, instruction: str) -> None:
    """Raises VerifierError where the verifier cannot judge edits of this image, before any sampling."""
    from earl.errors import VerifierError
    from earl.records import Attempt
    from earl.world.verifier.scene import SceneVerifier

    verdict = asyncio.run(SceneVerifier().judge([Attempt(source, instruction.strip(), source)]))[0]
    if verdict.refused:
        raise VerifierError(f"--best-of cannot choose: {verdict.why}")


def _best(result: Any) -> tuple[Any, dict[str, Any]]:
    from earl.cli.verify import scores_of
    from earl.pipeline import best_of
    from earl.world.verifier.scene import SceneVerifier

    best, verdict = best_of(result, SceneVerifier())
    return best, scores_of(verdict)


def _tell(
    options: argparse.Namespace,
    result: Any,
    scores: dict[str, Any] | None,
    written: list[Path],
    drawn: list[Path | None],
    loaded: float,
) -> None:
    if options.json:
        record = {
            "source": options.source,
            "instruction": result.instruction,
            "images": [str(path) for path in written],
            "seeds": list(result.seeds),
            "finish_reasons": [completion.finish_reason for completion in result.completions],
            "problems": list(result.problems),
            "reasoning": list(result.reasoning),
            "boxes": [path and str(path) for path in drawn],
            "seconds": round(result.seconds, 4),
            "load_seconds": round(loaded, 4),
            "model": options.model,
        }
        print(json.dumps(record | ({"scores": scores} if scores else {}), ensure_ascii=False))
        return
    for path, seed in zip(written, result.seeds, strict=False):
        print(f"{path} (seed {seed})")
    for boxed, text in zip(drawn, result.reasoning, strict=bool(drawn)):
        print(f"thought: {text or '(nothing)'}" + (f"\nits boxes on the source: {boxed}" if boxed else ""))
    judged = f", overall {scores['overall']:.1f} of 10, best of {options.best_of}" if scores else ""
    print(f"{result.instruction!r} in {result.seconds:.2f} s{judged}; loading took {loaded:.1f} s")
