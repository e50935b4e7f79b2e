"""A source opened: its schema put to its rows, sample by sample, from any place on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from earl import registry
from earl.data.sources.builtin import SOURCES, find_schema
from earl.data.sources.called import CalledRows
from earl.data.sources.layouts import find_table, open_layout
from earl.data.sources.own import own_schema
from earl.data.sources.rows import HubRows, RandomRows, Row, Rows, files_in, open_files
from earl.data.sources.sample import Sample
from earl.data.sources.schema import Schema
from earl.errors import DataError

HUB = "hub:"
"""Prefix by which own data on the Hub are named."""


@dataclass(frozen=True, slots=True)
class Read:
    """What one row gave: a sample, or the reason why not (`sample` None). `number` counts rows from 0."""

    number: int
    id: str
    sample: Sample | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class CaptionPair:
    """A sample's captions before and after the edit, and its instruction; empty where there is none."""

    id: str
    source_caption: str
    target_caption: str
    instruction: str = ""


class OpenedSource:
    """Samples of a source in a fixed order.

    Args:
        schema: what the columns are.
        rows: the rows.
        folder: where relative paths begin; None where images are inside the rows.
        instructions: by sample id, for rows that have none (VisMin); an empty mapping where they will
            be given later (`give`).
        draw: how many rows are taken at random; 0 takes all.
        seed: of that draw; the rows are those that `Dataset.shuffle(seed)` would put first.

    Raises:
        DataError: the rows lack a column that the schema needs, or cannot be drawn from.
    """

    def __init__(
        self,
        schema: Schema,
        rows: Rows,
        folder: Path | None,
        *,
        instructions: Mapping[str, str] | None = None,
        draw: int = 0,
        seed: int = 42,
    ) -> None:
        self.schema, self.rows, self.folder = schema, rows, folder
        self._instructions = instructions or {}
        self._awaits = instructions is not None
        self._written_by = ""
        self._problems: Mapping[str, str] = {}
        first = self._first_row()
        self._pairs = schema.pairs if schema.pairs and schema.column("source", first) is None else None
        self._check_columns(first)
        self._origins = self._index() if self._pairs else {}
        self.draw, self.seed = draw, seed
        self._drawn = self._draw(draw, seed) if draw else None

    @property
    def name(self) -> str:
        return self.schema.name

    @property
    def instructions_digest(self) -> str | None:
        """Of the instructions given from outside, or who wrote them; None where there are none."""
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

    def captions(self) -> Iterator[CaptionPair]:
        """The captions of every sample, in the order of `read`; images are not decoded."""
        schema = self.schema
        needed = ("id", "instruction", "source_caption", "target_caption")
        columns = {column for name in needed for column in schema.columns.get(name, ())}
        columns |= {*schema.only, *(self._pairs or ())}
        before: dict[str, str] = {}
        if self._pairs:
            own, origin = self._pairs
            for row in self.rows.light(sorted(columns)):
                if row.get(own) and not row.get(origin):
                    before[str(row[own])] = schema.text("target_caption", row)
        for number, row in enumerate(self.rows.light(sorted(columns))):
            if not self._taken(row, number):
                continue
            name = schema.identify(row, number)
            first = schema.text("source_caption", row)
            if self._pairs:
                first = before.get(str(row[self._pairs[1]]), "")
            said = schema.text("instruction", row) or self._instructions.get(name, "")
            yield CaptionPair(name, first, schema.text("target_caption", row), said)

    def count(self) -> int | None:
        """Rows in all, None where only reading them would tell."""
        if self._drawn is not None:
            return len(self._drawn)
        return self.rows.count() if self.rows.quick else None

    def read(self, start: int = 0) -> Iterator[Read]:
        """Rows from number `start` on; those that are not of this source are passed over."""
        for number, row in enumerate(self.rows.read(start), start):
            if not self._taken(row, number):
                continue
            name = self.schema.identify(row, number)
            try:
                yield Read(number, name, self._sample(row, number, name))
            except DataError as error:
                yield Read(number, name, None, str(error))

    def _taken(self, row: Row, number: int) -> bool:
        """Whether a row is a sample of this source: drawn, its own, and no original of other rows."""
        if self._drawn is not None and number not in self._drawn:
            return False
        return self.schema.wanted(row) and not (self._pairs and not row.get(self._pairs[1]))

    def _sample(self, row: Row, number: int, name: str) -> Sample:
        if name in self._problems:
            raise DataError(self._problems[name])
        if self._pairs:
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
            for number, row in enumerate(self.rows.light(self._pairs))
            if not row.get(origin) and row.get(own)
        }

    def _draw(self, draw: int, seed: int) -> frozenset[int]:
        total = self.rows.count()
        if total is None:
            raise DataError(
                f"{self.rows.name} does not tell how many rows it has, so {draw} cannot be drawn; "
                "give a local parquet or Arrow copy, or --draw 0"
            )
        return frozenset(np.random.default_rng(seed).permutation(total)[:draw].tolist())

    def _first_row(self) -> Row:
        first = next(iter(self.rows.read()), None)
        if first is None:
            raise DataError(f"{self.rows.name} holds no rows")
        return first

    def _check_columns(self, first: Row) -> None:
        fields = ["source", *([] if self._awaits else ["instruction"])]
        missing = [name for name in fields if self.schema.column(name, first) is None]
        expected = [" or ".join(self.schema.columns.get(name, ())) for name in missing]
        if self._pairs:  # the source comes from another row, instructions from `instructions`
            missing = expected = [column for column in self._pairs if column not in first]
        if missing:
            raise DataError(
                f"{self.rows.name} has no column for the {missing[0]} (expected {expected[0]}); it has "
                f"{', '.join(map(str, first))}. Say which one it is with --map {missing[0]}=COLUMN"
            )


