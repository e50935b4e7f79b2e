"""The world's commands that draw and show: a demo edit, example tasks, tokenised edits, one verdict."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from earl.config import ModelSettings, Settings
from earl.config.model import Device
from earl.config.options import JSON, MODEL, OUT, OUT_FOLDER, POSITIONAL, Group, Option
from earl.config.settings import Count, Seed
from earl.data.tasks import Split
from earl.progress import Progress, say, warn
from earl.records import SCORE_PARTS, SCORES
from earl.world.settings import Families, WorldData

if TYPE_CHECKING:
    from PIL.Image import Image

    from earl.pipeline import EditPipeline, EditResult
    from earl.records import Verdict

DEMO_TASK = 27  # of the test split, which training never sees
DEMO_DRAWS = 4  # where the likeliest image is not right
_SENTENCES = 91  # stream of the text tokenizer's sentences


class DemoOptions(Settings):
    out: Annotated[Path, OUT] = Field(default=Path("out/demo.png"), description="where to write the image")
    task: Seed = Field(default=DEMO_TASK, description="another example of the test split")
    instruction: str | None = Field(default=None, description="ask for something else of the same image")


def demo(options: DemoOptions, model: ModelSettings) -> None:
    """Edit an example of the test split; before and after side by side in one image."""
    from PIL import Image

    from earl.environment import import_torch
    from earl.pages.sheets import claim_images, side_by_side, write_image
    from earl.sequence.instruction import check_instruction
    from earl.vision.images import square_side
    from earl.world.rendering import render
    from earl.world.tasks import sample_task

    # A demo is run again and again; its own image is the one file that is replaced unasked.
    out = claim_images(options.out, 1, force=True)[0]
    task = sample_task(options.task, "test", ["color"])
    instruction = check_instruction(options.instruction or task.instruction)
    import_torch()
    from earl.pipeline import build_pipeline
    from earl.pipeline.domain import lacking

    pipeline = build_pipeline(model)
    source = Image.fromarray(render(task.source, square_side(pipeline.vision.area)))
    if trouble := lacking(pipeline, source, [instruction]):
        warn(trouble)
    result, verdict, how = _best_effort(pipeline, source, instruction)
    shown = side_by_side(instruction, [source, result.image], ["before", "after"])
    for note in result.notes:
        warn(note)
    write_image(shown, out)
    score = f"{verdict.overall:.1f} of 10" if verdict.overall is not None else f"none ({verdict.reason})"
    say(f"asked: {instruction!r} - verifier's score: {score} - {result.seconds:.2f} s, {how}")
    if plan := result.reasoning[0]:
        say(f"reasoning: {plan}")
    say(f"before and after: {out}")


def _best_effort(pipeline: EditPipeline, source: Image, instruction: str) -> tuple[EditResult, Verdict, str]:
    """The likeliest image, or the best of a few draws where the verifier finds that one wanting."""
    from earl.pipeline import best_of
    from earl.world.verifier.scene import SceneVerifier

    verifier = SceneVerifier()
    result = pipeline(source, instruction, greedy=True)
    verdict = asyncio.run(verifier.judge(result.attempts()))[0]
    if not verdict.ok or verdict.exact:
        return result, verdict, "one greedy sample"
    result, verdict = best_of(pipeline(source, instruction, num_images=DEMO_DRAWS), verifier)
    return result, verdict, f"best of {DEMO_DRAWS} samples"


class VerifyOptions(Settings):
    source: Annotated[Path, POSITIONAL] = Field(description="the world image before the edit")
    edited: Annotated[Path, POSITIONAL] = Field(description="the image after it")
    instruction: Annotated[str, POSITIONAL] = Field(description="what was asked")
    as_json: Annotated[bool, JSON] = Field(default=False, description="print the verdict as JSON")


def verify(options: VerifyOptions) -> None:
    """The scene verifier's verdict on one edit."""
    from earl.errors import VerifierError
    from earl.records import Attempt
    from earl.sequence.instruction import check_instruction
    from earl.vision.images import open_image
    from earl.world.verifier.scene import SceneVerifier

    attempt = Attempt(
        source=open_image(options.source),
        instruction=check_instruction(options.instruction),
        edited=open_image(options.edited),
    )
    verdict = asyncio.run(SceneVerifier().judge([attempt]))[0]
    if not verdict.ok:
        raise VerifierError(f"no scores ({verdict.status}): {verdict.reason}")
    scores = {name: verdict.score(name) for name in SCORES}
    if options.as_json:
        say(json.dumps(verdict.to_json() | scores))
        return
    for name in (*SCORE_PARTS, *SCORES[1:3], "overall"):
        say(f"{name.replace('_', ' '):<22}{scores[name]:5.2f}")
    if verdict.why:
        say(verdict.why)


class SampleOptions(Settings):
    out: Annotated[Path, OUT_FOLDER] = Field(default=Path("out/world"), description="folder to write into")
    num: int = Field(default=8, ge=1, le=10_000, description="tasks to draw")
    seed: Seed = Field(default=0, description="of the first task; the next ones count up")
    split: Split = Field(default="test", description="which tasks")
    families: Families = Field(default=(), description="only these edit families")
    resolution: int = Field(default=64, ge=16, le=4096, description="px, side of the images")
    sheet: Annotated[Path | None, Option(metavar="FILE")] = Field(
        default=None, description="also write all tasks as one image"
    )
    force: bool = Field(default=False, description="overwrite files that exist")


