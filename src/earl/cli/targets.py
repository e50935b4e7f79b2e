"""`earl prepare edits`: shards whose target images a model draws and a verifier picks."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

from pydantic import Field

from earl.cli.data import MAP, MAPPING
from earl.config import ModelSettings, SamplingSettings, Settings, VerifierSettings
from earl.config.data import PreparationSettings, SourceSettings, TargetSettings
from earl.config.options import OUT_FOLDER, POSITIONAL, Group, verifier_group
from earl.progress import Progress, say


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
    from earl.data.prepare import prepare_source
    from earl.data.sources import open_source, parse_map
    from earl.pipeline import build_pipeline
    from earl.pipeline.targets import DrawnTargets

    opened = open_source(options.source, source.replace(columns=parse_map(options.map)))
    rows = opened.count()
    total = min(rows, preparation.limit) if rows and preparation.limit else rows
    pipeline = build_pipeline(model)
    drawn = DrawnTargets(opened, pipeline, verifier, targets, sampling)
    began = time.perf_counter()
    with Progress() as show:
        counts = prepare_source(
            drawn,
            options.out,
            pipeline.vision,
            preparation.replace(area=pipeline.vision.area),
            on_progress=lambda now: show(opened.name, now.rows, total, f"{now.rejected} refused"),
        )
    refused = f"{counts.rejected} refused ({options.out}/rejected.jsonl)"
    say(
        f"{counts.edits} edits in {options.out}, each the best of {targets.best_of} by "
        f"{verifier.kind}; {refused}, {time.perf_counter() - began:.0f} s"
    )
