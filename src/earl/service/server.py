"""Base of every HTTP server: its models, health, metrics, keys, request ids, errors."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any
from uuid import uuid4

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from earl.errors import ConfigError
from earl.service.limits import Room
from earl.service.metrics import Metrics
from earl.service.places import Places
from earl.service.wire import ApiError, answer_errors, check_key


class Server:
    """A model that is served under a name.

    Args:
        name: of the model that clients name.
        places: its queue.
        metrics: its figures.
        room: for the bodies and images that it holds.
        keys: accepted API keys; none are asked for where there are none.
    """

    def __init__(
        self, name: str, places: Places, metrics: Metrics, room: Room, keys: Sequence[str] = ()
    ) -> None:
        self.name, self.places, self.metrics, self.room = name, places, metrics, room
        self.keys = tuple(keys)
        self.created = int(time.time())

    def _app(
        self, description: str, lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]] | None = None
    ) -> FastAPI:
        """An application with the routes that all servers have."""
        app = FastAPI(title="earl", description=description, lifespan=lifespan)
        app.add_api_route("/health", self._health, methods=["GET"])
        app.add_api_route("/ready", self._ready, methods=["GET"])
        app.add_api_route("/metrics", self._metrics, methods=["GET"])
        app.add_api_route("/v1/models", self._models, methods=["GET"])
        app.add_api_route("/v1/models/{model:path}", self._model, methods=["GET"])
        answer_errors(app)
        app.add_middleware(_RequestIds)
        return app

    async def _health(self) -> JSONResponse:
        """Alive: 200, or 500 after a failure that only a restart mends."""
        failure = self.places.failure
        return JSONResponse({"status": failure or "ok"}, 500 if failure else 200)

    async def _ready(self) -> JSONResponse:
        """Whether new requests are accepted."""
        ready = self.places.ready
        return JSONResponse({"status": "ready" if ready else "not ready"}, 200 if ready else 503)

    async def _metrics(self) -> Response:
        """Prometheus metrics."""
        return Response(self.metrics.text(), media_type="text/plain; version=0.0.4")

    def _card(self) -> dict[str, Any]:
        return {"id": self.name, "object": "model", "created": self.created, "owned_by": "earl"}

    async def _models(self, request: Request) -> JSONResponse:
        """The model that is served."""
        check_key(request, self.keys)
        return JSONResponse({"object": "list", "data": [self._card()]})

    async def _model(self, model: str, request: Request) -> JSONResponse:
        """One model by name."""
        check_key(request, self.keys)
        self._check_model(model)
        return JSONResponse(self._card())

    def _check_model(self, model: str | None) -> None:
        if model is not None and model != self.name:
            raise ApiError(
                f"model {model[:80]!r} is not served; there is {self.name!r}",
                404,
                param="model",
                code="model_not_found",
            )


def read_keys(variable: str | None) -> tuple[str, ...]:
    """The keys that an environment variable holds, separated by commas; none where no variable is named.

    Raises:
        ConfigError: it holds none.
    """
    if variable is None:
        return ()
    keys = tuple(filter(None, (key.strip() for key in os.environ.get(variable, "").split(","))))
    if not keys:
        raise ConfigError("the environment variable that is to hold the accepted keys holds none")
    return keys


class _RequestIds:
    """ASGI middleware: every response carries the request's own id, or a new one; what is cut off at the end
    of the drain is told so."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        fits = given.isascii() and given.isprintable() and 0 < len(given) <= 128
        identity = given if fits else uuid4().hex

        begun = False

        async def send_with_id(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["x-request-id"] = identity
                begun = True
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        except asyncio.CancelledError:
            if not begun:
                stopping = ApiError("the service is stopping", 503, code="unavailable", retry_after=5)
                await stopping.response()(scope, receive, send_with_id)
