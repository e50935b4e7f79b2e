"""A file of JSON lines that grows one record at a time and survives being cut off anywhere.

A line is on disk before `append` returns. A process that is killed while it writes leaves half a
line at the end: that is dropped when the file is opened again, and its record is made again.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from earl.errors import DataError, OutputError

Record = dict[str, Any]


class Ledger:
    """Records by their "key", each once.

    Args:
        path: the file; made on the first `append`.

    Raises:
        DataError: a line that is not a record, other than a torn last one; or a key twice.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
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
        text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        with writing(self.path):
            size = self.path.stat().st_size if self.path.exists() else 0
            with self.path.open("ab") as file:
                try:
                    file.write(text.encode())
                    file.flush()
                    os.fsync(file.fileno())
                except OSError:
                    os.truncate(self.path, size)
                    raise
        self._records.update((record["key"], record) for record in records)

    def drop(self, keys: Iterable[str]) -> None:
        """Forget records, so that they can be made anew."""
        gone = set(keys) & set(self._records)
        if gone:
            left = {key: record for key, record in self._records.items() if key not in gone}
            lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in left.values())
            write_text(self.path, lines)
            self._records = left

    def _read(self) -> Iterator[Record]:
        if not self.path.exists():
            return
        data = self.path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):  # torn by the end of the process that wrote it
            with writing(self.path):
                os.truncate(self.path, whole)
        for number, line in enumerate(data[:whole].splitlines(), 1):
            try:
                record = json.loads(line)
                assert isinstance(record["key"], str)
            except (ValueError, KeyError, TypeError, AssertionError) as error:
                raise DataError(f"{self.path}:{number} is no record; remove the line") from error
            yield record


def write_text(path: Path, text: str) -> Path:
    """Write a file whole or not at all. Raises OutputError; an older file stays intact."""
    return write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> Path:
    """As `write_text`."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())  # before its name: after a power cut there is no empty file
            mask = os.umask(0)
            os.umask(mask)
            os.chmod(name, 0o666 & ~mask)
            os.replace(name, path)
        finally:
            Path(name).unlink(missing_ok=True)
    return path


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """An OSError inside becomes an OutputError that names the file."""
    try:
        yield
    except OSError as error:
        why = error.strerror or error
        raise OutputError(
            f"cannot write {path}: {why}; what was made is kept, run the same command again"
        ) from error
