"""`earl merge DST MODEL=WEIGHT …`: a weighted sum of policies."""

from __future__ import annotations

import argparse

from earl.errors import ConfigError


def add_options(parser: argparse.ArgumentParser) -> None:
    from earl.cli.options import DTYPES

    add = parser.add_argument
    add("target", help="the folder to write; it must not exist")
    add("models", nargs="+", metavar="MODEL=WEIGHT", help="two or more; the weights add up to 1")
    add(
        "--dtype", choices=DTYPES, default="auto", help="of the weights; auto: as the first model stores them"
    )
    add("--vision", metavar="MODEL", help="take the vision tokenizer from this model, not from the first")
    add("--force", action="store_true", help="replace the target if it is a model folder of ours")


def run(options: argparse.Namespace) -> int:
    from earl.convert import merge_policies

    parts = [_part(words) for words in options.models]
    meta = merge_policies(
        parts, options.target, dtype=options.dtype, vision=options.vision, force=options.force
    )
    said = " + ".join(f"{weight:g} x {name}" for name, weight in parts)
    print(f"{options.target}: {meta['parameters']:,} parameters in {meta['dtype']}, {said}")
    return 0


def _part(words: str) -> tuple[str, float]:
    name, _, number = words.rpartition("=")
    try:
        return (name, float(number)) if name else _refuse(words)
    except ValueError:
        return _refuse(words)


def _refuse(words: str) -> tuple[str, float]:
    raise ConfigError(f"{words!r} is no model with a weight; expected MODEL=WEIGHT, as runs/a/model=0.5")
