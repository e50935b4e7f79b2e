"""A policy as it lies on disk, for sampling alone: its weights by name, without importing transformers.

Importing transformers' class takes longer than editing an image, and `earl.sampling` has a forward pass
of its own that reads only weights and a few numbers of the configuration. Files, layouts, names, checks and
errors are those of `load_policy`, which is also what answers where a folder asks for more than is here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from earl.policy.configs import read_fields, rope_of
from earl.policy.dtypes import parse_dtype, plain_device
from earl.policy.weights import iterate_weights, take_weights


@dataclass(frozen=True, slots=True)
class StoredConfig:
    """What sampling asks of a configuration, by the names of `Emu3TextConfig`."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    rope_theta: float
    head_dim: int
    max_position_embeddings: int
    rms_norm_eps: float
    tie_word_embeddings: bool
    attention_bias: bool
    mlp_bias: bool
    hidden_act: str = "silu"


class StoredPolicy(nn.Module):
    """Layers with the names and shapes of `Emu3ForCausalLM`; no forward pass, nothing to train.

    `earl.sampling.Engine` samples from it. `Emu3ForCausalLM` itself is what `load_policy` gives.
    """

    def __init__(self, config: StoredConfig) -> None:
        super().__init__()
        self.config = config
        body: Any = nn.Module()
        # drawn at random, an embedding on the meta device would import torch._dynamo
        ids = torch.empty(config.vocab_size, config.hidden_size)
        body.embed_tokens = nn.Embedding.from_pretrained(ids)
        body.layers = nn.ModuleList(_layer(config) for _ in range(config.num_hidden_layers))
        body.norm = nn.RMSNorm(config.hidden_size)
        body.rotary_emb = Rotary(config)
        self.model: Any = body
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.eval()


class Rotary:
    """cos and sin of positions, float32, as `Emu3RotaryEmbedding` of type "default" computes them."""

    def __init__(self, config: StoredConfig) -> None:
        self.theta, self.dim = config.rope_theta, config.head_dim

    def __call__(self, like: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Of position_ids (B, T): two of (B, T, D), on the device and in the dtype of `like`."""
        steps = torch.arange(0, self.dim, 2, dtype=torch.float32, device="cpu")
        inverse = (1.0 / self.theta ** (steps / self.dim)).to(like.device)
        angles = position_ids.to(like.device)[..., None].float() * inverse
        angles = torch.cat((angles, angles), dim=-1)
        return angles.cos().to(like.dtype), angles.sin().to(like.dtype)


def open_policy(
    folder: str | Path, *, dtype: str | torch.dtype = "auto", device: str | torch.device = "cpu"
) -> Any:
    """A policy to sample from, the fastest way there is.

    Args:
        folder: of a policy or of a LoRA adapter, in any layout that `load_policy` reads.
        dtype, device: as there.

    Returns:
        a `StoredPolicy`; or what `load_policy` gives for an adapter, for positions that are scaled, and for
        a configuration that is not understood here.

    Raises:
        ModelNotFoundError, ModelFormatError, ConfigError: as `load_policy`.
    """
    folder = Path(folder)
    config = None if (folder / "adapter_config.json").is_file() else stored_config(folder)
    if config is None:
        from earl.policy.loading import load_policy

        return load_policy(folder, dtype=dtype, device=device)
    wanted = parse_dtype(dtype)
    with torch.device("meta"):
        policy = StoredPolicy(config)
    stored = iterate_weights(folder, plain_device(device))
    take_weights(policy, {name: tensor.to(wanted or tensor.dtype) for name, tensor in stored}, folder)
    if config.tie_word_embeddings:  # whatever was stored for it, as `tie_weights` has it
        policy.lm_head.weight = policy.model.embed_tokens.weight
    return policy.requires_grad_(False)


def stored_config(folder: Path) -> StoredConfig | None:
    """The configuration in `folder`, or None where `load_policy` has to look at it.

    Raises:
        ModelNotFoundError, ModelFormatError: no configuration of a policy.
    """
    raw, fields = read_fields(folder)
    rope = rope_of(raw)
    fields = {**_DEFAULTS, **fields}
    counts = {name: fields.get(name) for name in _COUNTS}
    sound = all(isinstance(count, int) and count > 0 for count in counts.values())
    sound = sound and all(isinstance(fields[name], bool) for name in _FLAGS)
    sound = sound and all(isinstance(x, int | float) for x in (rope["rope_theta"], fields["rms_norm_eps"]))
    plain = rope["rope_type"] == "default" and fields["hidden_act"] == "silu"
    if not sound or not plain or set(rope) != {"rope_type", "rope_theta"}:
        return None
    hidden, heads = fields["hidden_size"], fields["num_attention_heads"]
    head_dim = fields.get("head_dim", hidden // heads)
    if hidden % heads or heads % fields["num_key_value_heads"] or not isinstance(head_dim, int):
        return None
    kept = {name: fields[name] for name in (*_COUNTS, *_FLAGS, "rms_norm_eps")}
    return StoredConfig(**kept, head_dim=head_dim, rope_theta=float(rope["rope_theta"]))


_COUNTS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "max_position_embeddings",
)
_FLAGS = ("tie_word_embeddings", "attention_bias", "mlp_bias")
_DEFAULTS: dict[str, Any] = {  # of Emu3TextConfig
    "vocab_size": 184_622,
    "hidden_size": 4096,
    "intermediate_size": 14_336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 9216,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    **dict.fromkeys(_FLAGS, False),
}


def _layer(config: StoredConfig) -> Any:
    wide, inner = config.num_attention_heads * config.head_dim, config.hidden_size
    narrow = config.num_key_value_heads * config.head_dim
    layer: Any = nn.Module()
    attention: Any = nn.Module()
    mlp: Any = nn.Module()
    for name, rows in (("q_proj", wide), ("k_proj", narrow), ("v_proj", narrow)):
        attention.add_module(name, nn.Linear(inner, rows, bias=config.attention_bias))
    attention.o_proj = nn.Linear(wide, inner, bias=config.attention_bias)
    attention.head_dim = config.head_dim
    for name in ("gate_proj", "up_proj"):
        mlp.add_module(name, nn.Linear(inner, config.intermediate_size, bias=config.mlp_bias))
    mlp.down_proj = nn.Linear(config.intermediate_size, inner, bias=config.mlp_bias)
    mlp.act_fn = F.silu
    layer.self_attn, layer.mlp = attention, mlp
    layer.input_layernorm, layer.post_attention_layernorm = nn.RMSNorm(inner), nn.RMSNorm(inner)
    return layer
