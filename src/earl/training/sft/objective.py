"""The loss of the base stage and of SFT: minus the log-likelihood under the grammar.

Axes: B sequences, T tokens.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from earl.config.sections import Hiding, Precision
from earl.data.collate import Batch
from earl.policy import NeighbourSmoothing, Scoring, policy_of, scores_from_hidden, shared_hidden_states
from earl.policy.configs import VocabularyLike
from earl.sequence import Kind
from earl.training.blocks import positions_of_block
from earl.training.loop import Losses
from earl.training.ranks import autocast


class PolicyObjective(nn.Module):
    """A policy with its loss, summed over the tokens that the kinds mark.

    Args:
        policy: Emu3ForCausalLM, with or without a LoRA adapter.
        chunk: positions per block of logits; None takes what suits the device.
        hiding: in training, tokens that are hidden from the policy's input (torch's own generator
            draws them). The loss stays on all of them.
        smoothing: shares gradients of visual tokens among codes that look alike; metrics stay as they are.
    """

    def __init__(
        self,
        policy: Any,
        vocabulary: VocabularyLike,
        precision: Precision,
        *,
        chunk: int | None = None,
        hiding: Hiding | None = None,
        smoothing: NeighbourSmoothing | None = None,
    ) -> None:
        super().__init__()
        self.smoothing = smoothing
        self.hiding = hiding
        self.policy = policy
        self.vocabulary = vocabulary
        self.precision = precision
        self.chunk = chunk

    def forward(self, batch: Batch) -> Losses:
        """Metrics, nats a token: `loss` of all scored tokens, `visual` and `text` of each kind,
        `changed` of visual tokens in cells that the edit changes, `kept` of the others of edits.
        Sequences that hide tokens count in `hiding` alone."""
        ids_BT, hides_B1 = self._shown(batch)
        with autocast(self.precision, batch.ids_BT.device):
            hidden_BTC = _hidden_states(self.policy, batch, ids_BT)
            scores = scores_from_hidden(
                hidden_BTC,
                policy_of(self.policy).lm_head.weight,
                batch.ids_BT,
                batch.mask_BT,
                batch.kinds_BT,
                self.vocabulary,
                Scoring(chunk=self._chunk(batch), smoothing=self.smoothing),
            )
        nats_BT = -scores.logprobs_BT
        shown_BT = batch.loss_BT & ~hides_B1
        visual_BT = shown_BT & (batch.kinds_BT == Kind.VISUAL)
        edits_B1 = batch.changed_BT.any(dim=1, keepdim=True)
        metrics = {
            "loss": _sum_and_count(nats_BT, shown_BT),
            "visual": _sum_and_count(nats_BT, visual_BT),
            "text": _sum_and_count(nats_BT, shown_BT & (batch.kinds_BT == Kind.TEXT)),
            "changed": _sum_and_count(nats_BT, shown_BT & batch.changed_BT),
            "kept": _sum_and_count(nats_BT, visual_BT & edits_B1 & ~batch.changed_BT),
        }
        if self.hiding is not None:
            metrics["hiding"] = _sum_and_count(nats_BT, batch.loss_BT & hides_B1)
        return Losses(nats_BT.sum(), metrics)

    def _shown(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The ids that the policy reads, int64 (B, T), and which sequences hide some, bool (B, 1).

        Hidden are tokens with a loss; IMG stands in their place (the padding id is never learnt).
        """
        ids_BT = batch.ids_BT
        if self.hiding is None or not self.training:
            return ids_BT, torch.zeros_like(batch.mask_BT[:, :1])
        low, high = self.hiding.rates
        hides_B1 = torch.rand(len(ids_BT), 1) < self.hiding.sequences
        rates_B1 = low + (high - low) * torch.rand(len(ids_BT), 1)
        drawn_BT = torch.rand(ids_BT.shape) < rates_B1 * hides_B1
        hidden_BT = drawn_BT.to(ids_BT.device) & batch.loss_BT
        return ids_BT.masked_fill(hidden_BT, self.vocabulary.img), hides_B1.to(ids_BT.device)

    def _chunk(self, batch: Batch) -> int:
        return self.chunk or positions_of_block("sft", batch.ids_BT.device.type)

    @torch.no_grad()
    def hits(self, batch: Batch) -> Tensor:
        """Where the likeliest visual token is the right one, given the right ones before it: bool (B, T).

        A sequence that is right everywhere is what greedy sampling would write.
        """
        with autocast(self.precision, batch.ids_BT.device):
            hidden_BTC = _hidden_states(self.policy, batch, batch.ids_BT)
            rows, columns = (batch.kinds_BT == Kind.VISUAL).nonzero(as_tuple=True)
            head_VC = policy_of(self.policy).lm_head.weight
            first, last = self.vocabulary.first_visual, self.vocabulary.size
            hits_BT = torch.zeros_like(batch.mask_BT)
            for part in torch.arange(len(rows), device=rows.device).split(self._chunk(batch)):
                at, to = rows[part], columns[part]
                logits_nV = hidden_BTC[at, to - 1] @ head_VC[first:last].T
                hits_BT[at, to] = logits_nV.argmax(dim=1) + first == batch.ids_BT[at, to]
        return hits_BT


def _hidden_states(policy: Any, batch: Batch, ids_BT: Tensor) -> Tensor:
    return shared_hidden_states(policy, ids_BT, batch.prefix_PT, batch.prefix_mask_PT, batch.owner_B)


def _sum_and_count(values_BT: Tensor, where_BT: Tensor) -> Tensor:
    chosen = values_BT.detach()[where_BT].double()
    return torch.stack([chosen.sum(), torch.tensor(float(chosen.numel()), device=chosen.device).double()])
