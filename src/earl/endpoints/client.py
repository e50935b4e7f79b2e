"""Client of a model behind an OpenAI-compatible chat API."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from earl.config.endpoint import EndpointSettings
from earl.endpoints.http import SHOWN, JsonClient
from earl.errors import EndpointError, InvalidAnswerError
from earl.progress import one_line

LARGEST = 16 * 2**20  # bytes of one answer with its log-probabilities
NO_LIST = ("HTTP 403", "HTTP 404", "HTTP 405", "HTTP 501")  # such a server may answer questions all the same
ENDED = ("stop", "eos", "eos_token", "end_turn", "stop_sequence", "complete", "completed", "finished", "done")
FILTERED = (
    "filter",
    "safety",
    "refus",
    "recitation",
    "prohibited",
    "sensitive",
    "blocklist",
    "spii",
    "moderat",
)
Content = Sequence[Mapping[str, Any]]
"""The parts of a message: text and images, as the API takes them."""


@dataclass(frozen=True, slots=True)
class Token:
    """A sampled token, and the likeliest tokens at its place with natural log-probabilities."""

    text: str
    likeliest: tuple[tuple[str, float], ...]
    utf8: bytes | None = None

    @property
    def spelt(self) -> bytes:
        """Its bytes; a token may hold a part of a character."""
        return self.text.encode("utf-8", "replace") if self.utf8 is None else self.utf8


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer.

    Attributes:
        text: as the model wrote it.
        cut_off: the limit of ids ended it.
        problem: why there is no text to be read (refused, filtered, empty); "" where there is.
        tokens: where log-probabilities were asked for and given.
    """

    text: str
    cut_off: bool = False
    problem: str = ""
    tokens: tuple[Token, ...] = ()


