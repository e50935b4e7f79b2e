"""Bounds on what a request may hold: bytes and pixels are counted before anything is decoded."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from PIL import Image
from starlette.requests import Request

from earl.config.service import ServerSettings
from earl.errors import EarlError
from earl.service.wire import ApiError, too_late
from earl.vision.images import open_image

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")


PIXEL = 4  # bytes
LARGE_IMAGES = 8  # images of the most pixels that are held at once

Take = Callable[[int], None]


class Room:
    """Bytes that all requests in progress hold together: bodies as they come, and decoded images.

    Args:
        max_pixels: of one image.
    """

    def __init__(self, max_pixels: int) -> None:
        self.limit, self.held, self._lock = LARGE_IMAGES * PIXEL * max_pixels, 0, threading.Lock()

    @contextmanager
    def holding(self) -> Iterator[Take]:
        """A function that takes so many bytes until the block ends; it raises ApiError 429 where others
        hold too many."""
        taken = 0

        def take(count: int) -> None:
            nonlocal taken
            with self._lock:
                if self.held > taken and self.held + count > self.limit:
                    raise ApiError(
                        "the server holds as many images as it can; ask again later",
                        429,
                        code="overloaded",
                        retry_after=1,
                    )
                self.held += count
                taken += count

        try:
            yield take
        finally:
            with self._lock:
                self.held -= taken


def bounded(request: Request, settings: ServerSettings, take: Take) -> Request:
    """The same request, whose body raises ApiError: 413 once it is longer than `max_bytes`, 504 where it is
    not whole by the deadline, 499 where the client leaves in the middle of it. Each part of it is taken from
    a `Room`."""
    limit, by = settings.max_bytes, time.monotonic() + settings.deadline
    too_long = ApiError(
        f"the request is larger than {limit:,} bytes; send a smaller image", 413, code="request_too_large"
    )
    try:
        if int(request.headers.get("content-length", "0")) > limit:
            raise too_long
    except ValueError:  # no number: what comes is counted anyway
        pass
    received = 0

    async def receive() -> Any:
        nonlocal received
        try:
            message = await asyncio.wait_for(request.receive(), by - time.monotonic())
        except asyncio.TimeoutError as error:  # TimeoutError itself only from Python 3.11 on
            raise too_late(settings.deadline) from error
        if message["type"] == "http.disconnect":
            raise ApiError("the client left", 499, code="client_closed_request")
        received += len(message.get("body", b""))
        if received > limit:
            raise too_long
        take(len(message.get("body", b"")))
        return message

    return Request(request.scope, receive)


async def read_json(request: Request) -> Any:
    """The JSON body. Raises ApiError 400 where it is none, nested too deeply, or has a name twice."""
    try:
        return await asyncio.to_thread(json.loads, await request.body(), object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise ApiError(f"the body is not JSON: {error}", code="invalid_json") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{name[:80]!r} is given twice")
        found[name] = value
    return found


def read_data_url(url: Any, field: str) -> bytes:
    """The bytes in a base64 data URL.

    Args:
        url: a text, or an object with the text as its `url`.
        field: of the request, for the message.

    Raises:
        ApiError: 400, it is none; nothing is fetched.
    """
    if isinstance(url, dict):
        url = url.get("url")
    head, comma, data = url.partition(",") if isinstance(url, str) else ("", "", "")
    if not (comma and head.startswith("data:") and head.endswith(";base64")):
        raise ApiError(
            f"{field} is not a base64 data URL; nothing is fetched from elsewhere",
            param=field,
            code="invalid_image_url",
        )
    try:
        return base64.b64decode(data, validate=True)
    except ValueError as error:  # also text that is not ASCII
        raise ApiError(f"{field} is not valid base64", param=field, code="invalid_base64") from error


def decode_image(data: bytes, field: str, max_pixels: int, take: Take) -> Image.Image:
    """An image as `open_image` gives it. Slow, so it runs in a thread.

    Raises:
        ApiError: as `check_pixels`; 400, it cannot be read.
    """
    check_pixels(data, field, max_pixels, take)
    try:
        return open_image(data)
    except EarlError as error:
        raise ApiError(str(error), param=field, code="invalid_image") from error


def check_pixels(data: bytes, field: str, max_pixels: int, take: Take) -> None:
    """Take room for the pixels that the header says; nothing is decoded yet.

    Raises:
        ApiError: 400, no image or too many pixels; 429, no room.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                width, height = image.size
    except Exception as error:  # decoders fail in many ways
        raise ApiError(
            f"{field} is not an image that can be read; send a PNG, JPEG or WebP",
            param=field,
            code="invalid_image",
        ) from error
    if width * height > max_pixels:
        raise ApiError(
            f"{field} has {width}x{height} pixels, at most {max_pixels:,} are accepted",
            param=field,
            code="image_too_large",
        )
    take(PIXEL * width * height)
