"""Atomic writes of files and folders; text, JSON and TOML read with one clear error.

Everything is written under a hidden name beside its place, flushed to the disk, and renamed. A kill, a
power cut or a full disk at any moment leaves what was there before.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

from earl.errors import DataError, EarlError, OutputError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PARTIAL = ".partial-"  # how the names of unfinished files and folders begin
TABLES = (".jsonl", ".csv", ".tsv")  # lists of rows
_ADVICE = {
    errno.ENOSPC: "free some space and run the same command again",
    errno.EDQUOT: "free some space and run the same command again",
    errno.ENAMETOOLONG: "choose a shorter name",
}


def check_writable(path: str | Path, *, folder: bool = False) -> Path:
    """Check that a file, or files in a folder, can be written, before any work is done.

    Nothing is made: where the place does not exist yet, the nearest folder above it is tried.

    Args:
        path: `~` is expanded.
        folder: `path` is a folder for several files.

    Returns:
        The path, expanded.

    Raises:
        OutputError: it cannot be written. The message says why: a file stands where a folder is needed
            or the other way round, a link points to nothing, the folder is read-only.
    """
    path = expand(path)
    near = path if folder else path.absolute().parent
    try:
        with suppress(FileNotFoundError, NotADirectoryError):
            os.stat(path)  # a name that is too long, a link to itself
        if not folder and path.is_dir():
            raise OutputError(f"{path} is a folder; name a file in it")
        while not os.path.lexists(near):
            near = near.parent
        if not near.is_dir():
            raise OutputError(_no_folder(near))
        fresh = _beside(near / "probe")
        fresh.touch(exist_ok=False)
        fresh.unlink()
    except EarlError:
        raise
    except OSError as error:
        raise output_error(path, error) from error
    return path


def claim(paths: Sequence[str | Path], *, force: bool) -> list[Path]:
    """Check, before any work is done, that results can be written to these files.

    Returns:
        The paths, expanded.

    Raises:
        OutputError: a file exists and `force` is not set, or it cannot be written (`check_writable`).
    """
    claimed = [check_writable(path) for path in paths]
    for path in claimed:
        if not force and os.path.lexists(path):
            raise OutputError(f"{path} exists already; name another file, or pass --force to overwrite it")
    return claimed


def expand(path: str | Path) -> Path:
    """The path with `~` expanded. Raises OutputError: there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise OutputError(f"{path}: {error}; write the folder out") from error


def files_below(folder: Path, *, but: str = "") -> list[Path]:
    """Files of a folder and below it, sorted; links are followed. Hidden names, lost+found and folders that
    hold a file called `but` are left out. Raises PermissionError: a folder that may not be listed."""
    seen: set[str] = set()
    found: list[Path] = []
    errors: list[OSError] = []
    for place, folders, names in os.walk(folder, onerror=errors.append, followlinks=True):
        real = os.path.realpath(place)
        if real in seen or but in names:  # seen: a link to a folder above
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if name != "lost+found" and not name.startswith(".")]
        found += [Path(place) / name for name in names if not name.startswith(".")]
    if shut := [error for error in errors if isinstance(error, PermissionError)]:
        raise shut[0]
    return sorted(path for path in found if path.is_file())


@contextmanager
def new_file(path: str | Path, *, durable: bool = True) -> Iterator[Path]:
    """A hidden path to write one file at, which takes the place of `path` when the block ends.

    Missing folders are made. A link at `path` is replaced; what it points to is left.

    Args:
        durable: flushed to the disk; without it a power cut may leave an empty file.

    Raises:
        OutputError: the file cannot be written; an older one is as before.
    """
    path = expand(path)
    fresh = _beside(path)
    with writing(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield fresh
            if durable:
                sync(fresh)
            os.replace(fresh, path)
            if durable:
                sync(path.parent)
        finally:
            fresh.unlink(missing_ok=True)


@contextmanager
def new_folder(path: str | Path, *, kept: str = "") -> Iterator[Path]:
    """A hidden folder to fill, which takes the place of `path` when the block ends.

    A link to a folder is followed. A kill between the two renames leaves no folder of this name.

    Args:
        kept: what a failed write leaves intact, for the message.

    Raises:
        OutputError: the folder cannot be written; the older one is as before.
    """
    path = expand(path)
    with writing(path, kept=kept):
        if os.path.lexists(path) and not path.is_dir():
            raise OutputError(_no_folder(path))
        place = Path(os.path.realpath(path)) if path.is_dir() else path.absolute()
        place.parent.mkdir(parents=True, exist_ok=True)
        fresh, old = _beside(place), _beside(place)
        try:
            fresh.mkdir()
            yield fresh
            _settle(fresh)
            if place.exists():
                os.replace(place, old)
                try:
                    os.replace(fresh, place)
                except OSError:
                    os.replace(old, place)
                    raise
            else:
                os.replace(fresh, place)
            sync(place.parent)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)


