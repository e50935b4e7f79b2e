"""Writing results: nothing is overwritten unasked, and nothing half-written is left behind.

Outputs are claimed before the work starts, so that a mistake costs no waiting.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from earl.errors import OutputError

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".bmp": "BMP", ".tiff": "TIFF"}


def claim(paths: Sequence[str | Path], *, force: bool) -> list[Path]:
    """Check that files can be written here, before any work is done.

    Makes missing folders. Raises OutputError: a file exists and `force` is not set, a path is a
    folder, or its folder cannot be made or written to.
    """
    claimed = [Path(path).expanduser() for path in paths]
    for path in claimed:
        if path.is_dir():
            raise OutputError(f"{path} is a folder; name a file in it")
        if path.exists() and not force:
            raise OutputError(f"{path} exists already; name another file, or pass --force to overwrite it")
    for folder in {path.parent for path in claimed}:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=folder, prefix=".earl-"):
                pass
        except OSError as error:
            raise OutputError(f"cannot write into {folder}: {error.strerror or error}") from error
    return claimed


def claim_images(path: str | Path, count: int, *, force: bool) -> list[Path]:
    """The files of `count` pictures: the path itself for one, else NAME-1.png, NAME-2.png, …

    Raises OutputError as `claim` does, and for a file type that is no picture.
    """
    path = Path(path)
    if path.suffix.lower() not in IMAGES:
        raise OutputError(f"{path} does not end in an image type; use one of {', '.join(IMAGES)}")
    names = [path] if count == 1 else [path.with_stem(f"{path.stem}-{i + 1}") for i in range(count)]
    return claim(names, force=force)


def write_image(image: Image, path: Path) -> None:
    """Write an image in the form its name says. Raises OutputError; an older file stays intact."""
    kind = IMAGES[path.suffix.lower()]
    _write(path, lambda file: image.save(file, format=kind, **({"quality": 95} if kind != "PNG" else {})))


def write_json(content: Any, path: Path) -> None:
    """Write JSON, indented. Raises OutputError; an older file stays intact."""
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    _write(path, lambda file: file.write(text.encode("utf-8")))


def _write(path: Path, fill: Callable[[IO[bytes]], Any]) -> None:
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    try:
        with os.fdopen(handle, "wb") as file:
            fill(file)
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}; free some space or name another folder"
        ) from error
    finally:
        Path(name).unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
