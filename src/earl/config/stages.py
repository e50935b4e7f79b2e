"""The recipe of each stage: tokenizer, sft, dpo, grpo. `load_stage` picks the schema by `stage`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from earl.config.grpo import EarlyStopping, Grpo, HeldOut, Judging, Prompts, Rollouts, Strips, importance_cap
from earl.config.model import Memory
from earl.config.recipe import check, read_recipe_table
from earl.config.sections import (
    BatchSizes,
    Checkpoint,
    Data,
    Ema,
    Length,
    Lora,
    Model,
    Optimiser,
    Precision,
    Ranks,
    Run,
    Schedule,
    SmoothingSettings,
    Sources,
    TokenDropout,
    Validation,
)
from earl.config.settings import Count, Fraction, Place, Settings, Steps
from earl.config.verifier import RewardSettings
from earl.errors import ConfigError
from earl.registry import PROMPTS


class TrainingRecipe(Settings):
    """The sections that every stage has."""

    stage: str
    title: str = Field(default="", description="one line for people")
    run: Run
    length: Length
    batch: BatchSizes
    optimiser: Optimiser
    schedule: Schedule = Schedule()
    precision: Precision = Precision()
    checkpoint: Checkpoint = Checkpoint()
    validation: Validation = Validation()

    def problems(self) -> Iterator[str]:
        schedule, length = self.schedule, self.length
        if schedule.minimum > self.optimiser.learning_rate:
            yield (
                f"schedule.minimum = {schedule.minimum} is above optimiser.learning_rate = "
                f"{self.optimiser.learning_rate}"
            )
        if length.max_steps is not None and schedule.warmup_steps > length.max_steps:
            yield (
                f"schedule.warmup_steps = {schedule.warmup_steps} is above length.max_steps = "
                f"{length.max_steps}"
            )


class PolicyRecipe(TrainingRecipe):
    """The sections that every stage of a policy has."""

    model: Model
    ranks: Ranks = Ranks()
    ema: Ema | None = None
    neighbour_smoothing: SmoothingSettings | None = None
    lora: Lora | None = None

    @property
    def one_pass(self) -> bool:
        """Whether a shared prompt goes through the layers in one row with what follows it, not before it.

        Activations that are recomputed leave no cache to share; and sharded weights are made full for one
        pass through a layer and its backward pass, where a cache means two passes.
        """
        return self.precision.gradient_checkpointing or self.ranks.sharding != "none"

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        smoothing, sharded = self.neighbour_smoothing, self.ranks.sharding != "none"
        if self.batch.share > 1 and self.precision.gradient_checkpointing:
            yield (
                f"batch.share = {self.batch.share} and precision.gradient_checkpointing = true exclude each "
                "other: sharing keeps the source's keys and values"
            )
        if self.precision.frozen != "float32" and self.lora is None:
            yield (
                f"precision.frozen = {self.precision.frozen!r} needs [lora]: without an adapter all weights "
                "are trained, in float32"
            )
        if sharded and self.batch.share > 1:
            yield (
                f"ranks.sharding = {self.ranks.sharding!r} and batch.share = {self.batch.share} exclude each "
                "other: a shared source goes through each layer twice"
            )
        if sharded and self.optimiser.name == "muon":
            yield (
                "ranks.sharding = 'fsdp2' and optimiser.name = 'muon' exclude each other: Muon needs whole "
                "matrices"
            )
        if sharded and smoothing is not None:
            yield (
                f"ranks.sharding = {self.ranks.sharding!r} and [neighbour_smoothing] exclude each other: it "
                "needs whole embeddings"
            )
        if smoothing is not None and self.lora is not None and not smoothing.targets:
            yield (
                "[lora] leaves the embeddings as they are, so [neighbour_smoothing] needs "
                "neighbour_smoothing.targets above 0 beside it"
            )


class Tasks(Settings):
    """Shares of an SFT run's sequences; they add up to 1. The loss is on all tokens of captions and
    identity edits, on the completion of the others."""

    edit: Fraction = Field(default=1.0, description="edits")
    identity: Fraction = Field(default=0.0, description="an edit that asks for no change: copying")
    caption_to_image: Fraction = Field(default=0.0, description="a caption, then its image")
    image_to_caption: Fraction = Field(default=0.0, description="an image, then its caption")
    answer: Fraction = Field(
        default=0.0, description="answers to questions about an image; the shards must have them"
    )
    cover: Fraction = Field(
        default=0.0, description="the image with what a question names covered; needs questions too"
    )

    def problems(self) -> Iterator[str]:
        shares = self.model_dump()
        total = sum(shares.values())
        if abs(total - 1) > 1e-6:
            names = " + ".join(f"tasks.{name}" for name in shares)
            yield f"{names} = {total:g}, expected 1"


class SftValidation(Validation):
    """Loss on held-back data, and images of it."""

    images: int = Field(default=4, ge=0, le=32, description="held-back edits that are drawn each time")


class SftRecipe(PolicyRecipe):
    """Supervised fine-tuning on edits, and on other tasks of the same images."""

    stage: Literal["sft"]
    validation: SftValidation = SftValidation()
    data: Data
    tasks: Tasks = Tasks()
    token_dropout: TokenDropout | None = None
    dropout: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="share of activations set to 0 in training: embeddings, attention, layers' outputs "
        "(the release: 0.1)",
    )
    prefill: Literal["size", "direct", "free"] = Field(
        default="direct",
        description="what sampling will force; data.reasoning makes it the reasoning opening",
    )
    score_forced: bool = Field(
        default=False, description="as the release: the whole completion is scored, forced tokens too"
    )

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        if self.validation.patience is not None and not self.data.held_back:
            yield "validation.patience needs data.validation: there is no loss to watch"


class Dpo(Settings):
    """The loss of preference tuning."""

    beta: float = Field(
        default=0.1, gt=0, le=10, description="of the log-ratios to the start: how far a pair's gap is pushed"
    )


class DpoRecipe(PolicyRecipe):
    """Preference tuning on pairs of edits (DPO). `batch` counts pairs."""

    stage: Literal["dpo"]
    data: Sources
    dpo: Dpo = Dpo()

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        if self.model.start is None:
            yield "model.start is missing: preferences tune a policy that edits already"
        if self.batch.share > 1:
            yield "batch.share is for SFT; the two edits of a pair always share their prompt"
        if self.validation.patience is not None and not self.data.held_back:
            yield "validation.patience needs data.validation: there is no loss to watch"


class GrpoRecipe(PolicyRecipe):
    """Reinforcement learning with a verifier. A step is one round of sampling, `grpo.updates` updates.

    `batch.global_size` is P x G rollouts; a rank's forward pass holds `batch.micro_size` of them.
    """

    stage: Literal["grpo"]
    prompts: Prompts
    rollouts: Rollouts = Rollouts()
    grpo: Grpo = Grpo()
    verifier: RewardSettings
    judging: Judging = Judging()
    early_stopping: EarlyStopping = EarlyStopping()
    heldout: HeldOut = HeldOut()
    strips: Strips = Strips()

    @property
    def compares(self) -> bool:
        """Whether the loss looks at the sampler's probabilities."""
        capped = importance_cap(self.grpo, self.rollouts) is not None
        return capped or self.grpo.importance_range is not None

    @property
    def prompts_per_step(self) -> int:
        """P."""
        return self.batch.global_size // self.rollouts.group

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        group = self.rollouts.group
        if self.batch.micro_size % group:  # and batch.global_size is a multiple of batch.micro_size
            yield f"batch.micro_size = {self.batch.micro_size} is not a multiple of rollouts.group = {group}"
        if self.batch.share > 1:
            yield "batch.share is for SFT; a group's rollouts always share their prompt"
        if self.length.max_steps is None:
            yield "length.max_steps is missing: prompts are drawn, so there are no epochs"
        if self.validation.patience is not None:
            yield "validation.patience is for SFT; use early_stopping.patience"
        if self.verifier.second is not None and not self.heldout.prompts:
            yield "verifier.second scores held-out prompts only, and heldout.prompts = 0 leaves it none"
        if self.heldout.prompts and self.prompts.origin == "shards" and not self.heldout.held_back:
            yield (
                "prompts.origin = 'shards' has no held-out prompts: set heldout.path to a folder of shards "
                "that is not trained on, or [heldout.sources], or heldout.prompts = 0"
            )
        if self.grpo.mirror_release and self.neighbour_smoothing is not None:
            yield (
                "grpo.mirror_release = true excludes [neighbour_smoothing], which the release does not have"
            )
        if self.grpo.score_cut and self.rollouts.engine == "earl" and self.compares:
            yield (
                "grpo.score_cut = true excludes grpo.importance_cap, grpo.importance_range and "
                "rollouts.staleness with rollouts.engine = 'earl', which reports probabilities among all ids"
            )
        if self.grpo.mirror_release and self.rollouts.staleness:
            yield "grpo.mirror_release = true has no importance weights, which rollouts.staleness = 1 needs"
        if self.model.start is None:
            yield "model.start is missing: reinforcement begins with a policy that edits already"


