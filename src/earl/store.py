"""An append-only JSON Lines store that survives a write cut short.

A line is on disk before `append` returns. A process that is killed while it writes leaves half a line at
the end: it is dropped when the file is opened again, and its record is made again.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from earl.errors import DataError
from earl.files import append_lines, parse_json, write_lines, writing

Record = dict[str, Any]


class JsonLinesStore:
    """Records by their "key", each once.

    Args:
        path: the file; made on the first `append`.
        durable: each `append` is flushed to the disk before it returns.

    Raises:
        DataError: a line that is not a record, other than a torn last one; or a key twice.
    """

    def __init__(self, path: str | Path, *, durable: bool = True) -> None:
        self.path, self._durable = Path(path), durable
        self._records: dict[str, Record] = {}
        for record in self._read():
            if record["key"] in self._records:
                raise DataError(f"{path} has {record['key']!r} twice; remove one of the lines")
            self._records[record["key"]] = record

    def __contains__(self, key: str) -> bool:
        return key in self._records

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, key: str) -> Record:
        return self._records[key]

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records.values())

    def get(self, key: str) -> Record | None:
        return self._records.get(key)

    def append(self, *records: Record) -> None:
        """Add records; on disk when this returns. Raises OutputError: the disk is full, for one."""
        for record in records:
            assert record["key"] not in self._records, f"{record['key']} is recorded already"
        append_lines(self.path, records, durable=self._durable)
        self._records.update((record["key"], record) for record in records)

    def drop(self, keys: Iterable[str]) -> None:
        """Forget records, so that they can be made anew. Raises OutputError."""
        gone = set(keys) & set(self._records)
        if gone:
            left = {key: record for key, record in self._records.items() if key not in gone}
            write_lines(self.path, left.values())
            self._records = left

    def _read(self) -> Iterator[Record]:
        if not self.path.exists():
            return
        with writing(self.path):
            data = self.path.read_bytes()
            whole = data.rfind(b"\n") + 1
            if whole < len(data):  # torn by the end of the process that wrote it
                os.truncate(self.path, whole)
        for number, line in enumerate(data[:whole].split(b"\n")[:-1], 1):
            record = parse_json(line, f"{self.path}:{number}")
            if not isinstance(record, dict) or not isinstance(record.get("key"), str):
                raise DataError(f"{self.path}:{number} is not a record with a key; remove the line")
            yield record
