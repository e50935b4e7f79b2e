"""Does a verifier order edits as people do? Its scores held against human ratings.

A table of ratings has a row per rating:

    source       image before the edit: a path, relative to the table     needed
    edited       image after it                                           needed
    instruction  what was asked                                             needed
    rating       the person's score, any scale, more is better              needed
    target       image that was wanted, for the ground verifier
    subset       a part of the table that is reported by itself

Several ratings of one edit are averaged. An edit without a verdict is counted, and in no figure.
"""

from __future__ import annotations

import asyncio
import csv
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from earl.errors import DataError, EarlError, VerifierError
from earl.evaluation.correlation import kendall, spearman
from earl.evaluation.stages import SILENT, judged
from earl.records import SCORES, Attempt, Verdict
from earl.store import JsonLinesStore
from earl.verifiers.protocol import Verifier
from earl.vision import open_image

NEEDED = ("source", "edited", "instruction", "rating")
COLUMNS = (*NEEDED, "target", "subset")


@dataclass(frozen=True, slots=True)
class Rated:
    """One edit with the mean of its ratings. `key` is of its images and words."""

    key: str
    source: Path
    edited: Path
    instruction: str
    target: Path | None
    rating: float
    subset: str


def read_ratings(path: str | Path) -> list[Rated]:
    """The edits of a table, in the order of their first rows.

    Raises:
        DataError: a column is missing or unknown, a cell is empty, a rating is no number, or a
            image is not there; says the line.
    """
    path = Path(path).expanduser()
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            _check_columns(path, reader.fieldnames or ())
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as CSV: {error}") from error
    if not rows:
        raise DataError(f"{path} has no ratings under its head line")
    found: dict[str, list[Rated]] = {}
    for line, row in rows:
        rated = _read_row(path, line, row)
        found.setdefault(rated.key, []).append(rated)
    return [_mean(ratings, path) for ratings in found.values()]


def judge_ratings(
    edits: Sequence[Rated],
    verifier: Verifier,
    cache: Path,
    identity: Mapping[str, Any],
    *,
    window: int = 32,
    on_progress: Callable[[int, int | None], None] | None = None,
) -> dict[str, Verdict]:
    """Verdicts by key; those in the cache by the same verifier are not asked for again.

    Args:
        cache: JSON lines, written as verdicts come; it may hold several verifiers'.
        identity: what fixes the verifier's verdicts.

    Raises:
        VerifierError: the verifier stopped answering; what it said is kept.
        OutputError, DataError: the cache cannot be written or read.
    """
    kept = JsonLinesStore(cache)
    mark = hashlib.blake2b(json.dumps(identity, sort_keys=True).encode(), digest_size=6).hexdigest()
    names = {edit.key: f"{mark}-{edit.key}" for edit in edits}
    kept.drop([name for name in names.values() if name in kept and kept[name]["status"] == "unreachable"])
    waiting = [edit for edit in edits if names[edit.key] not in kept]
    asyncio.run(_ask(waiting, verifier, kept, names, window, len(edits), on_progress))
    return {edit.key: Verdict.from_json(kept[names[edit.key]]) for edit in edits}


def agreement(edits: Sequence[Rated], verdicts: Mapping[str, Verdict], *, seed: int = 0) -> dict[str, Any]:
    """Rank correlation of each score with the ratings, over all edits and in each subset.

    Returns:
        {"all": figures, "subsets": {name: figures}}; figures are {"n", "compared", "left_out"
        {status: count}, score: {"spearman", "spearman_interval", "kendall", "kendall_interval"}}.
        Fewer than 3 edits, or scores that are all equal, have no correlation (None).
    """
    names = sorted({edit.subset for edit in edits if edit.subset})
    return {
        "all": _figures(edits, verdicts, seed),
        "subsets": {name: _figures([e for e in edits if e.subset == name], verdicts, seed) for name in names},
    }


def agreement_text(found: Mapping[str, Any], *, scores: Sequence[str] = SCORES[:3]) -> str:
    """For the terminal: a row a subset and score."""
    rows = [*found["subsets"].items(), ("all", found["all"])]
    wide = max(6, *(len(name) for name, _ in rows))
    head = f"{'subset':<{wide}} {'n':>5}  {'score':<22}{'Spearman':<22}{'Kendall':<22}"
    lines = [head.rstrip(), "-" * len(head)]
    for name, figures in rows:
        for place, score in enumerate(scores):
            first = f"{name:<{wide}} {figures['compared']:>5}" if not place else " " * (wide + 6)
            cells = "".join(f"{_cell(figures[score], kind):<22}" for kind in ("spearman", "kendall"))
            lines.append(f"{first}  {score.replace('_', ' '):<22}{cells}".rstrip())
    if any(line.endswith(" -") for line in lines):
        lines.append("-: fewer than 3 edits with a verdict, or all their scores or ratings are equal")
    lines.append("-1 to 1; brackets: 95% bootstrap intervals over edits; ties share their mean rank")
    left_out = found["all"]["left_out"]
    lines += [
        f"{count} edits have no verdict ({status}); they are left out" for status, count in left_out.items()
    ]
    return "\n".join(lines)


