"""`earl models`, `earl convert`, `earl merge`, `earl push`: models listed, written anew, published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from pydantic import Field

from earl.config import Settings
from earl.config.convert import ConversionSettings
from earl.config.model import Dtype
from earl.config.options import JSON, MODEL, POSITIONAL, Group, Option
from earl.errors import ConfigError
from earl.progress import say

MEMORY_NOTE = """
memory: GiB to edit one image (weights, the vision tokenizer in float32, one cache of keys and
values), computed, not measured; the CUDA context and activations come on top.
scores: VIEScore overall, 0-10, gpt-4o-mini, as published (arXiv 2508.01119).
licence: where none is shown, see the model's page on huggingface.co."""


class ModelsOptions(Settings):
    as_json: Annotated[bool, JSON] = Field(default=False, description="print the list as JSON")


def models(options: ModelsOptions) -> None:
    """List the models that have a name."""
    from earl.models.listing import describe_models, model_lines

    rows = describe_models()
    if options.as_json:
        say(json.dumps(rows, indent=2))
        return
    say("\n".join([*map(model_lines, rows), MEMORY_NOTE]))


class ConvertOptions(Settings):
    source: Annotated[str, POSITIONAL] = Field(
        description="a name, a folder, a LoRA adapter's folder, or a hub id owner/name[@revision]"
    )
    target: Annotated[Path, POSITIONAL] = Field(description="the folder to write; it must not exist")
    force: bool = Field(default=False, description="replace the target if it is a model folder of ours")
    as_json: Annotated[bool, JSON] = Field(
        default=False, description="print what was written and checked as JSON"
    )


def convert(
    options: ConvertOptions, conversion: Annotated[ConversionSettings, Group(title="what is written")]
) -> None:
    """Write a model of any layout as one folder, and compare it with its source."""
    from earl.convert.folder import convert_model

    tell = (lambda _: None) if options.as_json else say
    done = convert_model(options.source, options.target, conversion, force=options.force, say=tell)
    if options.as_json:
        say(json.dumps({"folder": str(done.folder), "checks": done.checks, "meta": done.meta}))
        return
    at = "" if conversion.temperature == 1 else f" at temperature {conversion.temperature:g}"
    same = "the same as" if conversion.quantize is None else f"in {conversion.quantize} from"
    say(f"{done.folder}: {', '.join(done.meta['parts'])}; {same} {options.source}{at}")


class MergeOptions(Settings):
    target: Annotated[Path, POSITIONAL] = Field(description="the folder to write; it must not exist")
    models: Annotated[tuple[str, ...], Option(positional=True, metavar="MODEL=WEIGHT")] = Field(
        description="two or more; the weights add up to 1"
    )
    dtype: Dtype = Field(default="auto", description="of the weights; auto: as the first model stores them")
    vision: Annotated[str | None, MODEL] = Field(
        default=None, description="take the vision tokenizer from this model (default: the first)"
    )
    force: bool = Field(default=False, description="replace the target if it is a model folder of ours")


def merge(options: MergeOptions) -> None:
    """Write a weighted sum of policies."""
    from earl.convert.merge import merge_policies

    parts = [_weighted(words) for words in options.models]
    meta = merge_policies(
        parts, options.target, dtype=options.dtype, vision=options.vision, force=options.force
    )
    sum_of = " + ".join(f"{weight:g} x {name}" for name, weight in parts)
    say(f"{options.target}: {meta['parameters']:,} parameters in {meta['dtype']}, {sum_of}")


def _weighted(words: str) -> tuple[str, float]:
    name, _, number = words.rpartition("=")
    try:
        if name:
            return name, float(number)
    except ValueError:
        pass
    raise ConfigError(f"{words!r} is no model with a weight; expected MODEL=WEIGHT, as runs/a/model=0.5")


class PushOptions(Settings):
    run: Annotated[Path, Option(positional=True, metavar="RUN")] = Field(
        description="folder of a training run (run.folder of its recipe)"
    )
    repo: Annotated[str, Option(positional=True, metavar="OWNER/NAME")] = Field(
        description="repository on the Hugging Face Hub; made where it does not exist"
    )
    model: Path | None = Field(default=None, description="folder of its model (default: RUN/model)")
    evaluations: Annotated[tuple[Path, ...], Option(metavar="FOLDER")] = Field(
        default=(), description="evaluations of this model, whose tables the card shows"
    )
    licence: str | None = Field(default=None, description="of the weights, as the hub names it: apache-2.0")
    notes: Annotated[Path | None, Option(metavar="FILE")] = Field(
        default=None, description="Markdown of your own for the card: intended use, further limits"
    )
    private: bool = Field(default=False, description="make a new repository private")
    dry_run: bool = Field(default=False, description="send nothing; list the files and print the card")


def push(options: PushOptions) -> None:
    """Upload a training run's model to the Hugging Face Hub, with a model card."""
    from earl.publishing import prepare_publication

    publication = prepare_publication(
        options.run,
        options.repo,
        model=options.model,
        evaluations=options.evaluations,
        licence=options.licence,
        notes=options.notes,
    )
    listing = list(publication.listing())
    for name, size in listing if options.dry_run else ():
        say(f"{size:>14,}  {name}")
    total = f"{len(listing)} files, {sum(size for _, size in listing):,} bytes"
    if options.dry_run:
        say(f"{total} for {options.repo}; nothing was sent. README.md:\n\n{publication.card}")
        return
    say(f"{total} at {publication.upload(private=options.private)}")
