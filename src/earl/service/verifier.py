"""A verifier behind the OpenAI chat API: `/v1/models`, `/v1/chat/completions`.

Our own judge can be pointed at it, so that the whole way over HTTP runs where no model judges, and
so can other people's VIEScore clients. Images are taken from data URLs only; nothing is fetched.
"""

from __future__ import annotations

import asyncio
import hmac
import re
import time
from typing import Any
from uuid import uuid4

from earl.endpoints.http import QUESTION_HEADER
from earl.errors import EarlError, MissingExtraError
from earl.service.questions import RequestError, answer_json, read_question, read_request
from earl.service.verdict_cache import VerdictCache
from earl.verifiers.protocol import Verifier
from earl.verifiers.questions import Prompts, load_prompts

try:
    from fastapi import FastAPI, Request
    from fastapi.responses import JSONResponse
except ImportError as error:
    raise MissingExtraError("serving needs fastapi and uvicorn: pip install 'earl-edit[serve]'") from error

LARGEST = 64 * 2**20  # bytes of a request
EDIT_NAME = re.compile(r"([0-9a-f]{32})-(?:semantic|reference|perceptual)(?:-swapped)?")
KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    503: "unavailable",
}


def verifier_app(
    verifier: Verifier, *, name: str = "earl-scene", prompts: Prompts | None = None, key: str = ""
) -> FastAPI:
    """The application.

    Args:
        verifier: what answers.
        name: of the model that clients name.
        prompts: wordings that are recognised word by word; the package's when None.
        key: asked for as bearer token; "" asks for none.
    """
    app = FastAPI(title=f"earl verifier {name}", docs_url=None, redoc_url=None, openapi_url=None)
    known = prompts or load_prompts()
    cache = VerdictCache(verifier)
    card = {"id": name, "object": "model", "created": int(time.time()), "owned_by": "earl"}

    def allowed(request: Request) -> None:
        given = request.headers.get("authorization", "")
        if key and not hmac.compare_digest(given.encode(), f"Bearer {key}".encode()):
            raise RequestError("the key is missing or wrong", 401)

    @app.exception_handler(RequestError)
    async def refuse(_: Request, error: RequestError) -> JSONResponse:
        return _refusal(str(error), error.status)

    @app.exception_handler(EarlError)
    async def unfit(_: Request, error: EarlError) -> JSONResponse:
        return _refusal(str(error), 422)

    @app.get("/health")
    async def health() -> JSONResponse:
        return JSONResponse({"status": "ok"})

    @app.get("/v1/models")
    async def models(request: Request) -> JSONResponse:
        allowed(request)
        return JSONResponse({"object": "list", "data": [card]})

    @app.post("/v1/chat/completions")
    async def complete(request: Request) -> JSONResponse:
        allowed(request)
        asked = read_request(await _body(request))
        if asked.model != name:
            raise RequestError(f"model {asked.model!r} is not served; there is {name!r}", 404)
        question = await asyncio.to_thread(read_question, asked, known)
        edit = EDIT_NAME.fullmatch(request.headers.get(QUESTION_HEADER, ""))
        scores, why = await cache.answer(question, edit[1] if edit else "")
        return JSONResponse(_completion(name, answer_json(scores, why), asked.n))

    return app


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise RequestError(f"the request is larger than {LARGEST >> 20} MiB", 413)
    return bytes(body)


def _refusal(message: str, status: int) -> JSONResponse:
    kind = KINDS.get(status, "unprocessable")
    return JSONResponse({"error": {"message": message, "type": kind, "param": None, "code": status}}, status)


def _completion(model: str, text: str, count: int) -> dict[str, Any]:
    """The same answer `count` times: verdicts are deterministic."""
    return {
        "id": f"chatcmpl-{uuid4().hex}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [
            {
                "index": i,
                "finish_reason": "stop",
                "logprobs": None,
                "message": {"role": "assistant", "content": text},
            }
            for i in range(count)
        ],
        "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
    }