def open_source(
    name: str,
    *,
    path: str | Path | None = None,
    hub: bool = False,
    columns: Mapping[str, tuple[str, ...]] | None = None,
    split: str | None = None,
    licence: str = "",
    group: str = "",
    instructions: Mapping[str, str] | None = None,
    draw: int | None = None,
    seed: int = 42,
) -> OpenedSource:
    """Open a built-in source, own files, or own data on the Hub.

    Args:
        name: one of `SOURCES`; a registered source (`earl.registry.SOURCES`) or `package.module:attribute`; a
            file or folder of own data; or `hub:OWNER/NAME`.
        path: where a built-in source's files lie: files of parquet, Arrow, tar or a table, a folder
            of such files, or the publisher's folder layout.
        hub: read a built-in source from the Hub. Never done unasked.
        columns: a mapping that goes before the schema's own (`parse_map`).
        split: of the files to read, and what samples are marked with; default: the source's own.
        licence, group: of own data whose rows do not say.
        instructions: by sample id, for rows that have none.
        draw: rows drawn at random with `seed`; default: what the benchmark draws, 0 takes all.

    Raises:
        DataError: no such source or files, or columns missing.
    """
    registered = not name.startswith(HUB) and name in registry.SOURCES
    if registered:
        schema = own_schema(name.rpartition(":")[2], columns, licence=licence, group=group)
        folder = Path(path).expanduser() if path else None
        rows: Rows = CalledRows(schema.name, registry.SOURCES.load(name), folder, split or "")
    elif name in SOURCES or not (name.startswith(HUB) or Path(name).expanduser().exists()):
        schema = find_schema(name)
        if columns:
            schema = replace(schema, columns={**schema.columns, **columns})
        if hub == (path is not None):
            raise DataError(
                f"where is {name}? Give its files with --path, or --hub to read {schema.hub} from the Hub"
            )
        draw = schema.draw if draw is None else draw
        if hub:
            rows = HubRows(schema.hub, split or schema.hub_split, schema.hub_files)
            folder = None
        else:
            rows, folder = _open_path(Path(path or ""), split or schema.hub_split, schema)
    else:
        schema = own_schema(Path(name.removeprefix(HUB)).stem or name, columns, licence=licence, group=group)
        if name.startswith(HUB):
            rows, folder = HubRows(name.removeprefix(HUB), split or "train"), None
        else:
            rows, folder = _open_path(Path(name), split or "", schema)
    if split:
        schema = replace(schema, split=split)
    if licence:
        schema = replace(schema, licence=licence)
    return OpenedSource(schema, rows, folder, instructions=instructions, draw=draw or 0, seed=seed)


def _open_path(path: Path, split: str, schema: Schema) -> tuple[Rows, Path]:
    path = path.expanduser()
    if path.is_file():
        layout = open_layout(schema, path.parent, path.stem) if path.suffix == ".json" else None
        return layout or (open_files([path]), path.parent)
    if not path.is_dir():
        raise DataError(f"there is nothing at {path}; check the path of {schema.name}")
    layout = open_layout(schema, path, split)
    if layout:
        return layout
    files = files_in(path, split)
    if files and files[0].name != "metadata.parquet":
        return open_files(files), files[0].parent
    table = find_table(path, split)
    return open_files([table]), table.parent
