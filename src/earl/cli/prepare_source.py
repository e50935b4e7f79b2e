"""`earl prepare SOURCE`: a data set of the paper, a benchmark, or one's own, as tokenised shards."""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from earl.cli import options as shared

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from earl.data.prepare import Counts
    from earl.data.sources import OpenedSource


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "source",
        metavar="SOURCE",
        help="a built-in source (`earl data sources`), a file or folder of own data, or hub:OWNER/NAME",
    )
    add("-o", "--out", required=True, help="folder of shards; continued if it was cut short")
    add("--vision", required=True, metavar="MODEL", help="vision tokenizer that makes the codes")
    add("--area", type=shared.integer(64), help="px² that pictures are brought to; default: the tokenizer's")
    _add_where(parser)
    group = parser.add_argument_group("what goes in")
    group.add_argument("--limit", type=shared.integer(0), default=0, help="rows looked at; 0: all")
    group.add_argument(
        "--holdout",
        type=shared.number(0, 0.5),
        default=0.0,
        help="share of source pictures kept for --split validation, and left out of every other split",
    )
    group.add_argument(
        "--max-rejected", type=shared.number(0, 1), default=0.05, help="share of bad samples that stops"
    )
    group.add_argument(
        "--tolerance", type=shared.integer(0, 255), default=16, help="levels below which pixels are unchanged"
    )
    group = parser.add_argument_group("speed")
    group.add_argument("--shard-rows", type=shared.integer(1), default=512, help="rows of a shard")
    group.add_argument(
        "--batch", type=shared.integer(1), default=16, help="pairs of pictures encoded at once"
    )
    group.add_argument("--readers", type=shared.integer(0, 256), default=0, help="threads that open pictures")
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


def run(options: argparse.Namespace) -> int:
    from earl.data.prepare import Preparation, prepare_source
    from earl.data.sources import open_source, parse_map
    from earl.pipeline import pick_device
    from earl.vision import load_vision_tokenizer

    source = open_source(
        options.source,
        path=options.path,
        hub=options.hub,
        columns=parse_map(options.map) if options.map else None,
        split=options.split,
        licence=options.licence,
        group=options.group,
        instructions=_instructions(options.instructions) if options.instructions else None,
        draw=options.draw,
        seed=options.seed,
    )
    encoder = load_vision_tokenizer(options.vision, device=pick_device(options.device), dtype=options.dtype)
    settings = Preparation(
        area=options.area or encoder.area,
        tolerance=options.tolerance,
        shard_rows=options.shard_rows,
        batch=options.batch,
        readers=options.readers,
        max_rejected=options.max_rejected,
        holdout=options.holdout,
        limit=options.limit,
    )
    began = time.perf_counter()
    with _progress(source, options.limit) as show:
        counts = prepare_source(source, options.out, encoder, settings, on_progress=show)
    seconds = time.perf_counter() - began
    refused = f", {counts.rejected} refused ({options.out}/rejected.jsonl)" if counts.rejected else ""
    print(f"{counts.edits} edits of {source.name} in {options.out}{refused}, {seconds:.0f} s")
    return 0


def _instructions(path: str) -> dict[str, str]:
    import json
    from pathlib import Path

    from earl.errors import DataError

    found: dict[str, str] = {}
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            found[str(entry["id"])] = str(entry["instruction"]).strip()
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f'{path}:{number} is not {{"id": …, "instruction": …}}: {error}') from error
    return found


@contextmanager
def _progress(source: OpenedSource, limit: int) -> Iterator[Callable[[Counts], None] | None]:
    """A bar on stderr where a person looks at it."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    total = source.count()
    columns: list[Any] = [
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[refused]} refused"),
        TimeRemainingColumn(),
    ]
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(source.name, total=min(total, limit) if total and limit else total, refused=0)
        yield lambda counts: bar.update(task, completed=counts.rows, refused=counts.rejected)
