"""OpenAI's wire format for errors and streamed events.

Source: the OpenAI API reference and its Python client (`openai` 3.57), whose error classes read
`{"error": {"message", "type", "param", "code"}}` and retry on 408, 409, 429 and 5xx.
"""

from __future__ import annotations

import hmac
import json
import logging
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

_LOG = logging.getLogger(__name__)
_LONGEST = 500  # characters of a message, which may quote what was sent
_KINDS = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    429: "rate_limit_error",
}


class ApiError(Exception):
    """A request that is refused or failed.

    Args:
        message: one sentence for the caller.
        status: HTTP status, 400-599.
        param: the field of the request that is wrong.
        code: a word that programs can compare, such as "unsupported_value".
        retry_after: seconds after which the same request may succeed.
    """

    def __init__(
        self,
        message: str,
        status: int = 400,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        text = " ".join(message[: 4 * _LONGEST].split())[:_LONGEST]
        super().__init__(text.encode("utf-8", "backslashreplace").decode())
        self.status, self.param, self.code, self.retry_after = status, param, code, retry_after

    def body(self) -> dict[str, Any]:
        """The JSON object that clients read."""
        kind = _KINDS.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}

    def response(self, headers: Mapping[str, str] | None = None) -> JSONResponse:
        """The HTTP response; 429 and 503 say when to come back."""
        said = dict(headers or {})
        if self.retry_after is not None:
            said["retry-after"] = str(max(1, math.ceil(self.retry_after)))
        return JSONResponse(self.body(), self.status, said)


def too_late(seconds: float) -> ApiError:
    """A request that took longer than so many seconds."""
    return ApiError(f"the request took longer than {seconds:g} s", 504, code="deadline_exceeded")


def check_key(request: Request, keys: Sequence[str]) -> None:
    """Raises ApiError 401 unless the request carries one of the keys; no keys, no check.

    All keys are compared, each in constant time.
    """
    given = request.headers.get("authorization", "").encode("latin-1")  # the bytes that were sent
    fits = [hmac.compare_digest(given, f"Bearer {key}".encode()) for key in keys]
    if keys and not any(fits):
        raise ApiError("the API key is missing or wrong", 401, code="invalid_api_key")


def event(name: str, content: Mapping[str, Any]) -> bytes:
    """One server-sent event."""
    return f"event: {name}\ndata: {json.dumps(content)}\n\n".encode()


async def with_errors(events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Streamed events; an error in the middle becomes an `error` object in the data, and ends them."""
    try:
        async for item in events:
            yield item
    except ApiError as error:
        yield f"data: {json.dumps(error.body())}\n\n".encode()
    yield b"data: [DONE]\n\n"


def answer_errors(app: Starlette) -> None:
    """Let an application answer every failed request in this format."""

    async def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, ApiError)
        return error.response()

    async def http_error(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return ApiError(str(error.detail), error.status_code, code="http_error").response(error.headers)

    async def our_mistake(_: Request, error: Exception) -> Response:
        _LOG.error("a request failed", exc_info=error)
        return ApiError("the service made a mistake; see its log", 500, code="internal_error").response()

    app.add_exception_handler(ApiError, refused)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(Exception, our_mistake)
