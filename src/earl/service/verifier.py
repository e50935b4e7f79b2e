"""A verifier behind the OpenAI chat API: `/v1/chat/completions`, and what every server has.

Our own judge can be pointed at it, so that the whole way over HTTP runs where no model judges, and
so can other people's VIEScore clients. Images are taken from data URLs only; nothing is fetched.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from earl.config.service import ServerSettings
from earl.endpoints.http import QUESTION_HEADER
from earl.errors import EarlError
from earl.service.limits import Room, Take, bounded
from earl.service.metrics import Metrics
from earl.service.places import Places
from earl.service.questions import answer_json, read_question, read_request
from earl.service.server import Server
from earl.service.verdict_cache import VerdictCache
from earl.service.wire import ApiError, check_key, too_late
from earl.verifiers.protocol import Verifier
from earl.verifiers.questions import Prompts, load_prompts

EDIT_NAME = re.compile(r"([0-9a-f]{32})-(?:semantic|reference|perceptual)(?:-swapped)?")


class VerifierService(Server):
    """The application and what it holds.

    Args:
        verifier: what answers.
        name: of the model that clients name.
        prompts: wordings that are recognised word by word; the package's when None.
        keys: accepted API keys; none are asked for where there are none.
        settings: queue, deadline, limits.
    """

    def __init__(
        self,
        verifier: Verifier,
        *,
        name: str = "earl-scene",
        prompts: Prompts | None = None,
        keys: Sequence[str] = (),
        settings: ServerSettings | None = None,
    ) -> None:
        self.settings, metrics = settings or ServerSettings(), Metrics(name)
        places, room = Places(self.settings, metrics), Room(self.settings.max_pixels)
        super().__init__(name, places, metrics, room, keys)
        self.prompts, self.cache = prompts or load_prompts(), VerdictCache(verifier)

    def app(self) -> FastAPI:
        """The ASGI application."""
        app = self._app("Answers the questions of a judge of edits.")
        app.add_api_route("/v1/chat/completions", self._complete, methods=["POST"])

        @app.exception_handler(EarlError)
        async def unfit(_: Request, error: EarlError) -> Response:
            return ApiError(str(error), 422, code="cannot_judge").response()

        return app

    async def _complete(self, request: Request) -> JSONResponse:
        """Answer one question about one edit."""
        arrived, end = time.monotonic(), "error"
        check_key(request, self.keys)
        with self.places.reserve(), self.room.holding() as take:
            self.metrics.running.inc()
            try:
                answer = await asyncio.wait_for(self._answer(request, take), self.settings.deadline)
                end = "stop"
            except asyncio.TimeoutError as error:  # TimeoutError itself only from Python 3.11 on
                end = "deadline"
                raise too_late(self.settings.deadline) from error
            finally:
                self.metrics.running.dec()
                self.metrics.ended(end)
        seconds_taken = time.monotonic() - arrived
        self.metrics.request_seconds.observe(seconds_taken)
        self.places.took(seconds_taken)
        return answer

    async def _answer(self, request: Request, take: Take) -> JSONResponse:
        body = await bounded(request, self.settings, take).body()
        asked = await asyncio.to_thread(read_request, body)
        self._check_model(asked.model)
        limit = self.settings.max_pixels
        question = await asyncio.to_thread(read_question, asked, self.prompts, limit, take)
        edit = EDIT_NAME.fullmatch(request.headers.get(QUESTION_HEADER, ""))
        scores, why = await self.cache.answer(question, edit[1] if edit else "")
        return JSONResponse(_completion(self.name, answer_json(scores, why), asked.n))


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
