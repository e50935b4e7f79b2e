"""Settings of the world's training data and of its benchmark of vision tokenizers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from earl.config.options import Option
from earl.config.settings import Count, Seed, Settings
from earl.data.tasks import Split


def _known(names: tuple[str, ...]) -> tuple[str, ...]:
    from earl.world.families import FAMILIES, REFUSED

    if unknown := [name for name in names if name not in FAMILIES and name not in REFUSED]:
        raise ValueError(f"unknown edit family {unknown[0]!r}; there are {', '.join(FAMILIES)}")
    return names


Families = Annotated[tuple[str, ...], Option(metavar="FAMILY"), AfterValidator(_known)]
UnseenSplit = Literal["validation", "test", "heldout"]


class WorldData(Settings):
    """Tokenised edits of the world: source images, and several edits of each."""

    sources: Count = Field(default=20_000, description="source images")
    split: Split = Field(default="train", description="which scenes")
    families: Families = Field(default=(), description="only these edit families")
    kinds: Literal["full", "few"] = Field(default="full", description="few: plain large solids only")
    group_size: Annotated[int, Option(name="edits")] = Field(
        default=4, ge=1, le=16, description="most edits of one source"
    )
    first_seed: Seed = Field(default=0, description="of the first source; the next ones count up")
    resolution: int = Field(default=64, ge=16, le=4096, multiple_of=8, description="px")
    shard_sources: Count = Field(default=1024, description="source images of a shard")
    questions: int = Field(default=2, ge=0, le=64, description="about the source, of each edit")
    reasoning: Literal["steps", "plan"] = Field(
        default="steps", description="before the image: the paper's five steps, or a short plan"
    )
    margin: int = Field(default=0, ge=0, le=8, description="cells around a change that count as changed")


class TokenizerBenchmark(Settings):
    """Scenes that a vision tokenizer is measured on."""

    num: Count = Field(default=200, description="scenes, drawn in the five styles in turn")
    seed: Seed = Field(default=0, description="of the scenes")
    split: UnseenSplit = Field(default="test", description="heldout: combinations never trained on")
    resolution: int | None = Field(
        default=None, ge=16, multiple_of=8, description="px (default: the tokenizer's own)"
    )
    batch: Count = Field(default=32, description="images encoded together; changes the speed only")
