"""Rows of WebDataset tars, within bounds of size."""

from __future__ import annotations

import gzip
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, cast

from earl.data.sources.cells import PROBLEM, Row, Unreadable
from earl.data.sources.rows import json_object
from earl.errors import DataError
from earl.files import parse_json

MAX_MEMBER = 256 * 2**20
"""Bytes of one member at most: more is no image, and may be a bomb."""
_MAX_ROW = 2 * MAX_MEMBER
_MAX_HEADER = 2**20  # bytes of a member's name and attributes


class TarRows:
    """WebDataset tars: members `KEY.COLUMN.EXTENSION` (or `KEY.EXTENSION`) with one KEY are one row.

    JSON members give columns, text members a string, all others bytes under their COLUMN (their
    extension where there is none); `__key__` is the KEY. Names that begin with a dot are passed over.
    """

    quick = False

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = list(files)
        self.name = str(files[0]) if len(files) == 1 else f"{files[0].parent} ({len(files)} files)"

    def count(self) -> int:
        return sum(1 for _ in self.read())

    def read(self, start: int = 0, columns: Sequence[str] | None = None) -> Iterator[Row]:
        return islice((row for path in self.files for row in _rows_of(path)), start, None)


class _Bounded:
    """A file that refuses to read much at once: member headers of a bomb claim to be gigabytes."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.limit = _MAX_HEADER
        self.last = b""  # read

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= self.limit:
            raise tarfile.ReadError(f"a member's header claims {size:,} bytes")
        self.last = self._file.read(size)
        return self.last

    def seek(self, place: int, whence: int = 0) -> int:
        return self._file.seek(place, whence)

    def tell(self) -> int:
        return self._file.tell()


def _rows_of(path: Path) -> Iterator[Row]:
    try:
        with path.open("rb") as file:
            compressed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if compressed else path.open("rb") as file:
            bounded = _Bounded(cast("IO[bytes]", file))
            with tarfile.open(fileobj=cast("IO[bytes]", bounded), mode="r:") as tar:
                yield from _grouped(tar, bounded, path)
                # `tarfile` takes a header that is damaged or cut for the end, which is a block of zeros.
                if len(bounded.last) != tarfile.BLOCKSIZE or bounded.last.strip(b"\0"):
                    raise tarfile.ReadError(f"what is at byte {tar.offset:,} is no member and no end")
    except (tarfile.TarError, OSError, EOFError, zlib.error, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is damaged or cut short: {error}") from error


def _grouped(tar: tarfile.TarFile, bounded: _Bounded, path: Path) -> Iterator[Row]:
    row: Row = {}
    size = 0
    while (member := tar.next()) is not None:
        tar.members = []  # type: ignore[attr-defined]  # it would remember every member
        folder, _, base = member.name.rpartition("/")
        if not member.isfile() or base.startswith("."):
            continue
        key, _, ending = base.partition(".")
        key = f"{folder}/{key}" if folder else key
        if row and row["__key__"] != key:
            yield row
            row, size = {}, 0
        row["__key__"] = key
        size += member.size
        if member.size > MAX_MEMBER or size > _MAX_ROW:
            row[PROBLEM] = f"{path}: {member.name} has {member.size:,} bytes; at most {MAX_MEMBER:,} are read"
            continue
        bounded.limit = MAX_MEMBER
        stream = tar.extractfile(member)
        _put_member(row, ending, stream.read() if stream else b"", f"{path}: {member.name}")
        bounded.limit = _MAX_HEADER
    if row:
        yield row


def _put_member(row: Row, ending: str, content: bytes, where: str) -> None:
    column, _, extension = ending.rpartition(".")
    extension = extension.lower()
    if extension == "json" and not column:
        row.update(json_object(content, where))
    elif extension == "json":
        try:
            row[column] = parse_json(content, where)
        except DataError as error:
            row[column] = Unreadable(str(error))
    elif extension in ("txt", "text", "cls"):
        row[column or extension] = content.decode("utf-8-sig", "replace").strip()
    else:
        row[column or extension] = content
