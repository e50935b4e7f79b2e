"""Rows of files as dicts, in one fixed order, from any place on: parquet, Arrow, tables, the Hub.

An image column stays what it is in the file: bytes, a dict with `bytes` or `path`, or a path as
text. Memory holds a few rows at a time; what is skipped is not decoded. A cell that cannot be read
is `Unreadable`, a row that cannot be read has a `PROBLEM`: neither ends the reading. A file whose
end is missing does.

`datasets` reads these formats too, but gives up a file for one bad row, and copies parquet into its
cache first; so it is used for the Hub only.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa

from earl.data.sources.cells import PROBLEM, Row, Unreadable
from earl.errors import DataError
from earl.files import parse_json, read_json
from earl.tables import check_heads

_BATCH = 16  # rows decoded at once: images of some megabytes each
_LIGHT_BATCH = 4096  # the same where no image is among the columns
_KEPT = 4  # row groups kept for `at`
_END = "\x1eend of table"
_MOST_PACKED = 200  # times that a column may shrink when it is packed; images hardly do
_LARGE = 2**28  # bytes of a column in a row group, unpacked, from which that counts
_COUNTER = re.compile(r"-\d.*$")


class Rows(Protocol):
    """Rows in a fixed order. `quick` ones are counted, and read by columns, without reading images."""

    name: str
    quick: bool
    files: list[Path]

    def read(self, start: int = 0, columns: Sequence[str] | None = None) -> Iterator[Row]:
        """Rows from number `start` on, with at least `columns` (None: all that there are)."""
        ...

    def count(self) -> int | None: ...


@runtime_checkable
class RandomRows(Rows, Protocol):
    """Rows with random access."""

    def at(self, number: int) -> Row: ...


class ColumnRows:
    """Parquet or Arrow files, one after another; `__file__` is a row's file without number and ending."""

    quick = True

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = list(files)
        self.name = str(files[0]) if len(files) == 1 else f"{files[0].parent} ({len(files)} files)"
        self._sizes = {path: _group_sizes(path) for path in self.files}
        self._group = lru_cache(maxsize=_KEPT)(self._load)

    def count(self) -> int:
        return sum(map(sum, self._sizes.values()))

    def read(self, start: int = 0, columns: Sequence[str] | None = None) -> Iterator[Row]:
        step = _BATCH if columns is None else _LIGHT_BATCH
        for path, sizes in self._sizes.items():
            if start >= sum(sizes):
                start -= sum(sizes)
                continue
            group, start = _place(sizes, start)
            for batch in _batches(path, group, columns, step):
                for first in range(start, batch.num_rows, step):
                    yield from _rows_of(batch.slice(first, step), path)
                start = max(0, start - batch.num_rows)

    def at(self, number: int) -> Row:
        for path, sizes in self._sizes.items():
            if number < sum(sizes):
                group, place = _place(sizes, number)
                return next(_rows_of(self._group(path, group).slice(place, 1), path))
            number -= sum(sizes)
        raise IndexError(number)

    def _load(self, path: Path, group: int) -> pa.RecordBatch:
        size = self._sizes[path][group]
        batches = islice(_batches(path, group, None, size), 1 if size else 0)
        return pa.Table.from_batches(list(batches)).combine_chunks().to_batches()[0]


class TableRows:
    """JSON Lines, a JSON list, or CSV; paths of images in it are relative to the file or a parent.

    Args:
        path: the table.
        change: rewrites a row of a folder layout.
    """

    quick = True

    def __init__(self, path: Path, change: Callable[[Row], Row] | None = None) -> None:
        self.path = path
        self.files = [path]
        self.name = str(path)
        self._change = change

    def count(self) -> int:
        return sum(1 for _ in self._raw())

    def read(self, start: int = 0, columns: Sequence[str] | None = None) -> Iterator[Row]:
        for row in islice(self._raw(), start, None):
            yield self._change(row) if self._change and PROBLEM not in row else row

    def _raw(self) -> Iterator[Row]:
        kind = self.path.suffix.lower()
        try:
            with self.path.open("rb") as file:
                first = file.readline(2**16)
            if first.startswith((b"\xff\xfe", b"\xfe\xff")):
                raise DataError(f"{self.path} is in UTF-16; save it in UTF-8")
            if kind == ".json":
                yield from _json_rows(self.path)
            elif kind in (".csv", ".tsv"):
                # Spreadsheets write semicolons where decimals have commas, and tabs when they copy.
                marks = ("\t",) if kind == ".tsv" else (",", ";", "\t")
                yield from _csv_rows(self.path, next((m for m in marks if m.encode() in first), marks[0]))
            else:
                yield from _lines(self.path)
        except OSError as error:
            raise DataError(f"{self.path} cannot be read: {error}") from error


