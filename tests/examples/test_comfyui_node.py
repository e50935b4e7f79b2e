"""The ComfyUI node against a server of ours whose edits are inverted sources, and against a stub."""

from __future__ import annotations

import base64
import io
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import torch
from PIL import Image

EXAMPLES = Path(__file__).parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))
sys.path.insert(0, str(Path(__file__).parents[1] / "service"))

node_module = pytest.importorskip("comfyui_earl")
NODE = node_module.NODE_CLASS_MAPPINGS["EarlEdit"]
DEFAULTS = {"seed": 5, "variations": 1, "temperature": 1.0, "keep_outside": False}


class Stub:
    """Answers every request with images of one colour and keeps what was asked."""

    def __init__(self, status: int = 200) -> None:
        self.status, self.asked, self.keys = status, [], []
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                stub.asked.append(body)
                stub.keys.append(self.headers.get("authorization"))
                buffer = io.BytesIO()
                Image.new("RGB", (24, 16), (255, 128, 0)).save(buffer, "PNG")
                item = base64.b64encode(buffer.getvalue()).decode()
                data = [{"b64_json": item, "seed": body["seed"] + i} for i in range(body["n"])]
                answer = {"data": data} if stub.status == 200 else {"error": {"message": "the queue is full"}}
                content = json.dumps(answer).encode()
                self.send_response(stub.status)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1/"

    def __enter__(self) -> Stub:
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


def sent(url: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))


def test_it_is_short_and_says_what_comfyui_asks():
    lines = Path(node_module.__file__).read_text().splitlines()
    assert len(lines) < 150
    given = NODE.INPUT_TYPES()
    needed = [*given["required"], *given["optional"]]
    assert set(needed) == set(NODE.edit.__annotations__) - {"return"}
    assert len(NODE.RETURN_TYPES) == len(NODE.RETURN_NAMES)


def test_a_batch_with_variations_and_a_mask(monkeypatch):
    monkeypatch.setenv("EARL_API_KEY", "secret")
    images = torch.rand(2, 16, 24, 3)
    mask = torch.zeros(1, 16, 24)
    mask[0, :, 12:] = 1
    with Stub() as stub:
        made, seeds = NODE().edit(
            images, "paint it", **{**DEFAULTS, "variations": 2}, url=stub.url, mask=mask
        )
    assert made.shape == (4, 16, 24, 3) and made.dtype == torch.float32 and seeds == "5 6 7 8"
    assert torch.allclose(made[3, 0, 0], torch.tensor([1, 128 / 255, 0]))
    assert [asked["seed"] for asked in stub.asked] == [5, 7] and stub.keys == ["Bearer secret"] * 2
    alpha = sent(stub.asked[0]["mask"]).getchannel("A")
    assert alpha.getpixel((2, 2)) == 255 and alpha.getpixel((20, 2)) == 0  # transparent where it may change
    levels = torch.tensor(list(sent(stub.asked[1]["image"]).getdata())).reshape(16, 24, 3)
    assert (levels / 255 - images[1]).abs().max() <= 0.5 / 255 + 1e-6


def test_refusals_and_an_absent_server_are_said():
    image = torch.rand(1, 8, 8, 3)
    with Stub(429) as stub, pytest.raises(RuntimeError, match=r"429.*the queue is full"):
        NODE().edit(image, "x", **DEFAULTS, url=stub.url)
    with pytest.raises(RuntimeError, match="earl serve"):
        NODE().edit(image, "x", **DEFAULTS, url="http://127.0.0.1:9/v1")


def test_our_server_takes_what_the_node_sends():
    pytest.importorskip("fastapi")
    from test_edit_service import serving

    image = torch.rand(1, 24, 40, 3)
    with serving() as (_, url):
        made, seeds = NODE().edit(image, "invert it", **DEFAULTS, url=url, mask=torch.ones(1, 24, 40))
    assert seeds == "5" and (made - (1 - image)).abs().max() <= 1 / 255 + 1e-6
