"""A stand-in of the Hugging Face Hub: what `create_repo` and `upload_folder` ask for, in one process."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Hub:
    """What was uploaded: repositories with their files, and every request that came."""

    def __init__(self, token: str) -> None:
        self.token, self.url = token, ""
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.objects: dict[str, bytes] = {}  # LFS, by SHA-256
        self.asked: list[tuple[str, str]] = []

    def answer(self, method: str, path: str, body: bytes, token: str | None) -> tuple[int, Any]:
        """The status and the JSON answer of one request."""
        self.asked.append((method, path))
        parts = path.strip("/").split("/")
        if parts[0] == "lfs-objects":  # the address itself is the permission, as on the hub
            assert hashlib.sha256(body).hexdigest() == parts[1], "another file than was announced"
            self.objects[parts[1]] = body
            return 200, {}
        if token != f"Bearer {self.token}":
            return 401, {"error": "Invalid username or password."}
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            known = name in self.repositories
            self.repositories.setdefault(name, {})
            self.private.setdefault(name, asked.get("visibility") == "private" or bool(asked.get("private")))
            return (409 if known else 200), {"url": f"{self.url}/{name}"}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if "preupload" in parts:
            files = json.loads(body)["files"]
            modes = {True: "lfs", False: "regular"}
            return 200, {
                "files": [
                    {
                        "path": file["path"],
                        "uploadMode": modes[file["path"].endswith(".safetensors")],
                        "shouldIgnore": False,
                        "oid": None,
                    }
                    for file in files
                ]
            }
        if path.endswith("/info/lfs/objects/batch"):
            wanted = json.loads(body)["objects"]
            upload = [
                {**one, "actions": {"upload": {"href": f"{self.url}/lfs-objects/{one['oid']}"}}}
                for one in wanted
            ]
            return 200, {"transfer": "basic", "objects": upload}
        if "commit" in parts:
            return self._commit("/".join(parts[2:4]), body)
        return 404, {"error": f"the stand-in does not know {method} {path}"}

    def _commit(self, repo: str, body: bytes) -> tuple[int, Any]:
        files = self.repositories[repo]
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.objects[value["oid"]]
        commit = {"commitUrl": f"{self.url}/{repo}/commit/1", "commitOid": "1" * 40}
        return 200, {"success": True, **commit, "hookOutput": ""}


@contextmanager
def hub_stand_in(token: str) -> Iterator[Hub]:
    """A hub that takes one token, at `Hub.url` while the block lasts."""
    hub = Hub(token)

    class Handler(BaseHTTPRequestHandler):
        def reply(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            path = self.path.partition("?")[0]
            status, answer = hub.answer(self.command, path, body, self.headers.get("authorization"))
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = reply

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
