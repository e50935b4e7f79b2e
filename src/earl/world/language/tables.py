"""The tables of the language, read from the TOML files beside this one, whose comments say what each is.

`OPERATIONS` holds what is said of each operation, `FRAMES` the sentences around it, `WORDS` the synonyms,
`HELDOUT` what training never shows, `OTHER` the sentences that ask for nothing of this world.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from earl.files import parse_toml, read_text


def _read(name: str) -> dict[str, Any]:
    return parse_toml(read_text(Path(__file__).with_name(f"{name}.toml")), name)


WORDS, FRAMES, OPERATIONS, HELDOUT, OTHER = map(_read, ("words", "frames", "operations", "heldout", "other"))
CORES: dict[str, dict[str, Any]] = {op: table for op, table in OPERATIONS.items() if "do" in table}
CONSTRUCTIONS = {op: [*texts, *HELDOUT["verbs"].get(op, ())] for op, texts in HELDOUT["sentences"].items()}
"""Everything that only evaluation says and that `parse` reads too."""


def usual(table: str, value: str | int) -> str:
    """The usual word for a value, "a snowy field" for the background "snow"."""
    return str(WORDS[table][str(value)][0])


def texts(table: Any) -> Iterator[str]:
    """Every text of a table, of the tables in it too."""
    if isinstance(table, str):
        yield table
    else:
        for part in table.values() if isinstance(table, dict) else table:
            yield from texts(part)
