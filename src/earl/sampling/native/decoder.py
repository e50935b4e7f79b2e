"""Forward pass of Emu3 for sampling: RMSNorm, grouped-query attention, RoPE, a fixed cache.

The general forward pass of transformers spends more time around the matrix products of a small model
than in them. This module has the layers and the prefill of prompts, `slots.py` the steps. Both equal
`Emu3ForCausalLM.forward` within rounding.

Axes: P prompts, T tokens of a prompt, M tokens fed, H query heads, K key-value heads, D head
dimension, L cached tokens, C hidden channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from earl.sampling.native.weights import LayerWeights, Weights, on_cpu, read_weights

_PREFILL_TOKENS = 8192  # tokens of prompts that go through the layers together


class Decoder:
    """The weights of one policy, and prefill and steps with them."""

    def __init__(self, policy: Any, dtype: torch.dtype) -> None:
        self.policy, self.dtype = policy, dtype
        # On a CPU only products and the cache gain from half precision; norms and the residual
        # stream cost no more in float32, and are exact there.
        self.stream = torch.float32 if on_cpu(policy) else dtype
        config = policy.config
        attention = policy.model.layers[0].self_attn
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.head_dim, self.eps = attention.head_dim, config.rms_norm_eps
        self.activation, self.is_silu = policy.model.layers[0].mlp.act_fn, config.hidden_act == "silu"
        self.weights: Weights = read_weights(policy, dtype, self.stream)

    @property
    def device(self) -> torch.device:
        """Device of the policy and of all that is computed with it."""
        return self.weights.embedding.device

    def refresh(self) -> None:
        """Take the policy's weights as they are now."""
        del self.weights  # copies of a large model's, before there are two of them
        self.weights = read_weights(self.policy, self.dtype, self.stream)

    def rope_table(self, length: int) -> tuple[Tensor, Tensor]:
        """cos and signed sin of positions 0..length-1, each (length, 1, D)."""
        positions = torch.arange(length, device=self.device)[None]
        cos, sin = self.policy.model.rotary_emb(torch.zeros(1, device=self.device), position_ids=positions)
        sign = torch.ones(self.head_dim, device=self.device)
        sign[: self.head_dim // 2] = -1
        return cos[0, :, None].to(self.dtype), (sin[0, :, None] * sign).to(self.dtype)

    def zeros(self, *shape: int) -> list[Tensor]:
        """A tensor of zeros for each layer, as caches are."""
        layers = self.weights.layers
        return [torch.zeros(shape, dtype=self.dtype, device=self.device) for _ in layers]

    def embed(self, ids: Tensor) -> Tensor:
        return self.weights.embedding[ids].to(self.stream)

    def norm(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.rms_norm(x, weight.shape, weight, self.eps)

    def qkv(
        self, x_MC: Tensor, layer: LayerWeights, rope: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (M, H, D) scaled and rotated, keys (M, K, D) rotated, values (M, K, D)."""
        H, K, D = self.heads, self.kv_heads, self.head_dim
        x_MC = self.norm(x_MC, layer.norm1).to(self.dtype)
        parts = [matrix(x_MC) for matrix in layer.qkv]
        both = parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
        both = both.view(-1, H + 2 * K, D)
        qk, values = both[:, : H + K], both[:, H + K :]
        qk = torch.addcmul(qk * rope[0], qk.roll(D // 2, -1), rope[1])
        return qk[:, :H] / math.sqrt(D), qk[:, H:], values

    def mlp(self, x_MC: Tensor, layer: LayerWeights) -> Tensor:
        x_MC = self.norm(x_MC, layer.norm2).to(self.dtype)
        gate = layer.gate.silu(x_MC) if self.is_silu else self.activation(layer.gate(x_MC))
        return layer.down(layer.up.times(x_MC, gate))

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
            keys[rows, :, :T] = k.transpose(2, 3).reshape(P * K, D, T)
            values[rows, :T] = v.reshape(P * K, T, D)
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=1.0, enable_gqa=H != K)
            mixed = mixed.transpose(1, 2).reshape(P * T, H * D)
            if layer is self.weights.layers[-1]:  # from here on only the last token of each matters
                lengths = cache.lengths[first : first + P]
                last = torch.arange(P, device=x.device) * T + lengths - 1
                mixed, x = mixed[last], x[last]
            x = x + layer.out(mixed)
            x = x + self.mlp(x, layer)
        return self.norm(x, self.weights.norm)


class PromptCache:
    """Keys (P*K, D, L) and values (P*K, L, D) of P prompts, by layer, padded right; lengths (P,)."""

    def __init__(self, keys: list[Tensor], values: list[Tensor], lengths: Tensor) -> None:
        self.keys, self.values, self.lengths = keys, values, lengths

    @classmethod
    def empty(cls, decoder: Decoder, lengths: Tensor, longest: int) -> PromptCache:
        rows, D = len(lengths) * decoder.kv_heads, decoder.head_dim
        # zeros, not empty: padding meets a probability of 0, and 0 * nan would be nan
        return cls(decoder.zeros(rows, D, longest), decoder.zeros(rows, longest, D), lengths)

    def keep(self, prompts: Tensor, kv_heads: int) -> PromptCache:
        """Only some of the prompts."""
        return PromptCache(
            [keep_units(t, prompts, kv_heads) for t in self.keys],
            [keep_units(t, prompts, kv_heads) for t in self.values],
            self.lengths[prompts],
        )

    def put(self, prompts: Tensor, other: PromptCache, kv_heads: int) -> None:
        """Write the other's prompts, which are no longer than the longest here, over some of these."""
        length, K = other.values[0].shape[1], kv_heads
        self.lengths[prompts] = other.lengths
        for mine, new in zip(self.keys, other.keys, strict=True):
            new = new.view(-1, K, *new.shape[1:])
            mine.view(-1, K, *mine.shape[1:])[prompts, :, :, :length] = new
        for mine, new in zip(self.values, other.values, strict=True):
            new = new.view(-1, K, *new.shape[1:])
            mine.view(-1, K, *mine.shape[1:])[prompts, :, :length] = new

    def merge(self, other: PromptCache) -> PromptCache:
        """These prompts and then the other's, padded to the longest."""
        longest = max(self.values[0].shape[1], other.values[0].shape[1])
        keys = [[F.pad(t, (0, longest - t.shape[2])) for t in cache.keys] for cache in (self, other)]
        values = [
            [F.pad(t, (0, 0, 0, longest - t.shape[1])) for t in cache.values] for cache in (self, other)
        ]
        return PromptCache(
            [torch.cat(pair) for pair in zip(*keys, strict=True)],
            [torch.cat(pair) for pair in zip(*values, strict=True)],
            torch.cat([self.lengths, other.lengths]),
        )


def keep_units(tensor: Tensor, units: Tensor, each: int) -> Tensor:
    """Some of the units along the first axis, where each unit has `each` entries."""
    return tensor.view(-1, each, *tensor.shape[1:])[units].flatten(0, 1)
