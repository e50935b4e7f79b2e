"""Settings of data sources and of their tokenisation."""

from __future__ import annotations

from pydantic import Field

from earl.config.settings import Count, Fraction, Place, Seed, Settings, Steps
from earl.records import EditGroup, SizeRule


class SourceSettings(Settings):
    """Which rows and columns of a data source are read."""

    path: Place | None = Field(
        default=None, description="files of a built-in source: parquet, Arrow, tar, a table, or its folder"
    )
    hub: bool = Field(default=False, description="read a built-in source from the Hub")
    columns: dict[str, tuple[str, ...]] = Field(
        default={}, description="which columns hold a field, best first; all of them together for the id"
    )
    split: str | None = Field(
        default=None, description="split to read, as files, folders or a column name it; all: every row"
    )
    licence: str = Field(default="", description="of rows that do not say")
    group: EditGroup = Field(default="simple", description="of own data whose rows do not say")
    draw: int | None = Field(
        default=None,
        ge=0,
        lt=2**63,
        description="rows drawn at random (default: what the benchmark draws; 0: all)",
    )
    seed: Seed = Field(default=42, description="of that draw")


class HoldoutSettings(Settings):
    """Which source images are held back from training, where the data themselves name no splits.

    An image's content decides, so that all its edits stay on one side, in `earl prepare` and
    `earl evaluate` alike.
    """

    holdout: float = Field(
        default=0.0,
        ge=0,
        le=0.5,
        description="share of source images kept for the split validation, and left out of every other",
    )
    holdout_test: float = Field(default=0.0, ge=0, le=0.5, description="the same for the split test")


class PreparationSettings(HoldoutSettings):
    """How rows become tokenised shards."""

    area: int = Field(default=256 * 256, ge=64, le=2**28, description="px² that images are brought to")
    rule: SizeRule = Field(default="snap", description="how sides are rounded, the tokenizer's own")
    tolerance: int = Field(default=16, ge=0, le=255, description="levels below which pixels are unchanged")
    margin: int = Field(default=1, ge=0, le=8, description="cells around a change that count as changed")
    shard_rows: Count = Field(default=512, description="rows of a shard")
    batch: Count = Field(default=16, description="pairs of images encoded at once")
    max_rejected: Fraction = Field(default=0.05, description="share of bad samples that stops")
    limit: int = Field(default=0, ge=0, description="rows looked at; 0: all")


class ReasoningSettings(Settings):
    """How chains of thought are made for prepared edits."""

    side: int = Field(default=512, ge=64, le=4096, description="px, longer side of the images as shown")
    limit: Steps = Field(default=0, description="edits at most; 0: all; a larger one goes on in a folder")
    max_rejected: Fraction = Field(default=0.2, description="stop when a larger share of answers is unfit")


class TargetSettings(Settings):
    """How target images are drawn by a model (`earl prepare edits`)."""

    best_of: int = Field(
        default=8, ge=1, le=64, description="edits drawn of each row; the best is its target"
    )
    least: float = Field(default=6.0, ge=0, le=10, description="overall score below which a row is refused")
    at_once: int = Field(default=8, ge=1, le=256, description="rows that are drawn together")
    pair_gap: float | None = Field(
        default=None,
        gt=0,
        le=10,
        description="also keep each row's worst edit, for `earl train dpo`; a row is refused where it scores "
        "less than so many points below the best",
    )
