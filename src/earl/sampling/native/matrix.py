"""Projections of a layer: plain weights, weights packed for oneDNN, or quantised layers.

A plain matrix is the policy's own tensor. On a CPU with oneDNN a copy is laid out once in the order that
its kernels read, and SiLU and the gate's product are done in the same pass. The two agree within
rounding; a test compares them.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_FEW_ROWS = 32  # up to here calling oneDNN costs more than its order of the weights saves
_ROWS_HINT = 64  # tokens that the packed order is tuned for; any number works


class PlainMatrix:
    """A weight (out, in) with its bias, applied by `F.linear`."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.weight, self.bias, self.dtype = weight, bias, weight.dtype

    def __call__(self, x_MC: Tensor) -> Tensor:
        return F.linear(x_MC.to(self.dtype), self.weight, self.bias)

    def silu(self, x_MC: Tensor) -> Tensor:
        return F.silu(self(x_MC))

    def times(self, x_MC: Tensor, other: Tensor) -> Tensor:
        return self(x_MC) * other


class PackedMatrix:
    """The same, in oneDNN's order; in float32 a plain copy beside it multiplies the fewest rows."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.dtype, self.bias = weight.dtype, bias
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS_HINT)
        self.plain = PlainMatrix(weight, bias) if weight.dtype == torch.float32 else None

    def __call__(self, x_MC: Tensor) -> Tensor:
        if self.plain is not None and len(x_MC) <= _FEW_ROWS:
            return self.plain(x_MC)
        return self._then("none", x_MC)

    def silu(self, x_MC: Tensor) -> Tensor:
        if self.plain is not None and len(x_MC) <= _FEW_ROWS:
            return self.plain.silu(x_MC)
        return self._then("swish", x_MC)

    def times(self, x_MC: Tensor, other: Tensor) -> Tensor:
        if self.plain is not None and len(x_MC) <= _FEW_ROWS:
            return self.plain.times(x_MC, other)
        return torch.ops.mkldnn._linear_pointwise.binary(
            x_MC.to(self.dtype), other, self.weight, self.bias, "mul"
        )

    def _then(self, activation: str, x_MC: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(
            x_MC.to(self.dtype), self.weight, self.bias, activation, [], ""
        )


class LayerMatrix(PlainMatrix):
    """A matrix whose module does its own multiplication, such as `earl.policy.quantised.QuantisedLinear`."""

    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer

    def __call__(self, x_MC: Tensor) -> Tensor:
        return self.layer(x_MC)


Matrix = PlainMatrix | PackedMatrix


@functools.cache
def can_pack(dtype: torch.dtype) -> bool:
    """Whether oneDNN's operators are in this build of torch and give the right product here."""
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    x = torch.eye(_FEW_ROWS + 8, 32, dtype=dtype)  # more rows than the plain copy takes
    weight = torch.linspace(-1, 1, 16 * 32).view(16, 32).to(dtype)
    try:
        packed = PackedMatrix(weight, None)
        found = packed.times(x, packed.silu(x))
    except (RuntimeError, NotImplementedError, AttributeError, TypeError):
        return False
    plain = PlainMatrix(weight, None)
    return torch.allclose(found.float(), plain.times(x, plain.silu(x)).float(), atol=2e-2)
