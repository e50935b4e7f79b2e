"""The sections that recipes are made of. Each field has a unit and a range.

A learning rate is per optimiser step; a step is one update of the weights; `sequences` count
token sequences over all ranks; lengths are in tokens.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from earl.config.settings import Settings

Rate = Annotated[float, Field(gt=0, le=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Steps = Annotated[int, Field(ge=0)]


class Run(Settings):
    """Where a run lives and what it runs on."""

    folder: str = Field(description="folder of the run: recipe, logs, checkpoints, final model")
    seed: int = Field(default=0, ge=0, lt=2**63, description="every random stream derives from it")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = Field(
        default=0, ge=0, le=1024, description="CPU threads of a rank; 0 leaves torch's choice"
    )
    compile: bool = Field(
        default=False,
        description="torch.compile the transformer's layers, or the vision tokenizer's two passes",
    )
    tracker: Literal["tensorboard", "none"] = "tensorboard"
    log_every: Count = Field(default=20, description="steps between lines in the log")


class Length(Settings):
    """How long to train; whichever limit comes first ends it. At least one is given."""

    steps: Count | None = Field(default=None, description="updates of the weights")
    epochs: float | None = Field(default=None, gt=0, description="passes over the data (its weighted size)")

    @model_validator(mode="after")
    def _bounded(self) -> Length:
        if self.steps is None and self.epochs is None:
            raise ValueError("length.steps and length.epochs are both missing; give at least one")
        return self


class Batch(Settings):
    """Sequences per update, over all ranks and forward passes: `sequences` = ranks x micro x passes."""

    sequences: Count = Field(description="sequences of one update, all ranks together")
    micro: Count = Field(description="sequences of one rank in one forward pass")
    pool: Count = Field(default=16, description="updates drawn ahead and sorted by length (bucketing)")
    share: Count = Field(
        default=1,
        description="edits that share one computation of their source image, where they have the same",
    )

    @model_validator(mode="after")
    def _divides(self) -> Batch:
        if self.sequences % self.micro:
            raise ValueError(
                f"batch.sequences = {self.sequences} is not a multiple of batch.micro = {self.micro}"
            )
        if self.micro % self.share:
            raise ValueError(f"batch.micro = {self.micro} is not a multiple of batch.share = {self.share}")
        return self


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

    @model_validator(mode="after")
    def _muon_has_its_rate(self) -> Optimiser:
        if (self.name == "muon") != (self.muon_learning_rate is not None):
            raise ValueError(
                f"optimiser.name = {self.name!r} and optimiser.muon_learning_rate = "
                f"{self.muon_learning_rate} disagree: give the rate exactly when the name is 'muon'"
            )
        if max(self.betas) >= 1:
            raise ValueError(f"optimiser.betas = {list(self.betas)}: both must be below 1")
        return self


class Schedule(Settings):
    """The learning rate over the steps: a linear warm-up from 0, then a cosine or a constant."""

    name: Literal["cosine", "constant"] = "cosine"
    warmup_steps: Steps = 0
    minimum: float = Field(default=0.0, ge=0, le=1, description="learning rate at the end of the cosine")
    steps: Count | None = Field(default=None, description="where the cosine ends; default: the run's length")


class Precision(Settings):
    """Numbers. `bf16` keeps float32 weights and computes in bfloat16 (autocast)."""

    compute: Literal["float32", "bf16", "auto"] = Field(
        default="auto", description="auto: bf16 where the device has it natively, else float32"
    )
    gradient_checkpointing: bool = Field(default=False, description="recompute activations: memory for time")
    frozen: Literal["float32", "bf16"] = Field(
        default="float32", description="weights that a LoRA adapter leaves as they are; bf16 halves them"
    )
    attention: Literal["auto", "eager", "sdpa"] = Field(
        default="auto", description="auto: eager on CPU (faster there at small sizes), sdpa on CUDA"
    )


class Ranks(Settings):
    """How a policy lies on several devices. Ranks come from `accelerate launch`."""

    sharding: Literal["none", "fsdp2"] = Field(
        default="none", description="fsdp2: weights, gradients and optimiser state are cut over all ranks"
    )
    reshard: bool = Field(
        default=True, description="give a layer's gathered weights back after its forward pass (as ZeRO-3)"
    )


class Checkpoint(Settings):
    """When the state is saved, and what is kept. The newest `keep` stay, and every `milestone`-th step."""

    every: Count = Field(default=500, description="steps between checkpoints")
    keep: Count = Field(default=2, description="newest checkpoints kept")
    milestone: Count | None = Field(default=None, description="steps; multiples of it are never thinned")
    resume: bool = Field(default=True, description="continue from the newest checkpoint in the folder")


class Validation(Settings):
    """Loss on held-back data, and the rate of edits that a verifier finds exact."""

    every: Count = Field(default=500, description="steps between validations")
    samples: Count = Field(default=512, description="sequences of the validation loss")
    edits: Steps = Field(default=0, description="edits sampled and verified; 0 leaves that out")
    patience: Count | None = Field(default=None, description="validations without a better loss, then stop")
    min_delta: float = Field(default=0.0, ge=0, description="nats a token that count as better")


class Ema(Settings):
    """A moving average of the weights, saved as the model in place of the last ones."""

    decay: float = Field(default=0.999, gt=0, lt=1, description="of the average, per step")
    warmup: bool = Field(default=True, description="decay at step n is at most (1 + n) / (10 + n)")


class Hiding(Settings):
    """Word dropout (Bowman et al. 2016, arXiv 1511.06349) on what a policy is taught to write.

    What has been written so far often tells what comes next, whatever the instruction says. Where it
    is hidden, every token has to be worked out from the source and the words.
    """

    sequences: Fraction = Field(default=0.5, description="share of the sequences that hide tokens")
    rates: tuple[Fraction, Fraction] = Field(
        default=(0.0, 1.0), description="bounds of the share of hidden tokens, drawn for each sequence"
    )

    @model_validator(mode="after")
    def _bounds(self) -> Hiding:
        low, high = self.rates
        if low > high:
            raise ValueError(f"hiding.rates = [{low:g}, {high:g}]: the first is above the second")
        return self


class Kinship(Settings):
    """Gradients shared among codes that lie near each other in the codebook."""

    embeddings: bool = Field(default=True, description="share gradients of the codes' embeddings")
    targets: Fraction = Field(
        default=0.0, description="share of a visual token's gradient that goes to codes like it as well"
    )
    neighbours: Count = Field(default=24, description="codes that a code shares with")
    width: float = Field(
        default=0.7, gt=0, description="of the Gaussian, in median distances to the 8th nearest code"
    )
    own: float = Field(
        default=0.15, ge=0, description="weight of a code's own gradient beside the shared one"
    )


class Lora(Settings):
    """Low-rank adapters through `peft`; the base weights stay frozen."""

    rank: int = Field(default=16, ge=1, le=4096)
    alpha: float = Field(default=32.0, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class Model(Settings):
    """The policy: a start to load, or a size to create from scratch."""

    start: str | None = Field(default=None, description="name, folder or hub id to load")
    revision: str | None = Field(default=None, description="of the hub id")
    size: str | None = Field(default=None, description="name in earl.policy.SIZES, created from scratch")
    text_tokenizer: str | None = Field(default=None, description="folder; default: the start's own")
    vision_tokenizer: str | None = Field(default=None, description="folder or name; default: the start's own")
    area: int | None = Field(default=None, ge=64, description="px², of the images; default: the tokenizer's")
    warm_start_visual: bool = Field(
        default=False, description="begin the visual embeddings and head from the tokenizer's codebook"
    )

    @model_validator(mode="after")
    def _one_origin(self) -> Model:
        if (self.start is None) == (self.size is None):
            raise ValueError(
                f"model.start = {self.start!r} and model.size = {self.size!r}: give exactly one of the two"
            )
        if self.size is not None and self.text_tokenizer is None:
            raise ValueError("model.size needs model.text_tokenizer: a new model has no tokenizer of its own")
        if self.warm_start_visual and self.size is None:
            raise ValueError("model.warm_start_visual is for a new model; model.size is missing")
        return self


class Source(Settings):
    """One source of a mixture: shards on disk."""

    path: str = Field(description="folder of tokenised shards, as `earl prepare` writes it")
    weight: float = Field(default=1.0, ge=0, description="upsampling: expected passes over it per epoch")
    group: Literal["simple", "complex", "all"] = Field(default="all", description="S, C or both of its edits")
    families: tuple[str, ...] = Field(default=(), description="only these edit families; none given: all")


class Data(Settings):
    """What is trained on. An epoch draws every source `weight` times over."""

    sources: dict[str, Source] = Field(description="by name")
    validation: str | None = Field(default=None, description="folder of shards of the validation split")
    stitch: bool = Field(
        default=False, description="outside the changed cells a target's codes are the source's own"
    )
    max_tokens: int = Field(default=4096, ge=8, description="tokens; longer sequences are left out")
    reasoning: bool = Field(default=False, description="the completion begins with the reasoning text")
    wordings: str | None = Field(
        default=None,
        description="words instructions anew each time: 'world', or module:function (request, rng) -> str",
    )

    @model_validator(mode="after")
    def _something_weighs(self) -> Data:
        if not any(source.weight > 0 for source in self.sources.values()):
            raise ValueError("data.sources is empty or every data.sources.*.weight is 0")
        return self
