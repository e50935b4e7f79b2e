"""10,000 hostile requests to the edit service: no crash, no 5xx, no growth, and it edits as before."""

from __future__ import annotations

import base64
import json
import os
import random
import socket
import struct
import zlib
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from edit_session import Inverter
from test_edit_service import png, serving

pytestmark = pytest.mark.long
REQUESTS = 10_000
WARM_UP = 2_000
ODD = [
    None, True, -1, 0, 1, 3, 10**30, -(2**63), 1e308, float("inf"), "", "auto", "x" * 5000, "\0", "\ud800",
    "1; drop", [], [1], {}, {"a": {"b": []}}, "data:image/png;base64,", "data:,x", "http://127.0.0.1:9/x.png",
    "file:///etc/passwd", "1024x1024", "99999999x1", "png\r\nx: y", [[[[[]]]]],
]  # fmt: skip
FIELDS = [
    "image", "image[]", "images", "mask", "prompt", "model", "n", "size", "quality", "background",
    "output_format", "output_compression", "response_format", "stream", "partial_images", "user", "seed",
    "temperature", "top_k", "top_p", "guidance", "best_of", "reasoning", "keep_outside", "unknown",
]  # fmt: skip


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few hundred bytes that says it has so many pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


def image(rng: random.Random) -> bytes:
    """A PNG, JPEG or WebP that is whole, cut, broken in places, or none."""
    whole = png(
        fmt=rng.choice(["PNG", "JPEG", "WEBP"]), size=rng.choice([(40, 24), (1, 1), (300, 2), (64, 64)])
    )
    kind = rng.randrange(6)
    if kind == 0:
        return whole
    if kind == 1:
        return whole[: rng.randrange(len(whole))]
    if kind == 2:
        return bomb(rng.choice([1, 50_000, 2**31 - 1]), rng.choice([1, 50_000, 2**31 - 1]))
    if kind == 3:
        return rng.randbytes(rng.randrange(300))
    broken = bytearray(whole)
    for _ in range(rng.randint(1, 8)):
        broken[rng.randrange(len(broken))] = rng.randrange(256)
    return bytes(broken)


def url_of(content: bytes, rng: random.Random) -> str:
    kind = rng.choice(["image/png", "image/jpeg", "text/html", ""])
    return f"data:{kind};base64," + base64.b64encode(content).decode()


def json_request(rng: random.Random) -> tuple[bytes, bytes]:
    """(content type, body)"""
    body = {
        "image": url_of(image(rng), rng),
        "prompt": rng.choice(["invert it", "", "\u202e" * 9, "x" * 3000]),
    }
    if rng.random() < 0.3:
        body["mask"] = url_of(image(rng), rng)
    for _ in range(rng.randrange(4)):
        body[rng.choice(FIELDS)] = rng.choice(ODD)
    text = json.dumps(body).encode()
    if rng.random() < 0.1:
        text = rng.choice([b"[" * 100_000, text[: rng.randrange(len(text))], b"NaN", b"\xff\xfe", b"{}", b""])
    return rng.choice([b"application/json"] * 9 + [b"text/plain"]), text


def form_request(rng: random.Random) -> tuple[bytes, bytes]:
    """(content type, body)"""
    mark = rng.choice(["edge", "e" * 70, "a b", ""])
    parts = []
    for name in ["prompt", "image", *rng.choices(FIELDS, k=rng.randrange(5))]:
        file = name in ("image", "image[]", "mask") and rng.random() < 0.9
        content = image(rng) if file else str(rng.choice(ODD)).encode("utf-8", "surrogatepass")
        said = f'; filename="{rng.choice(["a.png", "../../x", "", chr(233) * 300])}"' if file else ""
        head = f'--{mark}\r\ncontent-disposition: form-data; name="{name}"{said}\r\n\r\n'
        parts.append(head.encode() + content + b"\r\n")
    body = b"".join(parts) + f"--{mark}--\r\n".encode()
    if rng.random() < 0.1:
        body = body[: rng.randrange(len(body))]
    return f"multipart/form-data; boundary={mark}".encode(), body


def send(address: tuple[str, int], request: bytes, *, cut: bool = False) -> int:
    """The status of one request on a connection of its own; 0 where the server just hangs up.

    A `cut` request is shorter than it says, and the client says that nothing more will come.
    """
    with socket.create_connection(address, timeout=60) as link:
        link.sendall(request)
        if cut:
            link.shutdown(socket.SHUT_WR)
        head = b""
        while b"\r\n" not in head and (more := link.recv(65_536)):
            head += more
        while link.recv(65_536):
            pass
    return int(head.split(b" ", 2)[1]) if head.startswith(b"HTTP/1.1 ") else 0


def hostile(rng: random.Random) -> tuple[bytes, bool]:
    """A request, and whether it is shorter than it says."""
    kind, body = rng.choice([json_request, form_request])(rng)
    method = rng.choice([b"POST"] * 12 + [b"GET", b"PUT", b"BREW"])
    paths = [b"/v1/images/edits"] * 12 + [
        b"/v1/models/..%2f..%2fetc",
        b"/metrics",
        b"/v1/images/edits/",
        b"/\xff",
    ]
    length = str(len(body)).encode()
    if rng.random() < 0.05:
        length = rng.choice([b"0", b"-1", b"99999999999", b"1e3", str(len(body) + 7).encode()])
    extra = rng.choice([b""] * 8 + [b"x-request-id: " + b"a" * 5000 + b"\r\n", b"authorization: \xe9\r\n"])
    head = method + b" " + rng.choice(paths) + b" HTTP/1.1\r\nhost: x\r\nconnection: close\r\n" + extra
    request = head + b"content-type: " + kind + b"\r\ncontent-length: " + length + b"\r\n\r\n" + body
    return request, length.isdigit() and int(length) > len(body)


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_hostile_requests_are_refused_and_leave_nothing(capsys):
    rng, statuses = random.Random(0), Counter[int]()
    session = Inverter()
    with serving(session) as (service, url):
        address = urlsplit(url).hostname, urlsplit(url).port
        for number in range(REQUESTS):
            request, cut = hostile(rng)
            status = send(address, request, cut=cut)
            statuses[status] += 1
            assert status < 500, (status, number, request[:2000])
            if number == WARM_UP:
                before = resident()
        after = resident()
        assert service.scheduler.ready and not session.running
        figures = (service.metrics.running, service.metrics.waiting, service.metrics.held)
        assert [figure._value.get() for figure in figures] == [0, 0, 0]
        good = (
            "/v1/images/edits HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n"
        )
        body = json.dumps({"image": url_of(png(), random.Random(1)), "prompt": "invert it"}).encode()
        assert (
            send(address, b"POST " + good.encode() + b"content-length: %d\r\n\r\n" % len(body) + body) == 200
        )
    with capsys.disabled():
        print(f"\n{REQUESTS:,} hostile requests: {dict(statuses)}; MiB {before >> 20} -> {after >> 20}")
    assert statuses[200] > 100, "some must come through, or only refusals are tested"
    assert after <= 1.05 * before
