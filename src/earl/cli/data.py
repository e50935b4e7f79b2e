"""`earl prepare`, `earl data …`, `earl reason make`: tokenised shards, what they hold, reasoning for them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from earl.config import Settings, WriterSettings
from earl.config.data import PreparationSettings, ReasoningSettings, SourceSettings
from earl.config.model import Device, Dtype
from earl.config.options import JSON, JSON_FILE, MODEL, OUT, OUT_FOLDER, POSITIONAL, Group, Option
from earl.config.settings import Seed
from earl.errors import ConfigError, DataError
from earl.progress import Progress, say

if TYPE_CHECKING:
    from earl.data.prepare import Counts, Source, Stage
    from earl.data.sources.opening import OpenedSource
    from earl.data.tokenise import Encoder
    from earl.reasoning.asking import Tally
    from earl.reasoning.images import Images

FOLDER = Option(positional=True, metavar="FOLDER")
MAP = Option(metavar="FIELD=COLUMN,…")
MAPPING = "which column is what, as source=before,target=after,id=a+b"
WRITER = Group(title="the model that writes", prefix="writer-")


class PrepareOptions(Settings):
    source: Annotated[str, POSITIONAL] = Field(
        description="a name of `earl data sources`, a file or folder of your own, or hub:OWNER/NAME"
    )
    out: Annotated[Path, OUT_FOLDER] = Field(description="folder of shards; continued if it was cut short")
    vision: Annotated[str, MODEL] = Field(description="vision tokenizer that makes the codes")
    map: Annotated[str, MAP] = Field(default="", description=MAPPING)
    area: int | None = Field(
        default=None, ge=64, description="px² that images are brought to (default: the tokenizer's)"
    )
    instructions: Annotated[Path | None, Option(metavar="FILE")] = Field(
        default=None, description="JSON lines of id and instruction, for rows without (vismin)"
    )
    write_instructions: bool = Field(
        default=False,
        description="have a model write those that are missing, from captions; answers are kept in "
        "OUT/instructions.jsonl, or the file that --answers names",
    )
    answers: Annotated[Path | None, Option(metavar="FILE")] = Field(
        default=None, description="where the model's answers are kept"
    )
    device: Device = Field(default="auto", description="of the vision tokenizer: auto, cpu, cuda or cuda:1")
    dtype: Dtype = Field(
        default="auto", description="of the vision tokenizer; auto: as its weights are stored"
    )
    engine: Literal["local", "ray"] = Field(default="local", description="ray: actors on a Ray cluster")
    actors: int = Field(default=1, ge=1, le=4096, description="of engine ray")
    gpus_per_actor: float = Field(default=0.0, ge=0, le=64, description="of engine ray; 0: none")
    ray_address: str | None = Field(
        default=None, description="of a Ray cluster (default: RAY_ADDRESS, else this machine)"
    )

    def problems(self) -> Iterator[str]:
        if self.answers is not None and not self.write_instructions:
            yield "answers keeps what write_instructions has a model write: give both, or neither"


def prepare(
    options: PrepareOptions,
    source: Annotated[SourceSettings, Group(title="where it is", omit=("columns",))],
    preparation: Annotated[PreparationSettings, Group(title="how it is tokenised", omit=("area", "rule"))],
    writer: Annotated[WriterSettings | None, WRITER],
) -> None:
    """Tokenise a source into shards."""
    from earl.data.sources.own import parse_map

    if options.write_instructions != (writer is not None):
        raise ConfigError("--write-instructions and --writer-url are given together, or neither")
    settings = source.replace(columns=parse_map(options.map))
    opened = open_held(options.source, settings, preparation, _instructions(options))
    if writer is not None:
        _write_instructions(opened, options, preparation.limit, writer)
    with _encoder(options) as (encoder, area, stage):
        whole = preparation.replace(area=options.area or area)
        edits, rest = write_shards(opened, options.out, encoder, whole, opened.count(), stage)
    say(f"{edits} edit{'s'[: edits != 1]} of {opened.name} in {options.out}{rest}")


def open_held(
    name: str,
    settings: SourceSettings,
    preparation: PreparationSettings,
    instructions: dict[str, str] | None = None,
) -> OpenedSource:
    """`open_source`; where the files name other splits, as train, the share that is held back of these."""
    from earl.data.sources.opening import open_source
    from earl.data.tokenise import HELD

    try:
        return open_source(name, settings, instructions=instructions)
    except DataError:
        if settings.split not in HELD or not (preparation.holdout or preparation.holdout_test):
            raise
        opened = open_source(name, settings.replace(split=None), instructions=instructions)
        opened.hold_back(str(settings.split))
        return opened


def write_shards(
    source: Source,
    out: Path,
    encoder: Encoder,
    settings: PreparationSettings,
    rows: int | None,
    stage: Stage | None = None,
) -> tuple[int, str]:
    """`prepare_source` with a bar, and a line with the rows of each split.

    Returns:
        How many edits there are, and what was refused in how many seconds.
    """
    from earl.data.card import read_card
    from earl.data.prepare import prepare_source

    began = time.perf_counter()
    total = min(rows, settings.limit) if rows and settings.limit else rows
    there: list[int] = []  # rows read, before and after each shard

    def progress(now: Counts) -> None:
        there.append(now.reads)
        show(source.name, now.rows, total, f"{now.rejected} refused")

    with Progress() as show:
        counts = prepare_source(source, out, encoder, settings, stage=stage, on_progress=progress)
    card = read_card(out)
    splits = ", ".join(f"{name} {count}" for name, count in sorted(card["splits"].items()))
    odd = {"without a target image": card["without_target"], "with one like the source": card["unchanged"]}
    if told := ", ".join(f"{count} {what}" for what, count in odd.items() if count):
        splits += f" ({told})"
    left = counts.reads - counts.looked
    others = f", {left} left to other splits" if left else ""
    rows_read = f"{counts.reads} rows read"
    if there[0] == counts.reads:
        rows_read = f"all {counts.reads} rows were there already"
    say(f"{rows_read}: {splits}, refused {counts.rejected}{others}")
    refused = f", {counts.rejected} refused ({out}/rejected.jsonl)" if counts.rejected else ""
    return counts.edits, f"{refused}, {time.perf_counter() - began:.0f} s"


@contextmanager
def _encoder(options: PrepareOptions) -> Iterator[tuple[Encoder, int, Stage | None]]:
    """The encoder, its area and its device; Ray's actors end with the block."""
    if options.engine == "ray":
        from earl.data.distributed import RayStage

        with RayStage(
            options.vision,
            actors=options.actors,
            gpus=options.gpus_per_actor,
            address=options.ray_address,
            device=options.device,
            dtype=options.dtype,
        ) as stage:
            yield stage, stage.area, stage
        return
    from earl.pipeline import pick_device
    from earl.vision.loading import load_vision_tokenizer

    encoder = load_vision_tokenizer(options.vision, device=pick_device(options.device), dtype=options.dtype)
    yield encoder, encoder.area, None