class ChatClient:
    """Asks questions, from any event loop.

    Raises (on making one):
        ConfigError: settings that do not fit, or the key's environment variable is empty.
        MissingExtraError: the httpx2 package is not installed.
    """

    def __init__(self, settings: EndpointSettings) -> None:
        self.settings = settings
        self.http = JsonClient(settings)
        self._model = settings.model or ""

    @property
    def model(self) -> str:
        """The model's name; "" while it is not known."""
        return self._model

    async def check(self) -> str:
        """Find the endpoint and the model; returns the model's name.

        Where the endpoint lists no models, or not this one, one small question is asked.

        Raises:
            EndpointError: not reachable, key refused, or the model does not answer.
        """
        url = self.http.shown_url
        try:
            names = await self._served(self.http.deadline())
        except EndpointError as error:
            raise EndpointError(f"the model at {url} is not ready: {error}") from error
        wanted = self.settings.model
        if not wanted:
            if len(names) != 1:
                shown = ", ".join(names[:12]) or "no list of models"
                raise EndpointError(f"no model was named, and {url} has: {shown}")
            self._model = names[0]
        elif wanted not in names:
            try:
                question = [{"type": "text", "text": "Answer with the word yes."}]
                await self._request(question, "", 1, {}, self.http.deadline())
            except (EndpointError, InvalidAnswerError) as error:
                has = f"; it has: {', '.join(names[:12])}" if names else ""
                if str(error).startswith("HTTP 404") and not names and not url.endswith("/v1"):
                    has = "; the base of most servers ends in /v1"
                raise EndpointError(f"{wanted!r} is not served at {url} ({error}){has}") from error
        return self.model

    async def _served(self, until: float) -> list[str]:
        """Names of the models; none where the endpoint has no list that can be read."""
        try:
            page = await self.http.request("models", largest=LARGEST, until=until)
        except InvalidAnswerError:
            return []
        except EndpointError as error:
            if str(error).startswith(NO_LIST):
                return []
            raise
        listed = page.get("data") if isinstance(page, dict) else page
        entries = [entry.get("id") for entry in _list(listed) if isinstance(entry, dict)]
        return [self.http.redact(one_line(name)) for name in entries if isinstance(name, str) and name]

    async def ask(
        self, content: Content, *, name: str = "", count: int = 1, more: Mapping[str, Any] | None = None
    ) -> list[Answer]:
        """The answers to one question.

        Args:
            content: the parts of the user's message.
            name: of this question, sent as a header (printable ASCII).
            count: answers wanted.
            more: fields of the request's body beside those of the settings.

        Raises:
            EndpointError: no answer; asking later may help.
            InvalidAnswerError: what came back is no chat completion, or the question is refused.
        """
        async with self.http.limit:
            if not self._model:
                await self.check()
            answers: list[Answer] = []
            seed, until = self.settings.seed, self.http.deadline()
            while len(answers) < count:  # some servers give one answer whatever n says
                seeded = {"seed": None if seed is None else seed + len(answers), **(more or {})}
                answers += await self._request(content, name, count - len(answers), seeded, until)
            return answers[:count]

    async def _request(
        self, content: Content, name: str, count: int, more: Mapping[str, Any], until: float
    ) -> list[Answer]:
        sent = self.body(content, count, more)
        reply = await self.http.request(
            "chat/completions", sent, name=name, largest=LARGEST * count, until=until
        )
        return await asyncio.to_thread(self._answers, reply)

    def body(self, content: Content, count: int = 1, more: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The fields of a request, as `ask` sends them."""
        settings = self.settings
        body: dict[str, Any] = {
            "model": self._model,
            "messages": [{"role": "user", "content": list(content)}],
            settings.max_tokens_name: settings.max_tokens or None,
            "temperature": None if settings.temperature == "server" else settings.temperature,
            "n": count if count > 1 else None,
            **(more or {}),
            **settings.extra,
        }
        return {field: value for field, value in body.items() if value is not None}

    def _answers(self, reply: Any) -> list[Answer]:
        choices = _list(reply.get("choices")) if isinstance(reply, dict) else []
        messages = [(choice, choice.get("message")) for choice in choices if isinstance(choice, dict)]
        read = [self._answer(choice, message) for choice, message in messages if isinstance(message, dict)]
        if not read:
            said = reply.get("error") if isinstance(reply, dict) else None
            words = said.get("message") if isinstance(said, dict) else said
            why = self.http.redact(one_line(str(words or "it has no choices with a message")))[:SHOWN]
            raise InvalidAnswerError(f"what came back is not a chat completion: {why}")
        return read

    def _answer(self, choice: Mapping[str, Any], message: Mapping[str, Any]) -> Answer:
        finish = str(choice.get("finish_reason") or "stop").lower()
        filtered = any(word in finish for word in FILTERED)
        cut_off = not filtered and finish not in ENDED  # "length", or another end than the model's own
        text = _text(message.get("content"))
        if not text.strip() and not cut_off:
            text = _text(message.get("reasoning_content")) or _text(message.get("reasoning"))
        problem = ""
        refusal = str(message.get("refusal") or "").strip()
        if refusal:
            problem = f"the model refused: {one_line(refusal)[:SHOWN]}"
        elif filtered:
            problem = f"the endpoint's content filter ended the answer (finish_reason {finish})"
        elif not text.strip():
            limit = f": the limit of {self.settings.max_tokens} ids (max_tokens) was spent before it began"
            problem = f"the answer is empty{limit if cut_off else ''}"
        return Answer(self.http.redact(text), cut_off, self.http.redact(problem), _tokens(choice))


def _text(content: Any) -> str:
    """A message's text, whether it came as a string or in parts; parts of thinking are left out."""
    if isinstance(content, str):
        return content
    parts = [part for part in _list(content) if isinstance(part, dict)]
    return "".join(
        part["text"]
        for part in parts
        if part.get("type", "text") in ("text", "output_text") and isinstance(part.get("text"), str)
    )


def _tokens(choice: Mapping[str, Any]) -> tuple[Token, ...]:
    logprobs = choice.get("logprobs")
    entries = _list(logprobs.get("content")) if isinstance(logprobs, dict) else []
    tokens = []
    for entry in entries:
        if (own := _likely(entry)) is None:
            return ()
        others = [pair for other in _list(entry.get("top_logprobs")) if (pair := _likely(other)) is not None]
        if all(text != own[0] for text, _ in others):
            others.append(own)
        given = entry.get("bytes")
        utf8 = None
        if isinstance(given, list) and all(type(b) is int and 0 <= b < 256 for b in given):
            utf8 = bytes(given)
        tokens.append(Token(own[0], tuple(others), utf8))
    return tuple(tokens)


def _likely(entry: Any) -> tuple[str, float] | None:
    if not isinstance(entry, dict):
        return None
    text, logprob = entry.get("token"), entry.get("logprob")
    if not isinstance(text, str) or isinstance(logprob, bool) or not isinstance(logprob, int | float):
        return None
    if not (logprob == -math.inf or -1e9 <= logprob <= 1):  # NaN is not either
        return None
    return text, float(logprob)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
