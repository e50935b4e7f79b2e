"""`earl edit`: one image and a chain of instructions, or many images: files, folders, lists of jobs."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from earl.cli.edit_options import STREAM, EditOptions
from earl.config import ModelSettings, SamplingSettings, Settings, VerifierSettings
from earl.config.options import BEST_BY
from earl.errors import ConfigError, EarlError, ImageError
from earl.files import TABLES
from earl.progress import Progress, say, say_bytes, warn
from earl.records import SCORES, Attempt

if TYPE_CHECKING:
    from PIL.Image import Image

    from earl.jobs import Chain, JobFolder
    from earl.pipeline import EditPipeline, EditResult
    from earl.sampling import OnRow
    from earl.verifiers.protocol import Verifier
    from earl.vision.saving import Provenance

RESULTS = "results.jsonl"
NO_INSTRUCTION = (
    "no instruction was given; say what to change, behind the images: earl edit photo.png 'make it night'"
)


def edit(
    options: EditOptions,
    model: ModelSettings,
    sampling: SamplingSettings,
    best_by: Annotated[VerifierSettings | None, BEST_BY],
) -> int:
    """Edit an image, or many, as instructions say; write what comes out, print where it is."""
    from earl.sequence.instruction import check_instruction

    if options.many:
        return _edit_many(options, model, sampling, best_by)
    if not options.instructions:
        raise ConfigError(NO_INSTRUCTION)
    for instruction in options.instructions:
        check_instruction(instruction)
    _edit_one(options, model, sampling, _picker(options, best_by))
    return 0


def _edit_one(
    options: EditOptions, model: ModelSettings, sampling: SamplingSettings, verifier: Verifier | None
) -> None:
    from earl.environment import import_torch
    from earl.files import claim
    from earl.pages.sheets import claim_images, side_by_side, write_image
    from earl.vision.compose import open_mask
    from earl.vision.images import open_image
    from earl.vision.saving import encode_image

    stream = options.out == STREAM
    name = "image" if options.source == STREAM else options.source.stem
    out = Path(f"{name}.png") if stream else options.out or Path(f"{name}-edited.png")
    last = len(options.instructions)
    paths = [] if stream else claim_images(out, options.num_images, force=options.force)
    steps = (
        []
        if stream
        else claim([out.with_stem(f"{out.stem}-step-{n}") for n in range(1, last)], force=options.force)
    )
    pairs = [path.with_stem(f"{path.stem}-before-after") for path in paths] if options.before_after else []
    claim(pairs, force=options.force)
    began = time.perf_counter()
    # before the model: a wrong image costs no waiting
    source = open_image(_standard_input() if options.source == STREAM else options.source)
    mask = None if options.mask is None else open_mask(options.mask, source.size)
    if verifier is not None:  # it refuses at once what it cannot judge
        asyncio.run(verifier.judge([Attempt(source, options.instructions[0], source)]))
    import_torch()
    from earl.pipeline import build_pipeline
    from earl.pipeline.domain import lacking

    pipeline = build_pipeline(model)
    reasons = pipeline.thinks(sampling.reasoning)
    boxed = [path.with_stem(f"{path.stem}-boxes") for path in paths] if reasons else []
    claim(boxed, force=options.force)
    loaded = time.perf_counter() - began
    warn(lacking(pipeline, source, options.instructions, reasoning=sampling.reasoning))
    result, seconds, scores = _drawn(pipeline, source, mask, options, sampling, verifier, steps)
    marked = _draw_boxes(result, boxed, options)
    _ = result.image  # raises where the model wrote none
    if stream:
        content = encode_image(
            result.image, "PNG", provenance=_provenance(options, model.model, result, last)
        )
        say_bytes(content)
        return
    written: list[str | None] = []
    for number, (path, image) in enumerate(zip(paths, result.images, strict=True)):
        if image is None:
            written.append(None)
            continue
        made = _provenance(options, model.model, result, last, number)
        written.append(str(write_image(image, _free(path, options), made)))
        if pairs:
            sheet = side_by_side(", then ".join(options.instructions), (source, image), ("before", "after"))
            write_image(sheet, _free(pairs[number], options), made)
    record = {
        "source": str(options.source),
        "instruction": result.instruction,
        "images": written,
        "size": list(result.image.size),
        "seeds": list(result.seeds),
        "finish_reasons": [completion.finish_reason for completion in result.completions],
        "problems": list(result.problems),
        "reasoning": list(result.reasoning),
        "unchanged": list(result.unchanged),
        "boxes": [path and str(path) for path in marked],
        "seconds": round(seconds, 4),
        "load_seconds": round(loaded, 4),
        "model": model.model,
    }
    if last > 1:
        record |= {"instructions": list(options.instructions), "steps": [str(path) for path in steps]}
    if scores:
        record["scores"] = scores
    say(json.dumps(record) if options.as_json else _lines(record, options.best_of))


def _standard_input() -> bytes:
    try:
        return sys.stdin.buffer.read()
    except (AttributeError, OSError) as error:  # Python has no stream for one that is closed
        raise ImageError(
            "standard input cannot be read; pipe an image into it, or name a file in place of -"
        ) from error


def _drawn(
    pipeline: EditPipeline,
    source: Image,
    mask: Image | None,
    options: EditOptions,
    sampling: SamplingSettings,
    verifier: Verifier | None,
    steps: list[Path],
) -> tuple[EditResult, float, dict[str, float | None]]:
    """The last edit of the chain, the seconds of all, and scores where a verifier chose; earlier results go
    to the files `steps`."""
    from earl.pages.sheets import write_image
    from earl.pipeline import best_of

    seconds, scores, last = 0.0, {}, len(options.instructions)
    for step, instruction in enumerate(options.instructions, 1):
        draws = options.best_of if step < last else max(options.num_images, options.best_of)
        with _rows(pipeline, source, draws, options.area) as on_row:
            result = pipeline(
                source,
                instruction,
                sampling,
                num_images=draws,
                area=options.area,
                restore_size=options.source_size,
                mask=mask,
                on_row=on_row,
            )
        seconds += result.seconds
        if verifier is not None:
            result, verdict = best_of(result, verifier)
            scores = {name: verdict.score(name) for name in SCORES}
        for note in result.notes:
            warn(f"{instruction[:80]!r}: {note}" if last > 1 else note)
        if options.keep_outside or mask:
            kept = [image and pipeline.keep_outside(source, image, result) for image in result.images]
            result = replace(result, images=tuple(kept))
        if step < last:
            source = result.image
            if steps:
                made = _provenance(options, pipeline.name, result, step)
                steps[step - 1] = write_image(source, _free(steps[step - 1], options), made)
    return result, seconds, scores


def _provenance(
    options: EditOptions, model: str, result: EditResult, steps: int, place: int | None = None
) -> Provenance | None:
    """Provenance of one image of a result (the first if none is named) after so many steps."""
    from earl.vision.saving import Provenance

    if not options.provenance:
        return None
    if place is None:
        place = result.images.index(result.image)
    return Provenance(model, result.seeds[place], options.instructions[:steps])


@contextmanager
def _rows(pipeline: EditPipeline, source: Image, draws: int, area: int | None) -> Iterator[OnRow]:
    """A bar of the rows of image codes that are drawn."""
    from earl.vision.images import grid_of, target_size

    vision = pipeline.vision
    total = draws * grid_of(target_size(*source.size, area or vision.area, vision.rule)).height
    done = 0
    with Progress() as show:

        def on_row(*_: object) -> None:
            nonlocal done
            done += 1
            show("rows", done, total)

        yield on_row


def _edit_many(
    options: EditOptions, model: ModelSettings, sampling: SamplingSettings, best_by: VerifierSettings | None
) -> int:
    """Edit several images, folders, lists of jobs; 1 where one of them failed."""
    from earl.jobs import chains_of, open_folder, read_jobs, run_chains
    from earl.pipeline import build_pipeline
    from earl.pipeline.domain import lacking
    from earl.vision.images import SUFFIXES

    if options.out is not None and options.out.suffix.lower() in SUFFIXES:
        given = "several sources are" if len(options.sources) > 1 else f"{options.source} is"
        raise ConfigError(f"{given} edited into a folder: --out names one, not the image {options.out}")
    if options.before_after:
        raise ConfigError(
            "the contact sheet shows before and after of several images: leave out --before-after"
        )
    if not (options.instructions or any(path.suffix.lower() in TABLES for path in options.sources)):
        raise ConfigError(NO_INSTRUCTION)
    verifier = _picker(options, best_by)
    jobs = read_jobs(options.sources, options.instructions, seed=sampling.seed, count=options.num_images)
    name = "edited" if len(options.sources) > 1 else f"{options.source.stem}-edited"
    chains = chains_of(jobs, _made_with(options, model, sampling, best_by))
    began = time.perf_counter()
    failed: list[Chain] = []
    opened = open_folder(
        options.out or Path(name), model.model if options.provenance else None, force=options.force
    )
    with opened as folder, Progress() as show:
        left = folder.left(chains)
        done = len(chains) - len(left)
        if done and not options.as_json:
            say(f"{done} of {len(chains)} are in {folder.path} already")

        def finish(chain: Chain) -> None:
            nonlocal done
            folder.finish(chain)
            done += not chain.problem
            failed.extend([chain] if chain.problem else [])
            show("images", done + len(failed), len(chains), f"{len(failed)} failed")

        if left:
            pipeline = build_pipeline(model)
            first = _first_image(left)
            if first is not None:
                asked = [text for chain in left for text in chain.job.instructions]
                warn(lacking(pipeline, first, asked, reasoning=sampling.reasoning))
            try:
                run_chains(
                    pipeline,
                    left,
                    sampling,
                    finish,
                    draws=options.best_of,
                    verifier=verifier,
                    area=options.area,
                    restore_size=options.source_size,
                    keep_outside=options.keep_outside,
                )
            except KeyboardInterrupt:
                warn(f"{done} of {len(chains)} are in {folder.path}; the same command goes on with the rest")
                raise
        sheet = folder.write_sheet(chains)
    _tell(options, folder, chains, [chain.problem for chain in failed], sheet, time.perf_counter() - began)
    return 1 if failed else 0


def _tell(
    options: EditOptions,
    folder: JobFolder,
    chains: list[Chain],
    problems: list[str],
    sheet: Path | None,
    seconds: float,
) -> None:
    """Print what became of many images."""
    from earl.pipeline.result import GAVE_BACK

    unchanged, done = folder.unchanged(chains), len(chains) - len(problems)
    if unchanged:
        warn(
            f"nothing was changed at a step of {len(unchanged)} of {len(chains)} images "
            f"({', '.join(unchanged)}): {GAVE_BACK}"
        )
    if options.as_json:
        results = str(folder.path / RESULTS) if done else None
        made: dict[str, Any] = {"folder": str(folder.path), "results": results}
        made |= {"done": done, "sheet": str(sheet) if sheet else None, "failed": problems}
        made |= {"unchanged": unchanged, "seconds": round(seconds, 4)}
        say(json.dumps(made))
    else:
        files = f" ({RESULTS}, {sheet.name})" if sheet else ""
        lines = [f"failed: {problem}" for problem in problems]
        say("\n".join([*lines, f"{done} of {len(chains)} images in {folder.path}{files}, {seconds:.1f} s"]))


def _made_with(*settings: Settings | None) -> list[Any]:
    """The settings that the images depend on: a change of any of them would change the images."""
    kept = {"best_of", "area", "source_size", "keep_outside"}  # of the command's own
    left_out = {"seed", "device"} | (set(EditOptions.model_fields) - kept)
    dumped = (s and s.model_dump(mode="json", exclude_defaults=True, exclude=left_out) for s in settings)
    return [values or {} for values in dumped]


def _first_image(chains: list[Chain]) -> Image | None:
    """The first image that can be read; each one that cannot fails later, by name."""
    from earl.vision.images import open_image

    for chain in chains:
        with suppress(EarlError):
            return open_image(chain.job.image)
    return None


def _picker(options: EditOptions, best_by: VerifierSettings | None) -> Verifier | None:
    """The verifier that picks the best of several images."""
    from earl.verifiers.factory import make_verifier

    if (options.best_of > 1) != (best_by is not None):
        raise ConfigError(
            "--best-of N draws N images and --best-by names the verifier that picks one (judge, reference, "
            "or scene for images of the world): give both, or neither"
        )
    return make_verifier(best_by) if best_by else None


def _free(path: Path, options: EditOptions) -> Path:
    """The path, or a name beside it where another edit has made a file of it since this one began."""
    if options.force or not os.path.lexists(path):
        return path
    other = path.with_stem(f"{path.stem}-{secrets.token_hex(3)}")
    warn(f"{path} was written by another edit meanwhile and is kept; this one is {other}")
    return other


def _draw_boxes(result: EditResult, paths: list[Path], options: EditOptions) -> list[Path | None]:
    """The source with the boxes that each image's reasoning names; None where it names none."""
    from earl.pages.sheets import with_boxes, write_image
    from earl.sequence.reasoning import find_boxes

    drawn: list[Path | None] = []
    for path, text in zip(paths, result.reasoning, strict=bool(paths)):
        boxes = find_boxes(text or "")
        drawn.append(write_image(with_boxes(result.source, boxes), _free(path, options)) if boxes else None)
    return drawn


def _lines(record: dict[str, Any], best_of: int) -> str:
    width, height = record["size"]
    lines = [f"{path}" for path in record.get("steps", ())]
    lines += [
        f"{path} ({width}x{height}, seed {seed})"
        for path, seed in zip(record["images"], record["seeds"], strict=True)
        if path
    ]
    lines += [f"reasoning: {text}" for text in record["reasoning"] if text]
    lines += [f"its boxes on the source: {boxed}" for boxed in record["boxes"] if boxed]
    scores = record.get("scores")
    judged = f", overall {scores['overall']:.1f} of 10, best of {best_of}" if scores else ""
    lines.append(
        f"{record['instruction']!r} in {record['seconds']:.2f} s{judged}; "
        f"loading took {record['load_seconds']:.1f} s"
    )
    return "\n".join(lines)
