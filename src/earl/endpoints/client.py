"""Asking a multimodal model behind an OpenAI-compatible endpoint; what goes wrong has a name.

Connections, retries and back-off are the `openai` client's. Here: lossless images, a limit on
questions in flight, a deadline for each, and every way of failing as one `Trouble` with the
verdict's status. The key comes from an environment variable only, and only if one is named.
"""

from __future__ import annotations

import asyncio
import base64
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from earl.config.endpoint import JudgeSettings
from earl.errors import MissingExtraError, VerifierError
from earl.records import VerdictStatus
from earl.verifiers.expected import Token
from earl.verifiers.questions import Part, Text

if TYPE_CHECKING:
    from PIL.Image import Image

QUESTION_HEADER = "X-Client-Request-Id"  # a server may use it to pair the questions about one edit
TOP_LOGPROBS = 20
REFUSED = (400, 413, 415, 422)  # this question will not be answered; the next may be
SCHEMA = {
    "type": "object",
    "properties": {
        "score": {
            "type": "array",
            "items": {"type": "integer", "minimum": 0, "maximum": 10},
            "minItems": 2,
            "maxItems": 2,
        },
        "reasoning": {"type": "string"},
    },
    "required": ["score", "reasoning"],
    "additionalProperties": False,
}


class Trouble(Exception):
    """Why a question has no answer, and the status that its verdict gets.

    `refused`: the endpoint understood the question and will not answer it, now or later.
    """

    def __init__(self, status: VerdictStatus, why: str, *, refused: bool = False) -> None:
        super().__init__(why)
        self.status = status
        self.why = why
        self.refused = refused


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer's text and, where they were asked for, its tokens."""

    text: str
    tokens: tuple[Token, ...] = ()


