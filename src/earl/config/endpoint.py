"""Models behind OpenAI-compatible endpoints: judges, and writers of reasoning."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from earl.config.settings import Count, Place, Seconds, Settings, Steps
from earl.registry import QUESTIONS


class EndpointSettings(Settings):
    """A model behind an OpenAI-compatible endpoint, and how it is asked."""

    url: str = Field(description="base of the API, as http://host:8000/v1")
    model: str | None = Field(default=None, description="the model's name there (default: the only one)")
    key_env: str | None = Field(
        default=None, description="environment variable that holds the key; none is sent without"
    )
    concurrency: Count = Field(default=32, description="questions in flight")
    timeout: Seconds = Field(default=60.0, description="seconds for one request")
    deadline: Seconds = Field(default=180.0, description="seconds for one question with all its retries")
    retries: Steps = Field(default=4, description="after HTTP 429, 5xx and time-outs")
    temperature: Literal["server"] | float = Field(
        default=0.0, description="of the model, 0 to 2; server: send none and leave the server's own"
    )
    max_tokens: Steps = Field(default=1024, description="ids of one answer, at most; 0 sends no limit")
    max_tokens_name: Literal["max_completion_tokens", "max_tokens"] = Field(
        default="max_completion_tokens", description="what the server calls that limit"
    )
    seed: int | None = Field(default=None, description="sent along")
    extra: dict[str, Any] = Field(
        default_factory=dict, description="more fields of the request's body, as they are"
    )

    def problems(self) -> Iterator[str]:
        if not self.url.startswith(("http://", "https://")):
            yield f"url = {self.url!r}: expected http:// or https://"
        if self.key_env is not None and not re.fullmatch(r"[A-Za-z_]\w{0,60}", self.key_env):
            yield "key_env takes the name of an environment variable, as MY_KEY, not the key itself"
        if self.temperature != "server" and not 0 <= self.temperature <= 2:
            yield f"temperature = {self.temperature:g}: expected 0 to 2, or 'server'"


class JudgeSettings(EndpointSettings):
    """A multimodal model that scores edits, and how it is asked."""

    protocol: str = Field(
        default="earl",
        description="the questions and how they are asked: earl, viescore, ground, editscore, firm, imgedit, "
        "risebench, or a registered name",
    )
    prompts: Place | None = Field(
        default=None,
        description="folder of own questions, or the file with the protocol's words, its folder, its package",
    )
    text_first: bool = Field(default=False, description="a question without image places comes before them")
    jpeg: int = Field(default=0, ge=0, le=95, description="quality of JPEG images; 0 sends lossless PNG")
    rounds: int = Field(default=1, ge=1, le=20, description="times that an unreadable answer is asked for")
    samples: Count = Field(default=1, description="answers averaged; needs a temperature above 0")
    swap: bool = Field(default=False, description="ask in both orders of the images and average")
    structured: bool = Field(default=False, description="ask for the JSON schema of the answer")
    expected: bool = Field(
        default=False, description="mean score under the token log-probabilities in place of the one written"
    )

    comparisons: Count = Field(
        default=4, multiple_of=2, description="of each edit with others of its group (kind pairwise)"
    )
    rubrics: Place | None = Field(
        default=None, description="JSON Lines file that keeps the checks of each instruction (kind rubric)"
    )

    @model_validator(mode="before")
    @classmethod
    def _as_published(cls, given: Any) -> Any:
        """The protocol's way of asking, under what is given."""
        if not isinstance(given, Mapping):
            return given
        name = given.get("protocol", "earl")
        if name not in QUESTIONS:
            raise ValueError(
                f"protocol = {name!r}: expected one of {', '.join(QUESTIONS.names())}, or "
                "'package.module:attribute'"
            )
        published = QUESTIONS.load(name)
        merged = {**published.settings, **given}
        if published.file and not merged.get("prompts"):
            raise ValueError(
                f"protocol = {name!r} needs prompts: {published.file}, a folder with it, or an installed "
                "package that has it"
            )
        return merged

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        if self.samples > 1 and self.temperature == 0:
            yield f"samples = {self.samples} with temperature = 0 gives the same answer each time"


class WriterSettings(EndpointSettings):
    """A multimodal model that writes chains of thought or instructions."""

    prompts: Place | None = Field(default=None, description="folder of own wording")
    attempts: int = Field(default=3, ge=1, le=20, description="answers to one question, at most")
    timeout: Seconds = Field(default=120.0, description="seconds for one request")
    deadline: Seconds = Field(default=300.0, description="seconds for one question with all its retries")
