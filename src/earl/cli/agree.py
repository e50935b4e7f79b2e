"""`earl verifier agree RATINGS.csv`: does a verifier order edits as people do?"""

from __future__ import annotations

import argparse

from earl.cli.judging import add_verifier, verifier_of
from earl.progress import Progress


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "ratings",
        metavar="RATINGS.csv",
        help="columns source, edited, instruction, rating; perhaps target and subset",
    )
    add("--cache", metavar="FILE", help="verdicts are kept there (default: RATINGS.verdicts.jsonl)")
    add("--scores", nargs="+", metavar="SCORE", help="rows shown (default: overall and its two halves)")
    add("--json", metavar="FILE", help="also write all figures there")
    add("--force", action="store_true", help="overwrite FILE if it exists")
    add_verifier(parser)


def run(options: argparse.Namespace) -> int:
    from pathlib import Path

    from earl.cli.outputs import claim
    from earl.errors import ConfigError
    from earl.evaluation.agreement import agreement, agreement_table, judge_ratings, read_ratings
    from earl.evaluation.records import to_json
    from earl.evaluation.tables import judge_name
    from earl.files import write_json
    from earl.records import SCORES

    unknown = sorted(set(options.scores or ()) - set(SCORES))
    if unknown:
        raise ConfigError(f"there is no score {unknown[0]!r}; there are {', '.join(SCORES)}")
    file = claim([options.json], force=options.force)[0] if options.json else None
    edits = read_ratings(options.ratings)
    cache = Path(options.cache or Path(options.ratings).with_suffix(".verdicts.jsonl")).expanduser()
    verifier, identity, window = verifier_of(options)
    with Progress() as show:
        verdicts = judge_ratings(
            edits,
            verifier,
            cache,
            identity,
            window=window,
            on_progress=show.task("verdicts"),
        )
    found = agreement(edits, verdicts)
    if file:
        write_json(file, to_json(found) | {"verifier": identity})
    print(f"{judge_name(identity)} and the ratings of {len(edits)} edits in {options.ratings}")
    print(agreement_table(found, scores=options.scores or SCORES[:3]).text())
    return 0