class ChatClient:
    """Asks questions; usable from any event loop, each with connections and a limit of its own."""

    def __init__(self, settings: JudgeSettings) -> None:
        try:
            import openai
        except ImportError as error:
            raise MissingExtraError("a judge needs the openai package: pip install 'earl[judge]'") from error
        self._openai = openai
        self.settings = settings
        self._key = "none"
        if settings.key_env:
            self._key = os.environ.get(settings.key_env, "")
            if not self._key:
                raise VerifierError(f"the environment variable {settings.key_env} holds no key for the judge")
        self._model = settings.model
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[Any, asyncio.Semaphore]] = (
            WeakKeyDictionary()
        )

    @property
    def model(self) -> str:
        """The model's name; "" while it is not known."""
        return self._model or ""

    def _here(self) -> tuple[Any, asyncio.Semaphore]:
        """The connections and the limit of the running event loop."""
        loop = asyncio.get_running_loop()
        if loop not in self._loops:
            client = self._openai.AsyncOpenAI(
                base_url=self.settings.url,
                api_key=self._key,
                timeout=self.settings.timeout,
                max_retries=self.settings.retries,
            )
            self._loops[loop] = client, asyncio.Semaphore(self.settings.concurrency)
        return self._loops[loop]

    async def check(self) -> str:
        """Find the endpoint and the model; returns the model's name.

        Raises:
            VerifierError: not reachable, key refused, or the model is not among those served.
        """
        try:
            names = await self._served()
        except Trouble as trouble:
            raise VerifierError(f"the judge at {self.settings.url} is not ready: {trouble.why}") from trouble
        wanted = self.settings.model
        if wanted is None and len(names) == 1:
            self._model = names[0]
        elif wanted is None or (names and wanted not in names):
            shown = ", ".join(names[:12]) or "none"
            asked = f"{wanted!r} is not served" if wanted else "no model was named"
            raise VerifierError(f"{asked} at {self.settings.url}; it has: {shown}")
        return self.model

    async def _served(self) -> list[str]:
        """Names of the models; none where the endpoint has no list."""
        client, _ = self._here()
        try:
            page = await asyncio.wait_for(client.models.list(), self.settings.deadline)
            return [model.id for model in page.data]
        except self._openai.NotFoundError:
            return []
        except Exception as error:
            raise self._trouble(error) from error

    async def ask(self, content: Sequence[dict[str, Any]], *, name: str = "") -> list[Answer]:
        """The answers to one question, `settings.samples` of them.

        Args:
            content: the parts of the user's message.
            name: of this question, sent as a header (printable ASCII).

        Raises:
            Trouble: no answers; its status is "unreachable" or "unusable".
        """
        client, limit = self._here()
        async with limit:
            try:
                return await asyncio.wait_for(self._ask(client, content, name), self.settings.deadline)
            except Trouble:
                raise
            except Exception as error:
                raise self._trouble(error) from error

    async def _ask(self, client: Any, content: Sequence[dict[str, Any]], name: str) -> list[Answer]:
        if not self._model:
            await self.check()
        answers: list[Answer] = []
        missing = self.settings.samples
        while missing > 0:  # some servers give one answer whatever n says
            reply = await client.chat.completions.create(
                model=self._model,
                messages=[{"role": "user", "content": list(content)}],
                extra_headers={QUESTION_HEADER: name} if name else None,
                **self._options(missing, len(answers)),
            )
            given = _answers(reply)
            answers += given[:missing]
            missing -= len(given)
        return answers

    def _options(self, count: int, already: int) -> dict[str, Any]:
        settings = self.settings
        options: dict[str, Any] = {}
        if settings.max_tokens:
            options[settings.max_tokens_name] = settings.max_tokens
        if settings.temperature != "server":
            options["temperature"] = settings.temperature
        if count > 1:
            options["n"] = count
        if settings.seed is not None:
            options["seed"] = settings.seed + already
        if settings.structured:
            schema = {"name": "scores", "strict": True, "schema": SCHEMA}
            options["response_format"] = {"type": "json_schema", "json_schema": schema}
        if settings.expected:
            options |= {"logprobs": True, "top_logprobs": TOP_LOGPROBS}
        if settings.extra:
            options["extra_body"] = settings.extra
        return options

    def _trouble(self, error: Exception) -> Trouble:
        """What went wrong, as a status and a sentence. Errors that are our own mistakes pass through."""
        openai = self._openai
        if isinstance(error, VerifierError):
            return Trouble("unreachable", str(error))
        if isinstance(error, TimeoutError | asyncio.TimeoutError):
            return Trouble("unreachable", f"no answer within the deadline of {self.settings.deadline:g} s")
        if isinstance(error, openai.APITimeoutError):
            return Trouble("unreachable", f"no answer within {self.settings.timeout:g} s, asked repeatedly")
        if isinstance(error, openai.APIStatusError):
            refused = error.status_code in REFUSED
            said = error.message.removeprefix(f"Error code: {error.status_code} - ")
            why = f"HTTP {error.status_code}: {said[:300]}"
            return Trouble("unusable" if refused else "unreachable", why, refused=refused)
        if isinstance(error, openai.APIConnectionError):
            return Trouble("unreachable", f"{error.message} {error.__cause__ or ''}".strip()[:300])
        if isinstance(error, openai.APIError | ValueError):  # a body that is no JSON, or another JSON
            return Trouble("unusable", f"what came back is not a chat completion ({error})"[:300])
        raise error


def _answers(reply: Any) -> list[Answer]:
    choices = getattr(reply, "choices", None)
    if not isinstance(choices, list) or not choices:
        raise Trouble("unusable", "what came back is not a chat completion: it has no choices")
    return [_answer(choice) for choice in choices]


def _answer(choice: Any) -> Answer:
    text = getattr(getattr(choice, "message", None), "content", None)
    logprobs = getattr(getattr(choice, "logprobs", None), "content", None)
    tokens = []
    for entry in logprobs or ():
        likeliest = [(top.token, float(top.logprob)) for top in entry.top_logprobs or ()]
        if all(token != entry.token for token, _ in likeliest):
            likeliest.append((entry.token, float(entry.logprob)))
        tokens.append(Token(entry.token, tuple(likeliest)))
    return Answer(text if isinstance(text, str) else "", tuple(tokens))


def content_of(parts: Sequence[Part], pictures: dict[str, str]) -> list[dict[str, Any]]:
    """A message's parts. `pictures` has a data URL for each slot."""
    return [
        {"type": "text", "text": part.words}
        if isinstance(part, Text)
        else {"type": "image_url", "image_url": {"url": pictures[part.slot]}}
        for part in parts
    ]


def data_url(image: Image) -> str:
    """An image as a lossless PNG in a data URL."""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
