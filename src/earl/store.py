"""Folders that one process works in, and append-only JSON Lines files, which survive a write cut short.

A line is on disk before `append` returns. A process that is killed while it writes leaves half a line at
the end: it is dropped when the file is opened again, and its record is made again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Generic, TypeVar

from earl.errors import DataError, OutputError
from earl.files import append_lines, json_lines, parse_json, write_text, writing

LOCK = ".lock"
_HEAD = b'{"key": "'  # of every line
R = TypeVar("R")


class RecordFile(Generic[R]):
    """Records by their key, each once.

    Args:
        path: the file; made on the first `append`.
        decode: a record from its line, an object with "key"; the line itself where it is left out.
        encode: the line of a record, to which "key" is added.
        durable: each `append` is flushed to the disk before it returns.

    Raises:
        DataError: a line that is not such a record, other than such a one that is torn at the end; or a key
            twice.
    """

    def __init__(
        self,
        path: str | Path,
        decode: Callable[[dict[str, Any]], Any] = dict,
        encode: Callable[[Any], dict[str, Any]] = dict,
        *,
        durable: bool = True,
    ) -> None:
        self.path, self._encode, self._durable = Path(path), encode, durable
        self._records: dict[str, R] = {}
        for line in self._read():
            key = line["key"]
            if key in self._records:
                raise DataError(f"{path} has {key!r} twice; remove one of the lines")
            try:
                self._records[key] = decode(line)
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(
                    f"{path} has a line that is not one of its records ({key!r}: {error}); remove it"
                ) from error

    def __contains__(self, key: str) -> bool:
        return key in self._records

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, key: str) -> R:
        return self._records[key]

    def __iter__(self) -> Iterator[R]:
        return iter(self._records.values())

    def get(self, key: str) -> R | None:
        """The record of a key, None where there is none."""
        return self._records.get(key)

    def items(self) -> Iterable[tuple[str, R]]:
        """Keys with their records."""
        return self._records.items()

    def append(self, records: Mapping[str, R]) -> None:
        """Add records; on disk when this returns. Raises OutputError: the disk is full, for one."""
        assert not (known := records.keys() & self._records.keys()), f"{known} are recorded already"
        append_lines(self.path, self._lines(records), durable=self._durable)
        self._records.update(records)

    def drop(self, keys: Iterable[str]) -> None:
        """Forget records, so that they can be made anew. Raises OutputError."""
        gone = set(keys) & self._records.keys()
        if gone:
            left = {key: record for key, record in self._records.items() if key not in gone}
            write_text(self.path, json_lines(self._lines(left)))
            self._records = left

    def _lines(self, records: Mapping[str, R]) -> list[dict[str, Any]]:
        return [{"key": key, **self._encode(record)} for key, record in records.items()]

    def _read(self) -> Iterator[dict[str, Any]]:
        if not self.path.exists():
            return
        with writing(self.path):
            data = self.path.read_bytes()
            whole = data.rfind(b"\n") + 1
            if whole < len(data):  # torn by the end of the process that wrote it
                if not data.startswith(_HEAD[: len(data) - whole], whole):
                    raise DataError(
                        f"{self.path} ends in a line that is none of its records; remove the line"
                    )
                os.truncate(self.path, whole)
        for number, line in enumerate(data[:whole].split(b"\n")[:-1], 1):
            record = parse_json(line, f"{self.path}:{number}")
            if not isinstance(record, dict) or not isinstance(record.get("key"), str):
                raise DataError(f"{self.path}:{number} is not a record with a key; remove the line")
            yield record


@contextmanager
def only_one(folder: str | Path) -> Iterator[Callable[[], None]]:
    """Lock a folder so that only one process works in it; the lock ends with the process that holds it.

    Yields a function that checks that the folder is still there, for long work; it runs at the end too.
    On systems without such locks (Windows) nothing is locked or checked.

    Raises:
        OutputError: another process holds the lock, it cannot be written, or the folder was removed or
            replaced meanwhile.
    """
    try:
        import fcntl
    except ImportError:
        yield lambda: None
        return
    path = Path(folder) / LOCK
    with writing(path):
        file = path.open("a+")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as cause:
            raise OutputError(f"another process works in {folder}; wait for it to end") from cause

        def check() -> None:
            with suppress(OSError):
                if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                    return
            raise OutputError(
                f"{folder} was removed or replaced while this command worked in it, so it is not whole; "
                "remove what is left of it and run the command again"
            )

        yield check
        check()
