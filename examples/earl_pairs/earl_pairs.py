"""A data source: a folder of `NAME.before.png`, `NAME.after.png` and `NAME.txt` with the instruction."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from earl.errors import DataError


def read_pairs(path: Path | None, split: str) -> Iterator[dict[str, Any]]:
    """The rows of a folder, in the order of their names. The folder `split` in it, where there is one."""
    if path is None or not path.is_dir():
        raise DataError(f"pairs: {path} is no folder; give one with --path")
    folder = path / split if split and (path / split).is_dir() else path
    for before in sorted(folder.glob("*.before.png")):
        name = before.name.removesuffix(".before.png")
        after, words = (folder / f"{name}.{ending}" for ending in ("after.png", "txt"))
        yield {
            "id": name,
            "source": before,
            "target": after if after.exists() else None,
            "instruction": words.read_text(encoding="utf-8") if words.exists() else "",
            "family": name.partition("-")[0],
        }
