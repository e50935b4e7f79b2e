"""The Jinja2 environment of the pages; numbers and images as their templates show them."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PackageLoader, StrictUndefined
from PIL import Image

from earl.records import Estimate

SIDE = 256  # px, of the longer side of an image on a page
SMALL = 128  # px; smaller ones are shown with their pixels, without loss


def render(template: str, *, folder: Path | None = None, **values: Any) -> str:
    """A page from its template, of the package or of a folder. Everything that a page is given is escaped."""
    own = PackageLoader("earl.pages")
    environment = Environment(
        loader=own if folder is None else ChoiceLoader([FileSystemLoader(folder), own]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    environment.tests["estimate"] = lambda cell: isinstance(cell, Estimate)
    return environment.get_template(template).render(**values)


def image_url(image: Image.Image) -> str:
    """An image as a data URL: PNG where it is small, else WebP of at most 256 px a side."""
    buffer = io.BytesIO()
    if max(image.size) <= SMALL:
        image.save(buffer, "PNG", optimize=True)
        return _data_url("png", buffer.getvalue())
    image = image.copy()
    image.thumbnail((SIDE, SIDE))
    image.save(buffer, "WEBP", quality=82)
    return _data_url("webp", buffer.getvalue())


def file_url(path: Path) -> str:
    """A PNG file as a data URL, byte for byte."""
    return _data_url("png", path.read_bytes())


def axis_numbers(values: Sequence[float]) -> list[str]:
    """The numbers beside an axis, all written in one way."""
    if not any(0 < abs(value) < 1e-3 for value in values):
        return [number(value) for value in values]
    parts = [f"{value:.3e}".partition("e") for value in values]
    return [f"{float(digits):g}e{int(power)}" if float(digits) else "0" for digits, _, power in parts]


def number(value: float) -> str:
    """A number as a tile or a legend shows it."""
    if value == 0:
        return "0"
    if abs(value) >= 10_000 or abs(value) < 1e-3:
        return f"{value:.2g}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value:.4g}"


def _data_url(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64," + base64.b64encode(content).decode("ascii")
