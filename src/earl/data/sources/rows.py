"""Rows of files as dicts, in one fixed order, from any place on: parquet, Arrow, tar, tables, the Hub.

An image column stays what it is in the file: bytes, a dict with `bytes` or `path`, or a path as
text. Memory holds a few rows at a time; what is skipped is not decoded.
"""

from __future__ import annotations

import csv
import json
import re
import tarfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from earl.errors import DataError

Row = dict[str, Any]
_BATCH = 16  # rows decoded at once: images of some megabytes each
_KEPT = 4  # row groups kept for `at`
_COUNTER = re.compile(r"-\d.*$")
_TAR_ENDINGS = (".tar", ".tar.gz", ".tgz")


class Rows(Protocol):
    """Rows in a fixed order; `quick` ones count without reading images."""

    name: str
    quick: bool

    def read(self, start: int = 0) -> Iterator[Row]: ...
    def light(self, columns: Sequence[str]) -> Iterator[Row]: ...
    def count(self) -> int | None: ...


@runtime_checkable
class RandomRows(Rows, Protocol):
    """Rows with random access."""

    def at(self, number: int) -> Row: ...


class ParquetRows:
    """Parquet files, one after another; `__file__` is a row's file without number and ending."""

    quick = True

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = list(files)
        self.name = _name_of(self.files)
        self._groups: list[tuple[int, int, int, int]] = []  # file, group, first row, rows
        first = 0
        for place, path in enumerate(self.files):
            with _parquet(path) as file:
                for group in range(file.num_row_groups):
                    rows = file.metadata.row_group(group).num_rows
                    self._groups.append((place, group, first, rows))
                    first += rows
        self._total = first
        self._cache: OrderedDict[int, Any] = OrderedDict()

    def count(self) -> int:
        return self._total

    def read(self, start: int = 0) -> Iterator[Row]:
        return self._rows(start, None)

    def light(self, columns: Sequence[str]) -> Iterator[Row]:
        return self._rows(0, list(columns))

    def at(self, number: int) -> Row:
        place = next(
            i for i, (_, _, first, rows) in enumerate(self._groups) if first <= number < first + rows
        )
        if place not in self._cache:
            file_place, group, _, _ = self._groups[place]
            with _parquet(self.files[file_place]) as file:
                self._cache[place] = file.read_row_group(group, use_threads=False)
            while len(self._cache) > _KEPT:
                self._cache.popitem(last=False)
        self._cache.move_to_end(place)
        table = self._cache[place]
        return table.slice(number - self._groups[place][2], 1).to_pylist()[0]

    def _rows(self, start: int, columns: list[str] | None) -> Iterator[Row]:
        for place, path in enumerate(self.files):
            wanted = [g for g in self._groups if g[0] == place and g[2] + g[3] > start]
            if not wanted:
                continue
            skip = max(0, start - wanted[0][2])
            with _parquet(path) as file:
                present = None if columns is None else [c for c in columns if c in file.schema_arrow.names]
                batches = file.iter_batches(
                    batch_size=_BATCH if columns is None else 4096,
                    row_groups=[g[1] for g in wanted],
                    columns=present,
                    use_threads=False,
                )
                for batch in _guarded(batches, path):
                    if skip >= batch.num_rows:
                        skip -= batch.num_rows
                        continue
                    for row in batch.slice(skip).to_pylist():
                        row["__file__"] = _COUNTER.sub("", path.stem)
                        yield row
                    skip = 0


