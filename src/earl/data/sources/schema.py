"""Schemas: which column of a source holds which field, and rows read by them."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from earl.data.sources.cells import (
    PROBLEM,
    Row,
    Unreadable,
    image_of,
    is_missing,
    read_boxes,
    read_points,
    shown,
    text_of,
)
from earl.data.sources.sample import Sample
from earl.data.sources.splits import plain_split
from earl.errors import DataError
from earl.records import Box, EditGroup
from earl.sequence.instruction import trimmed
from earl.sequence.reasoning import format_box, join_chains

CHAINS = ("reasoning", "chain_of_thought", "cot", "CoT", "thinking", "got", "coord")
"""Columns of chains of thought by their usual names: the first that a row has is taken, and of GoT's two
(`LucasFang/OmniEdit-GoT`: what to do, and where) both."""
_GOT = ("got", "coord")


@dataclass(frozen=True)
class Schema:
    """A source declared.

    `columns` gives for each field (`earl.data.sources.own.USUAL`) the columns that may hold it, best first;
    `id` has all the columns that together name a sample. `group` holds where `simple` and `complex` do not
    name the family. `only` keeps the rows whose column (where there is one) has one of the values. `pairs`
    names two columns: the row's own id and the id of the row that holds its source image. Without
    `join_ids` the first id column that a row has is the whole id. `keys` are the columns of `reasoning` that
    are all taken, each with the key of its chain; none given: `CHAINS`. `prefix` is taken off instructions.
    Where a folder has all of `files` below it, only these are read. `details` are columns that go along as
    texts. `own` is for a user's own data, whose columns may be `spelled` in another way.
    """

    name: str
    columns: Mapping[str, tuple[str, ...]]
    hub: str = ""
    hub_split: str = "train"
    hub_files: str = ""
    licence: str = ""
    group: EditGroup = "complex"
    simple: frozenset[str] = frozenset()
    complex: frozenset[str] = frozenset()
    family: str = ""
    split: str = "train"
    benchmark: bool = False
    draw: int = 0
    only: Mapping[str, frozenset[str]] = field(default_factory=dict)
    pairs: tuple[str, str] | None = None
    layout: Literal["", "magicbrush", "aurora", "frames", "i2ebench", "pie"] = ""
    unsure_boxes: bool = False
    join_ids: bool = True
    keys: Mapping[str, str] = field(default_factory=dict)
    prefix: str = ""
    files: tuple[str, ...] = ()
    details: tuple[str, ...] = ()
    own: bool = False

    def spelled(self, there: Collection[str]) -> Schema:
        """The schema with the columns that differ from its names in capitals, or in blanks around them."""
        plain = {column.strip().lower(): column for column in there}
        columns = dict(self.columns)
        for name, usual in self.columns.items():
            if not {*usual} & {*there}:
                columns[name] = (*usual, *(plain[one.lower()] for one in usual if one.lower() in plain))
        return replace(self, columns=columns)

    def column(self, name: str, row: Mapping[str, Any]) -> str | None:
        """The column of a row that holds a field."""
        return next((column for column in self.columns.get(name, ()) if column in row), None)

    def value(self, name: str, row: Mapping[str, Any]) -> Any:
        """A field's value, the first that is there and not empty. Raises DataError: it cannot be read."""
        for column in self.columns.get(name, ()):
            value = row.get(column)
            if isinstance(value, Unreadable):
                raise DataError(f"the column {column}: {value}")
            if not is_missing(value):
                return value
        return None

    def text(self, name: str, row: Mapping[str, Any]) -> str:
        """A field as one stripped text; of a list the first. Raises DataError: it cannot be read."""
        return text_of(self.value(name, row))

    def identify(self, row: Mapping[str, Any], number: int) -> str:
        """The sample's id: its id columns joined, or its place in the source."""
        parts = [part for column in self.columns.get("id", ()) if (part := _id_part(row.get(column)))]
        parts = parts if self.join_ids else parts[:1]
        return "-".join(parts) if parts else f"{self.name}-{number:08d}"

    def wanted(self, row: Mapping[str, Any]) -> bool:
        """Whether a row belongs to this source (`only`)."""
        return all(str(row[column]) in values for column, values in self.only.items() if column in row)

    def sample(self, row: Row, number: int, folder: Path | None) -> Sample:
        """A row as a sample.

        Raises:
            DataError: no source image, no instruction, or a value that cannot be read.
        """
        if PROBLEM in row:
            raise DataError(str(row[PROBLEM]))
        source = image_of(self.value("source", row), folder)
        if source is None:
            raise DataError(f"no source image ({' or '.join(self.columns.get('source', ()))})")
        instruction = trimmed(trimmed(self.text("instruction", row)).removeprefix(self.prefix))
        if not instruction:
            raise DataError(f"no instruction ({' or '.join(self.columns.get('instruction', ())) or 'none'})")
        family = self.text("family", row) or self.family
        return Sample(
            id=self.identify(row, number),
            source=source,
            target=image_of(self.value("target", row), folder),
            instruction=instruction,
            family=family,
            group=self._group(row, family),
            reasoning=join_chains(self._chains(row)),
            boxes=self._boxes(row),
            keypoints=read_points(self.value("keypoints", row)),
            mask=image_of(self.value("mask", row), folder),
            source_caption=self.text("source_caption", row),
            target_caption=self.text("target_caption", row),
            licence=self.text("licence", row) or self.licence,
            split=plain_split(self.text("split", row)) or self.split,
            other=image_of(self.value("other", row), folder),
            details={name: text for name in self.details if (text := text_of(row.get(name)))},
        )

    def _chains(self, row: Mapping[str, Any]) -> dict[str, str]:
        """Chains of thought by key. Raises DataError: one cannot be read."""
        there = [name for name in (self.keys or CHAINS) if not is_missing(row.get(name))]
        if not self.keys and there:
            there = [name for name in there if name in _GOT] if there[0] in _GOT else there[:1]
        if not self.keys and there == list(_GOT) and (text := _placed(row["got"], row["coord"])):
            return {"got": text}
        chains: dict[str, str] = {}
        for name in there:
            value = row[name]
            if isinstance(value, Unreadable):
                raise DataError(f"the column {name}: {value}")
            if isinstance(value, dict):  # chains with keys of their own
                chains |= {str(key): text_of(text) for key, text in value.items()}
            elif isinstance(value, str):
                chains[self.keys.get(name, name)] = text_of(value)
            else:  # coordinates
                chains[self.keys.get(name, name)] = ", ".join(map(format_box, read_boxes(value)))
        return chains

    def _group(self, row: Mapping[str, Any], family: str) -> EditGroup:
        said = self.text("group", row).lower()
        if said in ("simple", "s"):
            return "simple"
        if said in ("complex", "c"):
            return "complex"
        if said:
            raise DataError(f"the group is {shown(said)}; expected simple or complex")
        plain = family.lower().replace("_", " ")
        if plain in self.simple:
            return "simple"
        return "complex" if plain in self.complex else self.group

    def _boxes(self, row: Mapping[str, Any]) -> tuple[Box, ...]:
        try:
            return read_boxes(self.value("boxes", row))
        except DataError:
            if self.unsure_boxes:  # their form is not documented; training does not need them
                return ()
            raise


def _placed(text: Any, coordinates: Any) -> str:
    """GoT's text with its coordinates in the places that they name, as the release reads it; "" where they
    name none."""
    if isinstance(coordinates, str):
        try:
            coordinates = json.loads(coordinates)
        except (ValueError, RecursionError):
            return ""
    if not isinstance(text, str) or not isinstance(coordinates, dict):
        return ""
    there = [place for place in coordinates if isinstance(place, str) and place and place in text]
    places = sorted(there, key=len, reverse=True)  # "p10" before "p1"
    for place in places:
        text = text.replace(place, json.dumps(coordinates[place], default=str))
    return text if places else ""


def _id_part(value: Any) -> str:
    """A part of an id as text that can be written anywhere; "" of what names nothing."""
    if is_missing(value) or isinstance(value, (Unreadable, list, tuple, dict)):
        return ""
    return str(value).strip().encode("utf-8", "backslashreplace").decode()