class HubRows:
    """A data set of the Hub, streamed; images stay as their bytes."""

    quick = False

    def __init__(self, name: str, split: str, files: str = "") -> None:
        self.name = name
        self.files: list[Path] = []
        self._split, self._files = split, files

    def count(self) -> None:
        return None

    def read(self, start: int = 0, columns: Sequence[str] | None = None) -> Iterator[Row]:
        import datasets

        options: dict[str, Any] = {"data_files": {self._split: self._files}} if self._files else {}
        try:
            stream = datasets.load_dataset(self.name, split=self._split, streaming=True, **options)
            features = stream.features or {}
            for column, feature in features.items():
                if isinstance(feature, datasets.Image):
                    stream = stream.cast_column(column, datasets.Image(decode=False))
            yield from stream.skip(start) if start else stream
        except Exception as error:  # the network, the Hub and `datasets` fail in many ways
            raise DataError(
                f"the data set {self.name} (split {self._split}) cannot be read from the Hub: {error}; "
                "check the name, the connection and `hf auth login`, or give a local copy"
            ) from error


class CalledRows:
    """Rows of a registered function, called with a path (or None) and a split; the same at each call."""

    quick = False

    def __init__(
        self, name: str, function: Callable[[Path | None, str], Iterable[Row]], path: Path | None, split: str
    ) -> None:
        self.name, self._call = name, partial(function, path, split)
        self.files: list[Path] = []

    def count(self) -> None:
        return None

    def read(self, start: int = 0, columns: Sequence[str] | None = None) -> Iterator[Row]:
        return islice(iter(self._call()), start, None)


def json_object(text: bytes, where: str) -> Row:
    """A row from its JSON; one with a `PROBLEM` where it is none."""
    try:
        row = parse_json(text, where)
    except DataError as error:
        return {PROBLEM: str(error)}
    return row if isinstance(row, dict) else {PROBLEM: f"{where} is not a JSON object"}


def _lines(path: Path) -> Iterator[Row]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield json_object(line, f"{path}:{number}")


def _json_rows(path: Path) -> Iterator[Row]:
    try:
        content = read_json(path)
    except DataError:
        if PROBLEM in next(_lines(path), {PROBLEM: ""}):
            raise
        yield from _lines(path)  # JSON Lines under another ending
        return
    if isinstance(content, dict) and any(isinstance(row, dict) for row in content.values()):
        rows = content.items()  # {"1": {…}, "2": {…}}
        content = [{"__key__": key, **row} if isinstance(row, dict) else row for key, row in rows]
    elif isinstance(content, dict):  # {"version": 1, "data": [{…}, {…}]}
        lists = [rows for rows in content.values() if isinstance(rows, list)]
        content = lists[0] if len(lists) == 1 else None
    if not isinstance(content, list):
        raise DataError(f"{path} holds no list of objects; expected [{{…}}, {{…}}], or JSON Lines")
    for number, row in enumerate(content):
        yield row if isinstance(row, dict) else {PROBLEM: f"{path}: entry {number} is not a JSON object"}