class TokenizerModel(Settings):
    """A vision tokenizer to create, or to continue from."""

    start: Place | None = Field(default=None, description="folder or name to continue from")
    keep_codes: bool = Field(
        default=False,
        description="teach the decoder alone: images keep their codes, so policies stay valid; needs start",
    )
    base_channels: int = Field(
        default=32, ge=32, le=1024, multiple_of=32, description="width; a multiple of 32 (GroupNorm)"
    )
    channel_multiplier: tuple[Annotated[int, Field(ge=1, le=64)], ...] = Field(
        default=(1, 1, 2, 4), min_length=1, max_length=8, description="of the width, at each resolution"
    )
    residual_blocks: int = Field(default=1, ge=1, le=16, description="at each resolution")
    codebook_size: int = Field(default=512, ge=2, le=2**20, description="codes")
    code_dimensions: int = Field(default=4, ge=1, le=1024, description="of one code")
    area: int | None = Field(
        default=None,
        ge=64,
        le=2**28,
        description="px² of the images it is meant for; default: the start's, 4,096 of a new one",
    )

    def widths(self) -> dict[str, Any]:
        """Those of `earl.vision.creating.create_vision_tokenizer`, under transformers' names."""
        same = {
            name: getattr(self, name) for name in ("base_channels", "channel_multiplier", "codebook_size")
        }
        return {**same, "num_res_blocks": self.residual_blocks, "embed_dim": self.code_dimensions}

    def problems(self) -> Iterator[str]:
        if self.keep_codes and self.start is None:
            yield "model.keep_codes = true needs model.start: there are no codes to keep yet"


