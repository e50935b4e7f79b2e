"""Settings of the verifier that scores edits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import Field

from earl.config.endpoint import JudgeSettings
from earl.config.settings import Settings
from earl.registry import VERIFIERS

JUDGED = ("judge", "reference", "pairwise", "rubric")
"""Kinds that ask a model behind an endpoint."""


class OneVerifier(Settings):
    """A verifier by its registered name."""

    kind: str = Field(
        description="judge: a model behind an endpoint; reference: the same, shown the target image too; "
        "pairwise, rubric: the same, comparing edits or answering checks; target: pixels against the target "
        "image; or another registered name, as scene, or package.module:attribute"
    )
    judge: JudgeSettings | None = Field(default=None, description="for kinds that ask a model")
    options: dict[str, Any] = Field(default_factory=dict, description="of another kind's factory, by name")

    def problems(self) -> Iterator[str]:
        if self.kind != "sum" and self.kind not in VERIFIERS:
            known = ", ".join(["sum", *VERIFIERS.names()])
            yield f"kind = {self.kind!r}: expected one of {known}, or 'package.module:attribute'"
        if (self.kind in JUDGED) != (self.judge is not None):
            yield (
                f"kind = {self.kind!r} and judge{' (given)' if self.judge else ' (missing)'} disagree: give "
                f"judge.url exactly when the kind is one of {', '.join(JUDGED)}"
            )
        if self.options and self.kind in (*JUDGED, "sum"):
            yield f"options are for kinds of other packages; kind = {self.kind!r} takes none"


class WeightedVerifier(OneVerifier):
    """One verifier of a weighted sum."""

    weight: float = Field(default=1.0, gt=0, description="against the sum of all weights")


class VerifierSettings(OneVerifier):
    """A verifier, or a weighted sum of several (kind = 'sum')."""

    parts: dict[str, WeightedVerifier] = Field(default_factory=dict, description="by name, for kind = 'sum'")

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        if (self.kind == "sum") != bool(self.parts):
            yield (
                f"kind = {self.kind!r} and {len(self.parts)} parts disagree: give parts exactly when "
                "the kind is 'sum'"
            )

    @property
    def needs_target(self) -> bool:
        """It, or a part of it, compares with the target image."""
        return bool({"reference", "target"} & {self.kind, *(part.kind for part in self.parts.values())})


class RewardSettings(VerifierSettings):
    """The verifier that gives the rewards."""

    second: VerifierSettings | None = Field(
        default=None, description="another verifier, which scores held-out prompts only"
    )
