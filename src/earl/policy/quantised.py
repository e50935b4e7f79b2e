"""Weight-only quantisation for inference, through torchao: the layers' matrices in 8 or 4 bits.

Embedding, head and norms stay as they are: they are a fifth of the weights, and the head's columns are
read directly. What is quantised is for sampling and scoring, not for training.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import nn

from earl.errors import ConfigError, MissingExtraError
from earl.policy.devices import refuse_split

Bits = Literal["int8", "int4"]
GROUP = 128  # weights that share a scale, for int4


def quantise(policy: Any, bits: Bits, device: str | torch.device | None = None) -> Any:
    """Replace the matrices of the layers, in place.

    Args:
        policy: an Emu3ForCausalLM without an adapter; on the CPU, or on `device` already.
        bits: "int8": a scale a row, on CPU and CUDA. "int4": a scale for 128 weights, CUDA only, bfloat16.
        device: where each matrix goes before it is quantised, so that the whole model never lies there.

    Raises:
        MissingExtraError: torchao is not installed.
        ConfigError: an unknown kind, a policy with an adapter or over several devices, int4 on a CPU.
    """
    if bits not in get_args(Bits):
        raise ConfigError(f"unknown quantisation {bits!r}; there are {', '.join(get_args(Bits))}")
    if hasattr(policy, "peft_config"):
        raise ConfigError("a policy with an adapter is not quantised; merge it first with `earl convert`")
    refuse_split(policy, "quantisation")
    place = torch.device(device) if device is not None else policy.lm_head.weight.device
    if bits == "int4" and place.type != "cuda":
        raise ConfigError("int4 weights need a CUDA device; use int8 on a CPU")
    try:
        from torchao.quantization import Int4WeightOnlyConfig, Int8WeightOnlyConfig, quantize_
    except ImportError as error:
        raise MissingExtraError(
            f"quantisation needs torchao ({error}); install it with: pip install 'earl-edit[quant]'"
        ) from error
    kind: Any = Int8WeightOnlyConfig()
    if bits == "int4":
        kind = Int4WeightOnlyConfig(group_size=GROUP, int4_packing_format="tile_packed_to_4d")
    quantize_(policy.model.layers, kind, filter_fn=_is_matrix, device=place)
    for parameter in policy.parameters():
        parameter.requires_grad_(False)
    return policy.to(place).eval()


def is_quantised(weight: torch.Tensor) -> bool:
    """Whether a weight is one of torchao's tensors, which multiply but cannot be joined or recast."""
    return any(type(tensor).__module__.startswith("torchao.") for tensor in (weight, weight.data))


def _is_matrix(module: nn.Module, _: str) -> bool:
    return isinstance(module, nn.Linear)
