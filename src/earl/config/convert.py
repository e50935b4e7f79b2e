"""Settings of a model's conversion."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from earl.config.model import Dtype
from earl.config.settings import Place, Settings, Temperature
from earl.records import PARTS, Bits, Part


class ConversionSettings(Settings):
    """A model's parts brought into one clean folder."""

    dtype: Dtype = Field(default="auto", description="of the policy's weights; auto: as they are stored")
    quantize: Bits | None = Field(
        default=None, description="write the policy's matrices in 8 or 4 bits, to edit with on CPUs"
    )
    temperature: Temperature = Field(
        default=1.0,
        description="fold a sampling temperature in: the new policy samples at 1 as the source does at this",
    )
    revision: str | None = Field(default=None, description="branch, tag or commit of a hub id")
    tokenizer: Place | None = Field(default=None, description="take the text tokenizer from another model")
    vision: Place | None = Field(default=None, description="take the vision tokenizer from another model")
    parts: tuple[Part, ...] = Field(default=PARTS, min_length=1, description="what is written")

    def problems(self) -> Iterator[str]:
        if self.temperature != 1 and "policy" not in self.parts:
            yield "temperature is folded into the policy, which is not among the parts"
        if self.quantize is not None and "policy" not in self.parts:
            yield "quantize changes the policy's weights, which are not among the parts"
