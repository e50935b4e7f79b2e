"""`earl convert SRC DST`: any layout of a model to one clean folder that checks itself."""

from __future__ import annotations

import argparse
import json

PARTS = ("policy", "tokenizer", "vision")


def add_options(parser: argparse.ArgumentParser) -> None:
    from earl.cli.options import DTYPES

    add = parser.add_argument
    add("source", help="'world', a folder, a LoRA adapter's folder, or a hub id owner/name[@revision]")
    add("target", help="the folder to write; it must not exist")
    add("--dtype", choices=DTYPES, default="auto", help="of the policy's weights; auto: as they are stored")
    add(
        "--temperature",
        type=float,
        default=1.0,
        metavar="T",
        help="fold a sampling temperature into the policy: the new one samples at 1 as the source at T",
    )
    add("--revision", help="branch, tag or commit of a hub id")
    add("--tokenizer", metavar="MODEL", help="take the text tokenizer from another model")
    add("--vision", metavar="MODEL", help="take the vision tokenizer from another model")
    add(
        "--parts", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=f"some of {', '.join(PARTS)}"
    )
    add(
        "--allow-pickle",
        action="store_true",
        help="read pytorch_model.bin, tensors only (torch.load with weights_only); from a source you trust",
    )
    add("--force", action="store_true", help="replace the target if it is a model folder of ours")
    add("--json", action="store_true", help="print what was written and checked as JSON")


def run(options: argparse.Namespace) -> int:
    from earl.config.convert import ConversionSettings
    from earl.convert import convert_model

    settings = ConversionSettings(
        dtype=options.dtype,
        temperature=options.temperature,
        revision=options.revision,
        tokenizer=options.tokenizer,
        vision=options.vision,
        parts=tuple(dict.fromkeys(options.parts)),
        allow_pickle=options.allow_pickle,
    )
    say = (lambda _: None) if options.json else print
    done = convert_model(options.source, options.target, settings, force=options.force, say=say)
    if options.json:
        record = {"folder": str(done.folder), "checks": done.checks, "meta": done.meta}
        print(json.dumps(record, ensure_ascii=False))
    else:
        at = "" if options.temperature == 1 else f" at temperature {options.temperature:g}"
        print(f"{done.folder}: {', '.join(done.meta['parts'])}; the same as {options.source}{at}")
    return 0
