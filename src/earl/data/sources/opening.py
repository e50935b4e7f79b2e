"""Opened sources: rows read as samples by a schema, from any row on."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from earl.config.data import SourceSettings
from earl.data.sources.cells import PROBLEM, Row
from earl.data.sources.contents import contents_of
from earl.data.sources.finding import open_path
from earl.data.sources.own import own_schema
from earl.data.sources.rows import CalledRows, HubRows, RandomRows, Rows
from earl.data.sources.sample import Read, Sample
from earl.data.sources.schema import Schema
from earl.data.sources.splits import ALL, pick_split, plain_split
from earl.errors import ConfigError, DataError
from earl.registry import SOURCES, is_path

HUB = "hub:"
"""Prefix by which own data on the Hub are named."""
_LOOK = 20  # rows whose columns are looked at before reading


@dataclass(frozen=True, slots=True)
class CaptionPair:
    """A sample's captions before and after the edit, and its instruction; empty where there is none."""

    id: str
    source_caption: str
    target_caption: str
    instruction: str = ""


class OpenedSource:
    """Samples of rows under a schema.

    Args:
        schema: what the columns are.
        rows: the rows.
        folder: where relative paths begin; None where images are inside the rows.
        settings: `split`, `draw` and `seed`: drawn are the rows that `Dataset.shuffle(seed)` puts first.
        instructions: by sample id, for rows that have none (VisMin); an empty mapping where they will
            be given later (`give`).

    Raises:
        DataError: the rows lack a column that the schema needs, have no row of the split, or cannot be
            drawn from.
    """

    def __init__(
        self,
        schema: Schema,
        rows: Rows,
        folder: Path | None,
        *,
        settings: SourceSettings | None = None,
        instructions: Mapping[str, str] | None = None,
    ) -> None:
        settings = settings or SourceSettings()
        self.rows, self.folder = rows, folder
        self._instructions = instructions or {}
        self._awaits = instructions is not None
        self._written_by = ""
        self._problems: Mapping[str, str] = {}
        columns = self._first_columns()
        schema = schema.spelled(columns) if schema.own else schema
        self._pairs = schema.pairs if schema.pairs and schema.column("source", columns) is None else None
        self._check_columns(schema, columns)
        self._check_mapped(settings.columns, schema, columns)
        self.split, of_split = self._pick(schema, columns, settings.split)
        self.schema = schema if self.split == ALL else replace(schema, split=self.split)
        self._origins = self._index() if self._pairs else {}
        self.draw, self.seed = settings.draw or 0, settings.seed
        self._drawn = self._draw(of_split) if self.draw else None

    @property
    def name(self) -> str:
        return self.schema.name

    @property
    def instructions_digest(self) -> str | None:
        """Digest of the instructions given from outside, or the model that wrote them; None without any."""
        if self._written_by:
            return self._written_by
        if not self._instructions:
            return None
        lines = "\n".join(f"{name}\t{text}" for name, text in sorted(self._instructions.items()))
        return hashlib.blake2b(lines.encode(), digest_size=8).hexdigest()

    def give(
        self, instructions: Mapping[str, str], *, origin: str, problems: Mapping[str, str] | None = None
    ) -> None:
        """Instructions for rows that have none, by sample id; `problems` says why some stay without."""
        self._instructions = {**self._instructions, **instructions}
        self._written_by, self._problems = origin, problems or {}

    def hold_back(self, split: str) -> None:
        """Label the samples read with the held-out split that they belong to (`--holdout`)."""
        self.split, self.schema = split, replace(self.schema, split=split)

    def describe(self) -> dict[str, Any]:
        return {
            "origin": self.schema.name,
            "split": self.split,
            "columns": {name: list(columns) for name, columns in self.schema.columns.items()},
            "draw": self.draw,
            "seed": self.seed if self.draw else None,
            "instructions": self.instructions_digest,
            "contents": self.contents(),
        }

    def contents(self) -> str:
        """Checksum of the data (`earl.data.sources.contents`)."""
        return contents_of(self.rows, self.schema, self.folder)

    def origin(self) -> dict[str, Any]:
        names = [file.name for file in self.rows.files[:3]]
        more = f" and {len(self.rows.files) - 3} more" if len(self.rows.files) > 3 else ""
        read_from = ", ".join(names) + more if names else self.rows.name
        return {"name": self.name, "hub": self.schema.hub, "read_from": read_from}

    def captions(self) -> Iterator[CaptionPair]:
        """The captions of every sample, in the order of `read`; images are not decoded."""
        schema = self.schema
        needed = ("id", "instruction", "source_caption", "target_caption", "split")
        mapped = {column for name in needed for column in schema.columns.get(name, ())}
        columns = sorted({*mapped, *schema.only, *(self._pairs or ())})
        before: dict[str, str] = {}
        if self._pairs:
            own, origin = self._pairs
            for row in self.rows.read(columns=columns):
                if row.get(own) and not row.get(origin):
                    with suppress(DataError):
                        before[str(row[own])] = schema.text("target_caption", row)
        for number, row in enumerate(self.rows.read(columns=columns)):
            if not self._taken(row, number):
                continue
            name = schema.identify(row, number)
            try:
                first = schema.text("source_caption", row)
                if self._pairs:
                    first = before.get(str(row[self._pairs[1]]), "")
                said = schema.text("instruction", row) or self._instructions.get(name, "")
                yield CaptionPair(name, first, schema.text("target_caption", row), said)
            except DataError:  # `read` refuses the row with the reason
                continue

    def count(self) -> int | None:
        if self._drawn is not None:
            return len(self._drawn)
        return self.rows.count() if self.rows.quick else None

    def read(self, start: int = 0) -> Iterator[Read]:
        """Rows from number `start` on; those that are not of this source and split are passed over."""
        others: Counter[str] = Counter()
        taken = start > 0
        for number, row in enumerate(self.rows.read(start), start):
            if not self._taken(row, number, others):
                continue
            taken = True
            name = self.schema.identify(row, number)
            try:
                yield Read(number, name, self._sample(row, number, name))
            except DataError as error:
                yield Read(number, name, None, str(error))
        if others and not taken:  # rows that are read in order only are not counted beforehand
            pick_split(others, self.split, self.split, self.rows.name)

    def _taken(self, row: Row, number: int, others: Counter[str] | None = None) -> bool:
        """Whether a row is a sample of this source: drawn, its own, of its split, no original of others."""
        if self._drawn is not None and number not in self._drawn:
            return False
        if not self.schema.wanted(row) or (
            self._pairs and PROBLEM not in row and not row.get(self._pairs[1])
        ):
            return False
        split = self._split_of(row)
        if self.split == ALL or not split or split == self.split:
            return True
        if others is not None:
            others[split] += 1
        return False

    def _split_of(self, row: Row, schema: Schema | None = None) -> str:
        try:
            return plain_split((schema or self.schema).text("split", row))
        except DataError:  # `_sample` refuses the row
            return ""

    def _sample(self, row: Row, number: int, name: str) -> Sample:
        if name in self._problems:
            raise DataError(self._problems[name])
        if self._pairs and PROBLEM not in row:
            row = self._paired(row, self._pairs[1])
        if name in self._instructions and not self.schema.text("instruction", row):
            row = {**row, self.schema.columns["instruction"][0]: self._instructions[name]}
        return self.schema.sample(row, number, self.folder)

    def _paired(self, row: Row, column: str) -> Row:
        wanted = str(row[column])
        if wanted not in self._origins:
            raise DataError(f"its source image {wanted!r} is in no row")
        assert isinstance(self.rows, RandomRows), "only then are there origins"
        origin = self.rows.at(self._origins[wanted])
        image, caption = self.schema.value("target", origin), self.schema.text("target_caption", origin)
        return {**row, "source_image": image, "source_caption": caption}

    def _index(self) -> dict[str, int]:
        """Row numbers of the originals, by id."""
        assert self._pairs
        own, origin = self._pairs
        if not isinstance(self.rows, RandomRows):
            raise DataError(
                f"the source image of an edit of {self.name} is in another row, and {self.rows.name} can be "
                "read in order only; give a local copy in parquet or Arrow with --path"
            )
        return {
            str(row[own]): number
            for number, row in enumerate(self.rows.read(columns=self._pairs))
            if not row.get(origin) and row.get(own)
        }

    def _draw(self, numbers: Sequence[int] | None) -> frozenset[int]:
        """Numbers of rows, drawn among `numbers` or all of them."""
        total = self.rows.count() if numbers is None else len(numbers)
        if total is None:
            raise DataError(
                f"{self.rows.name} does not tell how many rows it has, so {self.draw} cannot be drawn; "
                "give a local parquet or Arrow copy, or --draw 0"
            )
        places = np.random.default_rng(self.seed).permutation(total)[: self.draw].tolist()
        return frozenset(places if numbers is None else (numbers[place] for place in places))

    def _pick(self, schema: Schema, columns: Row, asked: str | None) -> tuple[str, Sequence[int] | None]:
        """The split that is read, and the numbers of its rows where a column tells them."""
        splits: list[str] = []
        if self.rows.quick and schema.column("split", columns):
            wanted = schema.columns["split"]
            splits = [self._split_of(row, schema) for row in self.rows.read(columns=wanted)]
        if told := set(splits) - {""}:
            split = pick_split(told, asked, schema.split, self.rows.name)
            return split, [number for number, own in enumerate(splits) if split == ALL or own in ("", split)]
        return (ALL if asked == ALL else schema.split), None

    def _first_columns(self) -> Row:
        """The columns of the first rows that can be read."""
        columns: Row = {}
        problem = ""
        for row in islice(self.rows.read(), _LOOK):
            problem = problem or str(row.get(PROBLEM, ""))
            if PROBLEM not in row:
                columns |= row
        if not columns:
            raise DataError(problem or f"{self.rows.name} holds no rows")
        return columns

    def _check_columns(self, schema: Schema, columns: Row) -> None:
        fields = ["source", *([] if self._awaits else ["instruction"])]
        missing = [name for name in fields if schema.column(name, columns) is None]
        expected = [" or ".join(schema.columns.get(name, ())) for name in missing]
        if self._pairs:  # the source comes from another row, instructions from `instructions`
            missing = expected = [column for column in self._pairs if column not in columns]
        if missing:
            raise DataError(
                f"{self.rows.name} has no column for the {missing[0]} (expected {expected[0]}); it has "
                f"{', '.join(name for name in columns if name != '__file__')}. Say which one it is with "
                f"--map {missing[0]}=COLUMN"
            )

    def _check_mapped(self, mapped: Mapping[str, Sequence[str]], schema: Schema, columns: Row) -> None:
        """A column that is named and that no row has: its field would be empty, without a word."""
        missing = {
            column.rpartition(":")[2]
            for field, given in mapped.items()
            for column in given
            if len(given) > 1 or schema.column(field, columns) is None
        } - columns.keys()
        if missing and self.rows.quick:  # the first rows may lack one
            for row in self.rows.read(columns=sorted(missing)):
                missing -= row.keys()
                if not missing:
                    return
            raise DataError(
                f"{self.rows.name} has no column {min(missing)!r}, which --map names; it has "
                f"{', '.join(name for name in columns if name != '__file__')}"
            )