class ArrowRows:
    """Arrow files, stream or file format, memory-mapped: what `datasets` writes to disk."""

    quick = True

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = list(files)
        self.name = _name_of(self.files)

    def count(self) -> int:
        return sum(batch.num_rows for batch in self._batches())

    def read(self, start: int = 0) -> Iterator[Row]:
        for batch in self._batches():
            if start >= batch.num_rows:
                start -= batch.num_rows
                continue
            for place in range(start, batch.num_rows, _BATCH):
                yield from batch.slice(place, _BATCH).to_pylist()
            start = 0

    def light(self, columns: Sequence[str]) -> Iterator[Row]:
        for batch in self._batches():
            present = [name for name in columns if name in batch.schema.names]
            yield from batch.select(present).to_pylist()

    def at(self, number: int) -> Row:
        for batch in self._batches():
            if number < batch.num_rows:
                return batch.slice(number, 1).to_pylist()[0]
            number -= batch.num_rows
        raise IndexError(number)

    def _batches(self) -> Iterator[Any]:
        import pyarrow as pa

        for path in self.files:
            try:
                with pa.memory_map(str(path)) as source:
                    try:
                        reader = pa.ipc.open_stream(source)
                        yield from reader
                    except pa.ArrowInvalid:
                        file = pa.ipc.open_file(source)
                        yield from (file.get_batch(i) for i in range(file.num_record_batches))
            except (pa.ArrowInvalid, OSError) as error:
                raise DataError(f"{path} is not a readable Arrow file: {error}") from error


class TarRows:
    """WebDataset tars: members `KEY.COLUMN.EXTENSION` (or `KEY.EXTENSION`) with one KEY are one row.

    JSON members give columns, text members a string, all others bytes under their COLUMN (their
    extension where there is none); `__key__` is the KEY.
    """

    quick = False

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = list(files)
        self.name = _name_of(self.files)

    def count(self) -> int:
        return sum(1 for _ in self.read())

    def read(self, start: int = 0) -> Iterator[Row]:
        return islice((row for path in self.files for row in self._rows(path)), start, None)

    def light(self, columns: Sequence[str]) -> Iterator[Row]:
        return self.read()

    def _rows(self, path: Path) -> Iterator[Row]:
        try:
            with tarfile.open(path, "r|*") as tar:
                row: Row = {}
                for member in tar:
                    if not member.isfile():
                        continue
                    folder, _, base = member.name.rpartition("/")
                    key, _, ending = base.partition(".")
                    key = f"{folder}/{key}" if folder else key
                    if row and row["__key__"] != key:
                        yield row
                        row = {}
                    row["__key__"] = key
                    stream = tar.extractfile(member)
                    _put_member(row, ending, stream.read() if stream else b"", f"{path}: {member.name}")
                if row:
                    yield row
        except (tarfile.TarError, OSError, EOFError) as error:
            raise DataError(f"{path} is damaged or cut short: {error}") from error


class TableRows:
    """JSON Lines, a JSON list, or CSV; paths of images in it are relative to the file or a parent.

    Args:
        path: the table.
        change: rewrites a row of a folder layout.
    """

    quick = True

    def __init__(self, path: Path, change: Callable[[Row], Row] | None = None) -> None:
        self.path = path
        self.name = str(path)
        self._change = change

    def count(self) -> int:
        return sum(1 for _ in self._raw())

    def read(self, start: int = 0) -> Iterator[Row]:
        for row in islice(self._raw(), start, None):
            yield self._change(row) if self._change else row

    def light(self, columns: Sequence[str]) -> Iterator[Row]:
        return self.read()

    def at(self, number: int) -> Row:
        return next(self.read(number))

    def _raw(self) -> Iterator[Row]:
        try:
            if self.path.suffix.lower() in (".csv", ".tsv"):
                with self.path.open(newline="", encoding="utf-8-sig") as file:
                    csv.field_size_limit(2**24)
                    tab = "\t" if self.path.suffix.lower() == ".tsv" else ","
                    for row in csv.DictReader(file, delimiter=tab):
                        yield {k: v for k, v in row.items() if k is not None and v is not None}
            elif self.path.suffix.lower() == ".json":
                yield from _json_rows(self.path)
            else:
                with self.path.open(encoding="utf-8") as file:
                    for number, line in enumerate(file, 1):
                        if line.strip():
                            yield _json_object(line, f"{self.path}:{number}")
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"{self.path} cannot be read: {error}") from error


