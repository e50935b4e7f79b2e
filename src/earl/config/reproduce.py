"""How much the paper's comparison in the world may cost: `earl reproduce world --budget FILE --set …`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from earl.config.recipe import Section
from earl.config.sections import Count, Rate, Steps


class DataBudget(Section):
    """Tokenised shards for the SFT cells, one folder of simple edits and one of complex ones."""

    sources: Count = Field(default=8000, description="source pictures of each, up to 4 edits of each")
    validation: Count = Field(default=150, description="source pictures of the validation split")


class SftBudget(Section):
    """One SFT cell, from its start."""

    steps: Count = 1500
    sequences: Count = 32
    micro: Count = 16
    share: Count = Field(default=4, description="edits that share one computation of their source")
    learning_rate: Rate = 1e-3
    muon_learning_rate: Rate = 3e-3
    warmup_steps: Steps = 10
    neighbours: Steps = Field(default=0, description="codes that share gradients, as [kinship]; 0: none do")

    @model_validator(mode="after")
    def _warms(self) -> SftBudget:
        if self.warmup_steps > self.steps:
            raise ValueError(f"sft.warmup_steps = {self.warmup_steps} is above sft.steps = {self.steps}")
        return self


class RlBudget(Section):
    """One RL cell, from its start. A step is `prompts` x `group` rollouts and one update."""

    steps: Count = 150
    scale: float = Field(default=3.0, ge=1, description="the scaled cell has so many times the steps")
    prompts: Count = 16
    group: int = Field(default=8, ge=2)
    learning_rate: Rate = 1e-5
    betas: tuple[float, float] = (0.9, 0.999)
    schedule: Literal["constant", "cosine"] = Field(default="constant", description="a cosine ends at 0")
    kl_coefficient: float = Field(default=3e-4, ge=0)
    decode: Literal["float32", "bf16", "auto"] = Field(
        default="float32", description="what sampled pictures are decoded in, as rollouts.decode"
    )
    heldout: Steps = Field(default=32, description="held-out prompts, looked at five times")
    max_text_tokens: Count = Field(default=512, description="ids of reasoning, at most")
    noise: float = Field(default=3.0, gt=0, le=10, description="points, std, of the noisy verifier's scores")


class EvaluationBudget(Section):
    """The world benchmark on every cell: the same tasks and the same draws for all of them."""

    num: Count = Field(default=500, description="tasks of the test split, all families")
    seed: int = Field(default=0, ge=0)
    batch: Count = 64
    best_of: int = Field(default=5, ge=2, description="N of the best-of-N cells")


class Budget(Section):
    """All of it."""

    data: DataBudget = DataBudget()
    sft: SftBudget = SftBudget()
    rl: RlBudget = RlBudget()
    evaluation: EvaluationBudget = EvaluationBudget()
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = Field(default=1, ge=0, le=1024, description="CPU threads; 0 leaves torch's choice")
    compute: Literal["float32", "bf16"] = "bf16"
    checkpoint_every: Count = Field(default=25, description="steps; a kill loses at most so many")
