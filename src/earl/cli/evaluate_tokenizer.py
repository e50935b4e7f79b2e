"""`earl evaluate tokenizer`: unseen scenes through a vision tokenizer; a table by style, and JSON."""

from __future__ import annotations

import argparse

from earl.cli import options as shared
from earl.progress import Progress


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model", default="world", help="'world' (shipped), a model or vision tokenizer folder, or a hub id")
    add("--revision", help="branch, tag or commit of a hub id")
    add("--device", choices=shared.DEVICES, default="auto", help="auto: CUDA where there is one")
    add("--num", type=shared.integer(1), default=200, help="scenes, drawn in the five styles in turn")
    add("--seed", type=shared.seed, default=0, help="of the scenes")
    add("--split", choices=shared.SPLITS[1:], default="test", help="heldout: combinations never trained on")
    add("--resolution", type=shared.integer(16), help="px, side of the images (default: the model's)")
    add("--batch", type=shared.integer(1), default=32, help="images encoded together")
    add("--json", metavar="FILE", help="also write the numbers there")
    add("--force", action="store_true", help="overwrite FILE if it exists")


def run(options: argparse.Namespace) -> int:
    from earl.cli.outputs import claim
    from earl.files import write_json
    from earl.pipeline import pick_device
    from earl.vision import load_vision_tokenizer
    from earl.world.tokenizer_benchmark import TokenizerBenchmark, evaluate_tokenizer, format_tokenizer

    file = claim([options.json], force=options.force)[0] if options.json else None
    benchmark = TokenizerBenchmark(
        num=options.num,
        seed=options.seed,
        split=options.split,
        resolution=options.resolution,
        batch=options.batch,
    )
    eyes = load_vision_tokenizer(options.model, device=pick_device(options.device), revision=options.revision)
    with Progress() as show:
        report = evaluate_tokenizer(
            eyes, benchmark, name=options.model, on_batch=lambda done: show("images", done, options.num)
        )
    if file:
        write_json(file, report)
    print(
        f"{options.model}: {options.num} scenes of the {options.split} split, seed {options.seed}, "
        f"{report['resolution']} px\n"
    )
    print(format_tokenizer(report))
    print(f"{report['seconds']:.0f} s")
    return 0
