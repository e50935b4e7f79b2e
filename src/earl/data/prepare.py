"""A source to tokenised shards: opened, resized as pairs, encoded in batches, written whole.

Each shard holds the rows from the end of the one before; it appears by one rename, together with
the list of what was refused among them. So a run that is killed at any moment goes on at the row
after its last shard, and no sample is lost or doubled. Memory holds one shard's codes and one
batch of images, however large the source is.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from earl import __version__
from earl.config.data import PreparationSettings
from earl.data.card import CARD, README, drop_card, write_card
from earl.data.shards import MANIFEST, PART, Edit, shard_path, start_folder, write_shard
from earl.data.sources.sample import Read
from earl.data.tokenise import Encoder, Made, make_edits
from earl.errors import DataError
from earl.files import append_lines, clear_partial, json_lines, read_lines, read_object, read_text, write_text
from earl.store import only_one

REJECTED = "rejected.jsonl"
_SURE = 20  # rows from which a share of refused ones is judged while reading goes on


class Source(Protocol):
    """A source to prepare: an `OpenedSource`, or a wrapper of one (`earl.pipeline.targets`)."""

    split: str

    @property
    def name(self) -> str: ...
    def describe(self) -> dict[str, Any]: ...
    def origin(self) -> dict[str, Any]: ...
    def read(self, start: int = 0) -> Iterator[Read]: ...


Stage = Callable[[Iterator[list[Read]], PreparationSettings, str], Iterator[Made]]
"""Blocks of rows, settings and split to edits, in the order of the blocks, wherever the work is done."""


@dataclass
class Totals:
    """Edits written, samples refused, and shards of a folder so far."""

    edits: int = 0
    rejected: int = 0
    shards: int = 0

    def add(self, part: Mapping[str, Any]) -> None:
        """Count one more shard, by its own record (`PART`)."""
        self.edits += part["edits"]
        self.rejected += part["rejected"]
        self.shards += 1

    @property
    def looked(self) -> int:
        """Samples that were either written or refused."""
        return self.edits + self.rejected


@dataclass
class Counts(Totals):
    """Totals of a preparation. `rows` is the number of the next row, `reads` how many rows were looked at
    (not those of other sources in the same files)."""

    rows: int = 0
    reads: int = 0

    def add(self, part: Mapping[str, Any]) -> None:
        self.rows = part["end"]
        self.reads += part["reads"]
        super().add(part)

    @property
    def share(self) -> float:
        """Refused samples, as a share of all rows: a side of a holdout is too small to judge by."""
        return self.rejected / max(1, self.reads)


def prepare_source(
    source: Source,
    folder: str | Path,
    encoder: Encoder,
    settings: PreparationSettings | None = None,
    *,
    stage: Stage | None = None,
    on_progress: Callable[[Counts], None] | None = None,
) -> Counts:
    """Write a source's edits as shards into a folder, or continue where that stopped.

    Refused samples are in `rejected.jsonl` (row, id, reason); `card.json` and `README.md` say what
    the folder holds.

    Args:
        encoder: makes codes; with a `stage` it only says which tokenizer that stage has.
        stage: where rows become edits; None: here, in this process.

    Raises:
        DataError: the folder holds something else, another process writes to it, the source cannot be
            read on, no edit is left, or more than the allowed share was refused.
        OutputError: the disk is full; what was written is intact.
    """
    folder = Path(folder)
    settings = (settings or PreparationSettings()).replace(rule=encoder.rule)
    split = source.split
    for name in (CARD, README):
        if (folder / name).exists() and not (folder / MANIFEST).exists():
            raise DataError(f"{folder} has a {name} and no shards; name another folder, or that file is lost")
    start_folder(folder, _made_with(source, encoder, settings))
    with only_one(folder) as check:
        counts = _continue(folder)
        if on_progress:
            on_progress(counts)
        reads: Iterator[Read] = source.read(counts.rows)
        if settings.limit:
            reads = islice(reads, max(0, settings.limit - counts.reads))
        work = stage or _here(encoder)
        # A generator, which `closing` can close.
        made = (one for one in work(_blocks(reads, settings), settings, split))
        with closing(made):
            for _ in _shards(made, folder, source, settings, counts, check):
                if on_progress:
                    on_progress(counts)
        _check_share(counts, folder, settings)
        if not counts.edits:  # nothing is lost, and the folder can be begun with other settings
            for shard in sorted(folder.glob("shard-*"), reverse=True):
                shutil.rmtree(shard)
            (folder / MANIFEST).unlink()
            raise DataError(_why_none(source, folder, counts))
        write_card(folder, **_card(source, settings, counts))
    return counts


def _why_none(source: Source, folder: Path, counts: Counts) -> str:
    if counts.rejected:
        return f"{source.name} gave no edit at all; {_reasons(folder)}"
    where = f" in the split {source.split!r}" if source.split else ""
    return (
        f"{source.name} has no edit{where}; of few edits a small --holdout or --holdout-test takes none: "
        "give a larger share, or name the splits in a column"
    )


def _here(encoder: Encoder) -> Stage:
    """The stage in this process."""
    return lambda blocks, settings, split: (make_edits(block, encoder, settings, split) for block in blocks)


def _blocks(reads: Iterator[Read], settings: PreparationSettings) -> Iterator[list[Read]]:
    """Rows in batches, none of which reaches over the end of a shard."""
    taken = 0
    while block := list(islice(reads, min(settings.batch, settings.shard_rows - taken))):
        taken = (taken + len(block)) % settings.shard_rows
        yield block


def _shards(
    stream: Iterable[Made],
    folder: Path,
    source: Source,
    settings: PreparationSettings,
    counts: Counts,
    check: Callable[[], None],
) -> Iterator[None]:
    """Write what was made as shards, and yield after each."""
    edits: list[Edit] = []
    refused: list[dict[str, Any]] = []
    taken, end = 0, counts.rows

    def write() -> None:
        nonlocal edits, refused, taken
        numbers = {
            "first": counts.rows,
            "end": end,
            "reads": taken,
            "edits": len(edits),
            "rejected": len(refused),
        }
        attached = {PART: json.dumps({**numbers, "made_by": __version__}), REJECTED: json_lines(refused)}
        check()
        drop_card(folder)
        write_shard(folder, counts.shards, edits, split=source.split, attached=attached)
        append_lines(folder / REJECTED, refused)
        counts.add(numbers)
        edits, refused, taken = [], [], 0

    for made in stream:
        edits += made.edits
        refused += made.refused
        taken, end = taken + made.reads, made.end
        so_far = Counts(rejected=counts.rejected + len(refused), reads=counts.reads + taken)
        if so_far.reads >= _SURE and so_far.share > settings.max_rejected:
            append_lines(folder / REJECTED, refused)
            _check_share(so_far, folder, settings)
        if taken >= settings.shard_rows:
            write()
            yield
    if taken:
        write()
        yield


def _made_with(source: Source, encoder: Encoder, settings: PreparationSettings) -> dict[str, Any]:
    """The settings that decide the shards' content; a folder is not continued with others."""
    return {
        **source.describe(),
        "fingerprint": encoder.fingerprint(),
        "codebook_size": encoder.codebook_size,
        "area": settings.area,
        **({"size_rule": settings.rule} if settings.rule != "snap" else {}),  # older folders: "snap"
        "tolerance": settings.tolerance,
        **({"margin": settings.margin} if settings.margin != 1 else {}),  # older folders: 1
        "shard_rows": settings.shard_rows,
        "holdout": settings.holdout,
        **({"holdout_test": settings.holdout_test} if settings.holdout_test else {}),
    }


