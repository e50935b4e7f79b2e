"""The recipe of each stage: tokenizer, base, sft, grpo. `load_stage` picks the schema by `stage`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from earl.config.grpo import Grpo, HeldOut, Judging, Prompts, Rollouts, Samples, Stops
from earl.config.recipe import check, read_recipe_table
from earl.config.sections import (
    Batch,
    Checkpoint,
    Count,
    Data,
    Ema,
    Fraction,
    Hiding,
    Kinship,
    Length,
    Lora,
    Model,
    Optimiser,
    Precision,
    Ranks,
    Run,
    Schedule,
    Steps,
    Validation,
)
from earl.config.settings import Settings
from earl.config.verifier import RewardSettings
from earl.errors import ConfigError
from earl.registry import PROMPTS


class TrainingRecipe(Settings):
    """What every gradient-trained stage has."""

    title: str = Field(default="", description="one line for people")
    run: Run
    length: Length
    batch: Batch
    optimiser: Optimiser
    schedule: Schedule = Schedule()
    precision: Precision = Precision()
    ranks: Ranks = Ranks()
    checkpoint: Checkpoint = Checkpoint()
    validation: Validation = Validation()
    ema: Ema | None = None

    @model_validator(mode="after")
    def _schedule_fits(self) -> TrainingRecipe:
        schedule, length = self.schedule, self.length
        if schedule.minimum > self.optimiser.learning_rate:
            raise ValueError(
                f"schedule.minimum = {schedule.minimum} is above optimiser.learning_rate = "
                f"{self.optimiser.learning_rate}"
            )
        if self.batch.share > 1 and self.precision.gradient_checkpointing:
            raise ValueError(
                f"batch.share = {self.batch.share} and precision.gradient_checkpointing = true exclude each "
                "other: sharing keeps the source's keys and values"
            )
        if self.precision.frozen != "float32" and getattr(self, "lora", None) is None:
            raise ValueError(
                f"precision.frozen = {self.precision.frozen!r} needs [lora]: without an adapter all weights "
                "are trained, in float32"
            )
        if self.ranks.sharding != "none" and self.batch.share > 1:
            raise ValueError(
                f"ranks.sharding = {self.ranks.sharding!r} and batch.share = {self.batch.share} exclude each "
                "other: a shared source goes through each layer twice"
            )
        if self.ranks.sharding != "none" and self.optimiser.name == "muon":
            raise ValueError(
                "ranks.sharding = 'fsdp2' and optimiser.name = 'muon' exclude each other: Muon needs whole "
                "matrices"
            )
        kinship = getattr(self, "kinship", None)
        if self.ranks.sharding != "none" and kinship is not None and kinship.embeddings:
            raise ValueError(
                f"ranks.sharding = {self.ranks.sharding!r} and kinship.embeddings = true exclude each other: "
                "their gradients are shared whole"
            )
        if length.steps is not None and schedule.warmup_steps > length.steps:
            raise ValueError(
                f"schedule.warmup_steps = {schedule.warmup_steps} is above length.steps = {length.steps}"
            )
        return self


class BaseTasks(Settings):
    """Shares of the base stage's sequences; they add up to 1."""

    caption_to_image: Fraction = 0.4
    image_to_caption: Fraction = 0.2
    identity: Fraction = Field(default=0.4, description="an edit that asks for no change: copying")
    answer: Fraction = Field(
        default=0.0, description="answers to questions about an image; the shards must have them"
    )
    cover: Fraction = Field(
        default=0.0, description="the image with what a question names covered; needs questions too"
    )
    edit: Fraction = Field(default=0.0, description="edits, as in SFT, so that what is read is put to use")

    @model_validator(mode="after")
    def _sum(self) -> BaseTasks:
        shares = self.model_dump()
        total = sum(shares.values())
        if abs(total - 1) > 1e-6:
            names = " + ".join(f"tasks.{name}" for name in shares)
            raise ValueError(f"{names} = {total:g}, expected 1")
        return self


class BaseRecipe(TrainingRecipe):
    """Before SFT: captions to images, images to captions, identity edits (loss on all tokens), answers
    and edits (loss on what follows the instruction)."""

    stage: Literal["base"]
    model: Model
    data: Data
    tasks: BaseTasks = BaseTasks()
    hiding: Hiding | None = None
    kinship: Kinship | None = None
    lora: Lora | None = None