def _instructions(options: PrepareOptions) -> dict[str, str] | None:
    if options.instructions is None:
        return {} if options.write_instructions else None
    from earl.data.sources.own import read_instructions

    return read_instructions(options.instructions)


def _write_instructions(
    source: OpenedSource, options: PrepareOptions, limit: int, writer: WriterSettings
) -> None:
    from itertools import islice

    from earl.reasoning.asking import Asker
    from earl.reasoning.instructions import instructions_from_captions
    from earl.reasoning.questions import load_template

    template, asker = load_template("instruction", writer.prompts), Asker(writer)
    path = options.answers or options.out / "instructions.jsonl"
    pairs = islice(source.captions(), limit or None)
    with Progress() as show:
        made = asyncio.run(
            instructions_from_captions(
                pairs, path, asker, template, on_progress=lambda tally: _show(show, "instructions", tally)
            )
        )
    source.give(made.texts, origin=made.origin, problems=made.problems)
    say(
        f"{len(made.texts)} instructions by {asker.model} ({asker.tally.asked} questions asked), "
        f"{len(made.problems)} captions without one; answers in {path}"
    )


def _show(show: Progress, what: str, tally: Tally) -> None:
    note = f"{tally.rejected} rejected, {tally.unanswered} without an answer ({tally.asked} asked)"
    show(what, tally.accepted, None, note)


