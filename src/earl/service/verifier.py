"""A verifier behind the OpenAI chat API: `/v1/models`, `/v1/chat/completions`.

Our own judge can be pointed at it, so that the whole way over HTTP runs where no model judges, and
so can other people's VIEScore clients. Images are taken from data URLs only; nothing is fetched.
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any
from uuid import uuid4

from earl.config.service import ServiceSettings
from earl.endpoints.http import QUESTION_HEADER
from earl.errors import EarlError, MissingExtraError
from earl.service.limits import Room, bounded
from earl.service.questions import answer_json, read_question, read_request
from earl.service.verdict_cache import VerdictCache
from earl.service.wire import ApiError, answer_errors, check_key
from earl.verifiers.protocol import Verifier
from earl.verifiers.questions import Prompts, load_prompts

try:
    from fastapi import FastAPI, Request, Response
    from fastapi.responses import JSONResponse
except ImportError as error:
    raise MissingExtraError("serving needs fastapi and uvicorn: pip install 'earl-edit[serve]'") from error

EDIT_NAME = re.compile(r"([0-9a-f]{32})-(?:semantic|reference|perceptual)(?:-swapped)?")


def verifier_app(
    verifier: Verifier,
    *,
    name: str = "earl-scene",
    prompts: Prompts | None = None,
    key: str = "",
    settings: ServiceSettings | None = None,
) -> FastAPI:
    """The application.

    Args:
        verifier: what answers.
        name: of the model that clients name.
        prompts: wordings that are recognised word by word; the package's when None.
        key: asked for as bearer token; "" asks for none.
        settings: its limits on bytes and pixels are used.
    """
    app = FastAPI(title=f"earl verifier {name}", docs_url=None, redoc_url=None, openapi_url=None)
    known = prompts or load_prompts()
    cache = VerdictCache(verifier)
    card = {"id": name, "object": "model", "created": int(time.time()), "owned_by": "earl"}

    limits, keys = settings or ServiceSettings(), (key,) if key else ()
    room = Room(limits.max_pixels)
    answer_errors(app)

    @app.exception_handler(EarlError)
    async def unfit(_: Request, error: EarlError) -> Response:
        return ApiError(str(error), 422, code="cannot_judge").response()

    @app.get("/health")
    async def health() -> JSONResponse:
        return JSONResponse({"status": "ok"})

    @app.get("/v1/models")
    async def models(request: Request) -> JSONResponse:
        check_key(request, keys)
        return JSONResponse({"object": "list", "data": [card]})

    @app.post("/v1/chat/completions")
    async def complete(request: Request) -> JSONResponse:
        check_key(request, keys)
        with room.holding() as take:
            body = await bounded(request, limits.max_bytes, take).body()
            asked = await asyncio.to_thread(read_request, body)
            if asked.model != name:
                raise ApiError(
                    f"model {asked.model[:80]!r} is not served; there is {name!r}", 404, param="model"
                )
            question = await asyncio.to_thread(read_question, asked, known, limits.max_pixels, take)
            edit = EDIT_NAME.fullmatch(request.headers.get(QUESTION_HEADER, ""))
            scores, why = await cache.answer(question, edit[1] if edit else "")
        return JSONResponse(_completion(name, answer_json(scores, why), asked.n))

    return app


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