def write_bytes(path: str | Path, content: bytes, *, durable: bool = True) -> Path:
    """Write a file whole or not at all; an older file stays intact. Raises OutputError."""
    with new_file(path, durable=durable) as fresh:
        fresh.write_bytes(content)
    return Path(path)


def write_text(path: str | Path, text: str) -> Path:
    """As `write_bytes`, in UTF-8. What UTF-8 cannot encode, such as a lone surrogate, is escaped."""
    return write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_json(path: str | Path, content: Any, *, indent: int | None = 1) -> Path:
    """As `write_bytes`, one JSON document."""
    return write_text(path, json.dumps(content, indent=indent, ensure_ascii=False) + "\n")


def append_lines(path: str | Path, records: Iterable[Any], *, durable: bool = True) -> None:
    """Add JSON records to a file, one a line; flushed to the disk when this returns, if `durable`.

    Raises OutputError: they cannot be written; the file is as before.
    """
    path = expand(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            size = file.tell()
            try:
                file.write(json_lines(records).encode("utf-8", "backslashreplace"))
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            except OSError:
                os.truncate(path, size)
                raise


def check_ends(path: str | Path, *, error: type[EarlError] = DataError) -> None:
    """Refuse a pipe, a device or a file of the kernel, which may never end; /dev/stdin and /dev/fd/… are a
    shell's own.

    Raises:
        error: it is one.
    """
    place, given = Path(path), str(path).startswith(("/dev/fd/", "/dev/stdin"))
    kernel = os.path.realpath(path).startswith(("/proc/", "/sys/"))
    if not given and (kernel or (place.exists() and not (place.is_file() or place.is_dir()))):
        raise error(f"{path} is a pipe or a device, which may never end; give a file")


def read_text(path: str | Path, *, error: type[EarlError] = DataError) -> str:
    """A person's text file: UTF-8 with or without a byte order mark.

    Raises:
        error: it is missing, unreadable, not UTF-8, or a pipe or device (`check_ends`).
    """
    try:
        check_ends(path, error=error)
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as cause:
        raise error(f"{path} is not UTF-8 text ({cause.reason} at byte {cause.start})") from cause
    except OSError as cause:
        raise error(f"{path} cannot be read: {cause.strerror or cause}") from cause


def read_json(path: str | Path, *, error: type[EarlError] = DataError) -> Any:
    """One JSON document.

    Raises:
        error: it is missing, unreadable, not JSON, nested too deeply, or has a number too long to read.
    """
    return parse_json(read_text(path, error=error), str(path), error=error)


def read_object(path: str | Path, *, error: type[EarlError] = DataError) -> dict[str, Any]:
    """As `read_json`, where the document must be an object."""
    content = read_json(path, error=error)
    if not isinstance(content, dict):
        raise error(f"{path} holds a JSON {type(content).__name__}, expected an object")
    return content


def read_lines(path: str | Path) -> Iterator[tuple[int, Any]]:
    """JSON Lines: each record with the number of its line, from 1. Blank lines are passed over.

    Raises:
        DataError: the file cannot be read, or a line is not JSON.
    """
    # Not `splitlines`, which also parts lines at characters that JSON texts may hold.
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if line.strip():
            yield number, parse_json(line, f"{path}:{number}")


def parse_json(text: str | bytes, name: str, *, error: type[EarlError] = DataError) -> Any:
    """JSON from a text; `name` says in the error where it stood. Raises `error` as `read_json` does."""
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8-sig")
        return json.loads(text.removeprefix("\ufeff"))
    except RecursionError as cause:
        raise error(f"{name} is nested too deeply to be read") from cause
    except ValueError as cause:  # not JSON, not UTF-8, or a number of thousands of digits
        raise error(f"{name} is not JSON: {cause}") from cause


def parse_toml(text: str, name: str, *, error: type[EarlError] = DataError) -> dict[str, Any]:
    """TOML from a text; `name` says in the error where it stood. Raises `error`."""
    try:
        if any(part.count(".") > 1000 for part in re.split(r"[^\w. \t\"'-]", text)):
            raise RecursionError  # such a key takes tomllib time and memory in the square of its parts
        return tomllib.loads(text)
    except RecursionError as cause:
        raise error(f"{name} is nested too deeply to be read") from cause
    except ValueError as cause:  # not TOML, or a number with too many digits
        raise error(f"{name} is not valid TOML: {cause}") from cause


@contextmanager
def writing(path: str | Path, *, kept: str = "") -> Iterator[None]:
    """An OSError inside, or a full disk as safetensors tells it, becomes an OutputError."""
    try:
        yield
    except EarlError:  # some of them are OSErrors too, and say it better
        raise
    except OSError as error:
        raise output_error(path, error, kept=kept) from error
    except Exception as error:
        if type(error).__name__ != "SafetensorError":
            raise
        raise OutputError(
            f"cannot write {path}: {error}; {kept or 'what was there before is intact'}"
        ) from error


def output_error(path: str | Path, error: OSError, *, kept: str = "") -> OutputError:
    """The one sentence for a failed write."""
    near = Path(path).absolute()
    while not os.path.lexists(near):
        near = near.parent
    if near != Path(path).absolute() and not near.is_dir():
        return OutputError(_no_folder(near))
    other = error.filename if isinstance(error.filename, str) and PARTIAL not in error.filename else None
    about = f" ({other})" if other and Path(other) != Path(path) else ""
    advice = _ADVICE.get(error.errno or 0, "choose another place or mend its permissions")
    why = error.strerror or error
    return OutputError(
        f"cannot write {path}: {why}{about}; {kept or 'what was there before is intact'}, {advice}"
    )


def checksum(path: str | Path, *, most: int | None = None, pieces: int = 256) -> str:
    """Checksum of a file's bytes, 128 bits in hex. For a file longer than `most` bytes: of its size and of
    `most` bytes in pieces spread evenly over it, first and last bytes included. Raises OSError."""
    digest = blake2b(digest_size=16)
    with Path(path).open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if most is not None and size > most:
            digest.update(f"{size}\0".encode())
            for number in range(pieces):
                file.seek((size - most // pieces) * number // (pieces - 1))
                digest.update(file.read(most // pieces))
            return digest.hexdigest()
        while part := file.read(2**22):
            digest.update(part)
    return digest.hexdigest()


def same_digest(was: Any, now: str) -> bool:
    """Whether a noted digest is `now`, or the part of it before each dot, which earlier versions wrote."""
    return was in (now, re.sub(r"\.[0-9a-f]+", "", now))


def clear_partial(folder: str | Path, *parts: str) -> None:
    """Remove what killed writes left in a folder, or in those folders of it that are named."""
    for path in (path for part in parts or ("",) for path in (Path(folder) / part).glob(f"{PARTIAL}*")):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Ask the disk to have a file's bytes, or a folder's names."""
    if os.name == "nt" and path.is_dir():  # folders cannot be opened there
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _settle(folder: Path) -> None:
    """Flush a filled folder. Files become as readable as it is: safetensors writes for the owner alone."""
    mode = folder.stat().st_mode & 0o666
    for path in [*folder.rglob("*"), folder]:
        if path.is_symlink():
            continue
        if path.is_file():
            path.chmod(mode)
        sync(path)


def _beside(path: Path) -> Path:
    """A hidden name in the same folder, which nothing else has; short enough where the name is long."""
    return path.with_name(f"{PARTIAL}{secrets.token_hex(4)}-{path.name[-60:]}")


def _no_folder(path: Path) -> str:
    if path.is_symlink() and not path.exists():
        return f"{path} is a link to nothing; remove it, or make what it points to"
    return f"{path} is a file where a folder is needed; name another folder"


def json_lines(records: Iterable[Any]) -> str:
    """JSON Lines: the records as text, each on a line of its own."""
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
