"""Per-token likelihoods under the grammar, by columns and chunks.

Where a visual token is due the softmax runs over the visual columns of the head only, where text is
due over the text columns, and where the grammar forces the token its probability is 1: the same
probability that sampling used. Logits for the whole vocabulary never exist: hidden states of one
kind meet the columns of that kind, `chunk` positions at a time, and logits are recomputed in the backward
pass. The tests hold it to a twin with full logits (`tests/support/plain_likelihood.py`).

Axes: B batch, T tokens, N positions of one kind, V columns of one kind, C hidden channels, K codes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from earl.sequence.kinds import Kind
from earl.sequence.vocabulary import Vocabulary

_CUT_OFF = -1e30  # the logit of an id that is cut off: its probability is 0, and 0 times it is 0


@dataclass(frozen=True, slots=True)
class NeighbourSmoothing:
    """Shares the gradient of a visual token among codes that look like it.

    An image can be written with many look-alike codes, and which of them stands in a cell is mostly
    chance. The gradient of log p(code) teaches that chance. The gradient of log sum_k w(code, k) p(k)
    asks for one of the codes that look like this one, and leaves the choice among them as it is. The
    gradient is (1 - share) times the first plus share times the second; values stay those of the code.

    Attributes:
        ids_Kn: int64 (K, n), for each code those near it, itself among them.
        weights_Kn: float32 (K, n), natural log of w.
        share: 0-1.
    """

    ids_Kn: Tensor
    weights_Kn: Tensor
    share: float

    def to(self, device: torch.device) -> NeighbourSmoothing:
        """The same on a device."""
        return NeighbourSmoothing(self.ids_Kn.to(device), self.weights_Kn.to(device), self.share)


@dataclass(frozen=True, slots=True)
class Scoring:
    """How tokens are scored.

    Args:
        temperature: logits are divided by it before the softmax, > 0.
        chunk: positions per block of logits, >= 1.
        entropy: also compute the entropy.
        smoothing: shares gradients of visual tokens among codes that look alike.
        top_k, top_p: score among the ids that these leave, and the id itself, as where the sampler cuts;
            0 and 1 score among all.
    """

    temperature: float = 1.0
    chunk: int = 512
    entropy: bool = False
    smoothing: NeighbourSmoothing | None = None
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ValueError(f"temperature must be above 0, got {self.temperature}")


class TokenScores(NamedTuple):
    """Scores of each token, float32 (B, T), 0 where the grammar forces it.

    Attributes:
        logprobs_BT: natural log of its probability; differentiable.
        entropies_BT: of the distribution it was drawn from, nats; without a gradient, as it is only looked
            at; 0 where `Scoring.entropy` is off.
    """

    logprobs_BT: Tensor
    entropies_BT: Tensor


def token_scores(
    model: Any,
    ids_BT: Tensor,
    mask_BT: Tensor,
    kinds_BT: Tensor,
    vocabulary: Vocabulary,
    scoring: Scoring | None = None,
) -> TokenScores:
    """log p(ids[t] | ids[<t]) of each token under the grammar, and its entropy.

    Args:
        model: an Emu3ForCausalLM, with or without a LoRA adapter.
        ids_BT: int64 (B, T), padded left or right.
        mask_BT: (B, T), true where there is a token.
        kinds_BT: (B, T) of `earl.sequence.kinds.Kind`; 0 (forced) also on the prompt and on padding. The
            first token has nothing before it and counts as forced.

    Raises:
        ValueError: a token is not of the kind that it is marked as.
    """
    hidden_BTC = hidden_states(model, ids_BT, mask_BT)
    head_VC = policy_of(model).lm_head.weight
    return scores_from_hidden(hidden_BTC, head_VC, ids_BT, mask_BT, kinds_BT, vocabulary, scoring)


def policy_of(model: Any) -> Any:
    """The Emu3ForCausalLM inside a peft model, or the model itself."""
    return (
        model.get_base_model()
        if hasattr(model, "peft_config") and hasattr(model, "get_base_model")
        else model
    )


def recompute_activations(model: Any) -> None:
    """Gradient checkpointing: each layer's activations are made again in the backward pass."""
    base = policy_of(model)
    # Two names of one method; the second is the one before transformers 5.24.
    enable = getattr(base, "activation_checkpointing_enable", None) or base.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def positions_of(mask_BT: Tensor) -> Tensor:
    """Positions that count tokens only, so that padding on either side changes nothing: int64 (B, T)."""
    return (mask_BT.long().cumsum(dim=1) - 1).clamp_min(0)


