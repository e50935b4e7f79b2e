"""Per-token likelihoods under the grammar, by columns and chunks.

Where a visual token is due the softmax runs over the visual columns of the head only, where text is
due over the text columns, and where the grammar forces the token its probability is 1: the same
probability that sampling used. Logits for the whole vocabulary never exist: hidden states of one
kind meet the columns of that kind, `chunk` positions at a time, and are made again in the backward
pass. The full-logits twin is in `plain.py`.

Axes: B batch, T tokens, N positions of one kind, V columns of one kind, C hidden channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, overload

import torch
from torch import Tensor, nn

from earl.policy.configs import VocabularyLike

FORCED, TEXT, VISUAL = 0, 1, 2  # earl.sequence.Kind


@dataclass(frozen=True)
class Kin:
    """Codes that look alike, and how much of a visual token's gradient is theirs too.

    An image can be written with many look-alike codes, and which of them stands in a cell is mostly
    chance. The gradient of log p(code) teaches that chance; the gradient of log sum_k w(code, k) p(k)
    does not: it asks for one of the codes that look like this one, and leaves the choice among them as
    it is. With a share s the gradient is (1 - s) times the first plus s times the second.

    Attributes:
        ids_Kn: int64 (K, n), for each code those near it, itself among them.
        weights_Kn: float32 (K, n), natural log of w.
        share: s, 0-1.
    """

    ids_Kn: Tensor
    weights_Kn: Tensor
    share: float

    def to(self, device: torch.device) -> Kin:
        """The same on a device."""
        return Kin(self.ids_Kn.to(device), self.weights_Kn.to(device), self.share)


@overload
def token_logprobs(
    model: Any,
    ids_BT: Tensor,
    mask_BT: Tensor,
    kinds_BT: Tensor,
    vocabulary: VocabularyLike,
    *,
    temperature: float = ...,
    chunk: int = ...,
    with_entropy: Literal[False] = ...,
    kin: Kin | None = ...,
) -> Tensor: ...
@overload
def token_logprobs(
    model: Any,
    ids_BT: Tensor,
    mask_BT: Tensor,
    kinds_BT: Tensor,
    vocabulary: VocabularyLike,
    *,
    temperature: float = ...,
    chunk: int = ...,
    with_entropy: Literal[True],
    kin: Kin | None = ...,
) -> tuple[Tensor, Tensor]: ...
def token_logprobs(
    model: Any,
    ids_BT: Tensor,
    mask_BT: Tensor,
    kinds_BT: Tensor,
    vocabulary: VocabularyLike,
    *,
    temperature: float = 1.0,
    chunk: int = 512,
    with_entropy: bool = False,
    kin: Kin | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """log p(ids[t] | ids[<t]) of each token under the grammar.

    Args:
        model: an Emu3ForCausalLM, with or without a LoRA adapter (not wrapped for ranks: wrap a
            `Scorer` for those).
        ids_BT: int64 (B, T), padded left or right.
        mask_BT: (B, T), true where there is a token.
        kinds_BT: (B, T) of `earl.sequence.Kind`; 0 (forced) also on the prompt and on padding. The
            first token has nothing before it and counts as forced.
        temperature: logits are divided by it before the softmax, > 0.
        chunk: positions per block of logits.
        with_entropy: also give the entropy.
        kin: shares the gradient of a visual token among codes that look like it; values stay the same.

    Returns:
        float32 (B, T), natural log, 0 where forced; differentiable. With `with_entropy` also the
        entropy of the distribution the token was drawn from, nats, float32 (B, T), 0 where forced,
        differentiable too.
    """
    hidden_BTC = hidden_states(model, ids_BT, mask_BT)
    head_VC = policy_of(model).lm_head.weight
    # A policy over several devices is scored where its head lies; on one device nothing moves.
    hidden_BTC = hidden_BTC.to(head_VC.device)
    ids_BT, mask_BT = ids_BT.to(head_VC.device), mask_BT.to(head_VC.device)
    return logprobs_from_hidden(
        hidden_BTC,
        head_VC,
        ids_BT,
        mask_BT,
        kinds_BT,
        vocabulary,
        temperature=temperature,
        chunk=chunk,
        with_entropy=with_entropy,
        kin=kin,
    )


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
    whole = bool(mask_BT.all())
    return (
        policy_of(model)
        .model(
            input_ids=ids_BT,
            attention_mask=None if whole else mask_BT.long(),
            position_ids=None if whole else positions_of(mask_BT),
            use_cache=False,
        )
        .last_hidden_state
    )


def logprobs_from_hidden(
    hidden_BTC: Tensor,
    head_VC: Tensor,
    ids_BT: Tensor,
    mask_BT: Tensor,
    kinds_BT: Tensor,
    vocabulary: VocabularyLike,
    *,
    temperature: float = 1.0,
    chunk: int = 512,
    with_entropy: bool = False,
    kin: Kin | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """The second half of `token_logprobs`, for hidden states that were made elsewhere."""
    if temperature <= 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    B, T, _ = hidden_BTC.shape
    kinds_BT = torch.where(mask_BT.bool(), kinds_BT.to(ids_BT.device).long(), FORCED)
    logprobs = hidden_BTC.new_zeros(B * T, dtype=torch.float32)
    entropies = torch.zeros_like(logprobs) if with_entropy else None
    for kind, start, stop in (
        (TEXT, 0, vocabulary.first_visual),
        (VISUAL, vocabulary.first_visual, vocabulary.first_visual + vocabulary.codebook_size),
    ):
        rows_N, columns_N = (kinds_BT[:, 1:] == kind).nonzero(as_tuple=True)
        if rows_N.numel() == 0:
            continue
        targets_N = ids_BT[rows_N, columns_N + 1] - start
        if bool(((targets_N < 0) | (targets_N >= stop - start)).any()):
            raise ValueError(
                f"a token marked {'text' if kind == TEXT else 'visual'} is outside ids {start} to {stop - 1}"
            )
        found_N, entropy_N = _ColumnLogprobs.apply(
            hidden_BTC[rows_N, columns_N],
            head_VC[start:stop],
            targets_N,
            temperature,
            chunk,
            with_entropy,
            kin.to(ids_BT.device) if kin is not None and kind == VISUAL else None,
        )
        flat_N = rows_N * T + columns_N + 1
        logprobs = logprobs.index_put((flat_N,), found_N)
        if entropies is not None:
            entropies = entropies.index_put((flat_N,), entropy_N)
    if entropies is not None:
        return logprobs.view(B, T), entropies.view(B, T)
    return logprobs.view(B, T)


class _ColumnLogprobs(torch.autograd.Function):
    """log-softmax over some columns of the head, read at the targets; logits are made twice, kept never."""

    @staticmethod
    def forward(ctx, hidden_NC, head_VC, targets_N, temperature, chunk, with_entropy, kin):  # type: ignore[no-untyped-def, override]
        kind = hidden_NC.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden_NC.dtype
        logprobs_N = hidden_NC.new_empty(len(hidden_NC), dtype=torch.float32)
        entropy_N = hidden_NC.new_zeros(len(hidden_NC), dtype=torch.float32)
        columns = head_VC.to(dtype)
        for at in range(0, len(hidden_NC), chunk):
            part = slice(at, at + chunk)
            logp_nV = _log_softmax(hidden_NC[part].to(dtype), columns, temperature)
            logprobs_N[part] = logp_nV.gather(1, targets_N[part, None])[:, 0]
            if with_entropy:
                entropy_N[part] = -(logp_nV.exp() * logp_nV).sum(1)
        ctx.save_for_backward(hidden_NC, head_VC, targets_N)
        ctx.settings = (temperature, chunk, with_entropy, dtype, kin)
        return logprobs_N, entropy_N

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_N, grad_entropy_N):  # type: ignore[no-untyped-def, override]
        hidden_NC, head_VC, targets_N = ctx.saved_tensors
        temperature, chunk, with_entropy, dtype, kin = ctx.settings
        columns = head_VC.to(dtype)
        grad_hidden = torch.empty_like(hidden_NC) if ctx.needs_input_grad[0] else None
        grad_head = torch.zeros_like(head_VC, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        for at in range(0, len(hidden_NC), chunk):
            part = slice(at, at + chunk)
            hidden = hidden_NC[part].to(dtype)
            logp_nV = _log_softmax(hidden, columns, temperature)
            p_nV = logp_nV.exp()
            if with_entropy:  # d entropy / d logit = -p (log p + entropy)
                entropy_n = -(p_nV * logp_nV).sum(1, keepdim=True)
                grad_logits = -p_nV * (logp_nV + entropy_n) * grad_entropy_N[part, None]
                grad_logits -= p_nV * grad_N[part, None]
            else:
                grad_logits = p_nV.mul_(-grad_N[part, None])
            targets_n1, grad_n1 = targets_N[part, None], grad_N[part, None]
            if kin is not None:  # d log sum_k w_k p_k / d logit = w p / sum - p
                near_nn, weights_nn = kin.ids_Kn[targets_N[part]], kin.weights_Kn[targets_N[part]]
                alike_nn = (logp_nV.gather(1, near_nn) + weights_nn).softmax(dim=1)
                grad_logits.scatter_add_(1, near_nn, alike_nn * (kin.share * grad_n1))
                grad_n1 = (1 - kin.share) * grad_n1
            grad_logits.scatter_add_(1, targets_n1, grad_n1)
            grad_logits = grad_logits.div_(temperature).to(dtype)
            if grad_hidden is not None:
                grad_hidden[part] = (grad_logits @ columns).to(hidden_NC.dtype)
            if grad_head is not None:
                grad_head += (grad_logits.T @ hidden).float()
        grad_head = grad_head.to(head_VC.dtype) if grad_head is not None else None
        return grad_hidden, grad_head, None, None, None, None, None


def _log_softmax(hidden_nC: Tensor, columns_VC: Tensor, temperature: float) -> Tensor:
    logits = (hidden_nC @ columns_VC.T).float()
    return torch.log_softmax(logits.div_(temperature), dim=-1)


class Scorer(nn.Module):
    """`token_logprobs` as a module: what to wrap for ranks (DDP, FSDP), whose hooks sit on `forward`."""

    def __init__(self, policy: Any, vocabulary: VocabularyLike) -> None:
        super().__init__()
        self.policy = policy
        self.vocabulary = vocabulary

    def forward(self, ids_BT: Tensor, mask_BT: Tensor, kinds_BT: Tensor, **settings: Any) -> Any:
        """As `token_logprobs`, whose keyword settings it takes."""
        return token_logprobs(self.policy, ids_BT, mask_BT, kinds_BT, self.vocabulary, **settings)
