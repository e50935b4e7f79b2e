"""Values of table cells: texts, image references, boxes, and what counts as missing."""

from __future__ import annotations

import ast
import base64
import binascii
import json
import math
import re
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from earl.data.sources.sample import ImageRef
from earl.errors import DataError
from earl.records import Box, Point

Row: TypeAlias = "dict[str, Any]"

PROBLEM = "__problem__"
"""In a row that could not be read: the reason, and nothing else is of use."""

_PARENTS = 5  # folders above a table in which its relative paths are looked for
_SHOWN = 80  # characters of a value in a message
_BASE64 = re.compile(r"[A-Za-z0-9+/\s]{64,}={0,2}\s*")
_BASE64_STARTS = ("iVBORw0KGgo", "/9j/", "R0lGOD", "UklGR", "Qk", "SUkq", "TU0A")  # PNG, JPEG, GIF, WebP, …


class Unreadable(str):
    """A cell that could not be read; the text says why."""

    __slots__ = ()


def is_missing(value: Any) -> bool:
    """Whether a cell holds nothing: None, an empty text or list, or what pandas has for it (NaN, NA, NaT)."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    if isinstance(value, float | np.floating) and math.isnan(value):
        return True
    return isinstance(value, (str, bytes, list, tuple, dict)) and len(value) == 0


def text_of(value: Any) -> str:
    """A cell as one stripped text, of a list the first; "" where it is missing or no text.

    Raises:
        DataError: half of a surrogate pair, or bytes that are not UTF-8.
    """
    while isinstance(value, (list, tuple)) and value:
        value = value[0]
    if is_missing(value) or isinstance(value, (dict, bytes, list, tuple)):
        return ""
    try:
        text = str(value).strip()
        text.encode()
    except ValueError as error:  # surrogates, or a number of thousands of digits
        raise DataError(
            f"a text is not valid UTF-8 ({str(error)[:_SHOWN]}); save the file in UTF-8"
        ) from error
    return text


def image_of(value: Any, folder: Path | None) -> ImageRef | None:
    """An image cell as bytes or a path; None where it is missing.

    Args:
        value: an opened image, bytes, a path, a `data:` address, base64, a dict with `bytes` or `path`, or a
            list of one of them.
        folder: where relative paths begin; they are looked for above it too. None: paths are refused,
            because the data came without files.

    Raises:
        DataError: something else.
    """
    if isinstance(value, (list, tuple)) and len(value) == 1:
        value = value[0]
    if isinstance(value, dict):
        if value and not value.keys() & {"bytes", "path"}:
            raise DataError(
                f"an image is a dict of {shown(', '.join(map(str, value)))}; expected bytes or path"
            )
        inside = value.get("bytes")
        value = value.get("path") if is_missing(inside) else inside
    if is_missing(value):
        return None
    if isinstance(value, Image.Image):
        return value
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, (list, tuple)):
        raise DataError(f"an image is a list of {len(value)}; expected one image")
    if not isinstance(value, (str, Path)):
        raise DataError(f"an image is {type(value).__name__}; expected bytes or a path")
    if isinstance(value, str) and (value.startswith("data:") or _is_base64(value)):
        return _decoded(value)
    if str(value).startswith(("https://", "http://")):
        raise DataError(f"an image is the address {shown(value)}; nothing is fetched: download it first")
    if folder is None:
        raise DataError(f"an image is the path {shown(value)}, and the data set holds no files")
    return _find(value, folder)


def shown(value: Any) -> str:
    """A value as messages show it: not too long, no raw control characters."""
    text = repr(str(value))
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…'"


def read_boxes(value: Any) -> tuple[Box, ...]:
    """Boxes from a list of [left, top, right, bottom], one such list, or either as text.

    Raises:
        DataError: something else, or a box whose right is left of its left.
    """
    if is_missing(value):
        return ()
    try:
        return _boxes(_literal(value) if isinstance(value, str) else value)
    except RecursionError as error:
        raise DataError("boxes are nested too deeply") from error


def read_points(value: Any) -> tuple[Point, ...]:
    """Keypoints from a list of [x, y], one such pair, or either as text.

    Raises:
        DataError: something else.
    """
    if is_missing(value):
        return ()
    value = _literal(value) if isinstance(value, str) else value
    value = value.tolist() if hasattr(value, "tolist") else value
    pairs = value if isinstance(value, (list, tuple)) and isinstance(value[0], (list, tuple)) else [value]
    for pair in pairs:
        numbers = isinstance(pair, (list, tuple)) and all(isinstance(part, (int, float)) for part in pair)
        if not numbers or len(pair) != 2 or not all(math.isfinite(part) and 0 <= part < 1e9 for part in pair):
            raise DataError(f"keypoints are {shown(value)}; expected a list of [x, y]")
    return tuple((float(x), float(y)) for x, y in pairs)


def _boxes(value: Any) -> tuple[Box, ...]:
    if isinstance(value, dict):
        value = list(value.values())
    value = value.tolist() if hasattr(value, "tolist") else value
    if not isinstance(value, (list, tuple)):
        raise DataError(f"boxes are {shown(value)}; expected a list of [left, top, right, bottom]")
    if len(value) == 4 and all(isinstance(side, (int, float)) for side in value):
        if not all(math.isfinite(side) and abs(side) < 1e9 for side in value):
            raise DataError(f"the box {shown(value)} has sides that are no pixels")
        left, top, right, bottom = map(float, value)
        if not (right > left and bottom > top):
            raise DataError(f"the box {list(value)} is empty; expected [left, top, right, bottom]")
        return (Box(left, top, right, bottom),)
    if any(not isinstance(part, (list, tuple, dict)) for part in value):
        raise DataError(f"boxes are {shown(value)}; expected a list of [left, top, right, bottom]")
    return tuple(box for part in value for box in _boxes(part))


def _literal(text: str) -> Any:
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
    raise DataError(f"boxes are {shown(text)}; expected a list of four numbers each")


def _is_base64(text: str) -> bool:
    return text.startswith(_BASE64_STARTS) and _BASE64.fullmatch(text) is not None


def _decoded(text: str) -> bytes:
    if text.startswith("data:"):
        head, comma, text = text.partition(",")
        if not comma or not head.endswith(";base64"):
            raise DataError(f"an image is the address {shown(head)}; expected data:image/…;base64,…")
    try:
        return base64.b64decode(text, validate=False)
    except (binascii.Error, ValueError) as error:
        raise DataError(f"an image is text that is not base64: {error}") from error


def _find(value: str | Path, folder: Path) -> Path:
    """The file of a path as a row gives it. Raises DataError: nothing on a disk is called so."""
    try:
        path = Path(value).expanduser()
        places = [folder, *list(folder.absolute().parents)[:_PARENTS]]  # joining an absolute path drops them
        ways = [path, *([Path(*path.as_posix().split("\\"))] if "\\" in str(path) else [])]  # of Windows
        there = (place / way for way in ways for place in places if (place / way).is_file())
        found = next(there, folder / path)
        if found.exists() and not found.is_file():  # a folder, or a pipe that would never end
            raise DataError(f"an image is {shown(value)}, which is no file")
        return found
    except DataError:
        raise
    except (OSError, ValueError, RuntimeError) as error:  # too long, a zero byte, half a pair, no such user
        raise DataError(f"an image is {shown(value)}, which is neither a path nor an image") from error