def sample(options: SampleOptions) -> None:
    """Write example tasks as images and JSON."""
    from PIL import Image

    from earl.files import claim, write_json
    from earl.pages.sheets import claim_images, contact_sheet, write_image
    from earl.world.rendering import render
    from earl.world.tasks import sample_task

    folder = options.out
    names = [f"{options.split}-{options.seed + i}" for i in range(options.num)]
    files = {(name, side): folder / f"{name}-{side}.png" for name in names for side in ("source", "target")}
    claim([*files.values(), folder / "tasks.json"], force=options.force)
    sheet = claim_images(options.sheet, 1, force=options.force)[0] if options.sheet else None
    tasks = [
        sample_task(options.seed + i, options.split, options.families or None) for i in range(options.num)
    ]
    records, rows = [], []
    for name, task in zip(names, tasks, strict=True):
        pair = [Image.fromarray(render(scene, options.resolution)) for scene in (task.source, task.target)]
        for image, side in zip(pair, ("source", "target"), strict=True):
            write_image(image, files[name, side])
        rows.append((task.instruction, pair))
        records.append(
            {
                "id": task.id,
                "source": f"{name}-source.png",
                "target": f"{name}-target.png",
                "instruction": task.instruction,
                "family": task.family,
                "group": task.group,
                "boxes": [[box.left, box.top, box.right, box.bottom] for box in task.boxes],
                "reasoning": task.reasoning,
                "source_scene": task.source.to_dict(),
                "target_scene": task.target.to_dict(),
            }
        )
    write_json(folder / "tasks.json", records)
    say(f"{len(tasks)} tasks in {folder}, described in {folder / 'tasks.json'}")
    if sheet is not None:
        write_image(contact_sheet(rows), sheet)
        say(f"contact sheet in {sheet}")


class PrepareOptions(Settings):
    out: Annotated[Path, OUT_FOLDER] = Field(description="folder of shards; continued if it was cut short")
    vision: Annotated[str, MODEL] = Field(description="vision tokenizer that makes the codes")
    batch: Count = Field(default=64, description="images encoded together")
    workers: int = Field(default=0, ge=0, le=1024, description="processes that draw images")
    device: Device = Field(default="auto", description="of the vision tokenizer: auto, cpu, cuda or cuda:1")


def prepare(options: PrepareOptions, world: Annotated[WorldData, Group(title="what is drawn")]) -> None:
    """Draw, tokenise and store edits of the world for training."""
    from earl.data.card import read_card
    from earl.pipeline import pick_device
    from earl.vision.loading import load_vision_tokenizer
    from earl.world.shards import prepare_world

    encoder = load_vision_tokenizer(options.vision, device=pick_device(options.device))
    began = time.perf_counter()
    with Progress() as show:
        folder = prepare_world(
            options.out,
            encoder,
            world,
            batch=options.batch,
            workers=options.workers,
            on_shard=show.task("shards"),
        )
    seconds = time.perf_counter() - began
    edits = f"{read_card(folder)['edits']} edits of {world.sources} source images"
    say(f"{edits} of the {world.split} split in {folder}, {seconds:.0f} s")


class PrepareTextOptions(Settings):
    out: Annotated[Path, OUT_FOLDER] = Field(description="folder to write tokenizer.json into")
    vision: Annotated[str | None, MODEL] = Field(
        default=None, description="vision tokenizer whose codes get ids too"
    )
    codebook_size: Count | None = Field(default=None, description="or the number of image codes")
    size: int = Field(default=768, ge=256, description="most text ids, the 256 bytes included")
    sentences: Count = Field(default=20_000, description="of the world, to learn from")
    seed: Seed = Field(default=0, description="of the sentences")
    force: bool = Field(default=False, description="overwrite a tokenizer that is there")

    def problems(self) -> Iterator[str]:
        if (self.vision is None) == (self.codebook_size is None):
            yield "how many image codes get ids? Give vision or codebook_size, one of the two"


def prepare_text(options: PrepareTextOptions) -> None:
    """Learn a small text tokenizer from the world's sentences."""
    import numpy as np

    from earl.files import claim
    from earl.sequence.trained import train_text_tokenizer
    from earl.world.tasks import all_texts

    claim([options.out / "tokenizer.json"], force=options.force)
    codebook_size = options.codebook_size
    if codebook_size is None:
        from earl.vision.loading import load_vision_tokenizer

        codebook_size = load_vision_tokenizer(str(options.vision)).codebook_size
    texts = all_texts(np.random.default_rng([_SENTENCES, options.seed]), options.sentences)
    tokenizer = train_text_tokenizer(texts, size=options.size, codebook_size=codebook_size)
    tokenizer.save(options.out)
    say(f"{tokenizer.vocabulary.size} ids ({codebook_size} of them image codes) in {options.out}")