class HubRows:
    """A data set of the Hub, streamed; images stay as their bytes."""

    quick = False

    def __init__(self, name: str, split: str, files: str = "", revision: str | None = None) -> None:
        self.name = name
        self._split, self._files, self._revision = split, files, revision

    def count(self) -> None:
        return None

    def read(self, start: int = 0) -> Iterator[Row]:
        import datasets

        options: dict[str, Any] = {"data_files": {self._split: self._files}} if self._files else {}
        try:
            stream = datasets.load_dataset(
                self.name, split=self._split, streaming=True, revision=self._revision, **options
            )
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

    def light(self, columns: Sequence[str]) -> Iterator[Row]:
        return self.read()


def open_files(files: Sequence[Path]) -> Rows:
    """Rows of data files of one kind. Raises DataError: none, or kinds mixed or unknown."""
    if not files:
        raise DataError("no data files were given")
    kinds = {_kind(path) for path in files}
    if len(kinds) > 1 or None in kinds:
        names = ", ".join(sorted({path.name for path in files})[:4])
        raise DataError(f"expected parquet, arrow, tar, jsonl, json or csv files of one kind, got {names}")
    kind = kinds.pop()
    if kind == "parquet":
        return ParquetRows(files)
    if kind == "arrow":
        return ArrowRows(files)
    if kind == "tar":
        return TarRows(files)
    if len(files) > 1:
        raise DataError(f"expected one table, got {len(files)} ({files[0].name}, …)")
    return TableRows(files[0])


def files_in(folder: Path, split: str = "") -> list[Path]:
    """The data files of a folder, of one kind, in order; of a split where file names tell it."""
    state = folder / "state.json"
    if state.is_file() and (folder / "dataset_info.json").is_file():  # `Dataset.save_to_disk`
        named = json.loads(state.read_text(encoding="utf-8")).get("_data_files", [])
        return [folder / entry["filename"] for entry in named]
    if split and (folder / split / "state.json").is_file():  # `DatasetDict.save_to_disk`
        return files_in(folder / split)
    for kind in ("parquet", "arrow", "tar"):
        found = sorted(path for path in folder.rglob("*") if _kind(path) == kind and path.is_file())
        found = [path for path in found if not any(part.startswith(".") for part in path.parts[1:])]
        if split:
            own = [p for p in found if split in p.name.split(".")[0].split("-") or split in p.parts[-2:-1]]
            found = own or found
        if found:
            return found
    return []


def _kind(path: Path) -> str | None:
    name = path.name.lower()
    if name.endswith(_TAR_ENDINGS):
        return "tar"
    return {
        ".parquet": "parquet",
        ".arrow": "arrow",
        ".jsonl": "table",
        ".ndjson": "table",
        ".json": "table",
        ".csv": "table",
        ".tsv": "table",
    }.get(path.suffix.lower())


def _put_member(row: Row, ending: str, content: bytes, where: str) -> None:
    column, _, extension = ending.rpartition(".")
    extension = extension.lower()
    if extension == "json" and not column:
        row.update(_json_object(content.decode("utf-8", "replace"), where))
    elif extension in ("txt", "text", "cls"):
        row[column or extension] = content.decode("utf-8", "replace").strip()
    elif extension == "json":
        row[column] = json.loads(content)
    else:
        row[column or extension] = content


def _json_rows(path: Path) -> Iterator[Row]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {error}") from error
    if isinstance(content, dict):  # {"1": {…}, "2": {…}}
        content = [{"__key__": key, **row} for key, row in content.items() if isinstance(row, dict)]
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise DataError(f"{path} holds no list of objects")
    yield from content


def _json_object(text: str, where: str) -> Row:
    try:
        row = json.loads(text)
    except ValueError as error:
        raise DataError(f"{where} is not JSON: {error}") from error
    if not isinstance(row, dict):
        raise DataError(f"{where} is not a JSON object")
    return row


def _parquet(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path} is not a readable parquet file: {error}") from error


def _guarded(batches: Iterator[Any], path: Path) -> Iterator[Any]:
    import pyarrow as pa

    try:
        yield from batches
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path} is damaged or cut short: {error}") from error


def _name_of(files: Sequence[Path]) -> str:
    return str(files[0]) if len(files) == 1 else f"{files[0].parent} ({len(files)} files)"
