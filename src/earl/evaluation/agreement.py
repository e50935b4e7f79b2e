"""Agreement of a verifier with people: rank correlation of its scores with human ratings.

A table of ratings (CSV) has a row per rating:

    source       image before the edit: a path, relative to the table     needed
    edited       image after it                                           needed
    instruction  what was asked                                             needed
    rating       the person's score, any scale, more is better              needed
    target       image that was wanted, for the ground verifier
    subset       a part of the table that is reported by itself

Several ratings of one edit are averaged. An edit without a verdict is counted, and in no figure.

A file of votes (`earl evaluate vote`) is read as well: the edit that is preferred is rated 1, the other 0,
and both 0.5 in a tie.

In JSON, a list of objects or an object of them, the names of AURORA-Bench's ratings are taken too (`NAMES`),
and what is under other names is passed over.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from earl.errors import DataError, EarlError
from earl.evaluation.correlation import RESAMPLES, Kind, correlate
from earl.evaluation.intervals import estimate
from earl.evaluation.stages import judge_all
from earl.evaluation.voting import WORTH, Vote, read_votes
from earl.files import check_writable, read_json
from earl.records import SCORES, Attempt, Estimate, Verdict
from earl.store import RecordFile
from earl.tables import Column, Row, Table, check_heads
from earl.verifiers.protocol import Verifier
from earl.vision.images import open_image

KINDS: tuple[Kind, ...] = get_args(Kind)
NEEDED = ("source", "edited", "instruction", "rating")
COLUMNS = (*NEEDED, "target", "subset")
NAMES = {
    "source": ("source", "input"),
    "edited": ("edited", "gen", "output"),
    "instruction": ("instruction", "prompt"),
    "rating": ("rating", "score"),
    "target": ("target",),
    "subset": ("subset", "task"),
}
"""Of a rating in JSON: what each column may be called there."""


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


@dataclass(frozen=True, slots=True)
class Correlations:
    """Correlations of a set of edits for each score, with the numbers of edits by status.

    None where there is no correlation: fewer than 3 edits, or scores or ratings that are all equal.
    """

    n: int
    compared: int
    left_out: Mapping[str, int]
    spearman: Mapping[str, Estimate | None]
    kendall: Mapping[str, Estimate | None]


@dataclass(frozen=True, slots=True)
class Agreement:
    """Correlations over all edits, and by subset."""

    all: Correlations
    subsets: Mapping[str, Correlations]


def read_ratings(path: str | Path) -> list[Rated]:
    """The edits of a table, or of a file of votes (.jsonl), in the order of their first rows.

    Raises:
        DataError: a column is missing or unknown, a cell is empty, a rating is no number, or a
            image is not there; says the line.
    """
    path = Path(path).expanduser()
    if path.suffix == ".jsonl":
        return _average([rated for vote in read_votes(path) for rated in _rated(vote)], path)
    if path.suffix.lower() == ".json":
        return _average([_read_row(path, place, row) for place, row in _json_rows(path)], path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            _check_columns(path, reader.fieldnames or ())
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as CSV: {error}") from error
    if not rows:
        raise DataError(f"{path} has no ratings under its head line")
    return _average([_read_row(path, f"line {line}", row) for line, row in rows], path)


def votes_agreement(path: Path, verdicts: Mapping[str, Verdict]) -> Estimate | None:
    """Share of the pairs where people prefer one edit, in which the verifier's overall score does so too.

    A pair counts once, whichever of its edits is A. Equal scores count half. None where no pair is decided,
    or none has two scores.

    Args:
        path: a file of votes.
        verdicts: by key, of `read_ratings` of the file.
    """
    people_of: dict[tuple[str, str], float] = {}
    for vote in read_votes(path):
        first, second = sorted(_rated(vote), key=lambda edit: edit.key)
        pair = first.key, second.key
        people_of[pair] = people_of.get(pair, 0.0) + first.rating - second.rating
    found = []
    for pair, people in people_of.items():
        scores = [verdicts[key].overall for key in pair]
        if people and scores[0] is not None and scores[1] is not None:
            ours = scores[0] - scores[1]
            found.append(0.5 if ours == 0 else float((ours > 0) == (people > 0)))
    return estimate(found) if found else None


def _json_rows(path: Path) -> list[tuple[str, dict[str | None, Any]]]:
    """The entries of a JSON file under our columns' names."""
    content = read_json(path)
    entries = [*content.items()] if isinstance(content, dict) else [*enumerate(content)]
    if not entries or not all(isinstance(entry, dict) for _, entry in entries):
        raise DataError(f"{path} holds no list of ratings; expected objects with {', '.join(NEEDED)}")
    rows: list[tuple[str, dict[str | None, Any]]] = []
    for place, entry in entries:
        row: dict[str | None, Any] = {
            column: str(next((entry[name] for name in names if entry.get(name) is not None), ""))
            for column, names in NAMES.items()
        }
        rows.append((f"entry {place}", row))
    return rows


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
        cache: JSON Lines, written as verdicts come; it may hold several verifiers'.
        identity: what fixes the verifier's verdicts.

    Raises:
        VerifierError: the verifier stopped answering; what it said is kept.
        OutputError, DataError: the cache cannot be written or read.
    """
    check_writable(cache)
    kept: RecordFile[Verdict] = RecordFile(cache, Verdict.from_json, Verdict.to_json)
    mark = hashlib.blake2b(json.dumps(identity, sort_keys=True).encode(), digest_size=6).hexdigest()
    names = {edit.key: f"{mark}-{edit.key}" for edit in edits}
    kept.drop([key for key, verdict in kept.items() if verdict.status == "unreachable"])
    waiting = [edit for edit in edits if names[edit.key] not in kept]
    done = len(edits) - len(waiting)

    def keep(attempt: Attempt, verdict: Verdict) -> None:
        nonlocal done
        kept.append({attempt.key: verdict})
        done += 1
        if on_progress:
            on_progress(done, len(edits))

    judge_all(verifier, (_attempt(e, names[e.key]) for e in waiting), keep, window=window, kept=cache)
    return {edit.key: kept[names[edit.key]] for edit in edits}


def agreement(
    edits: Sequence[Rated], verdicts: Mapping[str, Verdict], *, resamples: int = RESAMPLES
) -> Agreement:
    """Rank correlation of each score with the ratings, over all edits and in each subset.

    Raises:
        MissingExtraError: scipy is not installed.
    """
    names = sorted({edit.subset for edit in edits if edit.subset})
    subsets = {name: [edit for edit in edits if edit.subset == name] for name in names}
    return Agreement(
        _correlations(edits, verdicts, resamples),
        {name: _correlations(members, verdicts, resamples) for name, members in subsets.items()},
    )


def agreement_table(found: Agreement, *, scores: Sequence[str] = SCORES[:3]) -> Table:
    """A row a subset and score."""
    columns = [Column("subset", left=True), Column("n"), Column("score", left=True)]
    columns += [Column("Spearman", interval=True), Column("Kendall", interval=True)]
    rows = [
        Row([name, part.compared, score.replace("_", " "), part.spearman[score], part.kendall[score]], name)
        for name, part in [*found.subsets.items(), ("all", found.all)]
        for score in scores
    ]
    notes = ["-1 to 1; brackets: 95% bootstrap intervals over edits; ties share their mean rank"]
    if any(None in row.cells for row in rows):
        notes.append("-: fewer than 3 edits with a verdict, or all their scores or ratings are equal")
    for status, count in found.all.left_out.items():
        notes.append(f"{count} edits have no verdict ({status}); they are left out")
    return Table("", columns, rows, notes)


def _correlations(edits: Sequence[Rated], verdicts: Mapping[str, Verdict], resamples: int) -> Correlations:
    judged = [edit for edit in edits if verdicts[edit.key].ok]
    statuses = Counter(verdicts[edit.key].status for edit in edits)
    ratings = [edit.rating for edit in judged]
    values = {name: [verdicts[edit.key].score(name) or 0.0 for edit in judged] for name in SCORES}
    of_kind = {
        kind: {name: correlate(kind, v, ratings, resamples=resamples) for name, v in values.items()}
        for kind in KINDS
    }
    left_out = {str(status): count for status, count in statuses.items() if status != "ok"}
    return Correlations(len(edits), len(judged), left_out, of_kind["spearman"], of_kind["kendall"])


def _attempt(edit: Rated, key: str) -> Attempt:
    target = open_image(edit.target) if edit.target else None
    return Attempt(open_image(edit.source), edit.instruction, open_image(edit.edited), target, key=key)


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    missing = [name for name in NEEDED if name not in columns]
    if missing:
        raise DataError(
            f"{path} has no column {', '.join(missing)}; it has {', '.join(columns) or 'none'}, and needs "
            f"{', '.join(NEEDED)} (target and subset may be there too)"
        )
    check_heads(path, columns)
    unknown = [name for name in columns if name not in COLUMNS]
    if unknown:
        raise DataError(f"{path} has the column {unknown[0]!r}; columns are {', '.join(COLUMNS)}")


def _read_row(path: Path, place: str, row: Mapping[str | None, Any]) -> Rated:
    where = f"{path}, {place}"
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
    return _edit(
        files["source"], files["edited"], cells["instruction"], target, rating, cells.get("subset", "")
    )


def _edit(
    source: Path, edited: Path, instruction: str, target: Path | None, rating: float, subset: str
) -> Rated:
    digest = hashlib.blake2b(instruction.encode(), digest_size=12)
    for file in (source, edited, target):
        digest.update(b"\0" + (file.read_bytes() if file else b""))
    return Rated(digest.hexdigest(), source, edited, instruction, target, rating, subset)


def _rated(vote: Vote) -> tuple[Rated, Rated]:
    """The edits of A and of B. Raises DataError: an image is gone."""
    where = f"the vote on {vote.pair.key}"
    source, a, b = (_file(Path(), str(path), where) for path in (vote.pair.source, vote.pair.a, vote.pair.b))
    worth = WORTH[vote.choice]
    return (
        _edit(source, a, vote.pair.instruction, None, worth, ""),
        _edit(source, b, vote.pair.instruction, None, 1 - worth, ""),
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


def _average(ratings: Sequence[Rated], path: Path) -> list[Rated]:
    found: dict[str, list[Rated]] = {}
    for rated in ratings:
        found.setdefault(rated.key, []).append(rated)
    return [_mean(several, path) for several in found.values()]


def _mean(ratings: Sequence[Rated], path: Path) -> Rated:
    first = ratings[0]
    subsets = sorted({rated.subset for rated in ratings})
    if len(subsets) > 1:
        raise DataError(
            f"{path}: the edit {first.edited.name} is in the subsets {' and '.join(subsets)}; name one"
        )
    rating = sum(rated.rating for rated in ratings) / len(ratings)
    return Rated(first.key, first.source, first.edited, first.instruction, first.target, rating, first.subset)