def _card(source: Source, settings: PreparationSettings, counts: Counts) -> dict[str, Any]:
    """The card's fields that the shards do not hold."""
    left = counts.reads - counts.looked
    shares = {"validation": settings.holdout, "test": settings.holdout_test}
    return {
        "source": source.origin(),
        "rows": {
            "read": counts.reads,
            "kept": counts.edits,
            "refused": counts.rejected,
            "left_to_other_splits": left,
        },
        "holdout": {name: share for name, share in shares.items() if share},
    }


def _continue(folder: Path) -> Counts:
    """Counts of the shards that are there; leftovers of a killed run are cleared away."""
    clear_partial(folder)
    counts = Counts()
    lines = []
    while (shard := shard_path(folder, counts.shards)).is_dir():
        try:
            counts.add(read_object(shard / PART))
        except (KeyError, TypeError) as error:
            raise DataError(
                f"{shard / PART} does not say which rows the shard holds; remove {shard}"
            ) from error
        lines.append(read_text(shard / REJECTED))
    write_text(folder / REJECTED, "".join(lines))
    return counts


def _check_share(counts: Counts, folder: Path, settings: PreparationSettings) -> None:
    if counts.share > settings.max_rejected:
        raise DataError(
            f"{counts.rejected} of {counts.reads} rows were refused "
            f"({counts.share:.0%}, limit {settings.max_rejected:.0%}); {_reasons(folder)}. Mend them, or "
            "raise --max-rejected and start again"
        )


def _reasons(folder: Path) -> str:
    _, first = next(read_lines(folder / REJECTED))
    return f"the reasons are in {folder / REJECTED}, the first is: {first['reason']}"
