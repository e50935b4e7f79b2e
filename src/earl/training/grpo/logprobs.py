"""The likelihood of a batch of rollouts, each prompt computed once, and the objective around it.

The likelihood is the one that sampling used: under the grammar, at the sampling temperature, forced
ids with probability 1. Hidden states come from `earl.policy.shared` (a cache, or, where activations
are recomputed in the backward pass, one row per prompt with an attention mask); logits are made for
the columns that are due, in chunks, by `earl.policy.likelihood`. The plain twin, full sequences and
full logits, is `score_plain`.

Axes: B rollouts, T tokens.
"""

from __future__ import annotations

import copy
from contextlib import nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn

from earl.config.sections import Precision
from earl.policy import (
    NeighbourSmoothing,
    Scoring,
    TokenScores,
    branched_hidden_states,
    policy_of,
    scores_from_hidden,
    shared_hidden_states,
    token_scores,
    token_scores_plain,
)
from earl.policy.configs import VocabularyLike
from earl.sequence import Kind
from earl.training.blocks import positions_of_block
from earl.training.grpo.batches import RolloutBatch
from earl.training.grpo.loss import LossSettings, agreed, grpo_loss, importance_weights
from earl.training.loop import Losses
from earl.training.ranks import autocast

Sharing = Literal["cache", "mask", "none"]


def score(
    policy: Any,
    batch: RolloutBatch,
    vocabulary: VocabularyLike,
    *,
    temperature: float = 1.0,
    sharing: Sharing = "cache",
    chunk: int | None = None,
    smoothing: NeighbourSmoothing | None = None,
) -> TokenScores:
    """Log-probability and entropy of each token, nats, both float32 (B, T), 0 where forced.

    Args:
        sharing: how a prompt is computed once for its rollouts; "none" computes it for each.
        chunk: positions per block of logits; None takes what suits the device.
        smoothing: shares the gradient of visual tokens among codes that look alike.
    """
    if chunk is None:
        chunk = positions_of_block("grpo", batch.ids_BT.device.type)
    scoring = Scoring(temperature, chunk, entropy=True, smoothing=smoothing)
    if sharing == "none":
        return _after_prompt(batch, token_scores(policy, *batch.whole(), vocabulary, scoring))
    hidden = branched_hidden_states if sharing == "mask" else shared_hidden_states
    return scores_from_hidden(
        hidden(policy, batch.ids_BT, batch.prefix_PL, batch.prefix_mask_PL, batch.owner_B),
        policy_of(policy).lm_head.weight,
        batch.ids_BT,
        batch.mask_BT,
        batch.kinds_BT,
        vocabulary,
        scoring,
    )


def score_plain(
    policy: Any,
    batch: RolloutBatch,
    vocabulary: VocabularyLike,
    *,
    temperature: float = 1.0,
    smoothing: NeighbourSmoothing | None = None,
) -> TokenScores:
    """The plain twin of `score`: every rollout with its own prompt, logits of the whole vocabulary."""
    scoring = Scoring(temperature, entropy=True, smoothing=smoothing)
    return _after_prompt(batch, token_scores_plain(policy, *batch.whole(), vocabulary, scoring))


def _after_prompt(batch: RolloutBatch, scores: TokenScores) -> TokenScores:
    start = batch.prefix_PL.shape[1]
    return TokenScores(scores.logprobs_BT[:, start:], scores.entropies_BT[:, start:])