def _csv_rows(path: Path, separator: str) -> Iterator[Row]:
    csv.field_size_limit(2**24)
    # Bytes that are not UTF-8 become lone surrogates, which `text_of` refuses in the rows that have them.
    with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        reader = csv.reader(chain(file, [_END]), delimiter=separator, skipinitialspace=True)
        header: list[str] | None = None
        while True:
            begins = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield {PROBLEM: f"{path}:{reader.line_num} is not a row: {error}"}
                continue
            if cells and cells[-1].endswith(_END):
                if cells != [_END]:
                    yield {
                        PROBLEM: f"{path}:{begins} opens a quote that nothing closes, to the end of the file"
                    }
                return
            if header is None:
                header = cells
                check_heads(path, header)
            elif len(cells) > len(header):
                between = {",": "commas", ";": "semicolons"}.get(separator, "tabs")
                more = f"has more cells than the head line; put quotes around {between}"
                yield {PROBLEM: f"{path}:{begins} {more}"}
            elif any(map(str.strip, cells)):  # spreadsheets leave rows of commas alone
                yield dict(zip(header, cells, strict=False))  # what is missing at the end is empty


def _group_sizes(path: Path) -> list[int]:
    """Rows of each row group (parquet) or record batch (Arrow)."""
    with _guarded(path):
        if path.suffix.lower() == ".parquet":
            import pyarrow.parquet as pq

            with pq.ParquetFile(path) as file:
                groups = [file.metadata.row_group(group) for group in range(file.num_row_groups)]
                for group in groups:
                    for column in map(group.column, range(group.num_columns)):
                        size = column.total_uncompressed_size
                        if size > max(_LARGE, _MOST_PACKED * column.total_compressed_size):
                            name = column.path_in_schema
                            raise DataError(
                                f"{path}: its column {name} unpacks to {size:,} bytes; leave it out"
                            )
                return [group.num_rows for group in groups]
        return [batch.num_rows for batch in _arrow_batches(path)]


def _batches(path: Path, group: int, columns: Sequence[str] | None, step: int) -> Iterator[pa.RecordBatch]:
    """Record batches of a file from a group on."""
    with _guarded(path):
        if path.suffix.lower() == ".parquet":
            import pyarrow.parquet as pq

            with pq.ParquetFile(path) as file:
                yield from file.iter_batches(
                    batch_size=max(1, step),
                    row_groups=range(group, file.num_row_groups),
                    columns=None if columns is None else [c for c in columns if c in file.schema_arrow.names],
                    use_threads=False,
                )
            return
        for batch in islice(_arrow_batches(path), group, None):
            names = batch.schema.names
            yield batch if columns is None else batch.select([c for c in columns if c in names])


def _arrow_batches(path: Path) -> Iterator[pa.RecordBatch]:
    """Batches of an Arrow stream, as `datasets` writes it, or of an Arrow file; memory-mapped."""
    with pa.memory_map(str(path)) as source:
        try:
            reader = pa.ipc.open_stream(source)
        except pa.ArrowInvalid:
            file = pa.ipc.open_file(source)
            yield from (file.get_batch(place) for place in range(file.num_record_batches))
        else:
            yield from reader


@contextmanager
def _guarded(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        said = str(error).strip().split("\n")[0]
        raise DataError(f"{path} is damaged, cut short or of another format: {said}") from error


def _place(sizes: Sequence[int], number: int) -> tuple[int, int]:
    """(group, place in it) of a row."""
    group = 0
    while number >= sizes[group]:
        number -= sizes[group]
        group += 1
    return group, number


def _rows_of(batch: pa.RecordBatch, path: Path) -> Iterator[Row]:
    check_heads(path, batch.schema.names)
    columns = [_cells_of(column) for column in batch.columns]
    stem = _COUNTER.sub("", path.stem)
    for place in range(batch.num_rows):
        row = {name: cells[place] for name, cells in zip(batch.schema.names, columns, strict=True)}
        yield {**row, "__file__": stem}


def _cells_of(column: pa.Array) -> list[Any]:
    """A column's values, each `Unreadable` that is damaged or has no counterpart in Python.

    Columns of strangers are checked before they are read: a wrong offset would read foreign memory.
    """
    try:
        column.validate(full=True)
        return list(column.to_pylist())
    except Exception:  # dates out of range, unknown time zones, text that is not UTF-8, wrong offsets, …
        return [_cell_of(column.slice(place, 1)) for place in range(len(column))]


def _cell_of(one: pa.Array) -> Any:
    try:
        one.validate(full=True)
        return one.to_pylist()[0]
    except Exception as error:  # as above
        return Unreadable(f"a {one.type} cannot be read ({' '.join(str(error).split())[:120]})")