class SftRecipe(TrainingRecipe):
    """Supervised fine-tuning on edits; loss on the completion only."""

    stage: Literal["sft"]
    model: Model
    data: Data
    hiding: Hiding | None = None
    kinship: Kinship | None = None
    lora: Lora | None = None
    prefill: Literal["size", "direct", "free"] = Field(
        default="direct",
        description="what sampling will force; data.reasoning makes it the reasoning opening",
    )
    score_forced: bool = Field(
        default=False, description="as the release: tokens that the grammar forces are scored too"
    )

    @model_validator(mode="after")
    def _early_stop_has_data(self) -> SftRecipe:
        if self.validation.patience is not None and self.data.validation is None:
            raise ValueError("validation.patience needs data.validation: there is no loss to watch")
        return self


class GrpoRecipe(TrainingRecipe):
    """Reinforcement learning with a verifier. A step is one round of sampling, `grpo.updates` updates.

    `batch.sequences` is P x G rollouts; a rank's forward pass holds `batch.micro` of them.
    """

    stage: Literal["grpo"]
    model: Model
    prompts: Prompts = Prompts()
    rollouts: Rollouts = Rollouts()
    grpo: Grpo = Grpo()
    verifier: RewardSettings
    judging: Judging = Judging()
    stops: Stops = Stops()
    heldout: HeldOut = HeldOut()
    samples: Samples = Samples()
    kinship: Kinship | None = None
    lora: Lora | None = None

    @property
    def prompts_per_step(self) -> int:
        """P."""
        return self.batch.sequences // self.rollouts.group

    @model_validator(mode="after")
    def _groups_fit(self) -> GrpoRecipe:
        group = self.rollouts.group
        if self.batch.micro % group:  # and batch.sequences is a multiple of batch.micro
            raise ValueError(
                f"batch.micro = {self.batch.micro} is not a multiple of rollouts.group = {group}"
            )
        if self.batch.share > 1:
            raise ValueError("batch.share is for SFT; a group's prompt is shared by grpo.share_prompt")
        if self.length.steps is None:
            raise ValueError("length.steps is missing: length.epochs has no meaning where prompts are drawn")
        if self.validation.patience is not None or self.validation.edits:
            raise ValueError(
                "validation.patience and validation.edits are for SFT; use stops.patience and heldout.prompts"
            )
        if self.verifier.second is not None and not self.heldout.prompts:
            raise ValueError(
                "verifier.second looks at held-out prompts only, and heldout.prompts = 0 leaves it none"
            )
        if self.grpo.mirror_release and self.kinship is not None:
            raise ValueError(
                "grpo.mirror_release = true and [kinship] exclude each other: the release shares nothing"
            )
        if self.model.start is None:
            raise ValueError("model.start is missing: reinforcement begins with a policy that edits already")
        return self


class TokenizerModel(Settings):
    """A vision tokenizer to create, or to continue from."""

    start: str | None = Field(default=None, description="folder or name to continue from")
    keep_codes: bool = Field(
        default=False,
        description="teach the decoder alone: images keep their codes, so policies stay valid; needs start",
    )
    base_channels: int = Field(default=32, ge=32, description="width; a multiple of 32 (GroupNorm)")
    channel_multiplier: tuple[Count, ...] = (1, 1, 2, 4)
    residual_blocks: Count = 1
    codebook_size: int = Field(default=512, ge=2)
    code_dimensions: int = Field(default=4, ge=1, description="of one code")
    area: int = Field(default=64 * 64, ge=64, description="px² of the images it is meant for")

    @model_validator(mode="after")
    def _groups(self) -> TokenizerModel:
        if self.keep_codes and self.start is None:
            raise ValueError("model.keep_codes = true needs model.start: there are no codes to keep yet")
        if self.base_channels % 32:
            raise ValueError(f"model.base_channels = {self.base_channels} is not a multiple of 32")
        return self


