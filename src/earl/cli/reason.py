"""`earl reason make`: chains of thought for a prepared set, written by a multimodal model."""

from __future__ import annotations

import argparse
import asyncio
import time
from typing import TYPE_CHECKING

from earl.cli import options as shared
from earl.cli.endpoint import add_endpoint, make_asker, watcher
from earl.progress import Progress

if TYPE_CHECKING:
    from earl.reasoning.images import Images


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("prepared", metavar="DIR", help="folder of tokenised shards; it is not changed")
    add("-o", "--out", required=True, help="folder of shards with reasoning; continued if it was cut short")
    shown = parser.add_argument_group("images that the model sees").add_argument
    shown("--vision", metavar="MODEL", help="decode the shards' codes with the tokenizer that made them")
    shown("--source", metavar="SOURCE", help="or show those that the shards were prepared from")
    shown("--path", help="files of a built-in source, as given to `earl prepare`")
    shown("--hub", action="store_true", help="read a built-in source from the Hub")
    shown("--split", help="split that was read")
    shown("--map", metavar="FIELD=COLUMN,…", help="the mapping that was given")
    shown("--side", type=shared.integer(64, 4096), default=512, help="px, longer side as shown")
    shown("--device", choices=shared.DEVICES, default="auto", help="auto: CUDA where there is one")
    add(
        "--limit",
        type=shared.integer(0),
        default=0,
        help="edits at most; 0: all; a folder goes on with a larger one",
    )
    add("--max-rejected", type=shared.number(0, 1), default=0.2, help="share of bad answers that stops")
    add_endpoint(parser, "the model that writes", "reasoning.txt and reasoning-examples.txt", required=True)


def run(options: argparse.Namespace) -> int:
    from earl.errors import ConfigError
    from earl.reasoning.annotate import ReasoningData, make_reasoning
    from earl.reasoning.questions import load_template

    if (options.vision is None) == (options.source is None):
        raise ConfigError(
            "which images is the model to see? Give --vision MODEL, or the --source of the shards"
        )
    template = load_template("reasoning", options.prompts)
    asker = make_asker(options)
    settings = ReasoningData(side=options.side, max_rejected=options.max_rejected, limit=options.limit)
    began = time.perf_counter()
    with Progress() as show:
        update = watcher(show, "chains")
        work = make_reasoning(
            options.prepared,
            options.out,
            asker,
            template,
            _images(options),
            settings,
            on_progress=lambda _, tally: update(tally),
        )
        totals = asyncio.run(work)
    seconds = time.perf_counter() - began
    refused = f", {totals.rejected} rejected ({options.out}/rejected.jsonl)" if totals.rejected else ""
    print(
        f"{totals.edits} edits with reasoning by {asker.model} in {options.out}{refused}; "
        f"{asker.tally.asked} questions asked, {seconds:.0f} s"
    )
    if options.limit and totals.looked > options.limit:
        print(
            f"{options.out} had {totals.looked} edits settled before, more than --limit {options.limit}: "
            "all of them were kept"
        )
    return 0


def _images(options: argparse.Namespace) -> Images:
    from pathlib import Path

    from earl.reasoning.images import DecodedImages, SourceImages

    if options.vision:
        from earl.data.shards import read_manifest
        from earl.pipeline import pick_device
        from earl.vision import load_vision_tokenizer

        fingerprint = str(read_manifest(Path(options.prepared))["fingerprint"])
        vision = load_vision_tokenizer(options.vision, device=pick_device(options.device))
        return DecodedImages(vision, fingerprint, options.vision)
    from earl.data.sources import open_source, parse_map

    source = open_source(
        options.source,
        path=options.path,
        hub=options.hub,
        columns=parse_map(options.map) if options.map else {},
        split=options.split,
        instructions={},  # the shards have them
    )
    return SourceImages(source)
