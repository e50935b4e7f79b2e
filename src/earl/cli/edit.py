"""`earl edit`: one image, one instruction, one or several edited images."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, model_validator

from earl.config import ModelSettings, SamplingSettings, Settings, VerifierSettings
from earl.config.options import BEST_BY, JSON, OUT, POSITIONAL
from earl.errors import ConfigError
from earl.progress import say
from earl.records import SCORES, Attempt

if TYPE_CHECKING:
    from earl.pipeline import EditResult
    from earl.verifiers.protocol import Verifier


class EditOptions(Settings):
    source: Annotated[Path, POSITIONAL] = Field(description="the image to edit")
    instruction: Annotated[str, POSITIONAL] = Field(description="what to change, as 'make the red cube blue'")
    out: Annotated[Path | None, OUT] = Field(
        default=None, description="where to write (default: SOURCE-edited.png in this folder)"
    )
    force: bool = Field(default=False, description="overwrite files that exist")
    num_images: int = Field(default=1, ge=1, le=64, description="images to make, of the seeds S, S + 1, …")
    best_of: int = Field(default=1, ge=1, le=64, description="images to draw; the best is kept")
    area: int | None = Field(default=None, ge=64, description="px² to work at (default: the model's)")
    source_size: bool = Field(default=False, description="scale the result to the source's size")
    as_json: Annotated[bool, JSON] = Field(default=False, description="print JSON")

    @model_validator(mode="after")
    def _one_of_several(self) -> EditOptions:
        if self.best_of > 1 and self.num_images > 1:
            raise ValueError("best_of keeps one of several images: leave out num_images")
        return self


def edit(
    options: EditOptions,
    model: ModelSettings,
    sampling: SamplingSettings,
    best_by: Annotated[VerifierSettings | None, BEST_BY],
) -> None:
    """Edit an image, write what comes out, print where it is."""
    from earl.environment import import_torch
    from earl.files import claim
    from earl.pages.sheets import claim_images, write_image
    from earl.sequence import check_instruction
    from earl.vision import open_image

    verifier = _picker(options, best_by)
    check_instruction(options.instruction)
    out = options.out or Path(f"{options.source.stem}-edited.png")
    paths = claim_images(out, options.num_images, force=options.force)
    boxed = [path.with_stem(f"{path.stem}-boxes") for path in paths] if sampling.reasoning else []
    claim(boxed, force=options.force)
    began = time.perf_counter()
    source = open_image(options.source)  # before the model: a wrong image costs no waiting
    if verifier is not None:  # it refuses at once what it cannot judge
        asyncio.run(verifier.judge([Attempt(source, options.instruction.strip(), source)]))
    import_torch()
    from earl.pipeline import best_of, build_pipeline

    pipeline = build_pipeline(model)
    loaded = time.perf_counter() - began
    result = pipeline(
        source,
        options.instruction,
        sampling,
        num_images=max(options.num_images, options.best_of),
        area=options.area,
        restore_size=options.source_size,
    )
    verdict = None
    if verifier is not None:
        result, verdict = best_of(result, verifier)
    written = []
    for path, image in zip(paths, result.images, strict=True):
        if image is not None:
            write_image(image, path)
            written.append(path)
    marked = _draw_boxes(result, boxed)
    _ = result.image  # raises where the model wrote none
    record = {
        "source": str(options.source),
        "instruction": result.instruction,
        "images": [str(path) for path in written],
        "seeds": list(result.seeds),
        "finish_reasons": [completion.finish_reason for completion in result.completions],
        "problems": list(result.problems),
        "reasoning": list(result.reasoning),
        "boxes": [path and str(path) for path in marked],
        "seconds": round(result.seconds, 4),
        "load_seconds": round(loaded, 4),
        "model": model.model,
    }
    if verdict is not None:
        record["scores"] = {name: verdict.score(name) for name in SCORES}
    say(json.dumps(record) if options.as_json else _lines(record, options.best_of))


def _picker(options: EditOptions, best_by: VerifierSettings | None) -> Verifier | None:
    """The verifier that picks the best of several images."""
    from earl.verifiers.factory import make_verifier

    if (options.best_of > 1) != (best_by is not None):
        raise ConfigError(
            "--best-of N draws N images and --best-by names the verifier that picks one (judge, reference, "
            "or scene for images of the world): give both, or neither"
        )
    return make_verifier(best_by) if best_by else None


def _draw_boxes(result: EditResult, paths: list[Path]) -> list[Path | None]:
    """The source with the boxes that each image's reasoning names; None where it names none."""
    from earl.pages.sheets import with_boxes, write_image
    from earl.sequence.reasoning import find_boxes

    drawn: list[Path | None] = []
    for path, text in zip(paths, result.reasoning, strict=bool(paths)):
        boxes = find_boxes(text or "")
        if boxes:
            write_image(with_boxes(result.source, boxes), path)
        drawn.append(path if boxes else None)
    return drawn


def _lines(record: dict[str, Any], best_of: int) -> str:
    lines = [f"{path} (seed {seed})" for path, seed in zip(record["images"], record["seeds"], strict=False)]
    for boxed, text in zip(record["boxes"], record["reasoning"], strict=False):
        lines.append(f"reasoning: {text or '(none)'}")
        lines += [f"its boxes on the source: {boxed}"] if boxed else []
    scores = record.get("scores")
    judged = f", overall {scores['overall']:.1f} of 10, best of {best_of}" if scores else ""
    lines.append(
        f"{record['instruction']!r} in {record['seconds']:.2f} s{judged}; "
        f"loading took {record['load_seconds']:.1f} s"
    )
    return "\n".join(lines)
