"""Checksums of a source's data: a folder made from it keeps them, and a resumed command compares them."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from itertools import islice
from pathlib import Path

from earl.data.sources.cells import image_of
from earl.data.sources.rows import Rows
from earl.data.sources.sample import image_bytes
from earl.data.sources.schema import Schema
from earl.errors import DataError
from earl.files import checksum

_FIRST = 4  # rows that tell a source of large files from another of the same name
_SMALL = 2**26  # bytes of all files together that are read whole
_IMAGE = 2**16  # bytes read of an image's file at most, in _PIECES
_PIECES = 4
_IMAGES = ("source", "target", "mask", "other")


def contents_of(rows: Rows, schema: Schema, folder: Path | None) -> str:
    """Checksum of the files' names and sizes and of the first rows; not of where or how old they are.

    Where the files are small, a dot and a second one follow: of all their bytes, and of the images beside
    them that their rows name (the whole file to 64 KiB, else its size and pieces spread over it). Earlier
    versions wrote the first one alone. `earl.files.same_digest` takes that for the same data, so what they
    began goes on, guarded as it was then.
    """
    digest = hashlib.blake2b(digest_size=8)
    sizes = [file.stat().st_size for file in rows.files]
    for file, size in zip(rows.files, sizes, strict=True):
        digest.update(f"{file.name}\0{size}\0".encode("utf-8", "surrogateescape"))
    for row in islice(rows.read(), _FIRST):
        with suppress(DataError):
            digest.update(schema.text("instruction", row).encode("utf-8", "replace"))
        for name in ("source", "target"):
            with suppress(DataError, OSError, ValueError):
                image = image_of(schema.value(name, row), folder)
                digest.update(b"" if image is None else image_bytes(image))
    first = digest.hexdigest()
    return f"{first}.{_all_of(rows, schema, folder)}" if sizes and sum(sizes) <= _SMALL else first


def _all_of(rows: Rows, schema: Schema, folder: Path | None) -> str:
    """Checksum of small files and of the images that they name."""
    digest = hashlib.blake2b("".join(map(checksum, rows.files)).encode(), digest_size=8)
    if not rows.quick or folder is None:  # the images are inside
        return digest.hexdigest()
    seen: dict[Path, str] = {}
    columns = sorted({column for name in _IMAGES for column in schema.columns.get(name, ())})
    with suppress(DataError):  # a file that is cut short; reading its samples says so
        for row in rows.read(columns=columns):
            for name in _IMAGES:
                with suppress(DataError):
                    image = image_of(schema.value(name, row), folder)
                    if isinstance(image, Path) and image not in seen:
                        seen[image] = _image(image)
    digest.update("".join(seen.values()).encode())
    return digest.hexdigest()


def _image(path: Path) -> str:
    try:
        return checksum(path, most=_IMAGE, pieces=_PIECES)
    except (OSError, ValueError):
        return "missing"
