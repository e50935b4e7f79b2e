"""Which column of a source is what, and a row read by it."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from earl.data.sources.rows import Row
from earl.data.sources.sample import Group, ImageRef, Sample
from earl.errors import DataError
from earl.records import Box

FIELDS = (
    "id",
    "source",
    "target",
    "instruction",
    "family",
    "group",
    "reasoning",
    "boxes",
    "mask",
    "source_caption",
    "target_caption",
    "licence",
    "split",
)
"""What a column can be mapped to."""

_PARENTS = 5  # folders above a table in which its relative paths are looked for


@dataclass(frozen=True)
class Schema:
    """A source declared.

    `columns` gives for each of `FIELDS` the columns that may hold it, best first; `id` has all the
    columns that together name a sample. `group` holds where `simple` and `complex` do not name the
    family. `only` keeps the rows whose column (where there is one) has one of the values. `pairs`
    names two columns: the row's own id and the id of the row that holds its source image. Without
    `join_ids` the first id column that a row has is the whole id.
    """

    name: str
    columns: Mapping[str, tuple[str, ...]]
    hub: str = ""
    hub_split: str = "train"
    hub_files: str = ""
    licence: str = ""
    group: Group = "complex"
    simple: frozenset[str] = frozenset()
    complex: frozenset[str] = frozenset()
    family: str = ""
    split: str = "train"
    benchmark: bool = False
    draw: int = 0
    only: Mapping[str, frozenset[str]] = field(default_factory=dict)
    pairs: tuple[str, str] | None = None
    layout: Literal["", "magicbrush", "aurora", "frames", "i2ebench"] = ""
    unsure_boxes: bool = False
    join_ids: bool = True

    def column(self, name: str, row: Mapping[str, Any]) -> str | None:
        """The column of a row that holds a field."""
        return next((column for column in self.columns.get(name, ()) if column in row), None)

    def value(self, name: str, row: Mapping[str, Any]) -> Any:
        """A field's value, the first that is there and not empty."""
        for column in self.columns.get(name, ()):
            if row.get(column) not in (None, "", [], {}):
                return row[column]
        return None

    def text(self, name: str, row: Mapping[str, Any]) -> str:
        """A field as one stripped text; of a list the first."""
        value = self.value(name, row)
        while isinstance(value, (list, tuple)) and value:
            value = value[0]
        return "" if value is None or isinstance(value, (dict, bytes, list, tuple)) else str(value).strip()

    def identify(self, row: Mapping[str, Any], number: int) -> str:
        """The sample's id: its id columns joined, or its place in the source."""
        parts = [str(row[column]).strip() for column in self.columns.get("id", ()) if _given(row.get(column))]
        parts = parts if self.join_ids else parts[:1]
        return "-".join(parts) if parts else f"{self.name}-{number:08d}"

    def wanted(self, row: Mapping[str, Any]) -> bool:
        """Whether a row belongs to this source (`only`)."""
        return all(str(row[column]) in values for column, values in self.only.items() if column in row)

    def sample(self, row: Row, number: int, folder: Path | None) -> Sample:
        """A row as a sample.

        Raises:
            DataError: no source image, no instruction, or boxes that are none.
        """
        source = image_of(self.value("source", row), folder)
        if source is None:
            raise DataError(f"no source image ({' or '.join(self.columns.get('source', ()))})")
        instruction = self.text("instruction", row)
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
            reasoning=self.text("reasoning", row),
            boxes=self._boxes(row),
            mask=image_of(self.value("mask", row), folder),
            source_caption=self.text("source_caption", row),
            target_caption=self.text("target_caption", row),
            licence=self.text("licence", row) or self.licence,
            split=self.text("split", row) or self.split,
        )

    def _group(self, row: Mapping[str, Any], family: str) -> Group:
        said = self.text("group", row).lower()
        if said in ("simple", "s"):
            return "simple"
        if said in ("complex", "c"):
            return "complex"
        if said:
            raise DataError(f"the group is {said!r}; expected simple or complex")
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


def image_of(value: Any, folder: Path | None) -> ImageRef | None:
    """An image cell as bytes or a path; relative paths are looked for beside the table and above it."""
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if value is None or value == "" or value == b"":
        return None
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, Path):
        return value
    if not isinstance(value, str):
        raise DataError(f"an image is {type(value).__name__}; expected bytes or a path")
    path = Path(value).expanduser()
    if path.is_absolute() or folder is None:
        return path
    places = [folder, *list(folder.absolute().parents)[:_PARENTS]]
    return next((place / path for place in places if (place / path).is_file()), folder / path)


def read_boxes(value: Any) -> tuple[Box, ...]:
    """Boxes from a list of [left, top, right, bottom], one such list, or either as text.

    Raises:
        DataError: something else, or a box whose right is left of its left.
    """
    if value is None or value == "":
        return ()
    if isinstance(value, str):
        value = _literal(value)
    if isinstance(value, dict):
        value = list(value.values())
    value = value.tolist() if hasattr(value, "tolist") else value
    if not isinstance(value, (list, tuple)):
        raise DataError(f"boxes are {value!r}; expected a list of [left, top, right, bottom]")
    if len(value) == 4 and all(isinstance(side, (int, float)) for side in value):
        left, top, right, bottom = map(float, value)
        if not (right > left and bottom > top):
            raise DataError(f"the box {list(value)} is empty; expected [left, top, right, bottom]")
        return (Box(left, top, right, bottom),)
    if any(not isinstance(part, (list, tuple, dict)) for part in value):
        raise DataError(f"boxes are {value!r}; expected a list of [left, top, right, bottom]")
    return tuple(box for part in value for box in read_boxes(part))


def _literal(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
            raise DataError(f"boxes are {text[:80]!r}; expected a list of four numbers each") from error


def _given(value: Any) -> bool:
    return value is not None and value != ""
