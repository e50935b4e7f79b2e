"""A tiny chat endpoint on 127.0.0.1 whose every reply is scripted, for tests of the judge."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = tuple[Any, ...]  # HTTP status, the body (a dict as JSON; str, bytes as they are), perhaps headers
Script = Callable[[dict], Reply]


def completion(*answers: str, logprobs: list | None = None, finish: str = "stop") -> dict:
    """The body of a chat completion with these answers."""
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": "scripted",
        "choices": [
            {
                "index": i,
                "finish_reason": finish,
                "message": {"role": "assistant", "content": answer},
                "logprobs": None if logprobs is None else {"content": logprobs},
            }
            for i, answer in enumerate(answers)
        ],
    }


class Endpoint:
    """What the server was asked, and how much of it at once."""

    def __init__(self, script: Script, models: tuple[str, ...] | Reply = ("scripted",)) -> None:
        self.script = script
        self.models = models
        self.asked: list[dict] = []
        self.headers: list[dict] = []
        self.busy = self.busiest = 0
        self.lock = threading.Lock()
        self.closing = threading.Event()
        self.url = ""

    def questions(self) -> list[str]:
        """The words of each question."""
        return [
            " ".join(part["text"] for part in body["messages"][0]["content"] if part["type"] == "text")
            for body in self.asked
        ]


@contextmanager
def serving(script: Script, **more: Any):
    """An `Endpoint` that is up as long as the block runs."""
    endpoint = Endpoint(script, **more)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            if endpoint.models and isinstance(endpoint.models[0], int):
                return self._send(*endpoint.models)
            self._send(200, {"object": "list", "data": [_model(name) for name in endpoint.models]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with endpoint.lock:
                endpoint.asked.append(body)
                endpoint.headers.append({name.lower(): value for name, value in self.headers.items()})
                endpoint.busy += 1
                endpoint.busiest = max(endpoint.busiest, endpoint.busy)
            try:
                reply = endpoint.script(body)
            finally:
                with endpoint.lock:
                    endpoint.busy -= 1
            self._send(*reply)

        def _send(self, status: int, reply: Any, headers: dict[str, str] | None = None) -> None:
            text = json.dumps(reply) if isinstance(reply, dict) else reply
            data = text if isinstance(text, bytes) else text.encode()
            try:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                for name, value in ({"Retry-After-Ms": "5"} | (headers or {})).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)
            except OSError:
                pass  # the asker has gone; that is what the test of a hanging endpoint wants

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    endpoint.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield endpoint
    finally:
        endpoint.closing.set()
        server.shutdown()
        server.server_close()


def _model(name: str) -> dict:
    return {"id": name, "object": "model", "created": 0, "owned_by": "a test"}
