"""Recipe sections of reinforcement learning alone. Units and ranges are with each field.

P prompts a step is batch.global_size / rollouts.group; G rollouts of a prompt is rollouts.group.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field

from earl.config.model import EngineSettings
from earl.config.sampling import DrawSettings
from earl.config.sections import HeldSource, Source
from earl.config.settings import Count, Fraction, Place, Seconds, Settings, Steps
from earl.records import EditGroup
from earl.registry import PROMPTS


class Rollouts(EngineSettings, DrawSettings):
    """How completions are sampled from the policy."""

    group: int = Field(default=8, ge=2, description="G, rollouts of a prompt")
    prefill: Literal["size", "direct", "reasoning"] = Field(
        default="size", description="size and direct: no reasoning; size gives H*W, direct lets it be written"
    )
    top_k: int = Field(
        default=0, ge=0, description="draw among so many likeliest ids; 0 keeps all, as the release in RL"
    )
    source_grid: bool = Field(
        default=True, description="the edited image has its source's grid under every prefill, as the release"
    )
    decode: Literal["float32", "bf16", "auto"] = Field(
        default="float32",
        description="what sampled images are decoded in; auto: bf16 where the device has it natively",
    )

    staleness: Literal[0, 1] = Field(
        default=0,
        description="updates by which rollouts lie behind the weights that they train; 1 samples the next "
        "step's beside judging and update of a step",
    )

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        if (self.server is None and not self.servers) != (self.server_weights is None):
            yield (
                f"rollouts.server = {self.server!r}, rollouts.servers = {list(self.servers)} and "
                f"rollouts.server_weights = {self.server_weights!r} disagree: training needs a folder for "
                "the weights beside the servers, so that they sample from each step's weights"
            )


class Prompts(Settings):
    """Where prompts come from: tasks that a prompt source draws by seed, or tokenised shards on disk."""

    origin: str = Field(description="shards, or a prompt source: its name or 'package.module:attribute'")
    path: Place | None = Field(default=None, description="folder of shards, for origin = 'shards'")
    sources: dict[str, Source] = Field(
        default={}, description="several such folders by name, in place of one"
    )
    pool: Count | None = Field(
        default=None,
        description="different prompts that the run may see, drawn once by run.seed; none given: all",
    )
    group: Literal[EditGroup, "all"] = Field(default="all", description="S, C or both kinds of edit")
    families: tuple[str, ...] = Field(default=(), description="only these edit families; none given: all")
    options: dict[str, Any] = Field(default_factory=dict, description="the prompt source's own settings")

    def problems(self) -> Iterator[str]:
        if self.origin != "shards" and self.origin not in PROMPTS:
            yield (
                f"prompts.origin = {self.origin!r}: expected shards, {', '.join(PROMPTS.names())} or "
                "'package.module:attribute'"
            )
        given = (self.path is not None) + bool(self.sources)
        if given != (self.origin == "shards"):
            yield (
                f"prompts.origin = {self.origin!r}, prompts.path = {self.path!r} and prompts.sources = "
                f"{', '.join(self.sources) or None} disagree: give one of path and sources exactly when the "
                "origin is 'shards'"
            )
        if self.sources and (self.group != "all" or self.families):
            yield (
                "prompts.group and prompts.families are of prompts.path; a source has its own, as "
                "prompts.sources.NAME.group"
            )
        if self.sources and not any(source.weight > 0 for source in self.sources.values()):
            yield "every prompts.sources.*.weight is 0"

    @property
    def shards(self) -> dict[str, Source]:
        """The sources of prompts that are shards, by name; {} for a prompt source."""
        if self.path is None:
            return self.sources
        return {"prompts": Source(path=self.path, group=self.group, families=self.families)}


Average = Literal["token", "sequence"]


class LossSettings(Settings):
    """The loss of GRPO. Defaults are EARL's (arXiv 2508.01119)."""

    kl_coefficient: float = Field(default=3e-4, ge=0, description="of the k3 estimate against the reference")
    clip: float = Field(default=0.2, gt=0, lt=1, description="epsilon: ratios are held within 1 ± epsilon")
    importance_cap: float | None = Field(
        default=None, gt=0, description="cap of trainer / sampler probability as a weight (another engine)"
    )
    importance_range: tuple[float, float] | None = Field(
        default=None, description="tokens whose trainer / sampler probability lies outside are left out"
    )
    average: Average = Field(
        default="token",
        description="token: over all tokens, as the release; sequence: of the rollouts' own means, "
        "the paper's equation 1",
    )
    mirror_release: bool = Field(
        default=False, description="loss and scored tokens as in the release, for comparison"
    )

    def problems(self) -> Iterator[str]:
        if self.importance_range is None:
            return
        low, high = self.importance_range
        if not 0 <= low < 1 < high:
            yield (
                f"importance_range = [{low:g}, {high:g}] must reach from below 1 (0 at least) to above 1, "
                "as [0.2, 5] does: where sampler and trainer agree the ratio is 1"
            )