class GrpoObjective(nn.Module):
    """The policy with GRPO's loss, summed as `LossParts.total` says.

    Args:
        policy: Emu3ForCausalLM, with or without a LoRA adapter.
        temperature: of the sampling.
        importance_cap: see `loss.importance_weights`; None leaves the weights out.
        importance_range: see `loss.agreed`; tokens outside have no part in the loss or in `kl`, but count
            in what it is divided by. None keeps all.
        smoothing: shares gradients of visual tokens among codes that look alike; likelihoods stay the same.
    """

    def __init__(
        self,
        policy: Any,
        vocabulary: VocabularyLike,
        precision: Precision,
        settings: LossSettings,
        *,
        temperature: float = 1.0,
        importance_cap: float | None = None,
        importance_range: tuple[float, float] | None = None,
        sharing: Sharing = "cache",
        smoothing: NeighbourSmoothing | None = None,
    ) -> None:
        super().__init__()
        self.smoothing = smoothing
        self.policy = policy
        self.vocabulary, self.precision, self.settings = vocabulary, precision, settings
        self.temperature, self.importance_cap, self.sharing = temperature, importance_cap, sharing
        self.importance_range = importance_range

    def score(self, policy: Any, batch: RolloutBatch) -> TokenScores:
        """`score` with this objective's settings, for this policy or the reference."""
        with autocast(self.precision, batch.ids_BT.device):
            return score(
                policy,
                batch,
                self.vocabulary,
                temperature=self.temperature,
                sharing=self.sharing,
                smoothing=self.smoothing,
            )

    def forward(self, batch: RolloutBatch) -> Losses:
        """Metrics over active tokens: `loss`, `kl` (k3, nats), `clipped` (share), `sampler_gap` (nats,
        |trainer - sampler|), `sampler_ratio` (trainer / sampler probability), with an `importance_range`
        `disagreed` (share left out); `entropy_visual` and `entropy_text` in nats over all scored tokens of
        the kind."""
        logprobs_BT, entropy_BT = self.score(self.policy, batch)
        active_BT = batch.active_BT
        weights_BT = None
        before_BT = logprobs_BT.detach() if batch.old_BT is None else batch.old_BT
        kept_BT = active_BT
        if self.importance_range is not None:
            kept_BT = active_BT & agreed(before_BT, batch.sampled_BT, self.importance_range)
        if self.importance_cap is not None:
            weights_BT = importance_weights(before_BT, batch.sampled_BT, self.importance_cap)
        parts = grpo_loss(
            logprobs_BT,
            batch.advantages_B,
            kept_BT,
            self.settings,
            old_BT=batch.old_BT,
            reference_BT=batch.reference_BT,
            weights_BT=weights_BT,
        )
        gap_BT = before_BT - batch.sampled_BT
        metrics = {
            "loss": torch.stack(
                [parts.total.detach().double(), parts.total.new_tensor(batch.active).double()]
            ),
            "kl": _sum_and_count(parts.kl_BT, kept_BT),
            "clipped": _sum_and_count(parts.clipped_BT, kept_BT),
            "sampler_gap": _sum_and_count(gap_BT.abs(), active_BT),
            "sampler_ratio": _sum_and_count(gap_BT.exp(), active_BT),
            "entropy_visual": _sum_and_count(entropy_BT, batch.kinds_BT == Kind.VISUAL),
            "entropy_text": _sum_and_count(entropy_BT, batch.kinds_BT == Kind.TEXT),
        }
        if self.importance_range is not None:
            metrics["disagreed"] = _sum_and_count((~kept_BT).float(), active_BT)
        return Losses(parts.total, metrics)


class Reference:
    """The frozen start of RL. With LoRA it is the policy with its adapter switched off, else a copy.

    Args:
        policy: as it starts, before any update.
        rest_on_cpu: the copy waits in CPU memory and is moved for each use.
        dtype: of the copy; None keeps the policy's. Where cut weights are gathered in bfloat16 the copy
            has that too: both then compute alike, and KL begins at 0.
    """

    def __init__(self, policy: Any, *, rest_on_cpu: bool = False, dtype: torch.dtype | None = None) -> None:
        self._adapted = policy if hasattr(policy, "peft_config") else None
        self._copy: Any = None
        if self._adapted is None:
            self._copy = copy.deepcopy(policy).requires_grad_(False).eval()
        self._home = torch.device("cpu") if rest_on_cpu else policy_of(policy).lm_head.weight.device
        if self._copy is not None:
            self._copy.to(self._home, dtype)

    @property
    def is_copy(self) -> bool:
        """It has weights of its own; the policy's are not needed to score by it."""
        return self._copy is not None

    @torch.no_grad()
    def score(self, objective: GrpoObjective, batches: list[RolloutBatch]) -> list[Tensor]:
        """Log-probabilities of each batch, (B, T)."""
        device = policy_of(objective.policy).lm_head.weight.device
        model = self._adapted if self._adapted is not None else self._copy.to(device)
        with self._adapted.disable_adapter() if self._adapted is not None else nullcontext():
            found = [objective.score(model, batch)[0] for batch in batches]
        if self._copy is not None:
            self._copy.to(self._home)
        return found


def _sum_and_count(values_BT: Tensor, where_BT: Tensor) -> Tensor:
    chosen = values_BT.detach()[where_BT].double()
    return torch.stack([chosen.sum(), chosen.new_tensor(float(chosen.numel()))])
