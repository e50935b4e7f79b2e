"""A user's own data: columns named by the user, or known by their usual names."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path

from earl.data.sources.schema import CHAINS, Schema
from earl.errors import ConfigError, DataError
from earl.files import read_lines
from earl.sequence.instruction import trimmed

USUAL: dict[str, tuple[str, ...]] = {
    "id": ("id", "sample_id", "key", "__key__"),
    "source": (
        "source",
        "source_image",
        "source_img",
        "src_img",
        "input",
        "input_image",
        "file_name",
        "image",
    ),
    "target": (
        "target",
        "target_image",
        "target_img",
        "edited_image",
        "edited_img",
        "output",
        "output_image",
        "preferred",
        "chosen",
    ),
    "other": ("other", "rejected"),
    "instruction": ("instruction", "edit_instruction", "prompt", "edit", "text"),
    "family": ("family", "task", "edit_type", "category"),
    "group": ("group",),
    "reasoning": CHAINS,
    "boxes": ("boxes", "bounding_boxes", "bbox"),
    "keypoints": ("keypoints", "points"),
    "mask": ("mask", "mask_image", "mask_img"),
    "source_caption": ("source_caption", "input_caption"),
    "target_caption": ("target_caption", "output_caption"),
    "licence": ("licence", "license"),
    "split": ("split",),
}
"""What a column can be mapped to, and the names that such a column usually has, best first."""


def read_instructions(path: str | Path) -> dict[str, str]:
    """Instructions by id from a file of JSON lines, `{"id": …, "instruction": …}`. Raises DataError."""
    instructions: dict[str, str] = {}
    for number, entry in read_lines(path):
        try:
            instructions[str(entry["id"])] = trimmed(str(entry["instruction"]))
        except (KeyError, TypeError) as error:
            raise DataError(f'{path}:{number} is not {{"id": …, "instruction": …}}') from error
    return instructions


def parse_map(text: str) -> dict[str, tuple[str, ...]]:
    """`source=before,instruction=text,id=a+b` as columns of fields; `a+b` joins columns of an id.

    So it does of chains of thought, each with its key where that is not the column's name:
    `reasoning=plan:got+where:coord`.

    Raises:
        ConfigError: not of this form, or a field that there is not.
    """
    columns: dict[str, tuple[str, ...]] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, column = (word.strip() for word in part.partition("="))
        if not equals or not column:
            raise ConfigError(f"--map has {part!r}; expected FIELD=COLUMN, as in source=before,target=after")
        if name not in USUAL:
            near = difflib.get_close_matches(name, USUAL, n=1)
            hint = f"did you mean {near[0]}?" if near else f"fields are {', '.join(USUAL)}"
            raise ConfigError(f"--map has the field {name!r}; {hint}")
        columns[name] = tuple(column.split("+")) if name in ("id", "reasoning") else (column,)
    return columns


def own_schema(
    name: str,
    mapping: Mapping[str, Sequence[str]] | None = None,
    *,
    licence: str = "",
    group: str = "simple",
    split: str = "train",
) -> Schema:
    """A schema of own data: the mapping, and usual names for the fields that it leaves out.

    Columns that the mapping uses are not taken a second time by their usual names.
    """
    named = {field: tuple(columns) for field, columns in (mapping or {}).items()}
    keys = dict(tuple(reversed(name.rpartition(":")[::2])) for name in named.get("reasoning", ()))
    keys = {column: key or column for column, key in keys.items()}
    if keys:
        named["reasoning"] = tuple(keys)
    used = {column for columns in named.values() for column in columns}
    usual = {
        field: tuple(column for column in columns if column not in used)
        for field, columns in USUAL.items()
        if field not in named
    }
    return Schema(
        name=name,
        columns={**usual, **named},
        licence=licence,
        group="complex" if group == "complex" else "simple",
        split=split,
        keys=keys,
        join_ids="id" in named,  # ids are not joined by guess
        own=True,
    )