def open_source(
    name: str,
    settings: SourceSettings | None = None,
    *,
    instructions: Mapping[str, str] | None = None,
    default_split: str = "train",
    **fields: Any,
) -> OpenedSource:
    """Open a built-in source, one of another package, own files, or own data on the Hub.

    Args:
        name: a built-in or registered name; `package.module:attribute`; a file or folder of own data; or
            `hub:OWNER/NAME`.
        settings: what is read of it.
        instructions: by sample id, for rows that have none.
        default_split: read of own data whose files or rows tell splits, where none is asked for.
        fields: of `SourceSettings`, in place of `settings`.

    Raises:
        DataError: no such source or files, or columns missing.
        ConfigError: settings that do not fit the source.
    """
    settings = settings or SourceSettings(**fields)
    if name.startswith(HUB) or (name not in SOURCES and _exists(name)):
        return _open_own(name, settings, instructions, default_split)
    try:
        found = SOURCES.load(name)
    except ConfigError as error:
        if is_path(name):
            raise DataError(f"there is nothing at {name}; check the path") from error
        raise DataError(f"{error}; own data are given as a path or as hub:OWNER/NAME") from error
    if isinstance(found, Schema):
        return _open_declared(found, settings, instructions)
    return _open_called(name, found, settings, instructions)


