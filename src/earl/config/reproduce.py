"""How much the paper's comparison in the world may cost: `earl reproduce world --budget FILE --set …`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from earl.config.sections import Count, Fraction, Kinship, Rate, Steps
from earl.config.settings import Settings


def _kinship(neighbours: int, targets: float) -> Kinship | None:
    return Kinship(neighbours=neighbours, targets=targets) if neighbours else None


def _refuse_targets_alone(section: str, neighbours: int, targets: float) -> None:
    if targets and not neighbours:
        raise ValueError(
            f"{section}.targets = {targets:g} needs codes to share with: set {section}.neighbours, as 24"
        )


class DataBudget(Settings):
    """Tokenised shards for the SFT cells, one folder of simple edits and one of complex ones."""

    sources: Count = Field(default=8000, description="source images of each, up to 4 edits of each")
    validation: Count = Field(default=150, description="source images of the validation split")
    margin: int = Field(default=0, ge=0, le=8, description="as `earl prepare world --margin`")


class SftBudget(Settings):
    """One SFT cell, from its start. `neighbours` and `targets` as in [kinship] of its recipe."""

    steps: Count = 1500
    sequences: Count = 32
    micro: Count = 16
    share: Count = Field(default=4, description="edits that share one computation of their source")
    learning_rate: Rate = 1e-3
    muon_learning_rate: Rate = 3e-3
    warmup_steps: Steps = 10
    neighbours: Steps = Field(default=0, description="codes that share gradients; 0: none do")
    targets: Fraction = Field(default=0.0, description="share of what is predicted that they share too")

    @property
    def kinship(self) -> Kinship | None:
        return _kinship(self.neighbours, self.targets)

    @model_validator(mode="after")
    def _related(self) -> SftBudget:
        _refuse_targets_alone("sft", self.neighbours, self.targets)
        return self

    @model_validator(mode="after")
    def _warms(self) -> SftBudget:
        if self.warmup_steps > self.steps:
            raise ValueError(f"sft.warmup_steps = {self.warmup_steps} is above sft.steps = {self.steps}")
        return self


class RlBudget(Settings):
    """One RL cell, from its start. A step is `prompts` x `group` rollouts and one update."""

    steps: Count = 150
    scale: float = Field(default=3.0, ge=1, description="the scaled cell has so many times the steps")
    prompts: Count = 16
    group: int = Field(default=8, ge=2)
    learning_rate: Rate = 1e-5
    betas: tuple[float, float] = (0.9, 0.999)
    schedule: Literal["constant", "cosine"] = Field(default="constant", description="a cosine ends at 0")
    warmup_steps: Steps = Field(default=0, description="linear, at the beginning")
    kl_coefficient: float = Field(default=3e-4, ge=0)
    divide_by_std: bool = Field(default=True, description="as published; false: Dr. GRPO's advantage")
    importance_range: tuple[float, float] | None = Field(default=None, description="as in [grpo]")
    neighbours: Steps = Field(default=0, description="codes that share gradients; 0: none do")
    targets: Fraction = Field(default=0.0, description="share of what is predicted that they share too")
    decode: Literal["float32", "bf16", "auto"] = Field(
        default="float32", description="what sampled images are decoded in, as rollouts.decode"
    )
    heldout: Steps = Field(default=32, description="held-out prompts, looked at five times")
    max_text_tokens: Count = Field(default=512, description="ids of reasoning, at most")
    noise: float = Field(default=3.0, gt=0, le=10, description="points, std, of the noisy verifier's scores")

    @property
    def kinship(self) -> Kinship | None:
        return _kinship(self.neighbours, self.targets)

    @model_validator(mode="after")
    def _warms(self) -> RlBudget:
        if self.warmup_steps > self.steps:
            raise ValueError(f"rl.warmup_steps = {self.warmup_steps} is above rl.steps = {self.steps}")
        return self

    @model_validator(mode="after")
    def _related(self) -> RlBudget:
        _refuse_targets_alone("rl", self.neighbours, self.targets)
        return self


class EvaluationBudget(Settings):
    """The world benchmark on every cell: the same tasks and the same draws for all of them."""

    num: Count = Field(default=500, description="tasks of the test split, all families")
    seed: int = Field(default=0, ge=0)
    batch: Count = 64
    best_of: int = Field(default=5, ge=2, description="N of the best-of-N cells")


class Budget(Settings):
    """All of it."""

    data: DataBudget = DataBudget()
    sft: SftBudget = SftBudget()
    rl: RlBudget = RlBudget()
    evaluation: EvaluationBudget = EvaluationBudget()
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = Field(default=1, ge=0, le=1024, description="CPU threads; 0 leaves torch's choice")
    compute: Literal["float32", "bf16", "auto"] = Field(default="auto", description="as precision.compute")
    checkpoint_every: Count = Field(default=25, description="steps; a kill loses at most so many")
