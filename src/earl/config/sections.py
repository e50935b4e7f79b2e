"""Sections that the recipes of several stages share. Each field has a unit and a range.

A learning rate is per optimiser step; a step is one update of the weights; lengths are in tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, get_args

from pydantic import Field

from earl.config.settings import Count, Fraction, Place, Rate, Seed, Settings, Steps
from earl.errors import ConfigError
from earl.records import EditGroup

TrackerName = Literal["tensorboard", "wandb", "trackio", "none"]


class Run(Settings):
    """Folder, seed, device and log of a run."""

    folder: Place = Field(description="folder of the run: recipe, logs, checkpoints, final model")
    seed: Seed = Field(default=0, description="every random stream derives from it")
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="auto: CUDA where there is one"
    )
    threads: int = Field(
        default=0, ge=0, le=1024, description="CPU threads of a rank; 0 leaves torch's choice"
    )
    compile: bool = Field(
        default=False,
        description="norms, gates and softmax compiled: faster updates after half a minute; needs a compiler",
    )
    tracker: TrackerName = Field(
        default="tensorboard", description="where numbers and images go beside log.jsonl"
    )
    project: str = Field(default="earl", min_length=1, description="of W&B or trackio, where runs are kept")
    log_every: Count = Field(default=20, description="steps between lines in the log")


class Length(Settings):
    """How long to train; whichever limit comes first ends it. At least one is given."""

    max_steps: Count | None = Field(default=None, description="updates of the weights")
    max_epochs: float | None = Field(default=None, gt=0, description="passes over the data (weighted size)")

    def problems(self) -> Iterator[str]:
        if self.max_steps is None and self.max_epochs is None:
            yield "length.max_steps and length.max_epochs are both missing; give at least one"


class BatchSizes(Settings):
    """Sequences of one update: `global_size` = ranks x `micro_size` x passes."""

    global_size: Count = Field(description="sequences of one update, all ranks together")
    micro_size: Count = Field(description="sequences of one rank in one forward pass")
    share: Count = Field(
        default=1, description="edits of one source image that share its computation, at most"
    )

    def problems(self) -> Iterator[str]:
        for name, value, part, size in (
            ("global_size", self.global_size, "micro_size", self.micro_size),
            ("micro_size", self.micro_size, "share", self.share),
        ):
            if value % size:
                yield f"batch.{name} = {value} is not a multiple of batch.{part} = {size}"

    def check_ranks(self, ranks: int) -> None:
        """Raises ConfigError where an update does not divide over so many ranks."""
        if self.global_size % (self.micro_size * ranks):
            raise ConfigError(
                f"batch.global_size = {self.global_size} is not a multiple of batch.micro_size x ranks = "
                f"{self.micro_size} x {ranks}; change one of them"
            )


class Optimiser(Settings):
    """AdamW, or Muon on the hidden matrices with AdamW on the rest (embeddings, head, norms)."""

    name: Literal["adamw", "muon"] = "adamw"
    learning_rate: Rate = Field(description="peak, of AdamW")
    muon_learning_rate: Rate | None = Field(default=None, description="peak, of Muon's matrices")
    betas: tuple[Fraction, Fraction] = (0.9, 0.95)
    eps: float = Field(default=1e-6, gt=0, le=1e-2)
    weight_decay: Fraction = Field(
        default=0.1, description="decoupled, times the learning rate; matrices only"
    )
    clip_norm: float | None = Field(default=1.0, gt=0, description="of the gradient over all weights, 2-norm")

    def problems(self) -> Iterator[str]:
        if (self.name == "muon") != (self.muon_learning_rate is not None):
            yield (
                f"optimiser.name = {self.name!r} and optimiser.muon_learning_rate = "
                f"{self.muon_learning_rate} disagree: give the rate exactly when the name is 'muon'"
            )
        if max(self.betas) >= 1:
            yield f"optimiser.betas = {list(self.betas)}: both must be below 1"


class Schedule(Settings):
    """The learning rate over the steps: a linear warm-up from 0, then a cosine or a constant."""

    name: Literal["cosine", "constant"] = "cosine"
    warmup_steps: Steps = 0
    minimum: float = Field(default=0.0, ge=0, le=1, description="learning rate at the end of the cosine")


class Precision(Settings):
    """Numbers. `bf16` keeps float32 weights and computes in bfloat16 (autocast)."""

    compute: Literal["float32", "bf16", "auto"] = Field(
        default="auto", description="auto: bf16 where the device has it natively, else float32"
    )
    gradient_checkpointing: bool = Field(default=False, description="recompute activations: memory for time")
    frozen: Literal["float32", "bf16"] = Field(
        default="float32", description="weights that a LoRA adapter leaves as they are; bf16 halves them"
    )


class Ranks(Settings):
    """How a policy is sharded over several devices. Ranks come from `accelerate launch`."""

    sharding: Literal["none", "fsdp2"] = Field(
        default="none", description="fsdp2: weights, gradients and optimiser state are sharded over all ranks"
    )


class Checkpoint(Settings):
    """When the state is saved, and what is kept. The newest `keep` stay, and every `milestone`-th step."""

    every: Count = Field(default=500, description="steps between checkpoints")
    keep: Count = Field(default=2, description="newest checkpoints kept")
    milestone: Count | None = Field(default=None, description="steps; multiples of it are never thinned")
    resume: bool = Field(default=True, description="continue from the newest checkpoint in the folder")


class Validation(Settings):
    """Loss on held-back data."""

    every: Count = Field(default=500, description="steps between validations")
    sequences: Count = Field(default=512, description="sequences of the validation loss")
    patience: Count | None = Field(default=None, description="validations without a better loss, then stop")


class Ema(Settings):
    """An exponential moving average of the weights, saved as the model in place of the last ones."""

    decay: float = Field(
        default=0.999,
        gt=0,
        lt=1,
        description="of the average, per step; at most (1 + n) / (10 + n) at step n",
    )


class TokenDropout(Settings):
    """Word dropout (Bowman et al. 2016, arXiv 1511.06349) on the tokens that a policy learns to write.

    The tokens before often tell the next one, whatever the instruction says. Where they are hidden,
    every token depends on the source image and the instruction.
    """

    sequences: Fraction = Field(default=0.5, description="share of the sequences that hide tokens")
    rates: tuple[Fraction, Fraction] = Field(
        default=(0.0, 1.0), description="bounds of the share of hidden tokens, drawn for each sequence"
    )

    def problems(self) -> Iterator[str]:
        low, high = self.rates
        if low > high:
            yield f"token_dropout.rates = [{low:g}, {high:g}]: the first is above the second"


class SmoothingSettings(Settings):
    """Gradients shared among image codes that lie near each other in the codebook.

    Those of the codes' embeddings, where they are trained, and with `targets` those of the likelihood.
    """

    targets: Fraction = Field(
        default=0.0, description="share of a visual token's gradient that its neighbours get as well"
    )
    neighbours: Count = Field(default=24, description="codes that a code shares with")


Projection = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class Lora(Settings):
    """Low-rank adapters through `peft`; the base weights stay frozen."""

    rank: int = Field(default=16, ge=1, le=4096, description="of each pair of matrices")
    alpha: float = Field(default=32.0, gt=0, description="the adapter counts alpha / rank")
    targets: tuple[Projection, ...] = Field(
        default=get_args(Projection), min_length=1, description="matrices of each layer that get an adapter"
    )


class Model(Settings):
    """The policy: a start to load, or a size to create from scratch."""

    start: Place | None = Field(default=None, description="name, folder or hub id to load")
    revision: str | None = Field(default=None, description="of the hub id")
    size: str | None = Field(default=None, description="name in earl.policy.SIZES, created from scratch")
    text_tokenizer: Place | None = Field(default=None, description="folder; default: the start's own")
    vision_tokenizer: Place | None = Field(
        default=None, description="folder or name; default: the start's own"
    )
    area: int | None = Field(
        default=None, ge=64, le=2**28, description="px², of the images; default: the tokenizer's"
    )
    warm_start_visual: bool = Field(
        default=False, description="begin the visual embeddings and head from the tokenizer's codebook"
    )

    def problems(self) -> Iterator[str]:
        if (self.start is None) == (self.size is None):
            yield f"model.start = {self.start!r} and model.size = {self.size!r}: give exactly one of the two"
        if self.size is not None and self.text_tokenizer is None:
            yield "model.size needs model.text_tokenizer: a new model has no tokenizer of its own"
        if self.warm_start_visual and (self.size is None or self.vision_tokenizer is None):
            yield (
                "model.warm_start_visual is for a new model: it needs model.size, and "
                "model.vision_tokenizer, whose codebook is read"
            )


class HeldSource(Settings):
    """One source of held-back edits: shards on disk."""

    path: Place = Field(description="folder of tokenised shards, as `earl prepare` writes it")
    weight: float = Field(
        default=1.0, ge=0, description="of its share of the edits; alike: as many of each source"
    )
    group: Literal[EditGroup, "all"] = Field(default="all", description="S, C or both of its edits")
    families: tuple[str, ...] = Field(default=(), description="only these edit families; none given: all")


class Source(HeldSource):
    """One source of a mixture: shards on disk."""

    weight: float = Field(default=1.0, ge=0, description="upsampling: expected passes over it per epoch")
    draw: Count | None = Field(default=None, description="edits drawn once by run.seed; none given: all")


class Sources(Settings):
    """Shards that are trained on. An epoch draws every source `weight` times over."""

    sources: dict[str, Source] = Field(description="by name")
    validation: Place | None = Field(default=None, description="folder of shards of the validation split")
    validation_sources: dict[str, HeldSource] = Field(
        default={}, description="several such folders by name, in place of one"
    )
    stitch: bool = Field(
        default=False, description="outside the changed cells a target's codes are the source's own"
    )
    max_tokens: int = Field(
        default=4096,
        ge=8,
        description="tokens, at most the policy's positions; longer sequences are left out",
    )

    def problems(self) -> Iterator[str]:
        if not any(source.weight > 0 for source in self.sources.values()):
            yield "data.sources is empty or every data.sources.*.weight is 0"
        if self.validation is not None and self.validation_sources:
            yield "data.validation and data.validation_sources exclude each other; give one"

    @property
    def held_back(self) -> dict[str, HeldSource]:
        """The validation sources by name; {} where there are none."""
        single = {} if self.validation is None else {"validation": HeldSource(path=self.validation)}
        return single or self.validation_sources


class Data(Sources):
    """Training data of supervised fine-tuning."""

    reasoning: bool = Field(default=False, description="the completion begins with the reasoning text")
    wordings: str | None = Field(
        default=None,
        description="words instructions anew each time: 'world', or module:function (request, rng) -> str",
    )