class ReasonOptions(Settings):
    prepared: Annotated[Path, FOLDER] = Field(description="tokenised shards; they are not changed")
    out: Annotated[Path, OUT_FOLDER] = Field(
        description="folder of shards with reasoning; continued if it was cut short"
    )
    vision: Annotated[str | None, MODEL] = Field(
        default=None, description="show the shards' own images, decoded by the tokenizer that made the codes"
    )
    source: str | None = Field(default=None, description="or show those that the shards were prepared from")
    map: Annotated[str, MAP] = Field(default="", description=MAPPING)
    device: Device = Field(default="auto", description="of the vision tokenizer: auto, cpu, cuda or cuda:1")

    def problems(self) -> Iterator[str]:
        if (self.vision is None) == (self.source is None):
            yield "which images is the model to see? Give --vision MODEL or --source SOURCE"


def reason(
    options: ReasonOptions,
    settings: Annotated[ReasoningSettings, Group(title="chains")],
    source: Annotated[SourceSettings, Group(title="source images", only=("path", "hub", "split"))],
    writer: Annotated[WriterSettings, WRITER],
) -> None:
    """Have a multimodal model write a chain of thought for every edit."""
    from earl.reasoning.annotate import make_reasoning
    from earl.reasoning.asking import Asker
    from earl.reasoning.questions import load_template

    template, asker = load_template("reasoning", writer.prompts), Asker(writer)
    images = _images(options, source)
    began = time.perf_counter()
    with Progress() as show:
        totals = asyncio.run(
            make_reasoning(
                options.prepared,
                options.out,
                asker,
                template,
                images,
                settings,
                on_progress=lambda _, tally: _show(show, "chains", tally),
            )
        )
    seconds = time.perf_counter() - began
    refused = f", {totals.rejected} rejected ({options.out}/rejected.jsonl)" if totals.rejected else ""
    say(
        f"{totals.edits} edits with reasoning by {asker.model} in {options.out}{refused}; "
        f"{asker.tally.asked} questions asked, {seconds:.0f} s"
    )
    if settings.limit and totals.looked > settings.limit:
        say(f"{options.out} held {totals.looked} edits before, more than --limit {settings.limit}; all stay")


def _images(options: ReasonOptions, source: SourceSettings) -> Images:
    from earl.data.sources.opening import open_source
    from earl.data.sources.own import parse_map
    from earl.reasoning.images import DecodedImages, SourceImages

    if options.source is not None:
        settings = source.replace(columns=parse_map(options.map))
        return SourceImages(open_source(options.source, settings, instructions={}))  # the shards have them
    from earl.data.shards import read_manifest
    from earl.pipeline import pick_device
    from earl.vision.loading import load_vision_tokenizer

    assert options.vision is not None, "one of the two is given"
    fingerprint = str(read_manifest(options.prepared)["fingerprint"])
    vision = load_vision_tokenizer(options.vision, device=pick_device(options.device))
    return DecodedImages(vision, fingerprint, options.vision)


class SourcesOptions(Settings):
    as_json: Annotated[bool, JSON] = Field(default=False, description="print the list as JSON")


def sources(options: SourcesOptions) -> None:
    """List the data sets and benchmarks that have a name: the built-in ones, and those of other packages."""
    from earl.data.sources.builtin import SCHEMAS
    from earl.registry import SOURCES

    registered = {name: SOURCES.home(name) for name in SOURCES.names() if name not in SCHEMAS}
    if options.as_json:
        names = ("hub", "benchmark", "group", "licence", "columns")
        rows = {name: {key: getattr(row, key) for key in names} for name, row in SCHEMAS.items()}
        others = {name: {"registered": home} for name, home in registered.items()}
        say(json.dumps(rows | others, indent=2, default=dict))
        return
    width = max(map(len, (*SCHEMAS, *registered)))
    for name, schema in SCHEMAS.items():
        kind = "benchmark" if schema.benchmark else f"training, {schema.group}"
        say(f"{name:<{width}}  {kind:<18}  {schema.hub:<36}  {schema.licence}")
    for name, home in registered.items():
        say(f"{name:<{width}}  {'registered':<18}  {home}")