class TokenizerImages(Settings):
    """The images a tokenizer learns from: sources and targets of a prompt source's tasks, drawn once into a
    cache, or a folder's."""

    origin: str = Field(description="folder, or a prompt source: its name or 'package.module:attribute'")
    folder: Place | None = Field(default=None, description="of image files, for origin = 'folder'")
    resolution: int = Field(default=64, ge=16, le=4096, description="px, side of the square images")
    count: Count = Field(default=20_000, description="images rendered into the cache")
    crop: int | None = Field(default=None, ge=16, description="px, side of the crops of the first part")
    crop_steps: Steps = Field(default=0, description="steps trained on crops")
    crops_per_image: Count = Field(default=1, description="crops taken from each image of a batch")
    families: tuple[str, ...] = Field(
        default=(), description="tasks of these edit families only; none given: of all"
    )
    options: dict[str, Any] = Field(default_factory=dict, description="the prompt source's own settings")
    cache: Place | None = Field(default=None, description="file of drawn images; default: in run.folder")

    def problems(self) -> Iterator[str]:
        if self.resolution % 8:
            yield f"images.resolution = {self.resolution} is not a multiple of 8"
        if self.origin != "folder" and self.origin not in PROMPTS:
            yield (
                f"images.origin = {self.origin!r}: expected folder, {', '.join(PROMPTS.names())} or "
                "'package.module:attribute'"
            )
        if (self.origin == "folder") != (self.folder is not None):
            yield (
                f"images.origin = {self.origin!r} and images.folder = {self.folder!r} disagree: "
                "give the folder exactly when the origin is 'folder'"
            )
        if self.crop_steps and (self.crop is None or self.crop > self.resolution or self.crop % 8):
            yield (
                f"images.crop_steps = {self.crop_steps} needs images.crop, a multiple of 8 of at most "
                f"images.resolution = {self.resolution}; it is {self.crop}"
            )


class TokenizerLosses(Settings):
    """Weights of the parts of the loss, and when quantisation starts."""

    l1: float = Field(default=1.0, ge=0, description="absolute error")
    l2: float = Field(default=1.0, ge=0, description="squared error")
    gradient: float = Field(default=1.0, ge=0, description="differences between neighbouring pixels")
    color: float = Field(default=0.0, ge=0, description="of 4 x 4 blocks, more where the image is vivid")
    commitment: float = Field(default=0.25, ge=0, description="of latents to their codes")
    edges: float = Field(default=0.0, ge=0, description="how much more pixels near strong edges count")
    warmup_steps: Steps = Field(default=500, description="steps without quantisation, then k-means start")
    codebook_decay: float = Field(default=0.99, gt=0, lt=1, description="of the moving average, per step")


class TokenizerRecipe(TrainingRecipe):
    """Learning a vision tokenizer. `batch` counts images."""

    stage: Literal["tokenizer"]
    model: TokenizerModel = TokenizerModel()
    images: TokenizerImages
    losses: TokenizerLosses = TokenizerLosses()

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        if self.losses.l1 + self.losses.l2 == 0:
            yield "losses.l1 and losses.l2 are both 0: pixels would not count"


class DryRunSettings(Settings):
    """Assumptions of a dry run."""

    memory: Memory | None = Field(
        default=None, description="of a device, as 80GiB (default: the GPU's, or the machine's)"
    )
    devices: int | None = Field(default=None, ge=1, le=65536, description="devices, one rank each")
    size: str | None = Field(
        default=None, description="the policy's size by name, where model.start is not on this machine"
    )


STAGES: dict[str, type[TrainingRecipe]] = {
    "tokenizer": TokenizerRecipe,
    "sft": SftRecipe,
    "dpo": DpoRecipe,
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
    if not isinstance(named, str) or named not in STAGES:
        raise ConfigError(f"{path}: stage = {named!r}; expected one of {', '.join(sorted(STAGES))}")
    if stage is not None and named != stage:
        raise ConfigError(f"{path} is a recipe of stage {named!r}; this command runs {stage!r}")
    return check(STAGES[named], table, origin=str(path))
