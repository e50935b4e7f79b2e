"""The plain twin of `earl.policy.likelihood.token_scores`: full logits, masked columns, one softmax."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from earl.policy.likelihood import Scoring, TokenScores, positions_of
from earl.sequence.kinds import Kind
from earl.sequence.vocabulary import Vocabulary


def token_scores_plain(
    model: Any,
    ids_BT: Tensor,
    mask_BT: Tensor,
    kinds_BT: Tensor,
    vocabulary: Vocabulary,
    scoring: Scoring | None = None,
) -> TokenScores:
    """As `token_scores`, through logits of the whole vocabulary; always with the entropy."""
    scoring = scoring or Scoring()
    logits_BTV = model(
        input_ids=ids_BT, attention_mask=mask_BT.long(), position_ids=positions_of(mask_BT), use_cache=False
    ).logits.float()
    kinds = torch.where(mask_BT.bool(), kinds_BT.long(), Kind.FORCED)[:, 1:]
    column_V = torch.arange(logits_BTV.shape[-1], device=ids_BT.device) - vocabulary.first_visual
    visual_V = (column_V >= 0) & (column_V < vocabulary.codebook_size)
    due_BTV = torch.where((kinds == Kind.TEXT)[..., None], column_V < 0, visual_V)
    free_BT = kinds != Kind.FORCED
    targets = torch.where(free_BT, ids_BT[:, 1:], due_BTV.long().argmax(-1))
    scaled_BTV = (logits_BTV[:, :-1] / scoring.temperature).masked_fill(~due_BTV, float("-inf"))
    if scoring.top_k or scoring.top_p < 1:
        ordered, place_BTV = scaled_BTV.sort(-1, descending=True)
        ranks_BTV = place_BTV.argsort(-1)
        within = ordered.masked_fill(
            torch.arange(ordered.shape[-1]) >= (scoring.top_k or len(column_V)), -torch.inf
        )
        before = torch.cat([torch.zeros_like(within[..., :1]), within.softmax(-1).cumsum(-1)[..., :-1]], -1)
        stays = ((before < scoring.top_p) & within.isfinite()).gather(-1, ranks_BTV)
        due_BTV = due_BTV & stays.scatter(-1, targets[..., None], True)
    logp_BTV = scaled_BTV.masked_fill(~due_BTV, float("-inf")).log_softmax(-1)
    logprobs = torch.where(free_BT, logp_BTV.gather(-1, targets[..., None])[..., 0], 0.0)
    if (smoothing := scoring.smoothing) is not None:
        image_BT = free_BT & (kinds != Kind.TEXT)
        codes = (targets - vocabulary.first_visual).clamp_min(0) * image_BT
        near = smoothing.ids_Kn[codes] + vocabulary.first_visual
        alike = (
            logp_BTV.gather(-1, near).masked_fill(~image_BT[..., None], 0.0) + smoothing.weights_Kn[codes]
        ).logsumexp(-1)
        moved = smoothing.share * (alike - logprobs) * image_BT
        logprobs = logprobs + moved - moved.detach()  # the value stays, the gradient is shared
    entropy = -(logp_BTV.exp() * logp_BTV.masked_fill(~due_BTV, 0.0)).sum(-1)
    pad = torch.nn.functional.pad
    return TokenScores(pad(logprobs, (1, 0)), pad(torch.where(free_BT, entropy, 0.0), (1, 0)))
