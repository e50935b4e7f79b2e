"""Writing results: nothing is overwritten unasked, and nothing half-written is left behind.

Outputs are claimed before the work starts, so that a mistake costs no waiting.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from earl.errors import OutputError
from earl.files import check_writable, new_file

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".bmp": "BMP", ".tiff": "TIFF"}


def claim(paths: Sequence[str | Path], *, force: bool) -> list[Path]:
    """Check that files can be written here, before any work is done.

    Raises OutputError: a file exists and `force` is not set, a path is a
    folder, or its folder cannot be made or written to.
    """
    claimed = [Path(path).expanduser() for path in paths]
    for path in claimed:
        if path.exists() and not force:
            raise OutputError(f"{path} exists already; name another file, or pass --force to overwrite it")
        check_writable(path)
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
    with new_file(path) as fresh:
        image.save(fresh, format=kind, **({"quality": 95} if kind != "PNG" else {}))
