"""The section `[verifier]`: who judges a reinforcement run, and who else looks at it.

What the sections describe is made by `earl.verifiers.factory`.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from earl.config.recipe import Section
from earl.config.sections import Count, Steps
from earl.registry import VERIFIERS

Part = Literal["edit_success", "over_editing", "naturalness", "artifacts"]
OWN = ("judge", "ground", "sum")
"""The core's kinds of verifier; all others are looked up in `earl.registry.VERIFIERS`."""


class Asking(Section):
    """A model behind an OpenAI-compatible endpoint, and how it is asked (`earl.endpoints.client`)."""

    url: str = Field(description="base of the API, ending in /v1")
    model: str | None = Field(default=None, description="the model's name there; default: the only one")
    key_env: str | None = Field(default=None, description="environment variable with the key; none: no key")
    prompts: str | None = Field(default=None, description="folder of own questions")
    concurrency: Count = Field(default=32, description="questions in flight")
    timeout: float = Field(default=60.0, gt=0, description="seconds for one request")
    deadline: float = Field(default=180.0, gt=0, description="seconds for one question with all retries")
    retries: Steps = Field(default=4, description="after 429, 5xx and time-outs")
    temperature: float = Field(default=0.0, ge=0, le=2, description="of the judge")
    server_temperature: bool = Field(default=False, description="send none and leave the server's own")
    max_tokens: Count = Field(default=1024, description="of one answer")
    seed: int | None = Field(default=None, description="sent along")
    samples: Count = Field(default=1, description="answers averaged; needs a temperature above 0")
    swap: bool = Field(default=False, description="ask in both orders of the images and average")
    structured: bool = Field(default=False, description="ask for the JSON schema of the answer")
    expected: bool = Field(default=False, description="mean score under the token log-probabilities")
    extra: dict[str, Any] = Field(default_factory=dict, description="into the request's body as it is")

    @model_validator(mode="after")
    def _answers_differ(self) -> Asking:
        if not self.url.startswith(("http://", "https://")):
            raise ValueError(f"judge.url = {self.url!r}: expected http:// or https://")
        if self.samples > 1 and self.temperature == 0 and not self.server_temperature:
            raise ValueError(
                f"judge.samples = {self.samples} with judge.temperature = 0 gives the same one each time"
            )
        return self


class Weighted(Section):
    """One verifier of a sum."""

    kind: str = Field(description="judge, ground, or a verifier's name or 'package.module:attribute'")
    weight: float = Field(default=1.0, gt=0, description="against the sum of all weights")
    judge: Asking | None = Field(default=None, description="for kind = 'judge' or 'ground'")

    @model_validator(mode="after")
    def _asked(self) -> Weighted:
        _check_asked(self.kind, self.judge)
        return self


class Choice(Section):
    """A verifier: a judge, a judge with the target image, a registered one, or a weighted sum."""

    kind: str = Field(
        default="scene", description="judge, ground, sum, or a verifier's name or 'package.module:attribute'"
    )
    judge: Asking | None = Field(default=None, description="for kind = 'judge' or 'ground'")
    parts: dict[str, Weighted] = Field(default_factory=dict, description="by name, for kind = 'sum'")

    @model_validator(mode="after")
    def _fits(self) -> Choice:
        _check_asked(self.kind, self.judge)
        if (self.kind == "sum") != bool(self.parts):
            raise ValueError(
                f"verifier.kind = {self.kind!r} and {len(self.parts)} verifier.parts disagree: give parts "
                "exactly when the kind is 'sum'"
            )
        return self

    @property
    def needs_target(self) -> bool:
        """It, or a part of it, compares with the target image."""
        return "ground" in {self.kind, *(part.kind for part in self.parts.values())}


class Verifying(Choice):
    """What gives the rewards. `noise` and `blind` make it worse on purpose, for comparison."""

    noise: float = Field(default=0.0, ge=0, le=10, description="points, std of noise on each of the 4 scores")
    noise_seed: int = Field(default=0, ge=0, description="other noise for the same edits")
    blind: Part | None = Field(default=None, description="a score that it cannot see: always 10")
    second: Choice | None = Field(
        default=None, description="another verifier, which only looks at held-out prompts"
    )


def _check_asked(kind: str, judge: Asking | None) -> None:
    if kind not in OWN and kind not in VERIFIERS:
        known = ", ".join([*OWN, *VERIFIERS.names()])
        raise ValueError(f"kind = {kind!r}: expected one of {known}, or 'package.module:attribute'")
    if (kind in ("judge", "ground")) != (judge is not None):
        raise ValueError(
            f"kind = {kind!r} and judge{' (given)' if judge else ' (missing)'} disagree: give judge.url "
            "exactly when the kind is 'judge' or 'ground'"
        )
