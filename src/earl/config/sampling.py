"""Settings of sampling: the distribution that ids are drawn from."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from earl.config.settings import Count, Seed, Settings, Temperature


class DrawSettings(Settings):
    """The distribution that ids are drawn from. Defaults are the paper's (arXiv 2508.01119)."""

    temperature: Temperature = Field(
        default=1.0, description="logits are divided by it; what is 0 elsewhere is greedy here"
    )
    top_k: int = Field(default=2048, ge=0, description="draw among so many likeliest ids; 0 keeps all")
    top_p: float = Field(
        default=1.0, gt=0, le=1, description="draw among the likeliest ids with this share of the probability"
    )
    max_text_tokens: Count = Field(default=1024, description="ids of text before the image, at most")


class SamplingSettings(DrawSettings):
    """How an edit is sampled. The same settings and seed give the same image."""

    seed: Seed = Field(default=0, description="of the first image; the next ones count up from it")
    greedy: bool = Field(
        default=False, description="always the likeliest id; temperature then only scales log-probabilities"
    )
    guidance: float = Field(
        default=1.0,
        ge=1,
        le=100,
        description="classifier-free guidance of image codes away from the negative instruction; 1: none; "
        "above 1 doubles the work",
    )
    negative_instruction: str | None = Field(
        default=None, description="what guidance leads away from (default: 'keep the picture as it is')"
    )
    reasoning: bool | None = Field(
        default=None, description="let the model write a chain of thought first (default: as it was trained)"
    )

    @property
    def guided(self) -> bool:
        """Whether samples are drawn with guidance."""
        return self.guidance != 1.0

    def problems(self) -> Iterator[str]:
        if self.negative_instruction is not None and not self.guided:
            yield (
                "negative_instruction names what guidance leads away from: give guidance above 1, or neither"
            )
