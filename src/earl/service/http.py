"""Running an application on a port: in the foreground, or beside something else in one process."""

from __future__ import annotations

import math
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

import uvicorn

from earl.errors import VerifierError

if TYPE_CHECKING:
    from earl.service.places import Places

STARTS_WITHIN = 30.0  # seconds
_GRACE = 5  # seconds to send the last answers; an open page keeps a connection that never ends


def serve(
    app: Any,
    *,
    host: str,
    port: int,
    ready: Callable[[str], None],
    drain: float = 5.0,
    places: Places | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        ready: gets the base URL (port 0 takes a free one) before anything is served.
        drain: seconds that requests in progress have to finish.
        places: the queue. After the signal it refuses what is new, in words, until what it holds is through;
            a second signal closes the port at once.

    Raises:
        VerifierError: the address cannot be taken.
    """
    taken, url = _bind(host, port)
    with taken:
        ready(url)
        _server(app, drain, places).run(sockets=[taken])


@contextmanager
def served(app: Any, *, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Serve from a thread of this process as long as the block runs; gives the base URL.

    Raises:
        VerifierError: the address cannot be taken, or the server does not start.
    """
    taken, url = _bind(host, port)
    server = _server(app)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [taken]}, daemon=True)
    with taken:
        thread.start()
        end = time.monotonic() + STARTS_WITHIN
        while not server.started:
            if not thread.is_alive() or time.monotonic() > end:
                raise VerifierError(f"the server at {url} did not start")
            time.sleep(0.01)
        try:
            yield url
        finally:
            server.should_exit = True
            thread.join(STARTS_WITHIN)


def _server(app: Any, drain: float = 5.0, places: Places | None = None) -> Any:
    class Server(uvicorn.Server):
        stop_by = math.inf  # when the port is closed at the latest, by time.monotonic

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            draining = self.stop_by < math.inf
            self.should_exit |= draining
            super().handle_exit(sig, frame)
            if places is not None and not draining:
                places.drain()
                self.should_exit, self.stop_by = False, time.monotonic() + drain

        async def on_tick(self, counter: int) -> bool:
            if places is not None and places.draining:
                self.should_exit |= not places.held or time.monotonic() > self.stop_by
            return bool(await super().on_tick(counter))

    return Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=_GRACE))


def _bind(host: str, port: int) -> tuple[socket.socket, str]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    taken = socket.socket(family, socket.SOCK_STREAM)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind((host, port))
        taken.listen(2048)  # who comes before the application runs waits, and is not refused
    except (OSError, OverflowError) as error:
        taken.close()
        raise VerifierError(f"cannot serve at {host} port {port}: {error}; choose another") from error
    shown = f"[{host}]" if family == socket.AF_INET6 else host
    return taken, f"http://{shown}:{taken.getsockname()[1]}/v1"
