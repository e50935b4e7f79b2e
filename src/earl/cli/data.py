"""`earl data …`: the sources there are, what shards hold, whether two sets overlap, mixture weights."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earl.cli import options as shared

if TYPE_CHECKING:
    from earl.data.overlap import Match
    from earl.data.shards import EditShards
    from earl.data.stats import Stats

FOUND = 1
"""Exit code of `check-overlap` where images are in both sets."""


def add_options_sources(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the list as JSON")


def run_sources(options: argparse.Namespace) -> int:
    import json

    from earl.data.sources import SCHEMAS as SOURCES

    if options.json:
        rows = {
            name: {
                "hub": schema.hub,
                "benchmark": schema.benchmark,
                "group": schema.group,
                "licence": schema.licence,
                "columns": {field: list(columns) for field, columns in schema.columns.items()},
            }
            for name, schema in SOURCES.items()
        }
        print(json.dumps(rows, indent=2))
        return 0
    width = max(map(len, SOURCES))
    for name, schema in SOURCES.items():
        kind = "benchmark" if schema.benchmark else f"training, {schema.group}"
        print(f"{name:<{width}}  {kind:<18}  {schema.hub:<36}  {schema.licence}")
    return 0


def add_options_stats(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("folder", metavar="DIR", help="folder of tokenised shards")
    add("--tokenizer", metavar="MODEL", help="count lengths in this model's tokens, not in characters")
    add("--json", metavar="FILE", help="write the numbers to a file")
    add("--sheet", metavar="FILE", help="write edits as one image; needs --vision")
    add("--vision", metavar="MODEL", help="vision tokenizer that decodes the codes for --sheet")
    add("--num", type=shared.integer(1, 400), default=16, help="edits on the sheet")
    add("--seed", type=shared.seed, default=0, help="which edits are on the sheet")
    add("--force", action="store_true", help="overwrite files that exist")


def run_stats(options: argparse.Namespace) -> int:
    from earl.cli.outputs import claim, claim_images
    from earl.data.shards import load_shards
    from earl.data.stats import shard_stats
    from earl.errors import ConfigError
    from earl.files import write_json

    if options.sheet and not options.vision:
        raise ConfigError("--sheet needs --vision: the vision tokenizer that made the codes")
    report = claim([options.json], force=options.force)[0] if options.json else None
    sheet = claim_images(options.sheet, 1, force=options.force)[0] if options.sheet else None
    tokenizer = None
    if options.tokenizer:
        from earl.models.resolve import resolve_model
        from earl.sequence import TextTokenizer

        tokenizer = TextTokenizer.from_folder(resolve_model(options.tokenizer).need("tokenizer"))
    shards = load_shards(options.folder)
    stats = shard_stats(shards, tokenizer)
    _print(stats)
    if report:
        write_json(report, stats.to_dict())
    if sheet:
        _write_sheet(shards, options, sheet)
    return 0


def _print(stats: Stats) -> None:
    print(
        f"{stats.edits} edits of {stats.sources} source images in {stats.notes['folder']}, "
        f"{stats.without_target} without target, {stats.doubled} with an id that came before, "
        f"{stats.with_boxes} with boxes"
    )
    changed = "no targets" if stats.changed is None else f"{stats.changed:.1%} of cells change"
    print(f"{stats.codes_used:.1%} of the codebook used, {changed}")
    for title in ("splits", "groups", "families", "licences", "grids"):
        counts: dict[str, int] = getattr(stats, title)
        shown = list(counts.items())[:20]
        more = f" and {len(counts) - 20} more" if len(counts) > 20 else ""
        print(f"{title:<9} " + ", ".join(f"{name or '(none)'} {count}" for name, count in shown) + more)
    for title in ("instruction", "reasoning", "sequence"):
        spread = getattr(stats, title)
        if spread:
            print(
                f"{title:<12} {stats.unit}: {spread.least} to {spread.most}, median {spread.median:g}, "
                f"95% within {spread.p95:g} ({spread.count})"
            )


def _write_sheet(shards: EditShards, options: argparse.Namespace, path: Path) -> None:
    import numpy as np

    from earl.cli.outputs import write_image
    from earl.cli.sheets import contact_sheet
    from earl.errors import DataError
    from earl.vision import load_vision_tokenizer

    vision = load_vision_tokenizer(options.vision)
    if vision.fingerprint() != shards.fingerprint:
        raise DataError(
            f"{shards.name} has codes of tokenizer {shards.fingerprint}, {options.vision} is "
            f"{vision.fingerprint()}; give the one that prepared it"
        )
    places = np.random.default_rng(options.seed).permutation(len(shards))[: options.num]
    rows = []
    for place in sorted(places.tolist()):
        edit = shards[place]
        codes = [edit.source_codes, *([edit.target_codes] if edit.has_target else [])]
        rows.append((f"{edit.family}: {edit.instruction}", vision.decode(codes)))
    write_image(contact_sheet(rows), path)
    print(f"contact sheet in {path}")


def add_options_overlap(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("train", metavar="TRAIN", help="prepared shards, or a folder of image files")
    add("evaluation", metavar="EVAL", help="prepared shards of a benchmark, or a folder of image files")
    add(
        "--bits",
        type=shared.integer(0, 64),
        default=4,
        help="of 64 that may differ in images that look alike",
    )
    add("-o", "--out", metavar="FILE", help="write the matches as JSON")
    add("--force", action="store_true", help="overwrite a file that exists")


def run_overlap(options: argparse.Namespace) -> int:
    from earl.cli.outputs import claim
    from earl.data.overlap import find_overlap, fingerprints
    from earl.files import write_json

    out = claim([options.out], force=options.force)[0] if options.out else None
    train, evaluation = fingerprints(options.train), fingerprints(options.evaluation)
    matches = find_overlap(train, evaluation, bits=options.bits)
    exact = sum(match.kind == "exact" for match in matches)
    print(
        f"{len(matches)} of {len(evaluation)} evaluation images are among {len(train)} training pictures: "
        f"{exact} with the same pixels, {len(matches) - exact} that look alike (within {options.bits} bits)"
    )
    for match in matches[:20]:
        print(f"  {_line(match)}")
    if len(matches) > 20:
        print(f"  and {len(matches) - 20} more; -o FILE writes all of them")
    if out:
        write_json(out, [_entry(match) for match in matches])
    return FOUND if matches else 0


def _line(match: Match) -> str:
    how = "same pixels" if match.kind == "exact" else f"{match.distance} bits apart"
    return f"{match.evaluation.id} ({match.evaluation.side}) is {match.train.id} ({match.train.side}), {how}"


def _entry(match: Match) -> dict[str, Any]:
    return {
        "evaluation": {"id": match.evaluation.id, "side": match.evaluation.side},
        "train": {"id": match.train.id, "side": match.train.side},
        "kind": match.kind,
        "distance": match.distance,
    }


def add_options_weights(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("folders", nargs="+", metavar="DIR", help="folders of tokenised shards")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--temperature", type=shared.number(0, above=True), help="draw by size^(1/temperature)")
    how.add_argument(
        "--cap", type=shared.integer(1), help="upsample to the largest, but to at most this many"
    )


def run_weights(options: argparse.Namespace) -> int:
    from earl.data.shards import load_shards
    from earl.data.weights import temperature_weights, upsample_to_largest
    from earl.errors import ConfigError

    paths = {Path(folder).resolve().name: folder for folder in options.folders}
    if len(paths) < len(options.folders):
        raise ConfigError("two of the folders have the same name, which is a source's name in a recipe")
    sizes = {name: len(load_shards(folder)) for name, folder in paths.items()}
    if options.temperature is not None:
        weights = temperature_weights(sizes, options.temperature)
    else:
        weights = upsample_to_largest(sizes, cap=options.cap)
    for name, weight in weights.items():
        print(f'[data.sources."{name}"]  # {sizes[name]} edits, {sizes[name] * weight:.0f} an epoch')
        print(f'path = "{paths[name]}"\nweight = {weight:.6g}\n')
    return 0
