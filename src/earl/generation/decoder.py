"""Emu3's forward pass for sampling, written out: RMSNorm, grouped-query attention, RoPE, a fixed cache.

The general forward of transformers spends more time around the matrix products of a small model
than in them. This one feeds a few tokens per sample and step, keeps one copy of a prompt's keys
and values for all its samples (they attend to it together, as one matrix product), and writes the
samples' own into memory that was set aside. Equal to `Emu3ForCausalLM.forward` within rounding.

Axes: P prompts, G samples per prompt, R = P * G slots, M tokens fed, n tokens per slot at most,
H query heads, K key-value heads, E = H / K, D head dimension, L cached tokens, C hidden channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from earl.generation.weights import LayerWeights, Projection, Weights, read_weights

_PREFILL_TOKENS = 8192  # tokens of prompts that go through the layers together


class Decoder:
    """The weights of one policy, and prefill and steps with them."""

    def __init__(self, policy: Any, dtype: torch.dtype) -> None:
        self.policy, self.dtype = policy, dtype
        # On a CPU only the matrix products gain from half precision; norms, attention and the
        # residual stream cost no more in float32, and are exact there.
        self.stream = torch.float32 if policy.lm_head.weight.device.type == "cpu" else dtype
        config = policy.config
        attention = policy.model.layers[0].self_attn
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.head_dim, self.eps = attention.head_dim, config.rms_norm_eps
        self.activation = policy.model.layers[0].mlp.act_fn
        self.weights: Weights = read_weights(policy, dtype, self.stream)

    @property
    def device(self) -> torch.device:
        return self.weights.norm.device

    def refresh(self) -> None:
        """Take the policy's weights as they are now."""
        self.weights = read_weights(self.policy, self.dtype, self.stream)

    def rope_table(self, length: int) -> tuple[Tensor, Tensor]:
        """cos and signed sin of positions 0..length-1, each (length, 1, D)."""
        positions = torch.arange(length, device=self.device)[None]
        cos, sin = self.policy.model.rotary_emb(torch.zeros(1, device=self.device), position_ids=positions)
        sign = torch.ones(self.head_dim, device=self.device)
        sign[: self.head_dim // 2] = -1
        return cos[0, :, None].to(self.stream), (sin[0, :, None] * sign).to(self.stream)

    def embed(self, ids: Tensor) -> Tensor:
        return self.weights.embedding[ids].to(self.stream)

    def norm(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.rms_norm(x, weight.shape, weight, self.eps)

    def qkv(
        self, x_MC: Tensor, layer: LayerWeights, rope: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (M, H, D) scaled and rotated, keys (M, K, D) rotated, values (M, K, D)."""
        H, K, D = self.heads, self.kv_heads, self.head_dim
        both = apply(self.norm(x_MC, layer.norm1), layer.qkv).to(self.stream).view(-1, H + 2 * K, D)
        qk, values = both[:, : H + K], both[:, H + K :]
        qk = torch.addcmul(qk * rope[0], qk.roll(D // 2, -1), rope[1])
        return qk[:, :H] / math.sqrt(D), qk[:, H:], values

    def mlp(self, x_MC: Tensor, layer: LayerWeights) -> Tensor:
        gate, up = apply(self.norm(x_MC, layer.norm2), layer.gate_up).chunk(2, dim=-1)
        return apply(self.activation(gate) * up, layer.down)

    @torch.inference_mode()
    def prefill(self, prompts: Sequence[Sequence[int]]) -> tuple[PromptCache, Tensor]:
        """Run prompts of any lengths. Returns their cache and each one's last hidden state, (P, C)."""
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=self.device)
        longest = max(len(prompt) for prompt in prompts)
        cache = PromptCache.empty(self, lengths, longest)
        rope = self.rope_table(longest)
        at_once = max(1, _PREFILL_TOKENS // longest)
        last = [
            self._prefill_some(prompts[at : at + at_once], at, cache, rope)
            for at in range(0, len(prompts), at_once)
        ]
        return cache, torch.cat(last)

    def _prefill_some(
        self, prompts: Sequence[Sequence[int]], first: int, cache: PromptCache, rope: tuple[Tensor, Tensor]
    ) -> Tensor:
        P, T = len(prompts), max(len(prompt) for prompt in prompts)
        H, K, D = self.heads, self.kv_heads, self.head_dim
        padded = torch.zeros(P, T, dtype=torch.long)
        for row, prompt in enumerate(prompts):  # padded right: causal attention never looks there
            padded[row, : len(prompt)] = torch.tensor(prompt)
        x = self.embed(padded.to(self.device).view(-1))
        tables = (rope[0][:T].repeat(P, 1, 1), rope[1][:T].repeat(P, 1, 1))
        for layer, keys, values in zip(self.weights.layers, cache.keys, cache.values, strict=True):
            q, k, v = self.qkv(x, layer, tables)
            q, k, v = (t.view(P, T, -1, D).transpose(1, 2) for t in (q, k, v))
            rows = slice(first * K, (first + P) * K)
            keys[rows, :T] = k.reshape(P * K, T, D)
            values[rows, :T] = v.reshape(P * K, T, D)
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=1.0, enable_gqa=H != K)
            mixed = mixed.transpose(1, 2).reshape(P * T, H * D)
            if layer is self.weights.layers[-1]:  # from here on only the last token of each matters
                last = torch.arange(P, device=x.device) * T + cache.lengths[first : first + P] - 1
                mixed, x = mixed[last], x[last]
            x = x + apply(mixed, layer.out)
            x = x + self.mlp(x, layer)
        return self.norm(x, self.weights.norm)


def apply(x: Tensor, projection: Projection) -> Tensor:
    """A projection, joined or in parts, in the matrices' dtype."""
    x = x.to(projection[0][0].dtype)
    parts = [F.linear(x, weight, bias) for weight, bias in projection]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)


class PromptCache:
    """Keys and values (P*K, L, D) per layer of P prompts, padded right; lengths (P,)."""

    def __init__(self, keys: list[Tensor], values: list[Tensor], lengths: Tensor) -> None:
        self.keys, self.values, self.lengths = keys, values, lengths

    @classmethod
    def empty(cls, decoder: Decoder, lengths: Tensor, longest: int) -> PromptCache:
        rows, D = len(lengths) * decoder.kv_heads, decoder.head_dim
        kind: dict[str, Any] = {"dtype": decoder.stream, "device": decoder.device}
        layers = range(len(decoder.weights.layers))
        # zeros, not empty: padding meets a probability of 0, and 0 * nan would be nan
        return cls(
            [torch.zeros(rows, longest, D, **kind) for _ in layers],
            [torch.zeros(rows, longest, D, **kind) for _ in layers],
            lengths,
        )

    def keep(self, prompts: Tensor, kv_heads: int) -> PromptCache:
        """Only some of the prompts."""
        return PromptCache(
            [_keep(t, prompts, kv_heads) for t in self.keys],
            [_keep(t, prompts, kv_heads) for t in self.values],
            self.lengths[prompts],
        )


def _keep(tensor: Tensor, units: Tensor, each: int) -> Tensor:
    """Some of the units along the first axis, where each unit has `each` entries."""
    return tensor.view(-1, each, *tensor.shape[1:])[units].flatten(0, 1)


class Slots:
    """R = P * G samples in progress: their own keys and values, and the step that feeds them."""

    def __init__(self, decoder: Decoder, prompts: PromptCache, group: int, capacity: int) -> None:
        self.decoder, self.prompts, self.group = decoder, prompts, group
        self.capacity = capacity
        self.longest = prompts.values[0].shape[1]
        rows = len(prompts.lengths) * group * decoder.kv_heads
        kind: dict[str, Any] = {"dtype": decoder.stream, "device": decoder.device}
        layers = range(len(decoder.weights.layers))
        self.keys = [torch.zeros(rows, capacity, decoder.head_dim, **kind) for _ in layers]
        self.values = [torch.zeros(rows, capacity, decoder.head_dim, **kind) for _ in layers]
        self.rope = decoder.rope_table(self.longest + capacity)
        self._even = bool((prompts.lengths == self.longest).all())

    @property
    def count(self) -> int:
        return len(self.prompts.lengths) * self.group

    def grow(self, capacity: int) -> None:
        """Make room for longer completions, keeping what is there."""
        more = capacity - self.capacity
        self.keys = [F.pad(t, (0, 0, 0, more)) for t in self.keys]
        self.values = [F.pad(t, (0, 0, 0, more)) for t in self.values]
        self.rope = self.decoder.rope_table(self.longest + capacity)
        self.capacity = capacity

    def keep(self, prompts: list[int]) -> None:
        """Drop the slots of all other prompts."""
        chosen = torch.tensor(prompts, device=self.decoder.device)
        each = self.group * self.decoder.kv_heads
        self.keys = [_keep(t, chosen, each) for t in self.keys]
        self.values = [_keep(t, chosen, each) for t in self.values]
        self.prompts = self.prompts.keep(chosen, self.decoder.kv_heads)

    @torch.inference_mode()
    def feed(self, tokens: Sequence[Sequence[int]], starts: Sequence[int]) -> Tensor:
        """Feed each slot its next tokens and give the hidden state after its last one.

        Args:
            tokens: per slot, ids to feed; none for a slot that rests.
            starts: per slot, how many of its completion's own tokens are cached.

        Returns:
            (R, C) after the final norm; meaningless for slots that rest.
        """
        device = self.decoder.device
        n = max(len(ids) for ids in tokens)
        dense = all(len(ids) == n for ids in tokens)
        flat = [
            (token, slot, start + offset, slot * n + offset)
            for slot, (ids, start) in enumerate(zip(tokens, starts, strict=True))
            for offset, token in enumerate(ids)
        ]
        ids_M, slot_M, position_M, place_M = torch.tensor(flat, device=device).unbind(1)
        reach = max(start + len(ids) for ids, start in zip(tokens, starts, strict=True) if ids)
        same = dense and n == 1 and len(set(starts)) == 1
        mask = None
        if not (same and self._even):
            at_Rn = torch.full((self.count * n,), reach, device=device)
            at_Rn[place_M] = position_M
            mask = self.mask(at_Rn.view(-1, n), reach)
        x_MC = self.step(ids_M, slot_M, position_M, n, reach, mask, None if dense else place_M)
        if dense:
            return x_MC.view(self.count, n, -1)[:, -1]
        out = x_MC.new_zeros(self.count, x_MC.shape[1])
        ends, at = [], 0
        for ids in tokens:
            at += len(ids)
            if ids:
                ends.append(at - 1)
        fed = torch.tensor([slot for slot, ids in enumerate(tokens) if ids], device=device)
        out[fed] = x_MC[torch.tensor(ends, device=device)]
        return out

    def mask(self, at_Rn: Tensor, reach: int) -> Tensor:
        """0 where a query may look and -inf where not: (P, G, 1, n * E, longest prompt + reach)."""
        decoder = self.decoder
        P, E, n = len(self.prompts.lengths), decoder.heads // decoder.kv_heads, at_Rn.shape[1]
        column = torch.arange(self.longest + reach, device=decoder.device)
        prompt = column < self.prompts.lengths.view(P, 1, 1, 1)
        own = (column >= self.longest) & (column - self.longest <= at_Rn.view(P, self.group, n, 1))
        seen = (prompt | own).view(P, self.group, 1, n, 1, -1).expand(-1, -1, -1, -1, E, -1)
        mask = torch.zeros(seen.shape, dtype=decoder.stream, device=decoder.device)
        return mask.masked_fill_(~seen, float("-inf")).flatten(3, 4)

    def step(
        self,
        ids_M: Tensor,
        slot_M: Tensor,
        position_M: Tensor,
        n: int,
        reach: int,
        mask: Tensor | None,
        place_M: Tensor | None,
    ) -> Tensor:
        """The layers for M tokens, on tensors alone (a CUDA graph can hold it): (M, C), normed.

        Args:
            ids_M, slot_M, position_M: token, its slot, its place in the slot's own cache.
            n: tokens per slot at most.
            reach: how far into the own cache queries look.
            mask: from `mask`, or None where every query sees everything up to `reach`.
            place_M: index of each token in (R, n); None where every slot feeds n tokens, in order.
        """
        decoder = self.decoder
        K, D = decoder.kv_heads, decoder.head_dim
        where = self.prompts.lengths[torch.div(slot_M, self.group, rounding_mode="floor")] + position_M
        rope = (self.rope[0][where], self.rope[1][where])
        head_K = torch.arange(K, device=ids_M.device)
        own_MK = ((slot_M[:, None] * K + head_K) * self.capacity + position_M[:, None]).view(-1)
        x = decoder.embed(ids_M)
        for index, layer in enumerate(decoder.weights.layers):
            q, k, v = decoder.qkv(x, layer, rope)
            self.keys[index].view(-1, D).index_copy_(0, own_MK, k.reshape(-1, D))
            self.values[index].view(-1, D).index_copy_(0, own_MK, v.reshape(-1, D))
            if place_M is not None:
                q = q.new_zeros(self.count * n, *q.shape[1:]).index_copy_(0, place_M, q)
            mixed = self._attend(q, index, n, reach, mask)
            if place_M is not None:
                mixed = mixed[place_M]
            x = x + apply(mixed, layer.out)
            x = x + decoder.mlp(x, layer)
        return decoder.norm(x, decoder.weights.norm)

    def _attend(self, q: Tensor, index: int, n: int, reach: int, mask: Tensor | None) -> Tensor:
        """Attention of (R * n, H, D) queries to their prompt and to their own tokens: (R * n, H * D)."""
        K, D, G = self.decoder.kv_heads, self.decoder.head_dim, self.group
        P, E = len(self.prompts.lengths), self.decoder.heads // K
        L, nE = self.longest, n * E
        q = q.view(P, G, n, K, E, D)
        own_q = q.transpose(2, 3).reshape(P * G * K, nE, D)
        prompt_q = q.permute(0, 3, 1, 2, 4, 5).reshape(P * K, G * nE, D)
        prompt_scores = torch.bmm(prompt_q, self.prompts.keys[index].mT).view(P, K, G, nE, L).transpose(1, 2)
        own_scores = torch.bmm(own_q, self.keys[index][:, :reach].mT).view(P, G, K, nE, reach)
        scores = torch.cat([prompt_scores, own_scores], dim=-1)
        if mask is not None:
            scores += mask
        weights = scores.softmax(-1)
        prompt_w = weights[..., :L].transpose(1, 2).reshape(P * K, G * nE, L)
        own_w = weights[..., L:].reshape(P * G * K, nE, reach)
        prompt_out = torch.bmm(prompt_w, self.prompts.values[index]).view(P, K, G, nE, D).transpose(1, 2)
        out = prompt_out + torch.bmm(own_w, self.values[index][:, :reach]).view(P, G, K, nE, D)
        return out.view(P, G, K, n, E * D).transpose(2, 3).reshape(P * G * n, K * E * D)
