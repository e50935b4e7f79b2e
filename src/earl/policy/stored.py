"""A stored policy for sampling: weights by name, read without importing transformers.

Importing transformers' class takes longer than editing an image, and `earl.sampling` has a forward pass
of its own that reads only weights and a few numbers of the configuration. Files, layouts, names, checks and
errors are those of `load_policy`, which also loads the folders that need more than this module reads.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from torch import Tensor, nn

from earl.errors import ConfigError
from earl.models.shapes import PolicyShape
from earl.models.tensors import parse_dtype
from earl.policy.configs import read_fields, rope_of, stored_bits
from earl.policy.int8 import aligned
from earl.policy.quantised import SCALE, check_bits, quantise, replace_matrices
from earl.policy.weights import iterate_weights, quantising, take_weights
from earl.records import Bits


class _Rope(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    rope_type: Literal["default"]
    rope_theta: float


class StoredConfig(PolicyShape):
    """The configurations that are understood here.

    Raises:
        ValidationError: heads that do not divide, or what only transformers computes: another activation,
            positions that are scaled.
    """

    hidden_act: Literal["silu"] = "silu"
    rope: _Rope
    bits: Bits | None = None

    @model_validator(mode="after")
    def _divides(self) -> StoredConfig:
        heads = self.num_attention_heads
        if self.hidden_size % heads or heads % self.num_key_value_heads:
            raise ValueError(f"{heads} heads do not divide")
        return self


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
        body.rotary_emb = Rotary(config.rope.rope_theta, config.head_width)
        self.model: Any = body
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.eval()


class Rotary:
    """cos and sin of positions, float32, as `Emu3RotaryEmbedding` of type "default" computes them."""

    def __init__(self, theta: float, dim: int) -> None:
        self.theta, self.dim = theta, dim

    def __call__(self, like: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines of position_ids (B, T): two of (B, T, D), with the device and dtype of `like`."""
        steps = torch.arange(0, self.dim, 2, dtype=torch.float32, device="cpu")
        inverse = (1.0 / self.theta ** (steps / self.dim)).to(like.device)
        angles = position_ids.to(like.device)[..., None].float() * inverse
        angles = torch.cat((angles, angles), dim=-1)
        return angles.cos().to(like.dtype), angles.sin().to(like.dtype)


def open_policy(
    folder: str | Path,
    *,
    dtype: str | torch.dtype = "auto",
    device: str | torch.device = "cpu",
    quantize: Bits | None = None,
) -> Any:
    """Open a policy for sampling in the fastest way that its folder allows.

    Args:
        folder: of a policy or of a LoRA adapter, in any layout that `load_policy` reads.
        dtype, device: as there.
        quantize: hold the layers' matrices in 8 or 4 bits, matrix by matrix as they are read. A folder that
            holds them so already is mapped as it lies; its pages come into memory as they are used.

    Returns:
        a `StoredPolicy`; or what `load_policy` gives for an adapter, for positions that are scaled, and for
        a configuration that is not understood here.

    Raises:
        ModelNotFoundError, ModelFormatError, ConfigError: as `load_policy`; ConfigError also where a folder
            of quantised weights is asked for on a GPU, or in other bits.
    """
    folder = Path(folder)
    config = None if (folder / "adapter_config.json").is_file() else stored_config(folder)
    bits = config.bits if config is not None else None
    if bits is not None and (torch.device(device).type != "cpu" or quantize not in (None, bits)):
        raise ConfigError(
            f"{folder} holds {bits} weights for CPUs, {quantize or bits} on {device} was asked for; take the "
            "model that it was made from, with --quantize"
        )
    if config is None or (quantize is not None and torch.device(device).type != "cpu"):
        from earl.policy.loading import load_policy

        if quantize is None:
            return load_policy(folder, dtype=dtype, device=device)
        # from the CPU, so that matrices move to their device one by one
        return quantise(load_policy(folder, dtype=dtype), quantize, device)
    wanted = parse_dtype(dtype)

    def as_stored(name: str, tensor: Tensor) -> bool:
        return wanted is None or not tensor.is_floating_point() or name.endswith(SCALE)

    with torch.device("meta"):
        policy = StoredPolicy(config)
        if bits or quantize:
            replace_matrices(policy, bits or check_bits(str(quantize)))
    stored = iterate_weights(folder, device)
    if quantize is not None and bits is None:
        stored = quantising(stored, check_bits(quantize))
    weights = {name: tensor if as_stored(name, tensor) else tensor.to(wanted) for name, tensor in stored}
    if bits == "int8":
        weights = {name: aligned(tensor) for name, tensor in weights.items()}
    take_weights(policy, weights, folder)
    if config.tie_word_embeddings:  # whatever was stored for it, as `tie_weights` has it
        policy.lm_head.weight = policy.model.embed_tokens.weight
    return policy.requires_grad_(False)


def stored_config(folder: Path) -> StoredConfig | None:
    """The configuration in `folder`, or None where `load_policy` has to look at it.

    Raises:
        ModelNotFoundError, ModelFormatError: no configuration of a policy.
    """
    raw, fields = read_fields(folder)
    try:
        return StoredConfig(**fields, rope=_Rope(**rope_of(raw)), bits=stored_bits(raw))
    except ValidationError:
        return None


def _layer(config: StoredConfig) -> Any:
    wide, inner = config.num_attention_heads * config.head_width, config.hidden_size
    narrow = config.num_key_value_heads * config.head_width
    layer: Any = nn.Module()
    attention: Any = nn.Module()
    mlp: Any = nn.Module()
    for name, rows in (("q_proj", wide), ("k_proj", narrow), ("v_proj", narrow)):
        attention.add_module(name, nn.Linear(inner, rows, bias=config.attention_bias))
    attention.o_proj = nn.Linear(wide, inner, bias=config.attention_bias)
    attention.head_dim = config.head_width
    for name in ("gate_proj", "up_proj"):
        mlp.add_module(name, nn.Linear(inner, config.intermediate_size, bias=config.mlp_bias))
    mlp.down_proj = nn.Linear(config.intermediate_size, inner, bias=config.mlp_bias)
    mlp.act_fn = F.silu
    layer.self_attn, layer.mlp = attention, mlp
    layer.input_layernorm, layer.post_attention_layernorm = nn.RMSNorm(inner), nn.RMSNorm(inner)
    return layer