def _figures(edits: Sequence[Rated], verdicts: Mapping[str, Verdict], seed: int) -> dict[str, Any]:
    judged_edits = [edit for edit in edits if verdicts[edit.key].ok]
    left_out: dict[str, int] = {}
    for edit in edits:
        status = verdicts[edit.key].status
        if status != "ok":
            left_out[status] = left_out.get(status, 0) + 1
    figures: dict[str, Any] = {"n": len(edits), "compared": len(judged_edits), "left_out": left_out}
    ratings = [edit.rating for edit in judged_edits]
    for name in SCORES:
        values = [float(getattr(verdicts[edit.key], name)) for edit in judged_edits]
        figures[name] = {}
        for kind, measure in (("spearman", spearman), ("kendall", kendall)):
            result = measure(values, ratings, seed=seed)
            figures[name][kind] = None if result.value is None else round(result.value, 4)
            bounds = result.interval
            figures[name][f"{kind}_interval"] = bounds and [round(bound, 4) for bound in bounds]
    return figures


async def _ask(
    waiting: Sequence[Rated],
    verifier: Verifier,
    kept: JsonLinesStore,
    names: Mapping[str, str],
    window: int,
    total: int,
    on_progress: Callable[[int, int | None], None] | None,
) -> None:
    edits = iter(waiting)
    done, silent = total - len(waiting), 0

    async def work() -> None:
        nonlocal done, silent
        for edit in edits:
            target = open_image(edit.target) if edit.target else None
            attempt = Attempt(
                open_image(edit.source), edit.instruction, open_image(edit.edited), target, key=edit.key
            )
            verdict = await judged(verifier, attempt)
            kept.append({"key": names[edit.key], **verdict.to_json()})
            done, silent = done + 1, silent + 1 if verdict.status == "unreachable" else 0
            if on_progress:
                on_progress(done, total)
            if silent >= SILENT:
                raise VerifierError(
                    f"the verifier stopped answering ({verdict.reason}); its verdicts are in {kept.path}, "
                    "run the same command again to go on"
                )

    workers = [asyncio.create_task(work()) for _ in range(min(window, len(waiting)))]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    missing = [name for name in NEEDED if name not in columns]
    if missing:
        raise DataError(
            f"{path} has no column {', '.join(missing)}; it has {', '.join(columns) or 'none'}, and needs "
            f"{', '.join(NEEDED)} (target and subset may be there too)"
        )
    unknown = [name for name in columns if name not in COLUMNS]
    if unknown:
        raise DataError(f"{path} has the column {unknown[0]!r}; columns are {', '.join(COLUMNS)}")


def _read_row(path: Path, line: int, row: Mapping[str | None, Any]) -> Rated:
    where = f"{path}, line {line}"
    if None in row:
        raise DataError(f"{where} has more cells than the head line; put quotes around commas")
    cells = {str(name): (value or "").strip() for name, value in row.items()}
    for name in NEEDED:
        if not cells[name]:
            raise DataError(f"{where}: the {name} is empty")
    try:
        rating = float(cells["rating"])
    except ValueError as error:
        raise DataError(f"{where}: the rating is {cells['rating']!r}, expected a number") from error
    if not math.isfinite(rating):
        raise DataError(f"{where}: the rating is {cells['rating']!r}, expected a finite number")
    files = {name: _file(path, cells[name], where) for name in ("source", "edited")}
    target = _file(path, cells["target"], where) if cells.get("target") else None
    digest = hashlib.blake2b(cells["instruction"].encode(), digest_size=12)
    for file in (files["source"], files["edited"], target):
        digest.update(b"\0" + (file.read_bytes() if file else b""))
    return Rated(
        digest.hexdigest(),
        files["source"],
        files["edited"],
        cells["instruction"],
        target,
        rating,
        cells.get("subset", ""),
    )


def _file(table: Path, name: str, where: str) -> Path:
    path = table.parent / Path(name).expanduser()
    if not path.is_file():
        raise DataError(f"{where}: there is no image at {path}")
    try:
        open_image(path)
    except EarlError as error:
        raise DataError(f"{where}: {error}") from error
    return path


def _mean(ratings: Sequence[Rated], path: Path) -> Rated:
    first = ratings[0]
    subsets = sorted({rated.subset for rated in ratings})
    if len(subsets) > 1:
        raise DataError(
            f"{path}: the edit {first.edited.name} is in the subsets {' and '.join(subsets)}; name one"
        )
    rating = sum(rated.rating for rated in ratings) / len(ratings)
    return Rated(first.key, first.source, first.edited, first.instruction, first.target, rating, first.subset)


def _cell(figures: Mapping[str, Any], kind: str) -> str:
    if figures[kind] is None:
        return "-"
    low, high = figures[f"{kind}_interval"]
    return f"{figures[kind]:.2f} [{low:.2f}, {high:.2f}]"