RewardDesign = Literal["overall", "modulated", "mean", "win_rate"]


class Grpo(LossSettings):
    """The algorithm. Defaults are EARL's: fully online, one update a step."""

    reward: RewardDesign = Field(
        default="overall",
        description="from a verdict: overall (root of minima), modulated (success weighed by over-editing), "
        "mean (of the four scores), win_rate (share of its group whose mean an edit beats)",
    )
    updates: Count = Field(default=1, description="mu, updates of the weights on the rollouts of a step")
    divide_by_std: bool = Field(default=True, description="false: Dr. GRPO's advantage, r - mean")
    advantage_eps: float = Field(default=1e-4, gt=0, le=1, description="reward points, added to the std")
    score_cut: bool = Field(
        default=False, description="likelihoods among the ids that rollouts.top_k and rollouts.top_p leave"
    )
    reference_device: Literal["same", "cpu"] = Field(
        default="same", description="where a frozen copy rests between uses; not asked for with lora"
    )

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        compared = self.importance_cap or self.importance_range
        if self.mirror_release and (self.updates > 1 or compared):
            yield (
                "grpo.mirror_release = true has neither ratios nor importance weights: it needs "
                "grpo.updates = 1, no grpo.importance_cap and no grpo.importance_range"
            )
        if self.mirror_release and self.average != "token":
            yield "grpo.mirror_release = true averages over tokens: it needs grpo.average = 'token'"


SAMPLER_CAP = 2.0
"""Cap of the importance weights where other weights or another engine sample and the recipe names none."""


def importance_cap(grpo: Grpo, rollouts: Rollouts) -> float | None:
    """The cap that a run uses: the recipe's. Without one it is `SAMPLER_CAP` where vLLM samples or rollouts
    come from the weights of the step before, and none elsewhere."""
    same = rollouts.engine == "earl" and not rollouts.staleness
    if grpo.importance_cap is not None or same or grpo.mirror_release:
        return grpo.importance_cap
    return SAMPLER_CAP


def cut_warning(grpo: Grpo, rollouts: Rollouts, codes: int) -> str:
    """Warning about a sampler that cuts candidates off; "" where it cuts none of `codes` codes."""
    if grpo.score_cut or (rollouts.top_p == 1 and not 0 < rollouts.top_k < codes):
        return ""
    weights = (
        "" if rollouts.engine == "earl" else "importance weights lie below 1 in the mean, and gradients too; "
    )
    return (
        f"completions are drawn among what rollouts.top_k = {rollouts.top_k} and rollouts.top_p = "
        f"{rollouts.top_p:g} leave, the trainer's likelihood is among all ids: {weights}set rollouts.top_k=0 "
        "and rollouts.top_p=1 to draw from all, or grpo.score_cut=true to score what was drawn from"
    )


class Judging(Settings):
    """What happens when verdicts fail."""

    failed_share: Fraction = Field(
        default=0.25, description="of a step's rollouts without a verdict, at most"
    )
    retries: Steps = Field(default=5, description="times to ask again when more than that failed, then stop")
    wait: float = Field(default=30.0, ge=0, le=86_400, description="seconds before asking again")
    undecodable_reward: float | None = Field(
        default=None, ge=0, le=10, description="of a completion without an image; none: it leaves its group"
    )
    deadline: Seconds = Field(default=600.0, description="seconds for the verdicts of one group")


class EarlyStopping(Settings):
    """Conditions that end a run before length.max_steps; none unless set."""

    window: Count = Field(default=20, description="steps that the watched reward is averaged over")
    patience: Count | None = Field(default=None, description="steps without a better average, then stop")
    max_kl: float | None = Field(default=None, gt=0, description="nats a token from the reference")


class HeldOut(Settings):
    """Prompts that are never trained on, edited and judged every `validation.every` steps, and before the
    first update."""

    prompts: Steps = Field(default=64, description="how many; 0 leaves that out")
    split: Literal["validation", "test", "heldout"] = Field(
        default="validation", description="of the prompt source"
    )
    path: Place | None = Field(default=None, description="folder of shards in place of the prompt source")
    sources: dict[str, HeldSource] = Field(default={}, description="several such folders by name")

    @property
    def held_back(self) -> dict[str, HeldSource]:
        """The shards that are looked at, by name; {} for the prompt source."""
        return self.sources if self.path is None else {"heldout": HeldSource(path=self.path)}

    def problems(self) -> Iterator[str]:
        if self.path is not None and self.sources:
            yield "heldout.path and heldout.sources exclude each other; give one"


class Strips(Settings):
    """Images of the run for its page, as strips: source, the group's edits, target."""

    every: Steps = Field(default=20, description="steps between them; 0 leaves them out")
