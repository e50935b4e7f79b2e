"""The loss of SFT: minus the log-likelihood under the grammar.

Axes: B sequences, T tokens.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from earl.config.sections import TokenDropout
from earl.data.collate import Batch
from earl.policy.likelihood import policy_of
from earl.sequence.kinds import Kind
from earl.training.loop import Losses, sum_and_count
from earl.training.objective import PolicyObjective
from earl.training.ranks import autocast


class SftObjective(PolicyObjective):
    """The loss, summed over the tokens that the kinds mark.

    Args:
        dropout: in training, tokens that are hidden from the policy's input (torch's own generator
            draws them). The loss stays on all of them.
        options, more: of `PolicyObjective`.
    """

    def __init__(self, *options: Any, dropout: TokenDropout | None = None, **more: Any) -> None:
        super().__init__(*options, **more)
        self.dropout = dropout

    def forward(self, batch: Batch) -> Losses:
        """Metrics, nats a token: `loss` of all scored tokens, `visual` and `text` of each kind,
        `changed` of visual tokens in cells that the edit changes, `kept` of the others of edits.
        Sequences that hide tokens count in `dropout` alone."""
        ids_BT, hides_B1 = self._shown(batch)
        nats_BT = -self.score(self.policy, batch, ids_BT).logprobs_BT
        shown_BT = batch.loss_BT & ~hides_B1
        visual_BT = shown_BT & (batch.kinds_BT == Kind.VISUAL)
        edits_B1 = batch.changed_BT.any(dim=1, keepdim=True)
        metrics = {
            "loss": sum_and_count(nats_BT, shown_BT),
            "visual": sum_and_count(nats_BT, visual_BT),
            "text": sum_and_count(nats_BT, shown_BT & (batch.kinds_BT == Kind.TEXT)),
            "changed": sum_and_count(nats_BT, shown_BT & batch.changed_BT),
            "kept": sum_and_count(nats_BT, visual_BT & edits_B1 & ~batch.changed_BT),
        }
        if self.dropout is not None:
            metrics["dropout"] = sum_and_count(nats_BT, batch.loss_BT & hides_B1)
        return Losses(nats_BT.sum(), metrics)

    def _shown(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The ids that the policy reads, int64 (B, T), and which sequences hide some, bool (B, 1).

        Hidden are tokens with a loss; IMG stands in their place (the padding id is never learnt).
        """
        ids_BT = batch.ids_BT
        if self.dropout is None or not self.training:
            return ids_BT, torch.zeros_like(batch.mask_BT[:, :1])
        low, high = self.dropout.rates
        hides_B1 = torch.rand(len(ids_BT), 1) < self.dropout.sequences
        rates_B1 = low + (high - low) * torch.rand(len(ids_BT), 1)
        drawn_BT = torch.rand(ids_BT.shape) < rates_B1 * hides_B1
        hidden_BT = drawn_BT.to(ids_BT.device) & batch.loss_BT
        return ids_BT.masked_fill(hidden_BT, self.vocabulary.img), hides_B1.to(ids_BT.device)

    @torch.no_grad()
    def hits(self, batch: Batch) -> Tensor:
        """Places where the likeliest visual token is the right one, given the right ones before: bool (B, T).

        A sequence that is right everywhere is what greedy sampling would write.
        """
        with autocast(self.precision, batch.ids_BT.device):
            hidden_BTC = self.hidden_states(self.policy, batch, batch.ids_BT)
            rows, columns = (batch.kinds_BT == Kind.VISUAL).nonzero(as_tuple=True)
            head_VC = policy_of(self.policy).lm_head.weight
            first, last = self.vocabulary.first_visual, self.vocabulary.size
            hits_BT = torch.zeros_like(batch.mask_BT)
            for part in torch.arange(len(rows), device=rows.device).split(self.block(batch)):
                at, to = rows[part], columns[part]
                logits_nV = hidden_BTC[at, to - 1] @ head_VC[first:last].T
                hits_BT[at, to] = logits_nV.argmax(dim=1) + first == batch.ids_BT[at, to]
        return hits_BT
