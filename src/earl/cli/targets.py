"""`earl prepare edits`, `earl prepare tokenised`, `earl data images`.

Targets that a model draws; samples that are tokenised already; what a tokenizer keeps of images.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from earl.cli.data import MAP, MAPPING, open_held, write_shards
from earl.config import ModelSettings, SamplingSettings, Settings, VerifierSettings
from earl.config.data import PreparationSettings, SourceSettings, TargetSettings
from earl.config.model import Device
from earl.config.options import MODEL, OUT_FOLDER, POSITIONAL, Group, Option, verifier_group
from earl.progress import Progress, say
from earl.records import EditGroup


class DrawnOptions(Settings):
    source: Annotated[str, POSITIONAL] = Field(
        description="images and instructions: as `earl prepare` takes them; targets are not needed"
    )
    out: Annotated[Path, OUT_FOLDER] = Field(description="folder of shards; continued if it was cut short")
    map: Annotated[str, MAP] = Field(default="", description=MAPPING)


def prepare_edits(
    options: DrawnOptions,
    targets: Annotated[TargetSettings, Group(title="which edits become targets")],
    model: Annotated[ModelSettings, Group(title="the model that draws them")],
    sampling: SamplingSettings,
    verifier: Annotated[VerifierSettings, verifier_group("judge")],
    source: Annotated[SourceSettings, Group(title="where it is", omit=("columns", "seed"))],
    preparation: Annotated[
        PreparationSettings,
        Group(title="how it is tokenised", omit=("area", "rule", "batch"), defaults={"max_rejected": 0.95}),
    ],
) -> None:
    """Draw edits with a model, keep the best of each row by a verifier, and tokenise them into shards."""
    from earl.data.sources.own import parse_map
    from earl.pipeline import build_pipeline
    from earl.pipeline.targets import DrawnTargets

    opened = open_held(options.source, source.replace(columns=parse_map(options.map)), preparation)
    rows, pipeline = opened.count(), build_pipeline(model)
    drawn = DrawnTargets(opened, pipeline, verifier, targets, sampling, preparation)
    settings = preparation.replace(area=pipeline.vision.area)
    edits, rest = write_shards(drawn, options.out, pipeline.vision, settings, rows)
    kind, kept = ("edits", "best") if targets.pair_gap is None else ("pairs", "best and the worst")
    say(f"{edits} {kind} in {options.out}, each the {kept} of {targets.best_of} by {verifier.kind}{rest}")


class TokenisedOptions(Settings):
    source: Annotated[str, POSITIONAL] = Field(
        description="a tokenized_datalist.json of mair-lab/earl-datasets, or a folder with one"
    )
    out: Annotated[Path, OUT_FOLDER] = Field(description="folder of shards; continued if it was cut short")
    vision: Annotated[str, MODEL] = Field(description="the vision tokenizer that made the codes")
    split: Literal["train", "validation", "test"] = Field(default="train", description="what the samples are")
    group: EditGroup = Field(default="complex", description="of all its edits")


def prepare_tokenised(
    options: TokenisedOptions,
    preparation: Annotated[
        PreparationSettings, Group(title="shards", only=("shard_rows", "max_rejected", "limit"))
    ],
) -> None:
    """Write the authors' samples, tokenised already, as shards."""
    from earl.data.released import ReleasedSamples
    from earl.vision.loading import load_vision_tokenizer

    vision = load_vision_tokenizer(options.vision)
    samples = ReleasedSamples.open(
        options.source, vision.codebook_size, split=options.split, group=options.group
    )
    settings = preparation.replace(area=vision.area)
    edits, rest = write_shards(samples, options.out, vision, settings, samples.count(), samples)
    say(f"{edits} edits in {options.out}{rest}")


class ImagesOptions(Settings):
    folder: Annotated[Path, Option(positional=True, metavar="FOLDER")] = Field(
        description="image files, those in its folders too"
    )
    vision: Annotated[str, MODEL] = Field(description="vision tokenizer, or a model that has one")
    sheet: Annotated[Path | None, Option(metavar="FILE")] = Field(
        default=None, description="also write the worst ones, before and after, as one image"
    )
    worst: int = Field(default=8, ge=1, le=100, description="images on the sheet")
    limit: int = Field(default=0, ge=0, description="images at most; 0: all")
    device: Device = Field(default="auto", description="auto (CUDA where there is one), cpu, cuda or cuda:1")
    force: bool = Field(default=False, description="overwrite a file that exists")


def images(options: ImagesOptions) -> None:
    """Measure how well a vision tokenizer keeps your images."""
    from earl.errors import DataError
    from earl.evaluation.intervals import estimate
    from earl.evaluation.reconstruction import LOW, reconstructions
    from earl.pages.sheets import claim_images, contact_sheet, write_image
    from earl.pipeline import pick_device
    from earl.vision.loading import load_vision_tokenizer

    sheet = claim_images(options.sheet, 1, force=options.force)[0] if options.sheet else None
    vision = load_vision_tokenizer(options.vision, device=pick_device(options.device))
    problems: list[str] = []
    with Progress() as show:
        found = []
        for one in reconstructions(
            options.folder,
            vision,
            limit=options.limit,
            on_problem=lambda _, problem: problems.append(problem),
        ):
            found.append(one)
            show("images", len(found), None, f"{len(problems)} unreadable")
    for problem in problems:
        say(f"left out: {problem}")
    if not found:
        raise DataError(f"not one image of {options.folder} can be read")
    found.sort(key=lambda one: one.psnr)
    mean = estimate([one.psnr for one in found])
    assert mean is not None, "there are images"
    say(f"{len(found)} images, PSNR after encoding and decoding {mean.text(1)} dB (more is better)")
    say("worst: " + ", ".join(f"{one.path.name} {one.psnr:.1f}" for one in found[: min(5, len(found))]))
    if low := sum(one.psnr < LOW for one in found):
        say(
            f"{low} of {len(found)} lie below {LOW:g} dB: fine detail is lost before any editing. Look at "
            "the sheet (--sheet), keep what no edit touches (`earl edit --keep-outside`), or teach the "
            "tokenizer your images (docs/own-data.md)"
        )
    if sheet is not None:
        rows = [(f"{one.path.name}: {one.psnr:.1f} dB", (one.image, one.decoded)) for one in found]
        write_image(contact_sheet(rows[: options.worst]), sheet)
        say(f"the worst in {sheet}")