class TokenizerImages(Settings):
    """The images a tokenizer learns from: sources and targets of a prompt source's tasks, drawn once into a
    cache, or a folder's."""

    origin: str = Field(
        default="world", description="folder, or a prompt source: its name or 'package.module:attribute'"
    )
    folder: str | None = Field(default=None, description="of image files, for origin = 'folder'")
    resolution: int = Field(default=64, ge=16, le=4096, description="px, side of the square images")
    count: Count = Field(default=20_000, description="images rendered into the cache")
    crop: int | None = Field(default=None, ge=16, description="px, side of the crops of the first part")
    crop_steps: Steps = Field(default=0, description="steps trained on crops")
    crops_per_image: Count = Field(default=1, description="crops taken from each image of a batch")
    families: tuple[str, ...] = Field(
        default=(), description="tasks of these edit families only; none given: of all"
    )
    options: dict[str, Any] = Field(default_factory=dict, description="the prompt source's own settings")
    cache: str | None = Field(default=None, description="file of drawn images; default: in run.folder")

    @model_validator(mode="after")
    def _crops(self) -> TokenizerImages:
        if self.resolution % 8:
            raise ValueError(f"images.resolution = {self.resolution} is not a multiple of 8")
        if self.origin != "folder" and self.origin not in PROMPTS:
            raise ValueError(
                f"images.origin = {self.origin!r}: expected folder, {', '.join(PROMPTS.names())} or "
                "'package.module:attribute'"
            )
        if (self.origin == "folder") != (self.folder is not None):
            raise ValueError(
                f"images.origin = {self.origin!r} and images.folder = {self.folder!r} disagree: "
                "give the folder exactly when the origin is 'folder'"
            )
        if self.crop_steps and (self.crop is None or self.crop > self.resolution or self.crop % 8):
            raise ValueError(
                f"images.crop_steps = {self.crop_steps} needs images.crop, a multiple of 8 of at most "
                f"images.resolution = {self.resolution}; it is {self.crop}"
            )
        return self


class TokenizerLosses(Settings):
    """Weights of the parts of the loss, and when quantisation starts."""

    l1: float = Field(default=1.0, ge=0)
    l2: float = Field(default=1.0, ge=0)
    gradient: float = Field(default=1.0, ge=0, description="differences between neighbouring pixels")
    color: float = Field(default=0.0, ge=0, description="of 4 x 4 blocks, more where the image is vivid")
    commitment: float = Field(default=0.25, ge=0)
    edges: float = Field(default=0.0, ge=0, description="how much more pixels near strong edges count")
    warmup_steps: Steps = Field(default=500, description="steps without quantisation, then k-means start")
    codebook_decay: float = Field(default=0.99, gt=0, lt=1, description="of the moving average, per step")


class TokenizerRecipe(TrainingRecipe):
    """Learning a vision tokenizer. `batch` counts pictures."""

    stage: Literal["tokenizer"]
    model: TokenizerModel = TokenizerModel()
    images: TokenizerImages = TokenizerImages()
    losses: TokenizerLosses = TokenizerLosses()

    @model_validator(mode="after")
    def _own_averages(self) -> TokenizerRecipe:
        if self.ema is not None:
            raise ValueError(
                "ema is not for stage = 'tokenizer': averaged weights would not fit the codebook"
            )
        if self.ranks.sharding != "none":
            raise ValueError("ranks.sharding is for policies; a vision tokenizer fits on every device")
        return self


STAGES: dict[str, type[TrainingRecipe]] = {
    "tokenizer": TokenizerRecipe,
    "base": BaseRecipe,
    "sft": SftRecipe,
    "grpo": GrpoRecipe,
}


def load_stage(
    path: str | Path, overrides: Sequence[str] = (), *, stage: str | None = None
) -> TrainingRecipe:
    """Read the recipe of a training stage.

    Args:
        stage: the stage that the caller runs; None takes whatever the recipe says.

    Raises:
        ConfigError: see `recipe.check`; or the recipe is for another stage.
    """
    table = read_recipe_table(path, overrides)
    named = table.get("stage")
    if named not in STAGES:
        raise ConfigError(f"{path}: stage = {named!r}; expected one of {', '.join(sorted(STAGES))}")
    if stage is not None and named != stage:
        raise ConfigError(f"{path} is a recipe of stage {named!r}; this command runs {stage!r}")
    return check(STAGES[named], table, origin=str(path))
