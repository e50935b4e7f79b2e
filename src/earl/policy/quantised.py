"""Weight-only quantisation for inference: the layers' matrices in 8 or 4 bits.

On a CPU the matrices are `QuantisedLinear`, multiplied by kernels of torch itself. On a GPU torchao holds
and multiplies them. Embedding, head and norms stay as they are: they are a fifth of the weights, and of
embedding and head only the rows in use are read. Quantised weights are for sampling, not for training.
"""

from __future__ import annotations

from typing import Any, get_args

import torch
from torch import Tensor, nn

from earl.errors import ConfigError, MissingExtraError
from earl.policy.int4 import fits_int4, multiply_int4, native_order, quantise_int4
from earl.policy.int8 import fits_int8, multiply_int8, quantise_int8
from earl.records import Bits

GPU_GROUP = 128  # weights that share a scale, for int4 through torchao
SCALE = ".weight_scale"


class QuantisedLinear(nn.Module):
    """A linear layer whose weight is kept in 8 or 4 bits, on a CPU.

    Multiplies in bfloat16, which is what the kernels are fast in, and gives the dtype that it was given.

    Attributes:
        weight: int8 (out, in), or uint8 (out, in / 2) in the order of `earl.policy.int4`.
        weight_scale: bfloat16 (out,); of int4 (in / 32, out, 2), scale and middle of 32 weights.
        rows, columns: out and in.
    """

    weight: Tensor
    weight_scale: Tensor

    def __init__(self, bits: Bits, weight: Tensor, scale: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.bits, (self.rows, width) = bits, weight.shape
        self.columns = width * (2 if bits == "int4" else 1)
        self.register_buffer("weight", weight)
        self.register_buffer("weight_scale", scale)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
        self._native: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        x_MC = x.reshape(-1, self.columns).to(torch.bfloat16)
        if self.bits == "int8":
            y_MC = multiply_int8(x_MC, self.weight, self.weight_scale)
        else:
            if self._native is None:
                self._native = native_order(self.weight)
            y_MC = multiply_int4(x_MC, self._native, self.weight, self.weight_scale)
        y = y_MC.view(*x.shape[:-1], self.rows).to(x.dtype)
        return y if self.bias is None else y + self.bias.to(y.dtype)


def quantise(policy: Any, bits: Bits, device: str | torch.device | None = None) -> Any:
    """Replace the matrices of the layers, in place.

    Args:
        policy: an Emu3ForCausalLM or StoredPolicy without an adapter; on the CPU, or on `device` already.
        bits: "int8": a scale a row. "int4": on a CPU scale and middle of 32 weights, on CUDA of 128.
        device: where each matrix goes before it is quantised, so that the whole model never lies there.

    Raises:
        MissingExtraError: a GPU is asked for and torchao is not installed.
        ConfigError: an unknown kind, or a policy with an adapter.
    """
    check_bits(bits)
    if hasattr(policy, "peft_config"):
        raise ConfigError("a policy with an adapter is not quantised; merge it first with `earl convert`")
    place = torch.device(device) if device is not None else policy.lm_head.weight.device
    if place.type == "cpu":
        replace_matrices(policy, bits)
    else:
        _by_torchao(policy.model.layers, bits, place)
    for parameter in policy.parameters():
        parameter.requires_grad_(False)
    return policy.to(place).eval()


def quantised(weight: Tensor, bits: Bits) -> tuple[Tensor, Tensor]:
    """A matrix (out, in) as `QuantisedLinear` holds it: weight and scales, without gradient."""
    return (quantise_int8 if bits == "int8" else quantise_int4)(weight.detach())


def replace_matrices(policy: Any, bits: Bits) -> None:
    """Make the matrices of a policy's layers `QuantisedLinear`, where their shapes fit.

    On the meta device this makes a policy that takes weights which are quantised already.
    """
    for name, linear in list(policy.model.layers.named_modules()):
        if isinstance(linear, nn.Linear) and fits(bits, tuple(linear.weight.shape)):
            above, _, own = name.rpartition(".")
            layer = QuantisedLinear(bits, *quantised(linear.weight, bits), linear.bias)
            setattr(policy.model.layers.get_submodule(above), own, layer)


def is_matrix(name: str) -> bool:
    """Whether a weight of `Emu3ForCausalLM` is one that is quantised, where its shape fits."""
    return name.startswith("model.layers.") and name.endswith("_proj.weight")


def fits(bits: Bits, shape: tuple[int, ...]) -> bool:
    """Whether the kernels multiply matrices of this shape; others keep their precision."""
    return (fits_int8 if bits == "int8" else fits_int4)(*shape)


def check_bits(bits: str) -> Bits:
    """Raises ConfigError on another word than int8 and int4."""
    if bits not in get_args(Bits):
        raise ConfigError(f"unknown quantisation {bits!r}; there are {', '.join(get_args(Bits))}")
    return bits  # type: ignore[return-value]


def is_quantised(linear: Any) -> bool:
    """Whether a layer's weight multiplies but cannot be joined or recast: ours, or one of torchao's."""
    if isinstance(linear, QuantisedLinear):
        return True
    weight = linear.weight
    return any(type(tensor).__module__.startswith("torchao.") for tensor in (weight, weight.data))


def _by_torchao(layers: nn.Module, bits: Bits, place: torch.device) -> None:
    try:
        from torchao.quantization import Int4WeightOnlyConfig, Int8WeightOnlyConfig, quantize_
    except ImportError as error:
        raise MissingExtraError(
            f"quantisation on a GPU needs torchao ({error}); install it with: pip install 'earl-edit[quant]'"
        ) from error
    kind: Any = Int8WeightOnlyConfig()
    if bits == "int4":
        kind = Int4WeightOnlyConfig(group_size=GPU_GROUP, int4_packing_format="tile_packed_to_4d")
    quantize_(layers, kind, filter_fn=lambda module, _: isinstance(module, nn.Linear), device=place)
