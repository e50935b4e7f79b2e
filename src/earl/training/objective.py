"""The likelihood of a batch under the grammar, from which the losses of SFT, GRPO and DPO are made.

It is the likelihood that sampling uses: at the sampling temperature, forced ids with probability 1. A
beginning that sequences share (a source image, a prompt) is computed once, with a cache of its keys and
values or, where activations are recomputed in the backward pass, in one row under an attention mask
(`earl.policy.shared`). Logits are made for the columns that are due, block by block
(`earl.policy.likelihood`). The plain twin, full sequences and full logits, is in the tests.

Axes: B sequences, T tokens, C hidden channels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor, nn

from earl.config.sections import Precision
from earl.policy.likelihood import NeighbourSmoothing, Scoring, TokenScores, policy_of, scores_from_hidden
from earl.policy.shared import branched_hidden_states, shared_hidden_states
from earl.sequence.vocabulary import Vocabulary
from earl.training.ranks import autocast

if TYPE_CHECKING:
    from earl.data.collate import Batch

Sharing = Literal["cache", "mask"]
POSITIONS = 1024  # of one block of logits
POSITIONS_ON_CPU = 256  # the same in reinforcement; supervised stages hold fewer blocks and keep to one size


class PolicyObjective(nn.Module):
    """A policy whose loss a subclass's forward gives.

    Args:
        policy: Emu3ForCausalLM, with or without a LoRA adapter.
        temperature: of the sampling.
        sharing: how a shared beginning is computed once.
        smoothing: shares gradients of visual tokens among codes that look alike; likelihoods stay the same.
        chunk: positions per block of logits; None takes what suits the stage and the device.
        cut: top-k and top-p under which is scored (`Scoring`); (0, 1): among all ids.
    """

    stage = "sft"

    def __init__(
        self,
        policy: Any,
        vocabulary: Vocabulary,
        precision: Precision,
        *,
        temperature: float = 1.0,
        sharing: Sharing = "cache",
        smoothing: NeighbourSmoothing | None = None,
        chunk: int | None = None,
        cut: tuple[int, float] = (0, 1.0),
    ) -> None:
        super().__init__()
        self.policy, self.vocabulary, self.precision = policy, vocabulary, precision
        self.temperature, self.sharing, self.smoothing = temperature, sharing, smoothing
        self.chunk, self.cut = chunk, cut

    def score(
        self, policy: Any, batch: Batch, ids_BT: Tensor | None = None, *, entropy: bool = False
    ) -> TokenScores:
        """The scores of each token of a batch, under this policy or another.

        Args:
            ids_BT: what the policy reads, where that is not the batch's own ids.
            entropy: also of the distributions that the tokens were drawn from.
        """
        scoring = Scoring(self.temperature, self.block(batch), entropy, self.smoothing, *self.cut)
        with autocast(self.precision, batch.ids_BT.device):
            return scores_from_hidden(
                self.hidden_states(policy, batch, batch.ids_BT if ids_BT is None else ids_BT),
                policy_of(policy).lm_head.weight,
                batch.ids_BT,
                batch.mask_BT,
                batch.kinds_BT,
                self.vocabulary,
                scoring,
            )

    def hidden_states(self, policy: Any, batch: Batch, ids_BT: Tensor) -> Tensor:
        """The last layer's output, (B, T, C)."""
        hidden: Any = branched_hidden_states if self.sharing == "mask" else shared_hidden_states
        return hidden(policy, ids_BT, batch.prefix_PL, batch.prefix_mask_PL, batch.owner_B)

    def block(self, batch: Batch) -> int:
        """Positions that meet the head together."""
        return self.chunk or positions_of_block(self.stage, batch.ids_BT.device.type)


def positions_of_block(stage: str, device: str) -> int:
    """Positions of one block of logits.

    A backward pass holds two blocks at once, positions x visual columns of float32, which on a CPU is
    most of what an update of a small model takes: in reinforcement 397 MiB with 1,024 positions, 251 to
    281 MiB with 256, as fast (docs/lab-notes/). Each block also reads and writes the gradient of the head's
    columns, so that a GPU, where weights are what fills the memory, keeps larger ones.

    Args:
        stage: of the recipe: "sft", "dpo" or "grpo".
        device: "cpu", or a kind of accelerator, as `torch.device.type` names it.
    """
    return POSITIONS_ON_CPU if stage == "grpo" and device == "cpu" else POSITIONS
