"""Data files of a folder: their kind, their split, and the rows that they hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from earl.data.sources.layouts import open_layout
from earl.data.sources.rows import ColumnRows, Rows, TableRows
from earl.data.sources.schema import Schema
from earl.data.sources.splits import ALL, pick_split, split_of
from earl.data.sources.tars import TarRows
from earl.errors import DataError
from earl.files import files_below, read_object

TABLES = ("metadata.jsonl", "metadata.csv", "metadata.parquet", "metadata.json")
"""Names by which a folder of images says what it holds; `datasets` uses them too."""

_KINDS = {
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".jsonl": "table",
    ".ndjson": "table",
    ".json": "table",
    ".csv": "table",
    ".tsv": "table",
    ".tar": "tar",
    ".tgz": "tar",
}
_SHARDS = "shards.json"  # of our own


def open_path(schema: Schema, path: Path, split: str | None, default: str) -> tuple[Schema, Rows, Path]:
    """A source's files.

    Args:
        split: to be read, as the user named it; None reads `default`, or the only one that there is.

    Returns:
        The schema, with the split that the files tell; the rows; where relative paths begin.

    Raises:
        DataError: nothing there, files of several kinds, or not of this split.
    """
    try:
        path = path.expanduser()
        there, is_file = path.exists(), path.is_file()
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(f"{path} is no path: {error}") from error
    if not there:
        raise DataError(f"there is nothing at {path}; check the path of {schema.name}")
    if is_file:
        layout = open_layout(schema, path.parent, [path.stem]) if path.suffix == ".json" else None
        rows, folder = layout or (open_files([path]), path.parent)
        return schema, rows, folder
    if (path / _SHARDS).is_file():
        raise DataError(f"{path} holds tokenised shards, which have no images; give what they were made from")
    names = [split] if split else [default, "train", "test", "valid", "dev"]
    if layout := open_layout(schema, path, names):
        return schema, *layout
    named = [found[0] for name in schema.files if (found := sorted(path.rglob(name)))]
    if schema.files and len(named) == len(schema.files):
        return schema, open_files(named), named[0].parent
    files, told = find_files(path, split, default)
    if told and not schema.benchmark:
        schema = replace(schema, split=told)
    return schema, open_files(files), files[0].parent


def open_files(files: Sequence[Path]) -> Rows:
    """Rows of data files of one kind. Raises DataError: kinds mixed or unknown, or several tables."""
    kinds = {_kind(path) for path in files}
    if len(kinds) > 1 or None in kinds:
        names = ", ".join(sorted({path.name for path in files})[:4])
        raise DataError(f"expected parquet, arrow, tar, jsonl, json or csv files of one kind, got {names}")
    kind = kinds.pop()
    if kind != "table":
        return TarRows(files) if kind == "tar" else ColumnRows(files)
    if len(files) > 1:
        raise DataError(f"expected one table, got {len(files)} ({files[0].name}, …)")
    return TableRows(files[0])


def find_files(folder: Path, split: str | None, default: str) -> tuple[list[Path], str]:
    """The data files of a folder, of one kind, in order, and the split that their names tell.

    Only names below `folder` count; links are followed, names that begin with a dot passed over.

    Raises:
        DataError: there are none, several tables, or none of the split.
    """
    if (folder / "dataset_dict.json").is_file():  # `DatasetDict.save_to_disk`
        parts = [place for place in sorted(folder.iterdir()) if (place / "state.json").is_file()]
        told = {split_of([place.name], place.name.lower()): place for place in parts}
        if split == ALL:
            return [file for place in parts for file in _saved(place)], ""
        chosen = pick_split(told, split, default, str(folder))
        return (_saved(told[chosen]), chosen) if chosen in told else ([], "")
    if (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file():
        return _saved(folder), ""
    # Folders of shards were prepared from this one.
    found = [path for path in files_below(folder, but=_SHARDS) if _kind(path)]
    if any((folder / name).is_file() for name in TABLES):
        return _table(folder, found, split, default)
    for kind in ("parquet", "arrow", "tar"):
        files = [path for path in found if _kind(path) == kind and path.name not in TABLES]
        if files:
            return _of_split(files, folder, split, default)
    return _table(folder, found, split, default)


def _saved(folder: Path) -> list[Path]:
    """The files of `Dataset.save_to_disk`."""
    named = read_object(folder / "state.json").get("_data_files")
    if not isinstance(named, list) or not all(isinstance(entry, dict) for entry in named):
        raise DataError(f"{folder / 'state.json'} names no data files; save the data set again")
    files = [folder / Path(str(entry.get("filename"))).name for entry in named]
    for path in files:
        if not path.is_file():
            raise DataError(f"{path} is missing, though state.json beside it names it; copy the folder again")
    return files


def _of_split(files: Sequence[Path], folder: Path, split: str | None, default: str) -> tuple[list[Path], str]:
    if split == ALL:
        return list(files), ""
    wanted = (split or default).lower()
    by_split: dict[str, list[Path]] = {}
    for path in files:
        parts = [path.name.split(".")[0], *reversed(path.relative_to(folder).parts[:-1])]
        by_split.setdefault(split_of(parts, wanted), []).append(path)
    if by_split.keys() == {""}:
        return list(files), ""
    by_split.pop("", None)
    chosen = pick_split(by_split, split, default, str(folder))
    return by_split[chosen], chosen


def _table(folder: Path, found: Sequence[Path], split: str | None, default: str) -> tuple[list[Path], str]:
    """The one table of a folder, or of its split."""
    named = [path for path in found if path.name in TABLES]
    named = [path for path in named if path.parent == folder] or named
    loose = [path for path in found if path.parent == folder and _kind(path) == "table"]
    files, told = _of_split(named or loose, folder, split, default) if named or loose else ([], "")
    places = {path.parent for path in files}
    if named and len(places) == 1:  # metadata.jsonl before metadata.csv
        files = sorted(files, key=lambda path: TABLES.index(path.name))[:1]
    if len(files) > 1:
        shown = ", ".join(str(path.relative_to(folder)) for path in files[:4])
        raise DataError(f"{folder} has several tables ({shown}); name one of them")
    if not files:
        raise DataError(f"{folder} has no metadata.jsonl, and no parquet, arrow or tar files; add one")
    return files, told


def _kind(path: Path) -> str | None:
    return "tar" if path.name.lower().endswith(".tar.gz") else _KINDS.get(path.suffix.lower())
