"""`earl prepare SOURCE`: a data set of the paper, a benchmark, or one's own, as tokenised shards."""

from __future__ import annotations

import argparse
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from earl.cli import options as shared
from earl.cli.endpoint import add_endpoint, make_asker, watcher
from earl.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from earl.data.prepare import Stage
    from earl.data.sources import OpenedSource
    from earl.data.tokenise import Encoder


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "source",
        metavar="SOURCE",
        help="a built-in source (`earl data sources`), a file or folder of own data, or hub:OWNER/NAME",
    )
    add("-o", "--out", required=True, help="folder of shards; continued if it was cut short")
    add("--vision", required=True, metavar="MODEL", help="vision tokenizer that makes the codes")
    add("--area", type=shared.integer(64), help="px² that images are brought to; default: the tokenizer's")
    _add_where(parser)
    group = parser.add_argument_group("what goes in")
    group.add_argument("--limit", type=shared.integer(0), default=0, help="rows looked at; 0: all")
    group.add_argument(
        "--holdout",
        type=shared.number(0, 0.5),
        default=0.0,
        help="share of source images kept for --split validation, and left out of every other split",
    )
    group.add_argument(
        "--holdout-test",
        type=shared.number(0, 0.5),
        default=0.0,
        help="the same for --split test",
    )
    group.add_argument(
        "--max-rejected", type=shared.number(0, 1), default=0.05, help="share of bad samples that stops"
    )
    group.add_argument(
        "--tolerance", type=shared.integer(0, 255), default=16, help="levels below which pixels are unchanged"
    )
    group.add_argument(
        "--margin", type=shared.integer(0, 8), default=1, help="cells around a change that count as changed"
    )
    add_endpoint(
        parser,
        "the model that writes instructions (with --instructions-from-captions)",
        "instruction.txt and instruction-examples.txt",
        required=False,
    )
    group = parser.add_argument_group("speed")
    group.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="ray: actors on a Ray cluster",
    )
    group.add_argument("--actors", type=shared.integer(1, 4096), default=1, help="of --engine ray")
    group.add_argument(
        "--gpus-per-actor", type=shared.number(0, 64), default=0.0, help="of --engine ray; 0: none"
    )
    group.add_argument("--ray-address", help="of a Ray cluster; default: RAY_ADDRESS, else this machine")
    group.add_argument("--shard-rows", type=shared.integer(1), default=512, help="rows of a shard")
    group.add_argument("--batch", type=shared.integer(1), default=16, help="pairs of images encoded at once")
    group.add_argument("--readers", type=shared.integer(0, 256), default=0, help="threads that open images")
    group.add_argument(
        "--device", choices=shared.DEVICES, default="auto", help="auto: CUDA where there is one"
    )
    group.add_argument(
        "--dtype", choices=shared.DTYPES, default="auto", help="auto: as the weights are stored"
    )


def _add_where(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("where it is")
    group.add_argument("--path", help="files of a built-in source: parquet, Arrow, tar, or its folder")
    group.add_argument("--hub", action="store_true", help="read a built-in source from the Hub")
    group.add_argument("--split", help="split to read, which samples are marked with")
    group.add_argument(
        "--map", metavar="FIELD=COLUMN,…", help="which column is what, as source=before,target=after,id=a+b"
    )
    group.add_argument("--licence", default="", help="where the rows do not say")
    group.add_argument(
        "--group", choices=("simple", "complex"), default="simple", help="of own data whose rows do not say"
    )
    group.add_argument(
        "--draw", type=shared.integer(0), help="rows drawn at random; default: the benchmark's"
    )
    group.add_argument("--seed", type=shared.seed, default=42, help="of that draw")
    group.add_argument(
        "--instructions", metavar="FILE", help="JSON lines of id and instruction, for rows without (vismin)"
    )
    group.add_argument(
        "--instructions-from-captions",
        nargs="?",
        const="",
        metavar="FILE",
        help="ask the model at --url for those that are missing; raw answers are kept in FILE "
        "(of its own: OUT/instructions.jsonl)",
    )


def run(options: argparse.Namespace) -> int:
    from earl.config.data import PreparationSettings, SourceSettings
    from earl.data.prepare import prepare_source
    from earl.data.sources import open_source, parse_map

    given = read_instructions(options.instructions) if options.instructions else None
    asked = options.instructions_from_captions is not None
    settings = SourceSettings(
        path=options.path,
        hub=options.hub,
        columns=parse_map(options.map) if options.map else {},
        split=options.split,
        licence=options.licence,
        group=options.group,
        draw=options.draw,
        seed=options.seed,
    )
    source = open_source(options.source, settings, instructions=given or {} if asked else given)
    if asked:
        _ask_for_instructions(source, options)
    with _engine(options) as (encoder, area, stage):
        preparation = PreparationSettings(
            area=options.area or area,
            tolerance=options.tolerance,
            margin=options.margin,
            shard_rows=options.shard_rows,
            batch=options.batch,
            readers=options.readers,
            max_rejected=options.max_rejected,
            holdout=options.holdout,
            holdout_test=options.holdout_test,
            limit=options.limit,
        )
        began = time.perf_counter()
        rows = source.count()
        total = min(rows, options.limit) if rows and options.limit else rows
        with Progress() as show:
            counts = prepare_source(
                source,
                options.out,
                encoder,
                preparation,
                stage=stage,
                on_progress=lambda counts: show(
                    source.name, counts.rows, total, f"{counts.rejected} refused"
                ),
            )
    seconds = time.perf_counter() - began
    refused = f", {counts.rejected} refused ({options.out}/rejected.jsonl)" if counts.rejected else ""
    print(f"{counts.edits} edits of {source.name} in {options.out}{refused}, {seconds:.0f} s")
    return 0


@contextmanager
def _engine(options: argparse.Namespace) -> Iterator[tuple[Encoder, int, Stage | None]]:
    """What encodes, the area it works at, and where; Ray's actors end with the block."""
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
    from earl.vision import load_vision_tokenizer

    encoder = load_vision_tokenizer(options.vision, device=pick_device(options.device), dtype=options.dtype)
    yield encoder, encoder.area, None


def _ask_for_instructions(source: OpenedSource, options: argparse.Namespace) -> None:
    import asyncio
    from itertools import islice
    from pathlib import Path

    from earl.errors import ConfigError
    from earl.reasoning.instructions import instructions_from_captions
    from earl.reasoning.questions import load_template

    if not options.url:
        raise ConfigError("--instructions-from-captions needs --url: the API of the model that writes them")
    template, asker = load_template("instruction", options.prompts), make_asker(options)
    path = options.instructions_from_captions or Path(options.out) / "instructions.jsonl"
    pairs = islice(source.captions(), options.limit or None)
    with Progress() as show:
        work = instructions_from_captions(
            pairs, path, asker, template, on_progress=watcher(show, "instructions")
        )
        made = asyncio.run(work)
    source.give(made.texts, origin=made.origin, problems=made.problems)
    print(
        f"{len(made.texts)} instructions by {asker.model} ({asker.tally.asked} questions asked), "
        f"{len(made.problems)} captions without one; answers in {path}"
    )


def read_instructions(path: str) -> dict[str, str]:
    """Instructions by id from a file of JSON lines. Raises DataError."""
    from earl.errors import DataError
    from earl.files import read_lines

    found: dict[str, str] = {}
    for number, entry in read_lines(path):
        try:
            found[str(entry["id"])] = str(entry["instruction"]).strip()
        except (KeyError, TypeError) as error:
            raise DataError(f'{path}:{number} is not {{"id": …, "instruction": …}}') from error
    return found
