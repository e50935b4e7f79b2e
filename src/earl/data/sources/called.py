"""Rows of a registered source, which is a function."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

from earl.data.sources.rows import Row


class CalledRows:
    """What a function of a path (or None) and a split gives: rows in one order, the same at each call."""

    quick = False

    def __init__(
        self, name: str, function: Callable[[Path | None, str], Iterable[Row]], path: Path | None, split: str
    ) -> None:
        self.name, self._call = name, partial(function, path, split)

    def count(self) -> None:
        return None

    def read(self, start: int = 0) -> Iterator[Row]:
        return islice(iter(self._call()), start, None)

    def light(self, columns: Sequence[str]) -> Iterator[Row]:
        return ({name: row[name] for name in columns if name in row} for row in self.read())