class StatsOptions(Settings):
    folder: Annotated[Path, FOLDER] = Field(description="tokenised shards")
    tokenizer: Annotated[str | None, MODEL] = Field(
        default=None, description="count lengths in this model's tokens, not in characters"
    )
    json_file: Annotated[Path | None, JSON_FILE] = Field(default=None, description="also write the numbers")
    sheet: Annotated[Path | None, Option(metavar="FILE")] = Field(
        default=None, description="also write some edits as one image"
    )
    vision: Annotated[str | None, MODEL] = Field(
        default=None, description="vision tokenizer that decodes the codes for the sheet"
    )
    num: int = Field(default=16, ge=1, le=400, description="edits on the sheet")
    seed: Seed = Field(default=0, description="which edits are on it")
    force: bool = Field(default=False, description="overwrite files that exist")

    def problems(self) -> Iterator[str]:
        if self.sheet is not None and self.vision is None:
            yield "--sheet needs --vision: the vision tokenizer that made the codes"


def stats(options: StatsOptions) -> None:
    """Count what tokenised shards hold."""
    from earl.data.shards import load_shards
    from earl.data.stats import shard_stats, stats_lines
    from earl.files import claim, write_json
    from earl.pages.sheets import claim_images

    claim([options.json_file] if options.json_file else [], force=options.force)
    sheet = claim_images(options.sheet, 1, force=options.force)[0] if options.sheet else None
    tokenizer = None
    if options.tokenizer is not None:
        from earl.models.resolve import resolve_model
        from earl.sequence.tokenizer import TextTokenizer

        folder = resolve_model(options.tokenizer, parts=("tokenizer",)).need("tokenizer")
        tokenizer = TextTokenizer.from_folder(folder)
    shards = load_shards(options.folder)
    counted = shard_stats(shards, tokenizer)
    say("\n".join(stats_lines(counted)))
    if options.json_file is not None:
        write_json(options.json_file, counted)
    if sheet is not None:
        _write_sheet(shards, options, sheet)


def _write_sheet(shards: Any, options: StatsOptions, path: Path) -> None:
    import numpy as np

    from earl.pages.sheets import contact_sheet, write_image
    from earl.vision.loading import load_vision_tokenizer

    vision = load_vision_tokenizer(str(options.vision))
    if vision.fingerprint() != shards.fingerprint:
        raise DataError(
            f"{shards.name} has codes of tokenizer {shards.fingerprint}, {options.vision} is "
            f"{vision.fingerprint()}; give the one that prepared it"
        )
    places = np.random.default_rng(options.seed).permutation(len(shards))[: options.num]
    rows = []
    for edit in (shards[place] for place in sorted(places.tolist())):
        codes = [edit.source_codes, *([edit.target_codes] if edit.has_target else [])]
        rows.append((f"{edit.family}: {edit.instruction}", vision.decode(codes)))
    write_image(contact_sheet(rows), path)
    say(f"contact sheet in {path}")


class OverlapOptions(Settings):
    train: Annotated[Path, POSITIONAL] = Field(description="prepared shards, or a folder of image files")
    evaluation: Annotated[Path, POSITIONAL] = Field(description="the same of a benchmark")
    bits: int = Field(default=4, ge=0, le=64, description="of 64 that may differ in images that look alike")
    out: Annotated[Path | None, OUT] = Field(default=None, description="write the matches as JSON")
    force: bool = Field(default=False, description="overwrite a file that exists")


def overlap(options: OverlapOptions) -> int:
    """Find evaluation images among training images. Exit code 1 where there are some."""

    from earl.data.overlap import find_overlap, fingerprints, overlap_lines
    from earl.files import claim, write_json

    claim([options.out] if options.out else [], force=options.force)
    train, evaluation = fingerprints(options.train), fingerprints(options.evaluation)
    matches = find_overlap(train, evaluation, bits=options.bits)
    say("\n".join(overlap_lines(matches, len(train), len(evaluation), options.bits)))
    if options.out is not None:
        write_json(options.out, [match.to_dict() for match in matches])
    return 1 if matches else 0