def hidden_states(model: Any, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """The last layer's output after its norm, (B, T, C): what the head would read."""
    full = bool(mask_BT.all())
    output = policy_of(model).model(
        input_ids=ids_BT,
        attention_mask=None if full else mask_BT.long(),
        position_ids=None if full else positions_of(mask_BT),
        use_cache=False,
    )
    return output.last_hidden_state


def scores_from_hidden(
    hidden_BTC: Tensor,
    head_VC: Tensor,
    ids_BT: Tensor,
    mask_BT: Tensor,
    kinds_BT: Tensor,
    vocabulary: Vocabulary,
    scoring: Scoring | None = None,
) -> TokenScores:
    """`token_scores` from the final hidden states (B, T, C) on, for callers that ran the transformer."""
    scoring = scoring or Scoring()
    B, T, _ = hidden_BTC.shape
    kinds_BT = torch.where(mask_BT.bool(), kinds_BT.to(ids_BT.device).long(), Kind.FORCED)
    logprobs = hidden_BTC.new_zeros(B * T, dtype=torch.float32)
    entropies = torch.zeros_like(logprobs)
    for kind, start, stop in (
        (Kind.TEXT, 0, vocabulary.first_visual),
        (Kind.VISUAL, vocabulary.first_visual, vocabulary.first_visual + vocabulary.codebook_size),
    ):
        rows_N, columns_N = (kinds_BT[:, 1:] == kind).nonzero(as_tuple=True)
        if rows_N.numel() == 0:
            continue
        targets_N = ids_BT[rows_N, columns_N + 1] - start
        if bool(((targets_N < 0) | (targets_N >= stop - start)).any()):
            raise ValueError(f"a token marked {kind.name.lower()} is outside ids {start} to {stop - 1}")
        smoothing = scoring.smoothing.to(ids_BT.device) if scoring.smoothing and kind == Kind.VISUAL else None
        logprobs_N, entropies_N = _ColumnLogprobs.apply(  # type: ignore[no-untyped-call]
            hidden_BTC[rows_N, columns_N], head_VC[start:stop], targets_N, scoring, smoothing
        )
        flat_N = rows_N * T + columns_N + 1
        logprobs = logprobs.index_put((flat_N,), logprobs_N)
        if scoring.entropy:
            entropies = entropies.index_put((flat_N,), entropies_N)
    return TokenScores(logprobs.view(B, T), entropies.view(B, T))


class _ColumnLogprobs(torch.autograd.Function):
    """log-softmax over some columns of the head at the targets; recomputes logits in the backward pass."""

    @staticmethod
    def forward(ctx, hidden_NC, head_VC, targets_N, scoring, smoothing):  # type: ignore[no-untyped-def]
        kind = hidden_NC.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden_NC.dtype
        logprobs_N = hidden_NC.new_empty(len(hidden_NC), dtype=torch.float32)
        entropy_N = hidden_NC.new_zeros(len(hidden_NC), dtype=torch.float32)
        columns = head_VC.to(dtype)
        for at in range(0, len(hidden_NC), scoring.chunk):
            part = slice(at, at + scoring.chunk)
            logp_nV = _log_softmax(hidden_NC[part].to(dtype), columns, targets_N[part], scoring)
            logprobs_N[part] = logp_nV.gather(1, targets_N[part, None])[:, 0]
            if scoring.entropy:
                entropy_N[part] = -logp_nV.exp().mul_(logp_nV).sum(1)
            del logp_nV  # before the next block is made, so that two are held at most
        ctx.mark_non_differentiable(entropy_N)
        ctx.save_for_backward(hidden_NC, head_VC, targets_N)
        ctx.settings = (scoring, smoothing, dtype)
        return logprobs_N, entropy_N

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_N, _):  # type: ignore[no-untyped-def]
        hidden_NC, head_VC, targets_N = ctx.saved_tensors
        scoring, smoothing, dtype = ctx.settings
        columns = head_VC.to(dtype)
        grad_hidden = torch.empty_like(hidden_NC) if ctx.needs_input_grad[0] else None
        grad_head = torch.zeros_like(head_VC, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        for at in range(0, len(hidden_NC), scoring.chunk):
            part = slice(at, at + scoring.chunk)
            hidden = hidden_NC[part].to(dtype)
            logp_nV = _log_softmax(hidden, columns, targets_N[part], scoring)
            targets_n1, grad_n1 = targets_N[part, None], grad_N[part, None]
            if smoothing is not None:  # d log sum_k w_k p_k / d logit = w p / sum - p
                near_nn, weights_nn = smoothing.ids_Kn[targets_N[part]], smoothing.weights_Kn[targets_N[part]]
                alike_nn = (logp_nV.gather(1, near_nn) + weights_nn).softmax(dim=1)
            grad_logits = logp_nV.exp_().mul_(-grad_n1)
            if smoothing is not None:
                grad_logits.scatter_add_(1, near_nn, alike_nn * (smoothing.share * grad_n1))
                grad_n1 = (1 - smoothing.share) * grad_n1
            grad_logits.scatter_add_(1, targets_n1, grad_n1)
            grad_logits = grad_logits.div_(scoring.temperature).to(dtype)
            if grad_hidden is not None:
                grad_hidden[part] = (grad_logits @ columns).to(hidden_NC.dtype)
            if grad_head is not None:
                grad_head += (grad_logits.T @ hidden).float()
            del logp_nV, grad_logits
        grad_head = grad_head.to(head_VC.dtype) if grad_head is not None else None
        return grad_hidden, grad_head, None, None, None


def _log_softmax(hidden_nC: Tensor, columns_VC: Tensor, targets_n: Tensor, scoring: Scoring) -> Tensor:
    logits_nV = (hidden_nC @ columns_VC.T).float().div_(scoring.temperature)
    width = logits_nV.shape[1]
    keep = min(scoring.top_k or width, width)
    if keep < width or scoring.top_p < 1:
        best_nK, columns_nK = logits_nV.topk(keep, dim=-1)
        p_nK = best_nK.softmax(-1)
        stays_nK = p_nK.cumsum(-1) - p_nK < scoring.top_p  # as `earl.sampling.native.draw`
        kept_nV = torch.zeros_like(logits_nV, dtype=torch.bool).scatter_(1, columns_nK, stays_nK)
        kept_nV.scatter_(1, targets_n[:, None], True)
        logits_nV.masked_fill_(~kept_nV, _CUT_OFF)
    return torch.log_softmax(logits_nV, dim=-1)
