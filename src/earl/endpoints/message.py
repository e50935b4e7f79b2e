"""Questions to a model: template files with places for values and images, and images as data URLs."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earl.errors import ConfigError
from earl.files import read_text

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, slots=True)
class Slot:
    """The place of an image in a question."""

    name: str


def read_templates(own: Path, folder: str | Path | None, names: Sequence[str]) -> dict[str, str]:
    """The text of those of `NAME.txt` that there are: of a person's folder, or our own.

    Args:
        own: our folder.
        folder: a person's, in its place.

    Raises:
        ConfigError: no such folder, or a file that is empty or not UTF-8 text.
    """
    root = own if folder is None else Path(folder).expanduser()
    if not root.is_dir():
        raise ConfigError(f"{root} is no folder; the prompts are a folder with {names[0]}.txt and the like")
    found = {name: root / f"{name}.txt" for name in names}
    texts = {name: read_text(path, error=ConfigError) for name, path in found.items() if path.is_file()}
    for name, text in texts.items():
        if not text.strip():
            raise ConfigError(f"{found[name]} is empty; write the question there")
    return texts


def fill(template: str, values: Mapping[str, str], images: Sequence[str] = ()) -> list[str | Slot]:
    """A template's words and images in order.

    `<NAME>` of a value is replaced by it, `<NAME>` of an image is a slot; what a value says is never read
    as a place.
    """
    places = re.compile("<(" + "|".join(map(re.escape, [*values, *images])) + ")>")
    parts: list[str | Slot] = []
    words = ""
    for number, piece in enumerate(places.split(template)):
        if number % 2 and piece in images:
            parts += [words.strip(), Slot(piece)]
            words = ""
        else:
            words += values[piece] if number % 2 else piece
    return [part for part in [*parts, words.strip()] if part]


def content_of(parts: Sequence[str | Slot], images: Mapping[str, str]) -> list[dict[str, Any]]:
    """A message's parts as the API takes them. `images` has a data URL for each slot."""
    return [
        {"type": "text", "text": part}
        if isinstance(part, str)
        else {"type": "image_url", "image_url": {"url": images[part.name]}}
        for part in parts
    ]


def data_url(image: Image, jpeg: int = 0) -> str:
    """An image in a data URL: JPEG of that quality, or lossless PNG where it is 0."""
    buffer = io.BytesIO()
    kind, options = ("jpeg", {"quality": jpeg}) if jpeg else ("png", {"compress_level": 1})
    image.convert("RGB").save(buffer, kind, **options)
    return f"data:image/{kind};base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
