"""Seeded fuzzer of requests to both services, in process: a sentence for each, never a mistake of ours.

The whole run is marked `long`; a seed of one's own is given by EARL_FUZZ_SEED, and is printed.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
import random
import struct
import time
import zlib
from typing import Any

import pytest
from PIL import Image
from tests.fuzz.strange import TEXTS, cut, damage, seeded, strange

pytest.importorskip("fastapi")
from edit_session import Inverter

from earl.config.service import ServiceSettings
from earl.service.edits import EditService
from earl.service.verifier import VerifierService
from earl.world.verifier.scene import SceneVerifier

COUNTS = [120, pytest.param(2500, marks=pytest.mark.long)]
SECONDS = 5.0  # of the processor for one answer
PATHS = ("/v1/images/edits", "/v1/chat/completions", "/v1/models", "/health", "/ready", "/metrics", "/v1")
LOGS = ("earl.service.wire", "asyncio", "concurrent.futures")  # where tracebacks would be
REASONS = {400, 401, 404, 405, 413, 415, 422, 429, 499}


def declared(width: int, height: int) -> bytes:
    """A PNG whose header says so many pixels, with next to none behind it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    rows = zlib.compress(bytes(10_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def image_bytes(draw: random.Random) -> bytes:
    image = Image.effect_noise((draw.choice((8, 24, 40)), draw.choice((8, 24))), 60)
    file = io.BytesIO()
    image.convert(draw.choice(("RGB", "L", "RGBA"))).save(file, draw.choice(("PNG", "WEBP", "TIFF")))
    how = draw.random()
    if how < 0.1:
        return declared(draw.choice((9999, 2**31 - 1)), draw.choice((9999, 1)))
    return cut(draw, file.getvalue()) if how < 0.3 else file.getvalue()


def data_url(draw: random.Random) -> str:
    data = base64.b64encode(image_bytes(draw)).decode()
    if draw.random() < 0.2:
        data = draw.choice((data[:-1], data + "äöü", data.replace("A", "\n"), "", "=" * 9, data + "=" * 4))
    head = draw.choice(("data:;base64,", "data:image/svg+xml;base64,", "http://127.0.0.1:9/,", "file:///,"))
    return ("data:image/png;base64," if draw.random() < 0.8 else head) + data


def text(draw: random.Random) -> str:
    said = ("recolor the red car to blue", "Editing instruction: remove the tree", "instruction" * 3000)
    return draw.choice((*said, "add a red car " * 2000, "not " * 9000, "(" * 20_000, *TEXTS))


def edit_body(draw: random.Random) -> dict[str, Any]:
    body: dict[str, Any] = {"prompt": text(draw), "image": data_url(draw), "n": draw.randint(1, 3)}
    body |= {"seed": draw.choice((0, 7)), "stream": draw.random() < 0.2, "partial_images": draw.randint(0, 3)}
    if draw.random() < 0.2:
        body["mask"] = data_url(draw)
    return body


def chat_body(draw: random.Random) -> dict[str, Any]:
    parts: list[Any] = [{"type": "text", "text": text(draw)}]
    parts += [
        {"type": "image_url", "image_url": {"url": data_url(draw)}}
        for _ in range(draw.choice((0, 1, 2, 2, 3)))
    ]
    draw.shuffle(parts)
    return {"model": "earl-scene", "messages": [{"role": "user", "content": parts}], "n": draw.randint(1, 2)}


def form_body(draw: random.Random, kind: str) -> bytes:
    """A multipart form; `kind` is its boundary."""
    form = []
    for name, value in edit_body(draw).items():
        file = name in ("image", "mask") and draw.random() < 0.9
        shown = image_bytes(draw) if file else str(value).encode("utf-8", "replace")
        if draw.random() < 0.1:
            name, shown = draw.choice(TEXTS), str(strange(draw)).encode("utf-8", "replace")
        head = f'Content-Disposition: form-data; name="{name}"' + ('; filename="a"' if file else "")
        form.append(f"--{kind}\r\n{head}\r\n\r\n".encode("utf-8", "replace") + shown + b"\r\n")
    return b"".join(form) + f"--{kind}--\r\n".encode()


def request(draw: random.Random) -> tuple[dict[str, Any], list[bytes]]:
    """An ASGI scope and the parts of its body."""
    path = PATHS[draw.choice((0, 0, 0, 1, 1, 1, *range(len(PATHS))))]
    kind = "application/json"
    body = edit_body(draw) if path == PATHS[0] else chat_body(draw)
    content = json.dumps(damage(draw, body) if draw.random() < 0.6 else body).encode()
    if path == PATHS[0] and draw.random() < 0.5:
        kind, content = "multipart/form-data; boundary=cut", form_body(draw, "cut")
    if draw.random() < 0.1:
        content = draw.choice((b"[" * 100_000, b'{"n": ' + b"9" * 6000 + b"}", b"\xff", b"{}", b"null", b""))
    if draw.random() < 0.1:
        content = cut(draw, content)
    if draw.random() < 0.05:
        kind = draw.choice(("text/plain", "multipart/form-data", "", "application/json; charset=utf-7"))
    headers = [(b"content-type", kind.encode("latin-1", "replace"))]
    if draw.random() < 0.1:
        length = draw.choice((b"0", b"-1", b"\xb2", b"9" * 5000, b"x", str(2**40).encode()))
        headers.append((b"content-length", length))
    if draw.random() < 0.1:
        headers.append((draw.choice((b"authorization", b"x-request-id", b"expect")), draw.randbytes(20)))
    method = "POST" if path in PATHS[:2] and draw.random() < 0.97 else draw.choice(("GET", "PUT", "HEAD"))
    path += draw.choice(("", "", "", "", "", "/", "/x", "/../..", "?a=%", "/\udcff"))
    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method}
    scope |= {"path": path, "raw_path": b"/", "query_string": b"", "root_path": "", "scheme": "http"}
    scope |= {"headers": headers, "client": ("127.0.0.1", 9), "server": ("127.0.0.1", 80)}
    places = sorted(draw.randrange(len(content) + 1) for _ in range(draw.randint(0, 3)))
    return scope, [content[a:b] for a, b in zip([0, *places], [*places, None], strict=True)]


async def send(app: Any, scope: dict[str, Any], parts: list[bytes], leaves: int | None) -> tuple[int, bytes]:
    """Status and body of the answer; a client that leaves goes after so many parts."""
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": part, "more_body": place < len(parts) - 1}
        for place, part in enumerate(parts)
    ][:leaves]
    status, body = 0, b""

    async def receive() -> dict[str, Any]:
        if not messages:
            if leaves is None:
                await asyncio.sleep(60)
            return {"type": "http.disconnect"}
        return messages.pop(0)

    async def answer(message: dict[str, Any]) -> None:
        nonlocal status, body
        status = message.get("status", status)
        body += message.get("body", b"")

    await app(scope, receive, answer)
    return status, body


@pytest.mark.parametrize("count", COUNTS)
def test_requests(count: int, caplog) -> None:
    draw = seeded("requests")
    settings = ServiceSettings(max_bytes=2**20, max_pixels=100_000, deadline=30)
    service = EditService(Inverter(), "tiny", settings)
    apps = {True: service.app(), False: VerifierService(SceneVerifier(), settings=settings).app()}
    wrong: list[tuple[int, Any]] = []

    async def run() -> None:
        for number in range(count):
            scope, parts = request(draw)
            leaves = draw.randrange(len(parts)) if draw.random() < 0.05 else None
            begun = time.process_time()
            status, body = await send(apps["images" in scope["path"]], scope, parts, leaves)
            refused = json.loads(body)["error"]["message"] if status in REASONS and body else ""
            bad = status not in REASONS | {200, 307} or "\n" in refused or len(body) > 100_000
            if bad or time.process_time() - begun > SECONDS:
                wrong.append((number, status, body[:300], scope["path"]))

    with caplog.at_level(logging.WARNING):
        asyncio.run(run())
    service.scheduler.stop()
    assert not wrong
    assert not [record for record in caplog.records if record.name in LOGS]
