"""`earl prepare world`: tokenised edits for training; `earl prepare text`: a small text tokenizer."""

from __future__ import annotations

import argparse
import time

from earl.cli import options as shared
from earl.progress import Progress

_SENTENCES = 91  # stream of the text tokenizer's sentences


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("-o", "--out", required=True, help="folder of shards; continued if it was cut short")
    add("--vision", required=True, metavar="MODEL", help="vision tokenizer that makes the codes")
    add("--sources", type=shared.integer(1), default=20_000, help="source images")
    add("--edits", type=shared.integer(1, 16), default=4, help="most edits of one source")
    add("--split", choices=shared.SPLITS, default="train")
    add("--families", nargs="+", default=(), metavar="FAMILY", help="only these edit families")
    add("--kinds", choices=("full", "few"), default="full", help="few: plain large solids only")
    add("--first-seed", type=shared.seed, default=0)
    add("--resolution", type=shared.integer(16, 4096), default=64, help="px, a multiple of 8")
    add("--shard-sources", type=shared.integer(1), default=1024, help="source images of a shard")
    add("--questions", type=shared.integer(0, 64), default=2, help="about the source, of each edit")
    add("--margin", type=shared.integer(0, 8), default=0, help="cells around a change that count as changed")
    add("--batch", type=shared.integer(1), default=64, help="images encoded at once")
    add("--workers", type=shared.integer(0, 1024), default=0, help="processes that draw images")
    add("--device", choices=shared.DEVICES, default="auto", help="auto: CUDA where there is one")


def run(options: argparse.Namespace) -> int:
    from earl.errors import ConfigError

    if options.resolution % 8:
        raise ConfigError(f"--resolution {options.resolution} is not a multiple of 8")
    from earl.pipeline import pick_device
    from earl.vision import load_vision_tokenizer
    from earl.world.shards import WorldData, prepare_world

    encoder = load_vision_tokenizer(options.vision, device=pick_device(options.device))
    settings = WorldData(
        sources=options.sources,
        split=options.split,
        families=tuple(options.families),
        kinds=options.kinds,
        group_size=options.edits,
        first_seed=options.first_seed,
        resolution=options.resolution,
        shard_sources=options.shard_sources,
        questions=options.questions,
        margin=options.margin,
    )
    began = time.perf_counter()
    with Progress() as show:
        folder = prepare_world(
            options.out,
            encoder,
            settings,
            batch=options.batch,
            workers=options.workers,
            on_shard=show.task("shards"),
        )
    seconds = time.perf_counter() - began
    print(f"{options.sources} source images of the {options.split} split in {folder}, {seconds:.0f} s")
    return 0


def add_options_text(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("-o", "--out", required=True, help="folder to write tokenizer.json into")
    size = parser.add_mutually_exclusive_group(required=True)
    size.add_argument("--vision", metavar="MODEL", help="vision tokenizer whose codes get ids too")
    size.add_argument("--codebook-size", type=shared.integer(1), help="or the number of image codes")
    add("--size", type=shared.integer(256), default=768, help="most text ids, the 256 bytes included")
    add("--sentences", type=shared.integer(1), default=20_000, help="of the world, to learn from")
    add("--seed", type=shared.seed, default=0)
    add("--force", action="store_true", help="overwrite a tokenizer that is there")


def run_text(options: argparse.Namespace) -> int:
    from pathlib import Path

    import numpy as np

    from earl.cli.outputs import claim
    from earl.sequence import train_text_tokenizer
    from earl.world import all_texts

    claim([Path(options.out) / "tokenizer.json"], force=options.force)
    codebook_size = options.codebook_size
    if codebook_size is None:
        from earl.vision import load_vision_tokenizer

        codebook_size = load_vision_tokenizer(options.vision).codebook_size
    texts = all_texts(np.random.default_rng([_SENTENCES, options.seed]), options.sentences)
    tokenizer = train_text_tokenizer(texts, size=options.size, codebook_size=codebook_size)
    tokenizer.save(options.out)
    print(f"{tokenizer.vocabulary.size} ids ({codebook_size} of them image codes) in {options.out}")
    return 0