def _open_declared(
    schema: Schema, settings: SourceSettings, instructions: Mapping[str, str] | None
) -> OpenedSource:
    name = schema.name
    if settings.columns:
        schema = replace(schema, columns={**schema.columns, **settings.columns})
    if settings.licence:
        schema = replace(schema, licence=settings.licence)
    if settings.hub == (settings.path is not None):
        raise DataError(
            f"where is {name}? Give its files with --path, or --hub to read {schema.hub} from the Hub"
        )
    rows: Rows
    if settings.path is None:
        rows, folder = HubRows(schema.hub, settings.split or schema.hub_split, schema.hub_files), None
    else:
        schema, rows, folder = open_path(schema, Path(settings.path), settings.split, schema.hub_split)
    if settings.split and settings.split != ALL:
        schema = replace(schema, split=plain_split(settings.split))
    draw = schema.draw if settings.draw is None else settings.draw
    settings = settings.replace(draw=draw)
    return OpenedSource(schema, rows, folder, settings=settings, instructions=instructions)


def _open_own(
    name: str, settings: SourceSettings, instructions: Mapping[str, str] | None, default: str
) -> OpenedSource:
    title = Path(name.removeprefix(HUB)).stem or name
    split = plain_split(settings.split or default)
    schema = own_schema(title, settings.columns, licence=settings.licence, group=settings.group, split=split)
    rows: Rows
    if name.startswith(HUB):
        rows, folder = HubRows(name.removeprefix(HUB), settings.split or "train"), None
    else:
        schema, rows, folder = open_path(schema, Path(name), settings.split, default)
    return OpenedSource(schema, rows, folder, settings=settings, instructions=instructions)


def _open_called(
    name: str,
    function: Callable[[Path | None, str], Iterable[Row]],
    settings: SourceSettings,
    instructions: Mapping[str, str] | None,
) -> OpenedSource:
    if settings.hub:
        raise ConfigError(f"{name} reads what it wants by itself; leave --hub out")
    title, split = name.rpartition(":")[2], plain_split(settings.split or "train")
    schema = own_schema(title, settings.columns, licence=settings.licence, group=settings.group, split=split)
    path = None if settings.path is None else Path(settings.path).expanduser()
    rows = CalledRows(title, function, path, settings.split or "")
    return OpenedSource(schema, rows, path, settings=settings, instructions=instructions)


def _exists(name: str) -> bool:
    try:
        return Path(name).expanduser().exists()
    except (OSError, ValueError, RuntimeError):
        return False
